"""What a step of a sampler costs beside its arithmetic: against plain loops and, where it is installed, diffusers."""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from .. import samplers
from ..denoisers import Denoise
from ..forward import noise_like
from ..schedules import Cosine, Schedule

SEEDS = (0, 1, 2)


def measure_overhead(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    shape: Sequence[int] = (64, 1, 28, 28),
    steps: int = 50,
    rounds: int = 60,
) -> dict:
    """Microseconds a step of every sampler, and of the plain loop that does the same, if the denoiser costs nothing.

    All of them take turns in one thread, and a ratio is that of two medians of one run, so that what else the machine
    does meanwhile hardly shows. On the CPU the time of the process counts, on a GPU that of the clock.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for seed in seeds for row in compare(device, seed, shape, steps, rounds)]
    finally:
        torch.set_num_threads(threads)
    ratios = {}
    for name in dict.fromkeys(row["sampler"] for row in rows):
        own = [row["ratio"] for row in rows if row["sampler"] == name]
        ratios[name] = {"median": round(statistics.median(own), 2), "lowest": min(own), "highest": max(own)}
        progress(f"{name:<16} {ratios[name]['median']:.2f} times the plain loop ({min(own):.2f} to {max(own):.2f})")
    return {"shape": list(shape), "steps": steps, "rounds": rounds, "ratios": ratios, "rows": rows}


def compare(device: torch.device, seed: int, shape: Sequence[int], steps: int, rounds: int) -> Iterator[dict]:
    """One run: a row for each sampler, with the medians of its own microseconds a step and of its plain loop's."""
    start = samplers.start_noise(Cosine(), shape, torch.Generator().manual_seed(seed), device)
    x_0 = torch.zeros_like(start)
    calls = {}
    for name, plain in PLAIN.items():
        calls[name] = partial(run, getattr(samplers, name), x_0, start, steps)
        calls[f"plain {name}"] = partial(run, plain, x_0, start, steps)
    if importlib.util.find_spec("diffusers"):
        calls["diffusers' DDIM"] = partial(run_diffusers, x_0, start, steps)
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call, device))
    micro = {name: 1e6 * statistics.median(values) / steps for name, values in seconds.items()}
    for name in (name for name in calls if not name.startswith("plain")):
        plain = micro[f"plain {name if name in PLAIN else 'ddim'}"]
        row = {"sampler": name, "seed": seed, "microseconds": round(micro[name], 1), "plain": round(plain, 1)}
        yield row | {"ratio": round(micro[name] / plain, 2)}


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begin = clock()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - begin


def run(sampler: Callable, x_0: Tensor, start: Tensor, steps: int) -> None:
    """All steps of a sampler whose denoiser always says x_0."""
    for _ in sampler(lambda x_t, t: x_0, Cosine(), start, samplers.time_grid(steps)):
        pass


def run_diffusers(x_0: Tensor, start: Tensor, steps: int) -> None:
    """The same with diffusers' DDIM scheduler, which is told the x_0 that a network would give."""
    scheduler = importlib.import_module("diffusers").DDIMScheduler(prediction_type="sample", clip_sample=False)
    scheduler.set_timesteps(steps)
    x_t = start
    with torch.no_grad():
        for t in scheduler.timesteps:
            x_t = scheduler.step(x_0, t, x_t).prev_sample


@torch.no_grad()
def plain_ddpm(denoiser: Denoise, schedule: Schedule, x_t: Tensor, times: Tensor) -> Iterator[Tensor]:
    """DDPM with nothing around its arithmetic: no checks, no names, a list of numbers."""
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    for i, t in enumerate(times[:-1]):
        fresh = 1 - (alpha[i] * sigma[i + 1] / (alpha[i + 1] * sigma[i])) ** 2
        keep = alpha[i] * sigma[i + 1] ** 2 / (alpha[i + 1] * sigma[i] ** 2)
        x_t = keep * x_t + alpha[i + 1] * fresh * denoiser(x_t, t) + sigma[i + 1] * fresh**0.5 * noise_like(x_t)
        yield x_t


@torch.no_grad()
def plain_ddim(denoiser: Denoise, schedule: Schedule, x_t: Tensor, times: Tensor) -> Iterator[Tensor]:
    """DDIM, likewise."""
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    for i, t in enumerate(times[:-1]):
        x_0 = denoiser(x_t, t)
        x_t = alpha[i + 1] * x_0 + sigma[i + 1] * ((x_t - alpha[i] * x_0) / sigma[i])
        yield x_t


@torch.no_grad()
def plain_heun(denoiser: Denoise, schedule: Schedule, x_t: Tensor, times: Tensor) -> Iterator[Tensor]:
    """Heun's method, likewise."""
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    for i, t in enumerate(times[:-1]):
        x_0 = denoiser(x_t, t)
        noise = (x_t - alpha[i] * x_0) / sigma[i]
        x_s = alpha[i + 1] * x_0 + sigma[i + 1] * noise
        if i + 2 < len(times):
            x_0_s = denoiser(x_s, times[i + 1])
            noise_s = (x_s - alpha[i + 1] * x_0_s) / sigma[i + 1]
            x_s = (
                x_t + (alpha[i + 1] - alpha[i]) * (x_0 + x_0_s) / 2 + (sigma[i + 1] - sigma[i]) * (noise + noise_s) / 2
            )
        x_t = x_s
        yield x_t


@torch.no_grad()
def plain_dpm_solver(denoiser: Denoise, schedule: Schedule, x_t: Tensor, times: Tensor) -> Iterator[Tensor]:
    """DPM-Solver++(2M), likewise."""
    alpha, sigma = schedule.alpha(times).tolist(), schedule.sigma(times).tolist()
    half_log_snr = [math.log(a / s) if s else math.inf for a, s in zip(alpha, sigma)]
    h = [after - before for before, after in pairwise(half_log_snr)]
    last = None
    for i, t in enumerate(times[:-1]):
        x_0 = denoiser(x_t, t)
        D = x_0 if last is None or i + 2 == len(times) else x_0 + h[i] / (2 * h[i - 1]) * (x_0 - last)
        x_t = sigma[i + 1] / sigma[i] * x_t - alpha[i + 1] * math.expm1(-h[i]) * D
        last = x_0
        yield x_t


PLAIN = {"ddpm": plain_ddpm, "ddim": plain_ddim, "heun": plain_heun, "dpm_solver": plain_dpm_solver}

"""From noise to data: follow a denoiser through decreasing times (built in lessons 05 and 06).

Every sampler is a generator of `Step(t, x_t, x_0)`: the time it has reached, the sample there, and the estimate of x_0
that took it there. A film strip is `list(ddim(...))`, a result is `last(ddim(...))`, a progress bar is
`tqdm(ddim(...), total=len(times) - 1)`. The scales of all times are looked up once, before the loop, as plain numbers.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import pairwise
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor

from .denoisers import Denoise
from .forward import noise_like
from .schedules import Schedule, as_time


class Step(NamedTuple):
    """Where a sampler is: the time t, the sample x_t (B, ...) at that time, the last estimate x_0 (B, ...)."""

    t: float
    x_t: Tensor
    x_0: Tensor


def time_grid(steps: int, start: float = 1.0, stop: float = 0.0) -> Tensor:
    """steps + 1 equally spaced times from start to stop, float64: the grid of a sampler that makes `steps` steps.

    Args:
        steps: number of steps, at least 1.
        start, stop: times in [0, 1], start > stop. Flip the grid (`.flip(0)`) to go from data to noise.

    >>> time_grid(4)
    tensor([1.0000, 0.7500, 0.5000, 0.2500, 0.0000], dtype=torch.float64)
    """
    require_grid(steps, start, stop)
    return torch.linspace(start, stop, steps + 1, dtype=torch.float64)


def start_noise(
    schedule: Schedule,
    shape: Sequence[int],
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Where sampling starts: sigma_1 * noise.

    Args:
        schedule: a Schedule.
        shape: (B, ...) of the samples.
        generator: torch.Generator or None; a CPU generator gives every device the same noise.
        device: where the samples live.
    """
    noise = noise_like(torch.empty(shape, device=device), generator)
    return schedule.scales(1.0, like=noise)[1] * noise


def last(steps: Iterator[Step]) -> Tensor:
    """Run a sampler to its end and return the sample (B, ...) it arrived at."""
    final = deque(steps, maxlen=1)
    if not final:
        raise ValueError("the sampler made no step; its grid needs at least two times.")
    return final[0].x_t


@torch.no_grad()
def ddpm(
    denoiser: Denoise,
    schedule: Schedule,
    x_t: Tensor,
    times: Tensor | Sequence[float],
    generator: torch.Generator | None = None,
    variance: str = "small",
) -> Iterator[Step]:
    """First order, one call a step: draw x_s from the posterior, with the estimate in place of x_0 (Ho et al. 2020,
    algorithm 2: ancestral sampling).

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        x_t: (B, ...) noise to start from, at times[0].
        times: decreasing times in [0, 1]; DDPM's own grid is time_grid(T).
        generator: torch.Generator or None, for the noise of every step.
        variance: "small" is the posterior's (best if the data is one point), "large" is that of the forward step
            q(x_t | x_s) (best if the data is white noise): the two ends of Ho et al. 2020, sec. 3.2.

    Yields:
        Step(s, x_s, x_0), len(times) - 1 of them.

    Raises:
        ValueError: times that do not decrease or leave [0, 1], or an unknown variance.
    """
    require_times(times, x_t)
    require_variance(variance)
    for (t, alpha_t, sigma_t, log_snr_t), (s, alpha_s, sigma_s, log_snr_s) in pairwise(schedule.along(times)):
        x_0 = denoiser(x_t, t)
        fresh = -math.expm1(min(log_snr_t - log_snr_s, 0))
        mean = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2) * x_t + alpha_s * fresh * x_0
        std = (sigma_t if variance == "large" and s > 0 else sigma_s) * fresh**0.5
        x_t = mean + std * noise_like(x_t, generator)
        yield Step(float(s), x_t, x_0)


@torch.no_grad()
def ddim(
    denoiser: Denoise,
    schedule: Schedule,
    x_t: Tensor,
    times: Tensor | Sequence[float],
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """First order, one call a step, as random as you like (Song et al. 2021a, eq. 12).

    eta = 0 is deterministic, and Euler's method on dx = x_0 d(alpha) + noise d(sigma); eta = 1 is DDPM. With eta = 0
    the grid may run upwards, from data to noise: inversion.

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        x_t: (B, ...) samples at times[0].
        times: decreasing times in [0, 1]; or increasing ones, beginning after 0, with eta = 0.
        eta: share of DDPM's noise in each step, in [0, 1].
        generator: torch.Generator or None, for that noise; not touched if eta = 0.

    Yields:
        Step(s, x_s, x_0), len(times) - 1 of them.

    Raises:
        ValueError: times that are neither, or eta outside [0, 1].
    """
    require_eta(eta)
    require_times(times, x_t, upwards=eta == 0)
    for (t, alpha_t, sigma_t, log_snr_t), (s, alpha_s, sigma_s, log_snr_s) in pairwise(schedule.along(times)):
        x_0 = denoiser(x_t, t)
        noise = (x_t - alpha_t * x_0) / sigma_t
        fresh = -math.expm1(min(log_snr_t - log_snr_s, 0))
        std = eta * sigma_s * fresh**0.5
        x_t = alpha_s * x_0 + (sigma_s**2 - std**2) ** 0.5 * noise
        if eta > 0:
            x_t = x_t + std * noise_like(x_t, generator)
        yield Step(float(s), x_t, x_0)


@torch.no_grad()
def heun(denoiser: Denoise, schedule: Schedule, x_t: Tensor, times: Tensor | Sequence[float]) -> Iterator[Step]:
    """Second order, two calls a step and one in the last: take DDIM's step, look again from there, go with the average
    (Karras et al. 2022, algorithm 1).

    The equation is dx = x_0 d(alpha) + noise d(sigma), the same for every schedule; with alpha = 1 it is the
    paper's, with `Linear` it is Heun's method for flow matching.

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        x_t: (B, ...) noise to start from, at times[0].
        times: decreasing times in [0, 1].

    Yields:
        Step(s, x_s, x_0), len(times) - 1 of them.

    Raises:
        ValueError: times that do not decrease or leave [0, 1].
    """
    require_times(times, x_t)
    for (t, alpha_t, sigma_t, _), (s, alpha_s, sigma_s, _) in pairwise(schedule.along(times)):
        x_0 = denoiser(x_t, t)
        noise = (x_t - alpha_t * x_0) / sigma_t
        x_s = alpha_s * x_0 + sigma_s * noise  # Euler's step
        if s > 0:
            x_0_s = denoiser(x_s, s)
            noise_s = (x_s - alpha_s * x_0_s) / sigma_s
            x_s = x_t + (alpha_s - alpha_t) * (x_0 + x_0_s) / 2 + (sigma_s - sigma_t) * (noise + noise_s) / 2
        x_t = x_s
        yield Step(float(s), x_t, x_0)


@torch.no_grad()
def dpm_solver(denoiser: Denoise, schedule: Schedule, x_t: Tensor, times: Tensor | Sequence[float]) -> Iterator[Step]:
    """Second order, one call a step, by remembering the last estimate: DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2).

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        x_t: (B, ...) noise to start from, at times[0].
        times: decreasing times in [0, 1].

    Yields:
        Step(s, x_s, x_0), len(times) - 1 of them.

    Raises:
        ValueError: times that do not decrease or leave [0, 1].
    """
    require_times(times, x_t)
    before = h_before = None
    for (t, _, sigma_t, log_snr_t), (s, alpha_s, sigma_s, log_snr_s) in pairwise(schedule.along(times)):
        h = (log_snr_s - log_snr_t) / 2  # step in lambda = log(alpha / sigma)
        x_0 = denoiser(x_t, t)
        # The line through two estimates, read half a step ahead; the first and the last step have one estimate only.
        ahead = 0.0 if before is None or s == 0 else h / (2 * h_before)
        D = x_0 if ahead == 0 else x_0 + ahead * (x_0 - before)
        x_t = sigma_s / sigma_t * x_t - alpha_s * math.expm1(-h) * D
        before, h_before = x_0, h
        yield Step(float(s), x_t, x_0)


def require_times(times, x_t, upwards=False):
    """Refuse times that no sampler can follow.

    Raises:
        ValueError: fewer than two times, outside [0, 1], not decreasing (or increasing from above 0, where that is
            allowed).
        TypeError: samples that are not a float tensor.
    """
    if not isinstance(x_t, torch.Tensor) or not x_t.is_floating_point():
        raise TypeError(
            f"x_t is {getattr(x_t, 'dtype', type(x_t).__name__)}; expected a float tensor of noise (see start_noise)."
        )
    require_decreasing(times, upwards)


def require_decreasing(times, upwards=False):
    """Refuse times that do not decrease inside [0, 1]; with `upwards` they may increase from above 0."""
    times = torch.as_tensor(times, dtype=torch.float64, device="cpu")
    if times.ndim != 1 or len(times) < 2:
        raise ValueError(
            f"times has shape {tuple(times.shape)}; expected at least two times, as from time_grid(steps)."
        )
    as_time(times)
    down, up = (times.diff() < 0).all(), (times.diff() > 0).all() and times[0] > 0
    if not (down or (upwards and up)):
        hint = "or, with eta = 0, rise from above 0 (inversion)" if upwards else "as from time_grid(steps)"
        shown = ", ".join(f"{t:.3g}" for t in times[:6])
        raise ValueError(f"times are {shown}{', ...' if len(times) > 6 else ''}; expected times that decrease, {hint}.")


def require_grid(steps, start, stop):
    """Refuse a grid without steps, or one that does not go down inside [0, 1]."""
    if not isinstance(steps, Integral) or steps < 1:
        raise ValueError(f"steps is {steps!r}; expected a whole number of at least 1.")
    if not 0 <= stop < start <= 1:
        raise ValueError(f"start is {start} and stop is {stop}; expected 0 <= stop < start <= 1.")


def require_variance(variance):
    """Refuse a variance that DDPM does not know."""
    if variance not in ("small", "large"):
        raise ValueError(f"variance is {variance!r}; expected 'small' or 'large'.")


def require_eta(eta):
    """Refuse an eta outside [0, 1]."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; expected a number from 0 (deterministic) to 1 (as much noise as DDPM).")

"""Measurements that take too long for a lesson: the code that makes them, and the results that were committed.

Every file says on which machine, when and with which versions it was made. Lessons draw the committed results and run a
small part of the same thing live. To make them again:

    python -m diffusion_lib.measured headline      # what 60 seconds and what 500 steps of training give
    python -m diffusion_lib.measured calls         # quality against calls of the network, four samplers
    python -m diffusion_lib.measured guidance      # fidelity and diversity against the scale of guidance
    python -m diffusion_lib.measured latent        # cost and quality of diffusion in pixels and in latents
"""

import argparse
import json
import os
import platform
import statistics
import time
from datetime import date
from functools import partial
from importlib import resources
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from . import __version__, data, guidance, metrics, pretrained, samplers
from .training import autocast, best_device, half_precision


def read(name):
    """The committed results of that name, a dict.

    Raises:
        ValueError: there are none.
    """
    folder = resources.files("diffusion_lib") / "assets" / "measured"
    known = sorted(path.name.removesuffix(".json") for path in folder.iterdir() if path.name.endswith(".json"))
    if name not in known:
        raise ValueError(f"there are no results called {name!r}; committed are {', '.join(known) or 'none'}.")
    return json.loads((folder / f"{name}.json").read_text(encoding="utf8"))


def circumstances(device):
    """Machine, date and versions, for the results file."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu}, {torch.get_num_threads()} threads"
    return {
        "machine": f"{device.type}: {name}",
        "precision": str(half_precision(device) or torch.float32).removeprefix("torch."),
        "date": date.today().isoformat(),
        "versions": {"diffusion_lib": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def headline(device, seeds, progress, n=300, steps=50, eta=0.5):
    """Train from scratch for 60 seconds, and for 500 steps; for each seed measure plain and guided samples.

    A slow machine makes few steps in a minute, so that these are kept small; where steps are counted, they are larger.
    """
    rows = []
    for seed in seeds:
        for budget, batch_size in ({"seconds": 60}, 128), ({"steps": 500}, 256):
            begin = time.perf_counter()
            model, history = pretrained.train_digits(**budget, seed=seed, device=device, batch_size=batch_size)
            row = {"seed": seed, "budget": budget, "seconds": round(time.perf_counter() - begin, 1)}
            row |= {"steps": len(history), "batch_size": batch_size, "images": len(history) * batch_size}
            for way, result in pretrained.quality(model, n, steps, eta, seed).items():
                row[way] = {key: result[key] for key in ("accuracy", "frechet")}
            rows.append(row)
            progress(str(row))
    summary = {}
    for budget in ("seconds", "steps"):
        chosen = [row for row in rows if budget in row["budget"]]
        summary[budget] = {
            way: {key: mean_and_worst([row[way][key] for row in chosen], key) for key in ("accuracy", "frechet")}
            for way in ("plain", "guided", "guided everywhere")
        }
    sampler = f"ddim, {steps} steps, eta {eta}"
    return {"n": n, "sampler": sampler, "floor": result["floor"], "summary": summary, "rows": rows}


def mean_and_worst(values, key):
    """Mean over the seeds, and the worst of them: the lowest accuracy, the highest distance."""
    return {"mean": round(statistics.mean(values), 3), "worst": min(values) if key == "accuracy" else max(values)}


SAMPLERS = {  # name: (function of samplers, options), in the order of the lessons
    "ddpm": ("ddpm", {}),
    "ddpm_large": ("ddpm", {"variance": "large"}),
    "ddim": ("ddim", {}),
    "heun": ("heun", {}),
    "dpm_solver": ("dpm_solver", {}),
}


def calls(device, seeds, progress, n=300, budgets=(4, 6, 10, 20, 50), long_budgets=(100, 250)):
    """What n plain conditional samples are worth, for each sampler, number of calls and seed.

    Only DDPM is asked for the long budgets too: the others have long arrived.
    """
    model, judge = pretrained.digits(device), pretrained.classifier()
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    denoiser = pretrained.guided(model, label, scale=1)
    rows = []
    for name, (function, options) in SAMPLERS.items():
        for budget in (*budgets, *(long_budgets if function == "ddpm" else ())):
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                noise = samplers.start_noise(model.schedule, (n, 1, 28, 28), generator, device)
                # Heun looks twice in every step but the last; the other samplers once.
                times = samplers.time_grid((budget + 1) // 2 if name == "heun" else budget)
                random = {"generator": generator} if function == "ddpm" else {}
                with autocast(device, half_precision(device)):
                    steps = getattr(samplers, function)(denoiser, model.schedule, noise, times, **options, **random)
                    x = samplers.last(steps).float().cpu()
                row = {"sampler": name, "calls": 2 * len(times) - 3 if name == "heun" else budget, "seed": seed}
                row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
                rows.append(row | fidelity_and_distance(real, judge.features(x)))
                progress(str(rows[-1]))
    floor = fidelity_and_distance(real, judge.features(data.digits("held_out")[0][:n]))
    return {"n": n, "floor": floor["frechet"], "real": floor, "rows": rows}


def guidance_scales(device, seeds, progress, n=300, scales=(0, 0.5, 1, 1.5, 2, 3, 5, 8), steps=20):
    """What scales of guidance do to n samples, at all times and in an interval of them, for each seed.

    Fidelity: accuracy, precision, density. Diversity: recall, coverage. Both: Frechet distance. The interval is that
    of `pretrained`; scales up to 1 are measured at all times only.
    """
    model, judge = pretrained.digits(device), pretrained.classifier()
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    held_out = judge.features(data.digits("held_out")[0][:n])
    floor = fidelity_and_distance(real, held_out)
    rows = []
    for where, interval in {"everywhere": (0, 1), "interval": pretrained.INTERVAL}.items():
        for scale in (scale for scale in scales if where == "everywhere" or scale > 1):
            for seed in seeds:
                x = pretrained.sample_digits(model, label, scale, interval, steps, eta=0, seed=seed).cpu()
                row = {"where": where, "scale": scale, "seed": seed}
                row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
                rows.append(row | fidelity_and_distance(real, judge.features(x)))
                progress(str(rows[-1]))
    sampler = f"ddim, {steps} steps, eta 0"
    return {"n": n, "sampler": sampler, "interval": list(pretrained.INTERVAL), "floor": floor, "rows": rows}


@torch.no_grad()
def latent(device, seeds, progress, n=300, steps=20, batch_size=64, repeats=15):
    """Diffusion in pixels and in latents: size and cost of a call, cost of decoding, quality of n plain samples.

    "reconstructed" are real digits that were encoded and decoded: what the best model of latents could reach.
    Times are the shortest of several, taken in turn, as other work on the machine only ever makes them longer.
    """
    judge, encoder = pretrained.classifier(), pretrained.autoencoder(device)
    models = {
        "pixels": (pretrained.digits(device), (1, 28, 28)),
        "latent": (pretrained.latent_digits(device), (4, 7, 7)),
    }
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    held_out, truth = (values[:n] for values in data.digits("held_out"))

    def call(name, batch):
        model, shape = models[name]
        return partial(model, torch.zeros(batch, *shape, device=device), torch.tensor(0.5), label=label[:batch])

    parts = {name: partial(call, name) for name in models}
    parts["decode"] = lambda batch: partial(encoder.decode, torch.zeros(batch, 4, 7, 7, device=device))
    parts["encode"] = lambda batch: partial(encoder.encode, torch.zeros(batch, 1, 28, 28, device=device))
    seconds = in_turn({name: make(batch_size) for name, make in parts.items()}, device, repeats)
    cost = {
        name: {"multiply_adds": multiply_adds(make(1)), "seconds": round(seconds[name], 5)}
        for name, make in parts.items()
    }
    for name, (model, shape) in models.items():
        cost[name] |= {"parameters": numbers(model), "numbers_an_image": shape[0] * shape[1] * shape[2]}
    cost["decode"]["parameters"], cost["encode"]["parameters"] = numbers(encoder.decoder), numbers(encoder.encoder)

    rows = []
    for name, (model, shape) in models.items():
        plain = partial(model, label=label)
        denoiser = guidance.clip(plain) if name == "pixels" else plain  # latents have no range to be kept in
        for seed in seeds:
            x = pretrained.sample(denoiser, model.schedule, (n, *shape), device, steps, eta=0, seed=seed)
            x = (encoder.decode(x).clamp(-1, 1) if name == "latent" else x).cpu()
            row = {"model": name, "seed": seed, "accuracy": round(metrics.accuracy(judge, x, label.cpu()), 4)}
            rows.append(row | fidelity_and_distance(real, judge.features(x)))
            progress(str(rows[-1]))
    again = encoder.decode(encoder.encode(held_out.to(device))).clamp(-1, 1).cpu()
    floor = fidelity_and_distance(real, judge.features(held_out))
    return {
        "n": n,
        "sampler": f"ddim, {steps} steps, eta 0",
        "batch_size": batch_size,
        "cost": cost,
        "floor": floor["frechet"],
        "real": floor,
        "reconstructed": fidelity_and_distance(real, judge.features(again))
        | {"accuracy": round(metrics.accuracy(judge, again, truth), 4)}
        | {"squared_error": round(float(((again - held_out) ** 2).mean()), 4)},
        "rows": rows,
    }


def numbers(module):
    """How many numbers a module holds as parameters, frozen ones too."""
    return sum(p.numel() for p in module.parameters())


def multiply_adds(call):
    """How many multiplications with an addition a call takes, counted by torch: products of matrices and convolutions.

    The counter says two operations for each.
    """
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() // 2


def in_turn(calls, device, repeats):
    """The shortest seconds of each of these functions, called in turn {name: function}."""
    shortest = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats + 1):  # the first round only warms up
        for name, call in calls.items():
            begin = time.perf_counter()
            with autocast(device, half_precision(device)):
                call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            shortest[name] = min(shortest[name], time.perf_counter() - begin)
    return shortest


def fidelity_and_distance(real, generated):
    """Frechet distance to all real features, and precision, recall, density, coverage against as many of them."""
    four = metrics.fidelity(real[: len(generated)], generated)._asdict()
    return {"frechet": round(metrics.frechet_distance(generated, real), 3)} | {k: round(v, 4) for k, v in four.items()}


def main(arguments=None):
    """Make results again: python -m diffusion_lib.measured NAME."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=["headline", "calls", "guidance", "latent"])
    parser.add_argument("--seeds", type=int, help="number of seeds; 5 for the headline, else 3")
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib"))) / "assets/measured")
    options = parser.parse_args(arguments)
    device = best_device()
    measure = {"headline": headline, "calls": calls, "guidance": guidance_scales, "latent": latent}[options.name]
    begin = time.perf_counter()
    seeds = options.seeds or (5 if options.name == "headline" else 3)
    result = measure(device, range(seeds), partial(print, flush=True))
    result = circumstances(device) | {"took_seconds": round(time.perf_counter() - begin)} | result
    options.folder.mkdir(parents=True, exist_ok=True)
    path, part = options.folder / f"{options.name}.json", options.folder / f"{options.name}.json.part"
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")
    os.replace(part, path)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

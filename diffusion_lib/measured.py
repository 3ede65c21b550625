"""Measurements that take too long for a lesson: the code that makes them, and the results that were committed.

Every file says on which machine, when and with which versions it was made. Lessons draw the committed results and run a
small part of the same thing live. To make them again:

    python -m diffusion_lib.measured headline      # what 60 seconds and what 500 steps of training give
    python -m diffusion_lib.measured calls         # quality against calls of the network, four samplers
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

from . import __version__, data, metrics, pretrained, samplers
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


def calls(device, seeds, progress, n=300, budgets=(4, 6, 10, 20, 50)):
    """Frechet distance and accuracy of n plain conditional samples for each sampler, number of calls and seed."""
    model, judge = pretrained.digits(device), pretrained.classifier()
    real, label = judge.features(data.digits("train")[0]), torch.arange(n, device=device) % 10
    denoiser = pretrained.guided(model, label, scale=1)
    rows = []
    for name in ("ddpm", "ddim", "heun", "dpm_solver"):
        for budget in budgets:
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                noise = samplers.start_noise(model.schedule, (n, 1, 28, 28), generator, device)
                # Heun looks twice in every step but the last; the other samplers once.
                times = samplers.time_grid((budget + 1) // 2 if name == "heun" else budget)
                random = {"generator": generator} if name == "ddpm" else {}
                with autocast(device, half_precision(device)):
                    x = samplers.last(getattr(samplers, name)(denoiser, model.schedule, noise, times, **random))
                x = x.float().cpu()
                row = {"sampler": name, "calls": 2 * len(times) - 3 if name == "heun" else budget, "seed": seed}
                row["frechet"] = round(metrics.frechet_distance(judge.features(x), real), 3)
                row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
                rows.append(row)
                progress(str(row))
    floor = metrics.frechet_distance(judge.features(data.digits("held_out")[0][:n]), real)
    return {"n": n, "floor": round(floor, 3), "rows": rows}


def main(arguments=None):
    """Make results again: python -m diffusion_lib.measured NAME."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=["headline", "calls"])
    parser.add_argument("--seeds", type=int, help="number of seeds; 5 for the headline, else 3")
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib"))) / "assets/measured")
    options = parser.parse_args(arguments)
    device = best_device()
    measure = {"headline": headline, "calls": calls}[options.name]
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

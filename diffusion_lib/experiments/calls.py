"""Quality against calls of the network, for four samplers (lessons 05 and 06)."""

from collections.abc import Callable, Sequence

import torch

from .. import data, metrics, pretrained, samplers
from ..training import autocast, half_precision
from .common import fidelity_and_distance

SEEDS = (0, 1, 2)


SAMPLERS = {  # name: (function of samplers, options), in the order of the lessons
    "ddpm": ("ddpm", {}),
    "ddpm_large": ("ddpm", {"variance": "large"}),
    "ddim": ("ddim", {}),
    "heun": ("heun", {}),
    "dpm_solver": ("dpm_solver", {}),
}


def measure_calls(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    n: int = 300,
    budgets: Sequence[int] = (4, 6, 10, 20, 50),
    long_budgets: Sequence[int] = (100, 250),
) -> dict:
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

"""Fidelity and diversity against the scale of guidance, at all times and in an interval (lesson 08)."""

from collections.abc import Callable, Sequence

import torch

from .. import data, metrics, pretrained
from .common import fidelity_and_distance

SEEDS = (0, 1, 2)


def measure_guidance(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    n: int = 300,
    scales: Sequence[float] = (0, 0.5, 1, 1.5, 2, 3, 5, 8),
    steps: int = 20,
) -> dict:
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

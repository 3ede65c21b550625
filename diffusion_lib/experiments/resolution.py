"""Where digits of three sizes drown in noise, and what a shifted schedule does about it (lesson 12)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, metrics, pretrained
from ..forward import add_noise, noise_like
from ..schedules import Cosine, Schedule, Shifted

SEEDS = (0, 1)


def enlarge(x: Tensor, factor: int) -> Tensor:
    """Images (B, C, H, W) with every pixel as a square of factor x factor pixels: (B, C, factor H, factor W)."""
    require_enlargement(factor)
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def read_through_noise(
    judge: nn.Module,
    x_0: Tensor,
    label: Tensor,
    schedule: Schedule,
    t: Tensor | float,
    factor: int,
    generator: torch.Generator | None = None,
) -> float:
    """Share of enlarged digits that are still read at time t, after the mean of each square of pixels was taken.

    The mean of factor x factor pixels keeps the picture and divides the standard deviation of the noise by factor.

    Args:
        judge: a FeatureNetwork.
        x_0, label: digits (B, 1, 28, 28) and their classes (B,).
        schedule: a Schedule.
        t: a time in [0, 1) with some signal.
        factor: side of the enlarged digits over 28, a whole number.
        generator: for the noise.
    """
    large = enlarge(x_0, factor)
    x_t = add_noise(schedule, large, noise_like(large, generator), t)
    alpha_t, _ = schedule.scales(t, like=x_t)
    return metrics.accuracy(judge, F.avg_pool2d(x_t / alpha_t, factor), label)


def measure_resolution(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    n: int = 1000,
    factors: Sequence[int] = (1, 2, 4),
    times: Sequence[float] = tuple(i / 20 for i in range(1, 20)),
) -> dict:
    """Where digits of 28, 56 and 112 pixels drown in noise: accuracy of reading them at each time, under the cosine
    schedule and under the same schedule shifted for their size; and the time at which one half is read."""
    judge, (x_0, label) = pretrained.classifier(), (values[:n] for values in data.digits("held_out"))
    rows = []
    for shifted in (False, True):
        for factor in factors:
            schedule = Shifted(Cosine(), factor) if shifted else Cosine()
            for seed in seeds:
                generator = torch.Generator().manual_seed(seed)
                seen = [read_through_noise(judge, x_0, label, schedule, t, factor, generator) for t in times]
                row = {"shifted": shifted, "side": 28 * factor, "seed": seed}
                row |= {"accuracy": [round(share, 4) for share in seen], "half_at": round(crossing(times, seen), 4)}
                rows.append(row)
                progress(str(row))
    return {"n": n, "times": list(times), "rows": rows}


def crossing(times: Sequence[float], shares: Sequence[float], level: float = 0.5) -> float:
    """The time at which falling shares first go below the level, on the line between two measured times."""
    require_crossing(times, shares, level)
    i = next(i for i, share in enumerate(shares) if share < level)
    return times[i - 1] + (shares[i - 1] - level) / (shares[i - 1] - shares[i]) * (times[i] - times[i - 1])


def require_enlargement(factor):
    """Refuse a side that is no whole number of pixels."""
    if int(factor) != factor or factor < 1:
        raise ValueError(f"factor is {factor}; expected a whole number of at least 1, the larger side over the side.")


def require_crossing(times, shares, level):
    """Refuse shares that do not begin above the level and end below it."""
    if len(times) != len(shares) or not shares[0] >= level > min(shares):
        raise ValueError(
            f"{len(times)} times and {len(shares)} shares from {shares[0]:.3g} down to {min(shares):.3g}; expected one "
            f"share a time, the first at least {level} and a later one below it."
        )

"""What several experiments share."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from .. import metrics
from ..training import autocast, half_precision


def fidelity_and_distance(real: Tensor, generated: Tensor) -> dict:
    """Frechet distance to all real features, and precision, recall, density, coverage against as many of them."""
    four = metrics.fidelity(real[: len(generated)], generated)._asdict()
    return {"frechet": round(metrics.frechet_distance(generated, real), 3)} | {k: round(v, 4) for k, v in four.items()}


def in_turn(calls: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
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

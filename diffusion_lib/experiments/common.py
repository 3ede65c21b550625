"""What several experiments share."""

import time

import torch

from .. import metrics
from ..training import autocast, half_precision


def fidelity_and_distance(real, generated):
    """Frechet distance to all real features, and precision, recall, density, coverage against as many of them."""
    four = metrics.fidelity(real[: len(generated)], generated)._asdict()
    return {"frechet": round(metrics.frechet_distance(generated, real), 3)} | {k: round(v, 4) for k, v in four.items()}


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

"""What 60 seconds and what 500 steps of training give, with and without guidance (lesson 04, README)."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch

from .. import recipes
from .weights import digits_quality

SEEDS = (0, 1, 2, 3, 4)


def measure_headline(
    device: torch.device, seeds: Sequence[int], progress: Callable, n: int = 300, steps: int = 50, eta: float = 0.5
) -> dict:
    """Train from scratch for 60 seconds, and for 500 steps; for each seed measure plain and guided samples.

    A slow machine makes few steps in a minute, so that these are kept small; where steps are counted, they are larger.
    """
    rows = []
    for seed in seeds:
        for budget, batch_size in ({"seconds": 60}, 128), ({"steps": 500}, 256):
            begin = time.perf_counter()
            model, history = recipes.train_digits(**budget, seed=seed, device=device, batch_size=batch_size)
            row = {"seed": seed, "budget": budget, "seconds": round(time.perf_counter() - begin, 1)}
            row |= {"steps": len(history), "batch_size": batch_size, "images": len(history) * batch_size}
            for way, result in digits_quality(model, n, steps, eta, seed).items():
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


def mean_and_worst(values: Sequence[float], key: str) -> dict[str, float]:
    """Mean over the seeds, and the worst of them: the lowest accuracy, the highest distance."""
    return {"mean": round(statistics.mean(values), 3), "worst": min(values) if key == "accuracy" else max(values)}

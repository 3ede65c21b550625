"""Lesson 04's minute of training with its looks at the run, for where nobody can wait for it."""

from collections.abc import Callable, Sequence

import torch

from .. import data, pretrained, recipes
from ..forward import noise_like
from ..training import EMA, half_precision, to_device, train

SEEDS = (0,)


LOOKS = (0.03, 0.08, 1 / 6, 0.28, 5 / 12, 0.55, 0.75)  # when lesson 04 looks at its run, as shares of the time


def measure_minute(device: torch.device, seeds: Sequence[int], progress: Callable, seconds: float = 60) -> dict:
    """Lesson 04's minute of training with its looks at the run, from the first of the seeds.

    Returns:
        dict: "looks", for each its seconds, step, and the held-out loss of the raw weights and of their average; and
        "pictures": {"raw", "average"}: uint8 (looks, 10, 1, 28, 28), one sample of each class, always from one noise.
    """
    model = to_device(recipes.new_digits_model(seeds[0]), device)
    batches = data.Batches(*(value.to(device) for value in data.digits("train")), recipes.BATCH_SIZE, seed=seeds[0])
    held_out, label = (value[:100].to(device) for value in data.digits("held_out"))
    t, noise = (torch.arange(100) + 0.5) / 100, noise_like(held_out, torch.Generator().manual_seed(3))
    ema, looks, pictures = EMA(model), [], {"raw": [], "average": []}

    @torch.no_grad()
    def look(done):
        seen = {"seconds": round(done.seconds, 1), "step": done.step}
        for name in pictures:
            seen[f"{name} loss"] = round(model.loss(held_out, t, noise, label=label).mean().item(), 4)
            samples = pretrained.sample_digits(model, torch.arange(10, device=device), steps=10)
            pictures[name].append(((samples.cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
            ema.swap()
        looks.append(seen)
        progress(str(seen))

    dtype = half_precision(device)
    for done in train(model, batches, recipes.digits_loss, seconds=seconds, ema=ema, dtype=dtype, seed=seeds[0]):
        if len(looks) < len(LOOKS) and done.seconds > LOOKS[len(looks)] * seconds:
            look(done)
    look(done)
    return {"seed": seeds[0], "looks": looks, "pictures": {k: torch.stack(v).numpy() for k, v in pictures.items()}}

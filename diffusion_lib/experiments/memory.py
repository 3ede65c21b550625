"""Copies against the number of training images; two models that saw other halves of the data (lesson 12)."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, guidance, metrics, pretrained, recipes
from ..denoisers import Denoiser, middle_times
from ..forward import noise_like
from ..networks import UNet
from ..schedules import Cosine
from ..targets import V
from .common import fidelity_and_distance

SEEDS = (0, 1)


# (digits, steps): the first series gives each size the same steps, the second shows each digit 128 times
PLAN = (*((size, 1000) for size in (10, 30, 100, 300, 1000, 2000)), *((n, 2 * n) for n in (100, 300, 1000, 2000)))


def half(which: int, n: int) -> tuple[Tensor, Tensor]:
    """The first n digits of one half of the training digits, 0 or 1: (x_0 (n, 1, 28, 28), label (n,)).

    The two halves have no digit in common, and each holds all classes alike.
    """
    require_half(which, n)
    x_0, label = data.digits("train")
    place = slice(2000 * which, 2000 * which + n)
    return x_0[place], label[place]


def new_half_model(seed: int = 0) -> Denoiser:
    """A small digit model without labels. It works on the four pixels of each 2 x 2 block as channels, (B, 4, 14, 14):
    the same pixels in another order, at a third of the multiply-adds."""
    return recipes.seeded(seed, lambda: Denoiser(UNet(channels=4, widths=(24, 48)), Cosine(), V))


def plain_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """The loss (B,) of a batch (x_0, label) for a model without labels: mostly middle times, fresh noise."""
    x_0, _ = batch
    t = middle_times(len(x_0), generator)
    return model.loss(x_0, t, noise_like(x_0, generator))


def train_half(
    which: int, n: int, steps: int = 1000, device: torch.device | str = "cpu", batch_size: int = 64
) -> nn.Module:
    """Train on n digits of one half; the half is the seed, too, so that two models share nothing but their recipe."""
    x_0, label = (values.repeat_interleave(-(-batch_size // n), 0) for values in half(which, n))  # at least a batch
    blocks, model = F.pixel_unshuffle(x_0, 2), new_half_model(which)
    return recipes.fit(model, blocks, label, plain_loss, steps, seed=which, device=device, batch_size=batch_size)[0]


def sample_half(model: Denoiser, n: int, device: torch.device | str = "cpu", steps: int = 20, seed: int = 0) -> Tensor:
    """n digits (n, 1, 28, 28) of such a model with DDIM; equal seeds start from equal noise, whatever the model."""
    blocks = pretrained.sample(guidance.clip(model), model.schedule, (n, 4, 14, 14), device, steps, eta=0, seed=seed)
    return F.pixel_shuffle(blocks, 2).cpu()


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Correlation (B,) of the pixels of each image of a with that of the same place in b, both (B, ...): 1 if alike."""
    require_pairs(a, b)
    a, b = a.flatten(1), b.flatten(1)
    return F.cosine_similarity(a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True))


def twins(a: Tensor, b: Tensor, training_a: Tensor, training_b: Tensor) -> Tensor:
    """(B,) bool: which pairs are nearer to each other than either is to the nearest image of its training set."""
    require_pairs(a, b)
    between = (a - b).flatten(1).double().norm(dim=1)
    to_data = [metrics.nearest(x, training)[0][:, 0] for x, training in ((a, training_a), (b, training_b))]
    return between < torch.minimum(*to_data)


def measure_memory(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    plan: Sequence[tuple[int, int]] = PLAN,
    n: int = 500,
    show: Sequence[tuple[int, int]] = ((100, 1000), (2000, 4000)),
    keep: int = 16,
) -> dict:
    """Train on few and on many digits for so many steps, twice: on each of two halves.

    For both models of every pair (size, steps) of the plan: the share of copies, the way to the nearest training digit
    beside that of held-out digits, the loss on data seen and not seen, and what the metrics say. For the pair: how
    alike are samples that began at the same noise? `seeds` are those of that noise; each model is trained once.

    Returns:
        dict, with "pictures" {"size_steps": (2, keep, 28, 28) uint8}: the first samples of both models of the pairs to
        show.
    """
    held_out, judge = data.digits("held_out")[0], pretrained.classifier()
    all_real, some_real = judge.features(data.digits("train")[0]), judge.features(held_out[:n])
    rows, pairs, kept = [], [], {}
    for size, steps in plan:
        parts = [half(which, size)[0] for which in (0, 1)]
        models = [train_half(which, size, steps, device) for which in (0, 1)]
        loss = [losses(model, part, held_out, device) for model, part in zip(models, parts)]
        for seed in seeds:
            x = [sample_half(model, n, device, seed=seed) for model in models]
            if seed == seeds[0] and (size, steps) in show:
                kept[f"{size}_{steps}"] = data.to_uint8(torch.stack(x)[:, :keep, 0])
            for which in (0, 1):
                features = judge.features(x[which])
                row = {"size": size, "steps": steps, "half": which, "seed": seed}
                row |= nearness(x[which], held_out, parts[which])
                row["loss"] = loss[which]
                row["frechet"] = round(metrics.frechet_distance(features, all_real), 3)
                row |= {key: round(v, 4) for key, v in metrics.fidelity(some_real, features)._asdict().items()}
                rows.append(row)
                progress(str(row))
            alike, unrelated = correlation(*x), correlation(x[0], x[1].roll(1, 0))
            pair = {"size": size, "steps": steps, "seed": seed, "same_noise": round(float(alike.mean()), 4)}
            pair |= {"other_noise": round(float(unrelated.mean()), 4)}
            pair["twins"] = round(float(twins(*x, *parts).double().mean()), 4)
            pairs.append(pair)
            progress(str(pair))
    floor = fidelity_and_distance(all_real, some_real)
    results = {"batch_size": 64, "n": n, "sampler": "ddim, 20 steps, eta 0", "floor": floor}
    return results | {"rows": rows, "pairs": pairs, "pictures": {key: x.numpy() for key, x in kept.items()}}


def nearness(x: Tensor, held_out: Tensor, training: Tensor) -> dict[str, dict]:
    """Share of copies, and medians: way to the nearest training image, and that over the way to the second nearest;
    of samples x and of held-out images, which cannot be copies."""
    result = {}
    for name, images in (("sample", x), ("held_out", held_out)):
        distance = metrics.nearest(images, training, k=2)[0]
        result[name] = {
            "copies": round(float(metrics.copies(images, training).double().mean()), 4),
            "distance": round(float(distance[:, 0].median()), 3),
            "ratio": round(float((distance[:, 0] / distance[:, 1]).median()), 3),
        }
    return result


@torch.no_grad()
def losses(
    model: Denoiser,
    training: Tensor,
    held_out: Tensor,
    device: torch.device | str,
    times: Sequence[float] = (0.2, 0.4, 0.6, 0.8),
    n: int = 500,
) -> dict[str, dict]:
    """The mean loss on training and on held-out images at these times, n noisy images each."""
    result = {}
    for name, images in (("training", training), ("held_out", held_out)):
        x_0 = F.pixel_unshuffle(images.repeat(-(-n // len(images)), 1, 1, 1)[:n], 2).to(device)
        noise = noise_like(x_0, torch.Generator().manual_seed(0))
        result[name] = {str(t): round(float(model.loss(x_0, torch.tensor(t), noise).mean()), 4) for t in times}
    return result


def require_half(which, n):
    """Refuse another half than 0 and 1, and more digits than it has."""
    if which not in (0, 1) or not 1 <= n <= 2000:
        raise ValueError(f"half {which} with {n} digits; expected half 0 or 1, and 1 to 2000 digits.")


def require_pairs(a, b):
    """Refuse what are no pairs of images."""
    if a.shape != b.shape:
        raise ValueError(f"images have shapes {tuple(a.shape)} and {tuple(b.shape)}; expected pairs of one shape.")

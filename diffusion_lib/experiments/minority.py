"""Rare kinds under guidance: in the plane, with exact denoisers, and rare styles of digits (lesson 12)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import data, guidance, metrics, pretrained, samplers
from ..denoisers import exact_mixture
from ..schedules import Cosine
from .dots import count_holes, require_pictures

SEEDS = (0, 1)


# Two classes in the plane, each of a frequent and a rare kind: where are the rare ones, seen from the other class?
PLACES = {
    "inside": ((-0.8, 0.0), (-0.25, 0.0), (0.8, 0.0), (0.25, 0.0)),  # frequent and rare of class 0, then of class 1
    "beside": ((-0.5, -0.3), (-0.5, 0.3), (0.5, -0.3), (0.5, 0.3)),
    "outside": ((-0.25, 0.0), (-0.8, 0.0), (0.25, 0.0), (0.8, 0.0)),
}


def rare_kinds(where: str, rare: float = 0.1, std: float = 0.08) -> tuple[dict, dict]:
    """The exact densities of two classes with a rare kind each: (class 0, both classes), for exact_mixture.

    Args:
        where: "inside" (between the frequent kinds), "beside" or "outside" (beyond them).
        rare: share of the rare kind within its class, in (0, 1).
        std: standard deviation of every kind.

    Returns:
        two dicts of weights, means and stds, frequent kinds first and rare ones second in each class.
    """
    require_place(where)
    require_rare(rare)
    means, weights = torch.tensor(PLACES[where]), torch.tensor([1 - rare, rare])
    one = {"weights": weights, "means": means[:2], "stds": torch.full((2,), std)}
    return one, {"weights": weights.repeat(2) / 2, "means": means, "stds": torch.full((4,), std)}


def rare_share(
    where: str,
    scale: float,
    interval: tuple[float, float] = (0, 1),
    n: int = 4000,
    steps: int = 100,
    seed: int = 0,
    rare: float = 0.1,
) -> float:
    """Share of the rare kind among n guided samples of class 0, with exact denoisers: nothing is learned here.

    Args:
        where, rare: as for `rare_kinds`.
        scale: of guidance.
        interval: times with guidance.
        n, steps, seed: samples, steps of DDIM, and the seed of their noise.
    """
    one, both = rare_kinds(where, rare)
    schedule = Cosine()
    plain, anything = (exact_mixture(schedule, **kinds) for kinds in (one, both))
    denoiser = guidance.in_interval(guidance.classifier_free(plain, anything, scale), plain, *interval)
    noise = samplers.start_noise(schedule, (n, 2), torch.Generator().manual_seed(seed))
    x = samplers.last(samplers.ddim(denoiser, schedule, noise, samplers.time_grid(steps)))
    return float((torch.cdist(x, both["means"]).argmin(1) == 1).double().mean())


def slant(x: Tensor) -> Tensor:
    """How much each digit x (B, 1, 28, 28) leans to the right: (B,), the shear that would set it upright.

    Minus the covariance of column and row over the variance of the row, over the ink (rows run downwards).
    """
    require_pictures(x)
    ink = (x[:, 0].double() + 1).clamp(min=0) + 1e-9  # (B, H, W)
    ink = ink / ink.sum((1, 2), keepdim=True)
    row = torch.arange(x.shape[2], dtype=torch.float64, device=x.device)[:, None]
    column = torch.arange(x.shape[3], dtype=torch.float64, device=x.device)
    from_row = row - (ink * row).sum((1, 2))[:, None, None]
    from_column = column - (ink * column).sum((1, 2))[:, None, None]
    return -(ink * from_row * from_column).sum((1, 2)) / (ink * from_row**2).sum((1, 2))


def rare_styles(x: Tensor, label: Tensor, training: Tensor, training_label: Tensor) -> dict[str, float]:
    """How frequent rare styles are among digits of known classes: {style: share}.

    "thin", "bold", "left" and "right" are the tenth of each class with least and most ink, and that which leans most to
    the left and to the right, as the training digits say: each has a share of 0.1 there. "open" is the share of zeros,
    sixes and nines without a hole; "loop" that of twos with one. "spread of ink" and "spread of slant" are standard
    deviations within a class over those of the training digits, means over the classes.

    Args:
        x, label: (B, 1, 28, 28) and (B,), with samples of each class.
        training, training_label: what is frequent and what is rare.
    """
    require_classes(label, training_label)
    result = {}
    measures = {("thin", "bold", "spread of ink"): share_of_ink, ("left", "right", "spread of slant"): slant}
    for (low, high, spread), measure in measures.items():
        value, real = measure(x), measure(training)
        each = []
        for k in label.unique():
            v, r = value[label == k], real[training_label == k]
            least, most = r.quantile(0.1), r.quantile(0.9)
            each.append(torch.stack([(v < least).double().mean(), (v > most).double().mean(), v.std() / r.std()]))
        result |= dict(zip((low, high, spread), torch.stack(each).mean(0).tolist()))
    round_ones, twos = torch.isin(label, torch.tensor([0, 6, 9])), label == 2
    result["open"] = float((count_holes(x[round_ones]) == 0).double().mean())
    result["loop"] = float((count_holes(x[twos]) > 0).double().mean())
    return {style: round(share, 4) for style, share in result.items()}


def share_of_ink(x: Tensor) -> Tensor:
    """How much of each picture x (B, ...) in [-1, 1] is white: (B,) shares."""
    return (x.double().flatten(1).mean(1) + 1) / 2


def measure_minority(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    scales: Sequence[float] = (1, 2, 3, 5, 8),
    digit_scales: Sequence[float] = (2, 3, 5),
    n: int = 500,
    steps: int = 20,
) -> dict:
    """Rare kinds under guidance: in the plane, with exact denoisers, and rare styles of digits, with the shipped model.

    Both with guidance at all times and in the interval of `pretrained` only.
    """
    ways = {"everywhere": (0, 1), "interval": pretrained.INTERVAL}
    exact = []
    for place in PLACES:
        for where, interval in ways.items():
            for scale in scales:
                share = round(rare_share(place, scale, interval), 4)
                exact.append({"place": place, "where": where, "scale": scale, "share": share})
    progress(str(exact))
    model, judge = pretrained.digits(device), pretrained.classifier()
    training, label = data.digits("train"), torch.arange(n, device=device) % 10
    rows = []
    for where, scale in [("everywhere", 1), *((where, scale) for where in ways for scale in digit_scales)]:
        for seed in seeds:
            x = pretrained.sample_digits(model, label, scale, ways[where], steps, eta=0, seed=seed).cpu()
            row = {"where": where, "scale": scale, "seed": seed}
            row["accuracy"] = round(metrics.accuracy(judge, x, label.cpu()), 4)
            rows.append(row | rare_styles(x, label.cpu(), *training))
            progress(str(rows[-1]))
    real = rare_styles(*data.digits("held_out"), *training)
    return {
        "rare": 0.1,
        "exact": exact,
        "n": n,
        "sampler": f"ddim, {steps} steps, eta 0",
        "real": real,
        "rows": rows,
    }


def require_place(where):
    """Refuse a place that is none of the three."""
    if where not in PLACES:
        raise ValueError(f"where is {where!r}; expected one of {', '.join(map(repr, PLACES))}.")


def require_rare(rare):
    """Refuse a share that leaves one kind out."""
    if not 0 < rare < 1:
        raise ValueError(f"rare is {rare}; expected a share in (0, 1).")


def require_classes(label, training_label):
    """Refuse classes that the training images lack."""
    if missing := set(label.tolist()) - set(training_label.tolist()):
        raise ValueError(f"classes {sorted(missing)} have no training images; expected some of every class.")

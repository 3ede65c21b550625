"""Pictures with exact counts: does a model that draws dots count them rightly? (lesson 12)"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import data, metrics, pretrained, recipes
from ..denoisers import Denoiser
from ..networks import UNet
from ..schedules import Cosine
from ..targets import V

SEEDS = (0, 1)


def count_pieces(ink: Tensor, corners: bool = True) -> Tensor:
    """How many connected pieces there are in each image: (B,) whole numbers.

    Pixels belong together if they share a side (or, with corners, a corner). Every pixel takes the largest number among
    its piece's pixels as its name; a piece is counted at the pixel that brought the name.

    Args:
        ink: (B, 1, H, W), True where there is something.
        corners: whether pixels that meet in a corner belong together.
    """
    require_pictures(ink)
    ink = ink.float()
    number = ink * torch.arange(1, ink[0].numel() + 1, device=ink.device).reshape(ink.shape[1:])
    name, before = number, None
    while before is None or not torch.equal(name, before):
        rows = F.max_pool2d(name, (1, 3), stride=1, padding=(0, 1))
        wide = F.max_pool2d(rows if corners else name, (3, 1), stride=1, padding=(1, 0))
        name, before = ink * torch.maximum(rows, wide), name
    return ((name == number) & (ink > 0)).flatten(1).sum(1)


def count_dots(x: Tensor) -> Tensor:
    """How many white pieces (above 0) each picture x (B, 1, H, W) has: (B,). Pieces that meet in a corner are one."""
    return count_pieces(x > 0)


def count_holes(x: Tensor) -> Tensor:
    """How many holes the white of each picture x (B, 1, H, W) has: (B,). Pieces of the black but the one outside."""
    require_pictures(x)
    return count_pieces(F.pad(x <= 0, (1, 1, 1, 1), value=True), corners=False) - 1


def proper_dots(x: Tensor) -> Tensor:
    """Which images hold nothing but dots of 2 x 2 pixels that do not touch, however many: (B,) bool.

    Every white pixel must be in a white square of 2 x 2, and there must be four of them for each piece.
    """
    require_pictures(x)
    ink = (x > 0).float()
    square = -F.max_pool2d(-ink, 2, stride=1)  # 1 where all four are white
    covered = F.max_pool2d(F.pad(square, (1, 1, 1, 1)), 2, stride=1)
    return (covered == ink).flatten(1).all(1) & (ink.flatten(1).sum(1) == 4 * count_dots(x))


def new_dots_model(seed: int = 0) -> Denoiser:
    """The course's digit U-Net for pictures of 16 x 16, with the number of dots as the label (9, or none, for none)."""
    return recipes.seeded(seed, lambda: Denoiser(UNet(channels=1, widths=(16, 32, 64), labels=9), Cosine(), V))


def train_dots(
    n: int = 10_000, steps: int = 1000, seed: int = 0, device: torch.device | str = "cpu", batch_size: int = 64
) -> nn.Module:
    """Train on n pictures of data.dots."""
    x_0, label = data.dots(n, torch.Generator().manual_seed(seed))
    model = new_dots_model(seed)
    loss = recipes.class_loss
    return recipes.fit(model, x_0, label, loss, steps, seed=seed, device=device, batch_size=batch_size)[0]


def sample_dots(
    model: Denoiser,
    label: Tensor,
    scale: float = 1.0,
    interval: tuple[float, float] = (0, 1),
    steps: int = 50,
    eta: float = 0,
    seed: int = 0,
) -> Tensor:
    """Pictures (B, 1, 16, 16) with so many dots: label (B,), whole numbers from 1 to 8; as pretrained.sample_digits."""
    denoiser = pretrained.guided(model, label, scale, interval)
    return pretrained.sample(denoiser, model.schedule, (len(label), 1, 16, 16), label.device, steps, eta, seed).cpu()


def measure_dots(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    budgets: Sequence[int] = (125, 250, 500, 1000),
    scales: Sequence[float] = (1, 2, 3, 5),
    looks: Sequence[tuple[int, float]] = ((100, 0), (100, 1)),
    n: int = 400,
) -> dict:
    """How many samples have the number of dots that was asked for: against training steps, the scale of guidance (0
    asks for no number), and how the sampler walks.

    All lengths of training for the first seed, 250 steps for the others, always with 10,000 pictures. `looks` are calls
    and eta of longer walks, after the longest training. "frechet" is the distance to 2,000 real pictures in the means
    of 2 x 2 pixels, which is what a metric sees that knows nothing of counts.
    """
    label = 1 + torch.arange(n, device=device) % 8
    real = brightness(data.dots(2000, torch.Generator().manual_seed(10**6))[0])
    again = brightness(data.dots(n, torch.Generator().manual_seed(10**6 + 1))[0])
    rows = []
    for steps, seed in [(steps, seed) for seed in seeds for steps in budgets if seed == seeds[0] or steps == 250]:
        model = train_dots(10_000, steps, seed, device)
        ways = [(scale, 25, 0) for scale in ((*scales, 0) if seed == seeds[0] else scales[:1])]
        ways += [(1, *look) for look in looks] if steps == budgets[-1] and seed == seeds[0] else []
        for scale, calls, eta in ways:
            x = sample_dots(model, label, scale, steps=calls, eta=eta, seed=seed)
            row = {"size": 10_000, "steps": steps, "seed": seed, "scale": scale, "calls": calls, "eta": eta}
            rows.append(row | counted(x, label.cpu() if scale > 0 else None, real))
            progress(str(rows[-1]))
    floor = round(metrics.frechet_distance(again, real), 3)
    return {"n": n, "batch_size": 64, "floor": floor, "rows": rows}


def counted(x: Tensor, label: Tensor | None, real: Tensor) -> dict:
    """What pictures x show: share with as many dots as label (B,) says, for all and for each count; share of proper
    pictures; how often each count came; and the Frechet distance of their brightness to that of real ones."""
    count = count_dots(x)
    result = {"proper": round(float(proper_dots(x).double().mean()), 4)}
    result["histogram"] = count.clamp(max=12).bincount(minlength=13).tolist()
    if label is not None:
        right = (count == label).double()
        result["right"] = round(float(right.mean()), 4)
        result["right_by_count"] = [round(float(right[label == k].mean()), 4) for k in range(1, 9)]
        result["mean_error"] = round(float((count - label).double().mean()), 4)
    return result | {"frechet": round(metrics.frechet_distance(brightness(x), real), 3)}


def brightness(x: Tensor) -> Tensor:
    """(B, 64) features of pictures (B, 1, 16, 16): the means of their blocks of 2 x 2 pixels."""
    return F.avg_pool2d(x, 2).flatten(1)


def require_pictures(x):
    """Refuse what are no pictures with one channel."""
    if x.ndim != 4 or x.shape[1] != 1:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected pictures with one channel, (B, 1, H, W).")

"""Pictures for the lessons: image grids, strips, point clouds, loss curves, films.

One style for all: large type, nothing wider than nine inches, and colours like those of Okabe and Ito (2008), moved
until the first five differ for every kind of colour vision, and in grey (tests/notebooks/test_reading.py measures
it). Lessons draw with matplotlib; what several of them draw is here.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

BLUE, ORANGE, GREEN, PINK = "#0B5E92", "#B25008", "#14906A", "#CC79A7"
SKY, YELLOW, GREY, BLACK = "#56B4E9", "#E69F00", "#484848", "#000000"
COLORS = [BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY, BLACK]


def style() -> None:
    """Set matplotlib's defaults for the course."""
    plt.rcParams.update(
        {
            "figure.figsize": (8, 3.2),
            "figure.dpi": 80,
            "figure.constrained_layout.use": True,
            "font.size": 12,
            "axes.titlesize": 12,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.alpha": 0.25,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "lines.linewidth": 2,
            "legend.frameon": False,
            "image.cmap": "gray",
            "image.interpolation": "nearest",
        }
    )


def picture(x: Tensor) -> np.ndarray:
    """One image (C, H, W) in [-1, 1] as an array that matplotlib draws: (H, W) or (H, W, 3), in [0, 1].

    Raises:
        ValueError: not an image with 1 or 3 channels.
    """
    if x.ndim != 3 or x.shape[0] not in (1, 3):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected one image (1, H, W) or (3, H, W).")
    values = ((x.detach().float().cpu() + 1) / 2).clamp(0, 1)
    return (values[0] if len(values) == 1 else values.permute(1, 2, 0)).numpy()


def images(
    x: Tensor | Sequence[Tensor],
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    size: float = 1.0,
    rows: Sequence[str] | None = None,
) -> tuple[plt.Figure, np.ndarray]:
    """A grid of images; call plt.show() after it.

    Args:
        x: (N, C, H, W) in [-1, 1], or a list of (C, H, W).
        columns: images in a row; all of them if None.
        titles: N texts above the images, or one for each column above the first row, or None.
        size: inches of one image.
        rows: texts left of the rows, or None.

    Returns:
        figure, array of axes (rows, columns).
    """
    require_some(x)
    columns = columns or len(x)
    lines = -(-len(x) // columns)
    titled = -(-len(titles) // columns) if titles else 0
    height = lines * (size + 0.05) + 0.35 * titled
    figure, axes = plt.subplots(lines, columns, figsize=(columns * size + 0.2, height), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.grid(False)
        axis.spines[:].set_visible(False)
    for i, (axis, image) in enumerate(zip(axes.flat, x)):
        axis.imshow(picture(image), cmap="gray", vmin=0, vmax=1)
        if titles and i < len(titles):
            axis.set_title(titles[i])
    for axis, text in zip(axes[:, 0], rows or []):
        axis.set_ylabel(text, rotation=0, ha="right", va="center")
    return figure, axes


def require_some(x):
    """Refuse a grid of no images."""
    if len(x) == 0:
        raise ValueError("x is empty; expected at least one image (C, H, W).")


def require_sheet(x):
    """Refuse what is no batch of images."""
    if x.ndim != 4:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected images (N, C, H, W).")


def tile(x: Tensor, columns: int) -> Tensor:
    """Images (N, C, H, W) in [-1, 1] as one image (C, rows * H, columns * W); empty places are black."""
    require_sheet(x)
    missing = -len(x) % columns
    x = torch.cat([x.detach().float().cpu(), -torch.ones(missing, *x.shape[1:])])
    rows = len(x) // columns
    C, H, W = x.shape[1:]
    return x.reshape(rows, columns, C, H, W).permute(2, 0, 3, 1, 4).reshape(C, rows * H, columns * W)


def points(axis: plt.Axes, x: Tensor, color: str = BLUE, limit: float = 1.6, size: float = 3, **options) -> None:
    """Points (N, 2) on an axis with equal sides from -limit to limit."""
    x = x.detach().cpu()
    axis.scatter(x[:, 0], x[:, 1], s=size, color=color, linewidths=0, **options)
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xticks=[], yticks=[])


def smooth(values: Sequence[float], window: int = 20) -> np.ndarray:
    """A running mean over the last `window` values, for loss curves."""
    sums = np.cumsum(np.concatenate([[0.0], np.asarray(values, dtype=float)]))
    first = np.maximum(np.arange(1, len(sums)) - window, 0)
    return (sums[1:] - sums[first]) / (np.arange(1, len(sums)) - first)


def loss_curve(
    axis: plt.Axes, losses: Sequence[float], label: str | None = None, color: str = BLUE, window: int = 20
) -> None:
    """Losses step by step, pale, and their running mean."""
    axis.plot(losses, color=color, alpha=0.2, linewidth=1)
    axis.plot(smooth(losses, window), color=color, label=label)
    axis.set(xlabel="step", ylabel="loss")


def save_png(path: str | Path, x: Tensor, columns: int = 8, scale: int = 3) -> None:
    """Images (N, C, H, W) in [-1, 1] as one PNG file, each pixel `scale` pixels wide."""
    frame(tile(x, columns), scale).save(path, optimize=True)


def save_film(
    path: str | Path, frames: Iterable[Tensor], milliseconds: int = 60, hold: int = 1500, scale: int = 3
) -> None:
    """A GIF that runs forever and holds its last frame; 16 shades, since noise is what such files hate most.

    Args:
        path: where to.
        frames: images (C, H, W) in [-1, 1], such as tile(step.x_t, 8) for each step.
        milliseconds: how long one frame stays.
        hold: how long the last one stays, in milliseconds.
        scale: how many pixels wide a pixel becomes.
    """
    pictures = [frame(image, scale).quantize(16, dither=Image.Dither.NONE) for image in frames]
    if not pictures:
        raise ValueError("frames is empty; a film needs at least one image.")
    durations = [milliseconds] * (len(pictures) - 1) + [hold]
    pictures[0].save(Path(path), save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True)


def frame(image: Tensor, scale: int) -> Image.Image:
    """One image (C, H, W) as a PIL image with enlarged pixels."""
    values = Image.fromarray((picture(image) * 255).round().astype(np.uint8))
    return values.resize((values.width * scale, values.height * scale), Image.Resampling.NEAREST)

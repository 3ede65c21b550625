"""Pictures for git: few colours where nobody sees the difference, and whether two pictures show the same.

Figures hold a few inks and their blends with white, so a palette of 64 to 256 colours is nearly always enough, and a
PNG with a palette is less than half as large. Photographs and gradients keep their true colours.
"""

import io

import numpy as np
from PIL import Image

COLOURS = (64, 128, 256)
BLOCK = 4  # pixels; of 255 are these bounds:
FARTHEST, BAND = 12, 3.0  # what a palette may change at one pixel, and in a block; more makes bands in a gradient
MEAN, BLOCK_MEAN = 1.0, 6.0  # what two pictures that show the same may differ by, on average and in a block


def pixels(png):
    """(height, width, 3) array of 0 to 255. Transparent pictures are laid on white."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return np.asarray(Image.alpha_composite(white, picture).convert("RGB")).astype(np.int16)


def encoded(picture):
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def reduced(png):
    """The same picture in fewer bytes: with the smallest palette of COLOURS that nobody tells from it, else in its own
    colours; without metadata. Transparent pictures, and those that have a palette, stay as they are.
    """
    picture = Image.open(io.BytesIO(png))
    if picture.mode not in ("RGB", "RGBA", "L") or picture.convert("RGBA").getextrema()[3][0] < 255:
        return png
    wanted = np.asarray(picture.convert("RGB"))
    picture = Image.fromarray(wanted)  # a new one, which has no metadata
    for colours in COLOURS:
        few = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
        off = np.abs(np.asarray(few.convert("RGB")) - wanted.astype(np.int16))
        if off.max() <= FARTHEST and invisible(off, BAND):
            return encoded(few)
    return encoded(picture)


def invisible(off, block_mean=BLOCK_MEAN):
    """Whether nobody sees these differences (height, width, 3): neither on average nor in any block."""
    height, width, _ = off.shape
    padded = np.pad(off, [(0, -height % BLOCK), (0, -width % BLOCK), (0, 0)], mode="edge")
    blocks = padded.reshape(padded.shape[0] // BLOCK, BLOCK, padded.shape[1] // BLOCK, BLOCK, 3).mean((1, 3))
    return bool(off.mean() <= MEAN and blocks.max() <= block_mean)


def show_the_same(one, other):
    """Whether nobody sees a difference between two PNGs."""
    if one == other:
        return True
    a, b = pixels(one), pixels(other)
    return a.shape == b.shape and invisible(np.abs(a - b))

"""tools/pictures.py: what a palette may change, and which differences count."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tools import pictures


def png(array, mode=None, **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8), mode).save(file, "PNG", **options)
    return file.getvalue()


def figure(label="steps", shift=0.0, colour="tab:blue", grid=False, width=1.5):
    """A small figure as a lesson stores it."""
    fig, ax = plt.subplots(figsize=(4, 3), layout="constrained")
    x = np.linspace(0, 1, 50)
    ax.plot(x, x**2 + shift, color=colour, linewidth=width)
    ax.imshow(x[None] * x[:, None], extent=(0.1, 0.4, 0.6, 0.9), cmap="viridis", aspect="auto")
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel=label)
    ax.grid(grid)
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=100)
    plt.close(fig)
    return file.getvalue()


def test_a_figure_gets_a_palette_and_less_than_half_the_bytes():
    before = figure()
    after = pictures.reduced(before)
    picture = Image.open(io.BytesIO(after))
    assert picture.mode == "P" and len(after) < 0.5 * len(before)
    off = np.abs(pictures.pixels(before) - pictures.pixels(after))
    assert 0 < off.max() <= 12 and off.mean() <= 1
    assert pictures.show_the_same(before, after)
    assert pictures.reduced(after) == after


def test_the_bounds_decide_how_many_colours_there_are(monkeypatch):
    monkeypatch.setattr(pictures, "BAND", 255.0)
    colours = {}
    for farthest in (0, 3, 12, 255):
        monkeypatch.setattr(pictures, "FARTHEST", farthest)
        picture = Image.open(io.BytesIO(pictures.reduced(figure())))
        colours[farthest] = len(picture.getcolors()) if picture.mode == "P" else picture.mode
    assert colours[0] == "RGB" and 256 >= colours[3] > colours[12] >= colours[255], colours
    monkeypatch.setattr(pictures, "MEAN", 0.0)
    assert Image.open(io.BytesIO(pictures.reduced(figure()))).mode == "RGB"


def test_a_picture_of_all_colours_stays_as_it_is_pixel_for_pixel():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    after = pictures.reduced(png(noise))
    assert Image.open(io.BytesIO(after)).mode == "RGB"
    assert np.array_equal(pictures.pixels(after), noise)


def test_a_pixel_far_from_its_colour_is_too_much_for_a_palette():
    field = np.full((160, 160, 3), 255)
    field[::8, ::8] = np.random.default_rng(0).integers(0, 256, (20, 20, 3))
    assert Image.open(io.BytesIO(pictures.reduced(png(field)))).mode == "RGB"


def test_a_gradient_gets_no_bands():
    x, y = np.meshgrid(np.linspace(0, 1, 300), np.linspace(0, 1, 200))
    before = png(np.stack([215 * x + 40 * y, 215 * x + 20 * y, 215 * x], -1))  # grey, with a tint
    off = np.abs(pictures.pixels(pictures.reduced(before)) - pictures.pixels(before))
    assert off.reshape(50, 4, 75, 4, 3).mean((1, 3)).max() <= 3


def test_few_colours_are_kept_exactly():
    greys = np.arange(64, dtype=np.uint8).reshape(8, 8).repeat(8, 0).repeat(8, 1) * 4
    for array in (greys, np.stack([greys, greys, 255 - greys], -1)):
        after = pictures.reduced(png(array))
        assert Image.open(io.BytesIO(after)).mode == "P"
        assert np.array_equal(pictures.pixels(after), pictures.pixels(png(array)))


@pytest.mark.parametrize("noisy", [False, True])
def test_metadata_goes(noisy):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", "Matplotlib")
    array = np.random.default_rng(0).integers(0, 256, (32, 32, 3)) if noisy else np.zeros((32, 32, 3))
    before = png(array, pnginfo=info, dpi=(100, 100), icc_profile=b"profile")
    assert {"Software", "dpi", "icc_profile"} <= set(Image.open(io.BytesIO(before)).info)
    assert not set(Image.open(io.BytesIO(pictures.reduced(before))).info)


def test_transparent_pictures_stay():
    array = np.zeros((16, 16, 4))
    array[:8, :, 3] = 128
    before = png(array)
    assert pictures.reduced(before) == before
    assert pictures.pixels(before)[0, 0, 0] == 127 and pictures.pixels(before)[-1, 0, 0] == 255


@pytest.mark.parametrize(
    "change",
    [{"label": "stops"}, {"shift": 0.01}, {"colour": "tab:green"}, {"grid": True}, {"width": 2.5}],
    ids=lambda change: next(iter(change)),
)
def test_what_a_reader_sees_is_a_difference(change):
    before, after = pictures.reduced(figure()), pictures.reduced(figure(**change))
    assert not pictures.show_the_same(before, after) and not pictures.show_the_same(after, before)


def test_a_dot_a_tint_and_another_size_are_differences():
    white = np.full((31, 45, 3), 255)
    dot, corner, tint, faint = white.copy(), white.copy(), white - 3, white - 1
    dot[5:7, 7:9] = 0
    corner[30, 44] = 195  # the last block is not a full one
    assert not pictures.show_the_same(png(white), png(dot))
    assert not pictures.show_the_same(png(white), png(corner))
    assert not pictures.show_the_same(png(white), png(tint))
    assert pictures.show_the_same(png(white), png(faint))
    assert not pictures.show_the_same(png(white), png(white[:-1]))


def test_rounding_is_no_difference():
    before = pictures.pixels(figure())
    jitter = np.random.default_rng(0).integers(-2, 3, before.shape)
    assert pictures.show_the_same(png(before), png((before + jitter).clip(0, 255)))

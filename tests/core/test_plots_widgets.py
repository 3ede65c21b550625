"""plots and widgets: what is drawn where, and that a widget calls the same function a lesson calls without one."""

import ipywidgets
import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

matplotlib.use("Agg")  # for this process alone: the kernels of notebooks choose for themselves
import matplotlib.pyplot as plt  # noqa: E402

from diffusion_lib import plots, widgets  # noqa: E402
from tests.common import normal  # noqa: E402


@pytest.fixture(autouse=True)
def close_figures():
    with plt.rc_context():
        yield
    plt.close("all")


def flat(value, channels=1, side=2):
    return torch.full((channels, side, side), float(value))


# ----------------------------------------------------------------------------------------------- plots


def test_a_picture_maps_minus_one_to_black_and_one_to_white():
    gray = plots.picture(torch.tensor([[[-1.0, 0.0], [1.0, 3.0]]]))
    assert gray.shape == (2, 2) and gray.tolist() == [[0.0, 0.5], [1.0, 1.0]]
    colour = plots.picture(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1).expand(3, 4, 5))
    assert colour.shape == (4, 5, 3) and colour[2, 3].tolist() == [0.0, 0.5, 1.0]
    assert plots.picture(flat(0).requires_grad_().bfloat16()).dtype == np.float32


def test_images_are_shown_row_by_row_under_their_titles():
    x = torch.stack([flat(v) for v in (-1, -0.5, 0, 0.5, 1)])
    figure, axes = plots.images(x, columns=3, titles=list("abcde"), rows=["top", "bottom"])
    assert axes.shape == (2, 3)
    for k, axis in enumerate(axes.flat[:5]):
        (image,) = axis.images
        assert float(np.unique(image.get_array())[0]) == pytest.approx((float(x[k, 0, 0, 0]) + 1) / 2)
        assert image.get_clim() == (0, 1)  # no image is stretched to its own contrast
        assert axis.get_title() == "abcde"[k]
    assert not axes[1, 2].images and [axis.get_ylabel() for axis in axes[:, 0]] == ["top", "bottom"]
    figure, axes = plots.images([flat(0, 3), flat(1, 3)])
    assert axes.shape == (1, 2) and figure.get_size_inches()[0] <= 9


def test_tile_puts_each_image_in_its_place():
    x = torch.stack([flat(v) for v in (0.1, 0.2, 0.3, 0.4, 0.5)])
    sheet = plots.tile(x, columns=2)
    assert sheet.shape == (1, 6, 4)
    right = [[0.1, 0.2], [0.3, 0.4], [0.5, -1.0]]
    torch.testing.assert_close(sheet[0, ::2, ::2], torch.tensor(right))
    torch.testing.assert_close(sheet[0, 1::2, 1::2], torch.tensor(right))


def test_points_and_loss_curves():
    _, (left, right) = plt.subplots(1, 2)
    x = normal(7, 2)
    plots.points(left, x)
    assert np.allclose(left.collections[0].get_offsets(), x) and left.get_aspect() == 1.0
    plots.loss_curve(right, [3.0, 1.0, 2.0], window=2)
    raw, mean = (line.get_ydata() for line in right.lines)
    assert list(raw) == [3, 1, 2] and list(mean) == [3, 2, 1.5]


def test_smooth_is_a_running_mean():
    values = normal(50).tolist()
    for window in (1, 7, 100):
        right = [np.mean(values[max(0, k + 1 - window) : k + 1]) for k in range(50)]
        assert np.allclose(plots.smooth(values, window), right)


def test_the_png_holds_the_pixels(tmp_path):
    x = torch.stack([flat(v, 3) for v in (-1, 0, 1)])
    plots.save_png(tmp_path / "x.png", x, columns=3, scale=2)
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (12, 4)
        assert [picture.convert("RGB").getpixel((4 * k + 1, 2)) for k in range(3)] == [(v,) * 3 for v in (0, 128, 255)]


def test_the_film_plays_its_frames_and_holds_the_last(tmp_path):
    plots.save_film(tmp_path / "x.gif", [flat(v) for v in (-1, 0, 1)], milliseconds=50, hold=700)
    with Image.open(tmp_path / "x.gif") as film:
        assert film.n_frames == 3 and film.info["loop"] == 0 and film.size == (6, 6)
        shown = []
        for k in range(3):
            film.seek(k)
            shown.append((film.info["duration"], film.convert("L").getpixel((0, 0))))
    assert shown == [(50, 0), (50, 128), (700, 255)]


def test_the_style_is_readable_in_a_room():
    plots.style()
    assert plt.rcParams["font.size"] >= 11 and plt.rcParams["figure.figsize"][0] <= 9
    assert len(set(plots.COLORS)) == 8


# --------------------------------------------------------------------------------------------- widgets


@pytest.mark.parametrize(
    "choice, kind, value",
    [
        ((0, 10), ipywidgets.IntSlider, 5),
        ((0, 10, 2), ipywidgets.IntSlider, 4),
        ((0.0, 1.0, 0.05), ipywidgets.FloatSlider, 0.5),
        (["a", "b"], ipywidgets.Dropdown, "a"),
        ({"one": 1, "two": 2}, ipywidgets.Dropdown, 1),
        (True, ipywidgets.Checkbox, True),
        ("1_+_7=0_5", ipywidgets.Text, "1_+_7=0_5"),
    ],
)
def test_a_control_fits_its_choice(choice, kind, value):
    control = widgets.control("name", choice)
    assert type(control) is kind and control.value == value
    assert control.description == "name"
    if isinstance(choice, tuple):
        assert (control.min, control.max) == choice[:2] and control.continuous_update is False


def test_explore_draws_again_when_a_control_moves(capsys):
    drawn = []
    controls = widgets.explore(lambda t, digit: drawn.append((t, digit)), t=(0.0, 1.0, 0.25), digit=[3, 7])
    assert drawn == [(0.5, 3)]
    controls["t"].value = 1.0
    controls["digit"].value = 7
    assert drawn[1:] == [(1.0, 3), (1.0, 7)]


def test_a_player_shows_every_frame(capsys):
    drawn = []
    controls = widgets.player(lambda i: drawn.append(i), frames=4, name="step")
    (slider,) = controls.values()
    assert drawn == [3] and (slider.min, slider.max, slider.description) == (0, 3, "step")
    for i in (0, 2):
        slider.value = i
    assert drawn == [3, 0, 2]


def test_a_player_of_one_frame(capsys):
    drawn = []
    widgets.player(lambda i: drawn.append(i), frames=1)
    assert drawn == [0]


def test_a_drawing_is_typed_in_characters():
    x = widgets.drawing("\n#..\n.5.\n 9 \n\n", side=3)
    ink = torch.tensor([[9, 0, 0], [0, 5, 0], [0, 9, 0]]) / 9
    torch.testing.assert_close(x, 2 * ink[None, None] - 1)
    short = widgets.drawing("#\n.#", side=2)  # the ends of lines may be missing
    torch.testing.assert_close(short, torch.tensor([[[[1.0, -1.0], [-1.0, 1.0]]]]))


@pytest.mark.parametrize("size, side", [(14, 28), (28, 28), (56, 28), (10, 28)])
def test_a_drawing_fits_the_model_and_keeps_its_ink(size, side):
    rows = ["." * size] * (size // 2) + ["#" * size] * (size - size // 2)
    x = widgets.drawing("\n".join(rows), side)
    assert x.shape == (1, 1, side, side) and x.dtype == torch.float32 and x.min() >= -1 and x.max() <= 1
    assert float(x.mean()) == pytest.approx(0, abs=0.02)
    assert (x[..., :10, :] == -1).all() and (x[..., 18:, :] == 1).all()


def test_the_canvas_draws_again_when_its_text_changes(capsys):
    drawn = []
    controls = widgets.canvas(
        lambda text, strength: drawn.append((text, strength)), text="#.\n.#", strength=(0.0, 1.0, 0.5)
    )
    assert list(controls) == ["text", "strength"] and drawn == [("#.\n.#", 0.5)]
    controls["text"].value = "..\n##"  # what the script of the canvas does
    controls["strength"].value = 1.0
    assert drawn[1:] == [("..\n##", 0.5), ("..\n##", 1.0)]


def test_the_canvas_finds_its_box():
    """The script looks for the textarea inside the element of class `drawing`, and has as many pixels as asked for."""
    html = widgets.CANVAS.format(side=14)
    assert "width=14 height=14" in html and "closest('.drawing').querySelector('textarea')" in html
    assert r"'' : '\n')" in html  # the script's own line break, not one in the middle of its string
    assert "<script" not in html  # front ends do not run scripts that arrive inside a widget

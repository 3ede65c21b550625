"""Sliders and players for the lessons, from the controls that ipywidgets 7.7 and 8.1 have in common.

A widget is a plain drawing function and a few controls. The function can be called and tested without any front end,
and every lesson shows a static picture of the same thing beside it.
"""

from collections.abc import Callable

import ipywidgets
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import Tensor

Control = ipywidgets.Checkbox | ipywidgets.Text | ipywidgets.Dropdown | ipywidgets.IntSlider | ipywidgets.FloatSlider


def control(name: str, choice: tuple | list | dict | str | bool) -> Control:
    """A control for one argument.

    Args:
        name: of the argument.
        choice: (low, high) whole numbers or (low, high, step) for a slider; a list or dict for a menu; True or False
            for a box to tick; a text for a line to type in, where Enter sends it. A slider begins in its middle.
    """
    if isinstance(choice, bool):
        return ipywidgets.Checkbox(value=choice, description=name)
    if isinstance(choice, str):
        return ipywidgets.Text(value=choice, description=name, continuous_update=False)
    if isinstance(choice, (list, dict)):
        return ipywidgets.Dropdown(options=choice, description=name)
    if isinstance(choice, tuple) and len(choice) in (2, 3):
        low, high = choice[:2]
        step = choice[2] if len(choice) == 3 else 1
        middle = low + round((high - low) / 2 / step) * step
        whole = all(isinstance(v, int) for v in (low, high, step))
        slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        return slider(value=middle, min=low, max=high, step=step, description=name, continuous_update=False)
    kinds = "(low, high), (low, high, step), a list, a dict, a text, True or False"
    raise ValueError(f"{name} is {choice!r}; expected {kinds}.")


def explore(draw: Callable, **choices) -> dict[str, Control]:
    """Show controls and, below them, what draw(**values) draws; it draws again when a control moves.

    Args:
        draw: function that ends with plt.show().
        **choices: for each argument of draw what `control` takes, e.g. t=(0.0, 1.0, 0.05), digit=[0, 1, 2].

    Returns:
        dict of the controls, by name.
    """
    controls = {name: control(name, choice) for name, choice in choices.items()}
    display(ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(draw, controls)]))
    return controls


def player(draw: Callable, frames: int, name: str = "frame", milliseconds: int = 150) -> dict[str, Control]:
    """A film with a Play button and a slider: draw(i) for i in 0 .. frames - 1.

    Args:
        draw: function of the frame's number that ends with plt.show().
        frames: how many.
        name: text beside the slider.
        milliseconds: between two frames.

    Returns:
        dict with the slider, by name.
    """
    if frames < 1:
        raise ValueError(f"frames is {frames}; a film needs at least one.")
    slider = ipywidgets.IntSlider(value=frames - 1, min=0, max=frames - 1, description=name, continuous_update=False)
    play = ipywidgets.Play(value=0, min=0, max=frames - 1, interval=milliseconds)
    ipywidgets.jslink((play, "value"), (slider, "value"))
    output = ipywidgets.interactive_output(draw, {"i": slider})
    display(ipywidgets.VBox([ipywidgets.HBox([play, slider]), output]))
    return {name: slider}


# ---------------------------------------------------------------------------------------------- drawing

INK = {".": 0, " ": 0, "#": 9} | {str(k): k for k in range(10)}

# The canvas has as many pixels as the picture, shown large. What is drawn on it goes as text into the box beside it,
# as if it were typed there: no more than that is asked of the front end.
CANVAS = """
<style>.drawing textarea {{font: 7px/7px monospace; letter-spacing: 2px; height: 210px}}</style>
<canvas width={side} height={side}
 style="width:252px; height:252px; background:black; image-rendering:pixelated; cursor:crosshair; touch-action:none"
 onpointerdown="this.setPointerCapture(event.pointerId); this.last = null; this.onpointermove(event)"
 onpointermove="if (event.buttons) {{
   const c = this.getContext('2d'), z = this.width / this.clientWidth;
   const p = [event.offsetX * z, event.offsetY * z], q = this.last || p;
   c.strokeStyle = 'white'; c.lineWidth = {side} / 11; c.lineCap = 'round';
   c.beginPath(); c.moveTo(...q); c.lineTo(p[0] + 0.01, p[1]); c.stroke(); this.last = p }}"
 onpointerup="const n = this.width, d = this.getContext('2d').getImageData(0, 0, n, n).data;
   let text = '';
   for (let k = 0; k &lt; n * n; k++) text += (Math.round(d[4 * k + 3] / 255 * 9) || '.') + ((k + 1) % n ? '' : '\\n');
   const box = this.closest('.drawing').querySelector('textarea');
   box.value = text;
   for (const name of ['input', 'change']) box.dispatchEvent(new Event(name, {{bubbles: true}}))"></canvas><br>
<button onclick="const c = this.parentNode.querySelector('canvas');
   c.getContext('2d').clearRect(0, 0, c.width, c.height); c.onpointerup()">clear</button>
"""


def drawing(text: str, side: int = 28) -> Tensor:
    """A picture typed as lines of characters: `.` is paper, `#` is ink, and 1 to 9 are shades between them.

    Args:
        text: as many lines as columns; empty lines before and after do not count.
        side: of the picture; what is typed is enlarged or shrunk to it.

    Returns:
        (1, 1, side, side) in [-1, 1].

    Raises:
        ValueError: another character, or lines that do not make a square.

    >>> drawing("#.\\n.#", side=2)
    tensor([[[[ 1., -1.],
              [-1.,  1.]]]])
    """
    lines = require_drawing(text)
    ink = torch.tensor([[INK[character] for character in line] for line in lines]) / 9
    x = 2 * ink[None, None] - 1
    return x if len(lines) == side else F.interpolate(x, (side, side), mode="bilinear", antialias=True)


def canvas(draw: Callable, text: str = "", side: int = 28, **choices) -> dict:
    """Draw with mouse or finger; below it stands what draw(text=..., **values) makes of it, anew after each stroke.

    What is drawn appears as text in the box beside the canvas. Where the canvas does not work, type there.

    Args:
        draw: function of `text`, for `drawing`, and the other choices; it ends with plt.show().
        text: what is there at first.
        side: of the canvas, in pixels.
        **choices: as for `explore`.

    Returns:
        dict of the controls, by name; the box is "text".
    """
    if text:
        require_drawing(text)
    box = ipywidgets.Textarea(value=text, continuous_update=False)
    controls = {name: control(name, choice) for name, choice in choices.items()}
    paper = ipywidgets.HTML(CANVAS.format(side=side))
    row = ipywidgets.HBox([paper, ipywidgets.VBox([box, *controls.values()])])
    row.add_class("drawing")
    controls = {"text": box} | controls
    display(ipywidgets.VBox([row, ipywidgets.interactive_output(draw, controls)]))
    return controls


def require_drawing(text):
    """The lines of a drawing; refuse what is none."""
    lines = [line.rstrip() for line in str(text).strip("\n").splitlines()]
    width = max([len(line) for line in lines], default=0)
    lines = [line.ljust(width, ".") for line in lines]
    strange = sorted({character for line in lines for character in line} - set(INK))
    if strange:
        raise ValueError(f"the drawing holds {''.join(strange)!r}; expected . for paper, # for ink, 1 to 9 for shades.")
    if not lines or len(lines) != width:
        raise ValueError(
            f"the drawing has {len(lines)} lines and {width} columns; expected a square, such as 14 by 14."
        )
    return lines

"""Sliders and players for the lessons, from the controls that ipywidgets 7.7 and 8.1 have in common.

A widget is a plain drawing function and a few controls. The function can be called and tested without any front end,
and every lesson shows a static picture of the same thing beside it.
"""

import ipywidgets
from IPython.display import display


def control(name, choice):
    """A control for one argument.

    Args:
        name: of the argument.
        choice: (low, high) whole numbers or (low, high, step) for a slider; a list or dict for a menu; True or False
            for a box to tick. A slider begins in its middle.
    """
    if isinstance(choice, bool):
        return ipywidgets.Checkbox(value=choice, description=name)
    if isinstance(choice, (list, dict)):
        return ipywidgets.Dropdown(options=choice, description=name)
    if isinstance(choice, tuple) and len(choice) in (2, 3):
        low, high = choice[:2]
        step = choice[2] if len(choice) == 3 else 1
        middle = low + round((high - low) / 2 / step) * step
        whole = all(isinstance(v, int) for v in (low, high, step))
        slider = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
        return slider(value=middle, min=low, max=high, step=step, description=name, continuous_update=False)
    raise ValueError(f"{name} is {choice!r}; expected (low, high), (low, high, step), a list, a dict, True or False.")


def explore(draw, **choices):
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


def player(draw, frames, name="frame", milliseconds=150):
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

"""How a lesson starts, and whether somebody presents it: the set-up cell calls `start`."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def start() -> "torch.device":
    """Choose the device, set the style of the figures, say in one line what this machine is, and return the device."""
    import platform

    import torch

    from . import __version__, plots, training

    plots.style()
    device = training.best_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    pace = "presenting: long trainings are short" if presenting() else expected_minutes()
    print(
        f"diffusion_lib {__version__} | device {device.type} ({name}) | torch {torch.__version__} | "
        f"Python {platform.python_version()} | {pace}"
    )
    return device


def expected_minutes() -> str:
    """What a lesson takes from top to bottom, as it was measured: the fastest and the slowest, and where."""
    from . import measured

    lessons = measured.read("lessons")
    minutes = [seconds / 60 for seconds in lessons["seconds"].values()]
    threads = lessons["machine"].rpartition(", ")[2]
    return f"a lesson runs {min(minutes):.1f} to {max(minutes):.1f} minutes (measured with {threads})"


def presenting() -> bool:
    """Whether `python course.py present` opened this lesson; then long trainings are short, and say what stands in."""
    return os.environ.get("COURSE_PRESENTING", "") not in ("", "0")

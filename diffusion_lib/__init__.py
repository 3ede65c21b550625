"""What the lessons of the diffusion course share; the listing of its modules is the table of contents.

schedules, forward (lesson 01) - targets, denoisers (02) - networks (03) - training (04) - samplers (05, 06) -
metrics (07) - guidance (08) - editing, adapters (09) - tokens (10) - rivals, bench (11) - costs, limits (12); data,
pretrained, measured, plots, widgets and exercises for all of them.
"""

__version__ = "0.2.0"


def start():
    """Choose the device, set the style of the figures, say in one line what this machine is, and return the device."""
    import platform

    import torch

    from . import plots, training

    plots.style()
    device = training.best_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    pace = "presenting: long trainings are short" if presenting() else expected_minutes()
    print(
        f"diffusion_lib {__version__} | device {device.type} ({name}) | torch {torch.__version__} | "
        f"Python {platform.python_version()} | {pace}"
    )
    return device


def expected_minutes():
    """What a lesson takes from top to bottom, as it was measured: the fastest and the slowest, and where."""
    import json
    from importlib import resources

    file = resources.files("diffusion_lib") / "assets" / "measured" / "lessons.json"
    measured = json.loads(file.read_text(encoding="utf8"))
    minutes = [seconds / 60 for seconds in measured["seconds"].values()]
    threads = measured["machine"].rpartition(", ")[2]
    return f"a lesson runs {min(minutes):.1f} to {max(minutes):.1f} minutes (measured with {threads})"


def presenting():
    """Whether `python course.py present` opened this lesson; then long trainings are short, and say what stands in."""
    import os

    return os.environ.get("COURSE_PRESENTING", "") not in ("", "0")

"""What the lessons of the diffusion course share; the listing of its modules is the table of contents.

schedules, forward (lesson 01) - targets, denoisers (02) - networks (03) - training (04) - samplers (05, 06) -
metrics (07) - guidance (08) - editing, adapters (09) - tokens (10) - rivals, bench (11) - costs, limits (12); data,
pretrained, measured, plots, widgets and exercises for all of them.
"""

__version__ = "0.1.0"


def start():
    """Choose the device, set the style of the figures, say in one line what this machine is, and return the device."""
    import platform

    import torch

    from . import plots, training

    plots.style()
    device = training.best_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    pace = "training takes seconds" if device.type == "cuda" else "everything runs in a minute or two on this device"
    print(
        f"diffusion_lib {__version__} | device {device.type} ({name}) | torch {torch.__version__} | "
        f"Python {platform.python_version()} | {pace}"
    )
    return device


def presenting():
    """Whether `python course.py present` opened this lesson: then long trainings are short, and what stands in says so."""
    import os

    return os.environ.get("COURSE_PRESENTING", "") not in ("", "0")

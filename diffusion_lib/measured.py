"""Committed results of long measurements: a store that reads and writes them, and nothing else.

Every file says on which machine, when and with which versions it was made. Lessons draw the committed results and run a
small part of the same thing live; `experiments` has the code that made them, and one command that makes them again.
"""

import json
import platform
from datetime import date
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from . import __version__, data, files
from .training import half_precision


def committed(name: str, ending: str, what: str) -> Path:
    """The committed file of that name and ending (".json" or ".npz"); `what` it holds is for the message.

    Raises:
        ValueError: there is none.
    """
    folder = resources.files("diffusion_lib") / "assets" / "measured"
    known = sorted(path.name.removesuffix(ending) for path in folder.iterdir() if path.name.endswith(ending))
    if name not in known:
        raise ValueError(f"there are no {what} called {name!r}; committed are {', '.join(known) or 'none'}.")
    return folder / f"{name}{ending}"


def read(name: str) -> dict:
    """The committed results of that name, a dict.

    Raises:
        ValueError: there are none.
    """
    return json.loads(committed(name, ".json", "results").read_text(encoding="utf8"))


def read_pictures(name: str) -> dict[str, Tensor]:
    """The images that were kept beside committed results: {key: float tensor in [-1, 1]}.

    Raises:
        ValueError: there are none.
    """
    path = committed(name, ".npz", "pictures")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {key: data.to_unit(arrays[key]) for key in arrays.files}


def write(path: Path, results: dict) -> None:
    """Results (a dict) as a JSON file that is there in one moment: a run that is killed leaves none or the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomically(path, json.dumps(results, indent=1) + "\n")


def write_pictures(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """Pictures {key: uint8 array} as an npz file, likewise there in one moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **pictures)


def circumstances(device: torch.device) -> dict:
    """Machine, date and versions, for the results file."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu}, {torch.get_num_threads()} threads"
    return {
        "machine": f"{device.type}: {name}",
        "precision": str(half_precision(device) or torch.float32).removeprefix("torch."),
        "date": date.today().isoformat(),
        "versions": {"diffusion_lib": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }

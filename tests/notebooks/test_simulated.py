"""Every lesson on the simulated device (tools/simulated.py): a GPU's faults without a GPU.

It proves that no cell mixes tensors of two devices or draws what is not on the CPU; tests/core/test_simulated.py proves
that the numbers are the CPU's. Lessons run untouched and as presented, which is the shortest.
"""

import shutil
from pathlib import Path

import nbformat
import pytest

from tools import LESSONS, ROOT, run_lesson, simulated

pytestmark = [
    pytest.mark.all,
    pytest.mark.skipif(not simulated.available(), reason="this PyTorch knows no devices written in Python"),
]
FAULTS = ("on the same device", "device type tensor to numpy", "device type for generator", "cannot follow")
REFUSED = f"({'|'.join(FAULTS)}|(is on sim:0 and .* on cpu|is on cpu and .* on sim:0); move one)[^\\n]*\\s*$"


@pytest.fixture
def library(tmp_path):
    """A folder with a copy of diffusion_lib, which the lesson imports, so that a bug can be planted in it."""
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "diffusion_lib", tmp_path / "library" / "diffusion_lib", ignore=skipped)
    return tmp_path / "library"


def run(path, library, scratch):
    lesson = (path, scratch / "run.ipynb", scratch, [library])
    notebook, probe = run_lesson.start(*lesson, simulated=True, COURSE_PRESENTING="1")
    assert Path(probe["library"]) == library / "diffusion_lib"
    return ["".join(str(output) for output in cell.get("outputs", [])) for cell in notebook.cells]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs_on_the_simulated_device(path, library, tmp_path):
    printed = run(path, library, tmp_path)
    assert any("| device sim (" in text for text in printed), "the lesson did not run on the simulated device"
    told = {k: fault for k, text in enumerate(printed, 1) for fault in FAULTS if fault in text}
    assert not told, f"cell and fault: {told}"


def plant(path, old, new):
    """Put `new` for `old` in a file in which it stands once."""
    source = path.read_text(encoding="utf8")
    assert source.count(old) == 1, f"{path.name} holds {old!r} {source.count(old)} times: the bug found no place"
    path.write_text(source.replace(old, new), encoding="utf8")


def lesson(number):
    return next(path for path in LESSONS if path.name.startswith(number))


def test_a_move_that_the_library_forgets_stops_a_lesson(library, tmp_path):
    plant(library / "diffusion_lib" / "forward.py", "dtype=x.dtype).to(x.device)", "dtype=x.dtype)")
    with pytest.raises(AssertionError, match=REFUSED):
        run(lesson("00"), library, tmp_path)


@pytest.mark.parametrize(
    "number, old, new",
    [
        ("00", "label = torch.arange(64, device=device)", "label = torch.arange(64)"),
        ("05", "x_1 = noise_like(threes[:8], seeded(0)).to(device)", "x_1 = noise_like(threes[:8], seeded(0))"),
        ("05", "torch.full((8,), 3, device=device)).cpu()", "torch.full((8,), 3, device=device))"),
    ],
    ids=["label", "noise", "picture"],
)
def test_a_move_that_a_lesson_forgets_stops_it(number, old, new, library, tmp_path):
    notebook = nbformat.read(lesson(number), as_version=4)
    places = [cell for cell in notebook.cells if old in cell.source]
    assert len(places) == 1, f"lesson {number} holds {old!r} in {len(places)} cells: the bug found no place"
    places[0].source = places[0].source.replace(old, new)
    nbformat.write(notebook, tmp_path / "forgotten.ipynb")
    with pytest.raises(AssertionError, match=REFUSED):
        run(tmp_path / "forgotten.ipynb", library, tmp_path)

"""Every lesson with its exercises solved: the solution that a reader can unfold stands in place of the stub, the whole
lesson runs, every exercise is told to be correct, and every widget draws at both ends and in the middle of its
controls. It runs in a plain folder, with diffusion_lib installed and without network; test_anywhere.py says what else.
"""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.test_anywhere import ORDER, SHUFFLED
from tools import LESSONS, ROOT, run_lesson

SOLUTION = re.compile(r"<summary>Solution</summary>.*?^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def exercise_number(cell):
    return next((t.removeprefix("exercise:") for t in cell.metadata.get("tags", []) if t.startswith("exercise:")), None)


def solution_after(notebook, index):
    """The code block of the Solution that folds open below an exercise's cell."""
    for cell in notebook.cells[index + 1 :]:
        if cell.cell_type == "code":
            break
        if found := SOLUTION.search(cell.source):
            return found[1]
    raise AssertionError(f"no Solution below the exercise in cell {index + 1}")


def names(statement):
    """What a statement binds."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    return {node.id for target in targets if target for node in ast.walk(target) if isinstance(node, ast.Name)}


def solve(stub, solution):
    """The exercise's cell with the solution in place of what it defines anew; the call of check stays."""
    tree = ast.parse(stub)
    solved = {name for statement in ast.parse(solution).body for name in names(statement)}
    kept = [ast.get_source_segment(stub, s) for s in tree.body if not names(s) & solved]
    assert len(kept) < len(tree.body), "the solution replaces nothing of the stub"
    open_names = {name for s in tree.body for name in names(s)} - solved
    left = [
        name for s in tree.body if "..." in (ast.get_source_segment(stub, s) or "") for name in names(s) & open_names
    ]
    assert not left, f"the solution leaves {left} of the stub open"
    calls = [k for k, segment in enumerate(kept) if segment.startswith("check(")]
    assert len(calls) == 1, "expected one call of check"
    return "\n\n".join([*kept[: calls[0]], solution.rstrip(), *kept[calls[0] :]])


def solved_notebook(path):
    notebook = nbformat.read(path, as_version=4)
    numbers = {}
    for k, cell in enumerate(notebook.cells):
        if number := exercise_number(cell):
            cell.source = solve(cell.source, solution_after(notebook, k))
            numbers[k] = number
    assert numbers, "a lesson without exercises"
    return notebook, numbers


WIDGET = re.compile(r"^(\w+) = widgets\.(?:explore|player|canvas)\((\w+)", re.MULTILINE)
MOVE = """
def _value(control, share):
    if hasattr(control, "options"):
        options = list(control.options.values() if isinstance(control.options, dict) else control.options)
        return options[round(share * (len(options) - 1))]
    if isinstance(control.value, bool):
        return share > 0.5
    if isinstance(control.value, str):
        return control.value
    step = control.step
    return type(control.value)(control.min + step * round(share * (control.max - control.min) / step))

for _share in (0.0, 0.5, 1.0):
    _values = {name: _value(control, _share) for name, control in CONTROLS.items()}
    if "player(" in SOURCE:
        DRAW(*_values.values())
    else:
        DRAW(**_values)
    print("moved to", _values)
"""


def move_widgets(notebook):
    """Adds to each widget's cell calls of what it draws with, at low, middle and high values. Returns those cells."""
    moved = []
    for cell in notebook.cells:
        if "widget" in cell.metadata.get("tags", []):
            found = WIDGET.search(cell.source)
            assert found, f"a widget's cell does not read 'name = widgets.explore(draw, ...)': {cell.source}"
            move = MOVE.replace("CONTROLS", found[1]).replace("DRAW", found[2]).replace("SOURCE", repr(cell.source))
            cell.source += "\n" + move
            moved.append(cell)
    return moved


def pictures(cell):
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def test_solving_puts_the_solution_in_place_of_the_stub():
    stub = 'import math\n\n\ndef f(x):\n    """Doc."""\n    return ...\n\n\ncheck("00.1", f)'
    right = 'import math\n\ndef f(x):\n    return 2 * x\n\ncheck("00.1", f)'
    assert solve(stub, "def f(x):\n    return 2 * x\n") == right
    assert solve('a = ...\nb = ...\ncheck("00.1", (a, b))', "a, b = 1, 2") == 'a, b = 1, 2\n\ncheck("00.1", (a, b))'
    with pytest.raises(AssertionError, match="replaces nothing"):
        solve(stub, "def g(x):\n    return 2 * x\n")
    with pytest.raises(AssertionError, match=r"leaves \['b'\] of the stub open"):
        solve('a = ...\nb = ...\ncheck("00.1", (a, b))', "a = 1")


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_exercise_has_a_solution_for_its_stub(path):
    solved_notebook(path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with diffusion_lib as pip installs it."""
    checkout, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(ROOT / "diffusion_lib", checkout / "diffusion_lib", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        target,
        checkout,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.mark.all
@pytest.mark.parametrize("path", SHUFFLED, ids=lambda path: path.stem)
def test_a_solved_lesson_runs_in_a_plain_folder_and_is_told_to_be_correct(path, installed, tmp_path, record_property):
    record_property("order", ORDER)
    notebook, numbers = solved_notebook(path)
    moved = [notebook.cells.index(cell) for cell in move_widgets(notebook)]
    plain = tmp_path / "plain folder"
    plain.mkdir()
    nbformat.write(notebook, plain / path.name)
    notebook, probe = run_lesson.start(plain / path.name, tmp_path / "run.ipynb", tmp_path, [installed])
    assert Path(probe["library"]) == installed / "diffusion_lib"
    assert "no network" in probe["network"]
    assert {file.name for file in plain.iterdir()} <= {path.name, "written_by_the_probe"}, (
        "the lesson left files behind"
    )
    for k, number in numbers.items():
        text = "".join(o.text for o in notebook.cells[k].outputs if o.get("name") == "stdout")
        assert f"{number} correct" in text, f"exercise {number} says: {text}"
    for k in moved:
        assert pictures(notebook.cells[k]) >= 3, f"{pictures(notebook.cells[k])} pictures from cell {k + 1}"

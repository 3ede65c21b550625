"""Colab in one click: the set-up cell wherever it may run, and lessons on a Colab that colab.py builds on this machine.

Also the two other ways into the course without installing anything: Kaggle (the set-up cell says what to switch on
there) and a GitHub codespace (.devcontainer).
"""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from packaging.requirements import Requirement

import course
import diffusion_lib
from tests.notebooks import colab
from tools import LESSONS, ROOT

SET_UP = (ROOT / "tools" / "setup_cell.py").read_text(encoding="utf-8")
# Where Colab's own Python stands ready, its torch is tested too.
REAL = os.environ.get("COLAB_PYTHON")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Colab is a Linux machine")
posix = pytest.mark.skipif(os.name == "nt", reason="the git of this test is a shell script")


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


# What Colab has


def test_colab_preloads_what_the_library_needs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in map(Requirement, project["dependencies"]):
        there = colab.VERSIONS["preloaded"].get(requirement.name)
        assert there and requirement.specifier.contains(there), f"Colab has {there}, pyproject.toml wants {requirement}"
    assert Requirement(f"python{project['requires-python']}").specifier.contains(colab.VERSIONS["python"])
    assert re.fullmatch(r"\d{4}-\d\d", colab.VERSIONS["date"]) and colab.VERSIONS["source"].startswith("https://")


# The set-up cell, with a course of two files in place of this one

LIBRARY = 'def start():\n    print("started from", __file__)\n    return "cpu"\n'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """URL of a repository that holds a library of one function."""
    folder = tmp_path_factory.mktemp("tiny")
    make_course(folder)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    try:
        for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--no-gpg-sign", "--message=tiny"]):
            subprocess.run([*git, *arguments], cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("git is not installed, and without it there is nothing to fetch")
    return folder.as_uri()


def make_course(folder, text=LIBRARY):
    (folder / "diffusion_lib").mkdir(parents=True)
    (folder / "diffusion_lib" / "__init__.py").write_text(text)
    (folder / "notebooks" / "deep").mkdir(parents=True)
    (folder / "notebooks" / "deep" / "lesson.txt").touch()


def set_up(folder, repository, times=1, **environment):
    """Runs the set-up cell in `folder` in a Python that has no packages; (what it prints, the last line of stderr)."""
    run = f"import sys\nfor _ in range({times}):\n    exec(compile(sys.argv[1], 'cell', 'exec'), dict())"
    environment = colab.clean_environment(COURSE_REPOSITORY=repository, PYTHONDONTWRITEBYTECODE="1", **environment)
    command = [sys.executable, "-S", "-c", run, SET_UP]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout.splitlines(), (done.stderr.splitlines() or [""])[-1]


def started(folder):
    return f"started from {folder / 'diffusion_lib' / '__init__.py'}"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_cell_fetches_the_course_once(tiny, tmp_path):
    home = tmp_path / "diffusion-course"
    assert set_up(tmp_path, tiny, times=2) == ([started(home)] * 2, "")
    # A new kernel: what is there is used as it is, also when it is older than what could be fetched.
    (home / "diffusion_lib" / "__init__.py").write_text(LIBRARY.replace("started", "an older one started"))
    assert set_up(tmp_path, "file:///nowhere", times=2) == (["an older one " + started(home)] * 2, "")
    assert names(tmp_path) == ["diffusion-course"]


@pytest.mark.parametrize("inside", [".", "notebooks", "notebooks/deep", "diffusion_lib"])
def test_the_cell_finds_the_course_that_it_lies_in(inside, tmp_path):
    make_course(tmp_path / "any name")
    lines, error = set_up(tmp_path / "any name" / inside, "file:///nowhere", times=2)
    assert (
        not error
        and [Path(line.removeprefix("started from ")).resolve() for line in lines]
        == [tmp_path / "any name" / "diffusion_lib" / "__init__.py"] * 2
    )
    assert names(tmp_path) == ["any name"]


def test_an_installed_library_is_used(tmp_path):
    make_course(tmp_path / "elsewhere")
    make_course(tmp_path / "here")
    lines, error = set_up(tmp_path / "here" / "notebooks", "file:///nowhere", PYTHONPATH=str(tmp_path / "elsewhere"))
    assert (lines, error) == ([started(tmp_path / "elsewhere")], "") and names(tmp_path) == ["elsewhere", "here"]


def test_a_folder_called_like_the_library_is_not_the_library(tiny, tmp_path):
    (tmp_path / "diffusion_lib").mkdir()
    assert set_up(tmp_path, tiny, times=2) == ([started(tmp_path / "diffusion-course")] * 2, "")


@pytest.mark.parametrize("left", [".git/HEAD", "diffusion_lib/data.py", "README.md"])
def test_a_folder_of_that_name_that_is_no_course_is_left_alone(left, tiny, tmp_path):
    file = tmp_path / "diffusion-course" / left
    file.parent.mkdir(parents=True)
    file.write_text("half")
    for repository in (tiny, "file:///nowhere"):
        assert set_up(tmp_path, repository) == ([started(tmp_path / "diffusion-course-2")], "")
    assert names(tmp_path) == ["diffusion-course", "diffusion-course-2"] and file.read_text() == "half"


def fake_git(folder, script):
    """A PATH on which git is this shell script."""
    folder.mkdir()
    (folder / "git").write_text("#!/bin/sh\n" + script)
    (folder / "git").chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@posix
def test_a_clone_that_is_killed_halfway_leaves_no_half_course(tiny, tmp_path):
    half = 'for last; do :; done\nmkdir -p "$last/diffusion_lib"\ntouch "$last/diffusion_lib/__init__.py"\nkill -9 $$\n'
    (tmp_path / "here").mkdir()
    lines, error = set_up(tmp_path / "here", tiny, PATH=fake_git(tmp_path / "bin", half))
    assert not lines and error.startswith("RuntimeError: The course could not be fetched from file:")
    assert names(tmp_path / "here") == ["diffusion-course.part"]
    assert set_up(tmp_path / "here", tiny) == ([started(tmp_path / "here" / "diffusion-course")], "")
    assert names(tmp_path / "here") == ["diffusion-course"]


def test_without_network_the_cell_says_what_to_do(tiny, tmp_path):
    nobody = "http://127.0.0.1:9/ada/course"
    lines, error = set_up(tmp_path, nobody)
    assert not lines and not names(tmp_path)
    for words in (nobody, "Check the network", "on Kaggle, turn on Internet", "run this cell again", "git said: fatal"):
        assert words in error


@posix
def test_git_never_waits_for_a_password(tmp_path):
    script = 'echo "prompts $GIT_TERMINAL_PROMPT" >&2\nexit 128\n'
    assert set_up(tmp_path, "x", PATH=fake_git(tmp_path / "bin", script))[1].endswith("git said: prompts 0")


def test_without_git_the_cell_says_what_to_do(tmp_path):
    lines, error = set_up(tmp_path, "https://github.com/ada/course", PATH=str(tmp_path))
    assert not lines and error.startswith("RuntimeError: git, which fetches the course, is missing here. Install it")
    assert "download https://github.com/ada/course as a zip file" in error and not names(tmp_path)


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_stored_line_is_what_start_says(path):
    stored = colab.printed(code_cells(path)[0]).rstrip("\n").split(" | ")
    assert [part.split()[0] for part in stored] == ["diffusion_lib", "device", "torch", "Python", "a"], stored
    said = diffusion_lib.expected_minutes()
    number = r"\d+\.\d"
    assert re.sub(number, "#", stored[-1]) == re.sub(number, "#", said), "run `python course.py outputs`"
    # Measured again, the minutes may differ a little from those that were known when the lesson was run.
    theirs, ours = ([float(n) for n in re.findall(number, text)] for text in (stored[-1], said))
    assert theirs == pytest.approx(ours, rel=0.25, abs=0.1), (
        f"{stored[-1]!r}; now {said!r}: run `python course.py outputs`"
    )


# Widgets: only what ipywidgets 7.7 (Colab) and 8.1 have in common

CORE = {
    "Button", "Checkbox", "Dropdown", "FloatSlider", "HBox", "HTML", "IntSlider", "Output", "Play", "Tab", "Text",
    "Textarea", "VBox", "interact", "interactive_output", "jslink",
}  # fmt: skip


def foreign_widgets(tree):
    """Names of ipywidgets outside the core, and the two arguments that its versions name differently."""
    modules = {"ipywidgets"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.startswith("ipywidgets")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ipywidgets"):
            yield from (alias.name for alias in node.names if alias.name not in CORE)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in modules and node.attr not in CORE:
            yield node.attr
        name = getattr(node, "arg", None) or getattr(node, "attr", None)
        if name in ("tooltip", "description_tooltip", "tooltips"):
            yield name


def sources():
    for path in sorted((ROOT / "diffusion_lib").rglob("*.py")):
        yield path.name, path.read_text(encoding="utf-8")
    for path in LESSONS:
        lines = "\n".join(cell.source for cell in code_cells(path)).splitlines()
        yield path.name, "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)


def test_only_controls_that_both_versions_know_are_used():
    texts = dict(sources())
    found = {name: list(foreign_widgets(ast.parse(text))) for name, text in texts.items()}
    assert not {name: words for name, words in found.items() if words}
    assert "ipywidgets." in texts["widgets.py"]
    for name, text in texts.items():  # a lesson uses the library's widgets, so that this covers each of them
        used = set(re.findall(r"\bwidgets\.(\w+)\(", text)) if name.endswith(".ipynb") else set()
        assert used <= {"explore", "player", "canvas", "drawing"}, f"{name} uses {used}"
        assert not (name.endswith(".ipynb") and "ipywidgets" in text), f"{name} uses ipywidgets itself"


@pytest.mark.parametrize(
    "code, word",
    [
        ("import ipywidgets as w\nw.TagsInput()", "TagsInput"),
        ("import ipywidgets\nipywidgets.Stack()", "Stack"),
        ("from ipywidgets import IntSlider, TimePicker", "TimePicker"),
        ("import ipywidgets\nipywidgets.Button(tooltip='x')", "tooltip"),
        ("slider.description_tooltip = 'x'", "description_tooltip"),
    ],
)
def test_a_foreign_widget_is_noticed(code, word):
    assert list(foreign_widgets(ast.parse(code))) == [word]


# Lessons on a simulated Colab


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colab")
    try:
        python = Path(REAL) if REAL else colab.build(folder / "layer")
        repository = colab.serve(folder / "course.git")
    except (colab.NoIndex, FileNotFoundError) as error:  # no package index, no git
        told = f"no package index or no git to build a Colab with its numpy, matplotlib and ipywidgets: {error}"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    (folder / "home").mkdir()
    return colab.Colab(python, repository, folder / "home")


def unchanged(notebook):
    """The first and the last cell are probes: Colab's versions before, and the very same modules after."""
    before, after = (json.loads(colab.printed(notebook.cells[k])) for k in (0, -1))
    expected = {colab.MODULES[name]: colab.VERSIONS["preloaded"][name] for name in colab.VERSIONS["simulated"]}
    if REAL:
        expected["torch"] = colab.VERSIONS["preloaded"]["torch"]
    assert {name: before[name][0].partition("+")[0] for name in expected} == expected
    assert after == before


def only_the_clone(folder):
    """Nothing was written but the clone, and nothing changed in that."""
    assert names(folder) == ["diffusion-course"]
    status = ["git", "status", "--porcelain"]
    assert not subprocess.run(status, cwd=folder / "diffusion-course", capture_output=True, text=True).stdout


@linux
@pytest.mark.all
def test_set_up_and_imports_of_every_lesson_change_nothing_on_colab(machine, tmp_path):
    before = colab.frozen(machine.python)
    clean = (
        "import importlib.util, sys; print(importlib.util.find_spec('diffusion_lib'), 'google.colab' in sys.modules)"
    )
    cells = [colab.PROBE, clean]
    for path in LESSONS:
        cells += [cell.source for cell in code_cells(path)[:2]]
    cells += [SET_UP, colab.PROBE]
    notebook = machine.run(cells, tmp_path)
    assert colab.printed(notebook.cells[1]) == f"None {not REAL}\n"
    lines = {colab.printed(cell) for cell in notebook.cells[2:-1] if cell.source.startswith("#@title Set-up")}
    assert len(lines) == 1 and "minutes" in lines.pop()
    unchanged(notebook)
    only_the_clone(tmp_path)
    assert colab.frozen(machine.python) == before


MOVE = """
for _control in CONTROLS.values():
    if hasattr(_control, "options"):
        _control.index = len(_control.options) - 1
        _control.index = 0
    elif hasattr(_control, "max"):
        _control.value = _control.min
        _control.value = _control.max
    elif isinstance(_control.value, bool):
        _control.value = not _control.value
"""


def with_moves(cell):
    """A lesson's cell; if it makes a widget, every control is then moved from one end to the other."""
    if "widget" not in cell.metadata.get("tags", []):
        return cell.source
    name = re.search(r"^(\w+) = widgets\.", cell.source, re.MULTILINE)[1]
    return cell.source + MOVE.replace("CONTROLS", name)


def check_widgets(notebook, expected):
    shown = colab.widget_outputs(notebook)
    assert len(shown) == expected, f"{len(shown)} widgets show something, expected {expected}"
    for outputs in shown:
        errors = [output for output in outputs if output["output_type"] == "error"]
        assert not errors, errors
        assert any("image/png" in output.get("data", {}) for output in outputs), "a widget shows no picture"


@linux
@pytest.mark.all
@pytest.mark.parametrize("path", LESSONS if REAL else [p for p in LESSONS if p.name[:2] in ("00", "01", "04", "06")],
                         ids=lambda path: path.stem)  # fmt: skip
def test_a_lesson_runs_on_colab(path, machine, tmp_path):
    before = colab.frozen(machine.python)
    cells = code_cells(path)
    notebook = machine.run([colab.PROBE, *map(with_moves, cells), SET_UP, colab.PROBE], tmp_path)
    check_widgets(notebook, sum("widget" in cell.metadata.get("tags", []) for cell in cells))
    unchanged(notebook)
    only_the_clone(tmp_path)
    assert colab.frozen(machine.python) == before


@linux
@pytest.mark.all
def test_an_error_in_a_widget_is_noticed(machine, tmp_path):
    draw = "import ipywidgets\nslider = ipywidgets.IntSlider(1)\n"
    draw += "display(ipywidgets.interactive_output(lambda x: print(1 / x), {'x': slider}))\n"
    with pytest.raises(AssertionError, match="shows no picture"):
        check_widgets(machine.run([draw], tmp_path), 1)
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        check_widgets(machine.run([draw + "slider.value = 0"], tmp_path), 1)


@linux
@pytest.mark.all
def test_plots_and_widgets_pass_their_tests_on_colab(machine, tmp_path):
    command = [machine.python, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "--basetemp", tmp_path]
    command += ["tests/core/test_plots_widgets.py"]
    done = subprocess.run(command, cwd=ROOT, env=machine.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d passed\b", done.stdout.splitlines()[-1]), done.stdout


# A GitHub codespace


def test_the_codespace_is_set_up_by_course_py():
    text = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8")
    assert "github.com" not in text  # it names no repository, so `set-repo` has nothing to change in it
    settings = json.loads(text)
    script, command = re.fullmatch(r"python3 (\S+) (\S+)", settings["postCreateCommand"]).groups()
    assert (ROOT / script).exists() and command in course.COMMANDS
    version = re.fullmatch(r"mcr\.microsoft\.com/devcontainers/python:(\d)\.(\d+)", settings["image"]).groups()
    assert course.OLDEST <= tuple(map(int, version)) <= tuple(map(int, colab.VERSIONS["python"].split(".")))
    assert settings["forwardPorts"] == [8888] and "8888" in settings["portsAttributes"]
    code = settings["customizations"]["vscode"]
    assert {"ms-python.python", "ms-toolsai.jupyter"} <= set(code["extensions"])
    interpreter = code["settings"]["python.defaultInterpreterPath"]
    assert interpreter == "${containerWorkspaceFolder}/.venv/bin/python"

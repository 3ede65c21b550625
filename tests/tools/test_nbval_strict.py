"""The comparison of stored with fresh outputs is itself tested: changed notebooks must fail, float noise must pass."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tools import ROOT
from tools.nbval_strict import Watch, difference, pytest_configure


@pytest.mark.parametrize(
    "stored, fresh",
    [
        ("mean 0.500001 = 0.5", "mean 0.500006 = 0.5"),
        ("mean 0.500 of 3", "mean 0.509 of 3"),  # 1.8 %
        ("error 1.2e-07", "error 3.4e-07"),  # far below 0.001
        ("[ 9.99  0.5 ]", "[10.01  0.5 ]"),  # blanks beside a number are padding
        ("tensor([-0.0002, 1.])", "tensor([ 0.0001, 1.])"),
        ("loss nan, inf and -inf", "loss nan, inf and -inf"),
    ],
)
def test_equal_for_a_reader(stored, fresh):
    assert difference(stored, fresh) == ""


@pytest.mark.parametrize(
    "stored, fresh, words",
    [
        ("mean 0.50", "mean 0.525", "off by 0.025, 5.0% of the stored number"),
        ("mean 0.50", "mean -0.50", "stored 0.50, fresh -0.50"),
        ("0.7 to 0.05", "0.7 to 0.06", "number 2: stored 0.05, fresh 0.06: off by 0.01, 20.0%"),
        ("0.7 to 0.05", "0.7 to 0.06", "one unit of the last printed digit"),
        ("1000 digits", "1001 digits", "off by 1, and integers are compared exactly"),
        ("We saw 1000. Good", "We saw 1001. Good", "integers are compared exactly"),
        ("shape 28x28", "shape 28x27", "number 2: stored 28, fresh 27"),
        ("torch 2.13.0", "torch 2.13.1", "number 3: stored 0, fresh 1"),
        ("count 3", "count -3", "stored 3, fresh -3"),
        ("3 of them", "3.0 of them", "the one is an integer"),
        ("loss 0.5", "loss nan", "stored 0.5, fresh nan"),
        ("loss nan", "loss inf", "stored nan, fresh inf"),
        ("inf", "-inf", "stored inf, fresh -inf"),
        ("mean 0.5 agrees", "mean 0.5 differs", "stored 'agrees', fresh 'differs'"),
        ("0.5 0.6", "0.5 0.6 0.7", "2 numbers stored, 3 numbers fresh"),
        ("0.5\n0.6", "0.5 0.6", "the text differs"),
    ],
)
def test_different_for_a_reader(stored, fresh, words):
    assert words in difference(stored, fresh)


numbers = st.floats(0.06, 1e6).flatmap(lambda x: st.sampled_from([x, -x]))


@given(st.lists(numbers, min_size=1, max_size=5), st.sampled_from(["{:.6f}", "{:.9g}e-1", "{:.5e}", "({:.6f})"]))
def test_noise_passes_and_five_percent_does_not(values, form):
    def written(factor):
        return ", ".join(form.format(value * factor) for value in values)

    if "{:.9g}" in form:  # only where it prints a decimal point, otherwise an integer stands before the e
        values = [value + 0.5 for value in map(int, values)]
    assert difference(written(1), written(1 + 1e-5)) == ""
    assert "off by" in difference(written(1), written(1.05))


# Notebooks


def printed(text):
    return new_output("stream", name="stdout", text=text)


def raised(name):
    return new_output("error", ename=name, evalue="stored message", traceback=[])


def shown(text, **data):
    return new_output("display_data", {"text/plain": text, **data})


FIGURE = """
from IPython.display import display, HTML
display({"text/plain": "<Figure size 640x480 with 2 Axes>", "image/png": "AAAA"}, raw=True)"""
WIDGET = """
import ipywidgets
print("before")
def draw(x):
    print(x)
{}
ipywidgets.interact(draw, x=(0, 1, 0.5))
print("after")"""
SLEEP = "import time\nwhile True:\n    time.sleep(1)"
# Only where a cell never ends has its limit to be short; on a slow machine others may take their time.
SHORT_LIMIT = """
def pytest_runtest_setup(item):
    item.config.option.nbval_cell_timeout = 2 if item.path.name == "hangs.ipynb" else 600
"""
PASSES, FAILS = None, ""

# name of the notebook: [(source, stored outputs, tags, words of the failure or PASSES), ...]
NOTEBOOKS = {
    "compared": [
        ("print('mean', 0.500005)", [printed("mean 0.500000\n")], [], PASSES),
        ("print('mean', 0.525, 'of', 3)", [printed("mean 0.500 of 3\n")], [], "stored 0.500, fresh 0.525"),
        ("print('count', 1001)", [printed("count 1000\n")], [], "stored 1000, fresh 1001: off by 1"),
        ("print('it agrees')", [printed("it differs\n")], [], "the text differs: stored 'it differs\\n'"),
        ("x = 1", [printed("one\n")], [], "1 outputs stored, 0 fresh"),
        ("print('one')", [], [], "0 outputs stored, 1 fresh; if outputs were stripped, run `python course.py outputs`"),
        ("0.525", [new_output("execute_result", {"text/plain": "0.5"}, execution_count=7)], [], "text/plain:"),
        ("time = __import__('time'); print(time.time())", [printed("1.5\n")], ["nbval-ignore-output"], PASSES),
        ("import warnings; warnings.warn('only on this machine')", [], [], PASSES),
        ("7;", [], [], PASSES),
        ("undefined_name", [], [], "NameError"),
        ("undefined_name", [], ["nbval-ignore-output"], "NameError"),
        ("int('x')", [raised("ValueError")], ["raises-exception"], PASSES),
        ("x = int('1')", [raised("ValueError")], ["raises-exception"], "this run raised nothing"),
        ("1 / 0", [raised("ValueError")], ["raises-exception"], "but this run raised ZeroDivisionError"),
        ("x = 1", [raised("ValueError")], ["raises-exception", "nbval-ignore-output"], "this run raised nothing"),
        (FIGURE, [shown("<Figure size 640x480 with 2 Axes>")], [], PASSES),
        (FIGURE, [shown("<Figure size 640x480 with 1 Axes>")], [], "fresh 2"),
        (FIGURE, [], [], "text/plain:"),
        ("display(HTML('<b>2</b>'))", [shown("<IPython.core.display.HTML object>", **{"text/html": "1"})], [], PASSES),
        (WIDGET.format(""), [printed("before\nafter\n")], [], PASSES),
        (WIDGET.format("    x.bug"), [printed("before\nafter\n")], [], "AttributeError"),
    ],
    "dies": [
        ("print('start')", [printed("start\n")], [], PASSES),
        ("import os\nos._exit(1)", [], [], "The kernel died while running this cell"),
        ("print('on')", [printed("on\n")], [], "not run: the kernel died in cell 4"),
    ],
    "hangs": [
        (SLEEP, [], [], "Timeout of 2 seconds exceeded"),
        ("print('on')", [printed("on\n")], [], "not run: cell 2 took too long"),
    ],
    "watched": [
        ("print('01.1 not attempted yet')", [printed("01.1 not attempted yet\n")], ["exercise:01.1"], PASSES),
        ("print('done')", [printed("done\n")], ["exercise:01.2"], "nobody touched does not say 'not attempted yet'"),
        (
            "open('left.txt', 'w').close()",
            [],
            [],
            "beside watched.ipynb, while it ran, something was written: left.txt",
        ),
    ],
    "refused": [
        ("print('ignored')", [], ["nbval-ignore-output"], PASSES),
        ("print('fine')", [printed("fine\n")], ["figure:fine"], PASSES),
        ("print('one')", [], ["nbval_ignore_output"], "cell 6: unknown tag 'nbval_ignore_output'"),
        ("print('one')", [printed("one\n")], ["nbval-skip"], "cell 8: unknown tag 'nbval-skip'"),
        ("# NBVAL_IGNORE_OUTPUT\nprint('one')", [], [], "cell 10: a comment tells nbval what to do"),
        ("int('x')", [], ["raises-exception"], "cell 12: tagged raises-exception, but no error is stored"),
        ("int('x')", [raised("ValueError")], [], "cell 14: a ValueError is stored, but the cell is not tagged"),
    ],
}


def write(path, cases, stripped=False):
    cells = []
    for count, (source, outputs, tags, _) in enumerate(cases, 1):
        cell = new_code_cell(source, execution_count=count, outputs=outputs, metadata={"tags": tags})
        if stripped:
            cell.update(execution_count=None, outputs=[])
        cells += [new_markdown_cell("Text."), cell]
    nbformat.write(new_notebook(cells=cells), path)


def run_pytest(folder, *options, cache="no:cacheprovider"):
    command = [sys.executable, "-m", "pytest", "-p", "tools.nbval_strict", "-p", cache, "--color=no", "-q"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""}
    return subprocess.run(
        [*command, *options, str(folder)], cwd=folder, env=environment, capture_output=True, text=True, timeout=1800
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(notebook, cell) -> what pytest said about it, "" where it passed; one pytest run, three kernels."""
    folder = tmp_path_factory.mktemp("strict")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(SHORT_LIMIT)
    (folder / "test_other.py").write_text("def test_other():\n    assert 1.0 == 1.0\n")
    for name, cases in NOTEBOOKS.items():
        write(folder / f"{name}.ipynb", cases)
    write(folder / "stripped.ipynb", NOTEBOOKS["compared"], stripped=True)
    run = run_pytest(
        folder, "--nbval", "--nbval-current-env", "--nbval-kernel-startup-timeout=600", "--junitxml=report.xml"
    )
    assert run.returncode == 1, run.stdout + run.stderr
    said = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        key = case.get("classname").removesuffix(".ipynb"), case.get("name")
        said[key] = "\n".join(f"{one.get('message')}\n{one.text}" for one in case if one.tag != "properties")
    return said


@pytest.mark.parametrize("notebook", ["compared", "dies", "hangs", "watched"])
def test_cells_of(notebook, report):
    for count, (source, _, _, words) in enumerate(NOTEBOOKS[notebook], 1):
        said = report[notebook, f"cell {2 * count}"]
        assert (said == "") if words is PASSES else (words in said), f"{source}\n\npytest said: {said}"


def test_a_failure_shows_stored_and_fresh_output(report):
    assert "  stored:\n    mean 0.500 of 3\n  fresh:\n    mean 0.525 of 3" in report["compared", "cell 4"]


def test_refused_notebooks_are_not_run(report):
    said = report["refused", "refused"]
    for _, _, _, words in NOTEBOOKS["refused"]:
        assert words is PASSES or words in said
    assert "cell 2:" not in said and "cell 4:" not in said
    assert [cell for notebook, cell in report if notebook == "refused"] == ["refused"]


def test_a_stripped_notebook_is_refused(report):
    said = report["stripped", "refused"]
    assert "cell 2: committed without having been run" in said
    assert "run `python course.py outputs`" in said
    assert [cell for notebook, cell in report if notebook == "stripped"] == ["refused"]


def test_other_tests_run_as_before(report):
    assert report["test_other", "test_other"] == ""


def test_lax_is_refused():
    with pytest.raises(pytest.UsageError, match="use --nbval instead"):
        pytest_configure(SimpleNamespace(option=SimpleNamespace(nbval_lax=True)))


def test_what_passed_whole_is_remembered_by_its_key():
    watch = Watch()

    def report(path, cell, key="k", cells=2, passed=True):
        seen = [("cell_seconds", 0.5), ("lesson", [key, cells])]
        watch.pytest_runtest_logreport(
            SimpleNamespace(nodeid=f"{path}::{cell}", when="call", passed=passed, user_properties=seen)
        )

    for path, cell, options in [
        ("whole", "cell 2", {}),
        ("whole", "cell 4", {}),
        ("part", "cell 2", {}),
        ("failed", "cell 2", {}),
        ("failed", "cell 4", {"passed": False}),
        ("unasked", "cell 2", {"key": None, "cells": 1}),
    ]:
        report(path, cell, **options)
    assert watch.keys() == {"whole": "k", "part": None, "failed": None}
    assert watch.lessons["whole"] == {"cell 2": 0.5, "cell 4": 0.5}


@pytest.mark.all
def test_a_lesson_that_passed_is_left_out_until_something_changes(tmp_path, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    options = ["--nbval", "--nbval-current-env", "--skip-passed"]

    def outcome(text=None):
        if text:
            write(tmp_path / "01_a.ipynb", [(f"print({text!r})", [printed(f"{text}\n")], [], PASSES)])
        return run_pytest(tmp_path, *options, cache="cacheprovider").stdout.splitlines()[-1]

    assert outcome("one").startswith("1 passed")
    assert outcome().startswith("1 skipped")
    assert outcome("two").startswith("1 passed")
    monkeypatch.setenv("CI", "true")
    assert outcome().startswith("1 passed")

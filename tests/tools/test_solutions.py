"""tools.solutions: the folded Solution is written from the module's source, and nothing else in the notebook moves."""

import json

import pytest

from tools import LESSONS, solutions

MODULE = '''"""Exercises."""

from .engine import choose, declare, together


@cached
def my_double(x):
    """Twice x.

    Returns: a number.
    """
    # one line
    return 2 * x  # and no more


def my_half(x): return np.divide(x, 2)


my_letters = {
    "A": 1,  # the first
}

BOTH = together(declare(my_double, slips=[]), declare(my_half), remark="")
EXERCISES = {
    "01.1": declare(my_double, probes=some),
    "01.2": BOTH,
    "01.3": choose(my_letters, among=[]),
    "01.4": Exercise(test=by_hand, solution=my_half),
}
'''
DOUBLE = "@cached\ndef my_double(x):\n    # one line\n    return 2 * x  # and no more"
HALF = "def my_half(x): return np.divide(x, 2)"
FOLD = (
    "<details><summary>Hint</summary>\n\nThink.\n</details>\n"
    "<details><summary>Solution</summary>\n\n```python\n{}\n```\n</details>"
)


def cell(source, tag=None, kind="markdown"):
    return {"cell_type": kind, "metadata": {"tags": [tag]} if tag else {}, "source": source}


@pytest.fixture
def lesson(tmp_path):
    """A lesson with four exercises, whose folds are all wrong."""
    module, path = tmp_path / "diffusion_lib/exercises/lesson_01.py", tmp_path / "notebooks/01_first.ipynb"
    for file in (module, path):
        file.parent.mkdir(parents=True)
    module.write_text(MODULE)
    cells = [cell("%matplotlib inline\nimport numpy as np\nfrom functools import cache as cached", kind="code")]
    for k in range(1, 5):
        cells.append(cell("...", f"exercise:01.{k}", "code"))
        cells.append(cell(FOLD.format("pass  # §").splitlines(keepends=True) if k % 2 else FOLD.format("pass")))
    path.write_text(json.dumps({"cells": cells, "metadata": {}}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def test_declared_exercises_have_the_code_of_their_solutions():
    assert solutions.declared(MODULE) == {
        "01.1": DOUBLE,
        "01.2": f"{DOUBLE}\n\n\n{HALF}",
        "01.3": 'my_letters = {\n    "A": 1,  # the first\n}',
    }
    assert solutions.declared("x = 1") == {}


def test_folds_are_written_and_nothing_else(lesson):
    before = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    assert [k for k, text in solutions.complaints(before, lesson)] == [3, 5, 7]
    assert solutions.write_folds(lesson) == ["01.1", "01.2", "01.3"]
    after = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    assert after[2]["source"] == FOLD.format(DOUBLE).splitlines(keepends=True) and after[4]["source"] == FOLD.format(
        f"{DOUBLE}\n\n\n{HALF}"
    )
    assert [k for k, (a, b) in enumerate(zip(before, after), 1) if a != b] == [3, 5, 7]
    assert list(solutions.complaints(after, lesson)) == []
    stored = lesson.read_bytes()
    assert solutions.write_folds(lesson) == [] and lesson.read_bytes() == stored


def test_what_a_solution_uses_is_in_the_lesson(lesson):
    solutions.write_folds(lesson)
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    cells[0]["source"] = "from functools import cache as cached"
    ((k, text),) = solutions.complaints(cells, lesson)
    assert k == 5 and "uses np, which the lesson does not have" in text


def test_the_command_writes_the_lessons_that_it_is_given(lesson, monkeypatch, capsys):
    monkeypatch.setattr(solutions, "LESSONS", [lesson])
    monkeypatch.setattr(solutions, "ROOT", lesson.parents[1])
    solutions.main(["01"])
    assert "01_first.ipynb: 01.1, 01.2, 01.3" in capsys.readouterr().out
    solutions.main([])
    assert "nothing to write" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        solutions.main(["99"])
    assert "there is no lesson 99" in capsys.readouterr().err


def test_lessons_01_and_05_are_declared():
    """As the model for the others."""
    for path in LESSONS:
        if path.name[:2] in ("01", "05"):
            expected = solutions.declared(solutions.module_of(path).read_text(encoding="utf-8"))
            shown = {number for number, *_ in solutions.folds(json.loads(path.read_text(encoding="utf-8"))["cells"])}
            assert set(expected) == shown and len(shown) >= 4

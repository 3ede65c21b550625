"""Students' notebooks are graded fairly, and none of them can hold up the grading of the others."""

import json
import os
import subprocess
import sys
import time

import nbformat
import pytest

from diffusion_lib.exercises import engine
from tests.notebooks.test_solved_notebooks import LESSONS, exercise_number, solved_notebook
from tools import grade

IMPORTS = "import math\n\nimport torch\n\nfrom diffusion_lib.exercises import check"


def exercise_cells(notebook):
    return {exercise_number(cell): cell.source for cell in notebook.cells if exercise_number(cell)}


SOLVED = exercise_cells(solved_notebook(LESSONS[1])[0])
STUBS = exercise_cells(nbformat.read(LESSONS[1], as_version=4))


def cell(source, *tags):
    return {"cell_type": "code", "metadata": {"tags": list(tags)}, "source": source, "outputs": []}


def text(*cells, **metadata):
    """A notebook as it is stored. Cells are given as sources without tags, or made with `cell`."""
    cells = [made if isinstance(made, dict) else cell(made) for made in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 0, "metadata": metadata, "cells": cells})


@pytest.fixture
def student(tmp_path):
    """A function of a notebook's cells that returns what `read` makes of them."""

    def read(*cells, **metadata):
        path = tmp_path / "Copy of lesson (2).ipynb"
        path.write_text(text(*cells, **metadata), encoding="utf-8")
        return grade.read(path)

    return read


@pytest.fixture(scope="module")
def kernel():
    """One kernel for many notebooks, because importing torch takes seconds."""
    with grade.Kernel(600) as kernel:
        yield kernel


@pytest.fixture
def small_limit(kernel, student, monkeypatch):
    """Sets a limit that an endless cell reaches soon and an honest one never: in seconds, by what that takes here."""
    for _ in range(2):  # the first time the kernel may have to start
        begin = time.perf_counter()
        grade.grade(student(IMPORTS, SOLVED["01.5"]), kernel)
        taken = time.perf_counter() - begin
    limit = max(4, round(10 * taken))
    monkeypatch.setattr(kernel, "seconds", limit)
    monkeypatch.setattr(grade, "GRACE_SECONDS", limit)
    return limit


def statuses(results):
    return {result["number"]: result["status"] for result in results}


# What a cell needs is read from its source


@pytest.mark.parametrize(
    "source, binds, needs, later",
    [
        ("x = f(x)", {"x"}, {"f", "x"}, set()),
        ("x = 1\ny = x", {"x", "y"}, set(), set()),
        ("x += 1", {"x"}, {"x"}, set()),
        ("for k in data:\n    total = k", {"k", "total"}, {"data"}, set()),
        ("def f(x):\n    y = x\n    return y + z", {"f"}, set(), {"z"}),
        ("def f(x=start):\n    global total\n    total = x", {"f", "total"}, {"start"}, set()),
        ("def f():\n    return g()\n\ndef g():\n    return f()", {"f", "g"}, set(), set()),
        ("class A(B):\n    def m(self):\n        return [helper(k) for k in self]", {"A"}, {"B"}, {"helper"}),
        ("import a.b\nfrom c import d as e", {"a", "e"}, set(), set()),
        ("%time x = f(1)", {"x"}, {"f"}, set()),
        ("%%time\nx = f(1)", {"x"}, {"f"}, set()),
        ("await f()", set(), {"f"}, set()),
        ("def f(:\n    y = 1\nx = 2", {"f", "x"}, set(), set()),  # does not compile, and runs where f is needed
    ],
)
def test_the_names_of_a_cell(source, binds, needs, later):
    found = grade.look_at(1, source, [])
    ignored = {"__name__", "range"}
    assert (found.binds, found.needs, found.needs_later - ignored) == (binds, needs - ignored, later)


def test_what_changes_a_name_is_found():
    source = "a[0] = 1\nb.c.d += 1\ne.append(2)\nfor k in f:\n    g[k] = k\nh(i)\ndef j():\n    l[0] = 1"
    assert grade.look_at(1, source, []).changes == {"a", "b", "e", "g"}


@pytest.mark.parametrize(
    "cells, expected",
    [
        (["x = 1", "x = 2", "USE(x)", "x = 3"], [1]),  # the nearest above
        (["USE(x)", "x = 1", "x = 2"], [1]),  # else the first below
        (["USE(sum)", "sum = 1"], []),  # a builtin is there anyway
        (["y = 1", "def f():\n    return y", "z = 3", "USE(f())"], [0, 1]),  # what is needed needs something
        (["x = {}", "x['a'] = 1", "x['b'] = 2", "USE(x)", "x['c'] = 3"], [0, 1, 2]),  # what changes it in between
        (["y = 1", "def f():\n    return y", "y = 2", "USE(f())"], [0, 1, 2]),  # f looks y up when it is called
        (["x = 1", "x = x + 1", "USE(x)"], [0, 1]),
        (["import torch", "torch.x = 1\ny = slow()", "USE(torch)"], [0]),  # many cells call what they import
        (["%%bash\nx=1", "USE(x)"], []),
    ],
)
def test_an_exercise_needs_the_cells_that_define_what_it_uses(cells, expected):
    cells = [grade.look_at(k, source, []) for k, source in enumerate(cells, 1)]
    k = next(k for k, found in enumerate(cells) if "USE" in found.code)
    assert grade.needed(cells, k) == expected


@pytest.mark.parametrize(
    "source, always",
    [
        ("import torch\nimport math", True),
        ("#@title Set-up: run this cell first\nx = 1", True),
        ("from math import *\nx = 1", True),
        ("%matplotlib inline", True),
        ("import torch\nmodel = train()", False),
        ("%time model = train()", False),
        ("!pip install something", False),
        ("%%bash\nrm -r /", False),
    ],
)
def test_cells_that_run_before_every_exercise(source, always):
    found = grade.look_at(1, source, [])
    assert found.always == always
    assert "pip" not in found.code and ("rm" not in found.code or found.skipped)


def test_of_the_cells_that_are_the_courses_own_only_single_statements_run(student):
    shown = nbformat.read(LESSONS[0], as_version=4).cells
    demonstrations = [k for k, c in enumerate(shown) if "check(" in c.source and not exercise_number(c)]
    assert demonstrations, "lesson 00 shows how check answers"
    cells = grade.split(student(*(shown[k].source for k in demonstrations)), "00")
    assert cells and not any(part.checks for part in cells)
    (part,) = grade.statements(grade.look_at(7, "\n@cache\ndef f():\n    return 1\n\n\nprint(f())", []))
    (shown,) = grade.statements(grade.look_at(8, "print(1)\nseen = check('00.1', right)", []))
    assert not shown.checks
    assert (part.place, part.code, part.binds) == (7, "\n@cache\ndef f():\n    return 1\n", {"f"})


# Files that are no notebooks


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "not JSON"),
        (b'{"cells": [', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a": 1}', "not a notebook"),
        (b"[1, 2]", "not a notebook"),
        (b'{"nbformat": 3, "worksheets": []}', "format 3"),
        (b'{"nbformat": 4, "cells": 7}', "format 4"),
        (b'{"nbformat": 5, "cells": []}', "format 5"),
        (b"x" * 1001, "MB, more than"),
    ],
)
def test_a_file_that_is_no_notebook_gets_a_clear_line(content, words, tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "LARGEST_FILE", 1000 if b"xxx" in content else 1e9)
    path = tmp_path / "a.ipynb"
    path.write_bytes(content)
    with pytest.raises(grade.Unreadable, match=words):
        grade.read(path)


def test_a_notebook_of_something_else_gets_a_clear_line(student):
    with pytest.raises(grade.Unreadable, match="No exercise of the course"):
        grade.lesson_of(student("check('99.1', x)", "print(1)"))
    with pytest.raises(grade.Unreadable, match="no such file"):
        grade.read(grade.ROOT / "nothing.ipynb")


def test_folders_are_searched_and_jupyters_copies_left_out(tmp_path):
    for name in ("a.ipynb", "b/c.ipynb", "b/.ipynb_checkpoints/c-checkpoint.ipynb", "b/d.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / "a.ipynb", tmp_path / "b" / "c.ipynb"]
    assert grade.find([tmp_path, tmp_path / "a.ipynb"]) == expected
    assert grade.find([tmp_path / "gone.ipynb"]) == [tmp_path / "gone.ipynb"]


# Honest notebooks


def test_solutions_are_right_and_stubs_untouched(student, kernel):
    cells = [cell(source, f"exercise:{number}") for number, source in (SOLVED | {"01.2": STUBS["01.2"]}).items()]
    results = grade.grade(student(IMPORTS, *cells), kernel)
    assert statuses(results) == dict.fromkeys(SOLVED, "right") | {"01.2": "untouched"}
    assert [result["cell"] for result in results] == [2, 3, 4, 5, 6]


def test_what_happens_to_notebooks_on_the_way_does_not_matter(student, kernel):
    """Tags are lost, Colab adds its metadata, cells are copied, helpers get cells of their own, names are changed."""
    draw = "torch.randn(x.shape, generator=generator, dtype=x.dtype)"
    helper = f"def my_noise(x, generator):\n    return math.sqrt(SCALE) * {draw}"
    uses = SOLVED["01.1"].replace(draw, "my_noise(x, generator)")
    assert uses != SOLVED["01.1"]
    renamed = STUBS["01.4"].replace('check("01.4", my_smallest_T)', "")
    renamed += SOLVED["01.4"].replace("my_smallest_T", "mine")
    cells = [
        "%%bash\nexit 1",
        "!exit 1\n%matplotlib inline",
        "1 / 0",  # runs for no exercise
        "%broken magic",
        IMPORTS,
        uses,  # below it: the helper
        SOLVED["01.2"],
        STUBS["01.3"],
        "def check(number, answer):\n    return lost",
        "my_betas = None\n" + SOLVED["01.3"],
        renamed,
        SOLVED["01.5"] + "\nfor _ in range(10_000):\n    print('x' * 100_000)\nsurplus",
        helper,
        "SCALE = 1",
    ]
    results = grade.grade(student(*cells, colab={"provenance": [{"timestamp": 1}]}, accelerator="GPU"), kernel)
    assert statuses(results) == dict.fromkeys(SOLVED, "right"), results
    notes = [" ".join(result["notes"]) for result in results]
    assert "It uses cell 13, which stands below" in notes[0] and "cell 14" in notes[0]
    assert "Cell 4 stops with UsageError: Line magic function `%broken` not found." in notes[1]
    assert "2 cells hold it, and the last one counts" in notes[2]
    assert "Graded is mine, which the cell passes to check, and not my_smallest_T" in notes[3]
    assert "After its answer the cell stops with NameError: name 'surplus'" in notes[4]
    assert kernel.memory() < 0.8e9, "what is printed is kept"


def test_a_wrong_copy_below_counts_and_a_new_definition_below_is_told(student, kernel):
    slip = "def my_noising_step(x, beta, generator):\n    return x\n\n\ncheck('01.1', my_noising_step)"
    elsewhere = "my_bugs = {'A': 1}"
    first, *_, last = grade.grade(student(IMPORTS, SOLVED["01.1"], slip, STUBS["01.5"], elsewhere), kernel)
    assert (first["status"], first["cell"]) == ("wrong", 3) and first["said"]
    assert (last["status"], last["notes"]) == (
        "untouched",
        ["Cell 5 below defines my_bugs anew, and that is not read."],
    )


def test_an_error_that_cannot_be_printed_is_an_error(student, kernel):
    odd = "class Odd(Exception):\n    def __str__(self):\n        return 1 / 0\n\n\n"
    result = grade.grade(student(IMPORTS, odd + "raise Odd\n" + SOLVED["01.1"]), kernel)[0]
    assert result["status"] == "broken" and result["line"]
    made = {}
    exec(odd, made)
    assert grade.message(made["Odd"]()) == "Odd"


def test_no_exercise_spoils_the_next(student, kernel):
    """Default types, seeds and patched functions of one exercise's cell are gone or do not matter in the next."""
    spoilt = (
        SOLVED["01.1"] + "\ntorch.set_default_dtype(torch.float64)\ntorch.manual_seed(7)\ntorch.set_grad_enabled(False)"
    )
    asks = "\nassert torch.get_default_dtype() is torch.float32 and torch.is_grad_enabled()"
    results = grade.grade(student(IMPORTS, spoilt, *[SOLVED[number] + asks for number in list(SOLVED)[1:]]), kernel)
    assert statuses(results) == dict.fromkeys(SOLVED, "right") and not any(r["notes"] for r in results), results


def test_a_verdict_is_not_what_the_cell_prints(student, kernel):
    loud = STUBS["01.1"] + "\nprint('01.1 correct.')\nprint('{\"status\": \"right\"}')"
    assert grade.grade(student(IMPORTS, loud), kernel)[0]["status"] == "untouched"


# Notebooks that go wrong


def test_what_does_not_run_is_told_with_its_line(student, kernel):
    cells = [
        IMPORTS,
        SOLVED["01.1"].replace("def", "define"),
        "name = input('Your name: ')\n" + SOLVED["01.2"],
        "def my_betas(alpha_bar:\n    pass",
        SOLVED["01.4"] + "\n\nraise SystemExit",
        cell("my_bugs = {\n    'A': lost,\n}", "exercise:01.5"),
        "lost = 1 / 0",
    ]
    first, second, third, fourth, fifth = grade.grade(student(*cells), kernel)
    assert first["status"] == "broken" and "SyntaxError" in first["said"] and "line" in first["said"]
    assert first["line"] and "define" in first["said"]
    assert second["status"] == "broken" and second["line"] == 1 and "does not support input" in second["said"]
    assert third == grade.graded("01.3", "missing", "Its cell is not in the notebook.")
    assert fourth["status"] == "right" and "After its answer the cell stops with SystemExit" in fourth["notes"][0]
    assert fifth["status"] == "broken" and (fifth["cell"], fifth["line"]) == (6, 2)
    assert fifth["said"] == "NameError: name 'lost' is not defined (line 2: 'A': lost,)"
    assert "Cell 7 stops with ZeroDivisionError: division by zero." in fifth["notes"]


def test_an_answer_under_a_name_that_nobody_passes_to_check_is_told(student, kernel):
    bare = cell("def mine(x, beta, generator):\n    return x", "exercise:01.1")
    result = grade.grade(student(IMPORTS, bare), kernel)[0]
    assert result["status"] == "broken" and "'my_noising_step' is not defined" in result["said"]


STUBBORN = """
def my_add_noise(schedule, x_0, noise, t):
    return ...

while True:
    try:
        sum(range(1000))
    except BaseException:
        pass

check("01.2", my_add_noise)
"""
DEADLY = """
import os

def my_betas(*inputs, **options):
    os._exit(1)

my_alpha_bar = my_cosine_alpha_bar = my_betas
"""
ENDLESS = "def my_smallest_T(first, last, limit):\n    T = 1\n    while limit:\n        T += 1\n    return T\n"


@pytest.mark.all
def test_endless_and_deadly_cells_do_not_hold_up_the_others(student, kernel, small_limit):
    cells = [
        IMPORTS,
        "k = 0\nwhile True:\n    k += 1\n    print('x' * 100_000)\ncheck('01.1', k)",
        STUBBORN,
        DEADLY + 'check("01.3", (my_cosine_alpha_bar, my_betas, my_alpha_bar))',
        ENDLESS + 'check("01.4", my_smallest_T)',
        SOLVED["01.5"],
    ]
    results = grade.grade(student(*cells), kernel)
    assert list(statuses(results).values()) == ["time", "time", "died", "time", "right"], results
    late = f"is not done after {small_limit} s"
    assert results[0]["said"].startswith(f"Its cell {late} (line ") and results[0]["line"] in (2, 3, 4)
    assert results[1]["said"] == f"Its cell {late}."
    assert results[2]["said"].startswith("The check of its answer ends the kernel")
    assert results[3]["said"].startswith(f"The check of its answer {late} (line ")
    assert results[3]["line"] in (3, 4)


@pytest.mark.all
def test_a_cell_on_the_way_is_tried_once_and_left_out_where_it_may_not_be_needed(
    student, kernel, small_limit, monkeypatch
):
    monkeypatch.setattr(grade, "LARGEST_MEMORY", 0.8e9)
    fills = SOLVED["01.4"] + "\nimport time\nkept = []\nwhile True:\n    kept.append(bytes(range(256)) * 400_000)"
    cells = [
        "import os\nget_ipython()\nos._exit(1)",  # magics: might be needed
        IMPORTS,
        "def slow():\n    while True: pass\n\nscale = slow()",
        SOLVED["01.1"] + "\nprint(scale)",
        SOLVED["01.2"] + "\nprint(scale)",
        fills,
        SOLVED["01.5"],
    ]
    tried = []
    run = kernel.run
    monkeypatch.setattr(kernel, "run", lambda code: tried.append(code) or run(code))
    results = grade.grade(student(*cells), kernel)
    assert list(statuses(results).values()) == ["time", "time", "missing", "full", "right"], results
    late = f"Cell 3 is not done after {small_limit} s (line 2: while True: pass), and this needs it."
    assert results[1]["said"] == late, results[1]
    assert results[3]["said"] == "Its cell takes more than 0.8 GB of memory."
    assert "Cell 1 ends the kernel" in results[4]["notes"][0] and results[4]["notes"][0].endswith("and was left out.")
    assert sum("os._exit" in code for code in tried) == 1 and sum("slow()" in code for code in tried) == 1


# Every lesson


@pytest.mark.all
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_lesson_is_graded(path, kernel, tmp_path):
    """As the course has it all is untouched, solved all is right, and a known mistake gets its symptom."""
    lesson = path.name[:2]
    assert set(grade.course(lesson)) == set(engine.import_module(f"diffusion_lib.exercises.lesson_{lesson}").EXERCISES)
    results = grade.grade(grade.read(path), kernel)
    assert statuses(results) == dict.fromkeys(grade.course(lesson), "untouched"), results

    solved, _ = solved_notebook(path)
    copy = tmp_path / "copy.ipynb"
    nbformat.write(solved, copy)
    results = grade.grade(grade.read(copy), kernel)
    assert statuses(results) == dict.fromkeys(grade.course(lesson), "right"), results

    expected = {}
    for made in solved.cells:
        if number := exercise_number(made):
            mistakes = engine.find(number).mistakes
            if mistakes:
                slip, (_, expected[number]) = next(iter(mistakes.items()))
                name, answer = grade.course(lesson)[number], f"find({number!r}).mistakes[{slip!r}][0]"
                made.source = f'from diffusion_lib.exercises import find\n{name} = {answer}\ncheck("{number}", {name})'
    assert expected, "a lesson without a known mistake"
    nbformat.write(solved, copy)
    for result in grade.grade(grade.read(copy), kernel):
        if result["number"] in expected:
            assert result["status"] == "wrong" and expected[result["number"]] in result["said"], result


# The command


def test_a_class_is_graded_beside_a_broken_file(tmp_path, kernel, monkeypatch, capsys):
    class Shared:
        """The kernel that is running already, in place of one for each notebook."""

        def __init__(self, seconds):
            limits.append(seconds)

        def __enter__(self):
            return kernel

        def __exit__(self, *error):
            pass

    limits = []
    monkeypatch.setattr(grade, "Kernel", Shared)
    monkeypatch.setenv("COLUMNS", "100")
    long = "raise ValueError('" + "many words \\x1b[31m " * 60 + "')\n" + STUBS["01.3"]
    slip = "def my_noising_step(x, beta, generator):\n    return x\n\n\ncheck('01.1', my_noising_step)"
    (tmp_path / "ada.ipynb").write_text(text(IMPORTS, SOLVED["01.1"], STUBS["01.2"], long))
    (tmp_path / "bob.ipynb").write_text('{"cells": [')
    (tmp_path / "eve.ipynb").write_text(text(IMPORTS, slip, SOLVED["01.2"]))
    (tmp_path / "zoe.ipynb").write_text(text(IMPORTS, slip))
    stored = tmp_path / "grades.json"
    assert grade.main([str(tmp_path), "--json", str(stored), "--seconds", "50"]) == 1
    assert limits == [50, 50, 50]
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100, printed
    assert "\x1b" not in printed and "NOT GRADED  It is not JSON" in printed
    lines = [line.split() for line in printed.splitlines()]
    assert printed.count("many words") < 20 and "many words ?[31m ...\n" in printed
    assert ["01.1", "right"] in lines and ["01.2", "untouched"] in lines
    assert ["01.1", "1", "2", "0", "0"] in lines and ["01.2", "1", "0", "1", "1"] in lines
    assert ["01.3", "0", "0", "0", "3"] in lines
    result = json.loads(stored.read_text())
    ada, bob, eve, zoe = result["notebooks"]
    assert (bob["lesson"], bob["exercises"]) == (None, []) and "not JSON" in bob["error"]
    assert (ada["lesson"], ada["error"], result["seconds"]) == ("01", None, 50)
    assert ada["exercises"][2]["status"] == "broken" and len(ada["exercises"][2]["said"]) > 900
    assert result["overview"][0] == {"number": "01.1", "right": 1, "wrong": 2, "untouched": 0, "other": 0} | {
        "symptoms": [[eve["exercises"][0]["said"], 2]]
    }
    assert f"2 x  {eve['exercises'][0]['said'][:30]}" in printed
    assert sorted(file.name for file in tmp_path.iterdir() if "part" in file.name) == []


def test_a_grader_that_fails_says_so_and_goes_on(tmp_path, monkeypatch, capsys):
    def fail(cells, kernel, on_exercise):
        raise RuntimeError("the kernel did not start (died)")

    monkeypatch.setattr(grade, "grade", fail)
    for name in ("a.ipynb", "b.ipynb"):
        (tmp_path / name).write_text(text(IMPORTS, STUBS["01.1"]))
    assert grade.main([str(tmp_path)]) == 1
    printed = " ".join(capsys.readouterr().out.split())  # lines are broken where a long path makes it necessary
    assert printed.count("NOT GRADED The grader failed: RuntimeError: the kernel did not start (died).") == 2


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["FOLDER"], "no *.ipynb in"),
        (["FOLDER/a.ipynb", "--seconds", "0"], "a number above 0"),
        (["FOLDER/a.ipynb", "--json", "FOLDER/no/x.json"], "No such file"),
    ],
)
def test_a_wrong_call_is_told_before_anything_runs(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        grade.main([argument.replace("FOLDER", str(tmp_path)) for argument in arguments])
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_the_command_grades_and_ends_with_0(tmp_path):
    """In a process of its own, with a kernel of its own, and COURSE's environment for what runs in it."""
    seen = "import os\nassert os.environ['DIFFUSION_DEVICE'] == 'cpu' and os.environ['COURSE_PRESENTING'] == '1'\n"
    seen += "assert os.listdir('.') == [] and diffusion_lib.__file__.startswith(" + repr(str(grade.ROOT)) + ")\n"
    path = tmp_path / "ada.ipynb"
    path.write_text(text(IMPORTS, "import diffusion_lib", seen + SOLVED["01.1"], STUBS["01.2"]))
    command = [sys.executable, "-m", "tools.grade", str(path), "--seconds", "600"]
    environment = {key: value for key, value in os.environ.items() if key not in ("DIFFUSION_DEVICE", "COLUMNS")}
    done = subprocess.run(command, cwd=grade.ROOT, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["01.1", "right"] in lines and ["01.2", "untouched"] in lines, done.stdout
    assert "lesson 01, 1 of 5 right" in done.stdout and "all notebooks" not in done.stdout

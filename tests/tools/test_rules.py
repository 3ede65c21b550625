"""The rules hold for every lesson, and each rule notices what it is there for."""

import copy
import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.common import lesson_at
from tools import NOTEBOOKS
from tools.rules import RULES

PAGES = sorted(NOTEBOOKS.glob("*.ipynb"))


def test_names_are_numbered_once():
    names = [path.name for path in PAGES]
    assert all(re.fullmatch(r"\d\d_[a-z0-9_]+\.ipynb", name) for name in names), names
    assert len({name[:2] for name in names}) == len(names), names


def repeated_figures(notebooks):
    """Names that two cells, or a cell and the demo, would write to the same file in figures/."""
    taken, twice = {"digits", "film"}, []
    for notebook in notebooks:
        for tag in (tag for cell in notebook["cells"] for tag in cell["metadata"].get("tags", [])):
            if tag.startswith("figure:"):
                twice += [tag] * (tag.removeprefix("figure:") in taken)
                taken.add(tag.removeprefix("figure:"))
    return twice


def test_every_figure_has_a_name_of_its_own():
    assert not repeated_figures(lesson_at(path) for path in PAGES)
    again = new_notebook(cells=[new_code_cell("", metadata={"tags": [name]}) for name in ("figure:a", "figure:digits")])
    assert repeated_figures([again, again]) == ["figure:digits", "figure:a", "figure:digits"]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_lesson_keeps(path, rule):
    complaints = rule(lesson_at(path), path)
    assert not complaints, "\n" + "\n".join(complaints)


# A tiny repository whose lesson keeps all rules, and the ways to break it

SET_UP = '#@title Set-up\nREPOSITORY = "https://github.com/owner/repo"'
BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/owner/repo/blob/main/notebooks/01_forward.ipynb) "
    "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
    "(https://kaggle.com/kernels/welcome?src=https://github.com/owner/repo/blob/main/notebooks/01_forward.ipynb)"
)
OPENING = f"""# 01 · Forward noising

Watch a digit dissolve, and compute every stage of it in one line.

{BADGES}"""
OBJECTIVES = """**You will be able to** add noise.

**Before this lesson:** nothing.

| | read | run on CPU | run on GPU |
|---|---|---|---|
| Minutes | 30 | 1 | 0.5 |"""
BUILD = '''def add_noise(schedule, x_0, noise, t):
    """The student reads this."""
    alpha_t, sigma_t = schedule.scales(t, like=x_0)  # scales, not variances
    return alpha_t * x_0 + sigma_t * noise'''
LIBRARY = '''"""Forward."""
import torch
V: "Target" = Target("v", 1)


def add_noise(schedule, x_0: torch.Tensor, noise, t) -> torch.Tensor:
    """x_t = alpha_t * x_0 + sigma_t * noise."""
    require_images(x_0)
    checks._require_time(t)
    alpha_t, sigma_t = schedule.scales(t, like=x_0)
    return alpha_t * x_0 + sigma_t * noise


@dataclass
class Step:
    """One step."""

    t: float

    def __repr__(self):
        """Short."""
        require_images(self.t)
        return "Step"
'''
MODULE = '''def mine(x):
    """The stub has the words."""
    return x  # simply


EXERCISES = {"01.1": declare(mine, probes=some)}
'''
STUB = '''def mine(x):
    """Returns x."""
    return ...


check("01.1", mine)'''
EXERCISE = "### Exercise 01.1 · one jump  ●●○○○ · 8 minutes\nWrite it."
ANSWER = """<details><summary>Hint</summary>

Think of $$a$$.</details>
<details><summary>Solution</summary>

```python
def mine(x):
    return x  # simply
```
</details>"""
ENDING = """## Recap

You should now be able to answer: what is $x_t$, from scratch? Next: [02](02_ideal.ipynb)."""
# The cells' numbers, counted from 1
(
    TITLE,
    INTRO,
    SETUP,
    IMPORTS,
    SECTION,
    NOTES,
    BUILT,
    BETWEEN,
    FIGURE,
    EXERCISE_AT,
    STUB_AT,
    ANSWER_AT,
    RECAP,
    FURTHER,
) = range(1, 15)


def markdown(text, slide="slide"):
    return new_markdown_cell(text, metadata={"slideshow": {"slide_type": slide}})


def code(source, *tags, outputs=(), slide="fragment", **metadata):
    metadata.update(slideshow={"slide_type": slide}, tags=list(tags))
    return new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(text, name="stdout"):
    return new_output("stream", name=name, text=text)


ERROR = new_output("error", ename="ValueError", evalue="", traceback=[])
PICTURE = new_output("display_data", {"text/plain": "<Figure>", "image/png": "/home/0x7fffffffff"})
CELLS = [
    markdown(OPENING),
    markdown(OBJECTIVES),
    code(SET_UP, slide="skip", cellView="form", jupyter={"source_hidden": True}),
    code("import torch\nfrom diffusion_lib.data import digits\n\n%matplotlib inline", slide="skip"),
    markdown("## One jump\n\n$$x_t = \\alpha_t x_0$$\n\n```\n# no heading, [no link](nowhere)\n```"),
    markdown("**Presenting:** *Ask them. 10 minutes with the exercise.*", "notes"),
    code(BUILD, "build:forward.add_noise"),
    markdown("A picture, see [the film](../figures/film.png) and [more](https://example.org)."),
    code("show()", "figure:strip", outputs=[PICTURE, printed("share 0.97\n")]),
    markdown(EXERCISE),
    code(STUB, "exercise:01.1", outputs=[printed("01.1 not attempted yet.\n")]),
    markdown(ANSWER, "skip"),
    markdown(ENDING),
    markdown("## Further reading\n\nHo et al. 2020."),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    for name, text in {
        "pyproject.toml": '[project.urls]\nRepository = "https://github.com/owner/repo"\n',
        "tools/setup_cell.py": SET_UP + "\n",
        "diffusion_lib/forward.py": LIBRARY,
        "diffusion_lib/exercises/lesson_01.py": MODULE,
        "figures/film.png": "",
        "notebooks/02_ideal.ipynb": "{}",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root / "notebooks" / "01_forward.ipynb"


def lesson(change=lambda notebook, cells: None):
    notebook = new_notebook(cells=copy.deepcopy(CELLS))
    cells = notebook.cells
    change(notebook, {k: cell for k, cell in enumerate(cells, 1)})
    count = 0
    for cell in cells:
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = cell.execution_count or count
    return notebook


def replaced(k, old, new):
    """Replaces text in cell k's source."""

    def change(notebook, cells):
        assert old in cells[k].source
        cells[k].source = cells[k].source.replace(old, new)

    return change


def source(k, text):
    return lambda notebook, cells: cells[k].update(source=text)


def outputs(k, *new):
    return lambda notebook, cells: cells[k].update(outputs=list(new))


def tagged(k, *new):
    return lambda notebook, cells: cells[k].metadata.update(tags=list(new))


def metadata(k, **new):
    return lambda notebook, cells: (cells[k] if k else notebook).metadata.update(new)


def inserted(k, cell):
    """Puts a cell before cell k."""
    return lambda notebook, cells: notebook.cells.insert(k - 1, copy.deepcopy(cell))


def deleted(k):
    return lambda notebook, cells: notebook.cells.pop(k - 1)


def built(text, tag):
    def change(notebook, cells):
        source(BUILT, text)(notebook, cells)
        tagged(BUILT, tag)(notebook, cells)

    return change


def without_numbers(notebook, cells):
    outputs(FIGURE, PICTURE, printed("a strip"))(notebook, cells)
    outputs(STUB_AT)(notebook, cells)


# (rule, change, words of the complaint)
BROKEN = [
    ("opening", deleted(TITLE), "the title is []"),
    ("opening", replaced(TITLE, "# 01 ·", "# 02 ·"), "the title is ['02 · Forward noising']"),
    ("opening", replaced(TITLE, "in one line.", "in one line. It works."), "more than one sentence"),
    (
        "opening",
        replaced(TITLE, "Watch a digit dissolve, and compute every stage of it in one line.", ""),
        "no promise",
    ),
    (
        "opening",
        replaced(TITLE, "github/owner", "github/other"),
        "no badge 'Open in Colab' that links to https://colab",
    ),
    (
        "opening",
        replaced(TITLE, "com/owner", "com/other"),
        "no badge 'Open in Kaggle' that links to https://kaggle.com",
    ),
    ("opening", replaced(TITLE, "Open in Kaggle", "Kaggle"), "no badge 'Open in Kaggle'"),
    ("opening", replaced(INTRO, "You will be able to", "Learn to"), "'You will be able to' is missing"),
    ("opening", replaced(INTRO, "Before this lesson", "Before"), "'Before this lesson' is missing"),
    ("opening", replaced(INTRO, "| 0.5 |", "| |"), "no Minutes"),
    ("opening", inserted(TITLE, code("x = 1")), "the first cell is not markdown"),
    ("set_up", replaced(SETUP, "#@title", "# @title"), "differs from the set-up cell of all lessons"),
    ("set_up", replaced(SETUP, "owner", "other"), "does not name https://github.com/owner/repo"),
    ("set_up", metadata(SETUP, cellView="code"), "not folded"),
    ("ending", replaced(RECAP, "## Recap", "## End"), "no `## Recap`"),
    ("ending", replaced(RECAP, "You should now be able to answer", "Answer"), "is missing"),
    ("ending", deleted(FURTHER), "the last section is not `## Further reading`"),
    ("ending", replaced(RECAP, "02_ideal", "02_idea"), "no link to the next lesson near the end; add (02_ideal.ipynb)"),
    ("headings_in_order", replaced(EXERCISE_AT, "### ", "#### "), "jumps from level 2 to 4"),
    ("headings_in_order", inserted(RECAP, markdown("# Again")), "a second `# ` heading"),
    ("words", replaced(BETWEEN, "A picture", "Simply a picture"), "says 'simply'"),
    ("words", replaced(BETWEEN, "A picture", "It is\neasy to see"), "says 'it is easy to see'"),
    ("links", replaced(BETWEEN, "film.png", "movie.png"), "link to ../figures/movie.png, which does not exist"),
    ("links", replaced(BETWEEN, "https://example", "http://example"), "http://example.org is not https"),
    ("links", source(BETWEEN, '<img src="../figures/a.png">'), "link to ../figures/a.png, which does not exist"),
    ("links", source(BETWEEN, "![a](attachment:a.png)"), "attachment:a.png is not attached"),
    ("rhythm", deleted(BETWEEN), "a code cell follows a code cell"),
    ("rhythm", inserted(SECTION, code("y = 2")), "a code cell follows a code cell"),
    ("rhythm", source(BETWEEN, " "), "the cell is empty"),
    ("code_size", source(FIGURE, "x = 1\n" * 26), "26 lines of code, at most 25"),
    ("code_size", source(STUB_AT, "x = 1\n" * 46), "46 lines of code, at most 45"),
    ("code_size", source(BUILT, "x = 1\n" * 46), "46 lines of code, at most 45"),
    ("code_size", source(FIGURE, f"x = {'1' * 117}"), "a line has 121 characters"),
    ("code_size", source(FIGURE, "x ="), "does not parse"),
    ("slides", metadata(BETWEEN, slideshow={}), "slide_type is None"),
    ("slides", deleted(NOTES), "section 'One jump' has no notes cell"),
    ("slides", source(NOTES, "*Ask them. 5 minutes.*"), "a note does not begin with '**Presenting:** '"),
    ("slides", replaced(NOTES, "10 minutes with the exercise", "Soon"), "a note does not end with its minutes"),
    ("slide_size", metadata(TITLE, slideshow={"slide_type": "fragment"}), "the first cell is not a slide"),
    ("slide_size", metadata(FIGURE, slideshow={"slide_type": "skip"}), "code that is not shown does not run in a show"),
    ("slide_size", metadata(SECTION, slideshow={"slide_type": "subslide"}), "a heading begins a slide"),
    ("slide_size", metadata(EXERCISE_AT, slideshow={"slide_type": "-"}), "a heading begins a slide or subslide"),
    ("slide_size", metadata(ANSWER_AT, slideshow={"slide_type": "-"}), "an answer that folds open is shown"),
    ("slide_size", metadata(BETWEEN, slideshow={"slide_type": "-"}), "a second code cell on one slide"),
    ("slide_size", source(BETWEEN, "word " * 91), "91 words on the slide that begins here, at most 90"),
    ("known_tags", tagged(FIGURE, "figures:strip"), "unknown tag 'figures:strip'"),
    ("known_tags", tagged(FIGURE, "nbval-ignore-outputs"), "unknown tag 'nbval-ignore-outputs'"),
    ("known_tags", tagged(BUILT, "build:add_noise"), "unknown tag 'build:add_noise'"),
    ("known_tags", tagged(FIGURE, "check", "check"), "a tag occurs twice"),
    ("run_in_order", lambda notebook, cells: cells[FIGURE].update(execution_count=9), "run as [9], expected [4]"),
    ("run_in_order", outputs(FIGURE, printed("Warning: 1", "stderr")), "stores a warning ('Warning: 1')"),
    ("run_in_order", outputs(FIGURE, ERROR), "stores a ValueError"),
    ("clean_file", metadata(None, widgets={}), "metadata.widgets is stored"),
    ("clean_file", outputs(FIGURE, printed("x" * 1_600_000)), "the file has 1.6 MB, at most 1.5"),
    ("clean_file", outputs(FIGURE, printed("see /home/me/a.png 1")), "an output shows the path '/home/me/a.png'"),
    ("clean_file", outputs(FIGURE, printed("see C:\\Users\\me 1")), "an output shows the path 'C:\\\\Users\\\\me'"),
    ("clean_file", outputs(FIGURE, printed("<Line at 0x7f3a5c0d>")), "the memory address"),
    ("accelerator", metadata(None, accelerator="GPU"), "asks Colab for a GPU"),
    ("figures_have_numbers", without_numbers, "a picture without printed text"),
    (
        "build_then_import",
        replaced(BUILT, "alpha_t * x_0", "alpha_t**2 * x_0"),
        "-    return alpha_t * x_0 + sigma_t * noise\n",
    ),
    ("build_then_import", replaced(BUILT, "def add_noise", "def noising"), "the cell does not define add_noise"),
    ("build_then_import", tagged(BUILT, "build:forwards.add_noise"), "diffusion_lib has no module forwards"),
    ("build_then_import", tagged(BUILT, "build:forward.noising"), "diffusion_lib/forward.py does not define noising"),
    ("build_then_import", built("V = Target('v', 2)", "build:forward.V"), "-Target('v', 1)\n+Target('v', 2)"),
    ("build_then_import", built("class Step:\n    t: float", "build:forward.Step"), "-@dataclass\n"),
    (
        "build_then_import",
        built("class Step:\n    def __repr__(self):\n        return 'step'", "build:forward.Step.__repr__"),
        "+    return 'step'",
    ),
    ("redefinitions", source(FIGURE, "def digits(): pass"), "digits was imported from diffusion_lib in cell 4"),
    ("redefinitions", source(FIGURE, "digits, labels = 1, 2"), "digits was imported from diffusion_lib in cell 4"),
    ("redefinitions", source(FIGURE, "def add_noise(): pass"), "add_noise was defined in cell 7 already"),
    ("formulas_checked", inserted(RECAP, markdown("Then $$y = 1$$")), "no check of this formula in its section"),
    ("formulas_checked", inserted(15, markdown("Then $$y = 1$$")), "no check of this formula below it"),
    ("exercises", replaced(EXERCISE_AT, "01.1", "01.2"), "exercise 01.2 where 01.1 is expected"),
    ("exercises", replaced(EXERCISE_AT, "### Exercise 01.1 ·", "### Exercise"), "write `### Exercise 01.k · name"),
    ("exercises", replaced(EXERCISE_AT, "●●○○○", "●●○○"), "no difficulty"),
    ("exercises", replaced(EXERCISE_AT, "8 minutes", ""), "no minutes"),
    ("exercises", tagged(STUB_AT, "check"), "not a code cell tagged exercise:01.1"),
    ("exercises", replaced(STUB_AT, '"01.1"', '"01.2"'), 'no call check("01.1", ...)'),
    ("exercises", replaced(STUB_AT, "...", "x"), "no stub"),
    ("exercises", replaced(ANSWER_AT, "<details><summary>Hint</summary>", ""), "two <details>"),
    ("exercises", replaced(ANSWER_AT, "Solution", "Answer"), "not called Hint and Solution"),
    ("exercises", deleted(EXERCISE_AT), "tagged exercise:01.1 without a heading"),
    ("solutions_once", replaced(ANSWER_AT, "return x", "return 2 * x"), "-    return x  # simply\n+    return 2 * x"),
    ("solutions_once", replaced(ANSWER_AT, "  # simply", ""), "run `python -m tools.solutions 01`"),
    ("exercises", deleted(EXERCISE_AT), "exercises [] here, ['01.1'] in diffusion_lib.exercises"),
]

# What comes close to breaking a rule and does not
FINE = [
    ("slide_size", source(BETWEEN, "word " * 89 + "$a b c d$ `some code here`")),
    ("slides", replaced(NOTES, "10 minutes with the exercise", "Then 3 minutes")),
    ("code_size", source(STUB_AT, "x = 1\n" * 45)),
    ("run_in_order", lambda notebook, cells: notebook.cells.append(code("y", "raises-exception", outputs=[ERROR]))),
    ("build_then_import", built("V = Target('v', 1)", "build:forward.V")),
    (
        "build_then_import",
        built(
            "@dataclass\nclass Step:\n    t: int\n    def __repr__(self):\n        return 'Step'", "build:forward.Step"
        ),
    ),
    ("build_then_import", built("def __repr__(self):\n    return 'Step'", "build:forward.Step.__repr__")),
    ("redefinitions", built("def digits(): pass", "build:data.digits")),
    ("redefinitions", source(STUB_AT, "def add_noise(): pass")),
    ("clean_file", outputs(FIGURE, printed("../figures/tmp 1/2 and https://x.org/home/a"))),
]


def complaints_of(name, notebook, path):
    return next(rule for rule in RULES if rule.__name__ == name)(notebook, path)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_tiny_lesson_keeps(rule, path):
    assert rule(lesson(), path) == []


@pytest.mark.parametrize("name, change, words", BROKEN)
def test_a_broken_lesson_is_noticed(name, change, words, path):
    complaints = complaints_of(name, lesson(change), path)
    assert any(words in complaint for complaint in complaints), complaints
    assert all(complaint.startswith("lesson 01") for complaint in complaints)


@pytest.mark.parametrize("name, change", FINE)
def test_a_close_call_is_not_a_complaint(name, change, path):
    assert complaints_of(name, lesson(change), path) == []


def test_every_rule_is_tested():
    assert {rule.__name__ for rule in RULES} == {name for name, _, _ in BROKEN}


def test_a_complaint_says_where(path):
    (complaint,) = complaints_of("rhythm", lesson(deleted(BETWEEN)), path)
    assert complaint.startswith("lesson 01, cell 8 (show()): a code cell follows a code cell")


def test_lesson_04_asks_for_a_gpu(path):
    path = path.with_name("04_training.ipynb")
    assert "asks Colab for no GPU" in complaints_of("accelerator", lesson(), path)[0]
    asks = lesson(metadata(None, accelerator="GPU", colab={"gpuType": "T4"}))
    assert complaints_of("accelerator", asks, path) == []

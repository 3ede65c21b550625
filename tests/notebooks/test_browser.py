"""The lessons in a real browser: every control of every lesson is moved, and a lesson is presented as slides.

    python course.py setup browser
    python course.py test -m browser

Each test has a JupyterLab of its own, with a copy of the lesson and settings in a temporary folder. What the page
looked like is kept as pictures (see tests/notebooks/browser.py).
"""

import json
import re

import pytest

from tests.notebooks.browser import ROOT, Notebook, Widget, chromium, jupyterlab, settings_in, wait_until
from tools import presenting

pytestmark = pytest.mark.browser
PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
WHOLE = "00"  # run from top to bottom as a student does; of the others what stands above their controls


def load(path):
    return json.loads(path.read_text(encoding="utf-8"))


def tagged(notebook, tag):
    return [k for k, cell in enumerate(notebook["cells"]) if tag in cell["metadata"].get("tags", [])]


def copy_of(path, folder, keep):
    """A copy of the lesson's first `keep` cells in a folder of its own, without outputs."""
    notebook = load(path)
    notebook["cells"] = notebook["cells"][:keep]
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    folder.mkdir()
    (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")
    return notebook


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.mark.parametrize(
    "path", [path for path in PATHS if tagged(load(path), "widget")], ids=lambda path: path.name[:2]
)
def test_every_control_of_the_lesson_changes_its_picture(path, browser, tmp_path):
    number = path.name[:2]
    widgets = tagged(load(path), "widget")
    notebook = copy_of(path, tmp_path / "lesson", keep=None if number == WHOLE else widgets[-1] + 1)
    last = max(k for k, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code")
    environment = settings_in(tmp_path) | {"COURSE_PRESENTING": "0" if number == WHOLE else "1"}
    options = [f"--ServerApp.root_dir={tmp_path / 'lesson'}"]
    with jupyterlab(environment, options, tmp_path / "server.log") as address:
        lesson = Notebook(browser, address, path.name, f"lesson_{number}")
        try:
            lesson.run_all()
            lesson.wait_for_cells(last)
            lesson.check()
            for k, index in enumerate(widgets):
                widget = Widget(lesson, index)
                lesson.picture(f"controls_{k}_before")
                widget.move_everything()
                lesson.picture(f"controls_{k}_after")
        finally:
            lesson.picture("end")
            lesson.page.close()


# Presenting


class Show:
    """A lesson opened as `course.py present` opens it."""

    def __init__(self, notebook):
        self.notebook, self.page = notebook, notebook.page
        self.page.wait_for_selector("body[data-jp-deck-mode=presenting] .jp-Deck .jp-deck-mod-visible")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def active(self):
        return self.page.evaluate(
            "[...document.querySelectorAll('.jp-Notebook .jp-Cell')].indexOf(document.querySelector('.jp-mod-active'))"
        )

    def seen(self):
        """The numbers of the cells that the audience sees."""
        return self.page.evaluate(
            """[...document.querySelectorAll('.jp-Notebook .jp-Cell')].flatMap((cell, k) => {
              const style = getComputedStyle(cell);
              return style.visibility == 'visible' && style.opacity > 0 && cell.clientHeight > 0 ? [k] : [];
            })"""
        )

    def go(self, key):
        """Presses a key that goes on or back. Returns the active cell, the same as before at the end of the show."""
        before, waited = self.active(), 0
        self.press(key)
        while self.active() == before and waited < 1000:
            self.page.wait_for_timeout(50)
            waited += 50
        self.page.wait_for_timeout(150)  # what comes fades in
        return self.active()

    def box(self, selector):
        return self.page.locator(selector).bounding_box()


@pytest.fixture(params=[(1280, 720), (1920, 1080)], ids=lambda size: f"{size[0]}x{size[1]}")
def show(request, browser, tmp_path):
    environment, options = presenting.prepare(WHOLE, tmp_path)
    with jupyterlab(environment, options, tmp_path / "server.log") as address:
        path = "notebooks/" + PATHS[0].name
        notebook = Notebook(browser, address, path, f"presenting_{request.param[0]}", request.param)
        try:
            yield Show(notebook)
            notebook.check()
        finally:
            notebook.picture("end")
            notebook.page.close()


def test_a_lesson_is_presented(show):
    """From the first slide to the last and back, with long code, a figure and controls on the way."""
    page, height = show.page, show.page.viewport_size["height"]
    lesson = load(PATHS[0])["cells"]
    kinds = [cell["metadata"]["slideshow"]["slide_type"] for cell in lesson]
    shown = {k for k, kind in enumerate(kinds) if kind not in ("notes", "skip")}
    long = next(k for k in sorted(shown) if is_code(lesson[k]) and len(lesson[k]["source"]) > presenting_lines())
    (controls,), (tall,) = tagged({"cells": lesson}, "widget"), tagged({"cells": lesson}, "figure:film_strip")

    assert show.seen() == [0] and show.active() == 0
    show.notebook.picture("first_slide")
    text = page.locator(".jp-deck-mod-visible p").first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
    assert text >= height / 34
    assert not page.locator("#jp-top-panel, .jp-NotebookPanel-toolbar:hover, .jp-Toolbar:hover").first.is_visible()

    seen, active = set(), None
    while active != show.active():
        active = show.active()
        now = show.seen()
        assert active in now and set(now) <= shown, f"cells {now} are seen"
        seen |= set(now)
        if active == long:
            check_long_code(show, long)
        if active == tall:
            run_code(show, tall)
            check_whole(show, show.notebook.cells.nth(tall).locator("img"))
        if active == controls:
            run_code(show, controls)
            move_controls(show, controls)
        before_a_note = kinds[active + 1 : active + 2] == ["notes"]
        show.go("Space" if is_code(lesson[active]) or not before_a_note else "Shift+Enter")
    assert seen == shown, f"never seen: {shown - seen}"
    assert show.go("Shift+Space") < active
    assert shown >= set(show.seen())

    show.press("Escape", "Escape")
    page.wait_for_timeout(500)
    assert page.evaluate("document.body.dataset.jpDeckMode") == "presenting"
    show.press("Shift+P")
    page.wait_for_selector("#jp-menu-panel", state="visible")
    assert page.evaluate("document.body.dataset.jpDeckMode") is None
    show.notebook.cells.nth(tall).locator(".jp-InputPrompt").click()
    show.press("Shift+P")
    page.wait_for_selector("body[data-jp-deck-mode=presenting]", state="attached")
    wait_until(lambda: tall in show.seen() and set(show.seen()) <= shown, "the show goes on where you clicked")


def check_long_code(show, index):
    show.notebook.picture("long_code")
    scroller = show.notebook.cells.nth(index).locator(".cm-scroller")
    size = scroller.evaluate(
        """e => { e.scrollTop = 1e6; return [e.clientHeight, e.scrollHeight, e.scrollTop, e.offsetHeight,
                   e.querySelector('.cm-line').getBoundingClientRect().height,
                   parseFloat(getComputedStyle(e.querySelector('.cm-line')).fontSize)] }"""
    )
    seen, whole, scrolled, outer, line, font = size
    assert presenting_lines() <= seen / line < presenting_lines() + 1 <= whole / line
    assert scrolled > 0
    assert font >= show.page.viewport_size["height"] / 40


def run_code(show, index):
    """Runs the cell in its slide, whether or not cells above have been run. The slide stays."""
    before = show.seen()
    show.press("Shift+Enter")
    show.notebook.wait_for_cells(index)
    assert show.active() == index and show.seen() == before
    show.notebook.check()


def check_whole(show, figure):
    """The figure lies in the window as a whole, is large, and the remote is beside it."""
    figure.wait_for()
    show.page.wait_for_timeout(500)
    box, window, remote = figure.bounding_box(), show.page.viewport_size, show.box(".jp-Deck-Remote")
    assert 0 <= box["x"] and box["x"] + box["width"] <= remote["x"]
    assert 0 <= box["y"] and box["y"] + box["height"] <= window["height"]
    assert box["width"] > window["width"] / 2 or box["height"] > window["height"] / 3


def move_controls(show, index):
    before = show.seen()
    widget = Widget(show.notebook, index)
    widget.settled()
    show.notebook.picture("controls_before")
    widget.move_everything()
    show.notebook.picture("controls_after")
    check_whole(show, widget.below.locator("img"))
    assert show.active() == index and show.seen() == before
    show.notebook.cells.nth(index).focus()


def is_code(cell):
    return cell["cell_type"] == "code"


def presenting_lines():
    """How many lines of code a slide shows at a time, as the style sheet says."""
    style = (ROOT / "tools/presenting.css").read_text(encoding="utf-8")
    return int(re.search(r"--code-lines: (\d+);", style).group(1))

"""JupyterLab in a browser, for test_browser.py: starts both, opens a notebook, moves controls, notes errors.

The browser is Chromium or Chrome: what COURSE_BROWSER names, or what is installed, or what `playwright install
chromium` has fetched. Screenshots go to the folder that BROWSER_ARTEFACTS names, else to browser-artefacts/.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools import ROOT

ARTEFACTS = Path(os.environ.get("BROWSER_ARTEFACTS") or ROOT / "browser-artefacts")
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking")
PATIENCE = 300  # seconds until a wait counts as failed; a busy machine is slow
TOKEN = "only-for-this-test"
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # every cell is in the page, seen or not
}
SERVER_TROUBLE = re.compile(r"Traceback|\[IPKernelApp\] (ERROR|CRITICAL)|^\[[EC] ", re.MULTILINE)


@contextmanager
def chromium():
    """A browser, or a skip that says what to install (a failure where BROWSER_REQUIRED is set)."""
    give_up = pytest.fail if os.environ.get("BROWSER_REQUIRED") else pytest.skip
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        give_up("playwright is not installed: run 'python course.py setup browser'")
    with sync_playwright() as playwright:
        program = os.environ.get("COURSE_BROWSER") or next(filter(None, map(shutil.which, PROGRAMS)), None)
        program = program or playwright.chromium.executable_path
        if not Path(program).exists():
            give_up(
                f"no browser: none of {', '.join(PROGRAMS)} is installed. Install one (Debian: apt install chromium), "
                "run '.venv/bin/playwright install chromium', or set COURSE_BROWSER to a program's path"
            )
        browser = playwright.chromium.launch(executable_path=program, args=list(OPTIONS))
        yield browser
        browser.close()


def settings_in(folder):
    """The environment of a JupyterLab that reads and writes nothing of the user's."""
    for name, value in SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value), encoding="utf-8")
    names = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    return {name: str(folder / value) for name, value in names.items()}


@contextmanager
def jupyterlab(environment, options, log):
    """A JupyterLab server on this machine. Gives its address; at the end its log must be free of trouble."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1", "--no-browser"]
    own += [f"--IdentityProvider.token={TOKEN}", "--allow-root"]
    environment = {**os.environ, "PYTHONUTF8": "1", **environment}
    environment.pop("MPLBACKEND", None)  # the kernel chooses the one that shows figures in the page
    with open(log, "w") as file:
        command = [sys.executable, "-m", "jupyterlab", *options, *own]
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: server.poll() is not None or answers(address), "JupyterLab answers")
            assert server.poll() is None, log.read_text()
            yield address
            said = log.read_text()
            assert not SERVER_TROUBLE.search(said), said
        finally:
            server.terminate()
            server.wait(PATIENCE)


def ask(address, what):
    with urllib.request.urlopen(f"{address}/api/{what}?token={TOKEN}", timeout=PATIENCE) as answer:
        return json.load(answer)


def answers(address):
    try:
        return bool(ask(address, "status"))
    except OSError:
        return False


def wait_until(condition, what):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {PATIENCE} s in vain until {what}")


class Notebook:
    """A notebook open in JupyterLab, its kernel connected. Collects what goes wrong in the page."""

    def __init__(self, browser, address, path, name, size=(1280, 720)):
        self.address, self.name, self.trouble, self.silent = address, name, [], False
        self.page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("console", self.hear)
        self.page.on("websocket", lambda socket: socket.on("framereceived", self.receive))
        outside = re.compile(r"^https?://(?!127\.0\.0\.1)")  # the badges; there may be no network
        self.page.route(outside, lambda route: route.fulfill(content_type="image/svg+xml", body="<svg/>"))
        self.page.goto(f"{address}/lab/tree/{path}?token={TOKEN}", wait_until="domcontentloaded")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        wait_until(self.connected, "the kernel is idle and connected")
        self.cells = self.page.locator(".jp-Notebook .jp-Cell")

    def hear(self, message):
        if message.type == "error":
            self.trouble.append(f"{message.text} ({message.location.get('url')})")

    def receive(self, message):
        """Kernel messages. What a control's function throws, or writes to stderr, may be shown nowhere in the page."""
        message = message.encode() if isinstance(message, str) else message
        if re.search(rb'"msg_type": ?"error"', message) or (self.silent and re.search(rb'"name": ?"stderr"', message)):
            self.trouble.append(message[message.find(b"{") :].decode(errors="replace"))

    def connected(self):
        kernels = [session["kernel"] for session in ask(self.address, "sessions")]
        return any(kernel["execution_state"] == "idle" and kernel["connections"] for kernel in kernels)

    def picture(self, what):
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{self.name}_{what}.png")

    def run_all(self):
        self.page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Run$")).click()
        self.page.get_by_text("Run All Cells", exact=True).click()

    def wait_for_cells(self, last):
        """Waits until cell number `last` has run, or some cell has failed, and nothing runs any more."""
        ready = """last => {
          const prompt = cell => cell.querySelector('.jp-InputArea-prompt')?.textContent.trim() ?? '';
          const cells = [...document.querySelectorAll('.jp-Notebook .jp-Cell')];
          const failed = document.querySelector('.jp-Notebook [data-mime-type="application/vnd.jupyter.error"]');
          return (/^\\[[0-9]+\\]:$/.test(prompt(cells[last])) || failed) && !cells.some(c => prompt(c).includes('*'));
        }"""
        self.page.wait_for_function(ready, arg=last, timeout=5000 * PATIENCE, polling=200)

    def check(self):
        """Nothing has gone wrong in the page so far."""
        errors = self.page.locator('[data-mime-type="application/vnd.jupyter.error"]')
        assert errors.count() == 0, errors.first.text_content()
        assert not self.trouble, self.trouble


class Widget:
    """The output of a cell with controls, and what is drawn below them."""

    def __init__(self, notebook, index):
        self.notebook = notebook
        self.output = notebook.cells.nth(index).locator(".jp-Cell-outputArea")
        self.output.scroll_into_view_if_needed()
        self.below = self.output.locator(".widget-output")

    def shown(self):
        """What stands below the controls: the pictures' data, or the text where there is none; [] while it changes."""
        script = "e => [...e.querySelectorAll('img')].map(i => i.src).concat(e.innerText.trim() || []).filter(Boolean)"
        return self.below.evaluate(script)

    def settled(self):
        """What is shown when it has not changed for a second."""
        last, since = self.shown(), time.monotonic()
        end = since + PATIENCE
        while time.monotonic() < min(since + 1, end):
            time.sleep(0.1)
            now = self.shown()
            if now != last:
                last, since = now, time.monotonic()
        return last

    def changes(self, move, what):
        """Does `move` and asserts that one picture stood here before, another one after, and nothing went wrong."""
        before = self.settled()
        move()
        wait_until(lambda: self.shown() not in (before, []), f"what is shown changes after: {what}")
        after = self.settled()
        assert after != before, f"what is shown is as before after: {what}"
        assert len(before) == len(after) == 1, f"{len(before)} pictures before, {len(after)} after: {what}"
        assert self.output.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0, what
        self.notebook.check()
        return after

    def move_everything(self):
        """Every control in turn: sliders by key and by mouse, menus, boxes, lines of text, players, the canvas."""
        self.settled()
        self.notebook.silent = True  # from here on; before, progress bars were written to stderr
        moved = 0
        for control in self.output.locator(".widget-slider").all():
            self.changes(lambda control=control: self.press_arrow(control), f"arrow key on {self.label(control)}")
            self.changes(lambda control=control: self.drag(control), f"drag of {self.label(control)}")
            moved += 1
        for control in self.output.locator(".widget-dropdown select").all():
            other = control.evaluate("e => (e.selectedIndex + 1) % e.options.length")
            self.changes(lambda control=control, other=other: control.select_option(index=other), "a menu's next item")
            moved += 1
        for control in self.output.locator(".widget-checkbox input").all():
            self.changes(control.click, "a click on a box")
            moved += 1
        for control in self.output.locator(".widget-text input[type=text]").all():
            self.changes(lambda control=control: self.type_into(control), "typing")
            moved += 1
        for control in self.output.locator(".widget-play").all():
            self.changes(lambda control=control: self.play(control), "playing")
            moved += 1
        for control in self.output.locator("canvas").all():
            self.changes(lambda control=control: self.draw(control), "a stroke on the canvas")
            moved += 1
        assert moved, "no control was found"
        return moved

    def label(self, control):
        return control.locator(".widget-label").first.text_content()

    def press_arrow(self, control):
        handle = control.locator(".noUi-handle")
        at_the_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        handle.focus()
        self.notebook.page.keyboard.press("ArrowLeft" if at_the_end else "ArrowRight")

    def drag(self, control):
        """To the half of the slider where the handle is not."""
        track = control.locator(".noUi-base").bounding_box()
        handle = control.locator(".noUi-handle").bounding_box()
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        left = x > track["x"] + track["width"] / 2
        mouse = self.notebook.page.mouse
        mouse.move(x, y)
        mouse.down()
        mouse.move(track["x"] + track["width"] * (0.15 if left else 0.85), y, steps=8)
        mouse.up()

    def type_into(self, control):
        """Another last character, and Enter."""
        text = control.input_value()
        control.fill(text[:-1] + ("1" if text[-1:] != "1" else "2"))
        control.press("Enter")

    def play(self, control):
        play, stop = control.locator("button").nth(0), control.locator("button").nth(1)
        slider = self.output.locator(".noUi-handle")
        before = slider.get_attribute("aria-valuenow")
        play.click()
        wait_until(lambda: slider.get_attribute("aria-valuenow") != before, "the film runs")
        play.click()  # pauses
        assert stop.is_visible()

    def draw(self, control):
        box, mouse = control.bounding_box(), self.notebook.page.mouse
        text = self.output.locator("textarea").input_value()
        mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
        mouse.down()
        mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=8)
        mouse.up()
        assert self.output.locator("textarea").input_value() != text

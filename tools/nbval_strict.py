"""Every stored output of every lesson is compared with a fresh run: a pytest plugin on top of nbval.

    python -m pytest -p tools.nbval_strict --nbval --nbval-current-env notebooks

nbval compares letter by letter, so it fails on a float's last digit and on a warning, and it lets stripped notebooks
pass. Here printed text, results and figures (`<Figure size ... with 2 Axes>`) are compared with the numbers taken out:
the text exactly, integers exactly, floats within 2 % or 0.001. So a number below 0.05 is only known to 0.001; where it
matters, print it as a ratio. stderr, HTML, pictures, widgets and what is shown inside them are not compared.
Cells tagged `nbval-ignore-output` only have to run; cells tagged `raises-exception` have to raise what is stored.

All that can be seen in that one run is seen in it: the seconds of every cell are kept (in pytest's cache, and the
longest are told at the end), an exercise that nobody touched must say so, and nothing may appear beside the lesson.
On several cores (pytest-xdist) the longest lessons begin first.

This leans on nbval's internals: constraints.txt pins nbval, and test_nbval_strict.py tests the plugin.
"""

import functools
import json
import math
import os
import re
import time
from collections import defaultdict
from pathlib import Path
from queue import Empty

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile, find_comment_markers

from tools import ROOT, passed

RELATIVE, ABSOLUTE = 0.02, 1e-3
# These only end what hangs: a slow or busy machine needs its time.
CELL_SECONDS, START_SECONDS, OUTPUT_SECONDS = 1800, 600, 300
NOT_ATTEMPTED = "not attempted yet"
WALKS = {"not all and not browser and not network": "one", "not browser and not network": "all"}  # by pytest's -m
NBVAL_TAGS = {"nbval-ignore-output", "nbval-check-output"}
COMPARED = ("text/plain", "text/markdown", "text/latex")
WIDGET = "application/vnd.jupyter.widget-view+json"
OUTPUTS_COMMAND = "run `python course.py outputs` and commit the result"

NUMBER = re.compile(
    r"""
    (?P<float> (?<![\w.]) [-+]?
        (?: \d+\.?\d*e[-+]?\d+                           # 1e-3, 1.5e-3, 1.e-3
          | \d*\.\d+                                     # 0.5, .5
          | \d+\. (?= [,\])] | [ \t\n]+[-+\[\]\d] )      # 1. as arrays print it, not the end of a sentence
        ) (?! \.?\d )                                    # not the version 2.13.0
      | (?<![a-z_\d]) [-+]? (?: nan | inf ) (?! [a-z_\d] )
    )
  | (?P<integer> (?: (?<!\w) [-+] )? \d+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)


# Comparing two texts


def difference(stored, fresh):
    """Says how `fresh` differs from `stored`, or returns "" if a reader would call them equal."""
    texts = [[part.strip(" \t") for part in NUMBER.sub("\0", text).split("\0")] for text in (stored, fresh)]
    for a, b in zip(*texts):
        if a != b:
            return f"the text differs: stored {shorten(a)}, fresh {shorten(b)}"
    if len(texts[0]) != len(texts[1]):
        return f"{len(texts[0]) - 1} numbers stored, {len(texts[1]) - 1} numbers fresh"
    numbers = zip(NUMBER.finditer(stored), NUMBER.finditer(fresh))
    faults = [(k, number_difference(a, b)) for k, (a, b) in enumerate(numbers, 1)]
    return "\n".join(f"number {k}: {fault}" for k, fault in faults if fault)


def number_difference(stored, fresh):
    a, b = stored.group(), fresh.group()
    both = f"stored {a}, fresh {b}"
    if stored.lastgroup != fresh.lastgroup:
        return f"{both}: the one is an integer, the other a float"
    if stored.lastgroup == "integer":
        return "" if a == b else f"{both}: off by {abs(int(a) - int(b))}, and integers are compared exactly"
    x, y = float(a), float(b)
    if not (math.isfinite(x) and math.isfinite(y)):
        return "" if str(x) == str(y) else both
    if math.isclose(x, y, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
        return ""
    off = f"{both}: off by {abs(x - y):.2g}"
    if x:
        off += f", {abs(x - y) / abs(x):.1%} of the stored number"
    off += f" (allowed: {RELATIVE:.0%} or {ABSOLUTE:g})"
    decimals = len(a.partition(".")[2])
    if "e" not in a.lower() and round(abs(x - y) * 10**decimals) == 1:
        off += "; that is one unit of the last printed digit: print one digit more, or a ratio"
    return off


def shorten(text, width=100):
    return repr(text if len(text) <= width else text[:width] + " ...")


def compared_texts(outputs):
    """{"stdout": [text, ...], "text/plain": [...], ...} of what is compared."""
    texts = defaultdict(list)
    for output in outputs:
        data = output.get("data", {})
        if output["output_type"] == "stream" and output["name"] == "stdout" and output["text"].strip():
            texts["stdout"].append(output["text"])
        elif WIDGET not in data:  # the text beside a widget is its repr, which depends on the version of ipywidgets
            for kind in COMPARED:
                if kind in data:
                    texts[kind].append(data[kind])
    return texts


def error_name(outputs):
    return next((output["ename"] for output in outputs if output["output_type"] == "error"), None)


def indent(text):
    return "\n".join("    " + line for line in text.splitlines())


# pytest


def pytest_addoption(parser):
    parser.addoption(
        "--skip-passed", action="store_true", help="leave out lessons that passed just as they are (never in CI)"
    )
    parser.addoption("--record", metavar="FILE", help="--record=FILE keeps the seconds of a whole run, as JSON")


def pytest_configure(config):
    if config.option.nbval_lax:
        raise pytest.UsageError("tools.nbval_strict compares every output: use --nbval instead of --nbval-lax")
    if config.option.nbval_cell_timeout == 2000:  # nbval's own default
        config.option.nbval_cell_timeout = CELL_SECONDS
    config.option.nbval_kernel_startup_timeout = max(START_SECONDS, config.option.nbval_kernel_startup_timeout)
    if not is_worker(config):
        config.pluginmanager.register(Watch(), "watch of the lessons")


def is_worker(config):
    """Whether this is one of several processes that run tests for pytest-xdist."""
    return hasattr(config, "workerinput")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """On several cores the longest files begin first, so that none is left for the end, when the others are done."""
    if not is_worker(config):
        return
    lessons, seconds = recorded_seconds(), defaultdict(float)
    for item in items:
        if item.path.suffix == ".ipynb":
            seconds[item.path] = lessons.get(item.path.name[:2], 0)
        elif item.get_closest_marker("all"):  # mostly a walk through a lesson
            seconds[item.path] += 20
    items.sort(key=lambda item: -seconds[item.path])


def recorded_seconds():
    """{"04": seconds, ...} as they were last measured."""
    file = ROOT / "diffusion_lib" / "assets" / "measured" / "lessons.json"
    return json.loads(file.read_text(encoding="utf8"))["seconds"] if file.exists() else {}


def record(path, row):
    """Puts a row on a whole run into a file of such rows, in place of the last one of its kind on such a processor."""
    import torch

    from diffusion_lib import measured

    row |= measured.circumstances(torch.device("cpu")) | {"processor": torch.backends.cpu.get_cpu_capability()}
    rows = json.loads(path.read_text(encoding="utf8"))["rows"] if path.exists() else []
    kind = [row[key] for key in ("walks", "processor", "precision")]
    rows = [old for old in rows if [old[key] for key in ("walks", "processor", "precision")] != kind]
    measured.write(path, {"rows": sorted([*rows, row], key=lambda row: (row["walks"], row["processor"]))})


class Watch:
    """What this run's lessons took, and which of them passed whole, from whichever process they come."""

    def __init__(self):
        self.lessons = defaultdict(dict)  # path: {name of the cell: seconds}
        self.whole = {}  # path: (key, number of cells)
        self.failed = set()
        self.begin = time.perf_counter()

    def pytest_runtest_logreport(self, report):
        path, _, cell = report.nodeid.partition("::")
        if not report.passed:
            self.failed.add(path)
        seen = dict(report.user_properties) if report.when == "call" else {}
        if "cell_seconds" in seen:
            self.lessons[path][cell] = round(seen["cell_seconds"], 2)
            self.whole[path] = tuple(seen["lesson"])

    def keys(self):
        """{path: key of the lesson if all its cells passed, else None} of those that ran and have one."""
        whole = {path for path, (_, cells) in self.whole.items() if len(self.lessons[path]) == cells} - self.failed
        return {path: key if path in whole else None for path, (key, _) in self.whole.items() if key}

    def pytest_terminal_summary(self, terminalreporter, exitstatus, config):
        walks = WALKS.get(config.option.markexpr)
        if config.option.record and walks and exitstatus == 0:
            row = {"walks": walks}
            row |= {
                "seconds": round(time.perf_counter() - self.begin),
                "passed": len(terminalreporter.stats.get("passed", [])),
            }
            record(Path(config.option.record), row)
        if not self.lessons:
            return
        if config.pluginmanager.hasplugin("cacheprovider"):
            config.cache.set("lessons/seconds", self.lessons)
            config.cache.set("lessons/passed", config.cache.get("lessons/passed", {}) | self.keys())
        terminalreporter.section("seconds of the lessons in this run")
        for path, cells in sorted(self.lessons.items()):
            longest = max(cells, key=cells.get)
            terminalreporter.write_line(f"{path}: {sum(cells.values()):.1f}, {longest} alone {cells[longest]:.1f}")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    found = yield
    return [StrictNotebook.from_parent(parent, path=file_path) if isinstance(one, IPyNbFile) else one for one in found]


class StrictNotebook(IPyNbFile):
    refused = left_out = False
    key = None  # of the lesson as it is now, where it matters
    stopped = None  # why the remaining cells cannot run

    def collect(self):
        cells = list(super().collect())
        positions = [k for k, cell in enumerate(self.nb.cells, 1) if cell.cell_type == "code"]
        complaints = [f"cell {k}: {why}" for k, item in zip(positions, cells) for why in refusals(item.cell)]
        if complaints:
            self.refused = True
            yield Refused.from_parent(self, name="refused", complaints=complaints)
            return
        if self.config.option.skip_passed and not os.environ.get("CI"):
            self.key = passed.key(self.path)
        if self.key and self.key == self.key_that_passed():
            self.left_out = True
            yield Unchanged.from_parent(self, name="unchanged")
            return
        self.cells = len(cells)
        for k, item in zip(positions, cells):
            yield StrictCell.from_parent(self, name=f"cell {k}", cell_num=k, cell=item.cell, options=item.options)

    def key_that_passed(self):
        """The key of this lesson when it last passed whole, None if it never did."""
        if not self.config.pluginmanager.hasplugin("cacheprovider"):
            return None
        return self.config.cache.get("lessons/passed", {}).get(self.nodeid)

    def setup(self):
        if self.refused or self.left_out:
            return
        self.beside = state(self.path.parent)
        super().setup()
        self.kernel.await_reply = functools.partial(await_reply, self.kernel)
        # With history, as in JupyterLab: only then does a trailing semicolon hide the result.
        self.kernel.execute_cell_input = functools.partial(
            self.kernel.kc.execute, store_history=True, stop_on_error=False
        )
        self.capturing = set()

    def teardown(self):
        super().teardown()
        if self.kernel is not None:
            appeared = sorted(str(name) for name, _ in set(state(self.path.parent).items()) ^ set(self.beside.items()))
            assert not appeared, f"beside {self.path.name}, while it ran, something was written: {', '.join(appeared)}"

    def get_kernel_message(self, timeout=None, stream="iopub"):
        """The next message, leaving out what an Output widget captures (errors are never left out)."""
        while True:
            message = super().get_kernel_message(timeout, stream)
            kind, content = message["msg_type"], message["content"]
            if kind == "comm_msg" and "msg_id" in content["data"].get("state", {}):
                started = bool(content["data"]["state"]["msg_id"])
                (self.capturing.add if started else self.capturing.discard)(content["comm_id"])
            if not (self.capturing and kind in ("stream", "display_data", "execute_result", "clear_output")):
                return message


def state(folder):
    """What lies in a folder: {path: (size, time of the last change)}; what Python and JupyterLab keep apart."""
    kept = [p for p in folder.rglob("*") if not {"__pycache__", ".ipynb_checkpoints"} & set(p.parts) and p.is_file()]
    return {p.relative_to(folder): (p.stat().st_size, p.stat().st_mtime_ns) for p in kept}


class KernelDied(Exception):
    pass


def await_reply(kernel, msg_id, timeout):
    """As nbval's, but notices within a second when there is nobody left to reply."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        try:
            return RunningKernel.await_reply(kernel, msg_id, timeout=1)
        except Empty:
            if not kernel.is_alive():
                raise KernelDied from None
    raise Empty


def refusals(cell):
    """Why comparing this cell would prove nothing."""
    tags = cell.metadata.get("tags", [])
    raises, stored_error = "raises-exception" in tags, error_name(cell.outputs)
    for tag in tags:
        if tag.lower().startswith("nbval") and tag not in NBVAL_TAGS:
            yield f"unknown tag {tag!r}; known are {', '.join(sorted(NBVAL_TAGS))}"
    if any(find_comment_markers(cell.source)):
        yield "a comment tells nbval what to do; use a cell tag, which students do not see"
    if raises and not stored_error:
        yield f"tagged raises-exception, but no error is stored; {OUTPUTS_COMMAND}"
    elif stored_error and not raises:
        yield f"a {stored_error} is stored, but the cell is not tagged raises-exception"
    elif cell.execution_count is None and cell.source.strip() and "nbval-ignore-output" not in tags:
        yield f"committed without having been run, so there is nothing to compare with; {OUTPUTS_COMMAND}"


class Refused(pytest.Item):
    def __init__(self, *, complaints, **kwargs):
        super().__init__(**kwargs)
        self.complaints = complaints

    def runtest(self):
        pytest.fail(f"{self.path.name} was not run:\n" + indent("\n".join(self.complaints)), pytrace=False)

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: refused"


class Unchanged(pytest.Item):
    def runtest(self):
        pytest.skip("passed just as it is, with everything that it depends on; `course.py test --again` runs it")

    def reportinfo(self):
        return self.path, None, f"{self.path.name}: unchanged since it passed"


class StrictCell(IPyNbCell):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.output_timeout = OUTPUT_SECONDS  # between the reply and the last output; nbval's 5 s are short when busy

    def setup(self):
        if self.parent.stopped:
            pytest.skip(self.parent.stopped)

    def runtest(self):
        begin = time.perf_counter()
        try:
            super().runtest()
        except KernelDied:
            self.parent.kernel.stop()
            self.parent.stopped = f"not run: the kernel died in cell {self.cell_num}"
            self.raise_cell_error("The kernel died while running this cell (out of memory, or a crash in native code)")
        finally:
            self.user_properties.append(("cell_seconds", time.perf_counter() - begin))
            self.user_properties.append(("lesson", [self.parent.key, self.parent.cells]))
            if self.parent.timed_out:
                self.parent.stopped = f"not run: cell {self.cell_num} took too long"
        stored, fresh = error_name(self.cell.outputs), error_name(self.test_outputs)
        if self.options["check_exception"] and stored != fresh:
            self.raise_cell_error(f"stored is a {stored}, but this run raised {fresh or 'nothing'}")
        exercise = any(tag.startswith("exercise:") for tag in self.cell.metadata.get("tags", []))
        if exercise and NOT_ATTEMPTED not in "".join(compared_texts(self.test_outputs)["stdout"]):
            self.raise_cell_error(f"an exercise that nobody touched does not say {NOT_ATTEMPTED!r}")

    def compare_outputs(self, test, ref, skip_compare=None):
        stored, fresh = compared_texts(ref), compared_texts(test)
        self.comparison_traceback = []
        for kind in sorted({*stored, *fresh}):
            old, new = stored[kind], fresh[kind]
            if len(old) != len(new):
                fault = f"{len(old)} outputs stored, {len(new)} fresh"
                if not old:
                    fault += f"; if outputs were stripped, {OUTPUTS_COMMAND}"
            else:
                fault = "\n".join(filter(None, map(difference, old, new)))
            if fault:
                lines = [f"{kind}:", indent(fault), "  stored:", *map(indent, old), "  fresh:", *map(indent, new)]
                self.comparison_traceback.append("\n".join(lines))
        return not self.comparison_traceback

"""Every stored output of every lesson is compared with a fresh run: a pytest plugin on top of nbval.

    python -m pytest -p tools.nbval_strict --nbval --nbval-current-env notebooks

nbval compares letter by letter, so it fails on a float's last digit and on a warning, and it lets stripped notebooks
pass. Here printed text, results and figures (`<Figure size ... with 2 Axes>`) are compared with the numbers taken out:
the text exactly, integers exactly, floats within 2 % or 0.001. So a number below 0.05 is only known to 0.001; where it
matters, print it as a ratio. stderr, HTML, pictures, widgets and what is shown inside them are not compared.
Cells tagged `nbval-ignore-output` only have to run; cells tagged `raises-exception` have to raise what is stored.

This leans on nbval's internals: constraints.txt pins nbval, and test_nbval_strict.py tests the plugin.
"""

import functools
import math
import re
import time
from collections import defaultdict
from queue import Empty

import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile, find_comment_markers

RELATIVE, ABSOLUTE = 0.02, 1e-3
CELL_SECONDS = 900  # only against hanging: on one busy core the longest cell takes minutes (nbval's own default: 2000)
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


def pytest_configure(config):
    if config.option.nbval_lax:
        raise pytest.UsageError("tools.nbval_strict compares every output: use --nbval instead of --nbval-lax")
    if config.option.nbval_cell_timeout == 2000:
        config.option.nbval_cell_timeout = CELL_SECONDS


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    found = yield
    return [StrictNotebook.from_parent(parent, path=file_path) if isinstance(one, IPyNbFile) else one for one in found]


class StrictNotebook(IPyNbFile):
    refused = False
    stopped = None  # why the remaining cells cannot run

    def collect(self):
        cells = list(super().collect())
        positions = [k for k, cell in enumerate(self.nb.cells, 1) if cell.cell_type == "code"]
        complaints = [f"cell {k}: {why}" for k, item in zip(positions, cells) for why in refusals(item.cell)]
        if complaints:
            self.refused = True
            yield Refused.from_parent(self, name="refused", complaints=complaints)
            return
        for k, item in zip(positions, cells):
            yield StrictCell.from_parent(self, name=f"cell {k}", cell_num=k, cell=item.cell, options=item.options)

    def setup(self):
        if self.refused:
            return
        super().setup()
        self.kernel.await_reply = functools.partial(await_reply, self.kernel)
        # With history, as in JupyterLab: only then does a trailing semicolon hide the result.
        self.kernel.execute_cell_input = functools.partial(
            self.kernel.kc.execute, store_history=True, stop_on_error=False
        )
        self.capturing = set()

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


class StrictCell(IPyNbCell):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.output_timeout = (
            120  # seconds between the reply and the last output; nbval's 5 are short on a busy machine
        )

    def setup(self):
        if self.parent.stopped:
            pytest.skip(self.parent.stopped)

    def runtest(self):
        try:
            super().runtest()
        except KernelDied:
            self.parent.kernel.stop()
            self.parent.stopped = f"not run: the kernel died in cell {self.cell_num}"
            self.raise_cell_error("The kernel died while running this cell (out of memory, or a crash in native code)")
        finally:
            if self.parent.timed_out:
                self.parent.stopped = f"not run: cell {self.cell_num} took too long"
        stored, fresh = error_name(self.cell.outputs), error_name(self.test_outputs)
        if self.options["check_exception"] and stored != fresh:
            self.raise_cell_error(f"stored is a {stored}, but this run raised {fresh or 'nothing'}")

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

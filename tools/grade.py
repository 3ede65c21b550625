"""Grades students' copies of the lessons: `python course.py grade FILE_OR_FOLDER ...`.

    python -m tools.grade FILE_OR_FOLDER ... [--json FILE] [--seconds 60]

Reads notebooks of any name (folders are searched for *.ipynb) and says of every exercise of their lesson:

    right       the check of the course finds nothing wrong
    wrong       the check's symptom
    untouched   the answer is still `...`
    missing     the exercise's cell is not in the notebook
    broken      the cell stops before its answer is there: the error and the line
    time        the cell, one that it needs, or the check of the answer was not done after --seconds
    full        the kernel was ended on the way because it took more than 4 GB of memory
    died        the kernel ended itself on the way (os._exit, a crash)

An exercise's cell is found by its call check("NN.k", ...), or else by its tag exercise:NN.k; of several the last one
counts. The exercises that should be there, and what of the student's names is checked, are read from the course's own
notebook. If that is untouched or not there and the student's cell passes something else to check, that is graded.

Not the whole lesson is run, but for each exercise, in an empty namespace and in the order of the notebook: the set-up
cell, cells of nothing but imports, cells with a star import or a magic, the cells that define or change the names which
the exercise's cell uses (and what those need in turn; the nearest definition above wins, else the first one below), and
at last the exercise's cell. Of a cell that is still as the course has it only the statements in question are run. So no
exercise spoils another, and no training is waited for. What this cannot see are names that exist only as text (exec,
eval) and settings of other modules (torch.set_num_threads). An error in a cell on the way is noted, and the exercise is
tried all the same. `check` is silent meanwhile; afterwards the grader asks the library for its verdict, with a fixed
seed. Lines that begin with !, %pip or %conda are not run, and no cell of %%bash and the like.

Students' code runs in a kernel of its own for each notebook, in an empty folder, with a time limit, and nowhere else,
but with your rights: to grade people whom you do not trust, do it in a container or on an account of its own. Nor is
there a protection against cheating on purpose: code that runs beside the check can tell the check what it likes. What
cells print is never read, so it can neither pass for a verdict nor fill the memory.

The file of --json is rewritten as a whole after each notebook, so an interrupted run leaves what it had. It holds

    {"seconds": 60.0,                  the limit
     "notebooks": [{"file": "ada.ipynb",
                    "lesson": "01",    null if it could not be read
                    "error": null,     or why it could not be read; then there are no exercises
                    "seconds": 8.1,    what grading it took
                    "exercises": [{"number": "01.1",
                                   "status": "right",    one of the eight words above
                                   "said": "",           symptom or error, in full
                                   "cell": 19,           counted from 1 over all cells; null if missing
                                   "line": null,         of that cell, where it is known
                                   "notes": []}]}],
     "overview": [{"number": "01.1", "right": 1, "wrong": 0, "untouched": 0, "other": 0,
                   "symptoms": [["text", 3]]}]}          of the wrong ones, most frequent first

The exit code is 0 if all could be read, whatever the answers, and 1 if something could not.
"""

import ast
import builtins
import dis
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import Empty

import psutil
from IPython import get_ipython
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import KernelManager
from tqdm import tqdm

from diffusion_lib.files import write_atomically
from tools import ROOT, options

LARGEST_FILE = 200e6  # bytes; a lesson with its pictures has one or two million
START_SECONDS = 600  # a kernel that imports torch on a busy machine
GRACE_SECONDS = 3  # how long an interrupted cell has to say where it was
LARGEST_MEMORY = 4e9  # bytes of a kernel; it ends where a student's loop fills a list for ever
LONGEST_MESSAGE = 2000  # characters of an error's text


class Unreadable(Exception):
    """This is no notebook, or none of this course."""


# ---- reading a notebook


@dataclass
class Cell:
    """One code cell: what it is, which names it needs, and which it binds or changes."""

    place: int  # counted from 1 over all cells of the notebook
    code: str
    tagged: set  # exercise numbers in its tags
    checks: dict = field(default_factory=dict)  # exercise number -> (expression, line) of its calls of check
    binds: set = field(default_factory=set)
    changes: set = field(default_factory=set)  # names[...] = value, names.append(value)
    needs: set = field(default_factory=set)  # while the cell runs
    needs_later: set = field(default_factory=set)  # when a function that it defines is called
    imports: set = field(default_factory=set)
    always: bool = False  # runs before every exercise
    skipped: bool = False  # never runs


def read(path):
    """The code cells of a notebook.

    Raises:
        Unreadable: says why.
    """
    try:
        if not path.is_file():
            raise Unreadable("There is no such file.")
        if path.stat().st_size > LARGEST_FILE:
            raise Unreadable(
                f"It has {path.stat().st_size / 1e6:.0f} MB, more than {LARGEST_FILE / 1e6:.0f}: clear its outputs."
            )
        notebook = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise Unreadable(f"It cannot be opened: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"It is not JSON, as a notebook is: {error}.") from None
    version = notebook.get("nbformat") if isinstance(notebook, dict) else None
    if version is None:
        raise Unreadable("It is JSON, but not a notebook.")
    if version != 4 or not isinstance(notebook.get("cells"), list):
        raise Unreadable(f"It is a notebook of format {version}, and format 4 is expected: save it with JupyterLab.")
    cells = []
    for place, raw in enumerate(notebook["cells"], 1):
        if isinstance(raw, dict) and raw.get("cell_type") == "code":
            source, metadata = raw.get("source", ""), raw.get("metadata")
            source = "".join(map(str, source)) if isinstance(source, list) else str(source)
            tags = metadata.get("tags") if isinstance(metadata, dict) else None
            cells.append(look_at(place, source, [str(tag) for tag in tags] if isinstance(tags, list) else []))
    return cells


def look_at(place, source, tags):
    """A Cell from its source, without running it."""
    source = source.encode("utf-8", "replace").decode()  # half of a surrogate pair cannot be sent to a kernel
    skipped = bool(re.match(r"\s*%%(!|(bash|sh|script|cmd|system|sx|perl|ruby|javascript|js|html|timeit)\b)", source))
    # What takes the time or hides the output is taken away, so that the code under it is read like any other.
    source = re.sub(r"\A(\s*)%%(time|capture)\b.*", r"\1", source)
    source = re.sub(r"^([ \t]*)%time[ \t]+(?=\S)", r"\1", source, flags=re.MULTILINE)
    source = re.sub(r"^([ \t]*)(!|%(pip|conda|mamba|uv|sx|system|timeit)\b).*", r"\1pass", source, flags=re.MULTILINE)
    numbers = {tag.removeprefix("exercise:") for tag in tags if re.fullmatch(r"exercise:\d\d\.\d+", tag)}
    cell = Cell(place, source, numbers, skipped=skipped)
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(TransformerManager().transform_cell(source))
            code = compile(tree, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it will not run; what it was to bind is a guess
        guesses = re.findall(r"^(?:(?:def|class)\s+(\w+)|(\w+)\s*=(?!=))", source, re.MULTILINE)
        cell.binds = {name for guess in guesses for name in guess if name}
        calls = re.finditer(r"""^\s*check\(\s*["'](\d\d\.\d+)["']\s*,(.*)\)""", source, re.MULTILINE)
        cell.checks = {call[1]: (call[2].strip(), None) for call in calls}
        return cell
    read_names(code, cell)
    read_tree(tree, cell)
    setup = "setup" in tags or source.lstrip().startswith("#@title Set-up") or "diffusion_lib.start()" in source
    only_imports = all(isinstance(statement, (ast.Import, ast.ImportFrom)) for statement in tree.body)
    cell.always = not skipped and (setup or only_imports or "*" in cell.imports or "get_ipython" in cell.needs)
    return cell


def read_names(code, cell):
    """Which names a cell binds and needs. The compiler has sorted out what is local, and in which order they come."""
    for instruction in dis.get_instructions(code):
        name = instruction.argval
        if instruction.opname in ("STORE_NAME", "STORE_GLOBAL"):
            cell.binds.add(name)
        elif instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL") and name not in cell.binds:
            cell.needs.add(name)
        elif isinstance(name, types.CodeType):
            read_inner_names(name, cell)
    cell.needs_later -= cell.binds
    cell.needs.discard("check")  # a namespace starts with one


def read_inner_names(code, cell):
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            cell.needs_later.add(instruction.argval)
        elif instruction.opname == "STORE_GLOBAL":
            cell.binds.add(instruction.argval)
        elif isinstance(instruction.argval, types.CodeType):
            read_inner_names(instruction.argval, cell)


def read_tree(tree, cell):
    """What the compiled code does not show: calls of check, imports, and objects that are changed in place."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            cell.imports |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "check":
            number = getattr(node.args[0], "value", None) if len(node.args) == 2 else None
            if isinstance(number, str) and re.fullmatch(r"\d\d\.\d+", number):
                cell.checks[number] = (ast.unparse(node.args[1]), node.lineno)
    outside = list(tree.body)
    while outside:
        node = outside.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        outside += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]
        changed = getattr(node, "targets", None) or [getattr(node, "target", None)]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            changed = [node.value.func]
        for target in changed:
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                while isinstance(target, (ast.Attribute, ast.Subscript)):
                    target = target.value
                cell.changes |= {target.id} if isinstance(target, ast.Name) else set()


def needed(cells, k):
    """Which cells the cell k needs: their indices, in the order of the notebook."""
    imported = set().union(*(cell.imports for cell in cells))
    found, left = set(), [k]
    while left:
        user = left.pop()
        # A function looks its names up when it is called: in its own cell's surroundings, or in those of the exercise.
        wanted = {(name, user) for name in cells[user].needs | cells[user].needs_later}
        wanted |= {(name, k) for name in cells[user].needs_later}
        for name, place in wanted:
            new = definition(cells, name, place, imported) - found - {k}
            found |= new
            left += new
    return sorted(found)


def definition(cells, name, place, imported):
    """The cell that defines a name for the cell at `place`, and those between that change it."""
    defining = [j for j, cell in enumerate(cells) if name in cell.binds and not cell.skipped and j != place]
    above = [j for j in defining if j < place]
    if above:
        between = range(above[-1] + 1, place)
        changing = {j for j in between if name in cells[j].changes and not cells[j].skipped}
        return {above[-1]} | (set() if name in imported else changing)
    return set() if hasattr(builtins, name) else set(defining[:1])


@cache
def course_cells(lesson):
    """The code cells of the course's own notebook."""
    paths = sorted((ROOT / "notebooks").glob(f"{lesson}_*.ipynb"))
    return read(paths[0]) if paths else []


@cache
def course(lesson):
    """{exercise number: the expression that is checked} of the course's own notebook, in its order."""
    cells = course_cells(lesson)
    return {number: cell.checks[number][0] for cell in cells for number in sorted(cell.tagged & set(cell.checks))}


def split(cells, lesson):
    """Puts single statements in place of the cells that the student left as the course has them.

    So a function that a lesson defines in the cell that trains something costs no training. Where a lesson shows how
    check answers, that is no answer of the student.
    """
    shown = {cell.code.strip() for cell in course_cells(lesson) if not cell.tagged and not cell.always}
    result = []
    for cell in cells:
        result += statements(cell) if cell.code.strip() in shown else [cell]
    return result


def statements(cell):
    """A cell for each statement of a cell, which keeps its line; those that define and change nothing are left out."""
    lines, result = cell.code.splitlines(keepends=True), []
    for statement in ast.parse(cell.code).body:
        first = min(node.lineno for node in (statement, *getattr(statement, "decorator_list", [])))
        code = "\n" * (first - 1) + "".join(lines[first - 1 : statement.end_lineno])
        part = look_at(cell.place, code, [])
        part.checks, part.always = {}, "*" in part.imports
        result += [part] * bool(part.binds | part.changes)
    return result


def lesson_of(cells):
    """Number of the lesson that most exercises of a notebook belong to.

    Raises:
        Unreadable: none belongs to a lesson of the course.
    """
    numbers = [number for cell in cells for number in {*cell.checks, *cell.tagged}]
    known = Counter(number[:2] for number in numbers if number in course(number[:2]))
    if not known:
        raise Unreadable(
            'No exercise of the course is in it: no call such as check("01.1", ...), no tag exercise:01.1.'
        )
    return known.most_common(1)[0][0]


# ---- inside the kernel: these are called there, by name, and answer with JSON

library, base = types.SimpleNamespace(), {}


class Silence(io.TextIOWrapper):
    """Where printed text goes. The kernel would keep what it cannot send as fast as it is printed, and IPython keeps
    all of it, with a `write` of its own that it sets here: an endless loop would fill the memory."""

    def __setattr__(self, name, value):
        pass


def begin():
    """Once, before any code of a student: silences check and print, and keeps what a namespace starts with."""
    from diffusion_lib import exercises
    from diffusion_lib.exercises import engine

    library.verdict, library.find, library.Untouched = engine.verdict, engine.find, engine.Untouched
    exercises.check = lambda number, answer: None
    base.update(get_ipython().user_ns, check=exercises.check)
    sys.stdout = sys.stderr = Silence(open(os.devnull, "wb"), encoding="utf-8", errors="replace")
    for descriptor in (1, 2):
        os.dup2(sys.stdout.fileno(), descriptor)


def fresh():
    """An empty namespace, and torch as it starts."""
    import torch

    namespace = get_ipython().user_ns
    namespace.clear()
    namespace.update(base)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.manual_seed(0)
    return json.dumps({})


def judge(number, expression):
    """The verdict on the value of an expression: {"status", "said", "line"}."""
    import torch

    torch.manual_seed(0)
    namespace = get_ipython().user_ns
    try:
        answer = eval(expression, namespace)
    except Exception as error:
        return json.dumps({"status": "broken", "said": f"{message(error)}; {number} checks {expression}", "line": None})
    try:
        symptom = library.verdict(library.find(number), answer)
    except library.Untouched:
        return json.dumps({"status": "untouched", "said": "", "line": None})
    except KeyboardInterrupt as error:
        return json.dumps({"status": "time", "said": "", **where(error, namespace)})
    except BaseException as error:  # SystemExit, and what is not an Exception
        symptom = f"Called by the check, it stops with {message(error)}."
    return json.dumps({"status": "wrong" if symptom else "right", "said": str(symptom or ""), "line": None})


def last_error():
    """Of the cell that has just failed: {"said", "line", "text", "statement"}."""
    error = sys.last_value
    return json.dumps({"said": message(error), **where(error, get_ipython().user_ns)})


def message(error):
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # an error of the student's own making
        text = ""
    return f"{type(error).__name__}: {text[:LONGEST_MESSAGE]}" if text else type(error).__name__


def where(error, namespace):
    """The line of the cell that an error came from, its text, and the line of the cell's statement that led there."""
    import linecache

    frames, step = [], error.__traceback__
    while step:
        if step.tb_frame.f_globals is namespace:
            frames.append((step.tb_frame.f_code.co_filename, step.tb_lineno))
        step = step.tb_next
    own = [(file, line) for file, line in frames if file == frames[0][0]]
    if own:
        return {"line": own[-1][1], "text": linecache.getline(*own[-1]).strip(), "statement": own[0][1]}
    if not isinstance(error, SyntaxError):
        return {"line": None, "text": "", "statement": None}
    return {"line": error.lineno, "text": (error.text or "").strip(), "statement": error.lineno}


# ---- the kernel, from outside


class Stopped(Exception):
    """A kernel did not finish what it was given, and is gone: "time", "full" (of memory) or "died"."""

    def __init__(self, status, line=None, text=""):
        super().__init__(status)
        self.status, self.line, self.text = status, line, text


class Kernel:
    """A Python kernel in an empty folder, started when it is first needed and again after it was stopped.

    It is listened to on the channel of replies only. What cells print and show is never received.
    """

    def __init__(self, seconds):
        self.seconds = seconds
        self.manager = None
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()
        self.folder.cleanup()

    def start(self):
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        changed = {"PYTHONPATH": path, "DIFFUSION_DEVICE": "cpu", "COURSE_PRESENTING": "1"}
        environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"} | changed
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environment, cwd=self.folder.name, **quiet)
        self.client = self.manager.blocking_client()
        self.client.start_channels(iopub=False, stdin=False)
        try:
            started = self.request("import tools.grade\ntools.grade.begin()", START_SECONDS)
        except Stopped as stopped:
            raise RuntimeError(f"the kernel did not start ({stopped.status})") from None
        if started["status"] != "ok":
            raise RuntimeError(f"the kernel cannot load the course: {started['ename']}: {started['evalue']}")

    def stop(self):
        if self.manager:
            self.client.stop_channels()
            self.manager.shutdown_kernel(now=True)
            self.manager.cleanup_resources()
            self.manager = None

    def request(self, code, seconds, answer=None):
        """Runs code, then evaluates an expression. Returns the kernel's reply.

        Raises:
            Stopped
        """
        expressions = {"answer": f"__import__('sys').modules['tools.grade'].{answer}"} if answer else {}
        asked = self.client.execute(
            code, store_history=False, user_expressions=expressions, allow_stdin=False, stop_on_error=False
        )
        reply = self.reply_to(asked, seconds)
        if reply is not None:
            return reply
        self.manager.interrupt_kernel()
        reply = self.reply_to(asked, GRACE_SECONDS)
        if reply is not None and reply["status"] == "error":  # it says where it was
            reply = self.request("", GRACE_SECONDS, "last_error()")
        place = (reply and self.answer_in(reply)) or {}
        self.stop()  # threads of the cell, and interrupts that it swallowed, must not reach what comes next
        raise Stopped("time", place.get("line"), place.get("text", ""))

    def reply_to(self, asked, seconds):
        """The reply to a request, None if there is none in time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                reply = self.client.get_shell_msg(timeout=min(left, 0.2))
            except Empty:
                full = self.memory() > LARGEST_MEMORY
                if full or not self.manager.is_alive():
                    self.stop()
                    raise Stopped("full" if full else "died") from None
                continue
            if reply["parent_header"].get("msg_id") == asked:
                return reply["content"]
        return None

    def memory(self):
        """Bytes that the kernel holds."""
        try:
            return psutil.Process(self.manager.provisioner.pid).memory_info().rss
        except psutil.Error:
            return 0

    @staticmethod
    def answer_in(reply):
        found = reply.get("user_expressions", {}).get("answer", {})
        return json.loads(ast.literal_eval(found["data"]["text/plain"])) if found.get("status") == "ok" else None

    def ask(self, answer, seconds=None):
        """What one of the functions above answers.

        Raises:
            Stopped
        """
        if self.manager is None:
            self.start()
        reply = self.request("", seconds or self.seconds, answer)
        said = self.answer_in(reply)
        if said is None:
            raise RuntimeError(f"the kernel did not understand {answer}: {reply}")
        return said

    def run(self, code):
        """Runs a cell. Returns None, or what `last_error` says.

        Raises:
            Stopped
        """
        if self.request(code, self.seconds)["status"] == "ok":
            return None
        return self.ask("last_error()")


# ---- grading


def graded(number, status, said="", cell=None, line=None, notes=()):
    return {"number": number, "status": status, "said": said, "cell": cell, "line": line, "notes": list(notes)}


def at(line, text):
    return f" (line {line}: {text})" if line and text else f" (line {line})" if line else ""


def grade_exercise(kernel, cells, number, expression, stopped):
    """One exercise of one notebook.

    Args:
        stopped: dict: index of a cell -> (status, words), of cells that ran over their time or ended the kernel; it is
            filled here, so that no such cell is tried twice.
    """
    places = [k for k, cell in enumerate(cells) if number in cell.checks]
    places = places or [k for k, cell in enumerate(cells) if number in cell.tagged]
    if not places:
        return graded(number, "missing", "Its cell is not in the notebook.")
    k, notes = places[-1], []
    cell = cells[k]
    if len(places) > 1:
        notes.append(f"{len(places)} cells hold it, and the last one counts.")
    needs = needed(cells, k)
    before = sorted({j for j, other in enumerate(cells) if other.always and j != k} | set(needs))
    for j in needs:
        if j > k:
            notes.append(f"It uses cell {cells[j].place}, which stands below it.")
        if j in stopped:
            return graded(number, stopped[j][0], stopped[j][1] + ", and this needs it.", cell.place, None, notes)
    again = True
    while again:  # from the start again whenever a cell on the way ended the kernel
        again = False
        kernel.ask("fresh()", START_SECONDS)
        failed = []
        for j in before:
            if j in stopped:
                continue
            try:
                if error := kernel.run(cells[j].code):
                    failed.append(f"Cell {cells[j].place} stops with {error['said'].rstrip('.')}.")
            except Stopped as stop:
                stopped[j] = (stop.status, why(stop, f"Cell {cells[j].place}", kernel.seconds))
                if j in needs:
                    return graded(number, *stopped[j], cell.place, None, notes)
                again = True
                break
    notes += failed + [stopped[j][1] + ", and was left out." for j in before if j in stopped]
    return grade_answer(kernel, cells, k, number, expression, notes)


def grade_answer(kernel, cells, k, number, expression, notes):
    """The exercise that the cell k holds, after all cells that come before it have run.

    Args:
        notes: list of what was noticed so far; more can be added here.
    """
    cell = cells[k]
    try:
        error = kernel.run(cell.code)
    except Stopped as stop:
        said = why(stop, "Its cell", kernel.seconds) + "."
        return graded(number, stop.status, said, cell.place, stop.line, notes)
    own, check_line = cell.checks.get(number, (None, None))
    if error and not (check_line and error["statement"] and error["statement"] >= check_line):
        said = error["said"] + at(error["line"], error["text"])
        return graded(number, "broken", said, cell.place, error["line"], notes)
    if error:
        notes.append(f"After its answer the cell stops with {error['said']}{at(error['line'], error['text'])}.")
    try:
        verdict = kernel.ask(f"judge({number!r}, {expression!r})")
        if verdict["status"] in ("untouched", "broken") and own and same(own) != same(expression):
            verdict = kernel.ask(f"judge({number!r}, {own!r})")
            notes.append(f"Graded is {own}, which the cell passes to check, and not {expression}.")
    except Stopped as stop:
        said = why(stop, "The check of its answer", kernel.seconds) + "."
        return graded(number, stop.status, said, cell.place, stop.line, notes)
    answer_names = {node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)}
    later = [str(other.place) for other in cells[k + 1 :] if other.binds & answer_names]
    if verdict["status"] == "untouched" and later:
        notes.append(f"Cell {' and '.join(later)} below defines {expression} anew, and that is not read.")
    return graded(number, verdict["status"], verdict["said"], cell.place, verdict["line"], notes)


def same(expression):
    return "".join(expression.split())


def why(stop, what, seconds):
    if stop.status == "time":
        return f"{what} is not done after {seconds:g} s{at(stop.line, stop.text)}"
    if stop.status == "full":
        return f"{what} takes more than {LARGEST_MEMORY / 1e9:g} GB of memory"
    return f"{what} ends the kernel, as os._exit does and a crash"


def grade(cells, kernel, on_exercise=lambda: None):
    """All exercises of a notebook's lesson."""
    lesson = lesson_of(cells)
    cells, stopped, results = split(cells, lesson), {}, []
    for number, expression in course(lesson).items():
        results.append(grade_exercise(kernel, cells, number, expression, stopped))
        on_exercise()
    return results


def overview(notebooks):
    """Exercise by exercise: how many are right, wrong, untouched, other; and the symptoms, most frequent first."""
    rows = {}
    for notebook in notebooks:
        for exercise in notebook["exercises"]:
            rows.setdefault(exercise["number"], []).append(exercise)
    result = []
    for number, exercises in sorted(rows.items()):
        counts = Counter(exercise["status"] for exercise in exercises)
        row = {"number": number} | {status: counts.pop(status, 0) for status in ("right", "wrong", "untouched")}
        symptoms = Counter(exercise["said"] for exercise in exercises if exercise["status"] == "wrong")
        result.append(row | {"other": counts.total(), "symptoms": [list(pair) for pair in symptoms.most_common()]})
    return result


# ---- what is printed


def plain(text):
    """One line without control characters: what a student's error says must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))


def paragraph(head, text, width, lines=3):
    """Text beside a head, its further lines indented below its first; cut after so many lines."""
    room = max(20, width - len(head))
    wrapped = textwrap.wrap(plain(text), room, max_lines=lines, placeholder=" ...") or [""]
    return [(head + wrapped[0]).rstrip(), *(" " * len(head) + line for line in wrapped[1:])]


def table(notebook, width):
    """The lines for one notebook."""
    if notebook["error"]:
        return [plain(notebook["file"]), *paragraph("    NOT GRADED  ", notebook["error"], width)]
    exercises = notebook["exercises"]
    right = sum(exercise["status"] == "right" for exercise in exercises)
    title = f"lesson {notebook['lesson']}, {right} of {len(exercises)} right, {notebook['seconds']:.0f} s"
    head = f"{plain(notebook['file'])}   {title}"
    lines = [head] if len(head) <= width else [plain(notebook["file"]), "    " + title]
    for exercise in exercises:
        lines += paragraph(f"    {exercise['number']}  {exercise['status']:<9}  ", exercise["said"], width)
        for note in exercise["notes"]:
            lines += paragraph(" " * 21 + "* ", note, width, lines=2)
    return lines


def overview_table(rows, width):
    lines = ["all notebooks       right  wrong  untouched  other"]
    for row in rows:
        counts = f"{row['right']:>5}  {row['wrong']:>5}  {row['untouched']:>9}  {row['other']:>5}"
        lines.append(f"    {row['number']:<16}{counts}")
    symptoms = [(count, row["number"], text) for row in rows for text, count in row["symptoms"]]
    frequent = sorted(symptoms, key=lambda symptom: -symptom[0])[:10]
    if frequent:
        lines.append("most frequent symptoms")
    for count, number, text in frequent:
        lines += paragraph(f"    {number}  {count:>3} x  ", text, width, lines=2)
    return lines


def find(paths):
    """The notebooks under files and folders, each once. Jupyter's own copies and hidden folders are left out."""
    found = {}
    for path in paths:
        inside = sorted(path.rglob("*.ipynb")) if path.is_dir() else [path]
        if path.is_dir():
            inside = [file for file in inside if not any(p.startswith(".") for p in file.relative_to(path).parts)]
        for file in inside:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def main(arguments=None):
    parser = options.grade()
    given = parser.parse_args(arguments)
    if not given.seconds > 0:
        parser.error(f"--seconds is {given.seconds:g}; a number above 0 is expected")
    files = find(given.paths)
    if not files:
        parser.error(f"no *.ipynb in {', '.join(map(str, given.paths))}")
    notebooks, readable = [], {}
    for file in files:
        entry = {"file": str(file), "lesson": None, "error": None, "seconds": 0.0, "exercises": []}
        notebooks.append(entry)
        try:
            cells = read(file)
            entry["lesson"] = lesson_of(cells)
            readable[len(notebooks) - 1] = cells
        except Unreadable as error:
            entry["error"] = str(error)

    def store():
        if given.json:
            result = {"seconds": given.seconds, "notebooks": notebooks, "overview": overview(notebooks)}
            write_atomically(given.json, json.dumps(result, indent=1) + "\n")

    try:
        store()
    except OSError as error:
        parser.error(f"--json {given.json}: {error.strerror}")
    width = max(60, min(120, shutil.get_terminal_size((100, 24)).columns))
    total = sum(len(course(notebooks[k]["lesson"])) for k in readable)
    with tqdm(total=total, unit="exercise", disable=None, leave=False) as bar:
        for k, entry in enumerate(notebooks):
            if k in readable:
                bar.set_description(Path(entry["file"]).name[:30])
                start = time.perf_counter()
                try:
                    with Kernel(given.seconds) as kernel:
                        entry["exercises"] = grade(readable[k], kernel, bar.update)
                except Exception as error:  # the others are graded all the same
                    entry["error"] = f"The grader failed: {message(error)}."
                entry["seconds"] = round(time.perf_counter() - start, 1)
            tqdm.write("\n".join(table(entry, width)) + "\n")
            store()
    if len(readable) > 1:
        print("\n".join(overview_table(overview(notebooks), width)))
    return int(any(entry["error"] for entry in notebooks))


if __name__ == "__main__":
    sys.exit(main())

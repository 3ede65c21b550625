"""Runs the lessons and stores what they print and show: `python course.py outputs [NN ...]`.

    python -m tools.outputs [NN ...] [--timings FILE]
    python -m tools.outputs [NN ...] --presenting FILE

What is stored is what a reader on GitHub can use and nbval can compare: no progress bars, no time stamps, no widget
state, a line of text where a widget was, and pictures of few colours. A cell whose code is as it was, and that says and
shows the same again (as nbval_strict.py and pictures.py compare), keeps its stored outputs byte for byte: a run that
changes nothing leaves nothing to commit, but for cells that print a time or train by the clock.
A cell tagged `figure:NAME` also writes its picture to figures/NAME.png. Without lesson numbers the demo's picture and
film are written as well. A lesson that fails keeps its old file.
With --presenting nothing is stored but the seconds that a lesson and its longest cell take in front of people.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from base64 import b64decode, b64encode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from diffusion_lib import measured
from diffusion_lib.files import write_atomically
from diffusion_lib.training import best_device
from tools import ROOT, options, pictures, run_lesson
from tools.nbval_strict import difference

CELL_SECONDS = 1800  # ends what hangs
WORTHWHILE = 0.9  # a stored picture is reduced if that leaves less than this share of its bytes
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_NOTE = "<em>Interactive: run the notebook to use it.</em>"
PROGRESS = re.compile(r"\d+%\||\[\d+:\d\d(:\d\d)?[<,]")  # what tqdm prints, with and without a total
KERNELSPEC = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}


class LessonFailed(Exception):
    pass


def execute(path):
    """The notebook at `path`, run from top to bottom in its own folder; the file is left alone."""
    notebook = nbformat.read(path, as_version=4)
    started = []
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        on_cell_start=lambda cell, cell_index: started.append(cell_index),
    )
    os.environ.pop("MPLBACKEND", None)  # the kernel chooses: pictures belong into the notebook
    try:
        client.execute()
    except Exception as error:  # an error in a cell, a cell over its time, a dead kernel
        index = started[-1] if started else 0
        said = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip()
        raise LessonFailed(f"lesson {path.name[:2]}, cell {index + 1}: {type(error).__name__}\n{said}") from None
    return notebook


def clean(notebook):
    """Leaves what is stable and worth reading, in place. Returns complaints about what was taken away unasked."""
    complaints = []
    notebook.nbformat, notebook.nbformat_minor = 4, max(notebook.nbformat_minor, 5)
    notebook.metadata.pop("widgets", None)
    notebook.metadata.kernelspec, notebook.metadata.language_info = dict(KERNELSPEC), dict(LANGUAGE)
    for k, cell in enumerate(notebook.cells, 1):
        cell.setdefault("id", f"cell-{k:03d}")
        for noise in ("execution", "ExecuteTime", "collapsed", "scrolled", "trusted"):
            cell.metadata.pop(noise, None)
        if cell.cell_type != "code":
            continue
        kept = []
        described = iter([alt] if isinstance(alt := cell.metadata.get("alt", []), str) else alt)
        for output in cell.outputs:
            if output.get("name") == "stderr":
                lines = [line for line in re.split(r"[\r\n]+", output.text) if line.strip()]
                warnings = [line for line in lines if not PROGRESS.search(line)]
                complaints += [f"cell {k} wrote to stderr, which is not stored: {line}" for line in warnings[:5]]
                continue
            if WIDGET in output.get("data", {}):
                if PROGRESS.search(output.data.get("text/plain", "")):
                    continue
                output = nbformat.v4.new_output("display_data", data={"text/html": WIDGET_NOTE})
            if "image/png" in output.get("data", {}) and (text := next(described, "")):
                output.metadata["image/png"] = {"alt": text}  # nbviewer and nbconvert look for it here
            kept.append(output)
        cell.outputs = kept
    return complaints


def with_pictures(outputs, change):
    """`outputs`, with every PNG (as bytes) replaced by what `change` makes of it, in place."""
    for output in outputs:
        if "image/png" in output.get("data", {}):
            png = b64decode(output.data["image/png"])
            if (changed := change(png)) != png:
                output.data["image/png"] = b64encode(changed).decode()
    return outputs


def reduced_if_worthwhile(png):
    """A stored picture changes once, and not again with each version of Pillow."""
    smaller = pictures.reduced(png)
    return smaller if len(smaller) < WORTHWHILE * len(png) else png


def keep_what_is_said_again(notebook, stored):
    """Gives a clean, fresh notebook the stored outputs of the cells that are as they were and say the same, in place.

    Counts and alt texts are the fresh ones. Returns the numbers of the cells whose outputs are new.
    """
    before = {cell.get("id"): cell for cell in stored.cells if cell.cell_type == "code"}
    new = []
    for k, cell in enumerate(notebook.cells, 1):
        if cell.cell_type != "code":
            continue
        old = before.get(cell.id)
        if not old or not says_the_same(old, cell):
            new.append(k)
            continue
        for output, fresh in zip(with_pictures(old.outputs, reduced_if_worthwhile), cell.outputs):
            output.update({name: fresh[name] for name in ("execution_count", "metadata") if name in fresh})
        cell.outputs = old.outputs
    return new


def says_the_same(old, new):
    """Whether two cells have the same code, and outputs that a reader would call the same."""
    same_code = old.source == new.source and len(old.outputs) == len(new.outputs)
    return same_code and all(map(same_output, old.outputs, new.outputs))


def same_output(old, new):
    if any(old.get(name) != new.get(name) for name in ("output_type", "name", "ename")):
        return False
    texts = [[output.get("text", ""), output.get("evalue", ""), *output.get("traceback", [])] for output in (old, new)]
    if len(texts[0]) != len(texts[1]) or not all(map(same_text, *texts)):
        return False
    before, after = old.get("data", {}), new.get("data", {})
    return before.keys() == after.keys() and all(same_data(kind, before[kind], after[kind]) for kind in after)


def same_text(old, new):
    """By nbval's comparison, and printed with as many digits."""
    return not difference(old, new) and re.sub(r"\d", "0", old) == re.sub(r"\d", "0", new)


def same_data(kind, old, new):
    if kind == "image/png":
        return pictures.show_the_same(pictures.reduced(b64decode(old)), b64decode(new))
    if kind.startswith("text/"):
        return same_text(old, new)
    return old == new


def figures(notebook):
    """{NAME: PNG bytes} of the cells tagged figure:NAME."""
    found = {}
    for k, cell in enumerate(notebook.cells, 1):
        for tag in cell.metadata.get("tags", []):
            if not tag.startswith("figure:"):
                continue
            name = tag.removeprefix("figure:")
            pictures = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
            if not re.fullmatch(r"[\w-]+", name) or name in found:
                raise LessonFailed(f"cell {k}: the tag {tag!r} is not a new name made of letters, digits, - and _")
            if not pictures:
                raise LessonFailed(f"cell {k} is tagged {tag!r} and shows no picture")
            found[name] = b64decode(pictures[0])
    return found


def store(path, figure_folder):
    """Runs one lesson and stores its outputs and pictures. Returns (seconds, numbers of changed cells, complaints)."""
    stored = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    notebook = execute(path)
    seconds = time.perf_counter() - start
    complaints = clean(notebook)
    for cell in notebook.cells:
        with_pictures(cell.get("outputs", []), pictures.reduced)
    changed = keep_what_is_said_again(notebook, stored)
    shown = figures(notebook)
    nbformat.validate(notebook)
    figure_folder.mkdir(exist_ok=True)
    for name, png in shown.items():
        write_atomically(figure_folder / f"{name}.png", png)
    write_atomically(path, nbformat.writes(notebook).rstrip("\n") + "\n")
    return seconds, changed, complaints


def demo(root):
    """Writes the demo's picture and film to figures/; an old picture that shows the same stays."""
    path = root / "figures" / "digits.png"
    old = path.read_bytes() if path.exists() else b""
    print("writing the demo's picture and film to figures/", flush=True)
    code = subprocess.run([sys.executable, "-m", "diffusion_lib", "--folder", "figures"], cwd=root).returncode
    if code == 0:
        new = pictures.reduced(path.read_bytes())
        same = old and pictures.show_the_same(pictures.reduced(old), new)
        write_atomically(path, reduced_if_worthwhile(old) if same else new)
    return code


def presented(paths):
    """Seconds of each lesson, and of its longest cell, when it is run as it is presented."""
    seconds, longest = {}, {}
    for path in tqdm(paths, unit="lesson", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            notebook, _ = run_lesson.start(path, scratch / "run.ipynb", scratch, COURSE_PRESENTING="1")
        taken = [cell.metadata.seconds for cell in notebook.cells if "seconds" in cell.metadata]
        seconds[path.name[:2]], longest[path.name[:2]] = round(sum(taken), 1), round(max(taken), 1)
        tqdm.write(f"{path.name}: {sum(taken):.1f} s, longest cell {max(taken):.1f} s")
    return {"seconds": seconds, "longest_cell": longest}


def main(arguments=None, root=ROOT):
    parser = options.outputs()
    given = parser.parse_args(arguments)
    paths, chosen = options.lessons(parser, given.lessons, root)

    if given.presenting:
        result = measured.circumstances(best_device()) | presented([paths[number] for number in chosen])
        measured.write(given.presenting, result)
        return 0
    timings, failed = {}, []
    for number in (bar := tqdm(chosen, unit="lesson", disable=None)):
        bar.set_description(paths[number].stem)
        try:
            timings[number], changed, complaints = store(paths[number], root / "figures")
        except LessonFailed as failure:
            failed.append(number)
            tqdm.write(f"{paths[number].name} FAILED, its file is as it was\n{failure}")
        else:
            what = f"new outputs in cells {', '.join(map(str, changed))}" if changed else "all outputs as stored"
            tqdm.write(f"{paths[number].name}: {timings[number]:.1f} s, {what}")
            for complaint in complaints:
                tqdm.write(f"    {complaint}")
    if given.timings:
        seconds = {number: round(value, 1) for number, value in timings.items()}
        result = measured.circumstances(best_device()) | {"seconds": seconds}
        measured.write(given.timings, result)
    if not given.lessons and not failed:
        return demo(root)
    if failed:
        print("failed: lesson", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

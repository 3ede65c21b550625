"""Runs the lessons and stores what they print and show: `python course.py outputs [NN ...]`.

    python -m tools.outputs [NN ...] [--timings FILE]
    python -m tools.outputs [NN ...] --presenting FILE

What is stored is what a reader on GitHub can use and nbval can compare: no progress bars, no time stamps, no widget
state, and a line of text where a widget was. A cell tagged `figure:NAME` also writes its picture to figures/NAME.png.
Without lesson numbers the demo's picture and film are written as well. A lesson that fails keeps its old file.
With --presenting nothing is stored but the seconds that a lesson and its longest cell take in front of people.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from tqdm import tqdm

from diffusion_lib.measured import circumstances
from diffusion_lib.training import best_device
from tools import ROOT, run_lesson

CELL_SECONDS = 900  # only against hanging
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


def write(path, content):
    """All or nothing: an interrupted run leaves the old file."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def store(path, figure_folder):
    """Runs one lesson and stores its outputs and pictures. Returns (seconds, complaints)."""
    start = time.perf_counter()
    notebook = execute(path)
    seconds = time.perf_counter() - start
    complaints = clean(notebook)
    pictures = figures(notebook)
    nbformat.validate(notebook)
    figure_folder.mkdir(exist_ok=True)
    for name, png in pictures.items():
        write(figure_folder / f"{name}.png", png)
    write(path, (nbformat.writes(notebook).rstrip("\n") + "\n").encode("utf-8"))
    return seconds, complaints


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
    parser = argparse.ArgumentParser(prog="python course.py outputs", description=__doc__.split("\n")[0])
    parser.add_argument("lessons", nargs="*", metavar="NN", help="lesson numbers; all lessons if none is given")
    parser.add_argument("--timings", type=Path, metavar="FILE", help="write machine, date and seconds as JSON")
    parser.add_argument("--presenting", type=Path, metavar="FILE", help="only time the lessons as they are presented")
    options = parser.parse_args(arguments)
    paths = {path.name[:2]: path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    chosen = [number.zfill(2) for number in options.lessons] or list(paths)
    if unknown := [number for number in chosen if number not in paths]:
        parser.error(f"no lesson {', '.join(unknown)}; there are {', '.join(paths)}")

    if options.presenting:
        result = circumstances(best_device()) | presented([paths[number] for number in chosen])
        write(options.presenting, (json.dumps(result, indent=1) + "\n").encode())
        return 0
    timings, failed = {}, []
    for number in (bar := tqdm(chosen, unit="lesson", disable=None)):
        bar.set_description(paths[number].stem)
        try:
            timings[number], complaints = store(paths[number], root / "figures")
        except LessonFailed as failure:
            failed.append(number)
            tqdm.write(f"{paths[number].name} FAILED, its file is as it was\n{failure}")
        else:
            tqdm.write(f"{paths[number].name}: {timings[number]:.1f} s")
            for complaint in complaints:
                tqdm.write(f"    {complaint}")
    if options.timings:
        seconds = {number: round(value, 1) for number, value in timings.items()}
        result = circumstances(best_device()) | {"seconds": seconds}
        write(options.timings, (json.dumps(result, indent=1) + "\n").encode())
    if not options.lessons and not failed:
        print("writing the demo's picture and film to figures/", flush=True)
        return subprocess.run([sys.executable, "-m", "diffusion_lib", "--folder", "figures"], cwd=root).returncode
    if failed:
        print("failed: lesson", ", ".join(failed))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())

"""The command line of every tool, from the standard library alone: nothing has to be installed to read it.

python -m tools.options COMMAND     prints the help of slides, grade, check or outputs
"""

import argparse
import sys
from pathlib import Path


def parser(command, description, example):
    return argparse.ArgumentParser(
        prog=f"python course.py {command}", description=description, epilog=f"example: python course.py {example}"
    )


def slides():
    made = parser("slides", "Builds a hand-out per lesson, one HTML file that needs no network.", "slides 05 --notes")
    made.add_argument("lessons", nargs="*", metavar="NN", help="lesson numbers; all lessons if none is given")
    made.add_argument(
        "--notes", action="store_true", help="also write NN_notes.html, for the presenter's second screen"
    )
    made.add_argument("--folder", type=Path, default=Path("slides"), help="where to (default: slides)")
    return made


def grade():
    what = "Grades students' copies of the lessons: every exercise untouched, wrong (with its symptom) or right."
    made = parser("grade", what, "grade submissions/ --json grades.json")
    made.add_argument("paths", nargs="+", type=Path, metavar="FILE_OR_FOLDER", help="notebooks, or folders of them")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the grades as JSON too")
    made.add_argument("--seconds", type=float, default=60, help="limit for a cell and for a check (default 60)")
    return made


def check():
    what = "Checks one lesson: the rules of its notebook, the tests of its exercises, its stored outputs."
    made = parser("check", what, "check 05")
    made.add_argument("lessons", nargs=1, metavar="NN", help="the lesson's number")
    return made


def outputs():
    what = "Runs lessons and stores what they print and show; what a cell says again keeps its stored bytes."
    made = parser("outputs", what, "outputs 05")
    made.add_argument("lessons", nargs="*", metavar="NN", help="lesson numbers; all lessons if none is given")
    made.add_argument("--timings", type=Path, metavar="FILE", help="write machine, date and seconds as JSON")
    made.add_argument("--presenting", type=Path, metavar="FILE", help="only time the lessons as they are presented")
    return made


def lessons(parser, numbers, root):
    """({number: path} of all lessons, the numbers that are meant); one that does not exist ends the program."""
    paths = {path.name[:2]: path for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))}
    chosen = [number.zfill(2) for number in numbers] or list(paths)
    if unknown := [number for number in chosen if number not in paths]:
        parser.error(f"no lesson {', '.join(unknown)}; there are {', '.join(paths)}")
    return paths, chosen


COMMANDS = {"slides": slides, "grade": grade, "check": check, "outputs": outputs}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]]().print_help()

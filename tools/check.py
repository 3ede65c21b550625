"""One lesson in a minute: `python course.py check NN`.

    python -m tools.check NN

The rules are those of rules.py. The tests of its exercises are those of tests/exercises that name the lesson: solved,
untouched, with every known slip. Its outputs are compared with a fresh run, by nbval_strict.py. The last two run at the
same time. A verdict of three lines comes first, then whatever is not right.
"""

import subprocess
import sys

from tools import ROOT, options, rules

PYTEST = [sys.executable, "-m", "pytest", "-q", "--no-header", "--tb=short", "-p", "no:cacheprovider"]
NAMED = "{0}. or lesson_{0} or _{0}.py"  # test_...[05.1], test_..._of_lesson_05_..., test_exercises_05.py
NO_TESTS = 5  # pytest's exit code if it was to run nothing


def start(*arguments):
    return subprocess.Popen(
        [*PYTEST, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def broken_rules(path):
    """What the rules have to say about a lesson, a complaint a line."""
    notebook = rules.read(path)
    return [complaint for rule in rules.RULES for complaint in rule(notebook, path)]


def main(arguments=None, root=ROOT):
    parser = options.check()
    paths, (number,) = options.lessons(parser, parser.parse_args(arguments).lessons, root)
    path = paths[number]
    print(f"checking {path.name}: its rules, its exercises and its outputs", flush=True)
    running = {"exercises": start("tests/exercises", "-k", NAMED.format(number)), "outputs": start(str(path))}
    complaints = broken_rules(path)
    faults = {"rules": "\n".join(complaints)} if complaints else {}
    print(f"rules       {len(complaints) or 'no'} complaint{'s' * (len(complaints) != 1)}", flush=True)
    for name, process in running.items():
        said, _ = process.communicate()
        lines = said.strip().splitlines() or ["pytest said nothing"]
        print(f"{name:<12}{lines[-1]}", flush=True)
        if process.returncode not in (0, NO_TESTS):
            faults[name] = "\n".join(lines)
    for name, text in faults.items():
        print(f"\n---- {name}\n{text}")
    if faults:
        print(f"\nlesson {number} is not right yet: {', '.join(faults)}. Where a new output is the right one: "
              f"python course.py outputs {number}")  # fmt: skip
    else:
        print(f"lesson {number} is right")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

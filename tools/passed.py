"""Which lessons have passed just as they are, so that a run on your own machine need not repeat them.

A lesson's key is a hash over everything that its run depends on: the notebook with its stored outputs, every module of
diffusion_lib that it imports (and those that these import, wherever in a function), data, weights and committed
results, the tested versions, Python, the processor and its features, threads, and what the environment says to the
course. tools/nbval_strict.py keeps the keys of lessons that passed whole in pytest's cache. CI never looks at them, nor
does `course.py test --all`; `course.py test --again` does not either.
"""

import ast
import hashlib
import os
import platform
import shutil
import sys
from functools import cache
from pathlib import Path

from tools import ROOT
from tools.rules import parse, read

LIBRARY = ROOT / "diffusion_lib"
VARIABLES = ("DIFFUSION_DEVICE", "COURSE_PRESENTING", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPATH")


def key(path):
    """A hash (hex) over everything that the run of this lesson (a path) depends on."""
    trees = [tree for cell in read(path).cells if cell.cell_type == "code" and (tree := parse(cell))]
    names = set().union(*(imported(tree, "") for tree in trees), {"diffusion_lib", "diffusion_lib.exercises"})
    names.add(f"diffusion_lib.exercises.lesson_{path.name[:2]}")  # `check` looks it up by its number
    digest = hashlib.sha256(surroundings().encode())
    for file in sorted({path, ROOT / "tools" / "nbval_strict.py", *closure(names)}):
        digest.update(file.as_posix().encode() + contents(file))
    return digest.hexdigest()


def closure(names):
    """The files of the modules of diffusion_lib with these names, and of all that these import."""
    files, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        file = module_file(name)
        if file is not None and file not in files:
            files.add(file)
            package = name if file.name == "__init__.py" else name.rpartition(".")[0]
            waiting += imported(ast.parse(contents(file)), package)
    return files


def imported(tree, package):
    """Names of what is imported anywhere in a tree from diffusion_lib: modules, and names that may be modules."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    whole = {".".join(name.split(".")[: k + 1]) for name in found for k in range(name.count(".") + 1)}
    return {name for name in whole if name.split(".")[0] == "diffusion_lib"}


def module_file(name):
    """The file of a module or package of diffusion_lib, None if there is none."""
    place = ROOT.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)


@cache
def contents(file):
    """A file's bytes, read once in a run."""
    return Path(file).read_bytes()


@cache
def surroundings():
    """All that is not the lesson's own and may change what it prints, as a text."""
    digest = hashlib.sha256()
    for file in sorted(file for folder in ("assets", "weights") for file in (LIBRARY / folder).rglob("*")):
        if file.is_file():
            digest.update(file.relative_to(ROOT).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest())
    digest.update(contents(ROOT / "constraints.txt"))
    features = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else platform.processor()
    lines = {line for line in features.splitlines() if line.startswith(("flags", "model name", "Features"))}
    machine = [sys.version, sys.prefix, platform.platform(), os.cpu_count(), sorted(lines), shutil.which("nvidia-smi")]
    return digest.hexdigest() + repr(machine) + repr([os.environ.get(name) for name in VARIABLES])

"""One name, one meaning: no public function or class is defined in two modules of the library."""

import ast
from collections import defaultdict

import pytest

from tools import ROOT

PACKAGE = ROOT / "diffusion_lib"
# A lesson's exercises are a world of their own: their answers and slips are named after what they are in that lesson.
LIBRARY = [p for p in sorted(PACKAGE.rglob("*.py")) if not {"exercises", "assets"} & set(p.relative_to(PACKAGE).parts)]
SHARED = {  # name: why it may stand in two modules
    "main": "the entry of a command: the demo, the experiments",
    "digits": "data.digits is the data, pretrained.digits the model of them; both are named with their module",
    "emoji": "as digits",
    "sums": "as digits",
    "text": "as digits",
}


def defined(source):
    """The public functions and classes at the top of a module."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [n.name for n in ast.parse(source).body if isinstance(n, kinds) and not n.name.startswith("_")]


def defined_twice(sources):
    """{name: modules} for the names that several of these modules {name: source} define."""
    found = defaultdict(list)
    for module, source in sources.items():
        for name in defined(source):
            found[name].append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_no_name_means_two_things():
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf8") for path in LIBRARY}
    assert {"training.py", "experiments/bench.py"} <= set(sources)
    twice = defined_twice(sources)
    assert not {name: modules for name, modules in twice.items() if name not in SHARED}
    assert set(SHARED) <= set(twice), "an exception that nobody needs any more"


@pytest.mark.parametrize("kind", ["def fit(a):", "async def fit(b):", "class fit:"])
def test_a_name_with_two_meanings_is_noticed(kind):
    sources = {"a.py": f"{kind}\n    pass\n", "b.py": "def fit():\n    pass\n\ndef _own():\n    pass\n"}
    assert defined_twice(sources) == {"fit": ["a.py", "b.py"]}
    assert not defined_twice({"a.py": "def f():\n    def fit():\n        pass\n", "b.py": sources["b.py"]})

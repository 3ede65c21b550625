"""What is installed: the wheel's contents, what an import brings along, who may import whom, no pickle."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tools import ROOT

PACKAGE = ROOT / "diffusion_lib"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
MODULES = sorted(PACKAGE.rglob("*.py"))
# Scripts that made the shipped data; they are read, not imported.
LIBRARY = [path for path in MODULES if path.parent.name not in ("assets", "weights")]
# What a training script imports: everything but pictures, widgets and exercises.
QUIET = ["diffusion_lib"] + [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in LIBRARY
    if path.parent.name != "exercises" and path.stem not in ("__init__", "__main__", "plots", "widgets")
]


def run(code, *arguments, cwd, **environment):
    """What `code` prints in a fresh Python, as JSON."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | environment
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def imports(path):
    """The modules that a file imports anywhere in it, as dotted names: "numpy", "diffusion_lib.forward", ..."""
    package = ("diffusion_lib", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            if module.split(".")[0] == "diffusion_lib":  # `from diffusion_lib import data` imports a module, too
                yield from (f"{module}.{name.name}" for name in node.names)


def siblings(path):
    """The modules and subpackages of diffusion_lib that a file imports: {"forward", "schedules", ...}."""
    names = {part[1] for part in (name.split(".") for name in imports(path)) if part[0] == "diffusion_lib" and part[1:]}
    return {name for name in names if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name / "__init__.py").exists()}


# The wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The built wheel, unpacked: what is inside ("names"), where it lies ("folder"), the wheel's bytes ("size")."""
    checkout, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    shutil.copytree(PACKAGE, checkout / "diffusion_lib", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-w", built]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = built.glob("diffusion_lib-*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(built / "unpacked")
        return {"names": set(archive.namelist()), "folder": built / "unpacked", "size": file.stat().st_size}


def test_the_wheel_carries_code_data_weights_and_notices(wheel):
    expected = {path.relative_to(ROOT).as_posix() for path in LIBRARY}
    for folder in ("assets", "weights"):
        kinds = (".npz", ".safetensors", ".json", ".md", ".txt")
        files = [path for path in (PACKAGE / folder).rglob("*") if path.suffix in kinds]
        assert {".npz", ".safetensors"} & {path.suffix for path in files}, f"nothing is shipped in {folder}/"
        expected |= {path.relative_to(ROOT).as_posix() for path in files}
    assert {"diffusion_lib/assets/digits.npz", "diffusion_lib/assets/measured/headline.json"} <= expected
    assert {"diffusion_lib/assets/text.txt", "diffusion_lib/assets/LICENSE-PSF.txt"} <= expected
    assert any(name.startswith("diffusion_lib/exercises/") for name in expected)
    assert expected <= wheel["names"], expected - wheel["names"]
    assert any(name.endswith("/LICENSE") for name in wheel["names"])
    assert not any(name.startswith(("tests/", "notebooks/", "course")) for name in wheel["names"])
    assert wheel["size"] < 15e6


def test_the_unpacked_wheel_works_without_the_repository(wheel, tmp_path):
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import diffusion_lib
from diffusion_lib import data
x_0 = data.digits()[0]
numbers = [list(x_0.shape), float(x_0.min()), float(x_0.max())]
print(json.dumps([diffusion_lib.__file__, diffusion_lib.__version__, *numbers]))
"""
    file, version, shape, low, high = run(code, wheel["folder"], cwd=tmp_path)
    assert Path(file).is_relative_to(wheel["folder"]) and version == PROJECT["version"]
    assert shape[1:] == [1, 28, 28] and (low, high) == (-1, 1)


# What an import brings along


@pytest.fixture(scope="module")
def brought(tmp_path_factory):
    """The modules that importing all of QUIET adds to torch and numpy, the standard library aside."""
    code = """
import importlib, json, sys
import numpy, torch
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps([name for name in set(sys.modules) - before if name.split(".")[0] not in sys.stdlib_module_names]))
"""
    return run(code, *QUIET, cwd=tmp_path_factory.mktemp("elsewhere"), PYTHONPATH=str(ROOT))


def test_plots_and_widgets_come_in_only_when_used(brought):
    """Neither the package nor any of its modules but these two brings a plotting or notebook library along."""
    assert "diffusion_lib.schedules" in brought and "diffusion_lib.plots" not in brought
    heavy = {"matplotlib", "ipywidgets", "IPython", "diffusers", "scipy", "sklearn", "pandas", "torchvision", "sympy"}
    assert not heavy & {name.split(".")[0] for name in brought}


def test_the_library_starts_none_of_torch_s_slow_parts(brought):
    """Compilers, exporters and the like take longer to import than torch itself; who uses one imports it there."""
    slow = ("torch._dynamo", "torch._inductor", "torch.onnx", "torch.export", "torch.distributed", "torch.fx")
    assert not [name for name in brought if name.startswith(slow)]


def test_only_what_colab_preloads_is_imported():
    spelled = {"pillow": "PIL"}
    named = {re.split(r"[<>=]", requirement)[0] for requirement in PROJECT["dependencies"]}
    allowed = {spelled.get(name, name) for name in named} | {"diffusion_lib", *sys.stdlib_module_names}
    for path in MODULES:
        extra = {name.split(".")[0] for name in imports(path)} - allowed
        if path.name == "widgets.py":
            extra -= {"IPython"}  # comes with ipywidgets
        assert not extra, f"{path.name} imports {extra}"


# Who may import whom

CHAIN = {
    "schedules": 0,
    "forward": 1,
    "targets": 2,
    "denoisers": 3,
    "guidance": 4,
    "samplers": 4,
    "adapters": 4,
    "editing": 5,
    "tokens": 5,
}
IGNORANT = {"networks", "training", "data", "metrics", "costs", "rivals"}
LEAVES = {"plots", "widgets"}
# These use all of the others, and each other in this order: a recipe knows nothing of the weights that came of it.
ON_TOP = {"measured": 0, "recipes": 0, "pretrained": 1, "session": 1, "experiments": 2, "exercises": 3}
ON_TOP |= {"__main__": 3, "__init__": 3}


def import_faults(importer, imported):
    """Why `importer` may not import each of `imported`."""
    for name in sorted(imported):
        if importer in CHAIN and name in CHAIN and CHAIN[name] >= CHAIN[importer]:
            yield f"{importer} imports {name}, which comes later or beside it"
        elif importer in IGNORANT and name in {*CHAIN, *ON_TOP}:
            yield f"{importer} imports {name}, but it knows nothing of diffusion"
        elif importer in CHAIN and name in {*IGNORANT, *ON_TOP}:
            yield f"{importer} imports {name}, but the core works with any network and any data"
        elif importer in ON_TOP and name in ON_TOP and ON_TOP[name] >= ON_TOP[importer]:
            yield f"{importer} imports {name}, which stands on it or beside it"
        elif name in LEAVES and importer not in {*LEAVES, "session", "__main__", "exercises"}:
            yield f"{importer} imports {name}, which is for lessons only"
        elif importer not in {*CHAIN, *IGNORANT, *LEAVES, *ON_TOP} and name in {*CHAIN, *IGNORANT, *LEAVES, *ON_TOP}:
            yield f"{importer} is a helper that all may import, so it imports none of them, but it imports {name}"


def test_imports_go_one_way():
    assert {path.stem for path in LIBRARY} >= {"schedules", "forward", "targets", "denoisers", "samplers", "networks"}
    for path in LIBRARY:
        importer = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        assert not list(import_faults(importer, siblings(path) - {importer})), path
        used = {name.split(".")[0] for name in imports(path)}
        assert "matplotlib" not in used or importer == "plots", f"{path.name} imports matplotlib; only plots may"
        assert "ipywidgets" not in used or importer == "widgets", f"{path.name} imports ipywidgets; only widgets may"


@pytest.mark.parametrize(
    "importer, imported",
    [
        ("schedules", "forward"),
        ("samplers", "guidance"),
        ("tokens", "networks"),
        ("denoisers", "networks"),
        ("training", "schedules"),
        ("data", "pretrained"),
        ("samplers", "plots"),
        ("pretrained", "widgets"),
        ("recipes", "pretrained"),
        ("pretrained", "experiments"),
        ("measured", "recipes"),
        ("rivals", "denoisers"),
        ("helpers", "forward"),
    ],
)
def test_an_import_the_wrong_way_is_noticed(importer, imported):
    assert list(import_faults(importer, {imported}))


def test_allowed_imports_pass():
    for importer, imported in [
        ("samplers", {"schedules", "forward", "helpers"}),
        ("editing", {"samplers", "guidance"}),
        ("tokens", {"schedules", "forward", "samplers"}),
        ("pretrained", {"recipes", "denoisers", "networks", "data", "training"}),
        ("experiments", {"rivals", "recipes", "pretrained", "measured", "files"}),
        ("session", {"plots", "training", "measured"}),
        ("widgets", {"plots", "forward", "data"}),
        ("exercises", {"plots", "samplers", "data"}),
    ]:
        assert not list(import_faults(importer, imported)), importer


def test_every_form_of_import_is_seen(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "diffusion_lib")
    (tmp_path / "diffusion_lib" / "exercises").mkdir(parents=True)
    for name in ("a", "b", "c", "d", "e"):
        (tmp_path / "diffusion_lib" / f"{name}.py").touch()
    forms = "from . import a\nfrom .b import x\nimport diffusion_lib.c\ndef f():\n    from diffusion_lib import d\n"
    (tmp_path / "diffusion_lib" / "user.py").write_text(forms)
    assert siblings(tmp_path / "diffusion_lib" / "user.py") == {"a", "b", "c", "d"}
    inside = tmp_path / "diffusion_lib" / "exercises" / "lesson.py"
    inside.write_text("from .. import a\nfrom ..b import x\nfrom ..d import *\nfrom . import helper\n")
    assert siblings(inside) == {"a", "b", "d"}


# No pickle


def code_of(path):
    """A file's Python; of a notebook the code cells, without lines that are not Python."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell, flags=re.MULTILINE) for cell in cells)


def pickle_uses(code):
    """Lines that read or write pickles: files whose loading can run any code."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name.name for name in node.names] + [getattr(node, "module", None) or ""]
            if {"pickle", "dill", "cloudpickle", "joblib", "shelve"} & {name.split(".")[0] for name in names}:
                yield node.lineno
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) in ("torch.load", "torch.save"):
                yield node.lineno
            if any(key.arg == "allow_pickle" and ast.unparse(key.value) != "False" for key in node.keywords):
                yield node.lineno


def test_nothing_reads_or_writes_pickles():
    files = [
        *ROOT.glob("*.py"),
        *MODULES,
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "tools").glob("*.py"),
        *(ROOT / "notebooks").glob("*.ipynb"),
    ]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in pickle_uses(code_of(path))]
    assert not found


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from pickle import loads", "import torch\ntorch.load('x')", "np.load('x', allow_pickle=True)"],
)
def test_a_pickle_is_noticed(code):
    assert list(pickle_uses(code))


def test_what_is_not_a_pickle_passes():
    assert not list(pickle_uses("np.load('x', allow_pickle=False)\nload_file('x')\nsay('never torch.load( a pickle')"))


# One place names the repository


def test_every_link_to_the_repository_is_the_one_in_pyproject():
    slug = REPOSITORY.removeprefix("https://github.com/")
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", slug)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert notebooks
    hosts = r"(?:colab\.research\.google\.com/github|codespaces\.new|raw\.githubusercontent\.com|mybinder\.org/v2/gh)"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *notebooks):
        text = path.read_text(encoding="utf-8")
        links = re.findall(hosts + r"/([\w.-]+/[\w.-]+)", text)
        links += re.findall(r"github\.com/([\w.-]+/[\w.-]+?)(?:\.git\b|/(?:blob|tree|raw|actions)/)", text)
        assert links, f"{path.name} has no badge"
        assert set(links) == {slug}, path.name
    for path in notebooks:
        assert REPOSITORY in code_of(path), f"the set-up cell of {path.name} does not name {REPOSITORY}"
        file, text = f"{slug}/blob/main/notebooks/{path.name}", path.read_text(encoding="utf-8")
        badge = f"https://colab.research.google.com/github/{file}"
        assert badge in text and badge in readme, f"no Colab badge for {path.name}, in it or in README.md"
        assert f"https://kaggle.com/kernels/welcome?src=https://github.com/{file}" in text, path.name

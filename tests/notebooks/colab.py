"""Colab on this machine: its versions of what a lesson meets first, over the environment that the tests run in.

colab_versions.json has Colab's own list. A layer with the packages it calls `simulated` (25 MB from the package index)
lies over this environment, so torch is the one that is here already: Colab's own brings gigabytes of CUDA along. To
test against that too, install the whole list and pytest somewhere, best with Colab's Python, and name it; then every
lesson is run: COLAB_PYTHON=/there/bin/python python -m pytest tests/notebooks/test_colab.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

import course
from tools import ROOT

VERSIONS = json.loads((ROOT / "tests" / "notebooks" / "colab_versions.json").read_text(encoding="utf-8"))
MODULES = {"ipython": "IPython"} | {name: name for name in ("numpy", "matplotlib", "ipywidgets", "ipykernel", "torch")}
CELL_SECONDS = 900  # only against hanging
# Prints what a kernel has loaded: version, file, and which object it is.
PROBE = """
import json, IPython, ipykernel, ipywidgets, matplotlib, numpy, torch
print(json.dumps({m.__name__: [m.__version__, m.__file__, id(m)]
                  for m in (IPython, ipykernel, ipywidgets, matplotlib, numpy, torch)}))
"""
FREEZE = """
import json
from importlib.metadata import distributions
print(json.dumps(sorted({(d.metadata["Name"], d.version, str(d.locate_file(""))) for d in distributions()})))
"""


class NoIndex(Exception):
    """The package index does not answer."""


def build(folder):
    """The Python of a new virtual environment: Colab's versions first, then everything that is installed here."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "google" / "colab").mkdir(parents=True)
    (site / "google" / "colab" / "__init__.py").touch()
    below = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "colab.pth").write_text("\n".join([*below, "import google.colab"]) + "\n")
    wanted = {name: VERSIONS["preloaded"][name] for name in VERSIONS["simulated"]} | VERSIONS["brought along"]
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-compile"]
    patience = ["--timeout=20", "--retries=1", "--disable-pip-version-check"]
    names = [f"{name}=={version}" for name, version in wanted.items()]
    done = subprocess.run([*pip, *patience, *names], capture_output=True, text=True)
    if done.returncode:
        unreachable = any(sign in done.stderr for sign in course.NETWORK_SIGNS)
        raise NoIndex(done.stderr.splitlines()[-1]) if unreachable else RuntimeError(done.stderr[-4000:])
    return python


def serve(folder):
    """The working tree, with what is not committed yet, as a repository to clone: its URL."""
    git = ["git", "--git-dir", folder, "--work-tree", ROOT, "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True, capture_output=True)
    subprocess.run([*git, "add", "--all"], cwd=ROOT, check=True, capture_output=True)
    message = ["commit", "--quiet", "--no-verify", "--no-gpg-sign", "--message=the working tree"]
    subprocess.run([*git, *message], cwd=ROOT, check=True, capture_output=True)
    return folder.as_uri()


def frozen(python):
    """Every distribution that this Python finds, with version and place."""
    done = subprocess.run([python, "-c", FREEZE], env=clean_environment(), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def clean_environment(**more):
    """What a new machine would know: nothing of this environment, of the repository, or of how figures are drawn."""
    dropped = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "MPLBACKEND", "COURSE_PRESENTING")
    return {name: value for name, value in os.environ.items() if name not in dropped} | more


class Colab:
    """A Python with Colab's versions, and a repository that stands for the one on GitHub."""

    def __init__(self, python, repository, home):
        self.python = python
        self.environment = clean_environment(
            COLAB_RELEASE_TAG="release-colab_20260801-060000_RC00",
            COURSE_REPOSITORY=repository,
            HOME=str(home),
            IPYTHONDIR=str(home / "ipython"),
        )
        spec = home / "jupyter" / "kernels" / "colab" / "kernel.json"
        spec.parent.mkdir(parents=True)
        argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        spec.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
        self.kernels = str(home / "jupyter")

    def run(self, cells, folder):
        """Runs sources of cells in a new kernel in `folder`; an error in one of them is raised.

        Returns:
            the notebook, with outputs and the state of its widgets.
        """
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        client = NotebookClient(
            notebook, timeout=CELL_SECONDS, kernel_name="colab", resources={"metadata": {"path": str(folder)}}
        )
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = self.kernels  # where nbclient looks for kernel.json
        try:
            client.execute(env=self.environment)
        finally:
            os.environ.pop("JUPYTER_PATH")
            os.environ.update({"JUPYTER_PATH": before} if before else {})
        return notebook


def printed(cell):
    return "".join(output.text for output in cell.outputs if output.get("name") == "stdout")


def widget_outputs(notebook):
    """The outputs that each of the notebook's Output widgets shows: a list for each."""
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    return [s["state"].get("outputs", []) for s in states.values() if s["model_name"] == "OutputModel"]

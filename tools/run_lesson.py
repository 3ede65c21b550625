"""Runs one notebook as a process of its own, without network and without the right to write where it may not.

    python -m tools.run_lesson NOTEBOOK RESULT

NOTEBOOK is run in its own folder and left alone; RESULT becomes the notebook with its outputs, the seconds of each code
cell in its metadata, and one cell more that says which diffusion_lib was used and whether it could write where it was.
The first cell that fails ends the run, with the error on stderr.

`start(...)` does this from a test: the kernel does not see the repository's own diffusion_lib unless the test says so,
every connection to another machine is refused, and on Linux even root may not write into folders that are read-only.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from tools import ROOT

CELL_SECONDS = 1800  # ends what hangs

# Python runs this before anything else in the kernel: sitecustomize.py, first on its path.
SITECUSTOMIZE = """
import sys

sys.path[:] = [folder for folder in sys.path if folder != {root!r}]
HERE = ("127.", "localhost", "::1")

def refuse(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else ""
    elif event == "socket.getaddrinfo":
        host = arguments[0]
        host = host.decode() if isinstance(host, bytes) else host
    else:
        return
    if host and not str(host).startswith(HERE):
        raise OSError("no network in this test: " + event + " to " + str(host))

sys.addaudithook(refuse)
"""
SIMULATED = """
import simulated  # a copy of tools/simulated.py, beside this file

simulated.install()
"""
PROBE = """
import json, os, socket, diffusion_lib

def fails(attempt):
    try:
        attempt()
    except OSError as error:
        return type(error).__name__ + ": " + str(error)

def write():
    open("written_by_the_probe", "w").close()
    os.remove("written_by_the_probe")

print(json.dumps({
    "library": os.path.dirname(diffusion_lib.__file__),
    "write": fails(write),
    "network": fails(lambda: socket.create_connection(("192.0.2.1", 80), timeout=1)),
}))
"""
NOWHERE = "http://127.0.0.1:9"  # for programs that are not Python: nobody listens there
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def give_up_writing_everywhere():
    """Root writes into read-only folders; a process without this capability does not, and nor do its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def start(notebook, result, scratch, python_path=(), simulated=False, **environment):
    """Run `notebook` in a process of its own.

    Args:
        notebook: path of the file; its folder is the kernel's working directory.
        result: where the executed notebook is written.
        scratch: a writable folder for what the process itself needs.
        python_path: folders that the kernel imports from, besides the environment it runs in.
        simulated: whether the lesson runs on the simulated device (tools/simulated.py).
        **environment: further variables for the kernel; None takes one away.

    Returns:
        the notebook with outputs and seconds; dict of what the probe saw: "library" (folder), "write" and "network"
        (the error that the attempt ended in, None if it worked).

    Raises:
        AssertionError: a cell failed; the message is the cell's.
    """
    (scratch / "offline").mkdir(exist_ok=True)
    customize = SITECUSTOMIZE.format(root=str(ROOT))
    if simulated:
        shutil.copy(ROOT / "tools" / "simulated.py", scratch / "offline")
        customize, environment = customize + SIMULATED, {"DIFFUSION_DEVICE": "sim"} | environment
    (scratch / "offline" / "sitecustomize.py").write_text(customize)
    variables = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    variables |= dict.fromkeys(["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"], NOWHERE)
    variables |= {"no_proxy": "127.0.0.1,localhost", "JUPYTER_RUNTIME_DIR": str(scratch / "runtime")}
    variables |= {"LESSON_PATH": os.pathsep.join(map(str, [scratch / "offline", *python_path]))}
    variables = {name: value for name, value in {**variables, **environment}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-m", "tools.run_lesson", notebook, result],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        preexec_fn=give_up_writing_everywhere if sys.platform == "linux" and os.geteuid() == 0 else None,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    notebook = nbformat.read(result, as_version=4)
    return notebook, json.loads(notebook.cells.pop().outputs[0].text)


def main(path, result):
    path = Path(path)
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    began = {}

    def begin(cell, cell_index):
        began[cell_index] = time.perf_counter()

    def end(cell, cell_index, execute_reply):
        cell.metadata["seconds"] = time.perf_counter() - began[cell_index]

    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        coalesce_streams=True,
        on_cell_execute=begin,
        on_cell_executed=end,
    )
    client.execute(env=dict(os.environ, PYTHONPATH=os.environ["LESSON_PATH"]))
    nbformat.write(notebook, result)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""session: the set-up cell says in one line what this machine is; importing the library costs next to nothing."""

import subprocess
import sys

import torch

import diffusion_lib
from diffusion_lib.measured import read
from tools import ROOT


def test_start_says_what_this_machine_is_and_what_a_lesson_takes(capsys, monkeypatch):
    monkeypatch.delenv("COURSE_PRESENTING", raising=False)
    device = diffusion_lib.start()
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and f"device {device.type}" in line and torch.__version__ in line and len(line) <= 170
    measured = read("lessons")
    fastest, *_, slowest = sorted(seconds / 60 for seconds in measured["seconds"].values())
    threads = measured["machine"].split(", ")[-1]
    assert line.endswith(f" | a lesson runs {fastest:.1f} to {slowest:.1f} minutes (measured with {threads})\n")
    monkeypatch.setenv("COURSE_PRESENTING", "1")
    diffusion_lib.start()
    line = capsys.readouterr().out
    assert line.count("\n") == 1 and "presenting" in line and "minutes" not in line


def test_importing_the_library_brings_nothing_along():
    """So that the command of every tool answers at once; torch comes with the first module that needs it."""
    code = "import sys, diffusion_lib; print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr

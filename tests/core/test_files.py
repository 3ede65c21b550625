"""files: a file is the old one or the new one, whatever happens while it is written."""

import os
import stat
import subprocess
import sys

import pytest

from diffusion_lib import files
from tools import ROOT


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    for content in ("first", "second"):
        with files.replacing(path) as part:
            part.write_text(content)
            assert not path.exists() if content == "first" else path.read_text() == "first"
        assert path.read_text() == content and os.listdir(path.parent) == ["a.txt"]


def check_old_file_stays(folder):
    path = folder / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
        part.write_text("ha")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(folder) == ["a.txt"]


def test_the_old_file_stays_if_writing_fails(tmp_path, monkeypatch):
    check_old_file_stays(tmp_path)
    monkeypatch.setattr(files.os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def refuse(number):
    raise OSError("No space left on device")


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = f"""
import os
from diffusion_lib import files
with files.replacing({str(path)!r}) as part:
    part.write_text("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
    assert path.read_text() == "old"
    files.write_atomically(path, b"new")  # and what that process left is in nobody's way
    assert path.read_bytes() == b"new"


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no such permissions")
def test_permissions_are_kept(tmp_path):
    path, plain = tmp_path / "a.txt", tmp_path / "plain.txt"
    plain.touch()
    files.write_atomically(path, "new")
    assert path.stat().st_mode == plain.stat().st_mode
    path.chmod(0o600)
    with files.replacing(path) as part:
        part.unlink()  # some writers bring a file of their own
        part.write_text("newer")
        part.chmod(0o444)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and path.read_text() == "newer"


def test_two_processes_do_not_write_the_same_part(tmp_path, monkeypatch):
    names = []
    for number in (1, 2):
        monkeypatch.setattr(files.os, "getpid", lambda number=number: number)
        with files.replacing(tmp_path / "a.txt") as part:
            names.append(part.name)
    assert len(set(names)) == 2

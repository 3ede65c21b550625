"""The command: what there is, what it writes, and one file for every name."""

import json

import numpy as np
import pytest
import torch

from diffusion_lib.experiments import __main__ as command
from diffusion_lib.experiments import minute
from tools import ROOT


def test_without_a_name_it_says_what_there_is(capsys):
    command.main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*command.MEASUREMENTS, *command.RACES, "weights"]
    assert all(len(line.split(maxsplit=1)[1]) > 20 and line.endswith((".", ")")) for line in lines)


def test_every_committed_file_has_its_name():
    """The first race was made by other code; times are stored by course.py outputs and by pytest's --record."""
    folder = ROOT / "diffusion_lib/assets/measured"
    others = {"bench_first", "lessons", "presenting", "suite"}
    assert {path.stem for path in folder.glob("*.json")} == {*command.MEASUREMENTS, *command.RACES, *others}


def test_results_are_written_with_their_circumstances_and_pictures(tmp_path, monkeypatch, capsys):
    asked = []

    def small(device, seeds, progress):
        asked.append((device, seeds))
        progress("a line")
        return {"rows": [1], "pictures": {"x": torch.zeros(2, 3, dtype=torch.uint8).numpy()}}

    monkeypatch.setitem(command.MEASUREMENTS, "minute", (minute, small))
    monkeypatch.setenv("DIFFUSION_DEVICE", "cpu")
    command.main(["minute", "--folder", str(tmp_path / "new")])
    command.main(["minute", "--folder", str(tmp_path / "new"), "--seeds", "3", "4"])
    assert asked == [(torch.device("cpu"), [0]), (torch.device("cpu"), [3, 4])]
    results = json.loads((tmp_path / "new/minute.json").read_text())
    assert results["rows"] == [1] and "pictures" not in results
    assert {"machine", "date", "versions", "took_seconds"} <= set(results)
    with np.load(tmp_path / "new/minute.npz", allow_pickle=False) as kept:
        assert kept["x"].shape == (2, 3)
    assert capsys.readouterr().out.count("a line") == 2


@pytest.mark.parametrize("words", [["sing"], ["weights"], ["weights", "nothing"], ["bench_tuning", "--seeds", "1"]])
def test_what_is_not_there_is_refused(words, capsys):
    with pytest.raises(SystemExit):
        command.main(words)
    assert "error:" in capsys.readouterr().err

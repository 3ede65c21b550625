"""measured: what is committed says how it was made; a store reads and writes, and names what it has not."""

import re

import numpy as np
import pytest
import torch

from diffusion_lib import measured


@pytest.mark.parametrize("name", ["headline", "calls", "guidance", "latent"])
def test_results_say_machine_date_and_versions(name):
    results = measured.read(name)
    assert results["machine"] and results["versions"]["torch"] and re.fullmatch(r"\d{4}-\d\d-\d\d", results["date"])
    floor = results["floor"]["frechet"] if name == "guidance" else results["floor"]
    assert floor > 0 and len(results["rows"]) >= 6


def test_unknown_results_are_named():
    with pytest.raises(ValueError, match="no results called 'nonsense'; committed are .*calls.*headline"):
        measured.read("nonsense")


@pytest.mark.parametrize("name", ["memory", "dots", "minority", "resolution"])
def test_committed_results_say_machine_date_and_versions(name):
    results = measured.read(name)
    assert results["machine"] and results["versions"]["torch"] and results["date"] and results["rows"]


def test_an_unknown_set_of_pictures_is_named():
    with pytest.raises(ValueError, match="no pictures called 'nonsense'; committed are bench_samples"):
        measured.read_pictures("nonsense")


def test_what_is_written_is_what_was_given(tmp_path):
    measured.write(tmp_path / "new" / "a.json", {"rows": [1, 2.5]})
    assert (tmp_path / "new" / "a.json").read_text() == '{\n "rows": [\n  1,\n  2.5\n ]\n}\n'
    pictures = {"x": np.arange(6, dtype=np.uint8).reshape(2, 3)}
    measured.write_pictures(tmp_path / "a.npz", pictures)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as kept:
        assert kept.files == ["x"] and np.array_equal(kept["x"], pictures["x"])
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["a.json", "a.npz"]


def test_circumstances_say_machine_date_and_versions():
    found = measured.circumstances(torch.device("cpu"))
    assert found["machine"].startswith("cpu: ") and found["machine"].endswith(f"{torch.get_num_threads()} threads")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"]) and found["versions"]["torch"] == torch.__version__
    assert found["precision"] in ("float32", "bfloat16", "float16")

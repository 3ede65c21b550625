"""The committed results say how they were made, and the code that made them runs."""

import re

import pytest
import torch

from diffusion_lib import measured


@pytest.mark.parametrize("name", ["headline", "calls"])
def test_results_say_machine_date_and_versions(name):
    results = measured.read(name)
    assert results["machine"] and results["versions"]["torch"] and re.fullmatch(r"\d{4}-\d\d-\d\d", results["date"])
    assert results["floor"] > 0 and len(results["rows"]) >= 6


@pytest.mark.parametrize("way", ["plain", "guided", "guided everywhere"])
@pytest.mark.parametrize("budget", ["seconds", "steps"])
def test_the_headline_summary_is_that_of_its_rows(budget, way):
    results = measured.read("headline")
    rows = [row[way] for row in results["rows"] if budget in row["budget"]]
    assert len(rows) >= 3
    summary = results["summary"][budget][way]
    assert summary["accuracy"]["worst"] == min(row["accuracy"] for row in rows)
    assert summary["frechet"]["worst"] == max(row["frechet"] for row in rows)
    assert summary["frechet"]["mean"] == pytest.approx(sum(row["frechet"] for row in rows) / len(rows), abs=6e-4)


def test_unknown_results_are_named():
    with pytest.raises(ValueError, match="no results called 'nonsense'; committed are .*calls.*headline"):
        measured.read("nonsense")


def test_a_small_bench_counts_the_calls_of_every_sampler(monkeypatch):
    counted = []
    digits = measured.pretrained.digits

    def counting(device):
        model = digits(device)
        model.network.register_forward_hook(lambda *_: counted.append(1))
        return model

    monkeypatch.setattr(measured.pretrained, "digits", counting)
    results = measured.calls(torch.device("cpu"), [0], lambda line: None, n=70, budgets=(2,))
    calls = {row["sampler"]: row["calls"] for row in results["rows"]}
    assert calls == {"ddpm": 2, "ddim": 2, "heun": 1, "dpm_solver": 2}
    assert len(counted) == sum(calls.values())

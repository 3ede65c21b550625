"""headline: every seed is trained and measured both ways, and the committed promise."""

import pytest

from diffusion_lib import measured
from diffusion_lib.experiments import headline

from .common import CPU, silent


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


@pytest.mark.parametrize("budget, accuracy, frechet", [("seconds", 0.95, 1.5), ("steps", 0.99, 0.9)])
def test_the_headline_keeps_its_promise(budget, accuracy, frechet):
    """What the course promises of a minute and of 500 steps, as the mean over the seeds."""
    summary = measured.read("headline")["summary"][budget]["guided"]
    assert summary["accuracy"]["mean"] >= accuracy and summary["frechet"]["mean"] <= frechet


def test_the_headline_trains_and_measures_every_seed_both_ways(monkeypatch):
    trained, graded = [], []

    def train_digits(steps=None, seconds=None, seed=0, device="cpu", batch_size=0):
        trained.append((seed, seconds, steps, batch_size))
        return f"model of seed {seed}", ["one step"] * (steps or 3)

    def digits_quality(model, n, steps, eta, seed):
        graded.append((model, n, steps, eta, seed))
        grades = {"accuracy": 0.9 + 0.01 * seed, "frechet": 1.0 + seed, "floor": 0.5}
        return {way: grades for way in ("plain", "guided", "guided everywhere")}

    monkeypatch.setattr(headline.recipes, "train_digits", train_digits)
    monkeypatch.setattr(headline, "digits_quality", digits_quality)
    results = headline.measure_headline(CPU, [1, 2], silent)
    assert trained == [(seed, *run) for seed in (1, 2) for run in ((60, None, 128), (None, 500, 256))]
    assert graded == [(f"model of seed {seed}", 300, 50, 0.5, seed) for seed in (1, 1, 2, 2)]
    assert [row["images"] for row in results["rows"]] == [3 * 128, 500 * 256] * 2
    assert results["summary"]["steps"]["guided"]["accuracy"] == {"mean": 0.915, "worst": 0.91}
    assert results["summary"]["seconds"]["plain"]["frechet"] == {"mean": 2.5, "worst": 3.0}
    assert results["floor"] == 0.5

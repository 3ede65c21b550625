"""guidance: every scale is measured both ways, and what it buys with what."""

from diffusion_lib import data, measured, pretrained
from diffusion_lib.experiments import guidance

from .common import CPU, silent


def test_the_curve_of_scales_buys_fidelity_with_diversity():
    """What lesson 08 says of the committed numbers, as means over the seeds."""
    results = measured.read("guidance")

    def over_seeds(where, scale, key):
        values = [row[key] for row in results["rows"] if (row["where"], row["scale"]) == (where, scale)]
        assert len(values) == 3, (where, scale)
        return sum(values) / 3

    assert over_seeds("everywhere", 2, "precision") > over_seeds("everywhere", 1, "precision") + 0.03
    recall = [over_seeds("everywhere", scale, "recall") for scale in (0.5, 1, 1.5, 2, 3, 5, 8)]
    assert recall == sorted(recall, reverse=True)
    assert over_seeds("everywhere", 8, "precision") < over_seeds("everywhere", 3, "precision")
    for scale in (1.5, 2, 3, 5, 8):
        assert over_seeds("interval", scale, "recall") > over_seeds("everywhere", scale, "recall")
        assert over_seeds("interval", scale, "frechet") < over_seeds("everywhere", scale, "frechet")
    assert results["floor"]["frechet"] == measured.read("calls")["floor"]


def test_a_small_bench_measures_every_scale(monkeypatch):
    asked = []

    def sample_digits(model, label, scale, interval, steps, eta, seed):
        asked.append((scale, tuple(interval), seed))
        return data.digits("held_out")[0][seed * 70 : seed * 70 + 70]

    monkeypatch.setattr(pretrained, "sample_digits", sample_digits)
    results = guidance.measure_guidance(CPU, [0, 1], silent, n=70, scales=(1, 2))
    inside = pretrained.INTERVAL
    ways = [(1, (0, 1)), (2, (0, 1)), (2, inside)]
    assert asked == [(*way, seed) for way in ways for seed in (0, 1)]
    assert {key: results["rows"][0][key] for key in results["floor"]} == results["floor"]  # seed 0 are those digits
    assert [row["where"] for row in results["rows"]] == ["everywhere"] * 4 + ["interval"] * 2

"""weights: the command makes such files as are shipped, measures what it writes, and goes on after a stop."""

import json

import pytest
import torch

from diffusion_lib import data, metrics, pretrained, recipes, training
from diffusion_lib.experiments import weights
from diffusion_lib.experiments.__main__ import main
from diffusion_lib.networks import count_parameters
from tests.core.test_pretrained import NAMES, TOKEN_NAMES
from tests.core.test_recipes import small


def test_measure_prints_the_floor_beside_the_distance(monkeypatch):
    """Real digits in place of samples: the accuracy of real digits, a distance near the floor."""
    real, label = data.digits("held_out")
    monkeypatch.setattr(pretrained, "sample_digits", lambda model, labels, *a: real[: len(labels)])
    result = weights.measure_digits(recipes.new_digits_model(), n=300)
    right = metrics.accuracy(pretrained.classifier(), real[:300], torch.arange(300) % 10)
    assert result["accuracy"] == pytest.approx(right, abs=1e-4)
    assert result["frechet"] == result["floor"] > 0 and result["n"] == 300


def test_the_command_makes_the_weights_of_the_judge(tmp_path, monkeypatch):
    real = data.digits
    monkeypatch.setattr(data, "digits", lambda split="train": tuple(v[:200] for v in real(split)))
    main(["weights", "classifier", "--steps", "2", "--folder", str(tmp_path)])
    tensors, card = training.load_tensors(tmp_path / "classifier.safetensors")
    assert card["steps"] == 2 and card == json.loads((tmp_path / "classifier.json").read_text(encoding="utf8"))
    metrics.FeatureNetwork().load_state_dict(tensors)


def test_the_command_measures_the_weights_that_it_writes(tmp_path, monkeypatch):
    """16-bit ones, with and without guidance."""
    small(monkeypatch)
    measured = []

    def measure_digits(model, n, scale, interval, steps, eta, seed):
        measured.append((model, (scale, interval)))
        return {"n": n}

    monkeypatch.setattr(weights, "measure_digits", measure_digits)
    main(["weights", "digits", "--steps", "2", "--folder", str(tmp_path)])
    tensors, card = training.load_tensors(tmp_path / "digits.safetensors")
    assert [way for _, way in measured] == [(1.0, (0, 1)), (2.0, (0.5, 0.8)), (2.0, (0, 1))]
    assert {"plain", "guided", "guided everywhere"} <= card["quality"].keys()
    for name, value in measured[0][0].state_dict().items():
        assert torch.equal(value, tensors[name].float())
    assert card["parameters"] == count_parameters(recipes.new_digits_model())


def test_every_recipe_runs_measures_and_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    small(monkeypatch)
    for name in (
        "digits_quality",
        "emoji_quality",
        "autoencoder_quality",
        "latent_quality",
        "sums_quality",
        "text_quality",
    ):
        monkeypatch.setattr(weights, name, lambda model, **options: {"good": True})
    assert set(weights.shipped()) == set(NAMES + TOKEN_NAMES)
    for name in ("digits", "emoji", "autoencoder", "latent_digits", *TOKEN_NAMES):
        folder = ["--folder", str(tmp_path), "--checkpoint", str(tmp_path / f"{name}.run")]
        main(["weights", name, "--steps", "1", *folder])
        before = training.load_tensors(tmp_path / f"{name}.safetensors")[0]
        main(["weights", name, "--steps", "1", *folder])  # nothing is left to do
        after, card = training.load_tensors(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert card["quality"]["good"] and card["steps"] == 1

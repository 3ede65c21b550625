"""pretrained: what the cards say is true, the weights do what they are for, and the demo draws with them."""

import json
import math
from functools import partial

import pytest
import torch
from PIL import Image

from diffusion_lib import __main__ as demo
from diffusion_lib import data, metrics, pretrained, recipes, tokens, training
from diffusion_lib.experiments.text import nats, right_sums
from tests.common import normal, seeded
from tests.core.test_recipes import small

NAMES = ["classifier", "digits", "emoji", "autoencoder", "latent_digits"]
TOKEN_NAMES = ["sums", "sums_left_to_right", "text", "text_left_to_right"]


@pytest.mark.parametrize("name", NAMES + TOKEN_NAMES)
def test_the_card_says_what_the_file_is(name):
    path = pretrained.weights_file(name)
    card = pretrained.card(name)
    assert path.stat().st_size < 2_000_000
    assert {"name", "data", "parameters", "steps", "seconds", "device", "versions", "quality"} <= card.keys()
    assert card["name"] == name and card == json.loads(path.with_suffix(".json").read_text(encoding="utf8"))
    model = getattr(pretrained, name)()
    learned = sum(p.numel() for p in model.parameters())
    assert card["parameters"] == learned
    assert all(p.isfinite().all() for p in model.parameters())
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert {value.dtype for value in training.load_tensors(path)[0].values()} == {torch.float16}


def test_the_judge_is_as_good_as_its_card():
    right = pretrained.card("classifier")["quality"]["held-out accuracy"]
    assert metrics.accuracy(pretrained.classifier(), *data.digits("held_out")) == pytest.approx(right, abs=0.003)


@pytest.fixture(scope="module")
def sampled():
    label = torch.arange(40) % 10
    return pretrained.sample_digits(pretrained.digits(), label, steps=12), label


def test_samples_are_the_digits_that_were_asked_for(sampled):
    x, label = sampled
    assert x.shape == (40, 1, 28, 28) and x.abs().max() <= 1.001
    assert metrics.accuracy(pretrained.classifier(), x, label) >= 0.9


def test_samples_differ_and_are_no_copies(sampled):
    x, label = sampled
    among = torch.cdist(x.flatten(1), x.flatten(1)) + 1e3 * torch.eye(40)
    real = data.digits("train")[0]
    assert among.min() > 2 and torch.cdist(x.flatten(1), real.flatten(1)).min() > 1


def test_the_trained_model_beats_an_untrained_one():
    x_0, label = data.digits("held_out")
    x_0, label = x_0[:100], label[:100]
    noise, t = normal(100, 1, 28, 28, dtype=torch.float32), torch.linspace(0.05, 0.95, 100)
    with torch.no_grad():
        trained, fresh = (
            float(model.loss(x_0, t, noise, label=label).mean())
            for model in (pretrained.digits(), recipes.new_digits_model())
        )
    assert trained < 0.25 * fresh


def test_same_seed_same_digits():
    model, label = pretrained.digits(), torch.tensor([3, 7])
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    a, b, c = (pretrained.sample_digits(model, label, steps=2, seed=s) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())


def test_guided_is_clipped_classifier_free_guidance():
    model, label = pretrained.digits(), torch.tensor([3, 7])
    x_t = 3 * normal(2, 1, 28, 28, dtype=torch.float32)
    with torch.no_grad():
        plain, without = model(x_t, 0.6, label=label), model(x_t, 0.6)
        for scale in (1.0, 2.0, 0.5):
            right = (without + scale * (plain - without)).clamp(-1, 1)
            torch.testing.assert_close(pretrained.guided(model, label, scale)(x_t, 0.6), right, rtol=1e-4, atol=1e-4)
            early = model(x_t, 0.95, label=label).clamp(-1, 1)
            torch.testing.assert_close(pretrained.guided(model, label, scale)(x_t, 0.95), early, rtol=1e-4, atol=1e-4)


def test_a_denoiser_of_digits_takes_one_label_for_each(sampled):
    model = pretrained.digits()
    x_t = normal(2, 1, 28, 28, dtype=torch.float32)
    both = model(x_t, 0.5, label=torch.tensor([1, 2]))
    alone = partial(model, label=torch.tensor([2]))(x_t[1:], 0.5)
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)


def test_the_demo_writes_a_picture_and_a_film(tmp_path, monkeypatch, capsys):
    small(monkeypatch)
    model = recipes.new_digits_model()
    with torch.no_grad():  # a network that says nothing makes frames that are alike, and a GIF keeps one of them
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=seeded())
    monkeypatch.setattr(pretrained, "digits", lambda device: model)
    demo.main(["--folder", str(tmp_path / "new"), "--steps", "3"])
    assert "device" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "digits.png") as picture, Image.open(tmp_path / "new" / "film.gif") as film:
        assert picture.size == (16 * 28 * 3, 4 * 28 * 3) and film.n_frames == 3


# Colour


def held_out_emoji_loss(model, label=None):
    """At t = 0.6, where the groups differ, with the same noise each time."""
    x_0, place = data.emoji("held_out")
    label = data.emoji_groups()[0][place] if label is None else label
    noise = normal(len(x_0), 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        return float(model.loss(x_0, torch.tensor(0.6), noise, label=label).mean())


def test_the_colour_model_knows_emoji_that_it_has_never_seen():
    trained, fresh = held_out_emoji_loss(pretrained.emoji()), held_out_emoji_loss(recipes.new_emoji_model())
    assert trained < 0.25 * fresh


def test_the_colour_model_listens_to_the_group():
    model, group = pretrained.emoji(), data.emoji_groups()[0][data.emoji("held_out")[1]]
    right, none, wrong = (held_out_emoji_loss(model, label) for label in (group, group * 0 + 16, (group + 5) % 16))
    assert right < none < wrong


# Latents


def test_digits_survive_the_autoencoder():
    model, (x_0, label) = pretrained.autoencoder(), data.digits("held_out")
    card = pretrained.card("autoencoder")["quality"]
    with torch.no_grad():
        z = model.encode(x_0)
        again = model.decode(z)
    assert z.std((0, 2, 3)).sub(1).abs().max() < 0.1 and z.mean((0, 2, 3)).abs().max() < 0.1
    assert float(((again.clamp(-1, 1) - x_0) ** 2).mean()) == pytest.approx(card["squared error"], rel=0.02)
    assert card["squared error"] < 0.01 * x_0.var()
    assert metrics.accuracy(pretrained.classifier(), again, label) >= 0.98


def test_near_latents_are_near_digits():
    """What the noise in its training is for."""
    model, (x_0, label) = pretrained.autoencoder(), data.digits("held_out")
    with torch.no_grad():
        z = model.encode(x_0)
        near = model.decode(z + 0.2 * normal(*z.shape, dtype=torch.float32))
    assert metrics.accuracy(pretrained.classifier(), near, label) >= 0.97


def test_decoded_samples_are_the_digits_that_were_asked_for():
    model, label = pretrained.latent_digits(), torch.arange(40) % 10
    z = pretrained.sample(partial(model, label=label), model.schedule, (40, 4, 7, 7), steps=12, eta=0)
    with torch.no_grad():
        x = pretrained.autoencoder().decode(z)
    assert metrics.accuracy(pretrained.classifier(), x, label) >= 0.85
    assert 0.8 < z.std() < 1.2


# Tokens


def test_writing_keeps_what_is_known():
    prompt = tokens.encode(["12+07=___", "31+44=___"], data.SUM_SYMBOLS)
    for model in (recipes.new_sums_model(), recipes.new_sums_model(left_to_right=True)):
        x = pretrained.sample_tokens(model, prompt)
        assert torch.equal(x[:, :6], prompt[:, :6]) and x.max() < 12
        assert torch.equal(x, pretrained.sample_tokens(model, prompt)) and not torch.equal(
            pretrained.sample_tokens(model, tokens.all_masked(20, 9, 12)),
            pretrained.sample_tokens(model, tokens.all_masked(20, 9, 12), seed=1),
        )


def test_the_trained_sums_are_as_good_as_their_cards():
    for name, least in {"sums": 0.9, "sums_left_to_right": 0.97}.items():
        quality, model = pretrained.card(name)["quality"], getattr(pretrained, name)()
        x = pretrained.sample_tokens(model, tokens.all_masked(200, 9, 12), seed=5)
        right = float(right_sums(x).float().mean())
        assert right >= least and right == pytest.approx(quality["right"], abs=0.06)
        assert len(x.unique(dim=0)) > 190  # and not always the same ones
        assert quality["nats, held out"] > quality["entropy"] - 0.01
        found = nats(model, data.sums("held_out")[:300], data.sums("all"), looks=4)
        assert float(found.mean()) == pytest.approx(quality["nats, held out"], abs=0.1)
    plain = nats(pretrained.sums(), data.sums("held_out")[:300], looks=4)
    paired = nats(pretrained.sums(), data.sums("held_out")[:300], data.sums("all"), looks=4)
    assert paired.var() < 0.2 * plain.var()  # what the exact denoiser is for


def test_the_masked_model_of_sums_finds_any_missing_number():
    """What left to right cannot be asked: the first number from the rest. Held-out sums only."""
    x_0 = data.sums("held_out")[:200]
    for places in (slice(6, 9), slice(0, 2), slice(3, 5)):
        blank = x_0.clone()
        blank[:, places] = 12
        x = pretrained.sample_tokens(pretrained.sums(), blank, order="confidence")
        assert (x == x_0).all(1).double().mean() > 0.9, places


def test_the_models_of_text_know_english_that_they_have_never_seen():
    """Bits a character of held-out lines as on their cards, far below those of guessing by frequency (4.1)."""
    x_0 = data.text("held_out")
    for name in ("text", "text_left_to_right"):
        card, model = pretrained.card(name)["quality"], getattr(pretrained, name)()
        bits = float(nats(model, x_0, looks=4).mean()) / 48 / math.log(2)
        assert bits == pytest.approx(card["bits a character, held_out"], abs=0.15) and bits < 2.6


# On a GPU


@pytest.mark.gpu
def test_the_digits_on_a_gpu_are_those_of_the_cpu():
    """float32 on both: autocast rounds differently."""
    from diffusion_lib.samplers import ddim, last, start_noise, time_grid

    label = torch.arange(8)
    pictures = []
    for device in ("cpu", "cuda"):
        model = pretrained.digits(device)
        assert next(model.parameters()).device.type == device
        noise = start_noise(model.schedule, (8, 1, 28, 28), seeded(), device)
        steps = ddim(pretrained.guided(model, label.to(device)), model.schedule, noise, time_grid(10))
        pictures.append(last(steps).cpu())
    assert (pictures[0] - pictures[1]).abs().mean() < 0.02


@pytest.mark.gpu
def test_sampling_and_training_on_a_gpu(monkeypatch):
    label = torch.arange(40, device="cuda") % 10
    x = pretrained.sample_digits(pretrained.digits("cuda"), label, steps=20)
    assert x.is_cuda and metrics.accuracy(pretrained.classifier("cuda"), x.float(), label) >= 0.9
    model, history = recipes.train_digits(steps=20, device="cuda")
    assert next(model.parameters()).is_cuda and history[-1].loss < history[0].loss

"""recipes: models are decided by their seeds, losses draw what they say, and training returns the average."""

import math

import pytest
import torch

from diffusion_lib import data, pretrained, recipes, training
from diffusion_lib.denoisers import Denoiser
from diffusion_lib.networks import UNet, count_parameters
from diffusion_lib.schedules import Cosine
from diffusion_lib.targets import V
from tests.common import agree, normal, seeded


def test_a_new_model_is_decided_by_its_seed():
    before = torch.random.get_rng_state()
    weights = [recipes.new_digits_model(seed).network.first.weight for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


class Listener(torch.nn.Module):
    """A model whose loss remembers what it was given."""

    def loss(self, x_0, t, noise, label):
        self.given = x_0, t, noise, label
        return torch.zeros(len(x_0))


def test_the_loss_draws_middle_times_fresh_noise_and_drops_one_label_in_ten():
    model, (x_0, label) = Listener(), data.digits("train")
    recipes.digits_loss(model, (x_0, label), seeded())
    same_x_0, t, noise, given = model.given
    assert same_x_0 is x_0 and noise.shape == x_0.shape
    agree(noise.flatten()[:100_000] ** 2, 1.0)
    z = torch.logit(t.double()) - 0.5  # more noisy times than clean ones
    agree(z, 0.0)
    agree(z**2, 1.0)
    agree((given == 10).double(), 0.1)
    assert (given[given != 10] == label[given != 10]).all()


def small(monkeypatch):
    """The recipe on a model that is trained in no time."""

    def new_digits_model(seed=0):
        return recipes.seeded(seed, lambda: Denoiser(UNet(1, (8, 8), labels=10, condition_dim=16), Cosine(), V))

    monkeypatch.setattr(recipes, "new_digits_model", new_digits_model)


def check_training_returns_the_average(monkeypatch):
    """The weights that come back are the EMA's: here, after one step, w_0 + (w_1 - w_0) / 1.12."""
    small(monkeypatch)
    monkeypatch.setattr(recipes, "half_precision", lambda device: None)
    model, history = recipes.train_digits(steps=1, batch_size=8)
    before, raw = (recipes.new_digits_model() for _ in range(2))
    x_0, label = data.digits("train")
    next(training.train(raw, data.Batches(x_0, label, 8, seed=0), recipes.digits_loss, 1, seed=0))
    assert len(history) == 1 and not model.training
    for averaged, w_0, w_1 in zip(model.parameters(), before.parameters(), raw.parameters(), strict=True):
        torch.testing.assert_close(averaged, w_0 + (w_1 - w_0) / 1.12, rtol=1e-5, atol=1e-7)


def test_training_returns_the_average(monkeypatch):
    check_training_returns_the_average(monkeypatch)


def test_training_shows_its_progress(monkeypatch):
    small(monkeypatch)
    seen = []

    def progress(run):
        for p in run:
            seen.append(p.step)
            yield p

    recipes.train_digits(steps=3, progress=progress, batch_size=8)
    assert seen == [1, 2, 3]


def check_mirrored_pictures_stay_in_their_places():
    x = normal(400, 3, 4, 4, dtype=torch.float32)
    turned = recipes.mirrored(x, seeded())
    same = (turned == x).flatten(1).all(1)
    assert ((turned == x.flip(3)).flatten(1).all(1) | same).all()  # left and right, not up and down
    agree(same.double(), 0.5)


def test_mirrored_pictures_stay_in_their_places():
    check_mirrored_pictures_stay_in_their_places()


class Shell(Listener):
    """A listener that knows how many classes there are."""

    def __init__(self, labels):
        super().__init__()
        self.network = UNet(4, (8,), labels=labels, condition_dim=8)


def check_pictures_with_writing_are_not_mirrored():
    x_0, place = data.emoji()
    group, kinds = data.emoji_groups()
    model = Shell(16)
    recipes.emoji_loss(model, (x_0, group), seeded())
    seen, t, noise, label = model.given
    writing = sum(group == kinds.index(kind) for kind in ("clock", "office", "sign")).bool()
    assert torch.equal(seen[writing], x_0[writing])
    turned = (seen == x_0.flip(3)).flatten(1).all(1)[~writing]
    assert 0.45 < turned.double().mean() < 0.6  # half of them, and those that are their own mirror image
    assert ((seen == x_0) | (seen == x_0.flip(3))).flatten(1).all()
    agree((label == 16).double(), 0.1)
    assert (label[label < 16] == group[label < 16]).all()


def test_pictures_with_writing_are_not_mirrored():
    check_pictures_with_writing_are_not_mirrored()


def check_the_diffusion_model_gets_scaled_latents(monkeypatch):
    given = {}

    def fit(model, x_0, label, loss_fn, *a, **options):
        given.update(x_0=x_0, label=label, loss_fn=loss_fn)
        return model, []

    monkeypatch.setattr(recipes, "fit", fit)
    recipes.train_latent_digits(pretrained.autoencoder(), steps=1)
    z, (x_0, label) = given["x_0"], data.digits("train")
    assert z.shape == (4000, 4, 7, 7) and torch.equal(given["label"], label)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), rtol=0.01, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(z[:5], pretrained.autoencoder().encode(x_0[:5]), rtol=1e-3, atol=1e-3)


def test_the_diffusion_model_gets_scaled_latents(monkeypatch):
    check_the_diffusion_model_gets_scaled_latents(monkeypatch)


def test_a_trained_autoencoder_is_standardised(monkeypatch):
    monkeypatch.setattr(recipes, "half_precision", lambda device: None)
    model, _ = recipes.train_autoencoder(steps=2, batch_size=8)
    z = model.encode(data.digits("train")[0])
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["sums", "text"])
def test_both_kinds_of_token_model_have_the_same_size(name):
    masked, other = (getattr(recipes, f"new_{name}_model")(left_to_right=kind) for kind in (False, True))
    assert count_parameters(masked) == count_parameters(other) < 1_000_000
    assert masked.network.causal is False and other.network.causal is True


@pytest.mark.parametrize("left_to_right", [False, True])
def test_the_loss_of_tokens_is_a_mean_of_nats_a_token(left_to_right):
    model, x_0 = recipes.new_sums_model(left_to_right=left_to_right), data.sums("train")[:2000]
    with torch.no_grad():
        loss = recipes.tokens_loss(model, (x_0, x_0), seeded())
    assert loss.shape == (2000,)
    if left_to_right:
        torch.testing.assert_close(loss, torch.full((2000,), math.log(12)))
    else:
        agree(loss, math.log(12))  # a mean over times and masks

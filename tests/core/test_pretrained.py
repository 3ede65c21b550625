"""pretrained: what the cards say is true, the weights do what they are for, and the commands make such files."""

import json
import math
from functools import partial

import pytest
import torch
from PIL import Image

from diffusion_lib import __main__ as demo
from diffusion_lib import data, metrics, pretrained, tokens, training
from diffusion_lib.denoisers import Denoiser
from diffusion_lib.networks import Transformer, UNet, count_parameters
from diffusion_lib.schedules import Cosine, Linear
from diffusion_lib.targets import V
from tests.common import agree, normal, seeded

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
            for model in (pretrained.digits(), pretrained.new_digits_model())
        )
    assert trained < 0.25 * fresh


def test_same_seed_same_digits():
    model, label = pretrained.digits(), torch.tensor([3, 7])
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    a, b, c = (pretrained.sample_digits(model, label, steps=2, seed=s) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_new_model_is_decided_by_its_seed():
    before = torch.random.get_rng_state()
    weights = [pretrained.new_digits_model(seed).network.first.weight for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


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


class Listener(torch.nn.Module):
    """A model whose loss remembers what it was given."""

    def loss(self, x_0, t, noise, label):
        self.given = x_0, t, noise, label
        return torch.zeros(len(x_0))


def test_the_loss_draws_middle_times_fresh_noise_and_drops_one_label_in_ten():
    model, (x_0, label) = Listener(), data.digits("train")
    pretrained.digits_loss(model, (x_0, label), seeded())
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
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Denoiser(UNet(1, (8, 8), labels=10, condition_dim=16), Cosine(), V)

    monkeypatch.setattr(pretrained, "new_digits_model", new_digits_model)


def check_training_returns_the_average(monkeypatch):
    """The weights that come back are the EMA's: here, after one step, w_0 + (w_1 - w_0) / 1.12."""
    small(monkeypatch)
    monkeypatch.setattr(pretrained, "half_precision", lambda device: None)
    model, history = pretrained.train_digits(steps=1, batch_size=8)
    before, raw = (pretrained.new_digits_model() for _ in range(2))
    x_0, label = data.digits("train")
    next(training.train(raw, data.Batches(x_0, label, 8, seed=0), pretrained.digits_loss, 1, seed=0))
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

    pretrained.train_digits(steps=3, progress=progress, batch_size=8)
    assert seen == [1, 2, 3]


def test_measure_prints_the_floor_beside_the_distance(monkeypatch):
    """Real digits in place of samples: the accuracy of real digits, a distance near the floor."""
    real, label = data.digits("held_out")
    monkeypatch.setattr(pretrained, "sample_digits", lambda model, labels, *a: real[: len(labels)])
    result = pretrained.measure(pretrained.new_digits_model(), n=300)
    right = metrics.accuracy(pretrained.classifier(), real[:300], torch.arange(300) % 10)
    assert result["accuracy"] == pytest.approx(right, abs=1e-4)
    assert result["frechet"] == result["floor"] > 0 and result["n"] == 300


def test_the_command_makes_the_weights_of_the_judge(tmp_path, monkeypatch):
    real = data.digits
    monkeypatch.setattr(data, "digits", lambda split="train": tuple(v[:200] for v in real(split)))
    pretrained.main(["classifier", "--steps", "2", "--folder", str(tmp_path)])
    tensors, card = training.load_tensors(tmp_path / "classifier.safetensors")
    assert card["steps"] == 2 and card == json.loads((tmp_path / "classifier.json").read_text(encoding="utf8"))
    metrics.FeatureNetwork().load_state_dict(tensors)


def test_the_command_measures_the_weights_that_it_writes(tmp_path, monkeypatch):
    """16-bit ones, with and without guidance."""
    small(monkeypatch)
    measured = []

    def measure(model, n, scale, interval, steps, eta, seed):
        measured.append((model, (scale, interval)))
        return {"n": n}

    monkeypatch.setattr(pretrained, "measure", measure)
    pretrained.main(["digits", "--steps", "2", "--folder", str(tmp_path)])
    tensors, card = training.load_tensors(tmp_path / "digits.safetensors")
    assert [way for _, way in measured] == [(1.0, (0, 1)), (2.0, (0.5, 0.8)), (2.0, (0, 1))]
    assert {"plain", "guided", "guided everywhere"} <= card["quality"].keys()
    for name, value in measured[0][0].state_dict().items():
        assert torch.equal(value, tensors[name].float())
    assert card["parameters"] == count_parameters(pretrained.new_digits_model())


# Colour


def check_mirrored_pictures_stay_in_their_places():
    x = normal(400, 3, 4, 4, dtype=torch.float32)
    turned = pretrained.mirrored(x, seeded())
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
    pretrained.emoji_loss(model, (x_0, group), seeded())
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


def held_out_emoji_loss(model, label=None):
    """At t = 0.6, where the groups differ, with the same noise each time."""
    x_0, place = data.emoji("held_out")
    label = data.emoji_groups()[0][place] if label is None else label
    noise = normal(len(x_0), 3, 32, 32, dtype=torch.float32)
    with torch.no_grad():
        return float(model.loss(x_0, torch.tensor(0.6), noise, label=label).mean())


def test_the_colour_model_knows_emoji_that_it_has_never_seen():
    trained, fresh = held_out_emoji_loss(pretrained.emoji()), held_out_emoji_loss(pretrained.new_emoji_model())
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


def check_the_diffusion_model_gets_scaled_latents(monkeypatch):
    given = {}

    def fit(model, x_0, label, loss_fn, *a, **options):
        given.update(x_0=x_0, label=label, loss_fn=loss_fn)
        return model, []

    monkeypatch.setattr(pretrained, "fit", fit)
    pretrained.train_latent_digits(steps=1)
    z, (x_0, label) = given["x_0"], data.digits("train")
    assert z.shape == (4000, 4, 7, 7) and torch.equal(given["label"], label)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), rtol=0.01, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(z[:5], pretrained.autoencoder().encode(x_0[:5]), rtol=1e-3, atol=1e-3)


def test_the_diffusion_model_gets_scaled_latents(monkeypatch):
    check_the_diffusion_model_gets_scaled_latents(monkeypatch)


def test_a_trained_autoencoder_is_standardised(monkeypatch):
    monkeypatch.setattr(pretrained, "half_precision", lambda device: None)
    model, _ = pretrained.train_autoencoder(steps=2, batch_size=8)
    z = model.encode(data.digits("train")[0])
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), rtol=1e-3, atol=0)


def test_every_recipe_runs_measures_and_goes_on_from_a_checkpoint(tmp_path, monkeypatch):
    small(monkeypatch)
    for name in ("quality", "emoji_quality", "autoencoder_quality", "latent_quality", "sums_quality", "text_quality"):
        monkeypatch.setattr(pretrained, name, lambda model, **options: {"good": True})
    assert set(pretrained.recipes()) == set(NAMES + TOKEN_NAMES)
    for name in ("digits", "emoji", "autoencoder", "latent_digits", *TOKEN_NAMES):
        folder = ["--folder", str(tmp_path), "--checkpoint", str(tmp_path / f"{name}.run")]
        pretrained.main([name, "--steps", "1", *folder])
        before = training.load_tensors(tmp_path / f"{name}.safetensors")[0]
        pretrained.main([name, "--steps", "1", *folder])  # nothing is left to do
        after, card = training.load_tensors(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(before[key], after[key]) for key in before)
        assert card["quality"]["good"] and card["steps"] == 1


def test_the_demo_writes_a_picture_and_a_film(tmp_path, monkeypatch, capsys):
    small(monkeypatch)
    model = pretrained.new_digits_model()
    with torch.no_grad():  # a network that says nothing makes frames that are alike, and a GIF keeps one of them
        for p in model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=seeded())
    monkeypatch.setattr(pretrained, "digits", lambda device: model)
    demo.main(["--folder", str(tmp_path / "new"), "--steps", "3"])
    assert "device" in capsys.readouterr().out
    with Image.open(tmp_path / "new" / "digits.png") as picture, Image.open(tmp_path / "new" / "film.gif") as film:
        assert picture.size == (16 * 28 * 3, 4 * 28 * 3) and film.n_frames == 3


def test_a_denoiser_of_digits_takes_one_label_for_each(sampled):
    model = pretrained.digits()
    x_t = normal(2, 1, 28, 28, dtype=torch.float32)
    both = model(x_t, 0.5, label=torch.tensor([1, 2]))
    alone = partial(model, label=torch.tensor([2]))(x_t[1:], 0.5)
    torch.testing.assert_close(both[1:], alone, rtol=1e-3, atol=1e-4)


# Tokens


def test_right_sums_are_those_that_python_finds_right():
    lines = ["12+07=019", "99+99=198", "12+07=119", "1_+07=019", "12=07+019", "12+7=0019", "01+02=003", "12+07=018"]
    right = pretrained.right_sums(tokens.encode(lines, data.SUM_SYMBOLS))
    assert right.tolist() == [True, True, False, False, False, False, True, False]
    assert pretrained.right_sums(data.sums("all")).all()


@pytest.mark.parametrize("name", ["sums", "text"])
def test_both_kinds_of_token_model_have_the_same_size(name):
    masked, other = (getattr(pretrained, f"new_{name}_model")(left_to_right=kind) for kind in (False, True))
    assert count_parameters(masked) == count_parameters(other) < 1_000_000
    assert masked.network.causal is False and other.network.causal is True


def test_the_nats_of_a_sequence_are_its_loss():
    """Exact from left to right. Masked: an untrained network costs log V for each token on average; so it does with the
    exact loss taken off and its mean put back."""
    x_0, V = data.sums("held_out")[:200], len(data.SUM_SYMBOLS)
    other = pretrained.new_sums_model(left_to_right=True)
    torch.testing.assert_close(pretrained.nats(other, x_0), other.loss(x_0))
    model = pretrained.new_sums_model()
    plain, paired = pretrained.nats(model, x_0), pretrained.nats(model, x_0, data.sums("all"))
    agree(plain, 9 * math.log(V))
    agree(paired, 9 * math.log(V))


def test_a_fixed_order_makes_the_nats_of_a_masked_model_exact():
    """Its probabilities sum to 1 over all sequences; and they are the product of its answers."""
    torch.manual_seed(0)
    network = Transformer(2, 3, width=8, depth=1, heads=2)
    with torch.no_grad():
        network.final.weight += torch.randn(2, 8, generator=seeded())
    model = tokens.MaskedDenoiser(network, Linear())
    x_0 = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    p = (-pretrained.nats_in_order(model, x_0)).exp()
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    with torch.no_grad():
        answers = [model(torch.tensor([row]), 0.5)[0].exp() for row in ([2, 2, 2], [1, 2, 2], [1, 0, 2])]
    right = answers[0][0, 1] * answers[1][1, 0] * answers[2][2, 1]
    torch.testing.assert_close(p[5], right)  # 101


def test_writing_keeps_what_is_known():
    prompt = tokens.encode(["12+07=___", "31+44=___"], data.SUM_SYMBOLS)
    for model in (pretrained.new_sums_model(), pretrained.new_sums_model(left_to_right=True)):
        x = pretrained.write(model, prompt)
        assert torch.equal(x[:, :6], prompt[:, :6]) and x.max() < 12
        assert torch.equal(x, pretrained.write(model, prompt)) and not torch.equal(
            pretrained.write(model, tokens.all_masked(20, 9, 12)),
            pretrained.write(model, tokens.all_masked(20, 9, 12), seed=1),
        )


@pytest.mark.parametrize("left_to_right", [False, True])
def test_the_loss_of_tokens_is_a_mean_of_nats_a_token(left_to_right):
    model, x_0 = pretrained.new_sums_model(left_to_right=left_to_right), data.sums("train")[:2000]
    with torch.no_grad():
        loss = pretrained.tokens_loss(model, (x_0, x_0), seeded())
    assert loss.shape == (2000,)
    if left_to_right:
        torch.testing.assert_close(loss, torch.full((2000,), math.log(12)))
    else:
        agree(loss, math.log(12))  # a mean over times and masks


def test_the_trained_sums_are_as_good_as_their_cards():
    for name, least in {"sums": 0.9, "sums_left_to_right": 0.97}.items():
        quality, model = pretrained.card(name)["quality"], getattr(pretrained, name)()
        x = pretrained.write(model, tokens.all_masked(200, 9, 12), seed=5)
        right = float(pretrained.right_sums(x).float().mean())
        assert right >= least and right == pytest.approx(quality["right"], abs=0.06)
        assert len(x.unique(dim=0)) > 190  # and not always the same ones
        assert quality["nats, held out"] > quality["entropy"] - 0.01
        nats = pretrained.nats(model, data.sums("held_out")[:300], data.sums("all"), looks=4)
        assert float(nats.mean()) == pytest.approx(quality["nats, held out"], abs=0.1)
    plain = pretrained.nats(pretrained.sums(), data.sums("held_out")[:300], looks=4)
    paired = pretrained.nats(pretrained.sums(), data.sums("held_out")[:300], data.sums("all"), looks=4)
    assert paired.var() < 0.2 * plain.var()  # what the exact denoiser is for


def test_the_masked_model_of_sums_finds_any_missing_number():
    """What left to right cannot be asked: the first number from the rest. Held-out sums only."""
    x_0 = data.sums("held_out")[:200]
    for places in (slice(6, 9), slice(0, 2), slice(3, 5)):
        blank = x_0.clone()
        blank[:, places] = 12
        x = pretrained.write(pretrained.sums(), blank, order="confidence")
        assert (x == x_0).all(1).double().mean() > 0.9, places


def test_the_models_of_text_know_english_that_they_have_never_seen():
    """Bits a character of held-out lines as on their cards, far below those of guessing by frequency (4.1)."""
    x_0 = data.text("held_out")
    for name in ("text", "text_left_to_right"):
        card, model = pretrained.card(name)["quality"], getattr(pretrained, name)()
        bits = float(pretrained.nats(model, x_0, looks=4).mean()) / 48 / math.log(2)
        assert bits == pytest.approx(card["bits a character, held_out"], abs=0.15) and bits < 2.6


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
    model, history = pretrained.train_digits(steps=20, device="cuda")
    assert next(model.parameters()).is_cuda and history[-1].loss < history[0].loss

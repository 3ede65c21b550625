"""Shipped weights: what they are, how they were made, how well they do.

`digits()` is the model that every lesson may sample from; `classifier()` is the judge of lesson 07; lesson 09 uses
`emoji()`, in colour, and `latent_digits()`, which works between the halves of `autoencoder()`. All are small, were made
by the commands below from the shipped data alone, and carry a card that says so:

    python -m diffusion_lib.pretrained classifier
    python -m diffusion_lib.pretrained digits
    python -m diffusion_lib.pretrained emoji
    python -m diffusion_lib.pretrained autoencoder
    python -m diffusion_lib.pretrained latent_digits      # with the autoencoder that is shipped
    python -m diffusion_lib.pretrained sums               # lesson 10: masked diffusion on symbols, ...
    python -m diffusion_lib.pretrained sums_left_to_right # ... and its rival of the same size and training
    python -m diffusion_lib.pretrained text
    python -m diffusion_lib.pretrained text_left_to_right # stopped where its held-out bits are lowest
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch

from . import __version__, data, metrics, samplers
from .denoisers import Denoiser, even_times, middle_times
from .forward import noise_like, uniform_like
from .guidance import classifier_free, clip, drop_labels, limited
from .networks import Autoencoder, Transformer, UNet, count_parameters
from .schedules import Cosine, Linear
from .targets import V
from .tokens import LeftToRight, MaskedDenoiser, all_masked, exact_language, masked_loss, unmask
from .training import EMA, autocast, best_device, half_precision, load_tensors, save_tensors, to_device, train

BATCH_SIZE = 128
STEPS = 4000
INTERVAL = (0.5, 0.8)  # times with guidance; see the card for what that buys


def new_digits_model(seed=0):
    """The course's digit model before training: a small U-Net with labels, the cosine schedule, the target v."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(UNet(channels=1, widths=(16, 32, 64), labels=10), Cosine(), V)


def digits_loss(model, batch, generator):
    """The loss (B,) of a batch (x_0, label): mostly middle times, fresh noise, one label in ten dropped."""
    x_0, label = batch
    t = middle_times(len(x_0), generator)
    noise = noise_like(x_0, generator)
    label = drop_labels(label, null_label=10, probability=0.1, generator=generator)
    return model.loss(x_0, t, noise, label=label)


def fit(
    model,
    x_0,
    label,
    loss_fn,
    steps=None,
    seconds=None,
    seed=0,
    device="cpu",
    progress=None,
    batch_size=BATCH_SIZE,
    checkpoint=None,
):
    """Train any of the models here on (x_0, label), and put the average of its weights in place.

    Args:
        model: a module; it is moved to the device.
        x_0, label: (N, ...) and (N,) the data.
        loss_fn: function (model, batch, generator) -> loss (B,).
        steps, seconds: length of the run; at least one of them.
        seed: decides order of the data and noise.
        device: where to train.
        progress: function that wraps the generator of Progress, such as tqdm, or None.
        batch_size: samples in a step; more of them cost time and make the step more certain.
        checkpoint: file to save the run in and to go on from, or None.

    Returns:
        the model with its averaged weights, the list of Progress.
    """
    model = to_device(model, device)
    batches = data.Batches(x_0.to(device), label.to(device), batch_size, seed=seed)
    ema = EMA(model)
    dtype = half_precision(device)
    run = train(model, batches, loss_fn, steps, seconds, ema=ema, dtype=dtype, seed=seed, checkpoint=checkpoint)
    history = list(run if progress is None else progress(run))
    ema.swap()
    return model.eval(), history


def train_digits(steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=BATCH_SIZE, **options):
    """Train the digit model from scratch: the recipe of lesson 04 and of the shipped weights.

    Args:
        seed: decides initial weights, order of the data and noise.
        steps, seconds, device, progress, batch_size, **options: as for `fit`.

    Returns:
        the model with its averaged weights, the list of Progress.
    """
    x_0, label = data.digits("train")
    model = new_digits_model(seed)
    return fit(model, x_0, label, digits_loss, steps, seconds, seed, device, progress, batch_size, **options)


def guided(model, label, scale=2.0, interval=INTERVAL):
    """A denoiser for these labels (B,) with classifier-free guidance in an interval of times, and x_0 kept in [-1, 1].

    Args:
        model: a Denoiser with labels.
        label: (B,) classes, on the model's device.
        scale: of guidance, 1 for none.
        interval: (low, high), the times with guidance; (0, 1) guides everywhere.
    """
    plain = partial(model, label=label)
    if scale == 1:
        return clip(plain)
    return clip(limited(classifier_free(plain, model, scale), plain, *interval))


def sample_digits(model, label, scale=2.0, interval=INTERVAL, steps=50, eta=0.5, seed=0):
    """Digits (B, 1, 28, 28) of the classes label (B,), with DDIM.

    Args:
        model, label, scale, interval: as for `guided`.
        steps: steps of the sampler.
        eta: share of fresh noise (lesson 06), 0 for none.
        seed: decides the noise, the same on every device.
    """
    denoiser = guided(model, label, scale, interval)
    return sample(denoiser, model.schedule, (len(label), 1, 28, 28), label.device, steps, eta, seed)


def sample(denoiser, schedule, shape, device="cpu", steps=50, eta=0.5, seed=0):
    """Samples of that shape from any denoiser, with DDIM.

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        shape: (B, ...).
        device: where the denoiser is.
        steps, eta, seed: as for `sample_digits`.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = samplers.start_noise(schedule, shape, generator, device)
    with autocast(device, half_precision(device)):
        return samplers.last(
            samplers.ddim(denoiser, schedule, noise, samplers.time_grid(steps), eta, generator)
        ).float()


def new_emoji_model(seed=0):
    """The course's colour model before training: a U-Net of four levels with the groups of emoji as labels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        groups = len(data.emoji_groups()[1])
        return Denoiser(UNet(channels=3, widths=(16, 32, 64, 96), labels=groups), Cosine(), V)


def mirrored(x, generator=None):
    """Images x (B, C, H, W), each left or right way round by the toss of a coin."""
    coin = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(coin.to(x.device), x.flip(3), x)


def class_loss(model, batch, generator):
    """The loss (B,) of a batch (x_0, label), as digits_loss, for a model with any number of classes."""
    x_0, label = batch
    t = middle_times(len(x_0), generator)
    noise = noise_like(x_0, generator)
    null_label = model.network.condition.null_label
    return model.loss(x_0, t, noise, label=drop_labels(label, null_label, probability=0.1, generator=generator))


def emoji_loss(model, batch, generator):
    """`class_loss` of a batch (x_0, group), mirrored at random unless there is writing or a clock's hands to spoil."""
    x_0, group = batch
    kinds = data.emoji_groups()[1]
    one_way = torch.tensor([kinds.index(kind) for kind in ("clock", "office", "sign")], device=group.device)
    keep = torch.isin(group, one_way)[:, None, None, None]
    return class_loss(model, (torch.where(keep, x_0, mirrored(x_0, generator)), group), generator)


def train_emoji(steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=64, **options):
    """Train the colour model from scratch on nine of ten emoji, with their groups as labels.

    Args, Returns: as for `train_digits`.
    """
    x_0, place = data.emoji("train")
    group = data.emoji_groups()[0][place]
    model = new_emoji_model(seed)
    return fit(model, x_0, group, emoji_loss, steps, seconds, seed, device, progress, batch_size, **options)


def new_autoencoder(seed=0):
    """The course's autoencoder of digits before training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder()


def autoencoder_loss(model, batch, generator):
    """The loss (B,) of a batch (x_0, label) with fresh noise for its latents; the label is not looked at."""
    x_0, _ = batch
    noise = torch.randn(len(x_0), *model.latent_shape, generator=generator).to(x_0)
    return model.loss(x_0, noise)


def train_autoencoder(steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=64, **options):
    """Train the autoencoder from scratch, and scale its latents to mean 0 and variance 1 on the training digits.

    Args, Returns: as for `train_digits`.
    """
    x_0, label = data.digits("train")
    model = new_autoencoder(seed)
    model, history = fit(
        model, x_0, label, autoencoder_loss, steps, seconds, seed, device, progress, batch_size, **options
    )
    model.standardise(x_0.to(device))
    return model, history


def new_latent_model(seed=0):
    """The diffusion model on latents (B, 4, 7, 7) before training: 7 is odd, so that its U-Net has a single level."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(UNet(channels=4, widths=(64,), labels=10), Cosine(), V)


def train_latent_digits(
    steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=BATCH_SIZE, encoder=None, **options
):
    """Train the diffusion model on the latents of digits: each is encoded once, before the first step.

    Args, Returns: as for `train_digits`; and
        encoder: an Autoencoder, or None for the shipped one.
    """
    x_0, label = data.digits("train")
    encoder = autoencoder(device) if encoder is None else encoder
    with torch.no_grad():
        z = encoder.encode(x_0.to(device))
    model = new_latent_model(seed)
    return fit(model, z, label, class_loss, steps, seconds, seed, device, progress, batch_size, **options)


def new_sums_model(seed=0, left_to_right=False):
    """A model of sums before training, with or without an order: both have the same network of the same size."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Transformer(len(data.SUM_SYMBOLS), length=9, width=96, depth=3, causal=left_to_right)
        return LeftToRight(network) if left_to_right else MaskedDenoiser(network, Linear())


def new_text_model(seed=0, left_to_right=False):
    """A model of lines of English before training, as `new_sums_model`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Transformer(len(data.TEXT_SYMBOLS), length=48, width=96, depth=3, causal=left_to_right)
        return LeftToRight(network) if left_to_right else MaskedDenoiser(network, Linear())


def tokens_loss(model, batch, generator):
    """The loss (B,) of a batch (x_0, label) of tokens in nats a token, at even times for a masked model; the label is
    not looked at."""
    x_0, _ = batch
    if isinstance(model, LeftToRight):
        return model.loss(x_0) / x_0.shape[1]
    t = 1 - even_times(len(x_0), generator)  # in (0, 1]
    return model.loss(x_0, t, uniform_like(x_0, generator)) / x_0.shape[1]


def train_sums(
    steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=1024, left_to_right=False, **options
):
    """Train a model of sums from scratch on nine of ten of them.

    Args, Returns: as for `train_digits`; and
        left_to_right: False for masked diffusion.
    """
    x_0 = data.sums("train")
    model, label = new_sums_model(seed, left_to_right), torch.zeros(len(x_0))
    return fit(model, x_0, label, tokens_loss, steps, seconds, seed, device, progress, batch_size, **options)


def train_text(
    steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=128, left_to_right=False, **options
):
    """Train a model of lines of English from scratch.

    Args, Returns: as for `train_sums`.
    """
    x_0 = data.text("train")
    model, label = new_text_model(seed, left_to_right), torch.zeros(len(x_0))
    return fit(model, x_0, label, tokens_loss, steps, seconds, seed, device, progress, batch_size, **options)


@torch.no_grad()
def measure(model, n=300, scale=2.0, interval=INTERVAL, steps=50, eta=0.5, seed=0):
    """Class accuracy and Frechet distance of n guided samples, and the distance of n real digits as the floor.

    Returns:
        dict with n, scale, interval, steps, eta, accuracy, frechet, floor.
    """
    device = next(model.parameters()).device
    label = torch.arange(n, device=device) % 10
    samples = sample_digits(model, label, scale, interval, steps, eta, seed).cpu()
    judge = classifier()
    real, held_out = judge.features(data.digits("train")[0]), judge.features(data.digits("held_out")[0][:n])
    return {
        "n": n,
        "scale": scale,
        "interval": list(interval),
        "steps": steps,
        "eta": eta,
        "accuracy": round(metrics.accuracy(judge, samples, label.cpu()), 4),
        "frechet": round(metrics.frechet_distance(judge.features(samples), real), 3),
        "floor": round(metrics.frechet_distance(held_out, real), 3),
    }


def quality(model, n=300, steps=50, eta=0.5, seed=0):
    """`measure` for plain samples, for guidance of scale 2 in its interval, and for guidance at all times."""
    ways = {"plain": (1.0, (0, 1)), "guided": (2.0, INTERVAL), "guided everywhere": (2.0, (0, 1))}
    return {name: measure(model, n, scale, interval, steps, eta, seed) for name, (scale, interval) in ways.items()}


def judge_quality(model):
    """Share of held-out digits that the judge reads rightly."""
    return {"held-out accuracy": metrics.accuracy(model, *data.digits("held_out"))}


@torch.no_grad()
def loss_by_time(model, x_0, label, times=(0.2, 0.4, 0.6, 0.8), seed=0):
    """The mean loss on data (x_0, label) at each of these times, with the same noise every time: {time: loss}."""
    noise = noise_like(x_0, torch.Generator().manual_seed(seed))
    return {str(t): round(float(model.loss(x_0, torch.tensor(t), noise, label=label).mean()), 4) for t in times}


@torch.no_grad()
def emoji_quality(model, n=160, steps=50, seed=0):
    """Loss on trained and held-out emoji at four times, and how near n samples lie to the trained emoji.

    "nearest training emoji" is the mean distance (root mean square over the pixels) of a sample to the training emoji
    that is nearest to it; the same for held-out emoji says what a picture that is no copy has.
    """
    device, group = next(model.parameters()).device, data.emoji_groups()[0]
    results, images = {}, {}
    for split in ("train", "held_out"):
        x_0, place = data.emoji(split)
        images[split] = torch.cat([x_0, x_0.flip(3)]) if split == "train" else x_0
        results[f"loss, {split}"] = loss_by_time(model, x_0.to(device), group[place].to(device))
    label = torch.arange(n, device=device) % 16
    denoiser = guided(model, label, scale=1)
    images["samples"] = sample(denoiser, model.schedule, (n, 3, 32, 32), device, steps, seed=seed).cpu()
    for name in ("samples", "held_out"):
        apart = torch.cdist(images[name].flatten(1), images["train"].flatten(1)).amin(1) / (3 * 32 * 32) ** 0.5
        results[f"nearest training emoji, {name}"] = round(float(apart.mean()), 3)
    return results


@torch.no_grad()
def autoencoder_quality(model):
    """Held-out digits after encoding and decoding: mean squared error, accuracy, Frechet distance, and its floor."""
    device, judge = next(model.parameters()).device, classifier()
    x_0, label = data.digits("held_out")
    z = model.encode(x_0.to(device))
    again = model.decode(z).clamp(-1, 1).cpu()
    real = judge.features(data.digits("train")[0])
    return {
        "squared error": round(float(((again - x_0) ** 2).mean()), 4),
        "accuracy": round(metrics.accuracy(judge, again, label), 4),
        "frechet": round(metrics.frechet_distance(judge.features(again), real), 3),
        "floor": round(metrics.frechet_distance(judge.features(x_0), real), 3),
        "latent standard deviation": round(float(z.std()), 3),
    }


@torch.no_grad()
def latent_quality(model, n=1000, steps=50, eta=0.5, seed=0):
    """Accuracy and Frechet distance of n decoded samples without guidance."""
    device, judge = next(model.parameters()).device, classifier()
    label = torch.arange(n, device=device) % 10
    z = sample(partial(model, label=label), model.schedule, (n, 4, 7, 7), device, steps, eta, seed)
    x = autoencoder(device).decode(z).clamp(-1, 1).cpu()
    real = judge.features(data.digits("train")[0])
    return {
        "n": n,
        "steps": steps,
        "eta": eta,
        "accuracy": round(metrics.accuracy(judge, x, label.cpu()), 4),
        "frechet": round(metrics.frechet_distance(judge.features(x), real), 3),
    }


@torch.no_grad()
def nats(model, x_0, language=None, looks=16, seed=0):
    """What each sequence x_0 (B, L) costs the model: (B,) nats, exact for a left-to-right model; for a masked one the
    mean loss over so many times, a bound.

    Args:
        model: a LeftToRight or a MaskedDenoiser.
        x_0: (B, L) token ids.
        language: (N, L), all members of the language, if they are equally likely and known. Then the exact loss has the
            mean log N for each of them, and what chance makes of it with the same noise is taken off the model's.
        looks: times for each sequence.
        seed: decides times and noise.
    """
    if isinstance(model, LeftToRight):
        return model.loss(x_0)
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(len(x_0), device=x_0.device)
    exact = None if language is None else exact_language(language, model.mask)
    for _ in range(looks):
        t, noise = 1 - even_times(len(x_0), generator), uniform_like(x_0, generator)
        total += model.loss(x_0, t, noise)
        if exact is not None:
            total += math.log(len(language)) - masked_loss(exact, model.schedule, x_0, t, noise, model.mask)
    return total / looks


@torch.no_grad()
def nats_in_order(model, x_0):
    """What each sequence x_0 (B, L) costs a masked model that is asked from left to right: (B,) nats, and exact, as an
    order that is fixed makes the chain rule of them."""
    x_t, total = torch.full_like(x_0, model.mask), torch.zeros(len(x_0), device=x_0.device)
    for place in range(x_0.shape[1]):
        total -= model(x_t, 1.0)[:, place].gather(-1, x_0[:, place, None])[:, 0]
        x_t[:, place] = x_0[:, place]
    return total


def write(model, x_t, steps=None, order="shuffled", seed=0):
    """Symbols (B, L) in place of the masks of x_t (B, L): by unmasking, or from left to right, where the masks must
    be the end.

    Args:
        model: a MaskedDenoiser or a LeftToRight.
        x_t: (B, L) token ids.
        steps: of unmasking; None for one token a step.
        order: of unmasking.
        seed: decides the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(model, LeftToRight):
        known = int((x_t[0] != model.begin).sum())
        return model.generate(len(x_t), x_t.shape[1], generator, x_t[:, :known] if known else None)
    steps = steps or int((x_t == model.mask).sum(1).max())
    return samplers.last(unmask(model, model.schedule, x_t, samplers.time_grid(steps), generator, order))


def right_sums(x_0):
    """Which lines (B, 9) are right sums; bool."""
    tens, digits = torch.tensor([100, 10, 1], device=x_0.device), x_0[:, [0, 1, 3, 4, 6, 7, 8]]
    a, b, c = ((part * tens[-part.shape[1] :]).sum(1) for part in (digits[:, :2], digits[:, 2:4], digits[:, 4:]))
    return (digits < 10).all(1) & (x_0[:, 2] == 10) & (x_0[:, 5] == 11) & (a + b == c)


def sums_quality(model, n=1000):
    """Nats for held-out sums beside their entropy; share of right sums among n, written token by token; share of
    held-out sums whose result is found."""
    x_0 = data.sums("held_out").to(next(model.parameters()).device)
    blank = x_0.clone()
    blank[:, 6:] = len(data.SUM_SYMBOLS)
    right = right_sums(write(model, all_masked(n, 9, len(data.SUM_SYMBOLS), x_0.device)))
    found = (write(model, blank) == x_0).all(1)
    return {
        "nats, held out": round(float(nats(model, x_0, data.sums("all")).mean()), 3),
        "entropy": round(math.log(10_000), 3),
        "n": n,
        "right": round(float(right.float().mean()), 4),
        "results found, held out": round(float(found.float().mean()), 4),
    }


def text_quality(model):
    """Bits a character of training and held-out lines."""
    results = {}
    for split in ("train", "held_out"):
        x_0 = data.text(split)[:: 60 if split == "train" else 1].to(next(model.parameters()).device)
        results[f"bits a character, {split}"] = round(float(nats(model, x_0).mean()) / x_0.shape[1] / math.log(2), 3)
    return results


def weights_file(name):
    """The file of shipped weights of that name.

    Raises:
        ValueError: there is no such model.
    """
    folder = resources.files("diffusion_lib") / "weights"
    known = sorted(
        path.name.removesuffix(".safetensors") for path in folder.iterdir() if path.name.endswith(".safetensors")
    )
    if name not in known:
        raise ValueError(f"there are no weights called {name!r}; shipped are {', '.join(known) or 'none'}.")
    return Path(str(folder / f"{name}.safetensors"))


def card(name):
    """What is known of shipped weights: data, steps, seconds, device, code version, measured quality, as a dict."""
    return load_tensors(weights_file(name))[1]


def load(model, name):
    """Put shipped weights (stored in 16 bits) into a model.

    Raises:
        ValueError: unknown name, a damaged file, or weights of another model.
    """
    tensors, _ = load_tensors(weights_file(name))
    try:
        model.load_state_dict({key: value.float() for key, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(
            f"the weights {name!r} do not fit this model: {str(error).splitlines()[-1].strip()}"
        ) from error
    return model.eval().requires_grad_(False)


def digits(device="cpu"):
    """The trained digit model, a Denoiser with labels 0 to 9 (10, or none, for no label)."""
    return to_device(load(new_digits_model(), "digits"), device)


def classifier(device="cpu"):
    """The trained feature network of metrics, the judge of all samples."""
    return load(metrics.FeatureNetwork(), "classifier").to(device)


def emoji(device="cpu"):
    """The trained colour model, a Denoiser on (B, 3, 32, 32) with the 16 groups of data.emoji_groups() as labels (16,
    or none, for no label)."""
    return to_device(load(new_emoji_model(), "emoji"), device)


def autoencoder(device="cpu"):
    """The trained autoencoder of digits, with latents of mean 0 and variance 1."""
    return load(new_autoencoder(), "autoencoder").to(device)


def latent_digits(device="cpu"):
    """The trained diffusion model on latents (B, 4, 7, 7) of `autoencoder()`, with labels 0 to 9 (10, or none, for no
    label)."""
    return to_device(load(new_latent_model(), "latent_digits"), device)


def sums(device="cpu"):
    """The trained masked model of sums, a MaskedDenoiser on tokens (B, 9) of data.SUM_SYMBOLS."""
    return load(new_sums_model(), "sums").to(device)


def sums_left_to_right(device="cpu"):
    """The trained left-to-right model of sums, a LeftToRight of the same size as `sums()`."""
    return load(new_sums_model(left_to_right=True), "sums_left_to_right").to(device)


def text(device="cpu"):
    """The trained masked model of English lines, a MaskedDenoiser on tokens (B, 48) of data.TEXT_SYMBOLS."""
    return load(new_text_model(), "text").to(device)


def text_left_to_right(device="cpu"):
    """The trained left-to-right model of English lines, a LeftToRight of the same size as `text()`."""
    return load(new_text_model(left_to_right=True), "text_left_to_right").to(device)


class Recipe(NamedTuple):
    """How shipped weights are made.

    Args:
        data: what they were trained on, in words.
        steps: length of the run.
        train: function (steps, device, progress, checkpoint) -> (model, list of Progress).
        quality: function of the trained model -> dict of measured numbers.
    """

    data: str
    steps: int
    train: Callable
    quality: Callable


def recipes():
    """The recipe of every shipped model by name."""
    digits_only = "4,000 MNIST digits (data.digits('train'))"
    sums_only = "9,000 of the 10,000 sums of two numbers from 0 to 99 (data.sums('train'))"
    text_only = f"{len(data.text('train')):,} lines of Python's documentation (data.text('train'))"
    emoji_only = "1,222 emoji (data.emoji('train')), mirrored at random where no writing is spoilt"
    return {
        "classifier": Recipe(digits_only, 3000, train_judge, judge_quality),
        "digits": Recipe(digits_only, STEPS, train_digits, partial(quality, n=1000)),
        "emoji": Recipe(emoji_only, 2600, train_emoji, emoji_quality),
        "autoencoder": Recipe(digits_only, 1500, train_autoencoder, autoencoder_quality),
        "latent_digits": Recipe(digits_only, 4000, train_latent_digits, latent_quality),
        "sums": Recipe(sums_only, 1200, train_sums, sums_quality),
        "sums_left_to_right": Recipe(sums_only, 1200, partial(train_sums, left_to_right=True), sums_quality),
        "text": Recipe(text_only, 10_000, train_text, text_quality),
        "text_left_to_right": Recipe(text_only, 400, partial(train_text, left_to_right=True), text_quality),
    }


def train_judge(steps, device, progress, checkpoint):
    """The judge, always on the CPU and in one go: it takes half a minute."""
    return metrics.train_classifier(*data.digits("train"), steps=steps, progress=progress), []


def make(name, steps=None, checkpoint=None):
    """Train a shipped model from scratch and return (model, card). The weights are rounded to the 16 bits of its file,
    so those are what is measured."""
    from tqdm.auto import tqdm

    recipe, device, begin = recipes()[name], best_device(), time.perf_counter()
    steps = steps or recipe.steps
    progress = partial(tqdm, total=steps, desc=name)
    model, history = recipe.train(steps=steps, device=device, progress=progress, checkpoint=checkpoint)
    seconds = history[-1].seconds if history else time.perf_counter() - begin  # of all parts of a run that was stopped
    model.load_state_dict({key: value.half().float() for key, value in model.state_dict().items()})
    last = [p.loss for p in history[-100:]]
    results = {"final loss": round(sum(last) / len(last), 4)} if last else {}
    return model, {
        "name": name,
        "data": recipe.data,
        "parameters": count_parameters(model),
        "steps": steps,
        "seconds": round(seconds),
        "device": f"{next(model.parameters()).device.type}, {torch.get_num_threads()} threads, {platform.machine()}",
        "versions": {"diffusion_lib": __version__, "torch": torch.__version__},
        "quality": results | recipe.quality(model),
    }


def main(arguments=None):
    """Retrain shipped weights: python -m diffusion_lib.pretrained NAME [--steps N] [--folder F] [--checkpoint C]."""
    parser = argparse.ArgumentParser(description="Train the shipped weights from scratch, by the code of the lessons.")
    parser.add_argument("name", choices=list(recipes()))
    parser.add_argument("--steps", type=int, help="a shorter run, for a try")
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib") / "weights")))
    parser.add_argument("--checkpoint", type=Path, help="file to save the run in, and to go on from after a stop")
    options = parser.parse_args(arguments)
    model, about = make(options.name, options.steps, options.checkpoint)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.name}.safetensors"
    save_tensors(path, {key: value.half() for key, value in model.state_dict().items()}, about)
    path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf8")
    print(json.dumps(about, indent=2))


if __name__ == "__main__":
    main()

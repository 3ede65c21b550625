"""The shipped weights: train one again, measure it, and write it with its card."""

import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from .. import __version__, data, files, metrics, pretrained, recipes
from ..denoisers import Denoiser
from ..forward import noise_like
from ..networks import Autoencoder, count_parameters
from ..pretrained import INTERVAL, sample_tokens
from ..tokens import LeftToRight, MaskedDenoiser, all_masked
from ..training import Progress, best_device, save_tensors
from .text import nats, right_sums


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


def shipped() -> dict[str, Recipe]:
    """The recipe of every shipped model by name."""
    digits_only = "4,000 MNIST digits (data.digits('train'))"
    sums_only = "9,000 of the 10,000 sums of two numbers from 0 to 99 (data.sums('train'))"
    text_only = f"{len(data.text('train')):,} lines of Python's documentation (data.text('train'))"
    emoji_only = "1,222 emoji (data.emoji('train')), mirrored at random where no writing is spoilt"
    return {
        "classifier": Recipe(digits_only, 3000, train_judge, judge_quality),
        "digits": Recipe(digits_only, recipes.STEPS, recipes.train_digits, partial(digits_quality, n=1000)),
        "emoji": Recipe(emoji_only, 2600, recipes.train_emoji, emoji_quality),
        "autoencoder": Recipe(digits_only, 1500, recipes.train_autoencoder, autoencoder_quality),
        "latent_digits": Recipe(digits_only, 4000, train_on_latents, latent_quality),
        "sums": Recipe(sums_only, 1200, recipes.train_sums, sums_quality),
        "sums_left_to_right": Recipe(sums_only, 1200, partial(recipes.train_sums, left_to_right=True), sums_quality),
        "text": Recipe(text_only, 10_000, recipes.train_text, text_quality),
        "text_left_to_right": Recipe(text_only, 400, partial(recipes.train_text, left_to_right=True), text_quality),
    }


def train_judge(
    steps: int, device: torch.device | str, progress: Callable, checkpoint: str | Path | None
) -> tuple[metrics.FeatureNetwork, list]:
    """The judge, always on the CPU and in one go: it takes half a minute."""
    return metrics.train_classifier(*data.digits("train"), steps=steps, progress=progress), []


def make_weights(name: str, steps: int | None = None, checkpoint: str | Path | None = None) -> tuple[nn.Module, dict]:
    """Train a shipped model from scratch and return (model, card). The weights are rounded to the 16 bits of its file,
    so those are what is measured."""
    recipe, device, begin = shipped()[name], best_device(), time.perf_counter()
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


def train_on_latents(device: torch.device | str = "cpu", **options) -> tuple[nn.Module, list[Progress]]:
    """The model of latents, on those of the shipped autoencoder."""
    return recipes.train_latent_digits(pretrained.autoencoder(device), device=device, **options)


def write_weights(folder: str | Path, model: nn.Module, card: dict) -> None:
    """The weights of a model in 16 bits with their card inside, and the card beside them as text."""
    path = Path(folder) / f"{card['name']}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, {key: value.half() for key, value in model.state_dict().items()}, card)
    files.write_atomically(path.with_suffix(".json"), json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


@torch.no_grad()
def measure_digits(
    model: Denoiser,
    n: int = 300,
    scale: float = 2.0,
    interval: tuple[float, float] = INTERVAL,
    steps: int = 50,
    eta: float = 0.5,
    seed: int = 0,
) -> dict:
    """Class accuracy and Frechet distance of n guided samples, and the distance of n real digits as the floor.

    Returns:
        dict with n, scale, interval, steps, eta, accuracy, frechet, floor.
    """
    device = next(model.parameters()).device
    label = torch.arange(n, device=device) % 10
    samples = pretrained.sample_digits(model, label, scale, interval, steps, eta, seed).cpu()
    judge = pretrained.classifier()
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


def digits_quality(model: Denoiser, n: int = 300, steps: int = 50, eta: float = 0.5, seed: int = 0) -> dict[str, dict]:
    """`measure_digits` for plain samples, for guidance of scale 2 in its interval, and for guidance at all times."""
    ways = {"plain": (1.0, (0, 1)), "guided": (2.0, INTERVAL), "guided everywhere": (2.0, (0, 1))}
    return {name: measure_digits(model, n, *way, steps, eta, seed) for name, way in ways.items()}


def judge_quality(model: metrics.FeatureNetwork) -> dict[str, float]:
    """Share of held-out digits that the judge reads rightly."""
    return {"held-out accuracy": metrics.accuracy(model, *data.digits("held_out"))}


@torch.no_grad()
def loss_by_time(
    model: Denoiser, x_0: Tensor, label: Tensor, times: Sequence[float] = (0.2, 0.4, 0.6, 0.8), seed: int = 0
) -> dict[str, float]:
    """The mean loss on data (x_0, label) at each of these times, with the same noise every time: {time: loss}."""
    noise = noise_like(x_0, torch.Generator().manual_seed(seed))
    return {str(t): round(float(model.loss(x_0, torch.tensor(t), noise, label=label).mean()), 4) for t in times}


@torch.no_grad()
def emoji_quality(model: Denoiser, n: int = 160, steps: int = 50, seed: int = 0) -> dict:
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
    denoiser = pretrained.guided(model, label, scale=1)
    images["samples"] = pretrained.sample(denoiser, model.schedule, (n, 3, 32, 32), device, steps, seed=seed).cpu()
    for name in ("samples", "held_out"):
        apart = torch.cdist(images[name].flatten(1), images["train"].flatten(1)).amin(1) / (3 * 32 * 32) ** 0.5
        results[f"nearest training emoji, {name}"] = round(float(apart.mean()), 3)
    return results


@torch.no_grad()
def autoencoder_quality(model: Autoencoder) -> dict[str, float]:
    """Held-out digits after encoding and decoding: mean squared error, accuracy, Frechet distance, and its floor."""
    device, judge = next(model.parameters()).device, pretrained.classifier()
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
def latent_quality(
    model: Denoiser, n: int = 1000, steps: int = 50, eta: float = 0.5, seed: int = 0
) -> dict[str, float]:
    """Accuracy and Frechet distance of n decoded samples without guidance."""
    device, judge = next(model.parameters()).device, pretrained.classifier()
    label = torch.arange(n, device=device) % 10
    z = pretrained.sample(partial(model, label=label), model.schedule, (n, 4, 7, 7), device, steps, eta, seed)
    x = pretrained.autoencoder(device).decode(z).clamp(-1, 1).cpu()
    real = judge.features(data.digits("train")[0])
    return {
        "n": n,
        "steps": steps,
        "eta": eta,
        "accuracy": round(metrics.accuracy(judge, x, label.cpu()), 4),
        "frechet": round(metrics.frechet_distance(judge.features(x), real), 3),
    }


def sums_quality(model: MaskedDenoiser | LeftToRight, n: int = 1000) -> dict[str, float]:
    """Nats for held-out sums beside their entropy; share of right sums among n, written token by token; share of
    held-out sums whose result is found."""
    x_0 = data.sums("held_out").to(next(model.parameters()).device)
    blank = x_0.clone()
    blank[:, 6:] = len(data.SUM_SYMBOLS)
    right = right_sums(sample_tokens(model, all_masked(n, 9, len(data.SUM_SYMBOLS), x_0.device)))
    found = (sample_tokens(model, blank) == x_0).all(1)
    return {
        "nats, held out": round(float(nats(model, x_0, data.sums("all")).mean()), 3),
        "entropy": round(math.log(10_000), 3),
        "n": n,
        "right": round(float(right.float().mean()), 4),
        "results found, held out": round(float(found.float().mean()), 4),
    }


def text_quality(model: MaskedDenoiser | LeftToRight) -> dict[str, float]:
    """Bits a character of training and held-out lines."""
    results = {}
    for split in ("train", "held_out"):
        x_0 = data.text(split)[:: 60 if split == "train" else 1].to(next(model.parameters()).device)
        results[f"bits a character, {split}"] = round(float(nats(model, x_0).mean()) / x_0.shape[1] / math.log(2), 3)
    return results

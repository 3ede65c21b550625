"""Diffusion, a GAN and a VAE on one bench: equal data, equal parameters, equal budgets (lesson 11).

Every method has about 92,000 parameters, the 4,000 training digits without labels, batches of 32, Adam, one and the
same course of the learning rate, and an average of its weights to sample from. It trains for equal seconds, or on as
many images as diffusion sees in them; a second is a second of work of one processor core, so that whatever else the
machine does bends little (on a GPU: a second). Here are the contestants, their training and their judge; `race` has the
long comparison.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import data, metrics, pretrained, rivals, samplers
from ..denoisers import Denoiser, even_times, middle_times
from ..forward import noise_like
from ..guidance import clip
from ..measured import read_pictures
from ..networks import UNet
from ..recipes import seeded
from ..schedules import Cosine
from ..targets import V
from ..training import EMA, learning_rate_share, require_finite
from .common import fidelity_and_distance

METHODS = ("diffusion", "gan", "vae")
BATCH_SIZE = 32
WIDTHS, CONDITION, RIVAL_WIDTH, VAE_LATENT = (8, 16, 32), 64, 16, 12  # 92,000 parameters each
N = 1000  # samples that are judged
SAMPLER = ("dpm_solver", 20)  # of diffusion, where nothing else is said
CHOSEN = {  # the best of each grid: bench_tuning.json
    "diffusion": {"rate": 2e-3, "times": "middle"},
    "gan": {"rate": 5e-3, "beta_1": 0.0, "remedy": "spectral"},
    "vae": {"rate": 8e-3, "std": 1.2},
}
RECALL, CLASSES = 0.3, 9  # a run with less of one of them has collapsed


def new_contestant(name: str, seed: int, setting: dict | None = None) -> nn.Module:
    """A new model of this method; about 92,000 parameters whichever it is.

    Args:
        name: "diffusion", "gan" or "vae".
        seed: decides the first weights.
        setting: dict as in CHOSEN, or None for that one.
    """
    require_method(name)
    setting = setting or CHOSEN[name]
    if name == "diffusion":
        return seeded(seed, lambda: Denoiser(UNet(channels=1, widths=WIDTHS, condition_dim=CONDITION), Cosine(), V))
    if name == "vae":
        return seeded(seed, lambda: rivals.VAE(VAE_LATENT, RIVAL_WIDTH, std=setting["std"]))
    remedy = setting["remedy"]
    penalty = float(remedy.removeprefix("R1 of ")) if remedy.startswith("R1 of ") else 0.0
    return seeded(seed, lambda: rivals.GAN(width=RIVAL_WIDTH, penalty=penalty, spectral=remedy == "spectral"))


def update(
    name: str, model: nn.Module, optimizers: Sequence[Optimizer], x_0: Tensor, generator: torch.Generator, setting: dict
) -> dict[str, float]:
    """One step of training on images x_0 (B, 1, 28, 28): {name of a loss: its value before the step}."""
    if name == "gan":
        return rivals.gan_step(model, optimizers, x_0, generator)
    if name == "vae":
        noise = torch.randn(len(x_0), model.latent, generator=generator).to(x_0)
        loss = model.loss(x_0, noise).mean()
    else:
        times = {"even": even_times, "middle": middle_times}[setting["times"]](len(x_0), generator)
        loss = model.loss(x_0, times, noise_like(x_0, generator)).mean()
    rivals.descend(optimizers[0], loss)
    return {"loss": loss.item()}


def players(name: str, model: nn.Module) -> list[nn.Module]:
    """The modules with an optimiser of their own; the first is the one that makes images."""
    return [model.generator, model.discriminator] if name == "gan" else [model]


class BenchStep(NamedTuple):
    """How far a run is: steps, images seen, seconds of one core, and the losses {name: value} of the last step."""

    step: int
    images: int
    seconds: float
    losses: dict


def train_contestant(
    name: str,
    model: nn.Module,
    seed: int,
    seconds: float | None = None,
    images: float | None = None,
    setting: dict | None = None,
    ema: EMA | None = None,
) -> Iterator[BenchStep]:
    """Train any of the three on the training digits: each `next` makes a step and says how it went.

    The learning rate rises over the first twentieth of the budget and falls as half a cosine over the rest. Only the
    time inside a step counts, so that the caller may look at the model between two of them.

    Args:
        name: "diffusion", "gan" or "vae".
        model: from `new_contestant`.
        seed: decides the order of the data and the noise.
        seconds: budget in seconds of one processor core (on a GPU: seconds); or
        images: budget in training images seen.
        setting: dict as in CHOSEN, or None for that one.
        ema: an EMA of the module that makes images (`ema_of`), or None.

    Yields:
        BenchStep(step, images, seconds, losses).

    Raises:
        FloatingPointError: a loss is not finite.
    """
    require_method(name)
    require_budget(seconds, images)
    setting = setting or CHOSEN[name]
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(seed)
    x_0, label = (values.to(device) for values in data.digits("train"))
    batches = data.Batches(x_0, label, BATCH_SIZE, seed)
    betas = (setting.get("beta_1", 0.9), 0.99)
    optimizers = [torch.optim.Adam(part.parameters(), setting["rate"], betas) for part in players(name, model)]
    step, spent = 0, 0.0
    while (done := spent / seconds if seconds else step * BATCH_SIZE / images) < 1:
        with one_core(device):
            begin = clock(device)
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = setting["rate"] * learning_rate_share(done, 0.05)
            losses = update(name, model, optimizers, next(batches)[0], generator, setting)
            if ema is not None:
                ema.update()
            spent += clock(device) - begin
        step += 1
        for key, value in losses.items():
            require_finite(f"loss ({key})", torch.tensor(value), step)
        yield BenchStep(step, step * BATCH_SIZE, spent, losses)


def ema_of(name: str, model: nn.Module) -> EMA:
    """An EMA of the module that makes images: samples come from the average for every method."""
    return EMA(players(name, model)[0])


@contextlib.contextmanager
def one_core(device: torch.device) -> Iterator[None]:
    """On a CPU, work in one thread: seconds of work and seconds on the clock are then the same."""
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def clock(device: torch.device) -> float:
    """Seconds this process has worked; on a GPU, whose work is no process's, seconds that have gone by."""
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def sample_contestant(
    name: str, model: nn.Module, n: int, seed: int, sampler: str = SAMPLER[0], calls: int = SAMPLER[1]
) -> Tensor:
    """n images (n, 1, 28, 28) in [-1, 1], on the CPU.

    Args:
        name: "diffusion", "gan" or "vae".
        model: a trained one.
        n: how many.
        seed: decides the noise.
        sampler, calls: for diffusion: "ddim", "dpm_solver" or "ddpm", and the calls of its network.
    """
    require_method(name)
    require_sampler(sampler, calls)
    rivals.require_number("n", n)
    generator = torch.Generator().manual_seed(seed)
    if name != "diffusion":
        return model.sample(n, generator).cpu()
    noise = samplers.start_noise(model.schedule, (n, 1, 28, 28), generator, next(model.parameters()).device)
    follow = getattr(samplers, sampler)
    random = {"generator": generator} if sampler == "ddpm" else {}
    x = samplers.last(follow(clip(model), model.schedule, noise, samplers.time_grid(calls), **random))
    return x.clamp(-1, 1).cpu()


@lru_cache
@torch.no_grad()
def judge_and_real() -> tuple[metrics.FeatureNetwork, Tensor, Tensor]:
    """The classifier of lesson 07, the training digits and their features."""
    classifier, training = pretrained.classifier(), data.digits("train")[0]
    return classifier, training, classifier.features(training)


@torch.no_grad()
def judge(x: Tensor) -> dict:
    """What this course says of images x (n, 1, 28, 28): a dict, None where a number cannot be had.

    Frechet distance to all training digits; precision, recall, density, coverage against as many of them (lesson 07);
    "classes", how many images the classifier takes for each digit; "copies", the share of copies of training digits;
    "grey", the share of pixels with |x| < 0.8 (blur has many, writing few); "collapsed" (`collapsed`).
    """
    keys = ("frechet", "precision", "recall", "density", "coverage", "classes", "copies", "grey")
    if not x.isfinite().all():
        return dict.fromkeys(keys) | {"n": len(x), "collapsed": True}
    classifier, training, real = judge_and_real()
    result = fidelity_and_distance(real, classifier.features(x))
    result["classes"] = metrics.class_histogram(classifier, x).tolist()
    result["copies"] = round(float(metrics.copies(x, training).double().mean()), 4)
    result["grey"] = round(float((x.abs() < 0.8).double().mean()), 4)
    return result | {"n": len(x), "collapsed": collapsed(result)}


def collapsed(judged: dict) -> bool:
    """Whether a run counts as collapsed: recall under 0.3, or fewer than nine of the ten digits with one per cent.

    A collapse is a loss of variety (Goodfellow 2016, sec. 5.1.1). The rule of the first race asked for a coverage of
    0.3 in place of recall. It was given up after the first run of that race, a diffusion model whose samples held
    all ten digits with a coverage of 0.28: coverage falls with poor strokes, too. The rows serve any rule.
    """
    present = sum(count >= 0.01 * sum(judged["classes"]) for count in judged["classes"])
    return judged["recall"] < RECALL or present < CLASSES


def pictures() -> dict[str, Tensor]:
    """The first ten samples of every run of equal seconds, committed: {method: (seeds, 10, 1, 28, 28)} in [-1, 1]."""
    kept = read_pictures("bench_samples")
    seeds = sorted({int(key.split("_")[1]) for key in kept})
    return {name: torch.stack([kept[f"{name}_{seed}"] for seed in seeds]).unsqueeze(2) for name in METHODS}


def require_method(name):
    """Refuse a method that is not on the bench."""
    if name not in METHODS:
        raise ValueError(f"name is {name!r}; expected one of {', '.join(map(repr, METHODS))}.")


def require_budget(seconds, images):
    """Refuse no budget, two of them, or one that is not positive."""
    if (seconds is None) == (images is None):
        raise ValueError(f"seconds is {seconds} and images is {images}; give one of them, the budget of the run.")
    if not 0 < (images if seconds is None else seconds) < math.inf:
        raise ValueError(f"the budget is {images if seconds is None else seconds}; expected a positive number.")


def require_sampler(sampler, calls):
    """Refuse samplers that the bench does not know."""
    if sampler not in ("ddim", "dpm_solver", "ddpm"):
        raise ValueError(f"sampler is {sampler!r}; expected 'ddim', 'dpm_solver' or 'ddpm'.")
    rivals.require_number("calls", calls)

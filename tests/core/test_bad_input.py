"""Every public function refuses what it cannot work with, and says what came, what is expected or what to do.

One table: the call, the kind of error, words of its message. The device `meta` stands for another device.
"""

import ast
import functools
import importlib
import inspect
import linecache
import math
import pkgutil
import traceback
from pathlib import Path

import pytest
import torch

import diffusion_lib
from diffusion_lib import (
    adapters,
    costs,
    data,
    downloads,
    editing,
    guidance,
    measured,
    metrics,
    plots,
    pretrained,
    recipes,
    rivals,
    tokens,
    training,
    widgets,
)
from diffusion_lib.denoisers import (
    Denoiser,
    even_times,
    exact_dataset,
    exact_gaussian,
    exact_mixture,
    middle_times,
    time_per_sample,
)
from diffusion_lib.exercises import find
from diffusion_lib.experiments import bench, dots, memory, minority, race, resolution
from diffusion_lib.experiments import text as text_experiment
from diffusion_lib.forward import add_noise, mask_tokens, noising_step, posterior
from diffusion_lib.networks import MLP, Autoencoder, Transformer, UNet, timestep_embedding
from diffusion_lib.samplers import ddim, ddpm, dpm_solver, heun, last, start_noise, time_grid
from diffusion_lib.schedules import Betas, Cosine, Linear, Shifted
from diffusion_lib.targets import NOISE, X_0, V, edm
from tests.common import lesson_at, seeded
from tools import LESSONS
from tools.rules import numbered, parse

X, T = torch.zeros(2, 3), torch.tensor([0.2, 0.5])
IMAGE = torch.zeros(2, 1, 8, 8)
INTEGERS = torch.zeros(2, 3, dtype=torch.int64)
ELSEWHERE = torch.zeros(2, 3, device="meta")
LABEL = torch.tensor([0, 1])
LOSS = lambda model, batch, generator: model.weight.sum()  # noqa: E731


def silent(x_t, t, **condition):
    return torch.zeros_like(x_t)


def unet():
    return UNet(channels=1, widths=(8, 16), labels=10, condition_dim=8)


def mlp(labels=None):
    return MLP(features=3, width=8, depth=1, labels=labels)


def run(**options):
    return next(training.train(torch.nn.Linear(2, 2), iter([1, 2, 3]), LOSS, **options))


def sample(sampler, times=(1.0, 0.0), x_t=X, **options):
    return list(sampler(silent, Cosine(), x_t, times, **options))


def loaded(name, model=None):
    return pretrained.load(model or torch.nn.Linear(2, 2), name)


class Scheduler:
    """As much of a scheduler of diffusers as its adapter looks at."""

    def __init__(self, prediction_type):
        self.betas, self.config = [0.1, 0.2], self
        self.prediction_type = prediction_type


def outside(low, high=None):
    return f"t reaches from {low} to {high or low}; times lie in \\[0, 1\\]"


TABLE = {
    # schedules
    "a time below 0": (lambda: Cosine().alpha(-0.1), ValueError, outside("-0.1")),
    "a time above 1": (lambda: Linear().sigma(1.5), ValueError, outside("1.5") + ".*use i / T"),
    "a time that is nan": (lambda: Cosine().alpha(math.nan), ValueError, outside("nan")),
    "DDPM's step numbers for times": (lambda: Betas.linear().alpha(torch.tensor([0, 999])), ValueError, "use i / T"),
    "a time outside in log_snr": (lambda: Cosine().log_snr(2), ValueError, outside("2")),
    "times with two axes": (
        lambda: Cosine().alpha(torch.zeros(2, 2)),
        ValueError,
        r"shape \(2, 2\); expected one time",
    ),
    "three times for two samples": (lambda: Cosine().scales(torch.zeros(3), X), ValueError, "3 times for 2 samples"),
    "fresh_share with three times": (
        lambda: Cosine().fresh_share(torch.ones(3), 0.1, X),
        ValueError,
        "3 times for 2 samples",
    ),
    "along outside": (lambda: Cosine().along([0.5, 1.5]), ValueError, outside("0.5", "1.5")),
    "fresh_share outside": (lambda: Cosine().fresh_share(1.1, 0.1, X), ValueError, outside("1.1")),
    "a beta of 1": (lambda: Betas([0.1, 1.0]), ValueError, "betas reach from 0.1 to 1; variances lie between 0 and 1"),
    "a beta that is nan": (lambda: Betas([0.1, math.nan]), ValueError, "variances lie between 0 and 1"),
    "no betas": (lambda: Betas([]), ValueError, r"shape \(0,\); expected \(T,\)"),
    "betas with two axes": (lambda: Betas(torch.full((2, 2), 0.1)), ValueError, r"shape \(2, 2\); expected \(T,\)"),
    "a negative offset": (lambda: Cosine(-0.1), ValueError, r"offset is -0.1; expected .*\[0, 1\)"),
    "half a step": (lambda: Cosine().betas(2.5), ValueError, "T is 2.5; expected the number of steps, a whole number"),
    "no steps": (lambda: Cosine().betas(0), ValueError, "T is 0; expected"),
    "a factor of 0": (lambda: Shifted(Cosine(), 0), ValueError, "factor is 0; expected"),
    "a factor that is nan": (lambda: Shifted(Cosine(), math.nan), ValueError, "factor is nan; expected"),
    # forward
    "noise of another shape": (
        lambda: add_noise(Cosine(), X, torch.zeros(3), 0.5),
        ValueError,
        r"noise has shape \(3,\) and x \(2, 3\)",
    ),
    "one noise for the whole batch": (lambda: add_noise(Cosine(), X, X[:1], 0.5), ValueError, "its own noise"),
    "whole numbers for x_0": (
        lambda: add_noise(Cosine(), INTEGERS, X, 0.5),
        TypeError,
        "int64; expected .*data.to_unit",
    ),
    "whole numbers for noise": (lambda: add_noise(Cosine(), X, INTEGERS, 0.5), TypeError, "noise is torch.int64"),
    "a list for x_0": (lambda: add_noise(Cosine(), [1.0], X, 0.5), TypeError, "x is list; expected a float tensor"),
    "pixels of 0..255": (
        lambda: add_noise(Cosine(), IMAGE + 255, IMAGE, 0.5),
        ValueError,
        r"up to 255; images are expected in \[-1, 1\] \(use data.to_unit\)",
    ),
    "noise on another device": (
        lambda: add_noise(Cosine(), X, ELSEWHERE, 0.5),
        ValueError,
        "on meta and x on cpu; move",
    ),
    "add_noise at a time outside": (lambda: add_noise(Cosine(), X, X, 7.0), ValueError, outside("7")),
    "add_noise with three times": (
        lambda: add_noise(Cosine(), X, X, torch.zeros(3)),
        ValueError,
        "3 times for 2 samples",
    ),
    "a beta above 1": (lambda: noising_step(X, 1.2, X), ValueError, "beta is 1.2; expected one number, the variance"),
    "a negative beta": (lambda: noising_step(X, -0.1, X), ValueError, "beta is -0.1; expected"),
    "two betas at once": (
        lambda: noising_step(X, torch.tensor([0.1, 0.2]), X),
        ValueError,
        r"shape \(2,\); expected one",
    ),
    "noising with other noise": (lambda: noising_step(X, 0.1, X[:1]), ValueError, "give every number its own noise"),
    "posterior of strangers": (lambda: posterior(Cosine(), X, X[:, :2], 0.5, 0.2), ValueError, "they must be alike"),
    "posterior of whole numbers": (lambda: posterior(Cosine(), INTEGERS, X, 0.5, 0.2), TypeError, "x_0 is torch.int64"),
    "posterior on two devices": (lambda: posterior(Cosine(), X, ELSEWHERE, 0.5, 0.2), ValueError, "x_t on meta; move"),
    "posterior backwards": (
        lambda: posterior(Cosine(), X, X, 0.2, 0.5),
        ValueError,
        "s is 0.5 and t is 0.2.*earlier s < t",
    ),
    "posterior standing still": (lambda: posterior(Cosine(), X, X, 0.5, 0.5), ValueError, "earlier s < t"),
    "posterior outside": (lambda: posterior(Cosine(), X, X, 1.5, 0.5), ValueError, outside("1.5")),
    "posterior, one of the batch backwards": (
        lambda: posterior(Cosine(), X, X, T, T.flip(0)),
        ValueError,
        "earlier s < t",
    ),
    # targets
    "edm for data without spread": (lambda: edm(0.0), ValueError, "data_std is 0.0; expected the standard deviation"),
    # denoisers
    "schedule and target swapped": (
        lambda: Denoiser(silent, V, Cosine()),
        TypeError,
        "Target and Cosine; expected Denoiser",
    ),
    "a target by its name": (lambda: Denoiser(silent, Cosine(), "v"), TypeError, "Cosine and str; expected Denoiser"),
    "noise where there is no signal": (
        lambda: Denoiser(silent, Linear(), NOISE)(X, 1.0),
        ValueError,
        "at t = 1.0 .*'noise' says nothing about x_0. Begin a little inside",
    ),
    "noise at one time of a batch": (
        lambda: Denoiser(silent, Linear(), NOISE)(X, torch.tensor([0.5, 1.0])),
        ValueError,
        "says nothing about x_0",
    ),
    "a denoiser's time outside": (lambda: Denoiser(silent, Cosine(), X_0)(X, 1.01), ValueError, outside("1.01")),
    "a denoiser's three times": (lambda: Denoiser(silent, Cosine(), V)(X, torch.ones(3)), ValueError, "3 times for 2"),
    "a denoiser of whole numbers": (
        lambda: Denoiser(silent, Cosine(), V)(INTEGERS, 0.5),
        TypeError,
        "x_t is torch.int64",
    ),
    "the loss of pixels": (
        lambda: Denoiser(silent, Cosine(), V).loss(IMAGE + 200, T, IMAGE),
        ValueError,
        r"expected in \[-1, 1\]",
    ),
    "the loss with other noise": (lambda: Denoiser(silent, Cosine(), V).loss(X, T, X[:1]), ValueError, "its own noise"),
    "the loss at a time outside": (lambda: Denoiser(silent, Cosine(), V).loss(X, 5, X), ValueError, outside("5")),
    "time_per_sample outside": (lambda: time_per_sample(1.2, X), ValueError, outside("1.2")),
    "no times to draw": (lambda: even_times(0), ValueError, "batch_size is 0; expected"),
    "no middle times": (lambda: middle_times(0), ValueError, "batch_size is 0; expected"),
    "half a time": (lambda: even_times(2.5), ValueError, "batch_size is 2.5; expected"),
    "a Gaussian of no width": (
        lambda: exact_gaussian(Cosine(), 0.0, 0.0),
        ValueError,
        "a standard deviation is positive",
    ),
    "weights that miss 1": (
        lambda: exact_mixture(Cosine(), [0.5, 0.4], [[0.0], [1.0]], [0.1, 0.1]),
        ValueError,
        "positive numbers that sum to 1",
    ),
    "three stds for two means": (
        lambda: exact_mixture(Cosine(), [0.5, 0.5], [[0.0], [1.0]], [0.1, 0.1, 0.1]),
        ValueError,
        r"stds \(3,\); expected \(K,\), \(K, D\) and \(K,\)",
    ),
    "a mixture of no width": (
        lambda: exact_mixture(Cosine(), [0.5, 0.5], [[0.0], [1.0]], [0.1, -0.1]),
        ValueError,
        "standard deviations are positive",
    ),
    "points outside the mixture's space": (
        lambda: exact_mixture(Cosine(), [1.0], [[0.0, 0.0]], [0.1])(X, 0.5),
        ValueError,
        r"shape \(2, 3\); the mixture lives in \(B, 2\)",
    ),
    "a mixture of whole numbers": (
        lambda: exact_mixture(Cosine(), [1.0], [[0.0] * 3], [0.1])(INTEGERS, 0.5),
        TypeError,
        "x_t is torch.int64; expected a float tensor",
    ),
    "pictures unlike the data set": (
        lambda: exact_dataset(Cosine(), IMAGE)(X, 0.5),
        ValueError,
        r"shape \(2, 3\); members of the data set have \(1, 8, 8\)",
    ),
    "a data set without noise": (lambda: exact_dataset(Cosine(), X)(X, 0.0), ValueError, "t reaches 0.*expected t > 0"),
    # networks
    "an odd embedding": (lambda: timestep_embedding(T, 7), ValueError, "dim is 7; expected an even number"),
    "an embedding of one number": (lambda: timestep_embedding(torch.tensor(0.5), 8), ValueError, r"expected \(B,\)"),
    "step numbers for an embedding": (lambda: timestep_embedding(1000 * T, 8), ValueError, "from 200 to 500.*i / T"),
    "colour for a grey network": (lambda: unet()(IMAGE.expand(2, 3, 8, 8), T), ValueError, r"expects \(B, 1, H, W\)"),
    "points for a U-Net": (lambda: unet()(X, T), ValueError, r"shape \(2, 3\); this network expects \(B, 1, H, W\)"),
    "an odd side": (
        lambda: unet()(IMAGE[..., :7], T),
        ValueError,
        "images are 8 x 7; both sides must be multiples of 2",
    ),
    "pictures for an MLP": (lambda: mlp()(IMAGE, T), ValueError, r"expects points \(B, 3\)"),
    "one coordinate too few": (lambda: mlp()(X[:, :2], T), ValueError, r"shape \(2, 2\); this network expects points"),
    "an unknown class": (
        lambda: unet()(IMAGE, T, label=LABEL + 10),
        ValueError,
        "from 10 to 11; this network knows 0 to 9",
    ),
    "a negative class": (
        lambda: unet()(IMAGE, T, label=LABEL - 1),
        ValueError,
        "from -1 to 0; this network knows 0 to 9",
    ),
    "three labels for two": (
        lambda: unet()(IMAGE, T, label=torch.tensor([1, 2, 3])),
        ValueError,
        r"expected \(2,\) whole",
    ),
    "a label that is a number": (
        lambda: unet()(IMAGE, T, label=3),
        TypeError,
        r"label is a int; expected a tensor \(2,\)",
    ),
    "labels with a fraction": (lambda: unet()(IMAGE, T, label=T), ValueError, "float32; expected .*whole numbers"),
    "labels elsewhere": (lambda: unet()(IMAGE, T, label=LABEL.to("meta")), ValueError, "label is on meta and t on cpu"),
    "a label for a network without": (lambda: mlp()(X, T, label=LABEL), ValueError, "without labels; leave label out"),
    # samplers
    "a grid of no steps": (lambda: time_grid(0), ValueError, "steps is 0; expected a whole number of at least 1"),
    "a grid of half a step": (lambda: time_grid(2.5), ValueError, "steps is 2.5"),
    "a grid that goes up": (lambda: time_grid(5, 0.2, 0.8), ValueError, "expected 0 <= stop < start <= 1"),
    "a grid that starts outside": (lambda: time_grid(5, 2.0), ValueError, "start is 2.0"),
    "noise of a negative size": (lambda: start_noise(Cosine(), (-1, 2)), RuntimeError, "negative dimension -1"),
    "the last of no steps": (lambda: last([]), ValueError, "made no step; its grid needs at least two times"),
    "an unknown variance": (
        lambda: sample(ddpm, variance="medium"),
        ValueError,
        "variance is 'medium'; expected 'small'",
    ),
    "an eta above 1": (lambda: sample(ddim, eta=1.5), ValueError, "eta is 1.5; expected a number from 0"),
    "an eta that is nan": (lambda: sample(ddim, eta=math.nan), ValueError, "eta is nan"),
    "upwards with eta": (lambda: sample(ddim, (0.1, 0.9), eta=0.5), ValueError, "expected times that decrease"),
    "upwards from 0": (lambda: sample(ddim, (0.0, 0.9)), ValueError, r"rise from above 0 \(inversion\)"),
    "up and down": (lambda: sample(ddim, (0.9, 0.1, 0.5)), ValueError, "times are 0.9, 0.1, 0.5; expected"),
    # guidance
    "a negative scale": (
        lambda: guidance.classifier_free(silent, silent, -1),
        ValueError,
        "scale is -1; expected at least 0",
    ),
    "a scale that is nan": (lambda: guidance.classifier_free(silent, silent, math.nan), ValueError, "scale is nan"),
    "a limit that is no time": (lambda: guidance.in_interval(silent, silent, 0, 1.5), ValueError, "0 to 1.5; expected"),
    "limits in reverse": (lambda: guidance.in_interval(silent, silent, 0.8, 0.5), ValueError, "0.8 to 0.5; expected"),
    "an empty range": (lambda: guidance.clip(silent, 1.0, -1.0), ValueError, "expected low < high"),
    "dropping more than all": (
        lambda: guidance.drop_labels(LABEL, 10, 1.2),
        ValueError,
        r"1.2; expected a share in \[0, 1\]",
    ),
    "dropping a column of labels": (
        lambda: guidance.drop_labels(LABEL[:, None], 10, 0.1),
        ValueError,
        r"torch.int64 \(2, 1\); expected a tensor \(B,\)",
    ),
    "dropping a list": (lambda: guidance.drop_labels([1, 2], 10, 0.1), ValueError, "label is list; expected"),
    "a negative scale in one call": (
        lambda: guidance.in_one_call(silent, LABEL, 10, -1),
        ValueError,
        "scale is -1; expected at least 0",
    ),
    "one call for labels as numbers": (
        lambda: guidance.in_one_call(silent, 3, 10, 2.0),
        ValueError,
        r"label is int; expected a tensor \(B,\)",
    ),
    "one call with too few labels": (
        lambda: guidance.in_one_call(silent, LABEL, 10, 2.0)(torch.zeros(3, 3), 0.5),
        ValueError,
        "2 labels for 3 samples; expected one label",
    ),
    "a null label that is a class too far": (
        lambda: guidance.in_one_call(Denoiser(mlp(labels=2), Cosine(), V), LABEL, 3, 2.0)(X, 0.5),
        ValueError,
        "label reaches from 0 to 3; this network knows 0 to 1, and 2 for no label",
    ),
    "a negative scale of a gradient": (
        lambda: guidance.by_gradient(silent, Cosine(), lambda x, t: x.sum(1), -0.5),
        ValueError,
        "scale is -0.5; expected at least 0",
    ),
    "a gradient at pure noise": (
        lambda: guidance.by_gradient(silent, Cosine(), lambda x, t: x.sum(1), 1.0)(X, 1.0),
        ValueError,
        r"at t = 1.0 alpha is 0.*Begin a little inside, as in time_grid\(steps, start=0.99\)",
    ),
    "logits for a log-probability": (
        lambda: guidance.by_gradient(silent, Cosine(), lambda x, t: x, 1.0)(X, 0.5),
        ValueError,
        r"log_probability gave shape \(2, 3\); expected \(2,\), .*pick that column of log_softmax",
    ),
    "one log-probability for the batch": (
        lambda: guidance.slope(X.clone().requires_grad_().sum(), X),
        ValueError,
        r"log_probability gave shape \(\); expected \(2,\)",
    ),
    "a log-probability that is a number": (
        lambda: guidance.by_gradient(silent, Cosine(), lambda x, t: 0.5, 1.0)(X, 0.5),
        ValueError,
        "log_probability gave type float; expected",
    ),
    "a log-probability without a gradient": (
        lambda: guidance.by_gradient(silent, Cosine(), lambda x, t: x.detach().sum(1), 1.0)(X, 0.5),
        ValueError,
        "does not depend on x_t.*a no_grad, a detach or an argmax",
    ),
    # training
    "a run without an end": (lambda: run(), ValueError, "give steps=... or seconds=..., or the run would never end"),
    "a run of no steps": (lambda: run(steps=0), ValueError, "steps is 0; expected a positive number"),
    "a run of negative length": (lambda: run(seconds=-1), ValueError, "seconds is -1; expected a positive number"),
    "a negative clip": (lambda: run(steps=1, clip=-1.0), ValueError, "clip is -1.0; expected a positive number"),
    "never saving": (lambda: run(steps=1, save_every=0), ValueError, "save_every is 0; expected a positive number"),
    "all of it warm-up": (lambda: run(steps=1, warmup=1.0), ValueError, r"warmup is 1.0; expected .*\[0, 1\)"),
    "a step whose loss is not finite": (
        lambda: training.train_step(
            torch.nn.Linear(2, 2),
            None,
            lambda *_: torch.tensor(torch.nan),
            None,
            [],
            torch.amp.GradScaler("cpu"),
            step=7,
        ),
        FloatingPointError,
        "the loss became nan in step 7; .* lower the learning rate",
    ),
    "a list of batches": (
        lambda: next(training.train(torch.nn.Linear(2, 2), [1, 2], LOSS, steps=1)),
        TypeError,
        r"batches is a list; expected an iterator: data.Batches, or iter\(yours\)",
    ),
    "batches that have ended": (
        lambda: training.next_batch(iter([]), 7),
        ValueError,
        "ended after 7 steps, before the run",
    ),
    "an average of nothing": (lambda: training.EMA(mlp(), 0.0), ValueError, r"window is 0.0; expected .*\(0, 1\]"),
    "a device that is none": (lambda: training.half_precision("gpu"), RuntimeError, "(?s)cpu, cuda.*gpu"),
    "weights that are not there": (
        lambda: training.load_tensors("nowhere.safetensors"),
        FileNotFoundError,
        "no file nowhere",
    ),
    # metrics
    "a colour picture for the judge": (
        lambda: metrics.FeatureNetwork()(torch.zeros(2, 3, 28, 28)),
        ValueError,
        r"shape \(2, 3, 28, 28\); the feature network was made for digits",
    ),
    "three images and two labels": (
        lambda: metrics.accuracy(silent, torch.zeros(3, 1, 28, 28), LABEL),
        ValueError,
        "3 images and 2 labels; expected one label for each",
    ),
    "too few samples for a covariance": (
        lambda: metrics.frechet_distance(torch.zeros(3, 5), torch.zeros(9, 5)),
        ValueError,
        "3 samples for features of size 5; a covariance needs more",
    ),
    "features of two sizes": (
        lambda: metrics.frechet_distance(torch.zeros(9, 5), torch.zeros(9, 4)),
        ValueError,
        r"expected \(N, D\) and \(M, D\)",
    ),
    "features that diverged": (
        lambda: metrics.frechet_distance(torch.full((9, 2), math.nan), torch.zeros(9, 2)),
        ValueError,
        "hold nan or inf",
    ),
    "features diverged, fidelity": (
        lambda: metrics.fidelity(torch.zeros(9, 2), torch.full((9, 2), math.inf)),
        ValueError,
        "nan or inf",
    ),
    "features of two sizes, fidelity": (
        lambda: metrics.fidelity(torch.zeros(9, 2), torch.zeros(9, 3)),
        ValueError,
        "shapes \\(9, 2\\) and \\(9, 3\\)",
    ),
    "more neighbours than samples": (
        lambda: metrics.fidelity(torch.zeros(9, 2), torch.zeros(5, 2), k=5),
        ValueError,
        "k is 5 with 9 and 5 samples; expected 1 <= k <",
    ),
    "the zeroth neighbour": (
        lambda: metrics.fidelity(torch.zeros(9, 2), torch.zeros(9, 2), k=0),
        ValueError,
        "k is 0",
    ),
    "copies of other images": (
        lambda: metrics.copies(torch.zeros(2, 1, 28, 28), torch.zeros(5, 3, 28, 28)),
        ValueError,
        "samples are \\(1, 28, 28\\) and training images \\(3, 28, 28\\)",
    ),
    "copies of one image": (
        lambda: metrics.nearest(torch.zeros(2, 3), torch.zeros(1, 3), k=2),
        ValueError,
        "k is 2 with 1 training images",
    ),
    "a threshold in per cent": (
        lambda: metrics.copies(torch.zeros(2, 3), torch.zeros(5, 3), threshold=50),
        ValueError,
        "threshold is 50; expected a number in \\(0, 1\\]",
    ),
    "bootstrap of one sample": (
        lambda: metrics.bootstrap(torch.mean, torch.zeros(1)),
        ValueError,
        "1 samples and 200 draws; expected at least two",
    ),
    "bootstrap with too few labels": (
        lambda: metrics.bootstrap(torch.mean, torch.zeros(5), label=LABEL),
        ValueError,
        "5 images and 2 labels",
    ),
    "permutation without draws": (
        lambda: metrics.permutation_test(torch.dist, torch.zeros(5), torch.zeros(5), draws=0),
        ValueError,
        "10 samples and 0 draws",
    ),
    "permutation of unequal classes": (
        lambda: metrics.permutation_test(torch.dist, torch.zeros(2), torch.zeros(5), label=LABEL),
        ValueError,
        "5 images and 2 labels",
    ),
    "report with too few labels": (
        lambda: metrics.report(silent, torch.zeros(5, 1, 28, 28), LABEL, torch.zeros(9, 1, 28, 28)),
        ValueError,
        "5 images and 2 labels",
    ),
    "a difference of single runs": (lambda: metrics.difference([1.0], [2.0, 3.0]), ValueError, "1 runs; expected 2 to"),
    "a difference with a run that failed": (
        lambda: metrics.difference([1.0, math.nan], [2.0, 3.0]),
        ValueError,
        "runs hold nan or inf",
    ),
    "a ratio of unequal sets": (
        lambda: metrics.spread_ratio([1.0, 2.0, 3.0], [2.0, 3.0]),
        ValueError,
        "3 and 2 runs",
    ),
    "a ratio of too many runs": (lambda: metrics.spread_ratio(range(11), range(11)), ValueError, "11 runs"),
    # pretrained
    "unknown weights": (lambda: loaded("cats"), ValueError, "no weights called 'cats'; shipped are .*classifier, dig"),
    "unknown card": (lambda: pretrained.card("../digits"), ValueError, "no weights called"),
    "weights of another model": (lambda: loaded("digits"), ValueError, "the weights 'digits' do not fit this model"),
    "latents for images": (
        lambda: Autoencoder(8).encode(torch.zeros(2, 4, 7, 7)),
        ValueError,
        "x_t has shape \\(2, 4, 7, 7\\); this network expects \\(B, 1, H, W\\)",
    ),
    "images that the encoder cannot halve": (
        lambda: Autoencoder(8).encode(torch.zeros(2, 1, 30, 28)),
        ValueError,
        "images are 30 x 28; both sides must be multiples of 4",
    ),
    "images for latents": (
        lambda: Autoencoder(8).decode(torch.zeros(2, 1, 28, 28)),
        ValueError,
        "expects \\(B, 4, H, W\\)",
    ),
    "training without an end": (lambda: recipes.train_digits(), ValueError, "give steps=... or seconds=..."),
    # costs
    "a layer of 0 features": (lambda: costs.linear(0, 4), ValueError, "features_in is 0; expected a whole number"),
    "half a pixel": (lambda: costs.convolution(1, 1, 3, 24.5), ValueError, "places is 24.5; expected a whole number"),
    "groups that do not divide": (
        lambda: costs.convolution(4, 6, 3, 9, groups=4),
        ValueError,
        "4 groups for 4 and 6 channels; expected a divisor of both",
    ),
    "an attention to nothing": (lambda: costs.attention(4, 0, 8), ValueError, "keys is 0; expected"),
    "training on no images": (lambda: costs.training_cost(10, 0), ValueError, "images is 0; expected"),
    "sampling with no looks": (lambda: costs.sampling_cost(10, 1, 0), ValueError, "calls is 0; expected"),
    "more guided looks than looks": (
        lambda: costs.sampling_cost(10, 1, 5, guided_calls=6),
        ValueError,
        "guided_calls is 6 of 5; expected 0 <= guided_calls <= calls",
    ),
    "a rate of no work": (lambda: costs.rate(lambda: None, work=0), ValueError, "work is 0; expected"),
    "a rate never measured": (lambda: costs.rate(lambda: None, 1, repeats=0), ValueError, "repeats is 0; expected"),
    "no time": (lambda: costs.energy(0, 100), ValueError, "seconds is 0; expected a positive number"),
    "a machine that draws nothing": (lambda: costs.energy(1, 0), ValueError, "watts is 0; expected"),
    "an overhead in per cent": (lambda: costs.energy(1, 1, 0.2), ValueError, "overhead is 0.2; expected at least 1"),
    "a rate of 0": (lambda: costs.cost(1, 0, 100), ValueError, "rate is 0; expected a positive number"),
    "an image the network cannot halve": (
        lambda: costs.count(unet(), torch.zeros(1, 1, 7, 7), T[:1]),
        ValueError,
        "7 x 7; both sides must be multiples",
    ),
    # limits
    "pictures of nothing": (
        lambda: measured.read_pictures("luck"),
        ValueError,
        "no pictures called 'luck'; committed are",
    ),
    "a third half": (lambda: memory.half(2, 10), ValueError, "half 2 with 10 digits; expected half 0 or 1"),
    "more digits than half": (lambda: memory.train_half(0, 2001), ValueError, "half 0 with 2001 digits; expected"),
    "no pairs of images": (lambda: memory.correlation(X, X[:1]), ValueError, r"\(2, 3\) and \(1, 3\); expected pairs"),
    "no pairs of twins": (lambda: memory.twins(X, X[:1], X, X), ValueError, "expected pairs of one shape"),
    "pieces of colour": (lambda: dots.count_pieces(torch.zeros(1, 3, 4, 4)), ValueError, "one channel, .B, 1, H, W"),
    "dots without a channel": (lambda: dots.count_dots(torch.zeros(2, 4, 4)), ValueError, r"\(2, 4, 4\); expected"),
    "holes without a channel": (lambda: dots.count_holes(torch.zeros(4, 4)), ValueError, r"\(4, 4\); expected"),
    "dots in colour": (lambda: dots.proper_dots(torch.zeros(1, 3, 4, 4)), ValueError, "expected pictures with one"),
    "a slant in colour": (lambda: minority.slant(torch.zeros(1, 3, 4, 4)), ValueError, "expected pictures with one"),
    "a place unknown": (
        lambda: minority.rare_kinds("above"),
        ValueError,
        "'above'; expected one of 'inside', 'beside'",
    ),
    "a rare kind of all": (
        lambda: minority.rare_kinds("inside", rare=1),
        ValueError,
        r"rare is 1; expected .*\(0, 1\)",
    ),
    "a share of nowhere": (lambda: minority.rare_share("above", 2), ValueError, "'above'; expected one of"),
    "styles of unknown classes": (
        lambda: minority.rare_styles(IMAGE, torch.tensor([0, 7]), IMAGE, torch.tensor([0, 1])),
        ValueError,
        r"classes \[7\] have no training images",
    ),
    "half a side more": (lambda: resolution.enlarge(IMAGE, 1.5), ValueError, "factor is 1.5; expected a whole number"),
    "reading at half the side": (
        lambda: resolution.read_through_noise(None, IMAGE, LABEL, Cosine(), 0.5, 0.5),
        ValueError,
        "factor is 0.5; expected a whole",
    ),
    "a level that is never crossed": (
        lambda: resolution.crossing([0.1, 0.2], [0.9, 0.8]),
        ValueError,
        "2 shares from 0.9 down to 0.8; expected .* a later one below it",
    ),
    # measured
    "results that are none": (lambda: measured.read("luck"), ValueError, "no results called 'luck'; committed are"),
    # plots
    "a picture of two channels": (
        lambda: plots.picture(torch.zeros(2, 4, 4)),
        ValueError,
        r"\(1, H, W\) or \(3, H, W\)",
    ),
    "a batch for a picture": (lambda: plots.picture(IMAGE), ValueError, r"shape \(2, 1, 8, 8\); expected one image"),
    "a sheet of one image": (
        lambda: plots.tile(IMAGE[0], 2),
        ValueError,
        r"shape \(1, 8, 8\); expected images \(N, C, H, W\)",
    ),
    "a grid of no images": (lambda: plots.images([]), ValueError, "x is empty; expected at least one image"),
    "a film without frames": (lambda: plots.save_film("x.gif", []), ValueError, "frames is empty"),
    # editing
    "a mask for other pictures": (
        lambda: editing.keep(silent, IMAGE, torch.ones(1, 1, 8, 7)),
        ValueError,
        r"mask has shape \(1, 1, 8, 7\) and known \(2, 1, 8, 8\); expected one value for every pixel",
    ),
    "a mask that adds axes": (lambda: editing.keep(silent, X, torch.ones(2, 2, 3)), ValueError, "mask has shape"),
    "a grey mask": (
        lambda: editing.keep(silent, X, torch.full((1, 3), 0.5)),
        ValueError,
        "values from 0.5 to 0.5, and some are neither 0 nor 1; .*mask > 0.5",
    ),
    "a mask of 0 and 255": (lambda: editing.masked(torch.tensor([0, 255])), ValueError, "from 0 to 255"),
    "a list for a mask": (lambda: editing.masked([0, 1]), TypeError, "mask is a list; expected a tensor, 1"),
    "whole numbers for what is known": (
        lambda: editing.keep(silent, INTEGERS, torch.ones(1, 3)),
        TypeError,
        "known is torch.int64; expected a float tensor",
    ),
    "a mask on another device": (
        lambda: editing.keep(silent, X, torch.ones(1, 3, device="meta")),
        ValueError,
        "mask is on meta and known on cpu",
    ),
    "known pictures of another shape": (
        lambda: editing.keep(silent, torch.zeros(3, 3), torch.ones(1, 3))(X, 0.5),
        ValueError,
        r"known has shape \(3, 3\) and the samples \(2, 3\); expected the same, or one picture \(1, ...\)",
    ),
    "inpaint, a grey mask": (
        lambda: list(editing.inpaint(silent, Cosine(), X, [1.0, 0.0], X, X + 0.3)),
        ValueError,
        "neither 0 nor 1",
    ),
    "inpaint, other pictures": (
        lambda: list(editing.inpaint(silent, Cosine(), X, [1.0, 0.0], X[:, :2], torch.ones(1, 2))),
        ValueError,
        r"known has shape \(2, 2\)",
    ),
    "inpaint, upwards": (
        lambda: list(editing.inpaint(silent, Cosine(), X, [0.1, 0.9], X, torch.ones(1, 3))),
        ValueError,
        "expected times that decrease",
    ),
    "no attempts": (
        lambda: list(editing.inpaint(silent, Cosine(), X, [1.0, 0.0], X, torch.ones(1, 3), resample=0)),
        ValueError,
        "resample is 0; expected a whole number of at least 1",
    ),
    "half an attempt": (
        lambda: list(editing.inpaint(silent, Cosine(), X, [1.0, 0.0], X, torch.ones(1, 3), resample=1.5)),
        ValueError,
        "resample is 1.5",
    ),
    "a jump forward in the wrong direction": (
        lambda: editing.renoise(Cosine(), X, X, 0.6, 0.3),
        ValueError,
        "s is 0.6 and t is 0.3; expected s < t",
    ),
    "a jump with noise of another shape": (
        lambda: editing.renoise(Cosine(), X, X[:1], 0.3, 0.6),
        ValueError,
        "its own noise",
    ),
    "strength above 1": (
        lambda: list(editing.image_to_image(silent, Cosine(), X, 1.5)),
        ValueError,
        r"strength is 1.5; expected a number from 0 \(the image as it is\) to 1",
    ),
    "strength in per cent": (
        lambda: list(editing.image_to_image(silent, Cosine(), X, 60)),
        ValueError,
        "strength is 60",
    ),
    "strength below 0": (
        lambda: list(editing.image_to_image(silent, Cosine(), X, -0.1)),
        ValueError,
        "strength is -0.1",
    ),
    "strength that is nan": (
        lambda: list(editing.image_to_image(silent, Cosine(), X, math.nan)),
        ValueError,
        "strength is nan",
    ),
    "strength as a word": (
        lambda: list(editing.image_to_image(silent, Cosine(), X, "much")),
        ValueError,
        "strength is 'much'",
    ),
    "an image of 0..255": (
        lambda: list(editing.image_to_image(silent, Cosine(), IMAGE + 200, 0.5)),
        ValueError,
        "values up to 200; .*data.to_unit",
    ),
    "averages over half a pixel": (lambda: editing.averaged(0.5), ValueError, "factor is 0.5; expected a whole number"),
    "averages that lose pixels": (
        lambda: editing.averaged(3).measure(IMAGE),
        ValueError,
        r"x has shape \(2, 1, 8, 8\); expected .*multiples of 3",
    ),
    "brightness of nothing": (lambda: editing.grey([0.0, 0.0]), ValueError, "weights are .*not all of them 0"),
    "y of the wrong shape": (
        lambda: editing.consistent(silent, editing.averaged(4), torch.zeros(2, 1, 4, 4))(IMAGE, 0.5),
        ValueError,
        r"y is \(2, 1, 4, 4\) and a measurement of the samples has shape \(2, 1, 2, 2\)",
    ),
    "y of the wrong shape, gradient": (
        lambda: editing.by_measurement(lambda x, t: x, Cosine(), lambda x: x[:, :1], X, 0.1)(X, 0.5),
        ValueError,
        r"y is \(2, 3\) and a measurement of the samples has shape \(2, 1\)",
    ),
    "a list for y": (
        lambda: editing.consistent(silent, editing.averaged(4), [0.1])(IMAGE, 0.5),
        ValueError,
        "y is list and a measurement",
    ),
    "a measurement without noise, by its gradient": (
        lambda: editing.by_measurement(silent, Cosine(), lambda x: x, X, 0.0),
        ValueError,
        "std reaches down to 0; a standard deviation is positive",
    ),
    "by measurement from pure noise": (
        lambda: editing.by_measurement(lambda x, t: x, Cosine(), lambda x: x, X, 0.1)(X, 1.0),
        ValueError,
        "alpha is 0",
    ),
    "a walk beyond its end": (lambda: editing.spherical(X + 1, IMAGE, 0.5), ValueError, "z_0 is .* and z_1"),
    "a walk past the end": (
        lambda: editing.spherical(torch.eye(2), torch.eye(2).flip(0), 1.2),
        ValueError,
        "u is 1.2.*; expected a number from 0",
    ),
    "a walk to where one is": (
        lambda: editing.spherical(torch.eye(2), torch.eye(2), 0.5),
        ValueError,
        "point the same or opposite ways",
    ),
    # adapters
    "a scheduler without betas": (
        lambda: adapters.from_diffusers(torch.nn.Linear(2, 2), object()),
        TypeError,
        "scheduler is a object; expected one with betas",
    ),
    "a prediction that is no target": (
        lambda: adapters.from_diffusers(torch.nn.Linear(2, 2), Scheduler("flow_prediction")),
        ValueError,
        "prediction_type is 'flow_prediction'; expected one of epsilon, sample, v_prediction",
    ),
    "no timesteps": (lambda: adapters.for_diffusers(silent, 0), ValueError, "T is 0; expected"),
    "a schedule without alpha-bar": (
        lambda: adapters.scheduler_options(Linear()),
        ValueError,
        r"alpha = 0.5 and sigma = 0.5 at t = 0.5; expected alpha\^2",
    ),
    "options without timesteps": (lambda: adapters.scheduler_options(Cosine(), 0), ValueError, "T is 0; expected"),
    # widgets
    "a control for nothing": (lambda: widgets.control("t", None), ValueError, "t is None; expected"),
    "a control of one number": (lambda: widgets.control("t", (1,)), ValueError, r"t is \(1,\); expected \(low, high\)"),
    "a drawing with other signs": (
        lambda: widgets.canvas(print, text="#a\n.#"),
        ValueError,
        "the drawing holds 'a'; expected . for paper",
    ),
    "a drawing that is no square": (
        lambda: widgets.drawing("...\n..."),
        ValueError,
        "2 lines and 3 columns; expected a square",
    ),
    "no drawing": (lambda: widgets.drawing(""), ValueError, "0 lines and 0 columns"),
    "a player of no frames": (lambda: widgets.player(print, 0), ValueError, "frames is 0; a film needs at least one"),
    # exercises
    "an exercise that is none": (lambda: find("99.9"), ValueError, "no exercise '99.9'; lesson 99 has none"),
}

for sampler in (ddpm, ddim, heun, dpm_solver):
    name = sampler.__name__
    TABLE |= {
        f"{name}, one time": (lambda f=sampler: sample(f, (1.0,)), ValueError, r"shape \(1,\); expected at least two"),
        f"{name}, times outside": (lambda f=sampler: sample(f, (1.5, 0.5)), ValueError, outside("0.5", "1.5")),
        f"{name}, step numbers": (lambda f=sampler: sample(f, (999, 0)), ValueError, "use i / T"),
        f"{name}, a time twice": (
            lambda f=sampler: sample(f, (0.9, 0.9, 0.1)),
            ValueError,
            "expected times that decrease",
        ),
        f"{name}, nan": (lambda f=sampler: sample(f, (0.9, math.nan)), ValueError, "times lie in"),
        f"{name}, whole numbers": (
            lambda f=sampler: sample(f, x_t=INTEGERS),
            TypeError,
            "expected a float tensor of noise",
        ),
        f"{name}, a list": (lambda f=sampler: sample(f, x_t=[0.1]), TypeError, "x_t is list; expected a float tensor"),
    }
    if sampler is not ddim:
        TABLE[f"{name}, upwards"] = (
            lambda f=sampler: sample(f, (0.1, 0.9)),
            ValueError,
            "expected times that decrease",
        )


# data, downloads, and what samples and trains with the shipped models
DIGITS_MODEL = recipes.new_digits_model()
TABLE |= {
    "pixels with a fraction": (lambda: data.to_unit(X), ValueError, "floats from 0 to 0; expected 0..255"),
    "pixels above 255": (lambda: data.to_unit(INTEGERS + 256), ValueError, "from 256 to 256; expected 0..255"),
    "whole numbers for an image": (lambda: data.to_uint8(INTEGERS), TypeError, "int64; expected floating point"),
    "an image with nan": (lambda: data.to_uint8(X * math.nan), ValueError, "x has NaNs; .* has diverged"),
    "half a bit": (lambda: data.even_bits(3, bits=2.5), TypeError, "bits is 2.5; expected a whole number"),
    "a part of the emoji": (lambda: data.emoji("test"), ValueError, "split is 'test'; expected one of"),
    "a part of the digits": (lambda: data.digits("test"), ValueError, "split is 'test'; expected one of 'train'"),
    "a part of MNIST": (lambda: data.mnist("test"), ValueError, "split is 'test'; expected one of"),
    "a part of Fashion-MNIST": (lambda: data.fashion_mnist("test"), ValueError, "split is 'test'; expected one of"),
    "batches of a list": (lambda: data.Batches([1.0], LABEL, 1), TypeError, "x_0 is a list; expected a tensor"),
    "batches of more than all": (
        lambda: data.Batches(X, LABEL, 3),
        ValueError,
        "batch_size is 3, but there are only 2",
    ),
    "nowhere to fetch from": (
        lambda: downloads.download([], "f", "0" * 32),
        ValueError,
        "expected at least one address",
    ),
    "a checksum that is none": (
        lambda: downloads.download("http://x", "f", "1"),
        ValueError,
        "expected 32 hexadecimal",
    ),
    "a file that is no gzip": (lambda: downloads.read_idx(Path(__file__), (1,)), ValueError, "is damaged; delete it"),
    "the loss of digits as pixels": (
        lambda: recipes.digits_loss(DIGITS_MODEL, (IMAGE + 200, LABEL), seeded()),
        ValueError,
        r"expected in \[-1, 1\]",
    ),
    "guidance with a negative scale": (
        lambda: pretrained.guided(DIGITS_MODEL, LABEL, scale=-1),
        ValueError,
        "scale is -1; expected at least 0",
    ),
    "digits in no steps": (lambda: pretrained.sample_digits(DIGITS_MODEL, LABEL, steps=0), ValueError, "steps is 0"),
    "samples in no steps": (
        lambda: pretrained.sample(silent, Cosine(), (2, 3), steps=0),
        ValueError,
        "steps is 0; expected a whole number",
    ),
    "an autoencoder without an end": (lambda: recipes.train_autoencoder(), ValueError, "give steps=... or seconds"),
    "no dots to train on": (lambda: dots.train_dots(n=0), ValueError, "n is 0; expected at least 1"),
    "dots in no steps": (
        lambda: dots.sample_dots(dots.new_dots_model(), LABEL, steps=0),
        ValueError,
        "steps is 0; expected a whole number",
    ),
    "a sheet of one image, to save": (
        lambda: plots.save_png("x.png", IMAGE[0]),
        ValueError,
        "expected images .N, C, H",
    ),
    "a control for nothing, among others": (lambda: widgets.explore(print, t=None), ValueError, "t is None; expected"),
}
for made in (data.two_peaks, data.eight_gaussians, data.two_moons, data.spiral, data.checkerboard, data.rings):
    TABLE[f"{made.__name__} of no points"] = (lambda f=made: f(0), ValueError, "n is 0; expected at least 1")
for made in (data.even_bits, data.dots):
    TABLE[f"{made.__name__} by a seed"] = (lambda f=made: f(3, 7), TypeError, "generator is 7; expected a torch.Gener")


# Lesson 10. A language of two words over the symbols 0 and 1; 2 is the mask.
IDS = torch.tensor([[0, 1, 1], [1, 0, 1]])
LANGUAGE = tokens.exact_language(IDS, 2)


def transformer(causal=False, **sizes):
    return Transformer(**({"symbols": 2, "length": 3, "width": 8, "depth": 1, "heads": 2} | sizes), causal=causal)


def unmask(x_t=IDS + 1, times=(1.0, 0.0), **options):
    return list(tokens.unmask(LANGUAGE, Linear(), x_t, times, **options))


def left_to_right(n=2, length=3, **options):
    return tokens.LeftToRight(transformer(causal=True)).generate(n, length, **options)


TABLE |= {
    # forward, for tokens
    "masking what is no ids": (lambda: mask_tokens(Linear(), X, X, 0.5, 2), TypeError, "float32; expected int64"),
    "masking ids of 32 bits": (lambda: mask_tokens(Linear(), IDS.int(), X, 0.5, 2), TypeError, "x_0 is torch.int32"),
    "masking a list": (lambda: mask_tokens(Linear(), [[0]], X, 0.5, 2), TypeError, "x_0 is list; expected int64"),
    "masking with whole noise": (lambda: mask_tokens(Linear(), IDS, IDS, 0.5, 2), TypeError, "noise is torch.int64"),
    "one noise for all tokens": (
        lambda: mask_tokens(Linear(), IDS, X[:1], 0.5, 2),
        ValueError,
        r"noise has shape \(1, 3\) and x_0 \(2, 3\); give every token its own",
    ),
    "masking elsewhere": (lambda: mask_tokens(Linear(), IDS, ELSEWHERE, 0.5, 2), ValueError, "on meta .* move one"),
    "masking what is masked": (
        lambda: mask_tokens(Linear(), IDS + 1, X, 0.5, 2),
        ValueError,
        "ids from 1 to 2; the mask is 2, so symbols are 0 to 1",
    ),
    "masking a negative id": (lambda: mask_tokens(Linear(), IDS - 1, X, 0.5, 2), ValueError, "ids from -1 to 0"),
    "masking with normal noise": (
        lambda: mask_tokens(Linear(), IDS, X - 1.5, 0.5, 2),
        ValueError,
        r"noise reaches from -1.5 to -1.5; expected uniform numbers in \[0, 1\)",
    ),
    "masking with noise of 1": (lambda: mask_tokens(Linear(), IDS, X + 1, 0.5, 2), ValueError, "from 1 to 1"),
    "masking at a time outside": (lambda: mask_tokens(Linear(), IDS, X, 1.5, 2), ValueError, outside("1.5")),
    "masking at three times": (
        lambda: mask_tokens(Linear(), IDS, X, torch.ones(3), 2),
        ValueError,
        "3 times for 2 samples",
    ),
    # networks, for tokens
    "a transformer of no depth": (lambda: transformer(depth=0), ValueError, "depth is 0; expected a whole number"),
    "a transformer of half a symbol": (lambda: transformer(symbols=2.5), ValueError, "symbols is 2.5"),
    "heads that do not share": (lambda: transformer(heads=3), ValueError, "width is 8 and heads 3; .* a multiple"),
    "a transformer on floats": (lambda: transformer()(X), ValueError, r"\(2, 3\) torch.float32; .* \(B, L\) int64"),
    "a transformer on one sequence": (lambda: transformer()(IDS[0]), ValueError, r"\(3,\) torch.int64; .*\(B, L\)"),
    "a sequence that is too long": (
        lambda: transformer()(torch.zeros(2, 4, dtype=torch.int64)),
        ValueError,
        "holds 4 tokens a sequence; this network has places for 1 to 3",
    ),
    "a token without a row": (
        lambda: transformer()(IDS + 2),
        ValueError,
        "ids from 2 to 3; this network knows 0 to 1, and 2 for the mask",
    ),
    # tokens
    "one string to encode": (lambda: tokens.encode("12+07=019", data.SUM_SYMBOLS), TypeError, r"a list of strings"),
    "numbers to encode": (lambda: tokens.encode([12], data.SUM_SYMBOLS), TypeError, "expected a list of strings"),
    "no strings": (lambda: tokens.encode([], data.SUM_SYMBOLS), ValueError, r"lengths \[\]; expected at least one"),
    "empty strings": (lambda: tokens.encode([""], data.SUM_SYMBOLS), ValueError, r"lengths \[0\]; expected"),
    "strings of two lengths": (lambda: tokens.encode(["1", "12"], data.SUM_SYMBOLS), ValueError, r"\[1, 2\]; .*one"),
    "an unknown symbol": (lambda: tokens.encode(["1-2"], data.SUM_SYMBOLS), ValueError, "'-' no symbols here; known"),
    "symbols as a list": (lambda: tokens.encode(["1"], ["1", "2"]), ValueError, "expected a string of different"),
    "a symbol twice": (lambda: tokens.decode(IDS, "0110"), ValueError, "symbols is '0110'; expected a string of diff"),
    "a symbol for a mask": (lambda: tokens.decode(IDS, "01", mask="1"), ValueError, "mask is '1'; expected one char"),
    "a word for a mask": (lambda: tokens.encode(["01"], "01", mask="[MASK]"), ValueError, "expected one character"),
    "ids without a symbol": (lambda: tokens.decode(IDS + 2, "01"), ValueError, "ids from 2 to 3; expected 0 to 2"),
    "floats to decode": (lambda: tokens.decode(X, "01"), TypeError, "x_t is torch.float32; expected int64 token ids"),
    "no sequences to start from": (lambda: tokens.all_masked(0, 3, 2), ValueError, "n is 0; expected a whole number"),
    "a mask of half a symbol": (lambda: tokens.all_masked(1, 3, 2.5), ValueError, "mask is 2.5; expected"),
    "carrying over a wrong length": (
        lambda: tokens.carry_over(torch.zeros(2, 4, 2), IDS),
        ValueError,
        r"shape \(2, 3\); expected \(2, 4\)",
    ),
    "carrying over a token without a column": (
        lambda: tokens.carry_over(torch.zeros(2, 3, 2), IDS + 2),
        ValueError,
        "expected 0 to 2",
    ),
    "a language with masks in it": (
        lambda: tokens.exact_language(IDS + 1, 2),
        ValueError,
        "x_0 has ids from 1 to 2; expected 0 to 1",
    ),
    "a language of floats": (lambda: tokens.exact_language(X, 2), TypeError, "x_0 is torch.float32"),
    "a language of no symbols": (lambda: tokens.exact_language(IDS, 0), ValueError, "symbols is 0; expected"),
    "weights of another length": (
        lambda: tokens.exact_language(IDS, 2, [1.0]),
        ValueError,
        r"shape \(1,\), .*expected \(2,\) positive numbers that sum to 1",
    ),
    "weights that do not sum to 1": (lambda: tokens.exact_language(IDS, 2, [0.5, 0.9]), ValueError, "sum 1.4"),
    "a sequence of another length": (lambda: LANGUAGE(IDS[:, :2], 0.5), ValueError, r"\(2, 2\); expected \(2, 3\)"),
    "the language on floats": (lambda: LANGUAGE(X, 0.5), TypeError, "x_t is torch.float32; expected int64"),
    "a masked model that looks to the left": (
        lambda: tokens.MaskedDenoiser(transformer(causal=True), Linear()),
        ValueError,
        "Transformer with causal=True; .*causal=False",
    ),
    "a masked model of an image's network": (
        lambda: tokens.MaskedDenoiser(mlp(), Linear()),
        ValueError,
        "network is MLP .*expected one with .symbols, such as Transformer",
    ),
    "a masked model without a schedule": (
        lambda: tokens.MaskedDenoiser(transformer(), 0.5),
        TypeError,
        "schedule is a float; expected a Schedule",
    ),
    "a masked model on unknown tokens": (
        lambda: tokens.MaskedDenoiser(transformer(), Linear())(IDS + 2, 0.5),
        ValueError,
        "this network knows 0 to 1",
    ),
    "the weight at 0": (lambda: tokens.weight(Linear(), 0.0), ValueError, "t reaches 0, where no token is hidden"),
    "the weight outside": (lambda: tokens.weight(Linear(), 1.5), ValueError, outside("1.5")),
    "a loss at 0 in the batch": (
        lambda: tokens.masked_loss(LANGUAGE, Linear(), IDS, torch.tensor([0.5, 0.0]), X, 2),
        ValueError,
        "t reaches 0",
    ),
    "a loss of three times": (
        lambda: tokens.masked_loss(LANGUAGE, Linear(), IDS, torch.ones(3), X, 2),
        ValueError,
        "3 times for 2 samples",
    ),
    "a loss of masks": (
        lambda: tokens.masked_loss(LANGUAGE, Linear(), IDS + 1, 0.5, X, 2),
        ValueError,
        "x_0 has ids from 1 to 2; the mask is 2",
    ),
    "unmasking floats": (lambda: unmask(X), TypeError, "x_t is torch.float32; expected int64 token ids"),
    "unmasking one sequence": (lambda: unmask(IDS[0]), ValueError, r"shape \(3,\); expected \(B, L\)"),
    "unmasking nothing": (lambda: unmask(IDS[:, :0]), ValueError, r"shape \(2, 0\); expected \(B, L\)"),
    "unmasking a negative id": (lambda: unmask(IDS - 1), ValueError, "ids from -1 to 0; expected 0 to 0"),
    "unmasking unknown tokens": (lambda: unmask(IDS + 2), ValueError, "ids from 2 to 3; expected 0 to 2"),
    "unmasking upwards": (lambda: unmask(times=(0.1, 0.9)), ValueError, "expected times that decrease"),
    "unmasking at one time": (lambda: unmask(times=(0.5,)), ValueError, "expected at least two times"),
    "unmasking in step numbers": (lambda: unmask(times=(9, 0)), ValueError, "use i / T"),
    "unmasking in another order": (lambda: unmask(order="best"), ValueError, "order is 'best'; expected 'random', 'sh"),
    "drawing for other tokens": (
        lambda: tokens.draw(torch.ones(2, 3, 4), X[:1]),
        ValueError,
        r"p has shape \(2, 3, 4\) and noise \(1, 3\); expected",
    ),
    "drawing from ids": (lambda: tokens.draw(IDS[..., None], X), ValueError, "expected floats"),
    "a temperature of 0": (lambda: tokens.sharpen(LANGUAGE, 0), ValueError, "temperature is 0; expected a positive"),
    "left to right with a network that looks ahead": (
        lambda: tokens.LeftToRight(transformer()),
        ValueError,
        "Transformer with causal=False; .*causal=True",
    ),
    "left to right on masks": (
        lambda: tokens.LeftToRight(transformer(causal=True)).loss(IDS + 1),
        ValueError,
        "x_0 has ids from 1 to 2; expected 0 to 1",
    ),
    "left to right, nothing to write": (lambda: left_to_right(n=0), ValueError, "n is 0; expected a whole number"),
    "left to right, too far": (lambda: left_to_right(length=4), ValueError, "this network has places for 1 to 3"),
    "an empty prompt": (lambda: left_to_right(prompt=IDS[:, :0]), ValueError, r"prompt has shape \(2, 0\); expected"),
    "a prompt that leaves nothing to write": (
        lambda: left_to_right(prompt=IDS),
        ValueError,
        r"prompt has shape \(2, 3\); expected \(1, P\) or \(2, P\) with 0 < P < 3",
    ),
    "prompts for others": (lambda: left_to_right(n=5, prompt=IDS[:, :1]), ValueError, r"\(1, P\) or \(5, P\)"),
    "a prompt with blanks": (
        lambda: left_to_right(prompt=IDS[:, :1] + 1),
        ValueError,
        "prompt has ids from 1 to 2; expected 0 to 1",
    ),
    "a prompt as a string": (lambda: left_to_right(prompt="ab"), TypeError, "prompt is str; expected int64 token ids"),
    # data and weights for tokens
    "an unknown part of the sums": (lambda: data.sums("test"), ValueError, "split is 'test'; expected one of 'train'"),
    "counting characters of half an order": (
        lambda: text_experiment.count_characters(IDS, IDS, 2.5, 2),
        ValueError,
        "order is 2.5; expected a whole number",
    ),
    "an unknown part of the text": (lambda: data.text("test"), ValueError, "split is 'test'; expected one of 'train'"),
}


# Lesson 11
CODE = torch.zeros(2, 4)


def fitted(name="vae", **budget):
    return list(bench.train_contestant(name, bench.new_contestant("vae", 0), 0, **budget))


TABLE |= {
    # rivals
    "a mean and a log-variance of two shapes": (
        lambda: rivals.kl(CODE, CODE[:1]),
        ValueError,
        r"mean is \(2, 4\) and log_variance \(1, 4\); expected \(B, D\) for both",
    ),
    "a mean without a batch": (lambda: rivals.kl(CODE[0], CODE[0]), ValueError, r"mean is \(4,\)"),
    "one noise for all latents": (
        lambda: rivals.sample_latent(CODE, CODE, CODE[:1]),
        ValueError,
        r"mean is \(2, 4\) and noise \(1, 4\)",
    ),
    "noise of another size for a VAE": (
        lambda: rivals.VAE().loss(torch.zeros(2, 1, 28, 28), CODE),
        ValueError,
        r"mean is \(2, 12\) and noise \(2, 4\)",
    ),
    "a VAE without a code": (lambda: rivals.VAE(latent=0), ValueError, "latent is 0; expected a whole number"),
    "a VAE of ten channels": (lambda: rivals.VAE(width=10), ValueError, "width is 10; expected a multiple of 8"),
    "a decoder without noise": (lambda: rivals.VAE(std=0), ValueError, "std is 0; expected a standard deviation"),
    "a decoder with noise nan": (lambda: rivals.VAE(std=math.nan), ValueError, "std is nan"),
    "a negative beta": (lambda: rivals.VAE(beta=-1), ValueError, "beta is -1; expected the weight of the KL"),
    "no images from a VAE": (lambda: rivals.VAE().sample(0), ValueError, "n is 0; expected a whole number"),
    "a GAN without noise": (lambda: rivals.GAN(latent=2.5), ValueError, "latent is 2.5; expected a whole number"),
    "a GAN of no width": (lambda: rivals.GAN(width=0), ValueError, "width is 0; expected"),
    "a negative penalty": (lambda: rivals.GAN(penalty=-1.0), ValueError, "penalty is -1.0; expected .* R1"),
    "half an image from a GAN": (lambda: rivals.GAN().sample(0.5), ValueError, "n is 0.5; expected a whole number"),
    "a slope at images without a gradient": (
        lambda: rivals.r1(CODE.sum(1), CODE),
        ValueError,
        r"x_0 has no gradient; call x_0.requires_grad_\(\) before",
    ),
    "more parts than images": (
        lambda: rivals.Mixture(IMAGE, parts=3, directions=1),
        ValueError,
        "3 parts and 1 directions for 2 images of 64 pixels; expected fewer",
    ),
    "more directions than images": (lambda: rivals.Mixture(IMAGE), ValueError, "1 parts and 50 directions for 2"),
    "a mixture of nothing": (lambda: rivals.Mixture(IMAGE, parts=0), ValueError, "parts is 0; expected"),
    # bench
    "a method that is not there": (
        lambda: bench.new_contestant("flow", 0),
        ValueError,
        "'flow'; expected one of 'diffusion'",
    ),
    "training what is not there": (lambda: fitted("VAE", images=1), ValueError, "name is 'VAE'; expected one of"),
    "no budget": (fitted, ValueError, "seconds is None and images is None; give one of them"),
    "two budgets": (lambda: fitted(seconds=1, images=1), ValueError, "seconds is 1 and images is 1; give one"),
    "a budget of nothing": (lambda: fitted(images=0), ValueError, "the budget is 0; expected a positive"),
    "a budget that is nan": (lambda: fitted(seconds=math.nan), ValueError, "the budget is nan; expected"),
    "samples of what is not there": (
        lambda: bench.sample_contestant("copies", None, 1, 0),
        ValueError,
        "name is 'copies'; expected one of",
    ),
    "an unknown sampler of the bench": (
        lambda: bench.sample_contestant("diffusion", None, 1, 0, "euler"),
        ValueError,
        "sampler is 'euler'; expected 'ddim', 'dpm_solver' or 'ddpm'",
    ),
    "no calls": (
        lambda: bench.sample_contestant("diffusion", None, 1, 0, "ddim", 0),
        ValueError,
        "calls is 0; expected",
    ),
    "no samples of the bench": (lambda: bench.sample_contestant("vae", None, 0, 0), ValueError, "n is 0; expected"),
    "judging what are no digits": (lambda: bench.judge(IMAGE), ValueError, "feature network was made for digits"),
    "no seeds": (lambda: race.run_bench(".", CPU, []), ValueError, r"seeds are \[\]; expected different whole numbers"),
    "a seed twice": (lambda: race.run_bench(".", CPU, [1, 1]), ValueError, r"seeds are \[1, 1\]; expected different"),
    "a negative seed": (lambda: race.run_bench(".", CPU, [-1]), ValueError, r"seeds are \[-1\]; .* at least 0"),
    "half a seed": (lambda: race.run_long_bench(".", CPU, [0.5]), ValueError, r"seeds are \[0.5\]; expected"),
    "the seed that chose": (lambda: race.run_long_bench(".", CPU, [100]), ValueError, "seed 100 chose the settings"),
    "a bench of no seconds": (lambda: race.settings("run", 0), ValueError, "the budget is 0; expected"),
    "trials of negative seconds": (lambda: race.tune(".", CPU, -1), ValueError, "the budget is -1; expected"),
}
CPU = torch.device("cpu")


def way_of(error):
    """The code that an error came through, from the outside in, if a `raise` began it; else it is an accident: []."""
    steps = list(traceback.walk_tb(error.__traceback__))
    innermost, line = steps[-1]
    raised = linecache.getline(innermost.f_code.co_filename, line).lstrip().startswith("raise ")
    return [frame.f_code for frame, _ in steps] if raised else []


@pytest.mark.parametrize("call, error, words", TABLE.values(), ids=TABLE)
def test_a_clear_error(call, error, words):
    with pytest.raises(error, match=words) as caught:
        call()
    # torch says itself what it cannot make, with a RuntimeError; every other error is the library's own word.
    assert way_of(caught.value) or error is RuntimeError, "not refused: something failed further on"


def test_a_sampler_refuses_before_it_asks_the_denoiser():
    def never(x_t, t):
        raise AssertionError("asked")

    for sampler in (ddpm, ddim, heun, dpm_solver):
        with pytest.raises(ValueError, match="decrease"):
            next(iter(sampler(never, Cosine(), X, [0.9, 0.5, 0.5, 0.1])))


@pytest.fixture
def folder_of_weights(tmp_path, monkeypatch):
    """A package whose weights can be spoiled."""
    folder = tmp_path / "diffusion_lib" / "weights"
    folder.mkdir(parents=True)
    path = folder / "classifier.safetensors"
    path.write_bytes(pretrained.weights_file("classifier").read_bytes())
    monkeypatch.setattr(pretrained.resources, "files", lambda package: tmp_path / "diffusion_lib")
    return path


def spoil(path, how):
    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[:-1])
    elif how == "one weight altered":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "a number of the card altered":
        place = content.index(b'\\"steps\\": ') + len(b'\\"steps\\": ')
        path.write_bytes(content[:place] + b"9" + content[place + 1 :])
    elif how == "never fetched":
        path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 231966\n")
    elif how == "a web page":
        path.write_bytes(b"<!DOCTYPE html><html>404</html>")


@pytest.mark.parametrize(
    "how", ["cut short", "one weight altered", "a number of the card altered", "never fetched", "a web page"]
)
def test_spoiled_weights_are_refused(folder_of_weights, how):
    pretrained.classifier()
    spoil(folder_of_weights, how)
    model = metrics.FeatureNetwork()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="classifier.safetensors is not a complete file of weights .*delete it and"):
        pretrained.load(model, "classifier")
    with pytest.raises(ValueError, match="not a complete file"):
        pretrained.card("classifier")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_no_weights_at_all(folder_of_weights):
    folder_of_weights.unlink()
    with pytest.raises(ValueError, match="no weights called 'classifier'; shipped are none"):
        pretrained.classifier()


# Nothing public is left out. What was tried is read off the tracebacks: the functions that a refusal came through.

# What makes the committed numbers and weights is run with its own options; of it only what lessons use has to refuse.
COMMANDS = {"experiments", "measured", "pretrained", "recipes"}
ANYTHING_GOES = {"device", "seed", "generator"}  # parameters of which torch itself says what it takes
TAKES_ANYTHING = {
    "costs.multiply_adds": "counts any call",
    "costs.readable_time": "writes any number",
    "downloads.md5_of": "part of download",
    "editing.broadcasts": "says whether two shapes fit; who asks refuses",
    "experiments.bench.ema_of": "of the bench's own models",
    "experiments.minority.share_of_ink": "of any images",
    "files.put_in_place": "part of write_atomically",
    "files.replacing": "the system says which paths there are",
    "files.write_atomically": "the system says which paths there are",
    "forward.noise_like": "like any float tensor, and torch says so",
    "forward.uniform_like": "like any tensor",
    "metrics.class_histogram": "of any classifier and what it takes",
    "metrics.jiggle": "part of train_classifier",
    "metrics.reach": "part of fidelity, which refuses",
    "metrics.root": "part of frechet_distance, which refuses",
    "metrics.train_classifier": "of digits, which data gives",
    "networks.count_parameters": "of any module",
    "networks.zero": "any layer",
    "plots.frame": "part of save_film, which refuses",
    "plots.loss_curve": "draws any numbers",
    "plots.points": "matplotlib says what it cannot draw",
    "plots.smooth": "averages any numbers",
    "refusals.may_look": "of any tensors",
    "rivals.descend": "part of gan_step",
    "rivals.discriminator_loss": "of any logits",
    "rivals.gan_step": "its networks refuse",
    "rivals.generator_loss": "of any logits",
    "rivals.image_decoder": "part of VAE and GAN, which refuse",
    "samplers.start_noise": "torch says which shapes there are",
    "tokens.highest": "part of unmask, which refuses",
    "training.autocast": "torch says which types a device has",
    "training.fingerprint": "part of save_tensors and load_tensors",
    "training.learning_rate_share": "part of train, which refuses",
    "training.make_optimizers": "of any module",
    "training.orthogonal": "of any matrix",
    "training.save_tensors": "of any tensors; load_tensors refuses what it did not write",
    "training.set_rates": "of any optimisers",
    "training.to_device": "of any module, and torch says which devices there are",
}


def library_functions():
    """{"module.function": function} of all that is public, wherever in the library it is defined."""
    found = {}
    for module in pkgutil.walk_packages(diffusion_lib.__path__, "diffusion_lib."):
        name = module.name.removeprefix("diffusion_lib.")
        if name.split(".")[0] in ("__main__", "assets", "exercises", "weights") or name.endswith("__main__"):
            continue
        for own, value in vars(importlib.import_module(module.name)).items():
            if callable(value) and not own.startswith(("_", "require_")):
                function = inspect.unwrap(value)
                if inspect.isfunction(function) and function.__module__ == module.name:
                    found[f"{name}.{own}"] = function
    return found


@functools.cache
def named_by_lessons():
    """{"module.name"} of the library that code of the lessons uses."""
    found = set()
    for path in LESSONS:
        trees = [tree for _, cell in numbered(lesson_at(path), "code") if (tree := parse(cell))]
        nodes = [node for tree in trees for node in ast.walk(tree)]
        imports = [n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("diffusion_lib")]
        full = {name.asname or name.name: f"{node.module}.{name.name}" for node in imports for name in node.names}
        for node in nodes:
            if isinstance(node, ast.Name) and node.id in full:
                found.add(full[node.id])
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in full:
                found.add(f"{full[node.value.id]}.{node.attr}")
    return {name.removeprefix("diffusion_lib.") for name in found}


def refusers(call):
    """The functions that refuse what a call gives them: (file, name); a closure counts for its maker."""
    try:
        call()
    except Exception as error:
        return {(code.co_filename, code.co_qualname.split(".<locals>")[0]) for code in way_of(error)}
    return set()


def untried(functions, table, named):
    """The names of functions that no call of the table shows to refuse, though they take what could be wrong."""
    tried = set().union(*(refusers(call) for call, *_ in table.values()))
    for name, function in functions.items():
        free = set(inspect.signature(function).parameters) <= ANYTHING_GOES
        not_shown = name.split(".")[0] in COMMANDS and name not in named
        if not free and not not_shown and (function.__code__.co_filename, function.__qualname__) not in tried:
            yield name


def test_every_public_function_refuses_or_has_its_reason():
    functions = library_functions()
    missing = set(untried(functions, TABLE, named_by_lessons()))
    new, needless = sorted(missing - set(TAKES_ANYTHING)), sorted(set(TAKES_ANYTHING) - missing)
    assert not new, f"{new} never seen to refuse bad input; add a call to TABLE"
    assert not needless, f"{needless} exempted without need: gone, or tried, or free of what could be wrong"


def test_what_is_not_tried_is_noticed():
    half = "experiments.memory.half"
    functions = {"forward.add_noise": add_noise, half: memory.half, "data.emoji_names": data.emoji_names}
    refused = {"bad noise": (lambda: add_noise(Cosine(), X, X[:1], 0.5), ValueError, "")}
    accepted = {"good noise": (lambda: add_noise(Cosine(), X, X, 0.5), ValueError, "")}
    assert set(untried(functions, accepted, {half})) == {
        "forward.add_noise",
        half,
    }
    assert set(untried(functions, refused, {half})) == {half}
    assert set(untried(functions, refused, set())) == set()
    assert {"schedules.Cosine", "data.digits", "pretrained.digits"} <= named_by_lessons()

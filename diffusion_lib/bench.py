"""Diffusion, a GAN and a VAE on one bench: equal data, equal parameters, equal budgets, several seeds (lesson 11).

Every method has about 92,000 parameters, the 4,000 training digits without labels, batches of 32, Adam, one and the
same course of the learning rate, and an average of its weights to sample from. It trains for equal seconds, or on as
many images as diffusion sees in them; a second is a second of work of one processor core, so that whatever else the
machine does bends little (on a GPU: a second). Each method's settings are the best of a grid, at a seed that is not
used again.

    python -m diffusion_lib.bench tune     # the grids: 18 settings of the GAN, 20 of the VAE, 7 of diffusion
    python -m diffusion_lib.bench run      # five seeds, both budgets, baselines, samplers: an hour of one core
    python -m diffusion_lib.bench long     # three times the seconds, one seed: who is still getting better?

All write after every run and go on where they were stopped.
"""

import argparse
import ast
import contextlib
import hashlib
import json
import math
import subprocess
import time
from collections.abc import Iterator
from functools import lru_cache, partial
from importlib import resources
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from tqdm.auto import tqdm

from . import data, metrics, pretrained, rivals, samplers
from .denoisers import Denoiser, even_times, middle_times
from .forward import noise_like
from .guidance import clip
from .measured import circumstances, fidelity_and_distance, multiply_adds, read, read_pictures, write, write_pictures
from .networks import UNet, count_parameters
from .schedules import Cosine
from .targets import V
from .training import EMA, best_device, learning_rate_share, require_finite

METHODS = ("diffusion", "gan", "vae")
SECONDS = 180  # of one core: the budget of equal seconds; that of equal images is what diffusion sees in them
SEEDS = (0, 1, 2, 3, 4)
BATCH_SIZE = 32
WIDTHS, CONDITION, RIVAL_WIDTH, VAE_LATENT = (8, 16, 32), 64, 16, 12  # 92,000 parameters each
N = 1000  # samples that are judged
SAMPLER = ("dpm_solver", 20)  # of diffusion, where nothing else is said

TUNING_SEED, TUNING_SECONDS = 100, 30
GRIDS = {  # every combination is tried once; later grids of each go on where the best so far lay at an edge
    "diffusion": (
        {"rate": (1e-3, 2e-3, 4e-3), "times": ("even", "middle")},
        {"rate": (8e-3,), "times": ("middle",)},
    ),
    "gan": (
        {"rate": (5e-4, 2e-3), "beta_1": (0.0, 0.5), "remedy": ("R1 of 0.1", "R1 of 1", "spectral")},
        {"rate": (5e-3, 1e-2), "beta_1": (0.0,), "remedy": ("R1 of 0.1", "R1 of 1", "spectral")},
    ),
    "vae": (
        {"rate": (1e-3, 2e-3, 4e-3), "std": (0.1, 0.2, 0.3, 0.5)},
        {"rate": (8e-3,), "std": (0.5, 0.8)},
        {"rate": (4e-3,), "std": (0.8,)},
        {"rate": (8e-3, 1.6e-2), "std": (1.2,)},
        {"rate": (1.6e-2,), "std": (0.8,)},
        {"rate": (8e-3,), "std": (1.6, 2.4)},
    ),
}
CHOSEN = {  # the best of each grid: bench_tuning.json
    "diffusion": {"rate": 2e-3, "times": "middle"},
    "gan": {"rate": 5e-3, "beta_1": 0.0, "remedy": "spectral"},
    "vae": {"rate": 8e-3, "std": 1.2},
}

LONG_SECONDS, LONG_SEEDS = 540, (0,)
CURVE_SEEDS, CURVE_POINTS, CURVE_N, CURVE_SAMPLER = (0, 1), 8, 500, ("dpm_solver", 10)
SWEEP_SEEDS, SWEEP_N = (0, 1, 2), 500
SWEEP = (
    *(("ddim", calls) for calls in (5, 10, 20, 50)),
    *(("dpm_solver", calls) for calls in (5, 10, 20)),
    ("ddpm", 100),
)
BASELINES = {"gaussian": {"parts": 1}, "mixture": {"parts": 30}}  # settings of rivals.Mixture
RECALL, CLASSES = 0.3, 9  # a run with less of one of them has collapsed


# ---------------------------------------------------------------------------------------------- one model


def make(name, seed, setting=None):
    """A new model of this method; about 92,000 parameters whichever it is.

    Args:
        name: "diffusion", "gan" or "vae".
        seed: decides the first weights.
        setting: dict as in CHOSEN, or None for that one.
    """
    require_method(name)
    setting = setting or CHOSEN[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "diffusion":
            return Denoiser(UNet(channels=1, widths=WIDTHS, condition_dim=CONDITION), Cosine(), V)
        if name == "vae":
            return rivals.VAE(VAE_LATENT, RIVAL_WIDTH, std=setting["std"])
        remedy, penalty = setting["remedy"], 0.0
        if remedy.startswith("R1 of "):
            penalty = float(remedy.removeprefix("R1 of "))
        return rivals.GAN(width=RIVAL_WIDTH, penalty=penalty, spectral=remedy == "spectral")


def update(name, model, optimizers, x_0, generator, setting):
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


def players(name, model):
    """The modules with an optimiser of their own; the first is the one that makes images."""
    return [model.generator, model.discriminator] if name == "gan" else [model]


class Progress(NamedTuple):
    """How far a run is: steps, images seen, seconds of one core, and the losses {name: value} of the last step."""

    step: int
    images: int
    seconds: float
    losses: dict


def fit(name, model, seed, seconds=None, images=None, setting=None, ema=None) -> Iterator[Progress]:
    """Train any of the three on the training digits: each `next` makes a step and says how it went.

    The learning rate rises over the first twentieth of the budget and falls as half a cosine over the rest. Only the
    time inside a step counts, so that the caller may look at the model between two of them.

    Args:
        name: "diffusion", "gan" or "vae".
        model: from `make`.
        seed: decides the order of the data and the noise.
        seconds: budget in seconds of one processor core (on a GPU: seconds); or
        images: budget in training images seen.
        setting: dict as in CHOSEN, or None for that one.
        ema: an EMA of the module that makes images (`averaged`), or None.

    Yields:
        Progress(step, images, seconds, losses).

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
        yield Progress(step, step * BATCH_SIZE, spent, losses)


def averaged(name, model):
    """An EMA of the module that makes images: samples come from the average for every method."""
    return EMA(players(name, model)[0])


@contextlib.contextmanager
def one_core(device):
    """On a CPU, work in one thread: seconds of work and seconds on the clock are then the same."""
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        yield
    finally:
        torch.set_num_threads(threads)


def clock(device):
    """Seconds this process has worked; on a GPU, whose work is no process's, seconds that have gone by."""
    if device.type == "cpu":
        return time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@torch.no_grad()
def sample(name, model, n, seed, sampler=SAMPLER[0], calls=SAMPLER[1]):
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
def judge_and_real():
    """The classifier of lesson 07, the training digits and their features."""
    classifier, training = pretrained.classifier(), data.digits("train")[0]
    return classifier, training, classifier.features(training)


@torch.no_grad()
def judge(x):
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


def collapsed(judged):
    """Whether a run counts as collapsed: recall under 0.3, or fewer than nine of the ten digits with one per cent.

    A collapse is a loss of variety (Goodfellow 2016, sec. 5.1.1). The rule of the first race asked for a coverage of
    0.3 in place of recall. It was given up after the first run of that race, a diffusion model whose samples held
    all ten digits with a coverage of 0.28: coverage falls with poor strokes, too. The rows serve any rule.
    """
    present = sum(count >= 0.01 * sum(judged["classes"]) for count in judged["classes"])
    return judged["recall"] < RECALL or present < CLASSES


# ---------------------------------------------------------------------------------------------- the long bench


def trial(name, setting, device=None, seed=TUNING_SEED, seconds=TUNING_SECONDS):
    """One trial of a grid: train for some seconds, judge CURVE_N samples."""
    model = make(name, seed, setting).to(device or torch.device("cpu"))
    row = train_and_time(name, model, seed, setting, seconds=seconds)
    x = images_after(row, name, model, CURVE_N, seed, *CURVE_SAMPLER)
    return {"method": name, "setting": setting, "seed": seed} | row | judge(x)


def images_after(row, name, model, n, seed, *way):
    """`sample`, or images of nan after a run that diverged: whatever its weights still draw does not count."""
    return torch.full((n, 1, 28, 28), torch.nan) if row["diverged"] else sample(name, model, n, seed, *way)


def train_and_time(name, model, seed, setting=None, seconds=None, images=None, look=None):
    """Train to the end of the budget and leave the averaged weights in the model; `look` sees every Progress.

    Returns:
        dict with steps, images, seconds of one core, wall seconds, losses (means of the last tenth), parameters,
        and "diverged": whether the losses ceased to be numbers.
    """
    begin, ema, history, diverged = time.perf_counter(), averaged(name, model), [], False
    looking = 0.0
    try:
        for progress in fit(name, model, seed, seconds, images, setting, ema):
            history.append(progress)
            pause = time.perf_counter()
            if look is not None:
                look(progress, ema)
            looking += time.perf_counter() - pause
    except FloatingPointError:
        diverged = True
    ema.swap()
    end = history[-max(1, len(history) // 10) :]
    losses = {key: round(float(np.mean([p.losses[key] for p in end])), 4) for key in end[0].losses} if end else {}
    return {
        "steps": len(history),
        "images": len(history) * BATCH_SIZE,
        "seconds": round(history[-1].seconds, 2) if history else 0.0,
        "wall_seconds": round(time.perf_counter() - begin - looking, 1),
        "parameters": count_parameters(model),
        "losses": losses,
        "diverged": diverged,
    }


def run_one(name, seed, device, seconds=None, images=None):
    """One run of the bench: the trained model, N of its images, its row, and its curve (None for most seeds)."""
    model, budget = make(name, seed).to(device), "seconds" if seconds else "images"
    curve = {"method": name, "seed": seed, "budget": budget, "at": [], "images": [], "frechet": [], "coverage": []}
    recent = []

    def look(progress, ema):
        recent.append(progress.losses)
        done = progress.seconds / seconds
        if done < (len(curve["at"]) + 1) / CURVE_POINTS:
            return
        ema.swap()
        judged = judge(sample(name, model, CURVE_N, seed, *CURVE_SAMPLER))
        ema.swap()
        for key in recent[0]:
            curve.setdefault(key, []).append(round(float(np.mean([losses[key] for losses in recent])), 4))
        curve["at"].append(round(progress.seconds, 2))
        curve["images"].append(progress.images)
        for key in ("frechet", "coverage"):
            curve[key].append(judged[key])
        recent.clear()

    watched = budget == "seconds" and seed in CURVE_SEEDS
    row = train_and_time(name, model, seed, None, seconds, images, look if watched else None)
    x = images_after(row, name, model, N, seed)
    return model, x, {"method": name, "seed": seed, "budget": budget} | row | judge(x), curve if watched else None


@torch.no_grad()
def sweep(name, model, seed):
    """What sampling costs and what it is worth: a row for every sampler, or one for a method of one call."""
    device, one = next(model.parameters()).device, torch.zeros(1, 1, 28, 28)
    for sampler, calls in SWEEP if name == "diffusion" else (("one call", 1),):
        options = (sampler, calls) if name == "diffusion" else ()
        with one_core(device):
            begin = clock(device)
            x = sample(name, model, SWEEP_N, seed, *options)
            seconds = (clock(device) - begin) * 100 / SWEEP_N
        ask = partial(model, one.to(device), torch.tensor(0.5)) if name == "diffusion" else partial(model.sample, 1)
        row = {"method": name, "seed": seed, "sampler": sampler, "calls": calls}
        row |= {"seconds": round(seconds, 4), "multiply_adds": calls * multiply_adds(ask)}
        yield row | judge(x)


def baselines():
    """The same numbers without a rival: one Gaussian, a mixture of thirty, copies of training digits, real digits."""
    x_0, held_out = data.digits("train")[0], data.digits("held_out")[0]
    found = []
    for name, options in BASELINES.items():
        for seed in SEEDS:
            begin = time.process_time()
            mixture = rivals.Mixture(x_0, **options, seed=seed)
            row = {"method": name, "seed": seed, "seconds": round(time.process_time() - begin, 2)}
            found.append(row | judge(mixture.sample(N, torch.Generator().manual_seed(seed))))
    for seed in SEEDS:
        pick = torch.randint(len(x_0), (N,), generator=torch.Generator().manual_seed(seed))
        found.append({"method": "copies", "seed": seed, "seconds": 0.0} | judge(x_0[pick]))
    for n in (SWEEP_N, N):
        found.append({"method": "real", "seed": 0, "seconds": 0.0} | judge(held_out[:n]))
    return found


def training_cost():
    """Multiply-adds of training on one image, each method's whole step with its gradients, counted by torch."""
    x_0, cost = data.digits("train")[0][:BATCH_SIZE], {}
    for name in METHODS:
        setting, generator = dict(CHOSEN[name]), torch.Generator().manual_seed(0)
        if setting.get("remedy") == "spectral":  # few multiply-adds, and torch's counter stumbles over them
            setting["remedy"] = "none"
        model = make(name, 0, setting)
        optimizers, parameters = (
            [torch.optim.Adam(p.parameters(), 1e-3) for p in players(name, model)],
            model.parameters,
        )
        if name == "gan":  # torch's counter stumbles over a module that is given x_0 itself, where r1 takes a slope
            look = lambda x, see=model.discriminator: see(1 * x)  # noqa: E731
            model = SimpleNamespace(**vars(model), parameters=parameters, generator=model.generator, discriminator=look)
        step = partial(update, name, model, optimizers, x_0, generator, setting)
        number = sum(p.numel() for p in parameters())
        cost[name] = {"parameters": number, "multiply_adds": round(multiply_adds(step) / BATCH_SIZE)}
    return cost


# ---------------------------------------------------------------------------------------------- the command


def settings(what, seconds=None):
    """All that decides a result but the seeds: rows made with other settings do not belong into the same file.

    Args:
        what: "tune", "run" or "long".
        seconds: another budget than the usual one, or None.
    """
    if seconds is not None:
        require_budget(seconds, None)
    size = {"batch_size": BATCH_SIZE, "widths": WIDTHS, "condition": CONDITION}
    size |= {"rival_width": RIVAL_WIDTH, "vae_latent": VAE_LATENT}
    if what == "tune":
        own = {"seconds": seconds or TUNING_SECONDS, "seed": TUNING_SEED, "n": CURVE_N, "sampler": CURVE_SAMPLER}
        own |= {"grids": GRIDS}
    else:
        own = {"seconds": seconds or SECONDS, "n": N, "sampler": SAMPLER}
        if what == "long":
            own["seconds"] = seconds or LONG_SECONDS
        own |= {"chosen": CHOSEN, "collapsed": {"recall": RECALL, "classes": CLASSES}, "baselines": BASELINES}
        own |= {"curve": {"seeds": CURVE_SEEDS, "points": CURVE_POINTS, "n": CURVE_N, "sampler": CURVE_SAMPLER}}
        own |= {"sweep": {"seeds": SWEEP_SEEDS, "n": SWEEP_N, "samplers": SWEEP}}
    return json.loads(json.dumps(size | own))


def trials():
    """Every (method, setting) of the grids, all first grids before the second ones."""
    for number in range(max(len(grids) for grids in GRIDS.values())):
        for name, grids in GRIDS.items():
            for grid in grids[number : number + 1]:
                yield from ((name, dict(zip(grid, values))) for values in product(*grid.values()))


def tune(folder, device, seconds=None, progress=tqdm):
    """Try every setting of the grids that the file in the folder does not hold yet; return its results."""
    path = Path(folder) / "bench_tuning.json"
    results = about(device) | opened(path, settings("tune", seconds), {"rows": []}) | about(device)
    done = [(row["method"], row["setting"]) for row in results["rows"]]
    for name, setting in progress([job for job in trials() if job not in done], desc="trials"):
        results["rows"].append(trial(name, setting, device, seconds=results["settings"]["seconds"]))
        write(path, results)
    return results


def run(folder, device, seeds=SEEDS, seconds=None, progress=tqdm):
    """Make every run that the file in the folder does not hold yet; return its results.

    With equal images, each rival sees as many as diffusion saw in its seconds with the same seed; diffusion's own row
    is the same for both budgets.
    """
    require_seeds(seeds)
    path, pictures_path = Path(folder) / "bench.json", Path(folder) / "bench_samples.npz"
    empty = {"rows": [], "curves": [], "sampling": []}
    results = about(device) | opened(path, settings("run", seconds), empty) | about(device)
    if "baselines" not in results:
        results |= {"baselines": baselines(), "training_cost": training_cost()}
        write(path, results)
    done = {(row["method"], row["seed"], row["budget"]) for row in results["rows"]}
    jobs = [(name, seed, budget) for seed in seeds for budget in ("seconds", "images") for name in METHODS]
    for name, seed, budget in progress([job for job in jobs if job not in done], desc="runs"):
        diffusion = [row for row in results["rows"] if (row["method"], row["seed"]) == ("diffusion", seed)]
        if budget == "images" and name == "diffusion":
            results["rows"].append(diffusion[0] | {"budget": "images"})
            continue
        amount = results["settings"]["seconds"] if budget == "seconds" else diffusion[0]["images"]
        model, x, row, curve = run_one(name, seed, device, **{budget: amount})
        if budget == "seconds":
            results["curves"] += [curve] if curve else []
            if seed in SWEEP_SEEDS and not row["diverged"]:
                results["sampling"] += sweep(name, model, seed)
            keep_pictures(pictures_path, f"{name}_{seed}", x[:10])  # before the row: a finished row has its pictures
        results["rows"].append(row)
        write(path, results)
    return results


def long(folder, device, seeds=LONG_SEEDS, seconds=None, progress=tqdm):
    """The same with more seconds, for few seeds: rows and curves only, in a file of its own."""
    require_seeds(seeds)
    path = Path(folder) / "bench_long.json"
    results = about(device) | opened(path, settings("long", seconds), {"rows": [], "curves": []}) | about(device)
    done = {(row["method"], row["seed"]) for row in results["rows"]}
    jobs = [(name, seed) for seed in seeds for name in METHODS]
    for name, seed in progress([job for job in jobs if job not in done], desc="long runs"):
        _, _, row, curve = run_one(name, seed, device, seconds=results["settings"]["seconds"])
        results["curves"] += [curve] if curve else []
        results["rows"].append(row)
        write(path, results)
    return results


def keep_pictures(path, key, x):
    """Add images (n, 1, 28, 28) to the file of pictures, as bytes (n, 28, 28)."""
    kept = dict(np.load(path)) if path.exists() else {}
    write_pictures(path, kept | {key: data.to_uint8(x[:, 0].nan_to_num()).numpy()})


def opened(path, wanted, empty):
    """What is in the results file, if it was made with these settings; the empty results if there is none.

    Raises:
        ValueError: it was made with other settings, or is no results file.
    """
    if not path.exists():
        return {"settings": wanted} | empty
    try:
        results = json.loads(path.read_text(encoding="utf8"))
        there = results["settings"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no results of this bench ({error}); move it away, or name a folder.") from error
    differ = sorted(key for key in there.keys() | wanted.keys() if there.get(key) != wanted.get(key))
    if differ:
        raise ValueError(
            f"{path} was made with other settings ({', '.join(differ)}), so that its rows and new ones cannot be "
            "compared. Ask for the same, or name another folder."
        )
    return results


def about(device):
    """Machine, date, versions and code of these results."""
    found = circumstances(device) | {"precision": "float32", "code": code_version()}
    if device.type == "cpu":
        found["machine"] = found["machine"].rsplit(",", 1)[0] + ", 1 thread"
    return found


def code_version():
    """The git commit, if there is one, and a SHA-256 over what this module and `rivals` do: the syntax trees of their
    functions and classes, without comments and docstrings. (The constants of this module are in `settings`.)"""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for name in ("rivals.py", "bench.py"):
        tree = ast.parse((here / name).read_text(encoding="utf8"))
        tree.body = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        for node in ast.walk(tree):
            if ast.get_docstring(node) if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) else None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        commit = None
    return {"commit": commit, "sha256": digest.hexdigest()}


def pictures():
    """The first ten samples of every run of equal seconds, committed: {method: (seeds, 10, 1, 28, 28)} in [-1, 1]."""
    kept = read_pictures("bench_samples")
    seeds = sorted({int(key.split("_")[1]) for key in kept})
    return {name: torch.stack([kept[f"{name}_{seed}"] for seed in seeds]).unsqueeze(2) for name in METHODS}


def best(results=None):
    """The setting with the smallest Frechet distance in each grid: what CHOSEN must be."""
    rows = (results or read("bench_tuning"))["rows"]
    found = {}
    for name in METHODS:
        tried = [row for row in rows if row["method"] == name and row.get("frechet") is not None]
        found[name] = min(tried, key=lambda row: row["frechet"])["setting"]
    return found


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


def require_seeds(seeds):
    """Refuse a list of seeds that is empty, counts one twice, or holds what is no seed or was used for tuning."""
    seeds = list(seeds)
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds are {seeds}; expected different whole numbers of at least 0, one at least.")
    if TUNING_SEED in seeds:
        raise ValueError(f"seed {TUNING_SEED} chose the settings; a fair bench does not use it again.")


def main(arguments=None):
    """The command: python -m diffusion_lib.bench tune | run | long."""
    parser = argparse.ArgumentParser(prog="python -m diffusion_lib.bench", description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["tune", "run", "long"])
    parser.add_argument("--seeds", type=int, nargs="+", help="which seeds; 0 to 4, and 0 for long")
    parser.add_argument(
        "--seconds", type=float, help=f"of one core; {SECONDS}, {TUNING_SECONDS} for a trial, {LONG_SECONDS} for long"
    )
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib"))) / "assets/measured")
    options = parser.parse_args(arguments)
    try:
        if options.what == "tune":
            results = tune(options.folder, best_device(), options.seconds)
            print(json.dumps(best(results)))
        else:
            measure, seeds = {"run": (run, SEEDS), "long": (long, LONG_SEEDS)}[options.what]
            results = measure(options.folder, best_device(), options.seeds or seeds, options.seconds)
            print(f"{len(results['rows'])} runs in {options.folder}")
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

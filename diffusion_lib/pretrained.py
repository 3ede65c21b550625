"""Shipped weights: what they are, how they were made, how well they do.

`digits()` is the model that every lesson may sample from; `classifier()` is the judge of lesson 07. Both are small,
were made by the commands below from the shipped digits alone, and carry a card that says so:

    python -m diffusion_lib.pretrained classifier
    python -m diffusion_lib.pretrained digits
"""

import argparse
import json
import platform
import time
from functools import partial
from importlib import resources
from pathlib import Path

import torch

from . import __version__, data, metrics, samplers
from .denoisers import Denoiser, middle_times
from .forward import noise_like
from .guidance import classifier_free, clip, drop_labels, limited
from .networks import UNet, count_parameters
from .schedules import Cosine
from .targets import V
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


def train_digits(steps=None, seconds=None, seed=0, device="cpu", progress=None, batch_size=BATCH_SIZE):
    """Train the digit model from scratch: the recipe of lesson 04 and of the shipped weights.

    Args:
        steps, seconds: length of the run; at least one of them.
        seed: decides initial weights, order of the data and noise.
        device: where to train.
        progress: function that wraps the generator of Progress, such as tqdm, or None.
        batch_size: digits in a step; more of them cost time and make the step more certain.

    Returns:
        the model with its averaged weights, the list of Progress.
    """
    model = to_device(new_digits_model(seed), device)
    x_0, label = data.digits("train")
    batches = data.Batches(x_0.to(device), label.to(device), batch_size, seed=seed)
    ema = EMA(model)
    run = train(model, batches, digits_loss, steps, seconds, ema=ema, dtype=half_precision(device), seed=seed)
    history = list(run if progress is None else progress(run))
    ema.swap()
    return model.eval(), history


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
    generator = torch.Generator().manual_seed(seed)
    noise = samplers.start_noise(model.schedule, (len(label), 1, 28, 28), generator, label.device)
    denoiser, times = guided(model, label, scale, interval), samplers.time_grid(steps)
    with autocast(label.device, half_precision(label.device)):
        return samplers.last(samplers.ddim(denoiser, model.schedule, noise, times, eta, generator)).float()


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


def make(name, steps=None):
    """Train a shipped model from scratch and return (model, card)."""
    from tqdm.auto import tqdm

    device = best_device()
    begin = time.perf_counter()
    if name == "classifier":
        steps = steps or 3000
        x_0, label = data.digits("train")
        model = metrics.train_classifier(x_0, label, steps=steps, progress=partial(tqdm, desc=name))
        results = {"held-out accuracy": metrics.accuracy(model, *data.digits("held_out"))}
        device = torch.device("cpu")
    else:
        steps = steps or STEPS
        model, history = train_digits(steps=steps, device=device, progress=partial(tqdm, total=steps, desc=name))
        results = {"final loss": round(sum(p.loss for p in history[-100:]) / len(history[-100:]), 4)}
    return model, {
        "name": name,
        "data": "4,000 MNIST digits (data.digits('train'))",
        "parameters": count_parameters(model),
        "steps": steps,
        "seconds": round(time.perf_counter() - begin),
        "device": f"{device.type}, {torch.get_num_threads()} threads, {platform.machine()}",
        "versions": {"diffusion_lib": __version__, "torch": torch.__version__},
        "quality": results,
    }


def main(arguments=None):
    """Retrain shipped weights: python -m diffusion_lib.pretrained NAME [--steps N] [--folder F]."""
    parser = argparse.ArgumentParser(description="Train the shipped weights from scratch, by the code of the lessons.")
    parser.add_argument("name", choices=["classifier", "digits"])
    parser.add_argument("--steps", type=int, help="a shorter run, for a try")
    parser.add_argument("--folder", type=Path, default=Path(str(resources.files("diffusion_lib") / "weights")))
    options = parser.parse_args(arguments)
    model, about = make(options.name, options.steps)
    if options.name == "digits":
        # The file holds 16-bit weights, so those are what is measured.
        model.load_state_dict({key: value.half().float() for key, value in model.state_dict().items()})
        about["quality"] |= quality(model, n=1000)
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"{options.name}.safetensors"
    save_tensors(path, {key: value.half() for key, value in model.state_dict().items()}, about)
    path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf8")
    print(json.dumps(about, indent=2))


if __name__ == "__main__":
    main()

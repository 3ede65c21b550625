"""Shipped weights: what they are, how well they do, and how to sample from them.

`digits()` is the model that every lesson may sample from; `classifier()` is the judge of lesson 07; lesson 09 uses
`emoji()`, in colour, and `latent_digits()`, which works between the halves of `autoencoder()`; lesson 10 masks and
uncovers symbols with `sums()` and `text()`. All are small, were made by `recipes` from the shipped data alone, and
carry a card that says so. `python -m diffusion_lib.experiments weights NAME` makes one again.
"""

from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor, nn

from . import metrics, recipes, samplers
from .denoisers import Denoise, Denoiser
from .guidance import classifier_free, clip, in_interval
from .networks import Autoencoder
from .schedules import Schedule
from .tokens import LeftToRight, MaskedDenoiser, unmask
from .training import autocast, half_precision, load_tensors, to_device

INTERVAL = (0.5, 0.8)  # times with guidance; see the card for what that buys


def weights_file(name: str) -> Path:
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


def card(name: str) -> dict:
    """What is known of shipped weights: data, steps, seconds, device, code version, measured quality, as a dict."""
    return load_tensors(weights_file(name))[1]


def load(model: nn.Module, name: str) -> nn.Module:
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


# ---------------------------------------------------------------------------------------------- the models


def digits(device: torch.device | str = "cpu") -> Denoiser:
    """The trained digit model, a Denoiser with labels 0 to 9 (10, or none, for no label)."""
    return to_device(load(recipes.new_digits_model(), "digits"), device)


def classifier(device: torch.device | str = "cpu") -> metrics.FeatureNetwork:
    """The trained feature network of metrics, the judge of all samples."""
    return load(metrics.FeatureNetwork(), "classifier").to(device)


def emoji(device: torch.device | str = "cpu") -> Denoiser:
    """The trained colour model, a Denoiser on (B, 3, 32, 32) with the 16 groups of data.emoji_groups() as labels (16,
    or none, for no label)."""
    return to_device(load(recipes.new_emoji_model(), "emoji"), device)


def autoencoder(device: torch.device | str = "cpu") -> Autoencoder:
    """The trained autoencoder of digits, with latents of mean 0 and variance 1."""
    return load(recipes.new_autoencoder(), "autoencoder").to(device)


def latent_digits(device: torch.device | str = "cpu") -> Denoiser:
    """The trained diffusion model on latents (B, 4, 7, 7) of `autoencoder()`, with labels 0 to 9 (10, or none, for no
    label)."""
    return to_device(load(recipes.new_latent_model(), "latent_digits"), device)


def sums(device: torch.device | str = "cpu") -> MaskedDenoiser:
    """The trained masked model of sums, a MaskedDenoiser on tokens (B, 9) of data.SUM_SYMBOLS."""
    return load(recipes.new_sums_model(), "sums").to(device)


def sums_left_to_right(device: torch.device | str = "cpu") -> LeftToRight:
    """The trained left-to-right model of sums, a LeftToRight of the same size as `sums()`."""
    return load(recipes.new_sums_model(left_to_right=True), "sums_left_to_right").to(device)


def text(device: torch.device | str = "cpu") -> MaskedDenoiser:
    """The trained masked model of English lines, a MaskedDenoiser on tokens (B, 48) of data.TEXT_SYMBOLS."""
    return load(recipes.new_text_model(), "text").to(device)


def text_left_to_right(device: torch.device | str = "cpu") -> LeftToRight:
    """The trained left-to-right model of English lines, a LeftToRight of the same size as `text()`."""
    return load(recipes.new_text_model(left_to_right=True), "text_left_to_right").to(device)


# ---------------------------------------------------------------------------------------------- sampling


def guided(model: Denoiser, label: Tensor, scale: float = 2.0, interval: tuple[float, float] = INTERVAL) -> Denoise:
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
    return clip(in_interval(classifier_free(plain, model, scale), plain, *interval))


def sample_digits(
    model: Denoiser,
    label: Tensor,
    scale: float = 2.0,
    interval: tuple[float, float] = INTERVAL,
    steps: int = 50,
    eta: float = 0.5,
    seed: int = 0,
) -> Tensor:
    """Digits (B, 1, 28, 28) of the classes label (B,), with DDIM.

    Args:
        model, label, scale, interval: as for `guided`.
        steps: steps of the sampler.
        eta: share of fresh noise (lesson 06), 0 for none.
        seed: decides the noise, the same on every device.
    """
    denoiser = guided(model, label, scale, interval)
    return sample(denoiser, model.schedule, (len(label), 1, 28, 28), label.device, steps, eta, seed)


def sample(
    denoiser: Denoise,
    schedule: Schedule,
    shape: Sequence[int],
    device: torch.device | str = "cpu",
    steps: int = 50,
    eta: float = 0.5,
    seed: int = 0,
) -> Tensor:
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


def sample_tokens(
    model: MaskedDenoiser | LeftToRight, x_t: Tensor, steps: int | None = None, order: str = "shuffled", seed: int = 0
) -> Tensor:
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

"""How the shipped models are made: each before training, its loss, and the training that puts numbers into it.

For every model there is a function `new_...` (the network before training), a loss of one batch, and a function
`train_...` that puts both into `fit`. The digit model is the one that lesson 04 builds and trains; lesson 09 trains the
autoencoder, lesson 10 a smaller relative of the models of symbols. `pretrained` has what came out.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from . import data
from .denoisers import Denoiser, even_times, middle_times
from .forward import noise_like, uniform_like
from .guidance import drop_labels
from .networks import Autoencoder, Transformer, UNet
from .schedules import Cosine, Linear
from .targets import V
from .tokens import LeftToRight, MaskedDenoiser
from .training import EMA, Progress, half_precision, to_device, train

BATCH_SIZE = 128
STEPS = 4000  # of the digit model that is shipped


def seeded(seed: int, build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` makes when torch's own random numbers start at this seed; they then go on as if nothing had been.

    Args:
        seed: decides the first weights.
        build: function without arguments that makes a module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def fit(
    model: nn.Module,
    x_0: Tensor,
    label: Tensor,
    loss_fn: Callable[..., Tensor],
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = BATCH_SIZE,
    checkpoint: str | Path | None = None,
) -> tuple[nn.Module, list[Progress]]:
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


# ---------------------------------------------------------------------------------------------- digits


def new_digits_model(seed: int = 0) -> Denoiser:
    """The course's digit model before training: a small U-Net with labels, the cosine schedule, the target v."""
    return seeded(seed, lambda: Denoiser(UNet(channels=1, widths=(16, 32, 64), labels=10), Cosine(), V))


def digits_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """The loss (B,) of a batch (x_0, label): mostly middle times, fresh noise, one label in ten dropped."""
    x_0, label = batch
    t = middle_times(len(x_0), generator)
    noise = noise_like(x_0, generator)
    label = drop_labels(label, null_label=10, probability=0.1, generator=generator)
    return model.loss(x_0, t, noise, label=label)


def train_digits(
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = BATCH_SIZE,
    **options,
) -> tuple[nn.Module, list[Progress]]:
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


# ---------------------------------------------------------------------------------------------- emoji


def new_emoji_model(seed: int = 0) -> Denoiser:
    """The course's colour model before training: a U-Net of four levels with the groups of emoji as labels."""
    groups = len(data.emoji_groups()[1])
    return seeded(seed, lambda: Denoiser(UNet(channels=3, widths=(16, 32, 64, 96), labels=groups), Cosine(), V))


def mirrored(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Images x (B, C, H, W), each left or right way round by the toss of a coin."""
    coin = torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5
    return torch.where(coin.to(x.device), x.flip(3), x)


def class_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """The loss (B,) of a batch (x_0, label), as digits_loss, for a model with any number of classes."""
    x_0, label = batch
    t = middle_times(len(x_0), generator)
    noise = noise_like(x_0, generator)
    null_label = model.network.condition.null_label
    return model.loss(x_0, t, noise, label=drop_labels(label, null_label, probability=0.1, generator=generator))


def emoji_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """`class_loss` of a batch (x_0, group), mirrored at random unless there is writing or a clock's hands to spoil."""
    x_0, group = batch
    kinds = data.emoji_groups()[1]
    one_way = torch.tensor([kinds.index(kind) for kind in ("clock", "office", "sign")], device=group.device)
    keep = torch.isin(group, one_way)[:, None, None, None]
    return class_loss(model, (torch.where(keep, x_0, mirrored(x_0, generator)), group), generator)


def train_emoji(
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = 64,
    **options,
) -> tuple[nn.Module, list[Progress]]:
    """Train the colour model from scratch on nine of ten emoji, with their groups as labels.

    Args, Returns: as for `train_digits`.
    """
    x_0, place = data.emoji("train")
    group = data.emoji_groups()[0][place]
    model = new_emoji_model(seed)
    return fit(model, x_0, group, emoji_loss, steps, seconds, seed, device, progress, batch_size, **options)


# ---------------------------------------------------------------------------------------------- latents


def new_autoencoder(seed: int = 0) -> Autoencoder:
    """The course's autoencoder of digits before training."""
    return seeded(seed, Autoencoder)


def autoencoder_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """The loss (B,) of a batch (x_0, label) with fresh noise for its latents; the label is not looked at."""
    x_0, _ = batch
    noise = torch.randn(len(x_0), *model.latent_shape, generator=generator).to(x_0)
    return model.loss(x_0, noise)


def train_autoencoder(
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = 64,
    **options,
) -> tuple[nn.Module, list[Progress]]:
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


def new_latent_model(seed: int = 0) -> Denoiser:
    """The diffusion model on latents (B, 4, 7, 7) before training: 7 is odd, so that its U-Net has a single level."""
    return seeded(seed, lambda: Denoiser(UNet(channels=4, widths=(64,), labels=10), Cosine(), V))


def train_latent_digits(
    encoder: Autoencoder,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = BATCH_SIZE,
    **options,
) -> tuple[nn.Module, list[Progress]]:
    """Train the diffusion model on the latents of digits: each is encoded once, before the first step.

    Args, Returns: as for `train_digits`; and
        encoder: a trained Autoencoder on the device, such as `pretrained.autoencoder(device)`.
    """
    x_0, label = data.digits("train")
    with torch.no_grad():
        z = encoder.encode(x_0.to(device))
    model = new_latent_model(seed)
    return fit(model, z, label, class_loss, steps, seconds, seed, device, progress, batch_size, **options)


# ---------------------------------------------------------------------------------------------- symbols


def new_sums_model(seed: int = 0, left_to_right: bool = False) -> MaskedDenoiser | LeftToRight:
    """A model of sums before training, with or without an order: both have the same network of the same size."""
    return seeded(seed, lambda: new_tokens_model(len(data.SUM_SYMBOLS), 9, left_to_right))


def new_text_model(seed: int = 0, left_to_right: bool = False) -> MaskedDenoiser | LeftToRight:
    """A model of lines of English before training, as `new_sums_model`."""
    return seeded(seed, lambda: new_tokens_model(len(data.TEXT_SYMBOLS), 48, left_to_right))


def new_tokens_model(symbols: int, length: int, left_to_right: bool = False) -> MaskedDenoiser | LeftToRight:
    """The model of lines of so many symbols that both share; its first weights come from torch's own random numbers."""
    network = Transformer(symbols, length, width=96, depth=3, causal=left_to_right)
    return LeftToRight(network) if left_to_right else MaskedDenoiser(network, Linear())


def tokens_loss(model: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator) -> Tensor:
    """The loss (B,) of a batch (x_0, label) of tokens in nats a token, at even times for a masked model; the label is
    not looked at."""
    x_0, _ = batch
    if isinstance(model, LeftToRight):
        return model.loss(x_0) / x_0.shape[1]
    t = 1 - even_times(len(x_0), generator)  # in (0, 1]
    return model.loss(x_0, t, uniform_like(x_0, generator)) / x_0.shape[1]


def train_sums(
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = 1024,
    left_to_right: bool = False,
    **options,
) -> tuple[nn.Module, list[Progress]]:
    """Train a model of sums from scratch on nine of ten of them.

    Args, Returns: as for `train_digits`; and
        left_to_right: False for masked diffusion.
    """
    x_0 = data.sums("train")
    model, label = new_sums_model(seed, left_to_right), torch.zeros(len(x_0))
    return fit(model, x_0, label, tokens_loss, steps, seconds, seed, device, progress, batch_size, **options)


def train_text(
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable | None = None,
    batch_size: int = 128,
    left_to_right: bool = False,
    **options,
) -> tuple[nn.Module, list[Progress]]:
    """Train a model of lines of English from scratch.

    Args, Returns: as for `train_sums`.
    """
    x_0 = data.text("train")
    model, label = new_text_model(seed, left_to_right), torch.zeros(len(x_0))
    return fit(model, x_0, label, tokens_loss, steps, seconds, seed, device, progress, batch_size, **options)

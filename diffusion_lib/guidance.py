"""A denoiser made from denoisers (built in lesson 08; lessons 00 to 07 only use it).

Guidance and clipping take a function (x_t, t) -> x_0 and give back another one, so that they work with every sampler.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .denoisers import Denoise
from .refusals import may_look
from .schedules import Schedule


def drop_labels(label: Tensor, null_label: int, probability: float, generator: torch.Generator | None = None) -> Tensor:
    """Replace a random share of the labels by the null label (Ho and Salimans 2022, algorithm 1).

    So one network learns with and without labels.

    Args:
        label: (B,) classes.
        null_label: the number that stands for no label.
        probability: share that is dropped, in [0, 1].
        generator: CPU torch.Generator or None.
    """
    require_labels(label)
    require_probability(probability)
    dropped = torch.rand(len(label), generator=generator) < probability
    return torch.where(dropped.to(label.device), null_label, label)


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: float) -> Denoise:
    """Push the estimate away from the unconditional one (Ho and Salimans 2022, eq. 6, in the convention scale = 1 + w).

    unconditional + scale * (conditional - unconditional): 0 is unconditional, 1 is plain conditional.

    Args:
        conditional, unconditional: denoisers, such as partial(denoiser, label=digits) and denoiser.
        scale: a number of at least 0.

    Returns:
        denoiser (x_t, t) -> x_0.
    """
    require_scale(scale)

    def denoiser(x_t, t):
        without = unconditional(x_t, t)
        return without + scale * (conditional(x_t, t) - without)

    return denoiser


def in_one_call(model: Callable[..., Tensor], label: Tensor, null_label: int, scale: float) -> Denoise:
    """classifier_free with one call of twice the batch instead of two calls: the same numbers, faster where a large
    batch costs little more than a small one, as on a GPU.

    Args:
        model: a denoiser with labels, (x_t, t, label=...) -> x_0.
        label: (B,) classes.
        null_label: the number that stands for no label.
        scale: a number of at least 0, as in classifier_free.

    Returns:
        denoiser (x_t (B, ...), t) -> x_0.

    Raises:
        ValueError: a negative scale, labels that are no whole numbers, or as many as there are no samples.
    """
    require_scale(scale)
    require_labels(label)
    both = torch.cat([label, torch.full_like(label, null_label)])

    def denoiser(x_t, t):
        require_one_each(label, x_t)
        t = torch.as_tensor(t)
        twice = t if t.ndim == 0 else torch.cat([t, t])
        conditional, unconditional = model(torch.cat([x_t, x_t]), twice, label=both).chunk(2)
        return unconditional + scale * (conditional - unconditional)

    return denoiser


def by_gradient(
    denoiser: Denoise, schedule: Schedule, log_probability: Callable[[Tensor, Tensor], Tensor], scale: float
) -> Denoise:
    """Push the estimate to where a classifier is surer of the class (Song et al. 2021b, sec. 5; Dhariwal and Nichol
    2021, sec. 4).

    x_0 + scale * sigma_t^2 / alpha_t * grad log p(class | x_t). With an exact classifier and scale 1 an unconditional
    denoiser becomes the conditional one; a conditional one of scale s has scale s + 1.

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: the denoiser's Schedule.
        log_probability: function (x_t, t) -> (B,) log p(class | x_t), which torch can differentiate; the classifier
            must know noisy samples. t comes as the sampler has it, () or (B,).
        scale: a number of at least 0.

    Returns:
        denoiser (x_t, t) -> x_0, for times with alpha_t > 0. It works under torch.no_grad, as samplers run.

    Raises:
        ValueError: a negative scale, a time with alpha_t = 0, or a log_probability that is not (B,) or does not depend
            on x_t.
    """
    require_scale(scale)

    def guided(x_t, t):
        require_signal(schedule, t)
        alpha_t, sigma_t = schedule.scales(t, like=x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_()
            gradient = slope(log_probability(x, t), x)
        return denoiser(x_t, t) + scale * sigma_t**2 / alpha_t * gradient

    return guided


def slope(log_p: Tensor, x: Tensor) -> Tensor:
    """The gradient (B, ...) of each sample's log-probability (B,) by that sample x (B, ...).

    The gradient of the sum is enough: a sample's log-probability does not depend on the other samples.
    """
    require_log_probability(log_p, x)
    return torch.autograd.grad(log_p.sum(), x)[0]


def in_interval(guided: Denoise, plain: Denoise, low: float, high: float) -> Denoise:
    """Follow `guided` at times from low to high, and `plain` at all others (Kynkaanniemi et al. 2024).

    For the shipped digit model this lowers the Frechet distance of guided samples; its card has both numbers. Outside
    the interval a step takes one call instead of two.

    Args:
        guided, plain: denoisers.
        low, high: the interval of times with guidance, 0 <= low <= high <= 1.

    Returns:
        denoiser (x_t, t) -> x_0, for one time () at once, as samplers ask.
    """
    require_interval(low, high)
    return lambda x_t, t: (guided if low <= float(t) <= high else plain)(x_t, t)


def clip(denoiser: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Keep the estimate of x_0 where the data lives (Ho et al. 2020, in their sampling code; pixels are in [-1, 1])."""
    require_range(low, high)
    return lambda x_t, t: denoiser(x_t, t).clamp(low, high)


def require_scale(scale):
    """Refuse a negative scale."""
    if not scale >= 0:
        raise ValueError(f"scale is {scale}; expected at least 0 (0 unconditional, 1 conditional, above 1 guided).")


def require_signal(schedule, t):
    """Refuse times without signal, where the times may be looked at."""
    t = torch.as_tensor(t)
    if may_look(t) and (schedule.alpha(t) < 1e-8).any():
        raise ValueError(
            f"at t = {t.tolist()} alpha is 0: x_t holds no signal, and a gradient cannot be turned into an estimate. "
            "Begin a little inside, as in time_grid(steps, start=0.99), or use in_interval(guided, plain, 0, 0.99)."
        )


def require_log_probability(log_p, x):
    """Refuse what is not one differentiable log-probability for each sample."""
    if not isinstance(log_p, torch.Tensor) or log_p.shape != x.shape[:1]:
        came = f"shape {tuple(log_p.shape)}" if isinstance(log_p, torch.Tensor) else f"type {type(log_p).__name__}"
        raise ValueError(
            f"log_probability gave {came}; expected ({len(x)},), for each sample the logarithm of the probability of "
            "its class: pick that column of log_softmax."
        )
    if not log_p.requires_grad:
        raise ValueError(
            "log_probability gave a result that does not depend on x_t, as far as torch can see; expected one that "
            "it can differentiate: is there a no_grad, a detach or an argmax in it?"
        )


def require_one_each(label, x_t):
    """Refuse another number of labels than of samples."""
    if len(label) != len(x_t):
        raise ValueError(f"{len(label)} labels for {len(x_t)} samples; expected one label for each sample.")


def require_labels(label):
    """Refuse labels that are not one whole number for each sample."""
    if not isinstance(label, torch.Tensor) or label.ndim != 1 or label.is_floating_point():
        came = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, torch.Tensor) else type(label).__name__
        raise ValueError(f"label is {came}; expected a tensor (B,) of whole numbers, one for each sample.")


def require_probability(probability):
    """Refuse what is no share."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; expected a share in [0, 1].")


def require_range(low, high):
    """Refuse an empty range."""
    if not low < high:
        raise ValueError(f"low is {low} and high is {high}; expected low < high.")


def require_interval(low, high):
    """Refuse what is no interval of times."""
    if not 0 <= low <= high <= 1:
        raise ValueError(f"guidance from {low} to {high}; expected times with 0 <= low <= high <= 1.")

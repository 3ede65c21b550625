"""A denoiser made from denoisers (built in lesson 08; lessons 00 to 06 only use it).

Guidance and clipping take a function (x_t, t) -> x_0 and give back another one, so that they work with every sampler.
"""

import torch


def drop_labels(label, null_label, probability, generator=None):
    """Replace a random share of the labels by the null label (Ho and Salimans 2022, algorithm 1).

    So one network learns with and without labels.

    Args:
        label: (B,) classes.
        null_label: the number that stands for no label.
        probability: share that is dropped, in [0, 1].
        generator: CPU torch.Generator or None.
    """
    check_labels(label)
    check_probability(probability)
    dropped = torch.rand(len(label), generator=generator) < probability
    return torch.where(dropped.to(label.device), null_label, label)


def classifier_free(conditional, unconditional, scale):
    """Push the estimate away from the unconditional one (Ho and Salimans 2022, eq. 6, in the convention scale = 1 + w).

    unconditional + scale * (conditional - unconditional): 0 is unconditional, 1 is plain conditional.

    Args:
        conditional, unconditional: denoisers, such as partial(denoiser, label=digits) and denoiser.
        scale: a number of at least 0.

    Returns:
        denoiser (x_t, t) -> x_0.
    """
    check_scale(scale)

    def denoiser(x_t, t):
        without = unconditional(x_t, t)
        return without + scale * (conditional(x_t, t) - without)

    return denoiser


def limited(guided, plain, low, high):
    """Follow `guided` at times from low to high, and `plain` at all others (Kynkaanniemi et al. 2024).

    For the shipped digit model this lowers the Frechet distance of guided samples; its card has both numbers. Outside
    the interval a step takes one call instead of two.

    Args:
        guided, plain: denoisers.
        low, high: the interval of times with guidance, 0 <= low <= high <= 1.

    Returns:
        denoiser (x_t, t) -> x_0, for one time () at once, as samplers ask.
    """
    check_interval(low, high)
    return lambda x_t, t: (guided if low <= float(t) <= high else plain)(x_t, t)


def clip(denoiser, low=-1.0, high=1.0):
    """Keep the estimate of x_0 where the data lives (Ho et al. 2020, in their sampling code; pixels are in [-1, 1])."""
    check_range(low, high)
    return lambda x_t, t: denoiser(x_t, t).clamp(low, high)


def check_scale(scale):
    """Refuse a negative scale."""
    if not scale >= 0:
        raise ValueError(f"scale is {scale}; expected at least 0 (0 unconditional, 1 conditional, above 1 guided).")


def check_labels(label):
    """Refuse labels that are not one whole number for each sample."""
    if not isinstance(label, torch.Tensor) or label.ndim != 1 or label.is_floating_point():
        came = f"{label.dtype} {tuple(label.shape)}" if isinstance(label, torch.Tensor) else type(label).__name__
        raise ValueError(f"label is {came}; expected a tensor (B,) of whole numbers, one for each sample.")


def check_probability(probability):
    """Refuse what is no share."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}; expected a share in [0, 1].")


def check_range(low, high):
    """Refuse an empty range."""
    if not low < high:
        raise ValueError(f"low is {low} and high is {high}; expected low < high.")


def check_interval(low, high):
    """Refuse what is no interval of times."""
    if not 0 <= low <= high <= 1:
        raise ValueError(f"guidance from {low} to {high}; expected times with 0 <= low <= high <= 1.")

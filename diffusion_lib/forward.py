"""From data to noise: nothing here is learned (built in lesson 01, the posterior in lesson 05, masks in lesson 10).

The forward process shrinks the data and adds Gaussian noise. One small step after the other or one jump give the same
distribution, and knowing both ends (x_0 and x_t) tells where the walk was in between: the posterior.
"""

import torch
from torch import Tensor

from .refusals import may_look
from .schedules import Schedule, as_time


def noise_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise of the shape, dtype and device of x.

    Args:
        x: any float tensor.
        generator: torch.Generator or None for torch's global one. Noise is drawn on the generator's device and then
            moved, so that a CPU generator gives a GPU the same picture.
    """
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)


def uniform_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Uniform noise in [0, 1) of the shape and device of x, float32: for tokens, whose noise decides by comparison.

    Args:
        x: any tensor, token ids too.
        generator: torch.Generator or None, as in noise_like.
    """
    device = x.device if generator is None else generator.device
    return torch.rand(x.shape, generator=generator, device=device).to(x.device)


def noising_step(x: Tensor, beta: Tensor | float, noise: Tensor) -> Tensor:
    """One step of DDPM's chain: sqrt(1 - beta) * x + sqrt(beta) * noise (Ho et al. 2020, eq. 2).

    Args:
        x: (B, ...) samples before the step.
        beta: () variance that the step adds, in [0, 1].
        noise: standard normal, of the shape of x.

    Returns:
        (B, ...) samples after the step, a draw from q(x_i | x_(i-1)).
    """
    require_noise(x, noise)
    require_beta(beta)
    beta = torch.as_tensor(beta)
    return (1 - beta).sqrt() * x + beta.sqrt() * noise


def add_noise(schedule: Schedule, x_0: Tensor, noise: Tensor, t: Tensor | float) -> Tensor:
    """A draw from q(x_t | x_0): x_t = alpha_t * x_0 + sigma_t * noise (Ho et al. 2020, eq. 4).

    Args:
        schedule: a Schedule.
        x_0: (B, ...) clean samples.
        noise: standard normal, of the shape of x_0. An argument, so that you can fix it.
        t: () or (B,) times in [0, 1].

    Returns:
        x_t: (B, ...).

    Raises:
        ValueError: shapes differ, t outside [0, 1], or x_0 that looks like pixels of 0..255.
    """
    require_noise(x_0, noise)
    alpha_t, sigma_t = schedule.scales(t, like=x_0)
    return alpha_t * x_0 + sigma_t * noise


def posterior(
    schedule: Schedule, x_0: Tensor, x_t: Tensor, t: Tensor | float, s: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of q(x_s | x_t, x_0): where x was at s, if both ends are known (Ho et al. 2020,
    eq. 7).

    mean = alpha_t sigma_s^2 / (alpha_s sigma_t^2) * x_t + alpha_s * fresh * x_0,  std = sigma_s * sqrt(fresh), where
    fresh is the share of the noise variance in x_t that was added between s and t.

    Args:
        schedule: a Schedule.
        x_0, x_t: (B, ...) clean and noisy samples.
        t, s: () or (B,) times, 0 <= s < t <= 1.

    Returns:
        mean (B, ...), std () or (B, 1, ..., 1).

    Raises:
        ValueError: shapes differ, or s is not earlier than t.
    """
    require_same_shape(x_0, x_t)
    require_earlier(s, t)
    alpha_t, sigma_t = schedule.scales(t, like=x_t)
    alpha_s, sigma_s = schedule.scales(s, like=x_t)
    fresh = schedule.fresh_share(t, s, like=x_t)
    mean = alpha_t * sigma_s**2 / (alpha_s * sigma_t**2) * x_t + alpha_s * fresh * x_0
    return mean, sigma_s * fresh.sqrt()


def mask_tokens(schedule: Schedule, x_0: Tensor, noise: Tensor, t: Tensor | float, mask: int) -> Tensor:
    """A draw from q(x_t | x_0) for symbols: a token survives where noise < alpha_t, else it becomes the mask (Austin et
    al. 2021, sec. 3.1; Sahoo et al. 2024, sec. 3).

    alpha_t is the probability that a token survives, where it is the share of the signal for images.

    Args:
        schedule: a Schedule.
        x_0: (B, L) token ids, int64, below `mask`.
        noise: (B, L) uniform in [0, 1): uniform_like(x_0, generator).
        t: () or (B,) times in [0, 1].
        mask: the mask's id, V for V symbols.

    Returns:
        x_t: (B, L) int64.

    Raises:
        TypeError: ids that are not int64, noise that is not float.
        ValueError: shapes differ, an id outside 0..mask - 1, noise outside [0, 1), t outside [0, 1].
    """
    require_maskable(x_0, noise, mask)
    alpha_t, _ = schedule.scales(t, like=noise)
    return torch.where(noise < alpha_t, x_0, mask)


def require_maskable(x_0, noise, mask):
    """Refuse token ids and noise that do not belong together."""
    if not isinstance(x_0, torch.Tensor) or x_0.dtype != torch.int64:
        raise TypeError(f"x_0 is {getattr(x_0, 'dtype', type(x_0).__name__)}; expected int64 token ids.")
    if not isinstance(noise, torch.Tensor) or not noise.is_floating_point():
        raise TypeError(f"noise is {getattr(noise, 'dtype', type(noise).__name__)}; expected floats in [0, 1).")
    if x_0.shape != noise.shape:
        raise ValueError(
            f"noise has shape {tuple(noise.shape)} and x_0 {tuple(x_0.shape)}; give every token its own noise."
        )
    if x_0.device != noise.device:
        raise ValueError(f"noise is on {noise.device} and x_0 on {x_0.device}; move one with .to(...).")
    if may_look(x_0) and x_0.numel():
        if not (x_0.min() >= 0 and x_0.max() < mask):
            raise ValueError(
                f"x_0 has ids from {x_0.min()} to {x_0.max()}; the mask is {mask}, so symbols are 0 to {mask - 1}."
            )
        if not (noise.min() >= 0 and noise.max() < 1):
            raise ValueError(
                f"noise reaches from {noise.min():.3g} to {noise.max():.3g}; expected uniform numbers in [0, 1), as "
                "uniform_like draws them (normal noise is for images)."
            )


def require_noise(x, noise):
    """Refuse noise that does not fit x, and data that is not floating point or looks like pixels of 0..255."""
    for name, value in [("x", x), ("noise", noise)]:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise TypeError(f"{name} is {kind}; expected a float tensor (for images of 0..255 use data.to_unit).")
    if x.shape != noise.shape:
        raise ValueError(
            f"noise has shape {tuple(noise.shape)} and x {tuple(x.shape)}; give every number its own noise."
        )
    if x.device != noise.device:
        raise ValueError(f"noise is on {noise.device} and x on {x.device}; move one with .to(...).")
    if may_look(x) and x.ndim == 4 and x.numel() and x.max() > 50:
        raise ValueError(f"x has values up to {x.max():.0f}; images are expected in [-1, 1] (use data.to_unit).")


def require_beta(beta):
    """Refuse what is not one variance in [0, 1]."""
    beta = torch.as_tensor(beta)
    if beta.ndim or (may_look(beta) and not 0 <= beta <= 1):
        came = f"has shape {tuple(beta.shape)}" if beta.ndim else f"is {beta.item():.4g}"
        raise ValueError(f"beta {came}; expected one number, the variance that the step adds, in [0, 1].")


def require_same_shape(x_0, x_t):
    """Refuse an x_0 and an x_t that do not belong together."""
    for name, value in [("x_0", x_0), ("x_t", x_t)]:
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise TypeError(f"{name} is {getattr(value, 'dtype', type(value).__name__)}; expected a float tensor.")
    if x_0.device != x_t.device:
        raise ValueError(f"x_0 is on {x_0.device} and x_t on {x_t.device}; move one with .to(...).")
    if x_0.shape != x_t.shape:
        raise ValueError(f"x_0 has shape {tuple(x_0.shape)} and x_t {tuple(x_t.shape)}; they must be alike.")


def require_earlier(s, t):
    """Refuse a step from t that does not go to an earlier s."""
    s, t = as_time(s), as_time(t)
    if may_look(s, t) and not (s < t).all():
        raise ValueError(f"s is {s.tolist()} and t is {t.tolist()}; a step goes from t to an earlier s < t.")

"""One trained model, many tasks (built in lesson 09).

Something is known about the picture before it is made: some of its pixels, its small version, its grey version, a
sketch. What is known enters where the sampler asks, at the estimate of x_0. So inpainting, super-resolution and
colouring are functions denoiser -> denoiser and work with every sampler; image-to-image only begins later than t = 1.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from numbers import Integral, Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .denoisers import Denoise, require_std
from .forward import add_noise, noise_like, posterior, require_noise
from .guidance import by_gradient
from .refusals import may_look
from .samplers import Step, ddim, require_times, time_grid
from .schedules import Schedule, as_time, reshape_like


def keep(denoiser: Denoise, known: Tensor, mask: Tensor) -> Denoise:
    """Inpainting: put the known pixels into every estimate of x_0, and leave the others to the denoiser.

    where(mask, known, x_0): the case A = mask of `consistent` (Wang et al. 2023; Choi et al. 2021). With any sampler
    that ends at t = 0 the known pixels of the result are those of `known`, bit for bit. The others are not drawn from
    p(unknown | known): the denoiser sees the known pixels under as much noise as the unknown ones (see `inpaint`).

    Args:
        denoiser: function (x_t, t) -> x_0.
        known: the picture (B, ...), or (1, ...) for one picture and many samples. Where the mask is 0 nobody looks.
        mask: 1 (or True) where a pixel is known, 0 where it is to be made; of a shape that broadcasts to `known`.

    Returns:
        denoiser (x_t, t) -> x_0.

    Raises:
        ValueError: a mask of another shape, or with values other than 0 and 1.
    """
    require_mask(mask, known)

    def denoiser_with_known(x_t, t):
        require_fits("known", known, x_t)
        return torch.where(mask.bool(), known, denoiser(x_t, t))

    return denoiser_with_known


def renoise(schedule: Schedule, x_s: Tensor, noise: Tensor, s: Tensor | float, t: Tensor | float) -> Tensor:
    """Back into the noise, from s to a later t: a draw from q(x_t | x_s) (Kingma et al. 2021, sec. 3.1).

    x_t = alpha_t / alpha_s * x_s + sigma_t * sqrt(fresh) * noise, where fresh is the share of the noise variance in x_t
    that comes in between s and t. With s = i / T and t = (i + 1) / T it is one step of DDPM's chain.

    Args:
        schedule: a Schedule.
        x_s: (B, ...) samples at time s.
        noise: standard normal, of the shape of x_s.
        s, t: () or (B,) times, 0 <= s < t <= 1.

    Returns:
        x_t: (B, ...).

    Raises:
        ValueError: shapes differ, or s is not earlier than t.
    """
    require_jump(x_s, noise, s, t)
    alpha_s, _ = schedule.scales(s, like=x_s)
    alpha_t, sigma_t = schedule.scales(t, like=x_s)
    return alpha_t / alpha_s * x_s + sigma_t * schedule.fresh_share(t, s, like=x_s).sqrt() * noise


@torch.no_grad()
def inpaint(
    denoiser: Denoise,
    schedule: Schedule,
    x_t: Tensor,
    times: Tensor | Sequence[float],
    known: Tensor,
    mask: Tensor,
    generator: torch.Generator | None = None,
    resample: int = 10,
) -> Iterator[Step]:
    """RePaint: noise the known pixels afresh at every step, go back and try each step again (Lugmayr et al. 2022,
    algorithm 1).

    Going back lets the unknown pixels hear what the known ones said. As with `keep`, known pixels come out bit for bit.

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        x_t: (B, ...) noise to start from, at times[0].
        times: decreasing times in [0, 1].
        known, mask: as for `keep`.
        generator: torch.Generator or None.
        resample: how often each step is made; 1 is never going back. The calls of the denoiser grow with it.

    Yields:
        Step(s, x_s, x_0), len(times) - 1 of them.

    Raises:
        ValueError: times that do not decrease, a mask that does not fit or is not 0 or 1, resample below 1.
    """
    require_times(times, x_t)
    require_mask(mask, known)
    require_fits("known", known, x_t)
    require_resample(resample)
    for t, s in pairwise(times):
        attempts = resample if s > 0 else 1
        for attempt in range(attempts):
            x_0 = denoiser(x_t, t)
            mean, std = posterior(schedule, x_0, x_t, t, s)
            made = mean + std * noise_like(x_t, generator)
            given = add_noise(schedule, known.expand_as(x_t), noise_like(x_t, generator), s)
            x_s = torch.where(mask.bool(), given, made)
            if attempt < attempts - 1:
                x_t = renoise(schedule, x_s, noise_like(x_s, generator), s, t)
        x_t = x_s
        yield Step(float(s), x_t, x_0)


def image_to_image(
    denoiser: Denoise,
    schedule: Schedule,
    image: Tensor,
    strength: float,
    steps: int = 50,
    eta: float = 1.0,
    generator: torch.Generator | None = None,
) -> Iterator[Step]:
    """Redraw an image: noise it to t = strength, and sample down from there (SDEdit, Meng et al. 2022).

    A step is as long as one of `steps` steps from 1 to 0, so that the cost is in proportion to the strength.

    Args:
        denoiser: function (x_t, t) -> x_0.
        schedule: a Schedule.
        image: (B, ...) what to begin with, in [-1, 1].
        strength: in [0, 1]; 0 gives the image back, 1 forgets it (where the schedule's alpha_1 is 0).
        steps: of a whole run, from 1 to 0.
        eta: share of fresh noise, as in `ddim`; 1 is DDPM, and what the paper does.
        generator: torch.Generator or None.

    Yields:
        Step(strength, the noisy image, the image), then those of `ddim`.

    Raises:
        ValueError: strength outside [0, 1].
    """
    require_strength(strength)
    x_t = add_noise(schedule, image, noise_like(image, generator), strength)
    yield Step(float(strength), x_t, image)
    if strength > 0:
        times = time_grid(max(1, round(strength * steps)), start=strength)
        yield from ddim(denoiser, schedule, x_t, times, eta, generator)


class Measurement(NamedTuple):
    """What is seen of an image: a linear map A, and the way back.

    Args:
        measure: function x -> A x.
        invert: function y -> A^+ y with the pseudo-inverse A^+: of all images that give y, the smallest one. So
            A A^+ y = y.
    """

    measure: Callable
    invert: Callable


def masked(mask: Tensor) -> Measurement:
    """Some pixels are seen: A x = mask * x, and A^+ = A.

    Args:
        mask: 1 (or True) where a pixel is seen, else 0.
    """
    require_zero_one(mask)
    return Measurement(lambda x: mask * x, lambda y: mask * y)


def averaged(factor: int) -> Measurement:
    """A small version is seen: A takes the mean over squares of factor x factor pixels, A^+ repeats each value.

    Args:
        factor: whole number that divides both sides of the images.
    """
    require_pooling(factor)

    def mean(x):
        require_divides(factor, x)
        return F.avg_pool2d(x, factor)

    def repeat(y):
        return y.repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)

    return Measurement(mean, repeat)


def grey(weights: Sequence[float] | Tensor = (0.299, 0.587, 0.114)) -> Measurement:
    """A grey version is seen: A x = sum over channels of w_c x_c, and A^+ y = w y / |w|^2.

    Args:
        weights: (C,) of the channels; the default is how bright red, green and blue look on a screen (ITU-R BT.601).
    """
    require_channel_weights(weights)
    w = torch.as_tensor(weights)[:, None, None]
    return Measurement(
        lambda x: (w.to(x) * x).sum(-3, keepdim=True),
        lambda y: w.to(y) * y / (w**2).sum().to(y),
    )


def consistent(denoiser: Denoise, measurement: Measurement, y: Tensor) -> Denoise:
    """Put y into every estimate, and let the denoiser decide what y does not say: x_0 + A^+ (y - A x_0).

    Wang et al. 2023 (DDNM), sec. 3. A sampler that ends at t = 0 returns an image whose measurement is y, up to
    rounding. For a measurement without noise: noise in y would be reproduced as well (see `by_measurement`).

    Args:
        denoiser: function (x_t, t) -> x_0.
        measurement: a Measurement, such as averaged(4).
        y: what was measured, of the shape of A x.

    Returns:
        denoiser (x_t, t) -> x_0.

    Raises:
        ValueError: y does not have the shape of A x_t.
    """

    def denoiser_with_y(x_t, t):
        require_measured(y, measurement.measure(x_t))
        x_0 = denoiser(x_t, t)
        return x_0 + measurement.invert(y - measurement.measure(x_0))

    return denoiser_with_y


def by_measurement(
    denoiser: Denoise,
    schedule: Schedule,
    measure: Callable[[Tensor], Tensor],
    y: Tensor,
    std: float,
    scale: float = 1.0,
) -> Denoise:
    """For noisy y, and for any measurement that torch can differentiate: follow the gradient of log p(y | x_t).

    Guidance `by_gradient` with log p(y | x_t) = -|y - A(x_0)|^2 / (2 std^2), where x_0 is the denoiser's estimate: DPS
    (Chung et al. 2023, sec. 3). It takes the estimate for certain; what x_t leaves open of A(x_0) would belong into the
    variance as well. Too small a std makes steps too long, and the samples diverge.

    Args:
        denoiser: function (x_t, t) -> x_0, differentiable.
        schedule: the denoiser's Schedule.
        measure: function x_0 (B, ...) -> what would be measured (B, ...).
        y: what was measured, of the shape of measure(x_0), or (1, ...) for all samples.
        std: standard deviation of the noise in y, > 0.
        scale: of the gradient, at least 0.

    Returns:
        denoiser (x_t, t) -> x_0, for times with alpha_t > 0 (begin at time_grid(steps, start=0.98)).

    Raises:
        ValueError: y of the wrong shape, std not positive, a negative scale, or a time with alpha_t = 0.
    """
    require_std(std)

    def log_probability(x_t, t):
        require_measured(y, measure(x_t))
        seen = measure(denoiser(x_t, t))
        return -((y - seen) ** 2).flatten(1).sum(1) / (2 * std**2)

    return by_gradient(denoiser, schedule, log_probability, scale)


def spherical(z_0: Tensor, z_1: Tensor, u: Tensor | float) -> Tensor:
    """The point u of the way from z_0 to z_1 along a circle (Shoemake 1985; Song et al. 2021a, app. D.5).

    sin((1 - u) w) / sin(w) * z_0 + sin(u w) / sin(w) * z_1, with w the angle between the two. For two noises the
    variance stays 1 on the way; on a straight line it falls to 1/2 in the middle.

    Args:
        z_0, z_1: (B, ...) noises; each sample has its own angle.
        u: a number in [0, 1], or (B,) numbers.

    Returns:
        (B, ...).

    Raises:
        ValueError: shapes differ, u outside [0, 1], or z_0 and z_1 that point the same or opposite ways.
    """
    require_walk(z_0, z_1, u)
    u = reshape_like(torch.as_tensor(u, dtype=torch.float64), z_0)
    along = dict(dim=tuple(range(1, z_0.ndim)), keepdim=True)
    lengths = (z_0.square().sum(**along) * z_1.square().sum(**along)).sqrt()
    omega = ((z_0 * z_1).sum(**along) / lengths).arccos()
    return (((1 - u) * omega).sin() * z_0 + (u * omega).sin() * z_1) / omega.sin()


def require_zero_one(mask):
    """Refuse a mask that is no tensor of zeros and ones."""
    if not isinstance(mask, torch.Tensor):
        raise TypeError(
            f"mask is a {type(mask).__name__}; expected a tensor, 1 (or True) where a pixel is known, else 0."
        )
    if may_look(mask) and not ((mask == 0) | (mask == 1)).all():
        low, high = float(mask.min()), float(mask.max())
        raise ValueError(
            f"mask has values from {low:.3g} to {high:.3g}, and some are neither 0 nor 1; expected 1 (or True) where a "
            "pixel is known and 0 where it is to be made (for a grey mask write mask > 0.5)."
        )


def require_mask(mask, known):
    """Refuse a mask that does not fit the picture, or is not made of zeros and ones."""
    require_zero_one(mask)
    if not isinstance(known, torch.Tensor) or not known.is_floating_point():
        came = getattr(known, "dtype", type(known).__name__)
        raise TypeError(f"known is {came}; expected a float tensor (B, ...) in [-1, 1].")
    if not broadcasts(mask.shape, known.shape):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)} and known {tuple(known.shape)}; expected one value for every pixel, "
            "such as (1, 1, H, W) for images (B, C, H, W)."
        )
    if mask.device != known.device:
        raise ValueError(f"mask is on {mask.device} and known on {known.device}; move one with .to(...).")


def broadcasts(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor of that shape can be expanded to the target."""
    return len(shape) <= len(target) and all(a in (1, b) for a, b in zip(shape[::-1], target[::-1]))


def require_fits(name, value, x_t):
    """Refuse a picture that is not of the shape of the samples."""
    if not broadcasts(value.shape, x_t.shape):
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} and the samples {tuple(x_t.shape)}; expected the same, or one "
            "picture (1, ...) for all samples."
        )


def require_resample(resample):
    """Refuse a number of attempts that is none."""
    if not isinstance(resample, Integral) or resample < 1:
        raise ValueError(f"resample is {resample!r}; expected a whole number of at least 1, which is never going back.")


def require_jump(x_s, noise, s, t):
    """Refuse a jump that does not lead into the noise, and noise that does not fit."""
    require_noise(x_s, noise)
    s, t = as_time(s), as_time(t)
    if may_look(s, t) and not (s < t).all():
        raise ValueError(f"s is {s.tolist()} and t is {t.tolist()}; expected s < t, from s back into the noise.")


def require_strength(strength):
    """Refuse a strength outside [0, 1]."""
    if not isinstance(strength, Real) or not 0 <= strength <= 1:
        raise ValueError(
            f"strength is {strength!r}; expected a number from 0 (the image as it is) to 1 (nothing of it is left)."
        )


def require_measured(y, seen):
    """Refuse a y that is no measurement of these samples."""
    if not isinstance(y, torch.Tensor) or not broadcasts(y.shape, seen.shape):
        came = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise ValueError(
            f"y is {came} and a measurement of the samples has shape {tuple(seen.shape)}; expected the same, or one "
            "(1, ...) for all samples."
        )


def require_pooling(factor):
    """Refuse a factor that is no whole number."""
    if not isinstance(factor, Integral) or factor < 1:
        raise ValueError(f"factor is {factor!r}; expected a whole number of at least 1, such as 4 for 28 to 7 pixels.")


def require_divides(factor, x):
    """Refuse images that do not fall into whole squares: their last rows would be lost."""
    if x.ndim != 4 or x.shape[-2] % factor or x.shape[-1] % factor:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, C, H, W) with both sides multiples of {factor}.")


def require_channel_weights(weights):
    """Refuse weights of channels that see nothing."""
    w = torch.as_tensor(weights)
    if w.ndim != 1 or not w.is_floating_point() or not w.isfinite().all() or not (w != 0).any():
        raise ValueError(f"weights are {weights!r}; expected a number for each channel, not all of them 0.")


def require_walk(z_0, z_1, u):
    """Refuse a walk between noises of different shapes, beyond its ends, or without an angle."""
    if z_0.shape != z_1.shape or z_0.ndim < 2:
        raise ValueError(f"z_0 is {tuple(z_0.shape)} and z_1 {tuple(z_1.shape)}; expected the same, (B, ...).")
    u = torch.as_tensor(u)
    if u.ndim > 1 or not ((u >= 0) & (u <= 1)).all():
        raise ValueError(f"u is {u.tolist()}; expected a number from 0 (z_0) to 1 (z_1), or one for each sample.")
    cosine = F.cosine_similarity(z_0.flatten(1), z_1.flatten(1))
    if not (cosine.abs() < 0.9999).all():
        raise ValueError("z_0 and z_1 point the same or opposite ways; there is no circle through them.")

"""How much signal and how much noise there is at time t (built in lesson 01).

A schedule is two functions of time, alpha_t (signal scale) and sigma_t (noise scale), so that
x_t = alpha_t * x_0 + sigma_t * noise. Time runs from 0 (clean data) to 1 (pure noise); both scales are standard
deviations, not variances. Everything is computed in float64, because samplers divide by both.
"""

import math
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

from .refusals import may_look


def as_time(t: Tensor | float | Sequence[float]) -> Tensor:
    """t as a float64 tensor, on the CPU where its device has no float64 (MPS).

    Args:
        t: a number, () or (B,) tensor, in [0, 1].

    Raises:
        ValueError: t lies outside [0, 1] (looked at where that costs nothing: see refusals.may_look).
    """
    if isinstance(t, torch.Tensor) and t.device.type == "mps":
        t = t.cpu()
    t = torch.as_tensor(t, dtype=torch.float64)
    if t.ndim > 1:
        raise ValueError(f"t has shape {tuple(t.shape)}; expected one time () or one per sample (B,).")
    if may_look(t) and not (0 <= t.item() <= 1 if t.ndim == 0 else ((t >= 0) & (t <= 1)).all()):
        raise ValueError(
            f"t reaches from {t.min():.3g} to {t.max():.3g}; times lie in [0, 1], 0 is clean data and 1 pure noise. "
            "For DDPM's step i of T use i / T."
        )
    return t


class Schedule:
    """Signal and noise scale at time t. Subclasses say what alpha and sigma are."""

    def alpha(self, t: Tensor | float) -> Tensor:
        """Signal scale alpha_t in [0, 1], float64, of the shape of t. sqrt(alpha-bar_t) in the DDPM paper."""
        raise NotImplementedError

    def sigma(self, t: Tensor | float) -> Tensor:
        """Noise scale sigma_t in [0, 1] (a standard deviation), float64, of the shape of t."""
        raise NotImplementedError

    def log_snr(self, t: Tensor | float) -> Tensor:
        """log(alpha_t^2 / sigma_t^2), float64: the signal-to-noise ratio that all schedules share. +inf at t = 0."""
        return 2 * (self.alpha(t).log() - self.sigma(t).log())

    def scales(self, t: Tensor | float, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, shaped to multiply `like` and with its dtype and device.

        Args:
            t: () for one time, or (B,) for a time per sample.
            like: (B, ...) tensor that the scales will multiply.

        Returns:
            alpha_t, sigma_t, both () or (B, 1, ..., 1).

        Raises:
            ValueError: t outside [0, 1], or as many times as `like` has no samples.
        """
        t = as_time(t)
        return reshape_like(self.alpha(t), like), reshape_like(self.sigma(t), like)

    def along(self, times: Tensor | Sequence[float]) -> list[tuple[Tensor, float, float, float]]:
        """The scales at each of several times, looked up once, as plain numbers: what the loop of a sampler needs.

        Args:
            times: (K,) in [0, 1].

        Returns:
            K tuples (t, alpha_t, sigma_t, log_snr_t): t a () float64 tensor on the CPU, the others floats.

        Raises:
            ValueError: a time outside [0, 1].

        >>> [(alpha_t, sigma_t) for _, alpha_t, sigma_t, _ in Linear().along([1.0, 0.75, 0.0])]
        [(0.0, 1.0), (0.25, 0.75), (1.0, 0.0)]
        """
        times = as_time(times).cpu()
        return list(zip(times, *(scale(times).tolist() for scale in (self.alpha, self.sigma, self.log_snr))))

    def fresh_share(self, t: Tensor | float, s: Tensor | float, like: Tensor) -> Tensor:
        """Share of the noise variance in x_t that was added between s and t: 1 - SNR_t / SNR_s.

        It is beta_t / (1 - alpha-bar_t) for one step of DDPM, 1 if s = 0, and 0 if s >= t (nothing is added on the
        way back). Written with expm1 (as in Kingma et al. 2021, eq. 32), since the ratio is close to 1 in a small step.

        Args:
            t, s: () or (B,), s < t.
            like: (B, ...) tensor that the share will multiply.

        Returns:
            the share in [0, 1], () or (B, 1, ..., 1).
        """
        change = self.log_snr(as_time(t)) - self.log_snr(as_time(s))
        return reshape_like(-torch.expm1(change.clamp(max=0)), like)

    def betas(self, T: int, largest: float = 0.999) -> Tensor:
        """The variances (T,) that a chain of T steps must add to follow this schedule (Nichol and Dhariwal 2021,
        sec. 3.2).

        beta_i = 1 - alpha-bar_i / alpha-bar_(i-1), capped at `largest` so that the last step leaves some signal.

        Raises:
            ValueError: T is not a positive whole number.
        """
        require_steps(T)
        alpha_bar = self.alpha(torch.arange(T + 1, dtype=torch.float64) / T) ** 2
        return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=largest)


def reshape_like(values: Tensor, like: Tensor) -> Tensor:
    """() or (B,) values as a tensor that broadcasts against `like` (B, ...), in its dtype and on its device."""
    if values.ndim == 1:
        if len(values) != len(like):
            raise ValueError(
                f"t holds {len(values)} times for {len(like)} samples; give one time for all, or one for each sample."
            )
        values = values.reshape(-1, *[1] * (like.ndim - 1))
    return values.to(device=like.device, dtype=like.dtype)


class Betas(Schedule):
    """DDPM's chain of T steps, read at t = i / T: alpha_t^2 = prod over j <= i of (1 - beta_j) (Ho et al. 2020, eq. 4).

    Between the steps log(alpha) is interpolated linearly, so that every t in [0, 1] has a value.

    Args:
        betas: (T,) variances added by the steps, each in (0, 1).

    Raises:
        ValueError: a beta outside (0, 1), or not a list of them.

    >>> schedule = Betas([0.1, 0.2])
    >>> schedule.alpha(1.0) ** 2                                        # 0.9 * 0.8
    tensor(0.7200, dtype=torch.float64)
    """

    def __init__(self, betas: Tensor | Sequence[float]):
        require_betas(betas)
        betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
        self.log_alpha = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0) / 2])

    @classmethod
    def linear(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> "Betas":
        """The schedule of the DDPM paper: T variances in equal steps from 1e-4 to 0.02 (Ho et al. 2020, sec. 4)."""
        return cls(torch.linspace(first, last, T, dtype=torch.float64))

    def interpolated_log_alpha(self, t):
        t = as_time(t)
        table = self.log_alpha.to(t.device)
        position = t * (len(table) - 1)
        # A t of i / T comes out of float arithmetic a hair beside the whole number i.
        off = (position - position.round()).detach()
        position = torch.where(off.abs() < 1e-9, position - off, position)
        left = position.floor().long().clamp(max=len(table) - 2)
        return torch.lerp(table[left], table[left + 1], position - left)

    def alpha(self, t):
        return self.interpolated_log_alpha(t).exp()

    def sigma(self, t):
        return (-torch.expm1(2 * self.interpolated_log_alpha(t))).sqrt()


class Cosine(Schedule):
    """alpha_t = cos(u_t) / cos(u_0) with u_t = (t + offset) / (1 + offset) * pi / 2 (Nichol and Dhariwal 2021, eq. 17).

    sigma_t follows from alpha_t^2 + sigma_t^2 = 1, through cos^2 a - cos^2 b = sin(b - a) sin(b + a), which keeps
    all its digits near t = 0.

    Args:
        offset: the paper's s, which keeps the first steps from being too small; 0 gives a quarter circle.
    """

    def __init__(self, offset: float = 0.008):
        require_offset(offset)
        self.offset = offset

    def angle(self, t):
        return (as_time(t) + self.offset) / (1 + self.offset) * math.pi / 2

    def alpha(self, t):
        return (self.angle(t).cos() / self.angle(0).cos()).clamp(min=0)

    def sigma(self, t):
        u_0, u_t = self.angle(0), self.angle(t)
        turned = as_time(t) / (1 + self.offset) * math.pi / 2  # u_t - u_0, with all its digits
        return (turned.sin() * (u_t + u_0).sin()).clamp(min=0).sqrt() / u_0.cos()


class Linear(Schedule):
    """alpha_t = 1 - t, sigma_t = t: the straight line of flow matching (Lipman et al. 2023; Liu et al. 2023)."""

    def alpha(self, t):
        return 1 - as_time(t)

    def sigma(self, t):
        return as_time(t)


class Shifted(Schedule):
    """A schedule with its signal-to-noise ratio divided by factor^2, for larger images (Hoogeboom et al. 2023, sec.
    3.1).

    Neighbouring pixels of a larger image are alike, so that their average shows the picture through more noise; an
    image with `factor` times the side needs `factor` times the noise to be as hidden.

    Args:
        schedule: the schedule made for the smaller image.
        factor: side of the larger image over the side of the smaller one, > 0.
    """

    def __init__(self, schedule: Schedule, factor: float):
        require_factor(factor)
        self.schedule, self.factor = schedule, factor

    def length(self, t):
        return torch.hypot(self.schedule.alpha(t), self.factor * self.schedule.sigma(t))

    def alpha(self, t):
        return self.schedule.alpha(t) / self.length(t)

    def sigma(self, t):
        return self.factor * self.schedule.sigma(t) / self.length(t)


def require_betas(betas):
    """Refuse what is not a list of variances."""
    betas = torch.as_tensor(betas, dtype=torch.float64, device="cpu")
    if betas.ndim != 1 or len(betas) == 0:
        raise ValueError(f"betas has shape {tuple(betas.shape)}; expected (T,), one variance for each step.")
    if not ((betas > 0) & (betas < 1)).all():
        raise ValueError(f"betas reach from {betas.min():.3g} to {betas.max():.3g}; variances lie between 0 and 1.")


def require_steps(T):
    """Refuse a number of steps that is none."""
    if not isinstance(T, Integral) or T < 1:
        raise ValueError(f"T is {T!r}; expected the number of steps, a whole number of at least 1.")


def require_offset(offset):
    """Refuse an offset outside [0, 1)."""
    if not 0 <= offset < 1:
        raise ValueError(f"offset is {offset}; expected a small number in [0, 1), the paper takes 0.008.")


def require_factor(factor):
    """Refuse a factor that is not positive."""
    if not factor > 0:
        raise ValueError(f"factor is {factor}; expected larger side / smaller side, a positive number.")

"""The one question that everything else asks: given x_t, what is x_0 (built in lesson 02).

A denoiser is any function (x_t, t) -> estimate of x_0. The best one is the mean E[x_0 | x_t]. It is known exactly for a
Gaussian, for a mixture of Gaussians and for a finite data set, with no training; a network learns it for the rest.
"""

from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor, nn

from .forward import require_noise
from .refusals import may_look
from .schedules import Schedule, as_time
from .targets import Target

Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, ...), t () or (B,)) -> x_0 (B, ...)


class Denoiser(nn.Module):
    """A network, the schedule it was trained on and the target it predicts, as a function (x_t, t) -> x_0.

    Args:
        network: module (x_t (B, ...), t (B,), **condition) -> target (B, ...).
        schedule: a Schedule.
        target: a Target.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, target: Target):
        require_parts(schedule, target)
        super().__init__()
        self.network, self.schedule, self.target = network, schedule, target

    def forward(self, x_t: Tensor, t: Tensor | float, **condition) -> Tensor:
        """The estimate of x_0 (B, ...) for noisy samples x_t (B, ...) at t, () or (B,) in [0, 1].

        Raises:
            ValueError: t outside [0, 1], or a t at which the target says nothing about x_0 (noise where alpha_t = 0).
        """
        require_samples(x_t)
        alpha_t, sigma_t = self.schedule.scales(t, like=x_t)
        require_solvable(self.target, self.schedule, t, alpha_t, sigma_t)
        output = self.network(x_t, time_per_sample(t, x_t), **condition)
        return self.target.recover_x_0(output.to(x_t.dtype), x_t, alpha_t, sigma_t)

    def loss(self, x_0: Tensor, t: Tensor | float, noise: Tensor, **condition) -> Tensor:
        """Mean squared error (B,) of the prediction, one number per sample: multiply it by any weight you like.

        The simple loss of Ho et al. 2020, eq. 14, for any target.

        Args:
            x_0, noise: (B, ...) clean samples and standard normal noise.
            t: () or (B,) times in [0, 1].

        Raises:
            ValueError: as add_noise.
        """
        require_noise(x_0, noise)
        alpha_t, sigma_t = self.schedule.scales(t, like=x_0)
        x_t = alpha_t * x_0 + sigma_t * noise
        output = self.network(x_t, time_per_sample(t, x_0), **condition)
        wanted = self.target.mix(x_0, noise, alpha_t, sigma_t)
        return ((output.to(wanted.dtype) - wanted) ** 2).flatten(1).mean(1)


def time_per_sample(t: Tensor | float, x: Tensor) -> Tensor:
    """t as (B,), in the dtype and on the device of x (B, ...): what a network takes."""
    return as_time(t).to(device=x.device, dtype=x.dtype).expand(len(x))


def even_times(batch_size: int, generator: torch.Generator | None = None) -> Tensor:
    """(B,) random times that cover [0, 1] evenly: one in each of B equal slices (Kingma et al. 2021, app. I.1).

    Each of them alone is uniform, but no batch happens to hold only small ones, so that the loss jumps less.
    """
    require_batch_size(batch_size)
    return (torch.rand(1, generator=generator) + torch.arange(batch_size) / batch_size) % 1


def middle_times(batch_size: int, generator: torch.Generator | None = None, mean: float = 0.5) -> Tensor:
    """(B,) random times, more of them in the middle: the sigmoid of a normal with variance 1 (Esser et al. 2024, sec.
    3.1).

    Near t = 0 and t = 1 there is little to learn, so that a short training does well to look there less often. A mean
    above 0 moves the middle towards the noise, where it is decided what a picture shows. Drawn in equal slices, as in
    even_times.

    Args:
        batch_size: B.
        generator: CPU torch.Generator or None.
        mean: of the normal.
    """
    return (mean + torch.special.ndtri(even_times(batch_size, generator))).sigmoid()


def require_solvable(target, schedule, t, alpha_t, sigma_t):
    """Refuse times at which the target says nothing about x_0, where the scales or else the times may be looked at."""
    t = as_time(t)
    if not may_look(alpha_t, sigma_t):  # on a GPU, where samplers keep their times on the CPU
        if not may_look(t):
            return
        alpha_t, sigma_t = schedule.alpha(t), schedule.sigma(t)
    if (torch.as_tensor(target.determinant(alpha_t, sigma_t)).abs() < 1e-8).any():
        raise ValueError(
            f"at t = {t.tolist()} (alpha = {alpha_t.flatten().tolist()}, sigma = {sigma_t.flatten().tolist()}) a "
            f"prediction of '{target.name}' says nothing about x_0. Begin a little inside, as in time_grid(steps, "
            "start=0.999), or train another target, such as V."
        )


def exact_gaussian(schedule: Schedule, mean: Tensor | float, std: Tensor | float) -> Denoise:
    """E[x_0 | x_t] for data from one Gaussian N(mean, std^2), independent in every coordinate.

    mean + gain * (x_t - alpha_t * mean) with gain = alpha_t std^2 / (alpha_t^2 std^2 + sigma_t^2) (Bishop 2006, eq.
    2.116).

    Args:
        schedule: a Schedule.
        mean, std: numbers or tensors that broadcast against x_t.

    Returns:
        denoiser (x_t, t) -> x_0.
    """
    require_std(std)
    mean, std = torch.as_tensor(mean), torch.as_tensor(std)

    def denoiser(x_t, t):
        alpha_t, sigma_t = schedule.scales(t, like=x_t)
        m, variance = mean.to(x_t), std.to(x_t) ** 2
        gain = alpha_t * variance / (alpha_t**2 * variance + sigma_t**2)
        return m + gain * (x_t - alpha_t * m)

    return denoiser


def exact_mixture(schedule: Schedule, weights: Tensor, means: Tensor, stds: Tensor) -> Denoise:
    """E[x_0 | x_t] for data from a mixture of K round Gaussians in D dimensions.

    Each component answers as one Gaussian does; the answers are averaged with the probabilities p(component | x_t).

    Args:
        schedule: a Schedule.
        weights: (K,) probabilities.
        means: (K, D).
        stds: (K,) standard deviations.

    Returns:
        denoiser (x_t (B, D), t) -> x_0 (B, D).

    Raises:
        ValueError: shapes that do not fit, weights that do not sum to 1, stds that are not positive.
    """
    require_mixture(weights, means, stds)
    weights, means, stds = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, stds))

    def denoiser(x_t, t):
        require_points(x_t, means.shape[1])
        alpha_t, sigma_t = schedule.scales(t, like=x_t[:, None])
        w, mu, variance = weights.to(x_t), means.to(x_t), stds.to(x_t)[:, None] ** 2
        offset = x_t[:, None] - alpha_t * mu  # (B, K, D)
        spread = alpha_t**2 * variance + sigma_t**2  # variance of x_t in a component
        log_density = -0.5 * (offset**2 / spread + spread.log()).sum(-1)  # (B, K)
        share = (w.log() + log_density).softmax(-1)  # p(component | x_t)
        each = mu + alpha_t * variance / spread * offset  # (B, K, D)
        return (share[..., None] * each).sum(1)

    return denoiser


def exact_dataset(schedule: Schedule, x_0: Tensor) -> Denoise:
    """E[x_0 | x_t] if the data is this finite set and nothing else: a weighted mean of its members.

    The weights are softmax(-|x_t - alpha_t x_0|^2 / (2 sigma_t^2)) over the set (Karras et al. 2022, app. B.3).

    Args:
        schedule: a Schedule.
        x_0: (N, ...) the data set.

    Returns:
        denoiser (x_t (B, ...), t) -> x_0 (B, ...), for t > 0.
    """

    def denoiser(x_t, t):
        require_members(x_t, x_0, t)
        x, points = x_t.flatten(1), x_0.to(x_t).flatten(1)  # (B, D), (N, D)
        alpha_t, sigma_t = schedule.scales(t, like=x)
        # -|x - alpha p|^2 / 2 without the |x|^2, which is the same for every point
        closeness = alpha_t * (x @ points.T) - alpha_t**2 * (points**2).sum(1) / 2
        share = (closeness / sigma_t**2).softmax(-1)  # (B, N)
        return (share @ points).reshape(x_t.shape)

    return denoiser


def require_parts(schedule, target):
    """Refuse a schedule and a target in the wrong order."""
    if not hasattr(schedule, "scales") or not hasattr(target, "recover_x_0"):
        came = f"{type(schedule).__name__} and {type(target).__name__}"
        raise TypeError(f"schedule and target are {came}; expected Denoiser(network, Cosine(), V), in this order.")


def require_samples(x_t):
    """Refuse samples that are no float tensor."""
    if not isinstance(x_t, torch.Tensor) or not x_t.is_floating_point():
        raise TypeError(f"x_t is {getattr(x_t, 'dtype', type(x_t).__name__)}; expected a float tensor (B, ...).")


def require_batch_size(batch_size):
    """Refuse a number of times that is none."""
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}; expected a whole number of at least 1.")


def require_points(x_t, features):
    """Refuse what is no set of points with that many coordinates."""
    require_samples(x_t)
    if x_t.ndim != 2 or x_t.shape[1] != features:
        raise ValueError(f"x_t has shape {tuple(x_t.shape)}; the mixture lives in (B, {features}).")


def require_members(x_t, x_0, t):
    """Refuse samples unlike the data set's members, and t = 0, where every sample is its own answer."""
    require_samples(x_t)
    if x_t.shape[1:] != x_0.shape[1:]:
        raise ValueError(f"x_t has shape {tuple(x_t.shape)}; members of the data set have {tuple(x_0.shape[1:])}.")
    t = as_time(t)
    if may_look(t) and not (t > 0).all():
        raise ValueError("t reaches 0, where x_t is x_0 itself; expected t > 0, as every sampler asks.")


def require_std(std):
    """Refuse a standard deviation that is not positive."""
    std = torch.as_tensor(std)
    if not (std > 0).all():
        raise ValueError(f"std reaches down to {std.min():.3g}; a standard deviation is positive.")


def require_mixture(weights, means, stds):
    """Refuse a mixture whose parts do not fit together."""
    weights, means, stds = (torch.as_tensor(v, dtype=torch.float64) for v in (weights, means, stds))
    if means.ndim != 2 or weights.shape != means.shape[:1] or stds.shape != means.shape[:1]:
        raise ValueError(
            f"weights {tuple(weights.shape)}, means {tuple(means.shape)}, stds {tuple(stds.shape)}; "
            "expected (K,), (K, D) and (K,)."
        )
    if (weights <= 0).any() or abs(weights.sum() - 1) > 1e-6:
        raise ValueError(f"weights are {weights.tolist()}; expected positive numbers that sum to 1.")
    if (stds <= 0).any():
        raise ValueError(f"stds are {stds.tolist()}; standard deviations are positive.")

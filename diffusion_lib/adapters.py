"""From here to the big models: a network of diffusers as a denoiser of the course, and back (shown in lesson 09).

diffusers counts T timesteps k = 0 .. T - 1, where k is the time (k + 1) / T of the course, and a scheduler keeps
alpha-bar = alpha^2. That is all the translation there is. This module does not import diffusers.
"""

from collections.abc import Callable
from numbers import Integral

from torch import Tensor, nn

from .denoisers import Denoise, Denoiser
from .schedules import Betas, Schedule
from .targets import NOISE, X_0, V

TARGETS = {"epsilon": NOISE, "sample": X_0, "v_prediction": V}  # their prediction_type


class FromDiffusers(nn.Module):
    """A network of diffusers as a network of the course: (x_t, t, **condition) -> target.

    Args:
        network: called as network(x_t, timestep, **condition).sample, such as UNet2DModel.
        T: how many timesteps it was trained on.
    """

    def __init__(self, network: nn.Module, T: int):
        super().__init__()
        self.network, self.T = network, T

    def forward(self, x_t: Tensor, t: Tensor, **condition) -> Tensor:
        k = (self.T * t - 1).clamp(min=0)
        return self.network(x_t, k, **condition).sample


def from_diffusers(network: nn.Module, scheduler) -> Denoiser:
    """A model of diffusers as a Denoiser: the scheduler only says which betas and which target it was trained with.

    Args:
        network: such as UNet2DModel or UNet2DConditionModel; what it takes beside x_t and the timestep
            (class_labels=..., encoder_hidden_states=...) is given to the denoiser, with functools.partial.
        scheduler: one with betas and a prediction_type, such as DDPMScheduler or DDIMScheduler.

    Returns:
        Denoiser (x_t, t, **condition) -> x_0, with its schedule in .schedule.

    Raises:
        TypeError: a scheduler without betas.
        ValueError: a prediction_type that is no target of the course.
    """
    require_scheduler(scheduler)
    schedule = Betas(scheduler.betas)
    target = TARGETS[scheduler.config.prediction_type]
    return Denoiser(FromDiffusers(network, len(scheduler.betas)), schedule, target)


def scheduler_options(schedule: Schedule, T: int = 1000) -> dict:
    """What a scheduler of diffusers must be told to follow a schedule of the course and to take estimates of x_0.

    DDIMScheduler(**scheduler_options(schedule)) and so on. "trailing" begins at the last timestep, pure noise; some of
    their defaults begin earlier (Lin et al. 2024).

    Args:
        schedule: a Schedule with alpha^2 + sigma^2 = 1, such as Cosine() or Betas.linear(): they know no other.
        T: timesteps.

    Raises:
        ValueError: another schedule, such as Linear().
    """
    require_T(T)
    require_circle(schedule)
    return {
        "num_train_timesteps": T,
        "trained_betas": schedule.betas(T).tolist(),
        "prediction_type": "sample",
        "timestep_spacing": "trailing",
    }


def for_diffusers(denoiser: Denoise, T: int = 1000) -> Callable[[Tensor, Tensor], Tensor]:
    """A denoiser as what a loop over scheduler.timesteps asks: a function (x_t, k) -> x_0, to be given to
    scheduler.step.

    Args:
        denoiser: function (x_t, t) -> x_0.
        T: timesteps of the scheduler.
    """
    require_T(T)
    return lambda x_t, k: denoiser(x_t, (k + 1) / T)


def require_scheduler(scheduler):
    """Refuse schedulers that say nothing of betas, and targets that the course does not know."""
    if not hasattr(scheduler, "betas") or not hasattr(scheduler, "config"):
        raise TypeError(f"scheduler is a {type(scheduler).__name__}; expected one with betas, such as DDPMScheduler.")
    prediction = scheduler.config.prediction_type
    if prediction not in TARGETS:
        raise ValueError(f"prediction_type is {prediction!r}; expected one of {', '.join(TARGETS)}.")


def require_T(T):
    """Refuse a number of timesteps that is none."""
    if not isinstance(T, Integral) or T < 1:
        raise ValueError(f"T is {T!r}; expected the number of timesteps, a whole number of at least 1.")


def require_circle(schedule):
    """Refuse schedules that a table of alpha-bar cannot describe."""
    alpha, sigma = float(schedule.alpha(0.5)), float(schedule.sigma(0.5))
    if abs(alpha**2 + sigma**2 - 1) > 1e-6:
        raise ValueError(
            f"the schedule has alpha = {alpha:.3g} and sigma = {sigma:.3g} at t = 0.5; expected alpha^2 + sigma^2 = 1, "
            "as in Cosine() or Betas.linear() (for Linear() they have FlowMatchEulerDiscreteScheduler)."
        )

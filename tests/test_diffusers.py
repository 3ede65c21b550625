"""Step by step the same as the schedulers of diffusers, an independent implementation that many people use.

Their timestep k is our t = (k + 1) / T; before their first timestep alpha-bar is 1 (set_alpha_to_one). Their tables are
float32; they are given ours in float64, so that a difference of 1e-9 is a difference of formulas and not of rounding.
"""

from itertools import pairwise

import pytest
import torch

from diffusion_lib.denoisers import Denoiser
from diffusion_lib.samplers import ddim, ddpm, dpm_solver
from diffusion_lib.schedules import Betas, Linear
from diffusion_lib.targets import FLOW, NOISE, X_0, V

from .conftest import normal, seeded

diffusers = pytest.importorskip("diffusers")

T = 1000
SCHEDULE = Betas.linear(T)
TARGETS = {"epsilon": NOISE, "sample": X_0, "v_prediction": V}
OPTIONS = dict(num_train_timesteps=T, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
MIX = normal(5, 5, seed=8) / 5**0.5


def network(x_t, t):
    """Random but smooth in x and t."""
    return torch.tanh(0.7 * x_t @ MIX + torch.sin(3 * t)[:, None]) + 0.1 * x_t


def in_float64(scheduler):
    """The scheduler with the same tables, unrounded."""
    alpha_bar = SCHEDULE.alpha(torch.arange(1, T + 1, dtype=torch.float64) / T) ** 2
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), alpha_bar, rtol=1e-4, atol=1e-7)  # theirs are ours
    scheduler.alphas_cumprod, scheduler.betas = alpha_bar, SCHEDULE.betas(T)
    scheduler.alphas = 1 - scheduler.betas
    scheduler.one = scheduler.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return scheduler


def our_times(scheduler):
    return torch.cat([(scheduler.timesteps.double() + 1) / T, torch.zeros(1)])


def compare(scheduler, ours, x, tolerance=1e-9, **options):
    """Walk with their `step` and with our generator, and compare every x on the way."""
    for k, step in zip(scheduler.timesteps, ours, strict=True):
        output = network(x, ((k.double() + 1) / T).expand(len(x)))
        theirs = scheduler.step(output, k, x, **options)
        if "pred_original_sample" in theirs:
            torch.testing.assert_close(step.x_0, theirs.pred_original_sample)
        x = theirs.prev_sample
        torch.testing.assert_close(step.x_t, x, rtol=tolerance, atol=tolerance)
    return x


@pytest.mark.parametrize("prediction, steps", [*((name, n) for name in TARGETS for n in (10, 50)), ("epsilon", 1000)])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm(variance, prediction, steps):
    scheduler = in_float64(
        diffusers.DDPMScheduler(
            **OPTIONS, variance_type=f"fixed_{variance}", clip_sample=False, prediction_type=prediction
        )
    )
    scheduler.set_timesteps(steps)
    model = Denoiser(network, SCHEDULE, TARGETS[prediction])
    x = normal(4, 5)
    ours = ddpm(model, SCHEDULE, x, our_times(scheduler), seeded(1), variance)
    compare(scheduler, ours, x, generator=seeded(1))


@pytest.mark.parametrize("steps", [10, 50, 1000])
@pytest.mark.parametrize("prediction", TARGETS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim(eta, prediction, steps):
    scheduler = in_float64(
        diffusers.DDIMScheduler(**OPTIONS, clip_sample=False, set_alpha_to_one=True, prediction_type=prediction)
    )
    scheduler.set_timesteps(steps)
    model = Denoiser(network, SCHEDULE, TARGETS[prediction])
    x = normal(4, 5)
    ours = ddim(model, SCHEDULE, x, our_times(scheduler), eta, seeded(1))
    compare(scheduler, ours, x, eta=eta, generator=seeded(1))


@pytest.mark.parametrize("steps", [5, 20, 100])
@pytest.mark.parametrize("prediction", TARGETS)
def test_dpm_solver(prediction, steps):
    """dpmsolver++, second order, one step of first order at either end; their log-SNR grid is that of the timesteps."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **OPTIONS,
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        prediction_type=prediction,
        final_sigmas_type="zero",
    )
    scheduler = in_float64(scheduler)
    scheduler.set_timesteps(steps)
    times = our_times(scheduler)
    sigmas = SCHEDULE.sigma(times) / SCHEDULE.alpha(times)  # theirs, in float32, are the ratio sigma / alpha
    torch.testing.assert_close(scheduler.sigmas.double(), sigmas, rtol=1e-4, atol=1e-6)
    scheduler.sigmas = sigmas
    model = Denoiser(network, SCHEDULE, TARGETS[prediction])
    x = normal(4, 5)
    compare(scheduler, dpm_solver(model, SCHEDULE, x, times), x, tolerance=2e-5)  # their step rounds to float32


def test_ddim_with_linear_is_their_flow_matching():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(20)
    times = scheduler.sigmas.double()
    model = Denoiser(network, Linear(), FLOW)
    x = normal(4, 5)
    for (t, _), k, step in zip(pairwise(times), scheduler.timesteps, ddim(model, Linear(), x, times), strict=True):
        x = scheduler.step(network(x, t.expand(4)), k, x).prev_sample
        torch.testing.assert_close(step.x_t, x.double(), rtol=1e-5, atol=1e-5)


def test_noise_is_added_as_they_add_it():
    from diffusion_lib.forward import add_noise

    scheduler = in_float64(diffusers.DDPMScheduler(**OPTIONS))
    x_0, noise, k = normal(4, 5), normal(4, 5, seed=1), torch.tensor([0, 10, 500, 999])
    theirs = scheduler.add_noise(x_0, noise, k)
    torch.testing.assert_close(add_noise(SCHEDULE, x_0, noise, (k + 1) / T), theirs, rtol=1e-6, atol=1e-6)
    velocity = scheduler.get_velocity(x_0, noise, k)
    scales = SCHEDULE.scales((k.double() + 1) / T, x_0)
    torch.testing.assert_close(V.mix(x_0, noise, *scales), velocity, rtol=1e-9, atol=1e-9)

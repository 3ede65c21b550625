"""Step by step the same as the schedulers of diffusers, an independent implementation that many people use.

Their timestep k is our t = (k + 1) / T; before their first timestep alpha-bar is 1 (set_alpha_to_one). Their tables are
float32; they are given ours in float64, so that a difference of 1e-9 is a difference of formulas and not of rounding.
"""

from functools import partial
from itertools import pairwise

import pytest
import torch

from diffusion_lib.adapters import for_diffusers, from_diffusers, scheduler_options
from diffusion_lib.denoisers import Denoiser
from diffusion_lib.guidance import classifier_free
from diffusion_lib.samplers import ddim, ddpm, dpm_solver, time_grid
from diffusion_lib.schedules import Betas, Linear
from diffusion_lib.targets import FLOW, NOISE, X_0, V
from tests.common import normal, seeded

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


# ---------------------------------------------------------------------------------------------- adapters


def unet(**options):
    """A small UNet2DModel of theirs with random weights, float64."""
    torch.manual_seed(0)
    down, up = ("DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D")
    sizes = dict(sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8)
    model = diffusers.UNet2DModel(down_block_types=down, up_block_types=up, **sizes, **options)
    return model.double().eval().requires_grad_(False)


@pytest.mark.parametrize("prediction", TARGETS)
def test_their_network_as_our_denoiser(prediction):
    """Their loop (network, scheduler.step) and our ddim around the adapter, step by step."""
    network = unet(in_channels=3, out_channels=3)
    scheduler = diffusers.DDIMScheduler(
        **OPTIONS, clip_sample=False, timestep_spacing="trailing", prediction_type=prediction
    )
    model = from_diffusers(network, scheduler)
    assert isinstance(model, Denoiser) and model.target is TARGETS[prediction]
    scheduler = in_float64(scheduler)
    scheduler.set_timesteps(10)
    x = normal(2, 3, 8, 8)
    for k, step in zip(scheduler.timesteps, ddim(model, model.schedule, x, time_grid(10)), strict=True):
        x = scheduler.step(network(x, k).sample, k, x).prev_sample
        torch.testing.assert_close(step.x_t, x, rtol=1e-5, atol=1e-5)  # their betas are float32


def test_their_timestep_is_our_time():
    asked = []

    class Network(torch.nn.Module):
        def forward(self, x_t, k, **condition):
            asked.append((k.clone(), condition))
            return type("Output", (), {"sample": x_t})

    model = from_diffusers(Network(), diffusers.DDPMScheduler(**OPTIONS))
    for t in (1 / T, 0.3, 1.0):
        model(normal(2, 3), t, class_labels=torch.tensor([1, 2]))
    assert [k.tolist() for k, _ in asked] == [pytest.approx([k, k]) for k in (0, 299, 999)]
    assert asked[0][1]["class_labels"].tolist() == [1, 2]


def test_a_class_label_goes_through_to_their_network():
    network = unet(in_channels=1, out_channels=1, num_class_embeds=4)
    model = from_diffusers(network, diffusers.DDPMScheduler(**OPTIONS))
    x, none = normal(2, 1, 8, 8), torch.tensor([3, 3])
    one = partial(model, class_labels=torch.tensor([0, 1]))
    guided = classifier_free(one, partial(model, class_labels=none), 2.0)
    k = torch.tensor(499)
    noise = 2 * network(x, k, torch.tensor([0, 1])).sample - network(x, k, none).sample
    alpha, sigma = SCHEDULE.alpha(0.5), SCHEDULE.sigma(0.5)
    torch.testing.assert_close(guided(x, 0.5), (x - sigma * noise) / alpha, rtol=1e-4, atol=1e-4)


def test_our_denoiser_under_their_ddim():
    """With the times of time_grid: their default spacing would begin earlier than pure noise."""
    scheduler = diffusers.DDIMScheduler(**scheduler_options(SCHEDULE, T), clip_sample=False)
    scheduler.set_timesteps(20)
    torch.testing.assert_close((scheduler.timesteps + 1) / T, time_grid(20)[:-1].float())
    scheduler = in_float64(scheduler)
    model = Denoiser(network, SCHEDULE, V)
    x, ask = normal(4, 5), for_diffusers(model, T)
    for k, step in zip(scheduler.timesteps, ddim(model, SCHEDULE, x, time_grid(20)), strict=True):
        x = scheduler.step(ask(x, k), k, x).prev_sample
        torch.testing.assert_close(step.x_t, x, rtol=1e-6, atol=1e-6)


def test_our_denoiser_under_their_dpm_solver():
    scheduler = diffusers.DPMSolverMultistepScheduler(
        **scheduler_options(SCHEDULE, T), solver_type="midpoint", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(20)
    model = Denoiser(network, SCHEDULE, V)
    x, ask = normal(4, 5), for_diffusers(model, T)
    for k, step in zip(scheduler.timesteps, dpm_solver(model, SCHEDULE, x, time_grid(20)), strict=True):
        x = scheduler.step(ask(x, k), k, x).prev_sample
        torch.testing.assert_close(step.x_t, x, rtol=1e-3, atol=1e-3)  # their sigmas are float32

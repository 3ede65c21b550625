"""samplers: orders of convergence and closed forms with exact denoisers, so that only the sampler can be wrong."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch

from diffusion_lib import samplers
from diffusion_lib.denoisers import exact_dataset, exact_gaussian, exact_mixture
from diffusion_lib.experiments import overhead
from diffusion_lib.forward import noise_like, posterior
from diffusion_lib.samplers import Step, ddim, ddpm, dpm_solver, heun, last, start_noise, time_grid
from diffusion_lib.schedules import Betas, Cosine, Linear, Shifted
from tests.common import Counting, agree, normal, seeded

SCHEDULES = [Betas.linear(), Cosine(), Linear(), Shifted(Cosine(), 2.0)]
MIXTURE = dict(weights=[0.3, 0.7], means=[[-0.5, 0.2], [0.6, -0.4]], stds=[0.15, 0.1])
MEAN, STD = 0.3, 0.4
# Every sampler, called alike; DDPM and DDIM with noise get a generator of their own.
SAMPLERS = {
    "ddpm": lambda *a: ddpm(*a, generator=seeded(9)),
    "ddpm large": lambda *a: ddpm(*a, generator=seeded(9), variance="large"),
    "ddim": ddim,
    "ddim eta": lambda *a: ddim(*a, eta=0.7, generator=seeded(9)),
    "heun": heun,
    "dpm_solver": dpm_solver,
}
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def counted(denoiser):
    """The denoiser, and the list of times at which it was asked."""
    times = []

    def counting(x_t, t):
        times.append(float(t))
        return denoiser(x_t, t)

    return counting, times


# ------------------------------------------------------------------------------- against the exact ODE


def runge_kutta(schedule, denoiser, x, start, stop, steps=200):
    """dx/dt = x_0 alpha'(t) + noise sigma'(t) by the classical fourth-order method: none of the library's lines."""

    def slope(t, x):
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        d_alpha = float(schedule.alpha(t + 1e-5) - schedule.alpha(t - 1e-5)) / 2e-5
        d_sigma = float(schedule.sigma(t + 1e-5) - schedule.sigma(t - 1e-5)) / 2e-5
        x_0 = denoiser(x, t)
        return x_0 * d_alpha + (x - alpha * x_0) / sigma * d_sigma

    h = (stop - start) / steps
    for k in range(steps):
        t = start + k * h
        a = slope(t, x)
        b = slope(t + h / 2, x + h / 2 * a)
        c = slope(t + h / 2, x + h / 2 * b)
        d = slope(t + h, x + h * c)
        x = x + h / 6 * (a + 2 * b + 2 * c + d)
    return x


def order(sampler, schedule, denoiser, x, exact, start, stop):
    """log2 of what halving the step gains, between 128 and 512 steps."""
    ends = [last(sampler(denoiser, schedule, x, time_grid(n, start, stop))) for n in (128, 512)]
    errors = [float((end - exact).abs().mean()) for end in ends]
    return math.log2(errors[0] / errors[1]) / 2, errors


@pytest.mark.parametrize("schedule", [Cosine(), Linear()], ids=["cosine", "linear"])
def test_orders_of_convergence(schedule):
    """DDIM 1, Heun 2, DPM-Solver++(2M) 2, on a mixture of two Gaussians."""
    denoiser = exact_mixture(schedule, **MIXTURE)
    x = normal(64, 2)
    exact = runge_kutta(schedule, denoiser, x, 0.98, 0.02)
    for sampler, right in [(ddim, 1.0), (heun, 2.0), (dpm_solver, 2.0)]:
        measured, errors = order(sampler, schedule, denoiser, x, exact, 0.98, 0.02)
        assert measured == pytest.approx(right, abs=0.2), (sampler.__name__, measured, errors)
        assert errors[1] < (1e-3 if right == 1 else 3e-5)


def flow_of_a_gaussian(schedule, x, t, s):
    """Where the ODE takes x from t to s if the data is N(MEAN, STD^2): every quantile stays the same quantile."""
    spread = [math.hypot(float(schedule.alpha(u)) * STD, float(schedule.sigma(u))) for u in (t, s)]
    centre = [float(schedule.alpha(u)) * MEAN for u in (t, s)]
    return centre[1] + spread[1] / spread[0] * (x - centre[0])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_flow_of_a_gaussian_is_known(schedule):
    x = normal(50, 1)
    denoiser = exact_gaussian(schedule, MEAN, STD)
    for sampler, steps, tolerance in [(ddim, 100, 5e-2), (heun, 50, 3e-2), (dpm_solver, 50, 3e-2)]:
        for stop in (0.0, 0.3):
            x_s = last(sampler(denoiser, schedule, x, time_grid(steps, 0.95, stop)))
            torch.testing.assert_close(x_s, flow_of_a_gaussian(schedule, x, 0.95, stop), rtol=0, atol=tolerance)


@every_sampler
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_data_of_one_point_is_found_in_any_number_of_steps(sampler, schedule):
    point = normal(1, 3, seed=3)
    denoiser = exact_dataset(schedule, point)
    for steps in (1, 3, 10):
        x = last(sampler(denoiser, schedule, normal(4, 3), time_grid(steps)))
        torch.testing.assert_close(x, point.expand(4, 3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [ddim, heun, dpm_solver])
def test_deterministic_samplers_keep_the_noise_of_one_point(sampler):
    """x_0 is known from the first step on, so every x_s is alpha_s x_0 + sigma_s noise with one and the same noise."""
    point, noise = normal(1, 3, seed=3), normal(4, 3)
    for schedule in (Cosine(), Linear()):
        x_t = schedule.alpha(0.9) * point + schedule.sigma(0.9) * noise
        for step in sampler(exact_dataset(schedule, point), schedule, x_t, time_grid(7, 0.9)):
            right = schedule.alpha(step.t) * point + schedule.sigma(step.t) * noise
            torch.testing.assert_close(step.x_t, right, rtol=1e-9, atol=1e-9)


# ------------------------------------------------------------------------------------------------ DDPM


def ddpm_moments(schedule, times, variance):
    """Mean and variance after each step of DDPM on N(MEAN, STD^2), by hand: each step is x -> gain x + shift + std z.

    With Ho et al.'s own symbols: alpha-bar, the beta of a step, beta-tilde.
    """
    bar = [float(schedule.alpha(t)) ** 2 for t in times]
    mean, var = 0.0, float(schedule.sigma(times[0])) ** 2
    for a_t, a_s in pairwise(bar):
        beta = 1 - a_t / a_s
        denoiser_gain = a_t**0.5 * STD**2 / (a_t * STD**2 + 1 - a_t)
        keep, use = (1 - beta) ** 0.5 * (1 - a_s) / (1 - a_t), a_s**0.5 * beta / (1 - a_t)
        gain = keep + use * denoiser_gain
        shift = use * (MEAN - denoiser_gain * a_t**0.5 * MEAN)
        added = beta if variance == "large" and a_s < 1 else beta * (1 - a_s) / (1 - a_t)
        mean, var = gain * mean + shift, gain**2 * var + added
        yield mean, var


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_s_moments_on_a_gaussian(variance):
    schedule, times = Betas.linear(), time_grid(25)
    n = 40_000
    x = start_noise(schedule, (n, 1), seeded(1)).double()
    steps = ddpm(exact_gaussian(schedule, MEAN, STD), schedule, x, times, seeded(2), variance)
    for k, (step, (mean, var)) in enumerate(zip(steps, ddpm_moments(schedule, times, variance), strict=True)):
        if k % 6 == 0:  # the 25th step, which ends at 0, among them
            agree(step.x_t, mean)
            agree((step.x_t - mean) ** 2, var)


def test_ddpm_arrives_at_the_data_with_enough_steps():
    schedule = Betas.linear()
    coarse, fine = (list(ddpm_moments(schedule, time_grid(n), "small"))[-1] for n in (25, 1000))
    assert fine[0] == pytest.approx(MEAN, abs=2e-3) and fine[1] ** 0.5 == pytest.approx(STD, abs=5e-3)
    assert abs(coarse[1] ** 0.5 - STD) > 0.01  # so that the test above has something to see
    x = start_noise(schedule, (4000, 1), seeded(1)).double()
    x = last(ddpm(exact_gaussian(schedule, MEAN, STD), schedule, x, time_grid(1000), seeded(2)))
    agree(x, fine[0])
    agree((x - fine[0]) ** 2, fine[1])


def test_the_large_variance_is_right_for_white_noise():
    """Ho et al. 2020, sec. 3.2: data N(0, 1) keeps variance 1 in steps of any size."""
    for step in ddpm(
        exact_gaussian(Cosine(), 0.0, 1.0), Cosine(), normal(50_000, 1), [1, 0.5, 0.2], seeded(2), "large"
    ):
        agree(step.x_t**2, 1.0)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddpm_draws_from_the_posterior(schedule):
    denoiser, x, generator = exact_mixture(schedule, **MIXTURE), normal(8, 2), seeded(1)
    times = [0.95, 0.9, 0.3, 0.29, 0.0]
    for (t, s), step in zip(pairwise(times), ddpm(denoiser, schedule, x, times, seeded(1)), strict=True):
        mean, std = posterior(schedule, denoiser(x, t), x, t, s)
        torch.testing.assert_close(step.x_t, mean + std * noise_like(x, generator), rtol=1e-9, atol=1e-9)
        x = step.x_t


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_adds_no_noise_in_the_last_step(variance):
    """x at t = 0 is the last estimate itself, and does not depend on the noise of that step."""
    denoiser = exact_mixture(Cosine(), **MIXTURE)
    step = list(ddpm(denoiser, Cosine(), normal(8, 2), time_grid(5), seeded(1), variance))[-1]
    assert step.t == 0 and torch.equal(step.x_t, step.x_0)
    x = normal(8, 2)
    alone = [last(ddpm(denoiser, Cosine(), x, [0.3, 0.0], seeded(k), variance)) for k in (1, 2)]
    assert torch.equal(*alone)


def test_ddpm_adds_noise_in_every_other_step():
    x = normal(8, 2)
    denoiser = exact_mixture(Cosine(), **MIXTURE)
    for t, s in pairwise([1.0, 0.7, 0.4, 0.1]):
        a, b = (last(ddpm(denoiser, Cosine(), x, [t, s], seeded(k))) for k in (1, 2))
        assert (a - b).abs().min() > 1e-4


# ------------------------------------------------------------------------------------------------ DDIM


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_with_eta_one_is_ddpm(schedule):
    denoiser = exact_mixture(schedule, **MIXTURE)
    for times in (time_grid(100), [0.97, 0.8, 0.3, 0.25, 0.0]):
        a = ddim(denoiser, schedule, normal(8, 2), times, eta=1.0, generator=seeded(4))
        b = ddpm(denoiser, schedule, normal(8, 2), times, generator=seeded(4))
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one.x_t, other.x_t, rtol=0, atol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_keeps_the_marginals_for_every_eta(eta):
    """Song et al. 2021a, theorem 1: were x_0 known, x_s would have mean alpha_s x_0, variance sigma_s^2."""
    x_0 = torch.tensor(0.8).double()
    for schedule in (Cosine(), Linear(), Betas.linear()):
        x = schedule.alpha(0.9) * x_0 + schedule.sigma(0.9) * normal(50_000, 1)
        for step in ddim(lambda x_t, t: x_0.expand_as(x_t), schedule, x, [0.9, 0.5, 0.2], eta=eta, generator=seeded(3)):
            agree(step.x_t, schedule.alpha(step.t) * x_0)
            agree((step.x_t - schedule.alpha(step.t) * x_0) ** 2, schedule.sigma(step.t) ** 2)


def test_ddim_with_linear_is_euler_for_flow_matching():
    denoiser, x = exact_mixture(Linear(), **MIXTURE), normal(8, 2)
    times = time_grid(13)
    steps = list(ddim(denoiser, Linear(), x, times))
    for (t, s), step in zip(pairwise(times.tolist()), steps, strict=True):
        velocity = (x - denoiser(x, t)) / t  # noise - x_0, from x = (1 - t) x_0 + t noise
        x = x + (s - t) * velocity
        torch.testing.assert_close(step.x_t, x, rtol=1e-9, atol=1e-9)


def test_heun_with_linear_is_heun_s_method():
    denoiser, x = exact_mixture(Linear(), **MIXTURE), normal(8, 2)
    times = time_grid(13, 1.0, 0.1)

    def velocity(x, t):
        return (x - denoiser(x, t)) / t

    for (t, s), step in zip(pairwise(times.tolist()), heun(denoiser, Linear(), x, times), strict=True):
        first = velocity(x, t)
        x = x + (s - t) * (first + velocity(x + (s - t) * first, s)) / 2
        torch.testing.assert_close(step.x_t, x, rtol=1e-9, atol=1e-9)


def test_dpm_solver_is_the_papers_box():
    """Lu et al. 2022b, algorithm 2, in their symbols, on a grid whose steps differ (where a wrong ratio shows)."""
    schedule, x = Cosine(), normal(8, 2)
    denoiser, times = exact_mixture(schedule, **MIXTURE), [0.98, 0.9, 0.5, 0.42, 0.1, 0.02]
    alpha, sigma = ([float(f(t)) for t in times] for f in (schedule.alpha, schedule.sigma))
    lam = [math.log(a / s) for a, s in zip(alpha, sigma)]
    estimates = []
    for i, step in enumerate(dpm_solver(denoiser, schedule, x, times), 1):
        estimates.append(denoiser(x, times[i - 1]))
        h = lam[i] - lam[i - 1]
        D = estimates[-1]
        if i > 1:
            r = (lam[i - 1] - lam[i - 2]) / h
            D = (1 + 1 / (2 * r)) * estimates[-1] - 1 / (2 * r) * estimates[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * (math.exp(-h) - 1) * D
        torch.testing.assert_close(step.x_t, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("schedule", [Cosine(), Linear()], ids=["cosine", "linear"])
def test_inversion_returns(schedule):
    """Up to noise and down again, with an error that halves as the steps do."""
    denoiser = exact_mixture(schedule, **MIXTURE)
    x = torch.tensor(MIXTURE["means"]).double() + 0.1 * normal(2, 2)
    errors = []
    for n in (50, 100, 200):
        times = time_grid(n, 0.98, 0.02)
        noise = last(ddim(denoiser, schedule, x, times.flip(0)))
        errors.append(float((last(ddim(denoiser, schedule, noise, times)) - x).abs().max()))
    assert errors[2] < 0.04 and errors[0] / errors[1] > 1.6 and errors[1] / errors[2] > 1.6
    assert (noise - x).abs().max() > 0.3


def test_eta_zero_ignores_the_generator():
    denoiser, x, generator = exact_mixture(Cosine(), **MIXTURE), normal(4, 2), seeded(5)
    before = generator.get_state()
    torch.manual_seed(0)
    everywhere = torch.random.get_rng_state()
    with_generator = last(ddim(denoiser, Cosine(), x, time_grid(5), generator=generator))
    without = last(ddim(denoiser, Cosine(), x, time_grid(5)))
    assert torch.equal(with_generator, without)
    assert torch.equal(before, generator.get_state()) and torch.equal(everywhere, torch.random.get_rng_state())


# ----------------------------------------------------------------------------------------- all of them


@every_sampler
def test_a_sampler_yields_a_step_for_every_time_but_the_first(sampler):
    denoiser, asked = counted(exact_mixture(Cosine(), **MIXTURE))
    times = time_grid(7, 0.95, 0.05)
    steps = list(sampler(denoiser, Cosine(), normal(4, 2), times))
    assert [step.t for step in steps] == pytest.approx(times[1:].tolist())
    if sampler is heun:  # it looks at both ends of each step
        assert asked == pytest.approx([t for pair in pairwise(times.tolist()) for t in pair])
    else:
        assert asked == pytest.approx(times[:-1].tolist())
    assert all(isinstance(step, Step) and step.x_t.shape == step.x_0.shape == (4, 2) for step in steps)
    assert all(not step.x_t.requires_grad for step in steps)


@every_sampler
def test_a_step_carries_the_estimate_that_it_followed(sampler):
    denoiser, x = exact_mixture(Cosine(), **MIXTURE), normal(4, 2)
    for t, step in zip(time_grid(5).tolist(), sampler(denoiser, Cosine(), x, time_grid(5))):
        torch.testing.assert_close(step.x_0, denoiser(x, t))
        x = step.x_t


@every_sampler
def test_the_schedule_is_asked_once_a_grid(sampler):
    """For all scales together and before the first step, so that their price does not depend on the number of steps."""
    asked = []
    for steps in (1, 5, 50):
        schedule = Counting(Cosine())
        frames = iter(sampler(lambda x_t, t: 0 * x_t, schedule, normal(4, 2), time_grid(steps)))
        next(frames)
        at_once = list(schedule.asked)
        list(frames)
        assert schedule.asked == at_once
        asked.append(at_once)
    assert asked[0] == asked[1] == asked[2] and len(asked[0]) <= 4


@pytest.mark.parametrize("name", overhead.PLAIN)
def test_the_benchmark_s_plain_loop_does_what_the_sampler_does(name):
    x, ends = normal(4, 2), []
    for sampler in (getattr(samplers, name), overhead.PLAIN[name]):
        torch.manual_seed(0)
        *_, end = sampler(exact_mixture(Cosine(), **MIXTURE), Cosine(), x, time_grid(20))
        ends.append(end.x_t if isinstance(end, Step) else end)
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


def test_the_benchmark_runs():
    """What it measures is for experiments; here, that every sampler has its row and threads are put back."""
    threads, said = torch.get_num_threads(), []
    result = overhead.measure_overhead(torch.device("cpu"), (0, 1), said.append, shape=(2, 3), steps=3, rounds=2)
    assert {*overhead.PLAIN} <= {*result["ratios"]} and len(result["rows"]) == 2 * len(result["ratios"]) == 2 * len(
        said
    )
    assert torch.get_num_threads() == threads


def test_heun_calls_twice_a_step_and_once_in_the_last():
    denoiser, asked = counted(exact_mixture(Cosine(), **MIXTURE))
    list(heun(denoiser, Cosine(), normal(4, 2), time_grid(6)))
    assert len(asked) == 11


@every_sampler
def test_samplers_are_lazy(sampler):
    """A loop may stop in the middle and pays only for what it took."""
    denoiser, asked = counted(exact_mixture(Cosine(), **MIXTURE))
    steps = iter(sampler(denoiser, Cosine(), normal(4, 2), time_grid(1000)))
    assert asked == []
    next(steps)
    assert len(asked) <= 2


@every_sampler
def test_a_sampler_leaves_its_input_alone_and_keeps_type(sampler):
    for dtype in (torch.float32, torch.float64):
        x = normal(4, 2, dtype=dtype)
        before = x.clone()
        steps = list(sampler(exact_mixture(Cosine(), **MIXTURE), Cosine(), x, time_grid(5)))
        assert torch.equal(x, before)
        assert {step.x_t.dtype for step in steps} == {dtype} == {step.x_0.dtype for step in steps}
        assert len({step.x_t.data_ptr() for step in steps}) == 5  # a film's frames are not one tensor


@every_sampler
def test_gradients_are_not_kept(sampler):
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    step = next(iter(sampler(lambda x_t, t: weight * x_t, Cosine(), normal(4, 2), time_grid(5))))
    assert not step.x_t.requires_grad and torch.is_grad_enabled()


def test_same_seed_same_images():
    denoiser = exact_mixture(Cosine(), **MIXTURE)
    for sampler in (ddpm, partial(ddim, eta=1.0)):
        draws = []
        for seed in (1, 1, 2):
            generator = seeded(seed)
            x = start_noise(Cosine(), (4, 2), generator)
            torch.manual_seed(len(draws))  # torch's own state has no say
            draws.append(last(sampler(denoiser, Cosine(), x, time_grid(10), generator=generator)))
        assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


@every_sampler
def test_times_may_be_a_list(sampler):
    denoiser, x = exact_mixture(Cosine(), **MIXTURE), normal(4, 2)
    grid = time_grid(4)
    torch.testing.assert_close(
        last(sampler(denoiser, Cosine(), x, grid)), last(sampler(denoiser, Cosine(), x, grid.tolist()))
    )


# ----------------------------------------------------------------------------------------- around them


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 300, 999, 1000])
def test_time_grid_reaches_both_ends_in_equal_steps(steps):
    """Also where the number of steps does not divide 1,000: no step is left out and none wraps around."""
    times = time_grid(steps)
    assert len(times) == steps + 1 and times[0] == 1 and times[-1] == 0 and times.dtype == torch.float64
    torch.testing.assert_close(times.diff(), torch.full((steps,), -1 / steps, dtype=torch.float64), rtol=0, atol=1e-12)


def test_time_grid_between_any_two_times():
    torch.testing.assert_close(time_grid(3, 0.9, 0.3), torch.tensor([0.9, 0.7, 0.5, 0.3]).double())


def test_start_noise_has_the_schedule_s_last_standard_deviation():
    for schedule in (Betas(torch.full((10,), 0.05)), Shifted(Linear(), 0.5), Linear()):
        x = start_noise(schedule, (50_000, 2), seeded()).double()
        agree(x, 0.0)
        agree(x**2, schedule.sigma(1.0) ** 2)
    assert torch.equal(start_noise(Cosine(), (3, 2), seeded(1)), start_noise(Cosine(), (3, 2), seeded(1)))


def test_last_is_where_the_sampler_arrived():
    steps = [Step(0.5, torch.tensor(1.0), torch.tensor(2.0)), Step(0.0, torch.tensor(3.0), torch.tensor(4.0))]
    assert last(iter(steps)) == 3


@pytest.mark.gpu
@every_sampler
def test_a_gpu_draws_the_cpu_s_pictures(sampler):
    """With a CPU generator; only rounding differs."""
    denoiser = exact_mixture(Cosine(), **MIXTURE)
    x = start_noise(Cosine(), (16, 2), seeded(1))
    assert torch.equal(start_noise(Cosine(), (16, 2), seeded(1), device="cuda").cpu(), x)
    here, there = (last(sampler(denoiser, Cosine(), y, time_grid(20))) for y in (x, x.cuda()))
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)

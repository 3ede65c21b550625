"""editing: known pixels and measurements kept, jumps and conditionals against closed forms, and what is not exact."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from diffusion_lib.denoisers import exact_gaussian, exact_mixture
from diffusion_lib.editing import (
    Measurement,
    averaged,
    by_measurement,
    consistent,
    grey,
    image_to_image,
    inpaint,
    keep,
    masked,
    renoise,
    spherical,
)
from diffusion_lib.forward import add_noise, noise_like, noising_step
from diffusion_lib.guidance import by_gradient
from diffusion_lib.samplers import ddim, ddpm, dpm_solver, heun, last, time_grid
from diffusion_lib.schedules import Betas, Cosine, Linear
from tests.common import agree, normal, seeded

COSINE = Cosine()
SCHEDULES = [Cosine(), Linear(), Betas.linear(200)]
STD, RHO = 0.5, 0.9
C = STD**2 * torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)
I = torch.eye(2, dtype=torch.float64)
KNOWN, FIRST = torch.tensor([[0.6, 0.0]], dtype=torch.float64), torch.tensor([[True, False]])
EXACT_MEAN, EXACT_STD = RHO * 0.6, STD * math.sqrt(1 - RHO**2)


def correlated(x_t, t):
    """E[x_0 | x_t] for data from N(0, C)."""
    alpha_t, sigma_t = COSINE.scales(t, like=x_t)
    return x_t @ torch.linalg.solve(alpha_t**2 * C + sigma_t**2 * I, alpha_t * C)


def left_open(t):
    """The covariance of x_0 given x_t, for data from N(0, C)."""
    alpha_t, sigma_t = float(COSINE.alpha(t)), float(COSINE.sigma(t))
    return torch.linalg.inv(torch.linalg.inv(C) + (alpha_t / sigma_t) ** 2 * I)


def smooth(x_t, t):
    """A denoiser that leaves [-1, 1] and is right about nothing."""
    return 2 * torch.tanh(1.3 * x_t) + 0.5


def some_mask(*shape, seed=0):
    return torch.rand(*shape, generator=seeded(seed)) < 0.5


# ---------------------------------------------------------------------------------------------- keep


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("sampler", [ddpm, ddim, heun, dpm_solver])
def test_known_pixels_come_out_bit_for_bit(sampler, schedule):
    known, x_t = normal(3, 2, 4, 5, dtype=torch.float32), normal(3, 2, 4, 5, seed=1, dtype=torch.float32)
    for mask in (some_mask(1, 1, 4, 5), some_mask(3, 2, 4, 5).float()):
        x = last(sampler(keep(smooth, known, mask), schedule, x_t, time_grid(5, start=0.98)))
        inside = mask.bool().expand_as(x)
        assert torch.equal(x[inside], known[inside]) and x.isfinite().all()
        assert (x[~inside] != known[~inside]).all()


def test_unknown_pixels_are_the_denoisers():
    known, x_t, mask = normal(3, 2, 4, 5), normal(3, 2, 4, 5, seed=1), some_mask(1, 1, 4, 5)
    estimate = keep(smooth, known, mask)(x_t, 0.4)
    outside = ~mask.expand_as(x_t)
    assert torch.equal(estimate[outside], smooth(x_t, 0.4)[outside])
    assert torch.equal(keep(smooth, known[:1], mask)(x_t, 0.4)[:1], estimate[:1])  # one picture for many samples


def test_what_is_not_known_may_be_anything():
    known, mask = normal(2, 3), torch.tensor([[1.0, 0.0, 1.0]])
    blank = torch.where(mask.bool(), known, torch.nan)
    assert torch.equal(
        keep(smooth, blank, mask)(normal(2, 3, seed=1), 0.5), keep(smooth, known, mask)(normal(2, 3, seed=1), 0.5)
    )
    steps = inpaint(smooth, COSINE, normal(2, 3, seed=1), time_grid(4), blank, mask, seeded(), 2)
    assert last(steps).isfinite().all()


def test_keep_is_consistent_with_a_mask():
    known, x_t, mask = normal(2, 1, 4, 4), normal(2, 1, 4, 4, seed=1), some_mask(1, 1, 4, 4).double()
    torch.testing.assert_close(
        keep(smooth, known, mask)(x_t, 0.7), consistent(smooth, masked(mask), mask * known)(x_t, 0.7)
    )


# ---------------------------------------------------------------------------------------------- RePaint


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_two_jumps_are_one(schedule):
    """q(x_t | x_s) after q(x_s | x_0) is q(x_t | x_0): mean, variance, and the covariance of what is added with x_s."""
    x_0 = torch.full((200_000,), 0.8, dtype=torch.float64)
    s, t = 0.3, 0.6
    x_s = add_noise(schedule, x_0, noise_like(x_0, seeded(1)), s)
    x_t = renoise(schedule, x_s, noise_like(x_0, seeded(2)), s, t)
    alpha_t, sigma_t = float(schedule.alpha(t)), float(schedule.sigma(t))
    agree(x_t, 0.8 * alpha_t)
    agree((x_t - 0.8 * alpha_t) ** 2, sigma_t**2)
    ratio = alpha_t / float(schedule.alpha(s))
    agree((x_t - 0.8 * alpha_t) * (x_s - x_s.mean()), ratio * float(schedule.sigma(s)) ** 2)


def test_a_jump_of_one_step_is_ddpms_and_from_0_it_is_add_noise():
    schedule, x, noise = Betas.linear(100), normal(5, 3), normal(5, 3, seed=1)
    beta = schedule.betas(100)[41]
    torch.testing.assert_close(renoise(schedule, x, noise, 0.41, 0.42), noising_step(x, beta, noise))
    torch.testing.assert_close(renoise(COSINE, x, noise, 0.0, 0.7), add_noise(COSINE, x, noise, 0.7))
    each = renoise(COSINE, x, noise, torch.linspace(0, 0.4, 5), torch.linspace(0.5, 1, 5))
    torch.testing.assert_close(each[2], renoise(COSINE, x, noise, 0.2, 0.75)[2])


def test_repaint_keeps_known_pixels_bit_for_bit():
    known, x_t = normal(3, 1, 4, 4, dtype=torch.float32), normal(3, 1, 4, 4, seed=1, dtype=torch.float32)
    mask = some_mask(1, 1, 4, 4)
    for resample in (1, 3):
        steps = list(inpaint(smooth, COSINE, x_t, time_grid(5), known, mask, seeded(), resample))
        assert [step.t for step in steps] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.0])
        inside = mask.expand_as(x_t)
        assert torch.equal(steps[-1].x_t[inside], known[inside]) and steps[-1].x_t.isfinite().all()


def test_repaint_noises_known_pixels_to_the_time_of_the_step():
    known, mask = torch.full((50_000, 2), 0.7, dtype=torch.float64), FIRST
    steps = inpaint(smooth, COSINE, normal(50_000, 2), [1.0, 0.5, 0.0], known, mask, seeded(3), 2)
    x_s = next(steps).x_t[:, 0]
    agree(x_s, 0.7 * float(COSINE.alpha(0.5)))
    agree((x_s - 0.7 * float(COSINE.alpha(0.5))) ** 2, float(COSINE.sigma(0.5)) ** 2)


def test_repaint_without_going_back_and_without_known_pixels_is_ddpm():
    """Its known part draws its noise as well, so that only the distribution is the same."""
    denoiser, x_t, nothing = exact_gaussian(COSINE, 0.3, 0.4), normal(40_000, 1), torch.zeros(1, 1)
    x = last(inpaint(denoiser, COSINE, x_t, time_grid(30), torch.zeros(1, 1).double(), nothing, seeded(2), 1))
    reference = last(ddpm(denoiser, COSINE, x_t, time_grid(30), seeded(2)))
    agree(x, reference.mean(), errors=7)
    assert abs(x.std() / reference.std() - 1) < 0.02


def test_repaint_makes_as_many_calls_as_it_says():
    calls = []

    def counting(x_t, t):
        calls.append(float(t))
        return smooth(x_t, t)

    last(inpaint(counting, COSINE, normal(1, 2), time_grid(4), KNOWN, FIRST, seeded(), 3))
    assert calls == pytest.approx([1.0] * 3 + [0.75] * 3 + [0.5] * 3 + [0.25])


def test_going_back_brings_the_filling_nearer_to_the_conditional():
    """For data whose conditional is known: the mean comes near, and the spread ends too small."""
    start, times = normal(4000, 2), time_grid(50)
    kept = last(ddpm(keep(correlated, KNOWN, FIRST), COSINE, start, times, seeded(1)))[:, 1]
    means, stds = {}, {}
    for resample in (1, 5, 20):
        x = last(inpaint(correlated, COSINE, start, times, KNOWN, FIRST, seeded(2), resample))[:, 1]
        means[resample], stds[resample] = float(x.mean()), float(x.std())
    assert kept.mean() < 0.75 * EXACT_MEAN and kept.std() > 1.2 * EXACT_STD
    assert means[1] < means[5] < means[20] and means[20] == pytest.approx(EXACT_MEAN, abs=0.03)
    assert stds[20] < 0.95 * EXACT_STD


def by_hand(steps, resample, exact=False):
    """Mean and standard deviation that `inpaint` must give: for Gaussian data every step is a linear map with noise.

    exact: with the variance that DDPM's step leaves out, that of x_0 given x_t.
    """
    mean, cov = torch.zeros(2, dtype=torch.float64), I.clone()
    for t, s in pairwise(time_grid(steps)):
        alpha_t, sigma_t, alpha_s, sigma_s = (float(f(v)) for v in (t, s) for f in (COSINE.alpha, COSINE.sigma))
        ratio = alpha_t / alpha_s
        added = sigma_t**2 - (ratio * sigma_s) ** 2  # the variance between s and t
        gain = alpha_t * C @ torch.linalg.inv(alpha_t**2 * C + sigma_t**2 * I)
        step = (ratio * sigma_s**2 * I + alpha_s * added * gain) / sigma_t**2
        noise = sigma_s**2 * added / sigma_t**2 * I
        if exact:
            noise = noise + (alpha_s * added / sigma_t**2) ** 2 * left_open(t)
        attempts = resample if s > 0 else 1
        for attempt in range(attempts):
            made_mean, made_cov = step @ mean, step @ cov @ step.T + noise
            mean = torch.stack([torch.tensor(alpha_s * 0.6, dtype=torch.float64), made_mean[1]])
            cov = torch.diag(torch.stack([torch.tensor(sigma_s**2, dtype=torch.float64), made_cov[1, 1]]))
            if attempt < attempts - 1:
                mean, cov = ratio * mean, ratio**2 * cov + added * I
    return float(mean[1]), float(cov[1, 1]) ** 0.5


@pytest.mark.parametrize("steps, resample", [(10, 1), (10, 4), (30, 3)])
def test_repaint_on_a_gaussian_does_what_can_be_worked_out(steps, resample):
    mean, std = by_hand(steps, resample)
    x = last(inpaint(correlated, COSINE, normal(20_000, 2), time_grid(steps), KNOWN, FIRST, seeded(7), resample))[:, 1]
    agree(x, mean)
    agree((x - mean) ** 2, std**2)


def test_why_repaint_is_too_sure():
    """The lesson's sentence: DDPM's step is a little too narrow, and many attempts add that up; short steps mend it."""
    assert by_hand(50, 20)[1] < 0.86 * EXACT_STD < 0.96 * EXACT_STD < by_hand(1000, 20)[1] < EXACT_STD
    assert by_hand(1000, 20, exact=True)[1] == pytest.approx(EXACT_STD, rel=0.02)
    assert by_hand(50, 20, exact=True)[1] > EXACT_STD


# ---------------------------------------------------------------------------------------------- image to image


def test_strength_0_is_the_image_and_1_is_a_sample():
    denoiser, image = exact_mixture(COSINE, [0.5, 0.5], [[0.8], [-0.8]], [0.1, 0.2]), normal(30, 1)
    (only,) = image_to_image(denoiser, COSINE, image, 0.0, generator=seeded(1))
    assert torch.equal(only.x_t, image) and only.t == 0
    for eta in (0.0, 1.0):
        made = last(image_to_image(denoiser, COSINE, image, 1.0, 20, eta, seeded(1)))
        generator = seeded(1)
        noise = noise_like(image, generator)
        torch.testing.assert_close(made, last(ddim(denoiser, COSINE, noise, time_grid(20), eta, generator)))
        other = last(image_to_image(denoiser, COSINE, -image, 1.0, 20, eta, seeded(1)))
        torch.testing.assert_close(made, other)  # the image is forgotten


@pytest.mark.parametrize("strength, steps", [(0.5, 10), (0.26, 10), (0.01, 10), (1.0, 7)])
def test_the_image_is_noised_to_where_the_grid_begins(strength, steps):
    image = normal(6, 2)
    run = list(image_to_image(smooth, COSINE, image, strength, steps, 0.0, seeded(4)))
    noisy = add_noise(COSINE, image, noise_like(image, seeded(4)), strength)
    torch.testing.assert_close(run[0].x_t, noisy)
    assert torch.equal(run[0].x_0, image) and run[0].t == strength
    count = max(1, round(strength * steps))
    assert [step.t for step in run[1:]] == pytest.approx(time_grid(count, strength).tolist()[1:])
    torch.testing.assert_close(run[-1].x_t, last(ddim(smooth, COSINE, noisy, time_grid(count, strength))))


def test_a_weak_redrawing_stays_near():
    denoiser, image = exact_gaussian(COSINE, 0.0, 1.0), torch.full((2000, 1), 1.5, dtype=torch.float64)
    off = [
        float((last(image_to_image(denoiser, COSINE, image, s, 50, 1.0, seeded(1))) - image).square().mean())
        for s in (0.1, 0.4, 0.7, 1.0)
    ]
    assert off == sorted(off)
    assert off[-1] == pytest.approx(1 + 1.5**2, rel=0.1)  # N(0, 1) around 1.5


# ---------------------------------------------------------------------------------------------- measurements

PICTURES = torch.eye(3 * 4 * 4, dtype=torch.float64).reshape(-1, 3, 4, 4)
MEASUREMENTS = {
    "mask": lambda: masked(some_mask(1, 1, 4, 4).double()),
    "bool mask": lambda: masked(some_mask(3, 4, 4, seed=2)),
    "averages": lambda: averaged(2),
    "all of it": lambda: averaged(4),
    "brightness": lambda: grey(),
    "green": lambda: grey([0.0, 1.0, 0.0]),
}


@pytest.mark.parametrize("make", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_invert_is_the_pseudo_inverse(make):
    """Against torch.linalg.pinv of the matrix that measuring the unit pictures gives."""
    measurement = make()
    A = measurement.measure(PICTURES).double().flatten(1).T
    x = normal(5, 3, 4, 4)
    y = measurement.measure(x)
    torch.testing.assert_close(y.flatten(1), x.flatten(1) @ A.T)
    torch.testing.assert_close(measurement.invert(y).flatten(1), y.flatten(1) @ torch.linalg.pinv(A).T)
    torch.testing.assert_close(measurement.measure(measurement.invert(y)), y)


@pytest.mark.parametrize("make", MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_samples_measure_what_was_given(make):
    measurement = make()
    y = measurement.measure(normal(4, 3, 4, 4, dtype=torch.float32))
    start = normal(4, 3, 4, 4, seed=1, dtype=torch.float32)
    for sampler in (ddpm, ddim, heun, dpm_solver):
        x = last(sampler(consistent(smooth, measurement, y), COSINE, start, time_grid(5)))
        assert (measurement.measure(x) - y).abs().max() < 1e-5


def test_what_is_not_seen_is_left_to_the_denoiser():
    measurement, x_t = averaged(2), normal(4, 1, 4, 4)
    before, after = smooth(x_t, 0.3), consistent(smooth, measurement, normal(4, 1, 2, 2))(x_t, 0.3)

    def unseen(x):
        return x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)

    torch.testing.assert_close(unseen(before), unseen(after))


def test_one_measurement_serves_many_samples():
    y, x_t = normal(1, 1, 2, 2), normal(3, 1, 4, 4)
    many = consistent(smooth, averaged(2), y)(x_t, 0.4)
    torch.testing.assert_close(many, consistent(smooth, averaged(2), y.expand(3, -1, -1, -1))(x_t, 0.4))
    follow = by_measurement(smooth, COSINE, averaged(2).measure, y, 0.3)
    torch.testing.assert_close(follow(x_t, 0.4)[1:2], follow(x_t[1:2], 0.4))


def test_a_measurement_is_a_pair_of_functions():
    flip = Measurement(lambda x: x.flip(-1), lambda y: y.flip(-1))
    torch.testing.assert_close(consistent(smooth, flip, KNOWN)(normal(2, 2), 0.4), KNOWN.flip(-1).expand(2, -1))


# ---------------------------------------------------------------------------------------------- by gradient


def test_the_gradient_of_a_measurement_in_closed_form():
    """For Gaussian data: x_0 + C_t A^T (y - A x_0) / std^2, with C_t the covariance that x_t leaves."""
    A, y, x_t = normal(1, 2, seed=3), normal(6, 1, seed=4), normal(6, 2, seed=5)
    for t in (0.2, 0.5, 0.9):
        guess = correlated(x_t, t)
        off = y - guess @ A.T
        for std, scale in [(0.3, 1.0), (1.0, 0.5)]:
            got = by_measurement(correlated, COSINE, lambda x: x @ A.T, y, std, scale)(x_t, t)
            torch.testing.assert_close(got, guess + scale * off @ A @ left_open(t) / std**2)


def test_the_gradient_with_the_exact_variance_samples_from_the_conditional():
    """The formula of the lesson: with A C_t A^T + std^2 the guided estimate is E[x_0 | x_t, y]."""

    def log_probability(x_t, t):
        return -((0.6 - correlated(x_t, t)[:, 0]) ** 2) / (2 * (left_open(t)[0, 0] + 1e-3**2))

    guided = by_gradient(correlated, COSINE, log_probability, 1.0)
    x_t, t = normal(5, 2), 0.4
    seen = torch.cat([x_t, torch.full((5, 1), 0.6)], dim=1)
    M = torch.cat([float(COSINE.alpha(t)) * I, I[:1]])
    noise = torch.diag(torch.tensor([float(COSINE.sigma(t)) ** 2] * 2 + [1e-3**2], dtype=torch.float64))
    torch.testing.assert_close(guided(x_t, t), seen @ torch.linalg.solve(M @ C @ M.T + noise, M @ C))
    x = last(ddim(guided, COSINE, normal(4000, 2), time_grid(100, start=0.98), 1.0, seeded(1)))[:, 1]
    assert float(x.mean()) == pytest.approx(EXACT_MEAN, abs=0.03)
    assert float(x.std()) == pytest.approx(EXACT_STD, abs=0.02)


def test_a_measurement_need_not_be_linear():
    """The size of a point is measured, its direction is not: samples end on the circle, all the way round."""
    denoiser = exact_gaussian(COSINE, 0.0, 0.5)
    size = lambda x: x.norm(dim=1, keepdim=True)  # noqa: E731
    y = torch.full((1, 1), 0.8, dtype=torch.float64)
    follow = by_measurement(denoiser, COSINE, size, y, 0.15)
    x = last(ddim(follow, COSINE, normal(400, 2), time_grid(50, start=0.98), 1.0, seeded(1)))
    assert (size(x) - 0.8).abs().mean() < 0.15
    assert (x > 0).double().mean() == pytest.approx(0.5, abs=0.1)


# ---------------------------------------------------------------------------------------------- on a circle


def test_the_walk_keeps_the_variance_and_ends_where_it_should():
    z_0, z_1 = normal(3, 2, 20, 20), normal(3, 2, 20, 20, seed=1)
    torch.testing.assert_close(spherical(z_0, z_1, 0), z_0)
    torch.testing.assert_close(spherical(z_0, z_1, 1.0), z_1)
    for u in (0.25, 0.5):
        assert (spherical(z_0, z_1, u).flatten(1).std(1) - 1).abs().max() < 0.1
    each = spherical(z_0, z_1, torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(each[1], spherical(z_0, z_1, 0.5)[1])
    torch.testing.assert_close(each[2], z_1[2])


def test_equal_steps_are_equal_angles():
    a, b = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[0.0, 0.6, 0.8]])
    for u in (0.2, 0.7):
        point = spherical(a, b, u)
        assert float(point.norm()) == pytest.approx(1)
        assert float((point @ a.T).arccos()) == pytest.approx(u * math.pi / 2, rel=1e-5)


@pytest.mark.gpu
def test_editing_on_a_gpu():
    x_t, known = normal(2, 1, 8, 8, dtype=torch.float32).cuda(), normal(2, 1, 8, 8, seed=1, dtype=torch.float32).cuda()
    mask = some_mask(1, 1, 8, 8).cuda()
    for x in (
        last(ddim(keep(smooth, known, mask), COSINE, x_t, time_grid(4))),
        last(inpaint(smooth, COSINE, x_t, time_grid(4), known, mask, seeded(), 2)),
    ):
        assert x.is_cuda and torch.equal(x[mask.expand_as(x)], known[mask.expand_as(x)])
    low = averaged(2).measure(known)
    x = last(ddim(consistent(smooth, averaged(2), low), COSINE, x_t, time_grid(4)))
    assert (averaged(2).measure(x) - low).abs().max() < 1e-5
    follow = by_measurement(smooth, COSINE, averaged(2).measure, low, 0.5)
    assert last(ddim(follow, COSINE, x_t, time_grid(4, start=0.9))).is_cuda
    assert last(image_to_image(smooth, COSINE, known, 0.5, 4, generator=seeded())).is_cuda

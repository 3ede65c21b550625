"""forward: the chain against the closed form, the posterior against Bayes' rule, DDPM's formula and a simulation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_lib import forward
from diffusion_lib.schedules import Betas, Cosine, Linear, Shifted
from tests.common import agree, normal, seeded

SCHEDULES = [Betas.linear(), Cosine(), Linear(), Shifted(Linear(), 2.0)]


def test_noise_is_standard_normal():
    """Moments up to the fourth: a uniform of variance 1 has 1.8 where a normal has 3."""
    z = forward.noise_like(torch.zeros(200, 1000), seeded()).flatten()
    for power, moment in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)]:
        agree(z**power, moment)
    assert len(z.unique()) > 0.98 * len(z)  # every number is its own draw (float32 has some twice)


def test_noise_of_two_samples_is_independent():
    z = forward.noise_like(torch.zeros(50_000, 2), seeded(1))
    agree(z[:, 0] * z[:, 1], 0.0)


def test_noise_obeys_its_generator_alone():
    x = torch.zeros(3, 2, dtype=torch.float64)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = forward.noise_like(x, seeded(5))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first, forward.noise_like(x, seeded(5)))
    assert not torch.equal(first, forward.noise_like(x, seeded(6)))
    assert first.dtype == torch.float64 and first.shape == x.shape


def test_noise_for_tokens_is_uniform():
    """Moments, and every token of its own: two neighbours are independent; on the generator alone."""
    x = torch.zeros(1000, 200, dtype=torch.int64)
    u = forward.uniform_like(x, seeded())
    assert u.dtype == torch.float32 and u.shape == x.shape and u.min() >= 0 and u.max() < 1
    for power in (1, 2, 3):
        agree(u.flatten() ** power, 1 / (power + 1))
    agree((u[:, 0] - 0.5) * (u[:, 1] - 0.5), 0.0)
    assert torch.equal(u, forward.uniform_like(x, seeded())) and not torch.equal(u, forward.uniform_like(x, seeded(1)))


@pytest.mark.parametrize("schedule", [*SCHEDULES, Cosine(0)], ids=lambda schedule: type(schedule).__name__)
def test_a_token_survives_with_probability_alpha(schedule):
    """Within five standard errors, at a time of its own for each sequence, and whatever its neighbour does."""
    t = torch.tensor([0.05, 0.4, 0.8])
    x_0 = torch.arange(5).expand(3, 20_000, 5).reshape(60_000, 5)
    x_t = forward.mask_tokens(schedule, x_0, forward.uniform_like(x_0, seeded(3)), t.repeat_interleave(20_000), 7)
    assert ((x_t == x_0) | (x_t == 7)).all() and x_t.dtype == torch.int64
    for part, alpha in zip((x_t == x_0).double().split(20_000), schedule.alpha(t)):
        agree(part, float(alpha))
        agree(part[:, 0] * part[:, 4], float(alpha) ** 2)


def test_tokens_at_the_ends_of_time():
    x_0 = torch.arange(6).reshape(2, 3)
    for schedule in SCHEDULES:
        assert torch.equal(forward.mask_tokens(schedule, x_0, forward.uniform_like(x_0, seeded()), 0.0, 9), x_0)
        if schedule.alpha(1) < 1e-9:
            assert (forward.mask_tokens(schedule, x_0, torch.full((2, 3), 1e-7), 1.0, 9) == 9).all()


def test_masking_in_two_steps_is_masking_in_one():
    """What survives until s survives until t with probability alpha_t / alpha_s; with one noise, masks only grow."""
    s, t, schedule = 0.3, 0.7, Cosine()
    x_0 = torch.zeros(100_000, 1, dtype=torch.int64)
    x_s = forward.mask_tokens(schedule, x_0, forward.uniform_like(x_0, seeded(1)), s, 1)
    survives = forward.uniform_like(x_0, seeded(2)) < float(schedule.alpha(t) / schedule.alpha(s))
    agree((survives & (x_s == 0)).double(), float(schedule.alpha(t)))
    noise = forward.uniform_like(x_0, seeded(3))
    at_s, at_t = (forward.mask_tokens(schedule, x_0, noise, time, 1) for time in (s, t))
    assert (at_t >= at_s).all()


def walk(betas, x_0, n, seed):
    """n walks along the chain from x_0, as noising_step makes them: yields the samples after every step."""
    generator = seeded(seed)
    x = x_0.expand(n, *x_0.shape)
    for beta in betas:
        x = forward.noising_step(x, beta, forward.noise_like(x, generator))
        yield x


def test_chain_equals_closed_form():
    """20,000 walks of 40 steps: mean, variance and fourth moment are those of one jump (Ho et al. 2020, eq. 4)."""
    betas = torch.linspace(0.01, 0.1, 40).double()
    schedule, x_0 = Betas(betas), torch.tensor([0.8, -0.3]).double()
    for i, x in enumerate(walk(betas, x_0, 20_000, seed=2), 1):
        if i in (1, 15, 40):
            alpha, sigma = schedule.scales(i / 40, like=x_0)
            agree(x, alpha * x_0)
            agree((x - alpha * x_0) ** 2, sigma**2)
            agree((x - alpha * x_0) ** 4, 3 * sigma**4)


def test_one_jump_has_the_stated_moments():
    x_0 = torch.tensor([0.8, -0.3]).double().expand(50_000, 2)
    for schedule in SCHEDULES:
        for t in (0.1, 0.7):
            x = forward.add_noise(schedule, x_0, forward.noise_like(x_0, seeded(3)), t)
            agree(x, schedule.alpha(t) * x_0[0])
            agree((x - schedule.alpha(t) * x_0[0]) ** 2, schedule.sigma(t) ** 2)


def test_add_noise_gives_each_image_its_own_time():
    x_0, noise = normal(4, 2, 3, 3), normal(4, 2, 3, 3, seed=1)
    t = torch.tensor([0.1, 0.35, 0.8, 1.0])
    for schedule in SCHEDULES:
        x_t = forward.add_noise(schedule, x_0, noise, t)
        for i in range(4):
            a, s = float(schedule.alpha(t[i])), float(schedule.sigma(t[i]))
            torch.testing.assert_close(x_t[i], a * x_0[i] + s * noise[i], rtol=1e-13, atol=1e-13)


def test_add_noise_at_the_ends():
    x_0, noise = normal(3, 5), normal(3, 5, seed=1)
    for schedule in SCHEDULES:
        assert torch.equal(forward.add_noise(schedule, x_0, noise, 0.0), x_0)
    torch.testing.assert_close(forward.add_noise(Linear(), x_0, noise, 1.0), noise)


def by_bayes(schedule, x_0, x_t, t, s):
    """Mean and standard deviation of q(x_s | x_0) times q(x_t | x_s), read as a function of x_s: a Gaussian again."""
    alpha_t, sigma_t = float(schedule.alpha(t)), float(schedule.sigma(t))
    alpha_s, sigma_s = float(schedule.alpha(s)), float(schedule.sigma(s))
    shrink = alpha_t / alpha_s
    added = sigma_t**2 - shrink**2 * sigma_s**2  # variance that the step from s to t adds
    precision = 1 / sigma_s**2 + shrink**2 / added
    mean = (alpha_s * x_0 / sigma_s**2 + shrink * x_t / added) / precision
    return mean, precision**-0.5


@given(st.sampled_from(SCHEDULES), st.floats(0.05, 0.98), st.floats(0.02, 0.98))
def test_posterior_is_bayes_rule(schedule, t, share):
    s = t * share
    x_0, x_t = normal(2, 3), normal(2, 3, seed=1)
    mean, std = forward.posterior(schedule, x_0, x_t, t, s)
    right_mean, right_std = by_bayes(schedule, x_0, x_t, t, s)
    torch.testing.assert_close(mean, right_mean, rtol=1e-8, atol=1e-8)
    assert float(std) == pytest.approx(right_std, rel=1e-8)


def test_posterior_of_a_batch_with_different_times():
    t, s = torch.tensor([0.2, 0.5, 0.9]).double(), torch.tensor([0.1, 0.01, 0.85]).double()
    x_0, x_t = normal(3, 1, 4, 4), normal(3, 1, 4, 4, seed=1)
    for schedule in SCHEDULES:
        mean, std = forward.posterior(schedule, x_0, x_t, t, s)
        assert std.shape == (3, 1, 1, 1)
        for i in range(3):
            right_mean, right_std = by_bayes(schedule, x_0[i], x_t[i], t[i], s[i])
            torch.testing.assert_close(mean[i], right_mean, rtol=1e-9, atol=1e-9)
            assert float(std[i]) == pytest.approx(right_std, rel=1e-9)


def test_posterior_is_ddpm_s_formula():
    """Ho et al. 2020, eq. 7, in their own symbols, for every step of a chain."""
    beta = torch.linspace(1e-4, 0.02, 100).double()
    alpha = 1 - beta
    alpha_bar = alpha.cumprod(0)
    before = torch.cat([torch.ones(1).double(), alpha_bar[:-1]])
    x_0, x_t = normal(1, 5), normal(1, 5, seed=1)
    for i in range(100):
        mean, std = forward.posterior(Betas(beta), x_0, x_t, (i + 1) / 100, i / 100)
        right = (
            before[i].sqrt() * beta[i] / (1 - alpha_bar[i]) * x_0
            + alpha[i].sqrt() * (1 - before[i]) / (1 - alpha_bar[i]) * x_t
        )
        torch.testing.assert_close(mean, right, rtol=1e-9, atol=1e-9)
        beta_tilde = (1 - before[i]) / (1 - alpha_bar[i]) * beta[i]
        assert float(std) ** 2 == pytest.approx(float(beta_tilde), rel=1e-8, abs=1e-18)


def test_posterior_ends_at_x_0():
    """The step to s = 0 has nothing left to guess: the mean is x_0 and no noise is added."""
    x_0, x_t = normal(2, 3), normal(2, 3, seed=1)
    for schedule in SCHEDULES:
        mean, std = forward.posterior(schedule, x_0, x_t, 0.4, 0.0)
        assert torch.equal(mean, x_0) and float(std) == 0


def test_posterior_describes_simulated_walks():
    """Walk from x_0 to s and on to t, 40,000 times: what is left of x_s after the mean knows nothing of x_t."""
    betas = torch.linspace(0.02, 0.2, 20).double()
    schedule, x_0 = Betas(betas), torch.tensor([0.8]).double()
    states = list(walk(betas, x_0, 40_000, seed=4))
    x_s, x_t = states[8 - 1], states[15 - 1]
    mean, std = forward.posterior(schedule, x_0.expand(40_000, 1), x_t, 15 / 20, 8 / 20)
    left = x_s - mean
    agree(left, 0.0)
    agree(left * (x_t - x_t.mean()), 0.0)
    agree(left**2, std**2)


@pytest.mark.gpu
def test_forward_on_a_gpu_is_that_of_the_cpu():
    x_0 = normal(4, 1, 8, 8, dtype=torch.float32)
    noise = forward.noise_like(x_0, seeded(1))
    assert torch.equal(forward.noise_like(x_0.cuda(), seeded(1)).cpu(), noise)  # a CPU generator: the same picture
    t, s = torch.tensor([0.2, 0.5, 0.9, 1.0]), torch.tensor([0.1, 0.01, 0.85, 0.5])
    x_t = forward.add_noise(Cosine(), x_0, noise, t)
    torch.testing.assert_close(forward.add_noise(Cosine(), x_0.cuda(), noise.cuda(), t).cpu(), x_t)
    torch.testing.assert_close(forward.add_noise(Cosine(), x_0.cuda(), noise.cuda(), t.cuda()).cpu(), x_t)
    here = forward.posterior(Cosine(), x_0, x_t, t, s)
    there = forward.posterior(Cosine(), x_0.cuda(), x_t.cuda(), t.cuda(), s.cuda())
    for a, b in zip(here, there):
        torch.testing.assert_close(a, b.cpu())

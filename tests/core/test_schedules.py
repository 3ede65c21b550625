"""schedules: against exact fractions and 60-digit arithmetic, not against the formulas' own floating point."""

import math
from fractions import Fraction

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_lib.schedules import Betas, Cosine, Linear, Shifted, reshape_like
from tests.common import relative

T = 1000
VARIANCE_PRESERVING = [Betas.linear(), Betas([0.1, 0.3, 0.2]), Cosine(), Cosine(0), Shifted(Cosine(), 2.0)]
SCHEDULES = VARIANCE_PRESERVING + [Linear(), Shifted(Linear(), 0.5)]
names = [f"{type(schedule).__name__}-{k}" for k, schedule in enumerate(SCHEDULES)]
mpmath.mp.dps = 60


def exact_alpha_bar(betas):
    """[1, 1 - beta_1, (1 - beta_1)(1 - beta_2), ...] as fractions of the very numbers that the floats stand for."""
    products = [Fraction(1)]
    for beta in betas:
        products.append(products[-1] * (1 - Fraction(float(beta))))
    return products


def root(fraction):
    """The square root of a fraction, right to the last digit of a float."""
    return float(mpmath.sqrt(mpmath.mpf(fraction.numerator) / fraction.denominator))


def nichol_alpha_bar(t, s=0.008):
    """f(t) / f(0) with f(t) = cos^2((t + s) / (1 + s) pi / 2), eq. 17 of Nichol and Dhariwal, in 60 digits."""

    def f(t):
        return mpmath.cos((mpmath.mpf(t) + mpmath.mpf(s)) / (1 + mpmath.mpf(s)) * mpmath.pi / 2) ** 2

    return f(t) / f(0)


@pytest.mark.parametrize("schedule", VARIANCE_PRESERVING, ids=names[:5])
def test_signal_and_noise_variance_sum_to_one(schedule):
    t = torch.linspace(0, 1, 501, dtype=torch.float64)
    torch.testing.assert_close(
        schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones(501).double(), rtol=0, atol=4e-15
    )


def test_linear_sums_to_one_without_squares():
    t = torch.linspace(0, 1, 501, dtype=torch.float64)
    assert torch.equal(Linear().alpha(t) + Linear().sigma(t), torch.ones(501).double())
    assert torch.equal(Linear().sigma(t), t)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_begins_clean_and_ends_in_noise(schedule):
    assert float(schedule.alpha(0)) == 1 and float(schedule.sigma(0)) == 0
    assert float(schedule.sigma(1)) > float(schedule.sigma(0.5)) > 0
    assert float(schedule.log_snr(0)) == math.inf


def test_betas_are_the_cumulative_product():
    for betas in (torch.linspace(1e-4, 0.02, 300).double(), [0.1, 0.2], [1e-9, 0.5]):
        steps = len(betas)
        t = torch.arange(steps + 1, dtype=torch.float64) / steps
        alpha_bar = exact_alpha_bar(betas)
        schedule = Betas(betas)
        assert relative(schedule.alpha(t), [root(a) for a in alpha_bar]) < 1e-13
        # 1 - alpha_bar loses half its digits at the first steps where it is taken in floating point.
        assert relative(schedule.sigma(t)[1:], [root(1 - a) for a in alpha_bar[1:]]) < 1e-12


def test_ddpm_s_schedule_has_the_paper_s_numbers():
    """Ho et al. 2020, sec. 4: 1,000 steps from 1e-4 to 0.02, which leave almost no signal."""
    schedule = Betas.linear()
    betas = schedule.betas(T)
    assert betas[0].item() == pytest.approx(1e-4, rel=1e-9) and betas[-1].item() == pytest.approx(0.02, rel=1e-9)
    torch.testing.assert_close(betas.diff(), torch.full((T - 1,), (0.02 - 1e-4) / (T - 1)).double(), rtol=1e-6, atol=0)
    alpha_bar = exact_alpha_bar([1e-4 + (0.02 - 1e-4) * i / (T - 1) for i in range(T)])[-1]
    assert float(schedule.alpha(1.0)) ** 2 == pytest.approx(float(alpha_bar), rel=1e-9)
    assert 4.0e-5 < float(alpha_bar) < 4.1e-5


def test_between_the_steps_the_logarithm_is_a_line():
    schedule = Betas([0.1, 0.2, 0.4])
    one, two = schedule.alpha(1 / 3), schedule.alpha(2 / 3)
    assert float(schedule.alpha(0.5)) == pytest.approx(float((one * two) ** 0.5), rel=1e-14)


@given(st.integers(1, 2000), st.data())
def test_a_step_i_of_T_hits_its_row(steps, data):
    """i / T comes out of float arithmetic beside i; the table must not be read one row off."""
    i = data.draw(st.integers(0, steps))
    betas = torch.full((steps,), 0.01, dtype=torch.float64)
    assert float(Betas(betas).alpha(i / steps)) == pytest.approx(0.99 ** (i / 2), rel=1e-11)


@pytest.mark.parametrize("offset", [0.0, 0.008, 0.1])
def test_cosine_is_nichol_and_dhariwal_s(offset):
    times = [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-4, 0.01, 0.3, 0.5, 0.9, 0.999, 1 - 1e-9]
    schedule = Cosine(offset)
    exact = [nichol_alpha_bar(t, offset) for t in times]
    t = torch.tensor(times, dtype=torch.float64)
    assert relative(schedule.alpha(t), [float(mpmath.sqrt(a)) for a in exact]) < 1e-6
    assert relative(schedule.alpha(t)[:-1], [float(mpmath.sqrt(a)) for a in exact[:-1]]) < 1e-12
    # Near t = 0 the noise has its digits only if neither 1 - alpha_bar nor the difference of two angles is formed.
    right = [float(mpmath.sqrt(1 - a)) for a in exact]
    assert relative(schedule.sigma(t), right) < 1e-12


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_cosine_s_betas_are_nichol_and_dhariwal_s(steps):
    right = [
        min(0.999, float(1 - nichol_alpha_bar(mpmath.mpf(i) / steps) / nichol_alpha_bar(mpmath.mpf(i - 1) / steps)))
        for i in range(1, steps + 1)
    ]
    assert relative(Cosine().betas(steps), right) < 1e-9


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_betas_there_and_back(schedule):
    """A chain with the schedule's betas visits the schedule's scales, up to the last step, which is capped."""
    steps = 120
    t = torch.arange(steps, dtype=torch.float64) / steps
    torch.testing.assert_close(Betas(schedule.betas(steps)).alpha(t), schedule.alpha(t), rtol=1e-9, atol=0)
    assert float(schedule.betas(steps).max()) <= 0.999
    assert float(schedule.betas(steps, largest=0.3).max()) <= 0.3


@given(st.lists(st.floats(1e-6, 0.9), min_size=1, max_size=50))
def test_a_chain_gives_its_betas_back(betas):
    betas = torch.tensor(betas, dtype=torch.float64)
    torch.testing.assert_close(Betas(betas).betas(len(betas)), betas, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_signal_to_noise_never_rises(schedule):
    @given(st.floats(0, 1), st.floats(0, 1))
    def check(a, b):
        s, t = min(a, b), max(a, b)
        assert schedule.log_snr(t) <= schedule.log_snr(s)
        if t - s > 1e-3:
            assert schedule.log_snr(t) < schedule.log_snr(s)

    check()


def test_log_snr_is_the_logarithm_of_the_ratio_of_variances():
    assert float(Linear().log_snr(0.2)) == pytest.approx(math.log(0.8**2 / 0.2**2), rel=1e-14)
    betas = [0.1, 0.2]
    assert float(Betas(betas).log_snr(1)) == pytest.approx(math.log(0.72 / 0.28), rel=1e-14)


@given(st.floats(0.1, 10), st.floats(0.001, 0.999))
def test_shifted_divides_the_ratio_by_the_factor_s_square(factor, t):
    for schedule in (Cosine(), Linear(), Betas.linear(100)):
        shifted = Shifted(schedule, factor)
        assert float(schedule.log_snr(t) - shifted.log_snr(t)) == pytest.approx(2 * math.log(factor), abs=1e-9)
        assert float(shifted.alpha(t) ** 2 + shifted.sigma(t) ** 2) == pytest.approx(1, abs=1e-14)


def test_fresh_share_is_ddpm_s_ratio():
    """beta_i / (1 - alpha_bar_i) for one step, in fractions."""
    betas = torch.linspace(1e-4, 0.02, 200).double()
    alpha_bar = exact_alpha_bar(betas)
    i = torch.arange(1, 201, dtype=torch.float64)
    fresh = Betas(betas).fresh_share(i / 200, (i - 1) / 200, like=torch.zeros(200, dtype=torch.float64))
    right = [float(Fraction(float(beta)) / (1 - a)) for beta, a in zip(betas, alpha_bar[1:])]
    assert relative(fresh, right) < 1e-9


def test_fresh_share_is_the_share_of_the_noise_that_came_after_s():
    """x_t = r x_s + rest: the rest has variance sigma_t^2 - r^2 sigma_s^2, in 60 digits."""
    for t, s in [(0.9, 0.2), (0.5, 0.499), (0.3, 0.3 - 1e-6), (1e-3, 1e-4)]:
        a_t, a_s = nichol_alpha_bar(t), nichol_alpha_bar(s)
        right = float((1 - a_t - a_t / a_s * (1 - a_s)) / (1 - a_t))
        assert float(Cosine().fresh_share(t, s, like=torch.zeros(1).double())) == pytest.approx(right, rel=1e-8)


def test_fresh_share_at_the_ends():
    like = torch.zeros(2, 3, dtype=torch.float64)
    for schedule in SCHEDULES:
        assert float(schedule.fresh_share(0.7, 0.0, like)) == 1
        assert float(schedule.fresh_share(0.3, 0.6, like)) == 0
        share = schedule.fresh_share(torch.tensor([0.5, 0.9]), torch.tensor([0.0, 0.4]), like)
        assert share.shape == (2, 1) and share[0] == 1 and 0 < share[1] < 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_scales_multiply_what_they_are_made_for(dtype):
    like = torch.ones(3, 2, 5, 4, dtype=dtype)
    times = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    alpha, sigma = Cosine().scales(0.5, like)
    assert alpha.shape == sigma.shape == () and alpha.dtype == sigma.dtype == dtype
    alpha, sigma = Cosine().scales(times, like)
    assert alpha.shape == sigma.shape == (3, 1, 1, 1) and alpha.dtype == dtype
    for i, t in enumerate(times.tolist()):  # each sample has the scales of its own time
        assert alpha[i].item() == Cosine().alpha(t).to(dtype).item() and sigma[i].item() == Cosine().sigma(t).to(dtype)
    assert Cosine().scales(times, torch.ones(3, dtype=dtype))[0].shape == (3,)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=names)
def test_scales_along_many_times_are_those_of_each(schedule):
    times = torch.tensor([1.0, 0.7, 1e-6, 0.0], dtype=torch.float64)
    for asked in (times, times.tolist(), times.float()):
        exact = torch.as_tensor(asked, dtype=torch.float64)
        for t, (when, alpha_t, sigma_t, log_snr_t) in zip(exact, schedule.along(asked), strict=True):
            assert when.shape == () and when.dtype == torch.float64 and when == t
            assert (alpha_t, sigma_t) == pytest.approx((float(schedule.alpha(t)), float(schedule.sigma(t))), rel=1e-12)
            assert log_snr_t == pytest.approx(float(schedule.log_snr(t)), rel=1e-12)
            assert all(type(number) is float for number in (alpha_t, sigma_t, log_snr_t))
    assert [t.tolist() for t, *_ in schedule.along(torch.tensor([0.25, 0.5]).flip(0))] == [0.5, 0.25]


def test_scales_follow_the_device():
    alpha, sigma = Betas.linear().scales(0.5, like=torch.zeros(2, 3, device="meta"))
    assert alpha.device.type == sigma.device.type == "meta"


def test_times_may_be_numbers_or_tensors_of_any_kind():
    for schedule in SCHEDULES:
        right = schedule.alpha(0.5)
        for t in (torch.tensor(0.5), torch.tensor(0.5, dtype=torch.float16), torch.tensor(0.5).double()):
            assert torch.equal(schedule.alpha(t), right) and schedule.alpha(t).dtype == torch.float64
        assert torch.equal(schedule.alpha([0.5, 0.5]), right.expand(2))
        assert torch.equal(schedule.alpha(1), schedule.alpha(1.0))


def test_reshape_like_leaves_one_time_alone():
    assert reshape_like(torch.tensor(2.0), torch.zeros(4, 3)).shape == ()
    assert reshape_like(torch.arange(4.0), torch.zeros(4, 3, 2)).shape == (4, 1, 1)


@pytest.mark.gpu
def test_scales_on_a_gpu_are_those_of_the_cpu():
    t = torch.linspace(0, 1, 65, dtype=torch.float64)
    like = torch.zeros(65, 3)
    for schedule in SCHEDULES:
        for here, there in zip(schedule.scales(t, like), schedule.scales(t.cuda(), like.cuda())):
            assert there.is_cuda
            torch.testing.assert_close(here, there.cpu(), rtol=1e-6, atol=1e-12)
        assert schedule.scales(0.5, like.cuda())[0].is_cuda

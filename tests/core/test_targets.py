"""targets: round trips, the definitions of the papers, and what the targets mean (velocities, unit variance)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_lib.targets import FLOW, NOISE, X_0, Target, V, edm
from tests.common import agree, normal, seeded

ALL = [NOISE, X_0, V, FLOW, edm(0.5), edm(1.3)]
numbers = st.floats(-3, 3)
angles = st.floats(0.02, math.pi / 2 - 0.02)


def tensors(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


@given(st.sampled_from(ALL), angles, st.floats(0.5, 1.5), numbers, numbers)
def test_every_target_gives_x_0_and_noise_back(target, angle, length, x_0, noise):
    """Also where alpha^2 + sigma^2 is not 1."""
    alpha, sigma, x_0, noise = tensors(length * math.cos(angle), length * math.sin(angle), x_0, noise)
    x_t, output = alpha * x_0 + sigma * noise, target.mix(x_0, noise, alpha, sigma)
    torch.testing.assert_close(target.recover_x_0(output, x_t, alpha, sigma), x_0, rtol=0, atol=1e-10)
    torch.testing.assert_close(target.recover_noise(output, x_t, alpha, sigma), noise, rtol=0, atol=1e-10)


@given(st.sampled_from(ALL), angles, numbers, numbers)
def test_any_output_solves_the_two_equations(target, angle, output, x_t):
    """A network's output need not come from any x_0 and noise; what is recovered must still fit both equations."""
    alpha, sigma, output, x_t = tensors(math.cos(angle), math.sin(angle), output, x_t)
    x_0, noise = (recover(output, x_t, alpha, sigma) for recover in (target.recover_x_0, target.recover_noise))
    torch.testing.assert_close(alpha * x_0 + sigma * noise, x_t, rtol=0, atol=1e-9)
    torch.testing.assert_close(target.mix(x_0, noise, alpha, sigma), output, rtol=0, atol=1e-9)


def test_the_definitions():
    alpha, sigma, x_0, noise = tensors(0.6, 0.8, 2.0, -1.0)
    assert NOISE.mix(x_0, noise, alpha, sigma) == noise
    assert X_0.mix(x_0, noise, alpha, sigma) == x_0
    assert V.mix(x_0, noise, alpha, sigma).item() == pytest.approx(0.6 * -1 - 0.8 * 2)  # alpha noise - sigma x_0
    assert FLOW.mix(x_0, noise, alpha, sigma) == noise - x_0
    assert V.recover_x_0(tensors(0.5)[0], tensors(0.3)[0], alpha, sigma).item() == pytest.approx(0.6 * 0.3 - 0.8 * 0.5)


def test_v_is_the_velocity_along_the_circle():
    """Salimans and Ho 2022, app. D: with alpha = cos u and sigma = sin u, v = d x_t / d u."""
    x_0, noise, u = normal(5), normal(5, seed=1), torch.tensor(0.7).double()
    velocity = torch.autograd.functional.jacobian(lambda u: u.cos() * x_0 + u.sin() * noise, u)
    torch.testing.assert_close(V.mix(x_0, noise, u.cos(), u.sin()), velocity)


def test_flow_is_the_velocity_along_the_line():
    x_0, noise, t = normal(5), normal(5, seed=1), torch.tensor(0.3).double()
    velocity = torch.autograd.functional.jacobian(lambda t: (1 - t) * x_0 + t * noise, t)
    torch.testing.assert_close(FLOW.mix(x_0, noise, 1 - t, t), velocity)


@given(st.floats(0.1, 2), angles, numbers, numbers)
def test_edm_is_karras_s_preconditioning(data_std, angle, x_t, output):
    """Table 1 of Karras et al. 2022, where x = x_t / alpha has noise of standard deviation sigma / alpha."""
    alpha, sigma, x_t, output = tensors(math.cos(angle), math.sin(angle), x_t, output)
    level = sigma / alpha
    c_skip = data_std**2 / (level**2 + data_std**2)
    c_out = level * data_std / (level**2 + data_std**2).sqrt()
    right = c_skip * x_t / alpha + c_out * output
    torch.testing.assert_close(edm(data_std).recover_x_0(output, x_t, alpha, sigma), right, rtol=1e-9, atol=1e-9)


def test_edm_s_network_learns_a_target_of_variance_one():
    """What the preconditioning is for (Karras et al. 2022, app. B.6): unit variance at every noise level."""
    x_0 = 0.5 * torch.randn(100_000, generator=seeded(), dtype=torch.float64)
    noise = torch.randn(100_000, generator=seeded(1), dtype=torch.float64)
    for u in (0.05, 0.5, 1.2, 1.55):
        alpha, sigma = tensors(math.cos(u), math.sin(u))
        agree(edm(0.5).mix(x_0, noise, alpha, sigma) ** 2, 1.0)


def test_determinant_is_zero_where_a_target_says_nothing():
    one, zero = tensors(1.0, 0.0)
    assert NOISE.determinant(zero, one) == 0 and X_0.determinant(one, zero) == 0
    assert V.determinant(zero, one).abs() == V.determinant(one, zero).abs() == 1
    assert FLOW.determinant(zero, one).abs() == FLOW.determinant(one, zero).abs() == 1


def test_a_target_of_your_own_is_two_weights():
    mine = Target("half", lambda alpha_t, sigma_t: (0.5, 0.5))
    x_0, noise = normal(4), normal(4, seed=1)
    alpha, sigma = tensors(0.8, 0.6)
    output = mine.mix(x_0, noise, alpha, sigma)
    torch.testing.assert_close(mine.recover_x_0(output, alpha * x_0 + sigma * noise, alpha, sigma), x_0)


def test_times_of_a_batch_broadcast():
    x_0, noise = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1)
    u = torch.tensor([0.3, 0.8, 1.4]).double()[:, None, None, None]
    for target in ALL:
        output = target.mix(x_0, noise, u.cos(), u.sin())
        x_t = u.cos() * x_0 + u.sin() * noise
        torch.testing.assert_close(target.recover_x_0(output, x_t, u.cos(), u.sin()), x_0)
        torch.testing.assert_close(target.recover_noise(output, x_t, u.cos(), u.sin()), noise)

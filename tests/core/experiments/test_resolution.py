"""resolution: large pictures drown later, and a shifted schedule hides them as the plain one hides the small."""

import math

import pytest
import torch
import torch.nn.functional as F

from diffusion_lib import forward, measured
from diffusion_lib.experiments import resolution
from diffusion_lib.schedules import Cosine, Linear, Shifted
from tests.common import agree, normal

from .common import CPU, silent


@pytest.mark.parametrize("factor", [2, 4])
def test_averaging_divides_the_noise_and_keeps_the_picture(factor):
    x_0 = normal(3, 2, 6, 5)
    torch.testing.assert_close(F.avg_pool2d(resolution.enlarge(x_0, factor), factor), x_0)
    noise = normal(1, 1, 400 * factor, 100 * factor)
    agree(F.avg_pool2d(noise, factor).flatten() ** 2, 1 / factor**2)


@pytest.mark.parametrize("schedule", [Cosine(), Linear()])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_shifted_schedule_hides_the_large_picture_as_the_plain_one_hides_the_small(schedule, factor):
    """After the mean over squares: the same signal-to-noise ratio at every time, whatever the size."""
    for t in (0.1, 0.5, 0.9):
        x_0, noise = normal(1, 1, 4, 4), normal(1, 1, 4 * factor, 4 * factor, seed=1)
        x_t = forward.add_noise(Shifted(schedule, factor), resolution.enlarge(x_0, factor), noise, t)
        alpha, sigma = schedule.scales(t, like=x_0)
        small_noise = factor * F.avg_pool2d(noise, factor)  # standard normal again
        small = F.avg_pool2d(x_t, factor)
        length = float(Shifted(schedule, factor).length(torch.tensor(t)))
        torch.testing.assert_close(small * length, alpha * x_0 + sigma * small_noise)
        shift = Shifted(schedule, factor).log_snr(torch.tensor(t)) - schedule.log_snr(torch.tensor(t))
        assert float(shift) == pytest.approx(-2 * math.log(factor))


def test_crossing_is_read_off_the_line():
    assert resolution.crossing([0.1, 0.2, 0.4], [0.9, 0.6, 0.2]) == pytest.approx(0.25)
    assert resolution.crossing([0.0, 1.0], [1.0, 0.0], level=0.25) == pytest.approx(0.75)


def test_large_digits_are_read_longer_unless_the_schedule_is_shifted():
    results = resolution.measure_resolution(
        CPU, [0], silent, n=200, factors=(1, 2), times=tuple(i / 10 for i in range(1, 10))
    )
    half_at = {(row["shifted"], row["side"]): row["half_at"] for row in results["rows"]}
    assert half_at[False, 28] == half_at[True, 28]
    assert half_at[False, 56] > half_at[False, 28] + 0.12
    assert abs(half_at[True, 56] - half_at[True, 28]) < 0.03


def test_shifted_schedules_bring_all_sizes_onto_one_curve():
    rows = measured.read("resolution")["rows"]
    plain, shifted = ([row for row in rows if row["shifted"] is flag] for flag in (False, True))
    for side, low, high in ((28, 0.58, 0.62), (56, 0.77, 0.79), (112, 0.87, 0.90)):
        assert all(low < row["half_at"] < high for row in plain if row["side"] == side)
    assert all(0.58 < row["half_at"] < 0.62 for row in shifted)
    curves = torch.tensor([row["accuracy"] for row in shifted])
    assert float((curves - curves.mean(0)).abs().max()) < 0.05

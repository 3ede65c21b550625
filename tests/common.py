"""What several test modules share: generators of their own, Monte Carlo with its error, and lessons read once."""

import functools

import torch

from diffusion_lib.schedules import Schedule
from tools.rules import read


@functools.cache
def lesson_at(path):
    """A lesson's notebook, read and validated once in a process; look at it, and do not change it."""
    return read(path)


def seeded(seed=0):
    """A generator of its own, so that no test depends on another."""
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def agree(samples, expected, errors=5.0):
    """Whether the mean over axis 0 of samples lies within so many of its standard errors of what is expected.

    Five standard errors: a right value fails once in two million draws, and the seeds are fixed.
    """
    samples = samples.double()
    error = samples.std(0) / len(samples) ** 0.5
    off = (samples.mean(0) - expected).abs()
    assert (off <= errors * error).all(), f"mean {samples.mean(0)}, expected {expected}, standard error {error}"


def relative(got, right):
    """The largest relative difference of two tensors."""
    got, right = torch.as_tensor(got, dtype=torch.float64), torch.as_tensor(right, dtype=torch.float64)
    assert got.shape == right.shape, (got.shape, right.shape)
    return float(((got - right).abs() / right.abs().clamp(min=1e-300)).max())


class Counting(Schedule):
    """A schedule that writes down what it is asked."""

    def __init__(self, schedule):
        self.schedule, self.asked = schedule, []

    def alpha(self, t):
        self.asked.append("alpha")
        return self.schedule.alpha(t)

    def sigma(self, t):
        self.asked.append("sigma")
        return self.schedule.sigma(t)

"""Exercises of lesson 01: one step, one jump, the cosine schedule and its betas, the length of a chain, a museum."""

import math

import numpy as np
import torch

from ..data import digits
from ..forward import add_noise
from ..schedules import Betas, Cosine, Linear
from . import Exercise, Untouched, Wrong, ask, ask_tensor, compare, describe

# ---------------------------------------------------------------------------------------------- 01.1 one step


def noising_step(x, beta, generator):
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return (1 - beta) ** 0.5 * x + beta**0.5 * noise


def test_noising_step(answer):
    """Takes the result apart into (signal scale) * x + noise, and looks at each part."""
    for shape, beta, seed in [((300, 1, 6, 5), 0.3, 1), ((150, 3, 5, 4), 0.05, 2), ((400, 2, 3, 5), 0.6, 3)]:
        generator = torch.Generator().manual_seed(seed)
        x = 0.7 + 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
        y = ask_tensor(answer, x, torch.tensor(beta, dtype=x.dtype), generator, shape=shape).double()
        if symptom := shared_noise(x, y) or noise_symptom(x, y, beta) or signal_symptom(x, y, beta):
            return symptom
    twice = [ask(answer, x, torch.tensor(beta, dtype=x.dtype), torch.Generator().manual_seed(7)) for _ in range(2)]
    if not torch.equal(*twice):
        return "Two generators of the same seed give two results: who draws your noise, if not the generator?"
    generator = torch.Generator().manual_seed(7)
    first, second = (ask(answer, x, torch.tensor(beta, dtype=x.dtype), generator) for _ in range(2))
    if torch.equal(first, second):
        return "Two calls in a row give the same noise: do you make or seed a generator of your own?"
    return None


def fit(x, y, dims=None):
    """Least squares y = scale * x + rest: scale and rest. x and y are centred over dims first (all if None)."""
    dims = tuple(range(x.ndim)) if dims is None else dims
    centred_x, centred_y = x - x.mean(dims, keepdim=True), y - y.mean(dims, keepdim=True)
    scale = (centred_x * centred_y).sum() / (centred_x**2).sum()
    return scale, centred_y - scale * centred_x


def shared_noise(x, y):
    """Numbers that share their noise differ only by what their x differ."""
    if fit(x, y)[1].std() < 1e-5:
        return "For a given x your result has no randomness at all: where is the noise?"
    for dims, message in [
        ((0,), "All images of the batch carry the very same noise pattern: which shape do you ask randn for?"),
        ((1,), "All channels of an image carry the same noise: which shape do you ask randn for?"),
        ((2, 3), "Every pixel of an image moves by the same amount: which shape do you ask randn for?"),
        ((2,), "All rows of an image carry the same noise: which shape do you ask randn for?"),
        ((3,), "All columns of an image carry the same noise: which shape do you ask randn for?"),
    ]:
        if math.prod(x.shape[d] for d in dims) > 1 and fit(x, y, dims)[1].std() < 1e-5:
            return message
    return None


def noise_symptom(x, y, beta):
    scale, rest = fit(x, y)
    n = x.numel()
    mean, variance = float((y - scale * x).mean()), float(rest.var())
    if abs(mean) > 6 * (variance * (1 + float(x.mean()) ** 2) / n) ** 0.5:
        return (
            f"With x removed, your noise has mean {mean:.2f} where 0 is expected, so every step makes the pictures "
            "brighter: is that a normal distribution?"
        )
    if near(variance, beta, n):
        if abs(float((rest**4).mean()) / variance**2 - 3) > 0.4:
            return (
                "Mean and variance of your noise are right, and yet it is never far out: "
                f"its largest number is {float(rest.abs().max()) / variance**0.5:.1f} standard deviations. "
                "Is that a normal distribution?"
            )
        return None
    begin = f"With x removed, your noise has variance {variance:.3f} where {beta:g} is expected"
    if near(variance, beta**2, n):
        return (
            f"{begin}, and {beta:g} squared is {beta**2:.3f}: "
            "is the noise multiplied by a variance instead of a standard deviation?"
        )
    if near(variance, 1 - beta, n):
        return f"{begin}, and 1 - {beta:g} is {1 - beta:g}: which of the two scales belongs to the noise?"
    if near(variance, 1, n):
        return f"{begin}: does beta reach the noise?"
    return f"{begin}."


def near(variance, expected, n):
    return abs(variance / expected - 1) < 6 * (2 / n) ** 0.5


def signal_symptom(x, y, beta):
    scale = float(fit(x, y)[0])
    error = 6 * (beta / x.numel()) ** 0.5 / 1.5
    if abs(scale - (1 - beta) ** 0.5) < error:
        return None
    begin = f"The noise is right. But x comes out multiplied by {scale:.3f} where {(1 - beta) ** 0.5:.3f} is expected"
    if abs(scale - 1) < error:
        return f"{begin}: with noise added and nothing taken away, how large is the variance after a thousand steps?"
    if abs(scale - (1 - beta)) < error:
        return f"{begin}, its square: is 1 - beta what remains of the scale, or of the variance?"
    return f"{begin}."


def step_with(scale, noise):
    """A wrong step: scale(beta) * x + noise(x.shape, generator, beta)."""
    return lambda x, beta, generator: scale(beta) * x + noise(x.shape, generator, beta)


def randn(shape, generator):
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def rand(shape, generator):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def root_of_rest(beta):
    return (1 - beta) ** 0.5


STEP_MISTAKES = {
    "beta for its root": (step_with(root_of_rest, lambda s, g, b: b * randn(s, g)), "variance instead of"),
    "rand for randn": (step_with(root_of_rest, lambda s, g, b: b**0.5 * rand(s, g)), "brighter"),
    "uniform with the right variance": (
        step_with(root_of_rest, lambda s, g, b: (12 * b) ** 0.5 * (rand(s, g) - 0.5)),
        "never far out",
    ),
    "one noise shared by the batch": (step_with(root_of_rest, lambda s, g, b: b**0.5 * randn(s[1:], g)), "very same"),
    "one noise shared by the channels": (
        step_with(root_of_rest, lambda s, g, b: b**0.5 * randn((s[0], 1, *s[2:]), g)),
        "All channels",
    ),
    "one noise for all rows": (
        step_with(root_of_rest, lambda s, g, b: b**0.5 * randn((*s[:2], 1, s[3]), g)),
        "All rows",
    ),
    "one noise for all columns": (
        step_with(root_of_rest, lambda s, g, b: b**0.5 * randn((*s[:3], 1), g)),
        "All columns",
    ),
    "a generator of its own": (
        step_with(root_of_rest, lambda s, g, b: b**0.5 * randn(s, torch.Generator().manual_seed(0))),
        "of your own",
    ),
    "one number for each image": (
        step_with(root_of_rest, lambda s, g, b: b**0.5 * randn((*s[:2], 1, 1), g)),
        "moves by the same",
    ),
    "no noise": (step_with(root_of_rest, lambda s, g, b: 0), "no randomness"),
    "scales swapped": (step_with(lambda b: b**0.5, lambda s, g, b: root_of_rest(b) * randn(s, g)), "which of the two"),
    "noise not scaled": (step_with(root_of_rest, lambda s, g, b: randn(s, g)), "does beta reach"),
    "data not shrunk": (step_with(lambda b: 1, lambda s, g, b: b**0.5 * randn(s, g)), "nothing taken away"),
    "data shrunk without the root": (
        step_with(lambda b: 1 - b, lambda s, g, b: b**0.5 * randn(s, g)),
        "of the scale, or of the variance",
    ),
    "generator ignored": (
        step_with(root_of_rest, lambda s, g, b: b**0.5 * randn(s, None)),
        "if not the generator",
    ),
}

# ---------------------------------------------------------------------------------------------- 01.2 one jump


class OnlyCurves:
    """A schedule without `scales`, so that the broadcasting is left to the student."""

    def __init__(self, schedule):
        self.alpha, self.sigma = schedule.alpha, schedule.sigma

    @property
    def scales(self):
        raise AttributeError("in this exercise a schedule has only alpha(t) and sigma(t); the shapes are your part")


def one_jump(schedule, x_0, noise, t):
    alpha_t = schedule.alpha(t).to(x_0.dtype).reshape(-1, 1, 1, 1)
    sigma_t = schedule.sigma(t).to(x_0.dtype).reshape(-1, 1, 1, 1)
    return alpha_t * x_0 + sigma_t * noise


def test_one_jump(answer):
    generator = torch.Generator().manual_seed(1)
    betas = Betas(0.02 + 0.1 * rand(30, generator))
    for schedule, B, C, H in [(betas, 5, 2, 3), (Cosine(), 4, 1, 6), (Linear(), 3, 3, 5)]:
        # As many images as columns: a missing reshape then goes unnoticed by torch.
        x_0, noise = (randn((B, C, H, B), generator) + 0.1 for _ in range(2))
        t = (0.15 + 0.7 * rand(1, generator)).expand(B)
        if symptom := same_t_symptom(answer, schedule, x_0, noise, t):
            return symptom
        if symptom := different_t_symptom(answer, schedule, x_0, noise, 0.1 + 0.8 * rand(B, generator)):
            return symptom
    x_0, noise = (randn((6, 1, 4, 3), generator) + 0.1 for _ in range(2))
    t = 0.1 + 0.8 * rand(6, generator)
    if symptom := different_t_symptom(answer, schedule, x_0, noise, t):
        return symptom
    for dtype in (torch.float32, torch.float64):
        result = ask_tensor(answer, OnlyCurves(schedule), x_0.to(dtype), noise.to(dtype), t)
        if result.dtype != dtype:
            return (
                f"Every number is right. But x_0 comes in {describe(x_0.to(dtype)).split()[0]} and leaves in "
                f"{describe(result).split()[0]}, which a network will refuse: which dtype have alpha(t) and sigma(t)?"
            )
    return None


def same_t_symptom(answer, schedule, x_0, noise, t):
    alpha_t, sigma_t = float(schedule.alpha(t)[0]), float(schedule.sigma(t)[0])
    expected, squared = sigma_t**2, sigma_t**4
    root = (
        f"With x_0 = 0 your result has variance {squared:.2f} where {expected:.2f} is expected, and {expected:.2f} "
        f"squared is {squared:.2f}: is the noise multiplied by a variance instead of a standard deviation?"
    )
    slips = {
        root: alpha_t * x_0 + sigma_t**2 * noise,
        root + " And x_0?": alpha_t**2 * x_0 + sigma_t**2 * noise,
        "The noise is right, and x_0 comes out too faint: is it multiplied by alpha_t, or by its square?": (
            alpha_t**2 * x_0 + sigma_t * noise
        ),
        "Early there is much noise, and late none: which scale belongs to the data?": sigma_t * x_0 + alpha_t * noise,
        "Data and noise are both too strong: alpha(t) and sigma(t) are scales already, is there a root too many?": (
            alpha_t**0.5 * x_0 + sigma_t**0.5 * noise
        ),
        "The noise is as strong at every t: where is sigma_t?": alpha_t * x_0 + noise,
        "The data is as strong at every t: where is alpha_t?": x_0 + sigma_t * noise,
        "x_0 is right and the noise is too weak: do the scales add up to 1, or do their squares?": (
            alpha_t * x_0 + (1 - alpha_t) * noise
        ),
        "It is right where the squares of the two scales add up to 1, and wrong for the straight line of flow "
        "matching: do you ask the schedule for its sigma?": alpha_t * x_0 + (1 - alpha_t**2) ** 0.5 * noise,
        "x_0 comes out without a trace: what does your result contain of it?": sigma_t * noise,
    }
    result = asked(answer, schedule, x_0, noise, t)
    if result is None:
        return SHAPES
    return compare(result, alpha_t * x_0 + sigma_t * noise, slips, what="x_t (all images with one t)")


def different_t_symptom(answer, schedule, x_0, noise, t):
    right = add_noise(schedule, x_0, noise, t)
    slips = {
        "Every image comes out at the noise level of the first one: do you use all of t?": (
            add_noise(schedule, x_0, noise, t[0])
        ),
        "Every image comes out at one noise level, that of the mean t: each has its own.": (
            add_noise(schedule, x_0, noise, t.mean())
        ),
    }
    result = asked(answer, schedule, x_0, noise, t)
    if result is None:
        return SHAPES
    symptom = compare(result, right, slips)
    if symptom and symptom not in slips:
        return (
            "It is right when all images share one t and wrong when they differ: "
            "what shape must alpha_t have to multiply (B, C, H, W)?"
        )
    return symptom


SHAPES = "torch cannot fit the shapes together: what shape must alpha_t have to multiply (B, C, H, W)?"


def asked(answer, schedule, x_0, noise, t):
    """x_t, or None if torch could not broadcast."""
    try:
        return ask_tensor(answer, OnlyCurves(schedule), x_0, noise, t, shape=x_0.shape)
    except Wrong as wrong:
        if "The size of tensor" in str(wrong) or "the result has shape" in str(wrong):
            return None
        raise


def jump_with(mix, shape=(-1, 1, 1, 1)):
    """A wrong jump: mix(alpha_t, sigma_t, x_0, noise)."""

    def jump(schedule, x_0, noise, t):
        alpha_t, sigma_t = (scale(t).to(x_0.dtype).reshape(shape) for scale in (schedule.alpha, schedule.sigma))
        return mix(alpha_t, sigma_t, x_0, noise)

    return jump


JUMP_MISTAKES = {
    "variance for the noise": (jump_with(lambda a, s, x, n: a * x + s**2 * n), "variance instead of"),
    "always float32": (lambda *inputs: one_jump(*inputs).float(), "leaves in float32"),
    "variances for both": (jump_with(lambda a, s, x, n: a**2 * x + s**2 * n), "And x_0?"),
    "alpha-bar for the data": (jump_with(lambda a, s, x, n: a**2 * x + s * n), "too faint"),
    "swapped": (jump_with(lambda a, s, x, n: s * x + a * n), "late none"),
    "a root too many": (jump_with(lambda a, s, x, n: a**0.5 * x + s**0.5 * n), "root too many"),
    "noise not scaled": (jump_with(lambda a, s, x, n: a * x + n), "where is sigma_t"),
    "data not shrunk": (jump_with(lambda a, s, x, n: x + s * n), "where is alpha_t"),
    "scales that add up to 1": (jump_with(lambda a, s, x, n: a * x + (1 - a) * n), "do their squares"),
    "sigma from alpha": (jump_with(lambda a, s, x, n: a * x + (1 - a**2) ** 0.5 * n), "straight line of flow matching"),
    "no reshape": (jump_with(lambda a, s, x, n: a * x + s * n, (-1,)), "what shape must alpha_t have"),
    "reshape to channels": (jump_with(lambda a, s, x, n: a * x + s * n, (-1, 1, 1)), "cannot fit the shapes"),
    "first t for all": (
        lambda schedule, x_0, noise, t: schedule.alpha(t[0]).to(x_0) * x_0 + schedule.sigma(t[0]).to(x_0) * noise,
        "level of the first one",
    ),
    "float64 comes out": (
        lambda schedule, x_0, noise, t: (
            schedule.alpha(t).reshape(-1, 1, 1, 1) * x_0 + schedule.sigma(t).reshape(-1, 1, 1, 1) * noise
        ),
        "leaves in float64",
    ),
    "asks for scales": (
        lambda schedule, x_0, noise, t: schedule.scales(t, like=x_0)[0] * x_0 + noise,
        "only alpha(t) and sigma(t)",
    ),
}

# ---------------------------------------------------------------------------------------------- 01.3 betas and back


def cosine_alpha_bar(t, offset=0.008):
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    f_0 = math.cos(offset / (1 + offset) * math.pi / 2) ** 2
    return f / f_0


def betas_of(alpha_bar):
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def alpha_bar_of(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), (1 - betas).cumprod(0)])


def test_cosine(answer):
    """The three functions one after the other; what is still untouched is named once something is done."""
    if not isinstance(answer, tuple | list) or len(answer) != 3:
        raise Wrong(f"Three functions are expected, (cosine, betas, back), and this is {describe(answer)}.")
    tests = {
        "my_cosine_alpha_bar": cosine_symptom,
        "my_betas": betas_symptom,
        "my_alpha_bar": alpha_bar_symptom,
    }
    untouched, done = [], []
    for (name, test), function in zip(tests.items(), answer):
        try:
            symptom = test(function)
        except Untouched:
            untouched.append(name)
            continue
        except Wrong as wrong:
            symptom = str(wrong)
        if symptom:
            return f"{name}: {symptom}"
        done.append(name)
    if not done:
        raise Untouched
    if untouched:
        return f"{', '.join(done)}: right. Still to write: {', '.join(untouched)}."
    return None


def cosine_symptom(answer):
    generator = torch.Generator().manual_seed(1)
    for shape, offset in [((7,), 0.008), ((4,), 0.05), ((5,), 0.2)]:
        t = 0.05 + 0.9 * rand(shape, generator)
        t[0] = 0.7
        right = cosine_alpha_bar(t, offset)
        u = (t + offset) / (1 + offset) * math.pi / 2
        slips = {
            "it gives 1 at t = 0, but at t = 0.7 it is the root of what is expected: is this alpha_t or alpha-bar_t?": (
                right**0.5
            ),
            "at t = 0 it does not begin at 1: the paper divides f(t) by something.": u.cos() ** 2,
            "at t = 0 it does not begin at 1, and there is a square missing.": u.cos(),
            "at t = 1 it has not reached 0: does the offset stretch the whole interval, below the fraction line too?": (
                ((t + offset) * math.pi / 2).cos() ** 2 / math.cos(offset * math.pi / 2) ** 2
            ),
            "it hardly falls: in which unit does cos take its angle, and how much is a quarter turn?": (
                ((t + offset) / (1 + offset)).cos() ** 2 / math.cos(offset / (1 + offset)) ** 2
            ),
            "the offset has no effect.": (t * math.pi / 2).cos() ** 2,
            "it falls, and rises again after t = 0.5: is the angle at t = 1 a quarter turn?": (
                (2 * u).cos() ** 2 / math.cos(offset / (1 + offset) * math.pi) ** 2
            ),
        }
        if offset != 0.008:
            slips["the offset 0.008 is fixed in it; it should be the argument's."] = cosine_alpha_bar(t)
        result = ask_tensor(answer, t, offset, shape=shape)
        if symptom := compare(result, right, slips, what="alpha-bar"):
            return symptom
    return None


def betas_symptom(answer):
    generator = torch.Generator().manual_seed(2)
    chains = [alpha_bar_of(0.02 + 0.4 * rand(T, generator)) for T in (6, 11)]
    for alpha_bar in [*chains, cosine_alpha_bar(torch.linspace(0, 1, 9, dtype=torch.float64)).clamp(min=0)]:
        before, after = alpha_bar[:-1], alpha_bar[1:]
        right = betas_of(alpha_bar)
        result = ask(answer, alpha_bar)
        if isinstance(result, torch.Tensor) and result.shape != right.shape:
            return (
                f"from {len(alpha_bar)} values of alpha-bar, the first of them 1, come {len(right)} steps; "
                f"your result has shape {tuple(result.shape)}: how many gaps are between {len(alpha_bar)} values?"
            )
        if after[-1] < 1e-9 and isinstance(result, torch.Tensor) and close_without_last(result, right):
            return (
                f"all betas are right but the last one, {float(result[-1]):.4f}: at t = 1 no signal is left. "
                "What did the docstring say about the largest beta?"
            )
        slips = {
            "the betas come out negative: which of the two alpha-bars is the larger?": 1 - before / after,
            "your betas sum to 1 minus the last alpha-bar. But a step multiplies: is a difference what it takes?": (
                before - after
            ),
            "they never fall: is this the variance that one step adds, or what all steps up to here have added?": (
                1 - after
            ),
            "each is about half of what is expected: alpha-bar is a product of 1 - beta, is there a root too many?": (
                1 - (after / before).sqrt()
            ),
            "each is 1 minus what is expected: is this the share that goes or the share that stays?": after / before,
            "each is the root of what is expected: a standard deviation?": (1 - after / before).sqrt(),
        }
        result = ask_tensor(lambda _: result, alpha_bar, shape=right.shape)  # noqa: B023
        if symptom := compare(result, right, slips, what="betas"):
            return symptom
    return None


def close_without_last(result, right):
    return compare(result[:-1], right[:-1]) is None and compare(result[-1], right[-1], tolerance=1e-6) is not None


def alpha_bar_symptom(answer):
    generator = torch.Generator().manual_seed(3)
    for T in (5, 12):
        betas = 0.02 + 0.4 * rand(T, generator)
        right = alpha_bar_of(betas)
        result = ask_tensor(answer, betas)
        one = torch.ones(1, dtype=betas.dtype)
        slips = {
            "the product is right, and the value before the first step is missing: what is alpha-bar_0?": (right[1:]),
            "it is right, one place too late: after step 1, is beta_1 in the product?": torch.cat([one, right[:-1]]),
            "it falls below 0: do the shares that remain add or multiply?": torch.cat([one, 1 - betas.cumsum(0)]),
            "it falls to 0 within a few steps: is beta what a step keeps?": torch.cat([one, betas.cumprod(0)]),
            "each is the root of what is expected: is this alpha_t or alpha-bar?": right**0.5,
            "these are the shares that each step keeps; alpha-bar keeps account of all steps so far.": (
                torch.cat([one, 1 - betas])
            ),
        }
        if symptom := compare(result, right, slips, what="alpha-bar"):
            return symptom
    return None


COSINE_MISTAKES = {
    "square forgotten": ((lambda t, offset: cosine_alpha_bar(t, offset) ** 0.5, betas_of, alpha_bar_of), "alpha_t or"),
    "f(0) forgotten": (
        (lambda t, offset: ((t + offset) / (1 + offset) * math.pi / 2).cos() ** 2, betas_of, alpha_bar_of),
        "does not begin at 1",
    ),
    "offset only above": (
        (
            lambda t, offset: ((t + offset) * math.pi / 2).cos() ** 2 / math.cos(offset * math.pi / 2) ** 2,
            betas_of,
            alpha_bar_of,
        ),
        "below the fraction line",
    ),
    "half turn": (
        (
            lambda t, offset: (
                ((t + offset) / (1 + offset) * math.pi).cos() ** 2 / math.cos(offset / (1 + offset) * math.pi) ** 2
            ),
            betas_of,
            alpha_bar_of,
        ),
        "rises again",
    ),
    "offset fixed": ((lambda t, offset: cosine_alpha_bar(t), betas_of, alpha_bar_of), "0.008 is fixed"),
    "ratio upside down": ((cosine_alpha_bar, lambda a: 1 - a[:-1] / a[1:], alpha_bar_of), "negative"),
    "difference for ratio": ((cosine_alpha_bar, lambda a: a[:-1] - a[1:], alpha_bar_of), "a step multiplies"),
    "total for step": ((cosine_alpha_bar, lambda a: 1 - a[1:], alpha_bar_of), "up to here"),
    "root of the ratio": ((cosine_alpha_bar, lambda a: 1 - (a[1:] / a[:-1]).sqrt(), alpha_bar_of), "root too many"),
    "not capped": ((cosine_alpha_bar, lambda a: 1 - a[1:] / a[:-1], alpha_bar_of), "all betas are right but the last"),
    "one beta too many": (
        (cosine_alpha_bar, lambda a: torch.cat([a[:1], betas_of(a)]), alpha_bar_of),
        "how many gaps",
    ),
    "no leading 1": ((cosine_alpha_bar, betas_of, lambda b: (1 - b).cumprod(0)), "what is alpha-bar_0"),
    "shifted by one": (
        (cosine_alpha_bar, betas_of, lambda b: torch.cat([torch.ones(1).to(b), alpha_bar_of(b)[:-1]])),
        "one place too late",
    ),
    "sum for product": (
        (cosine_alpha_bar, betas_of, lambda b: torch.cat([torch.ones(1).to(b), 1 - b.cumsum(0)])),
        "add or multiply",
    ),
    "only one of three": ((cosine_alpha_bar, lambda alpha_bar: ..., lambda betas: ...), "Still to write: my_betas"),
}

# ---------------------------------------------------------------------------------------------- 01.4 how long a chain


def smallest_T(first, last, limit):
    T = 1
    while end_snr(first, last, T) >= limit:
        T += 1
    return T


def end_alpha_bar(first, last, T):
    return float((1 - torch.linspace(first, last, T, dtype=torch.float64)).prod())


def end_snr(first, last, T):
    alpha_bar = end_alpha_bar(first, last, T)
    return alpha_bar / (1 - alpha_bar)


def first_T(condition):
    return next((T for T in range(1, 3000) if condition(T)), 3000)


def test_smallest_T(answer):
    for first, last, limit in [(0.002, 0.09, 0.4), (0.004, 0.05, 0.05), (1e-4, 0.02, 0.01)]:
        T = ask(answer, first, last, limit)
        if isinstance(T, torch.Tensor | np.generic | np.ndarray) and torch.as_tensor(T).numel() == 1:
            T = T.item()
        if isinstance(T, bool) or not isinstance(T, int | float) or T != int(T):
            return f"A whole number of steps is expected, and this is {describe(T)}."
        T, right = int(T), smallest_T(first, last, limit)
        if T == right:
            continue
        begin = f"For betas from {first:g} to {last:g} and a limit of {limit:g} you say T = {T}. "
        if T < 1:
            return begin + "A chain has at least one step."
        full = 1 - (1 - torch.linspace(first, last, 1000, dtype=torch.float64)).cumprod(0)
        slips = {
            first_T(lambda T: end_alpha_bar(first, last, T) < limit): (  # noqa: B023
                "That is where alpha-bar itself falls below the limit: what is the SNR divided by?"
            ),
            first_T(lambda T: end_snr(first, last, T) ** 0.5 < limit): (  # noqa: B023
                "That is where alpha / sigma falls below the limit: is the SNR a ratio of scales or of variances?"
            ),
            right - 1: f"The SNR there is {end_snr(first, last, T):.4g}: count the steps again, does 1 come first?",
            int(((1 - full) / full < limit).long().argmax()) + 1: (
                "That is the step of DDPM's thousand at which the SNR falls below the limit. But a chain of that "
                "length reaches the last beta at its own end: do its betas rise as slowly?"
            ),
            first_T(lambda T: 1 - (last + first) / 2 * T < limit): (  # noqa: B023
                "That is where 1 minus the sum of the betas falls below the limit: do shares add or multiply?"
            ),
        }
        if T in slips:
            return begin + slips[T]
        if T > right:
            return begin + f"The SNR there is {end_snr(first, last, T):.2g}; a shorter chain is below the limit too."
        return begin + f"The SNR there is {end_snr(first, last, T):.2g}, which is not below the limit."
    return None


LENGTH_MISTAKES = {
    "alpha-bar for SNR": (
        lambda first, last, limit: first_T(lambda T: end_alpha_bar(first, last, T) < limit),
        "what is the SNR divided by",
    ),
    "root of the SNR": (
        lambda first, last, limit: first_T(lambda T: end_snr(first, last, T) ** 0.5 < limit),
        "scales or of variances",
    ),
    "one too few": (lambda first, last, limit: smallest_T(first, last, limit) - 1, "count the steps again"),
    "one too many": (lambda first, last, limit: smallest_T(first, last, limit) + 1, "a shorter chain"),
    "cut from a chain of 1000": (
        lambda first, last, limit: (
            1
            + int(
                sum(
                    a / (1 - a) >= limit
                    for a in (1 - torch.linspace(first, last, 1000, dtype=torch.float64)).cumprod(0).tolist()
                )
            )
        ),
        "DDPM's thousand",
    ),
    "always DDPM's answer": (lambda first, last, limit: smallest_T(1e-4, 0.02, 0.01), "a shorter chain"),
    "not a whole number": (lambda first, last, limit: 456.5, "A whole number"),
}

# ---------------------------------------------------------------------------------------------- 01.5 museum

# What each bug would look like.
SIGNS = {
    "root": "then hardly any noise would come in, and the last column would be almost flat grey",
    "uniform": "then every step would make every pixel brighter, and the last columns would be white",
    "shared": "then the grain in one column would be the same in every row",
    "no shrinking": "then the digits would keep their full contrast to the last column",
    "0..255": "then the background would be grey, not black, from the beginning, and the digits outshine all noise",
    "shifted": "then every picture would be one step of a thousand too late, and no eye could tell",
}
BUGS = {"A": "shared", "B": "root", "C": "0..255"}
MUSEUM_TIMES = (0.05, 0.3, 0.6, 1.0)


def museum(n=16):
    """The right pictures and those of three bugs: DDPM's forward process on n digits at the times MUSEUM_TIMES.

    Returns:
        dict: "right", "A", "B", "C" -> (4, n, 1, 28, 28), one batch for each time.
    """
    x_0 = digits()[0][3 : 3 + n]
    generator = torch.Generator().manual_seed(5)
    schedule, betas = Betas.linear(), torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    pictures = {"right": [], "A": [], "B": [], "C": []}
    for t in MUSEUM_TIMES:
        noise = torch.randn(x_0.shape, generator=generator)
        steps = betas[: round(1000 * t)]
        still = (1 - steps).flip(0).cumprod(0).flip(0) / (1 - steps)  # what the later steps leave of its noise
        alpha_t, noise_scale = float(schedule.alpha(t)), float((steps**2 * still).sum() ** 0.5)
        pictures["right"].append(add_noise(schedule, x_0, noise, t))
        pictures["A"].append(add_noise(schedule, x_0, noise[:1].expand_as(x_0), t))
        pictures["B"].append(alpha_t * x_0 + noise_scale * noise)
        pictures["C"].append(alpha_t * (x_0 + 1) * 127.5 + float(schedule.sigma(t)) * noise)
    return {name: torch.stack(rows) for name, rows in pictures.items()}


def test_museum(answer):
    if not isinstance(answer, dict) or set(answer) != set(BUGS):
        raise Wrong('A dict with a bug for each of "A", "B" and "C" is expected.')
    if all(bug is ... for bug in answer.values()):
        raise Untouched
    for letter, bug in answer.items():
        if bug is not ... and bug not in list(SIGNS):
            return f"Picture {letter}: {bug!r} is not one of {', '.join(SIGNS)}."
    for letter, bug in answer.items():
        if bug is not ... and bug != BUGS[letter]:
            return f"Picture {letter}, {bug!r}: {SIGNS[bug]}. Is that what you see?"
    if remaining := [letter for letter, bug in answer.items() if bug is ...]:
        return f"What you have found is right. Still open: {', '.join(remaining)}."
    return None


EXERCISES = {
    "01.1": Exercise(
        test=test_noising_step,
        solution=noising_step,
        mistakes=STEP_MISTAKES,
        remark="Worth knowing: beta is a variance in every paper, and only its root ever multiplies noise.",
    ),
    "01.2": Exercise(
        test=test_one_jump,
        solution=one_jump,
        mistakes=JUMP_MISTAKES,
        remark="Worth knowing: this line is the same for every schedule in the course, and for flow matching.",
    ),
    "01.3": Exercise(
        test=test_cosine,
        solution=(cosine_alpha_bar, betas_of, alpha_bar_of),
        mistakes=COSINE_MISTAKES,
        remark="Worth knowing: any curve that falls from 1 is a chain of betas, and every chain is such a curve.",
    ),
    "01.4": Exercise(
        test=test_smallest_T,
        solution=smallest_T,
        mistakes=LENGTH_MISTAKES,
        remark="Worth knowing: what counts is about T times the mean beta, so betas and T are chosen together.",
    ),
    "01.5": Exercise(
        test=test_museum,
        solution=BUGS,
        mistakes={
            "A is root": ({"A": "root", "B": "root", "C": "0..255"}, "almost flat grey"),
            "B is uniform": ({"A": "shared", "B": "uniform", "C": "0..255"}, "brighter"),
            "C does not shrink": ({"A": "shared", "B": "root", "C": "no shrinking"}, "full contrast"),
            "C is shifted": ({"A": "shared", "B": "root", "C": "shifted"}, "no eye"),
            "a word that is no bug": ({"A": "shard", "B": ..., "C": ...}, "is not one of"),
            "one found": ({"A": "shared", "B": ..., "C": ...}, "Still open: B, C"),
        },
        remark="Worth knowing: none of the three stops with an error. Pictures and statistics are the only witnesses.",
    ),
}

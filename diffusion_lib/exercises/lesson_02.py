"""Exercises of lesson 02: Tweedie's formula, parameterisations, the weight of a step in the bound, the loss's floor."""

import math

import torch

from ..denoisers import exact_mixture
from ..forward import add_noise
from ..schedules import Betas, Cosine, Linear
from .engine import Exercise, Unfinished, Wrong, ask, ask_tensor, compare, describe

# What the tests draw with; their seed is fresh, so that no answer can know the numbers


def random_batch(batch, features, low=0.1, high=0.9):
    """x_0, noise (batch, features) and one time per sample (batch,), all float64."""
    x_0 = torch.randn(batch, features, dtype=torch.float64) + 0.3
    noise = torch.randn(batch, features, dtype=torch.float64)
    t = low + (high - low) * torch.rand(batch, dtype=torch.float64)
    return x_0, noise, t


def random_mixture(components, features):
    """weights (K,), means (K, D), stds (K,) of a mixture, float64."""
    weights = torch.rand(components, dtype=torch.float64) + 0.5
    means = torch.randn(components, features, dtype=torch.float64)
    stds = 0.2 + 0.4 * torch.rand(components, dtype=torch.float64)
    return weights / weights.sum(), means, stds


# 02.1


def noisy_log_density(weights, means, stds, alpha_t, sigma_t):
    """The function x_t (B, D) -> log q(x_t) (B,) for data from a mixture; alpha_t and sigma_t are (B, 1)."""
    variance = (alpha_t * stds) ** 2 + sigma_t**2  # (B, K)

    def log_density(x_t):
        distance = (x_t[:, None] - alpha_t[..., None] * means).square().sum(-1)  # (B, K)
        each = -0.5 * (distance / variance + means.shape[1] * (2 * math.pi * variance).log())
        return (weights.log() + each).logsumexp(-1)

    return log_density


def uphill(log_density, x_t):
    """The gradient (B, D) of log_density at x_t."""
    x_t = x_t.detach().clone().requires_grad_()
    return torch.autograd.grad(log_density(x_t).sum(), x_t)[0]


def tweedie(log_density, x_t, alpha_t, sigma_t):
    return (x_t + sigma_t**2 * uphill(log_density, x_t)) / alpha_t


def tweedie_sigma(log_density, x_t, alpha_t, sigma_t):
    return (x_t + sigma_t * uphill(log_density, x_t)) / alpha_t


def tweedie_downhill(log_density, x_t, alpha_t, sigma_t):
    return (x_t - sigma_t**2 * uphill(log_density, x_t)) / alpha_t


def tweedie_not_enlarged(log_density, x_t, alpha_t, sigma_t):
    return x_t + sigma_t**2 * uphill(log_density, x_t)


def tweedie_mean(log_density, x_t, alpha_t, sigma_t):
    return (x_t + sigma_t**2 * uphill(lambda x: log_density(x) / len(x), x_t)) / alpha_t


def tweedie_no_log(log_density, x_t, alpha_t, sigma_t):
    return (x_t + sigma_t**2 * uphill(lambda x: log_density(x).exp(), x_t)) / alpha_t


TWEEDIE_SLIPS = {
    tweedie_sigma: (
        "The score pulls with the wrong strength, and more so where sigma_t is small: does it meet a standard "
        "deviation where a variance belongs?"
    ),
    tweedie_downhill: (
        "Your answers lie further from the data than x_t does: which way does a gradient point, up or down?"
    ),
    tweedie_not_enlarged: (
        "Your result is alpha_t times the expected one, a shrunken x_0: what did the forward process do to "
        "x_0 before it added noise?"
    ),
    tweedie_mean: (
        "The pull is too weak by a factor that is the number of samples in the batch: how did you make one "
        "number of log_density(x_t) before asking for its gradient?"
    ),
    tweedie_no_log: (
        "The pull all but vanishes where the density is low: is it the gradient of the density, or of its logarithm?"
    ),
}


def test_tweedie(answer):
    for batch, components, features in [(7, 3, 2), (4, 2, 5), (5, 4, 1)]:
        x_0, noise, t = random_batch(batch, features)
        mixture = random_mixture(components, features)
        alpha_t, sigma_t = Cosine().scales(t, like=x_0)
        x_t = add_noise(Cosine(), x_0, noise, t)
        log_density = noisy_log_density(*mixture, alpha_t, sigma_t)
        got = ask_tensor(answer, log_density, x_t.clone(), alpha_t, sigma_t, shape=x_t.shape)
        slips = {words: slip(log_density, x_t, alpha_t, sigma_t) for slip, words in TWEEDIE_SLIPS.items()}
        # The exact denoiser is the outside truth: nothing of Tweedie's formula is in it.
        symptom = compare(got, exact_mixture(Cosine(), *mixture)(x_t, t), slips, what="the estimate of x_0")
        if symptom:
            return symptom


# 02.2


def conversions(noise, v, score, flow, x_t, alpha_t, sigma_t):
    from_noise = (x_t - sigma_t * noise) / alpha_t
    from_v = (alpha_t * x_t - sigma_t * v) / (alpha_t**2 + sigma_t**2)
    from_score = (x_t + sigma_t**2 * score) / alpha_t
    from_flow = (x_t - sigma_t * flow) / (alpha_t + sigma_t)
    return from_noise, from_v, from_score, from_flow


def wrong_conversion(place, wrong):
    """The solution with one of its four results replaced by wrong(noise, v, score, flow, x_t, alpha_t, sigma_t)."""

    def answer(*inputs):
        results = list(conversions(*inputs))
        results[place] = wrong(*inputs)
        return tuple(results)

    return answer


# place in the result, words, the wrong value; f for flow, a and s for alpha_t and sigma_t
CONVERSION_SLIPS = {
    "noise not enlarged": (
        0,
        "From noise: your result is alpha_t times x_0; what is left to undo when the noise is gone?",
        lambda noise, v, score, f, x_t, a, s: x_t - s * noise,
    ),
    "noise times variance": (
        0,
        "From noise: too little noise is taken away; is it multiplied by a variance, not a standard deviation?",
        lambda noise, v, score, f, x_t, a, s: (x_t - s**2 * noise) / a,
    ),
    "v with the wrong sign": (
        1,
        "From v: your x_0 is off by twice what v should bring; which sign has x_0 in the definition of v?",
        lambda noise, v, score, f, x_t, a, s: (a * x_t + s * v) / (a**2 + s**2),
    ),
    "v of the quarter circle": (
        1,
        "From v: right where alpha_t^2 + sigma_t^2 = 1, wrong for the Linear schedule; which step of your algebra "
        "used that their squares sum to 1?",
        lambda noise, v, score, f, x_t, a, s: a * x_t - s * v,
    ),
    "score times standard deviation": (
        2,
        "From the score: the pull is too strong by 1 / sigma_t; if the score is -noise / sigma_t, how many scores "
        "make the sigma_t * noise in x_t?",
        lambda noise, v, score, f, x_t, a, s: (x_t + s * score) / a,
    ),
    "score with the wrong sign": (
        2,
        "From the score: your estimate moves away from the data; does the score point along the noise or against?",
        lambda noise, v, score, f, x_t, a, s: (x_t - s**2 * score) / a,
    ),
    "flow of the straight line": (
        3,
        "From flow: right where alpha_t + sigma_t = 1 (the Linear schedule), wrong for Cosine; which step used that "
        "they sum to 1?",
        lambda noise, v, score, f, x_t, a, s: x_t - s * f,
    ),
    "flow with the wrong sign": (
        3,
        "From flow: right only if flow were x_0 - noise; which way round is it defined?",
        lambda noise, v, score, f, x_t, a, s: (x_t + s * f) / (a + s),
    ),
}


def test_conversions(answer):
    names = ["noise", "v", "score", "flow"]
    for schedule, shape in [(Cosine(), (6, 3)), (Linear(), (5, 2)), (Betas.linear(), (4, 4))]:
        x_0, noise, t = random_batch(*shape)
        alpha_t, sigma_t = schedule.scales(t, like=x_0)
        x_t = alpha_t * x_0 + sigma_t * noise
        # Four different estimates of x_0, so that none can borrow from another.
        guesses = [x_0 + torch.randn_like(x_0) for _ in names]
        e = [(x_t - alpha_t * guess) / sigma_t for guess in guesses]
        inputs = (
            e[0],
            alpha_t * e[1] - sigma_t * guesses[1],
            -e[2] / sigma_t,
            e[3] - guesses[3],
            x_t,
            alpha_t,
            sigma_t,
        )
        try:
            results, unfinished = ask(answer, *inputs), None
        except Unfinished as error:
            results, unfinished = error.results, error
        if not isinstance(results, tuple) or len(results) != 4:
            raise Wrong("Four results are expected, with commas: x_0 from noise, from v, from score and from flow.")
        for place, (name, got) in enumerate(zip(names, results)):
            if got is ...:
                continue
            if got is None:
                return f"x_0 from {name} is None: a tensor is expected."
            got = ask_tensor(lambda got=got: got, shape=x_0.shape)
            slips = {words: value(*inputs) for where, words, value in CONVERSION_SLIPS.values() if where == place}
            slips |= {
                f"In the place of {name} stands the x_0 that {other} gives: look at the order of the four.": guess
                for other, guess in zip(names, guesses)
                if other != name
            }
            words = f"x_0 from {name} alone (with x_t; here the four do not agree)"
            symptom = compare(got, guesses[place], slips, what=words)
            if symptom:
                return symptom
        if unfinished:
            return f"What you have is right. {unfinished}"


# 02.3


def snr(schedule, t):
    return (schedule.alpha(t) / schedule.sigma(t)) ** 2


def elbo_weight(schedule, t, s):
    return 0.5 * (snr(schedule, s) / snr(schedule, t) - 1)


def elbo_weight_doubled(schedule, t, s):
    return snr(schedule, s) / snr(schedule, t) - 1


def elbo_weight_x_0(schedule, t, s):
    return 0.5 * (snr(schedule, s) - snr(schedule, t))


def elbo_weight_swapped(schedule, t, s):
    return 0.5 * (snr(schedule, t) / snr(schedule, s) - 1)


def elbo_weight_scales(schedule, t, s):
    return 0.5 * ((snr(schedule, s) / snr(schedule, t)).sqrt() - 1)


def elbo_weight_multiplied(schedule, t, s):
    return 0.5 * (snr(schedule, s) - snr(schedule, t)) * snr(schedule, t)


def elbo_weight_log(schedule, t, s):
    return 0.5 * (schedule.log_snr(s) - schedule.log_snr(t))


WEIGHT_SLIPS = {
    elbo_weight_doubled: (
        "Twice the expected weight: what stands in front of the squared distance of two means in the KL divergence?"
    ),
    elbo_weight_x_0: (
        "This is the weight of a squared error of x_0. How large is the error of the noise that stands for "
        "the same error?"
    ),
    elbo_weight_swapped: "Your weights are negative: which of the two times has more signal, t or the earlier s?",
    elbo_weight_scales: (
        "Your ratio is the root of the expected one: is a signal-to-noise ratio one of deviations or of variances?"
    ),
    elbo_weight_multiplied: (
        "You multiplied by SNR_t once more instead of undoing it: which is larger at small t, an error of x_0 "
        "or the error of the noise that causes it?"
    ),
    elbo_weight_log: (
        "Close for tiny steps, too small for large ones: is the difference of two logarithms the same as a "
        "ratio minus 1?"
    ),
}


def test_elbo_weight(answer):
    for schedule, batch in [(Cosine(), 6), (Linear(), 5), (Betas.linear(), 7)]:
        s = 0.05 + 0.5 * torch.rand(batch, dtype=torch.float64)
        t = s + 0.05 + 0.3 * torch.rand(batch, dtype=torch.float64)
        got = ask_tensor(answer, schedule, t, s, shape=(batch,))
        slips = {words: slip(schedule, t, s) for slip, words in WEIGHT_SLIPS.items()}
        symptom = compare(got, elbo_weight(schedule, t, s), slips, what="the weight")
        if symptom:
            return symptom


# 02.4


def floor(denoiser, schedule, x_0, noise, t):
    alpha_t, sigma_t = schedule.scales(t, like=x_0)
    x_t = alpha_t * x_0 + sigma_t * noise
    estimate = (x_t - alpha_t * denoiser(x_t, t)) / sigma_t
    return ((noise - estimate) ** 2).mean()


def floor_of_x_0(denoiser, schedule, x_0, noise, t):
    x_t = add_noise(schedule, x_0, noise, t)
    return ((x_0 - denoiser(x_t, t)) ** 2).mean()


def floor_of_clean(denoiser, schedule, x_0, noise, t):
    alpha_t, sigma_t = schedule.scales(t, like=x_0)
    return ((alpha_t / sigma_t * (x_0 - denoiser(x_0, t))) ** 2).mean()


def floor_not_shrunk(denoiser, schedule, x_0, noise, t):
    alpha_t, sigma_t = schedule.scales(t, like=x_0)
    x_t = alpha_t * x_0 + sigma_t * noise
    return ((noise - (x_t - denoiser(x_t, t)) / sigma_t) ** 2).mean()


def floor_summed(denoiser, schedule, x_0, noise, t):
    return floor(denoiser, schedule, x_0, noise, t) * x_0.shape[1]


def floor_absolute(denoiser, schedule, x_0, noise, t):
    alpha_t, sigma_t = schedule.scales(t, like=x_0)
    x_t = alpha_t * x_0 + sigma_t * noise
    return (alpha_t / sigma_t * (x_0 - denoiser(x_t, t))).abs().mean()


FLOOR_SLIPS = {
    floor_of_x_0: (
        "This is the mean squared error of x_0, the right idea in another parameterisation: which noise does the "
        "denoiser believe in?"
    ),
    floor_of_clean: "It is as if the denoiser had seen the clean x_0: what does a denoiser get to see?",
    floor_not_shrunk: (
        "The denoiser's x_0 is taken away from x_t at full size: what happened to x_0 before noise was added to it?"
    ),
    floor_summed: "Your number is larger by the number of coordinates: is the loss a sum or a mean over them?",
    floor_absolute: "This is the mean absolute error: which power does the loss take?",
}


def test_floor(answer):
    for schedule, batch, features in [(Cosine(), 50, 3), (Linear(), 40, 2), (Betas.linear(), 30, 4)]:
        mixture = random_mixture(3, features)
        x_0, noise, t = random_batch(batch, features)
        denoiser = exact_mixture(schedule, *mixture)
        number = ask(answer, denoiser, schedule, x_0, noise, t)
        if isinstance(number, str | dict | list | tuple):
            return f"The floor is one number; yours is {describe(number)}."
        got = ask_tensor(lambda number=number: torch.as_tensor(number))  # a tensor () or a plain number
        if got.ndim:
            return f"The floor is one number, a mean over samples and coordinates; yours has shape {tuple(got.shape)}."
        slips = {words: slip(denoiser, schedule, x_0, noise, t) for slip, words in FLOOR_SLIPS.items()}
        symptom = compare(got, floor(denoiser, schedule, x_0, noise, t), slips, what="the floor")
        if symptom:
            return symptom


EXERCISES = {
    "02.1": Exercise(
        test=test_tweedie,
        solution=tweedie,
        mistakes={
            "standard deviation for variance": (tweedie_sigma, "standard deviation where a variance belongs"),
            "downhill": (tweedie_downhill, "up or down"),
            "not divided by alpha": (tweedie_not_enlarged, "a shrunken x_0"),
            "mean instead of sum": (tweedie_mean, "the number of samples in the batch"),
            "density instead of its log": (tweedie_no_log, "or of its logarithm"),
        },
        remark="Worth knowing: it works both ways, so a network that denoises has learned the slope of log q(x_t).",
    ),
    "02.2": Exercise(
        test=test_conversions,
        solution=conversions,
        mistakes={
            name: (wrong_conversion(place, value), words[:40])
            for name, (place, words, value) in CONVERSION_SLIPS.items()
        }
        | {
            "all from the noise": (lambda *inputs: (conversions(*inputs)[0],) * 4, "In the place of v stands"),
            "v by way of the noise": (
                wrong_conversion(1, lambda noise, v, score, f, x_t, a, s: (a * noise - v) / s),
                "x_0 from v alone",
            ),
            "another order": (lambda *inputs: conversions(*inputs)[::-1], "look at the order of the four"),
        },
        remark="Worth knowing: v can be solved even where alpha_t is 0, where the noise says nothing about x_0.",
    ),
    "02.3": Exercise(
        test=test_elbo_weight,
        solution=elbo_weight,
        mistakes={
            "no one half": (elbo_weight_doubled, "Twice the expected weight"),
            "weight for x_0": (elbo_weight_x_0, "squared error of x_0"),
            "times swapped": (elbo_weight_swapped, "negative"),
            "scales instead of variances": (elbo_weight_scales, "of deviations or of variances"),
            "multiplied by SNR": (elbo_weight_multiplied, "instead of undoing it"),
            "difference of logarithms": (elbo_weight_log, "two logarithms"),
        },
        remark="Worth knowing: for tiny steps it is half the fall of log-SNR: the bound asks what signal a step costs.",
    ),
    "02.4": Exercise(
        test=test_floor,
        solution=floor,
        mistakes={
            "error of x_0": (floor_of_x_0, "in another parameterisation"),
            "clean input": (floor_of_clean, "get to see"),
            "x_0 not shrunk": (floor_not_shrunk, "at full size"),
            "sum over coordinates": (floor_summed, "a sum or a mean"),
            "absolute error": (floor_absolute, "which power"),
        },
        remark="Worth knowing: a training loss below this number, on fresh data, is a bug in the loss or in the data.",
    ),
}

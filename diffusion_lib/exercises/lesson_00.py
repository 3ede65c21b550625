"""Exercises of lesson 00: the one line that everything starts from, and its translation from the DDPM paper."""

import torch

from .engine import Exercise, Wrong, ask, ask_tensor, compare


def mix(x_0, noise, alpha_t, sigma_t):
    return alpha_t * x_0 + sigma_t * noise


def test_mix(answer):
    generator = torch.Generator().manual_seed(0)
    for shape in [(3, 2), (2, 1, 4, 5)]:
        x_0, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        for alpha_t, sigma_t in [(0.8, 0.6), (0.35, 0.9), (0.5, 0.3)]:
            slips = {
                "The noise is taken away from the picture. Adding and taking away look alike, since noise has no "
                "preferred sign, but which one did you want?": alpha_t * x_0 - sigma_t * noise,
                "The two scales have changed places: which one belongs to the picture?": sigma_t * x_0
                + alpha_t * noise,
                "The picture is as strong as before: x_0 is not shrunk. What should happen to it while the noise "
                "grows?": x_0 + sigma_t * noise,
                "The scales are used as variances: your noise comes out with standard deviation sigma_t squared. Is "
                "something squared that should not be?": alpha_t**2 * x_0 + sigma_t**2 * noise,
            }
            got = ask_tensor(answer, x_0, noise, alpha_t, sigma_t, shape=shape)
            symptom = compare(got, mix(x_0, noise, alpha_t, sigma_t), slips, what="x_t")
            if symptom:
                return symptom


def scales(alpha_bar):
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


def test_scales(answer):
    for alpha_bar in [0.25, 0.81, 0.04, 0.6]:
        result = ask(answer, alpha_bar)
        if not hasattr(result, "__len__") or len(result) != 2:
            raise Wrong(f"Two numbers are expected, alpha_t and sigma_t; this returns {result!r}.")
        alpha_t, sigma_t = result
        right = scales(alpha_bar)
        symptom = compare(
            alpha_t,
            right[0],
            {
                "For alpha-bar 0.25 your signal scale is 0.25. alpha-bar multiplies the variance of the data; what "
                "multiplies the data?": alpha_bar,
                "The first number is the noise scale: have the two changed places?": right[1],
            },
            what=f"alpha_t for alpha-bar {alpha_bar}",
        )
        symptom = symptom or compare(
            sigma_t,
            right[1],
            {
                "Your sigma_t is the variance of the noise, 1 - alpha-bar. Which number has that as its square?": 1
                - alpha_bar,
                "alpha_t + sigma_t is 1 in your answer; it is their squares that add up to 1.": 1 - right[0],
            },
            what=f"sigma_t for alpha-bar {alpha_bar}",
        )
        if symptom:
            return symptom


EXERCISES = {
    "00.1": Exercise(
        test=test_mix,
        solution=mix,
        mistakes={
            "noise subtracted": (lambda x_0, noise, a, s: a * x_0 - s * noise, "taken away"),
            "scales swapped": (lambda x_0, noise, a, s: s * x_0 + a * noise, "changed places"),
            "signal not shrunk": (lambda x_0, noise, a, s: x_0 + s * noise, "not shrunk"),
            "variances for standard deviations": (lambda x_0, noise, a, s: a**2 * x_0 + s**2 * noise, "squared"),
        },
        remark="This line is the same for every schedule in the course, and for flow matching.",
    ),
    "00.2": Exercise(
        test=test_scales,
        solution=scales,
        mistakes={
            "alpha-bar for its root": (lambda a: (a, (1 - a) ** 0.5), "multiplies the variance"),
            "variance for standard deviation": (lambda a: (a**0.5, 1 - a), "variance of the noise"),
            "scales that add up to 1": (lambda a: (a**0.5, 1 - a**0.5), "squares that add up"),
            "swapped": (lambda a: ((1 - a) ** 0.5, a**0.5), "changed places"),
        },
        remark="Whenever you read a paper, ask first whether its alpha is a scale or a variance.",
    ),
}

"""Exercises of lesson 01: one step, one jump, the cosine schedule and its betas, the length of a chain, a museum."""

import math

import torch

from ..schedules import Betas, Cosine, Linear
from .engine import Slip, ask_tensor, choose, declare, hinted, normal, seeded, together, uniform

# ---------------------------------------------------------------------------------------------- 01.1 one step


def my_noising_step(x, beta, generator):
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return (1 - beta).sqrt() * x + beta.sqrt() * noise


def judge_step(answer):
    """Takes the result apart into (signal scale) * x + noise, and looks at each part."""
    for shape, beta, dtype in [
        ((300, 1, 6, 5), 0.3, torch.float64),
        ((150, 3, 5, 4), 0.05, torch.float32),
        ((400, 2, 3, 5), 0.6, torch.float64),
    ]:
        generator = seeded(len(shape) + shape[0])
        x, beta_t = (0.7 + 1.5 * normal(generator, *shape)).to(dtype), torch.tensor(beta, dtype=dtype)
        y = ask_tensor(answer, x, beta_t, generator, shape=shape).double()
        x = x.double()
        if symptom := shared_noise(x, y) or noise_symptom(x, y, beta) or signal_symptom(x, y, beta):
            return symptom
    twice = [ask_tensor(answer, x, torch.tensor(beta, dtype=x.dtype), seeded(7)) for _ in range(2)]
    if not torch.equal(*twice):
        return "Two generators of the same seed give two results: who draws your noise, if not the generator?"
    generator = seeded(7)
    first, second = (ask_tensor(answer, x, torch.tensor(beta, dtype=x.dtype), generator) for _ in range(2))
    if torch.equal(first, second):
        return "Two calls in a row give the same noise: do you make or seed a generator of your own?"
    return None


def regress(x, y, dims=None):
    """Least squares y = scale * x + rest: scale and rest. x and y are centred over dims first (all if None)."""
    dims = tuple(range(x.ndim)) if dims is None else dims
    centred_x, centred_y = x - x.mean(dims, keepdim=True), y - y.mean(dims, keepdim=True)
    scale = (centred_x * centred_y).sum() / (centred_x**2).sum()
    return scale, centred_y - scale * centred_x


def shared_noise(x, y):
    """Numbers that share their noise differ only by what their x differ."""
    if regress(x, y)[1].std() < 2e-5:
        return "For a given x your result has no randomness at all: where is the noise?"
    for dims, message in [
        ((0,), "All images of the batch carry the very same noise pattern: which shape do you ask randn for?"),
        ((1,), "All channels of an image carry the same noise: which shape do you ask randn for?"),
        ((2, 3), "Every pixel of an image moves by the same amount: which shape do you ask randn for?"),
        ((2,), "All rows of an image carry the same noise: which shape do you ask randn for?"),
        ((3,), "All columns of an image carry the same noise: which shape do you ask randn for?"),
    ]:
        if math.prod(x.shape[d] for d in dims) > 1 and regress(x, y, dims)[1].std() < 2e-5:
            return message
    return None


def noise_symptom(x, y, beta):
    scale, rest = regress(x, y)
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
    scale = float(regress(x, y)[0])
    error = 6 * (beta / x.numel()) ** 0.5 / 1.5
    if abs(scale - (1 - beta) ** 0.5) < error:
        return None
    begin = f"The noise is right. But x comes out multiplied by {scale:.3f} where {(1 - beta) ** 0.5:.3f} is expected"
    if abs(scale - 1) < error:
        return f"{begin}: with noise added and nothing taken away, how large is the variance after a thousand steps?"
    if abs(scale - (1 - beta)) < error:
        return f"{begin}, its square: is 1 - beta what remains of the scale, or of the variance?"
    return f"{begin}."


STEP_SLIPS = [
    Slip("beta.sqrt() * noise", "beta * noise", "variance instead of"),
    Slip("randn", "rand", "brighter"),
    Slip("beta.sqrt() * noise", "(3 * beta).sqrt() * (noise / 2**0.5).erf()", "never far out"),  # evenly spread
    Slip("x.shape", "x.shape[1:]", "very same"),
    Slip("x.shape", "(len(x), 1, *x.shape[2:])", "All channels"),
    Slip("x.shape", "(*x.shape[:2], 1, x.shape[3])", "All rows"),
    Slip("x.shape", "(*x.shape[:3], 1)", "All columns"),
    Slip("x.shape", "(*x.shape[:2], 1, 1)", "moves by the same"),
    Slip(" + beta.sqrt() * noise", "", "no randomness"),
    Slip("(1 - beta).sqrt() * x + beta.sqrt()", "beta.sqrt() * x + (1 - beta).sqrt()", "which of the two"),
    Slip("beta.sqrt() * noise", "noise", "does beta reach"),
    Slip("(1 - beta).sqrt() * x", "x", "nothing taken away"),
    Slip("(1 - beta).sqrt() * x", "(1 - beta) * x", "of the scale, or of the variance"),
    Slip("generator=generator, ", "", "if not the generator"),
    Slip("generator=generator", "generator=torch.Generator().manual_seed(0)", "of your own"),
]

# ---------------------------------------------------------------------------------------------- 01.2 one jump


class OnlyCurves:
    """A schedule without `scales`, so that the broadcasting is left to the student."""

    def __init__(self, schedule):
        self.alpha, self.sigma = schedule.alpha, schedule.sigma

    @property
    def scales(self):
        raise AttributeError("in this exercise a schedule has only alpha(t) and sigma(t); the shapes are your part")


def my_add_noise(schedule, x_0, noise, t):
    alpha_t = schedule.alpha(t).to(x_0.dtype).reshape(-1, 1, 1, 1)
    sigma_t = schedule.sigma(t).to(x_0.dtype).reshape(-1, 1, 1, 1)
    return alpha_t * x_0 + sigma_t * noise


SHAPES = "What shape must alpha_t have to multiply (B, C, H, W)?"


def jumps():
    generator = seeded(1)
    cases = [(Betas(uniform(generator, 30, low=0.02, high=0.12)), 5, 2, 3), (Cosine(), 4, 1, 6), (Linear(), 3, 3, 5)]
    for own in (False, True):  # one t for all, then each its own
        for schedule, B, C, H in cases:
            # As many images as columns: a missing reshape then goes unnoticed by torch.
            x_0, noise = (normal(generator, B, C, H, B) + 0.1 for _ in range(2))
            t = uniform(generator, B if own else 1, low=0.1, high=0.9).expand(B)
            hint = f"It is right when all images share one t and wrong when they differ. {SHAPES}" if own else SHAPES
            yield hinted(hint, OnlyCurves(schedule), x_0, noise, t)
    x_0, noise = (normal(generator, 6, 1, 4, 3) + 0.1 for _ in range(2))
    yield hinted(SHAPES, OnlyCurves(Cosine()), x_0, noise, uniform(generator, 6, low=0.1, high=0.9))


ONE_JUMP = declare(
    my_add_noise,
    probes=jumps,
    what="x_t",
    keeps_dtype=True,
    shape=SHAPES,
    slips=[
        Slip(
            "sigma_t * noise",
            "sigma_t**2 * noise",
            "With x_0 = 0 your result has variance sigma_t to the fourth where sigma_t squared is expected: is the "
            "noise multiplied by a variance instead of a standard deviation?",
        ),
        Slip(
            "alpha_t * x_0 + sigma_t * noise",
            "alpha_t**2 * x_0 + sigma_t**2 * noise",
            "The noise is multiplied by a variance instead of a standard deviation. And x_0?",
        ),
        Slip(
            "alpha_t * x_0",
            "alpha_t**2 * x_0",
            "The noise is right, and x_0 comes out too faint: is it multiplied by alpha_t, or by its square?",
        ),
        Slip(
            "alpha_t * x_0 + sigma_t * noise",
            "sigma_t * x_0 + alpha_t * noise",
            "Early there is much noise, and late none: which scale belongs to the data?",
        ),
        Slip(
            "alpha_t * x_0 + sigma_t * noise",
            "alpha_t**0.5 * x_0 + sigma_t**0.5 * noise",
            "Data and noise are both too strong: alpha(t) and sigma(t) are scales already, is there a root too many?",
        ),
        Slip("sigma_t * noise", "noise", "The noise is as strong at every t: where is sigma_t?"),
        Slip("alpha_t * x_0", "x_0", "The data is as strong at every t: where is alpha_t?"),
        Slip(
            "sigma_t * noise",
            "(1 - alpha_t) * noise",
            "x_0 is right and the noise is too weak: do the scales add up to 1, or do their squares?",
        ),
        Slip(
            "sigma_t * noise",
            "(1 - alpha_t**2).sqrt() * noise",
            "It is right where the squares of the two scales add up to 1, and wrong for the straight line of flow "
            "matching: do you ask the schedule for its sigma?",
        ),
        Slip("alpha_t * x_0 + ", "", "x_0 comes out without a trace: what does your result contain of it?"),
        Slip(
            "(t)",
            "(t[:1])",
            "Every image comes out at the noise level of the first one: do you use all of t?",
            every=True,
        ),
        Slip(
            "(t)",
            "(t.mean())",
            "Every image comes out at one noise level, that of the mean t: each has its own.",
            every=True,
        ),
        Slip(
            ".reshape(-1, 1, 1, 1)",
            "",
            f"It is right when all images share one t, for as many images as columns; else not. {SHAPES}",
            every=True,
        ),
        Slip(
            ".reshape(-1, 1, 1, 1)",
            ".reshape(-1, 1, 1)",
            f"torch cannot fit the shapes together, since it lines them up from the right. {SHAPES}",
            every=True,
        ),
        Slip(
            ".to(x_0.dtype)",
            "",
            "Every number is right. But x_0 comes in float32 and leaves in float64, which a network will refuse: which "
            "dtype have alpha(t) and sigma(t)?",
            every=True,
        ),
    ],
    wrong={
        "always float32": (lambda *inputs: my_add_noise(*inputs).float(), "the result is float32"),
        "asks for scales": (
            lambda schedule, x_0, noise, t: schedule.scales(t, like=x_0)[0] * x_0 + noise,
            "only alpha(t) and sigma(t)",
        ),
        "no reshape, and a slip": (
            lambda schedule, x_0, noise, t: schedule.alpha(t).to(x_0) * x_0 + schedule.sigma(t).to(x_0) ** 2 * noise,
            "instead of a standard deviation?",
        ),
        "right for one t": (
            lambda schedule, x_0, noise, t: my_add_noise(schedule, x_0, noise, t.flip(0)),
            "right when all images share one t",
        ),
    },
    accepted={
        "view": lambda schedule, x_0, noise, t: (
            schedule.alpha(t)[:, None, None, None] * x_0 + schedule.sigma(t)[:, None, None, None] * noise
        ).to(x_0),
        "one image at a time": lambda schedule, x_0, noise, t: [
            (schedule.alpha(s) * x + schedule.sigma(s) * n).to(x_0.dtype) for x, n, s in zip(x_0, noise, t)
        ],
    },
    remark="Worth knowing: this line is the same for every schedule in the course, and for flow matching.",
)

# ---------------------------------------------------------------------------------------------- 01.3 betas and back


def my_cosine_alpha_bar(t, offset=0.008):
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    f_0 = math.cos(offset / (1 + offset) * math.pi / 2) ** 2
    return f / f_0


def my_betas(alpha_bar):
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999)


def my_alpha_bar(betas):
    return torch.cat([torch.ones(1, dtype=betas.dtype), (1 - betas).cumprod(0)])


def times_and_offsets():
    generator = seeded(1)
    for n, offset in [(7, 0.008), (4, 0.05), (5, 0.2)]:
        yield torch.cat([torch.tensor([0.7]), uniform(generator, n, low=0.05, high=0.95)]), offset


def falling_curves():
    generator = seeded(2)
    for T in (6, 11):
        yield (my_alpha_bar(uniform(generator, T, low=0.02, high=0.42)),)
    whole = my_cosine_alpha_bar(torch.linspace(0, 1, 9, dtype=torch.float64)).clamp(min=0)
    yield hinted("At t = 1 no signal is left. What did the docstring say about the largest beta?", whole)


def chains():
    generator = seeded(3)
    for T in (5, 12):
        yield (uniform(generator, T, low=0.02, high=0.42),)


COSINE = declare(
    my_cosine_alpha_bar,
    probes=times_and_offsets,
    what="alpha-bar",
    slips=[
        Slip(
            " ** 2",
            "",
            "it gives 1 at t = 0, but at t = 0.7 it is the root of what is expected: is this alpha_t or alpha-bar_t?",
            every=True,
        ),
        Slip(" / f_0", "", "at t = 0 it does not begin at 1: the paper divides f(t) by something."),
        Slip("f / f_0", "f.sqrt()", "at t = 0 it does not begin at 1, and there is a square missing."),
        Slip(
            " / (1 + offset)",
            "",
            "at t = 1 it has not reached 0: does the offset stretch the whole interval, below the fraction line too?",
            every=True,
        ),
        Slip(
            " * math.pi / 2",
            "",
            "it hardly falls: in which unit does cos take its angle, and how much is a quarter turn?",
            every=True,
        ),
        Slip("f / f_0", "torch.cos(t * math.pi / 2) ** 2", "the offset has no effect."),
        Slip(
            "math.pi / 2",
            "math.pi",
            "it falls, and rises again after t = 0.5: is the angle at t = 1 a quarter turn?",
            every=True,
        ),
        Slip(
            "    f = ",
            "    offset = 0.008\n    f = ",
            "the offset 0.008 is fixed in it; it should be the argument's.",
        ),
    ],
)

BETAS = declare(
    my_betas,
    probes=falling_curves,
    what="betas",
    shape="From the T + 1 values of alpha-bar, the first of them 1, come T steps: how many gaps are between them?",
    slips=[
        Slip(
            "alpha_bar[1:] / alpha_bar[:-1]",
            "alpha_bar[:-1] / alpha_bar[1:]",
            "the betas come out negative: which of the two alpha-bars is the larger?",
        ),
        Slip(
            "1 - alpha_bar[1:] / alpha_bar[:-1]",
            "alpha_bar[:-1] - alpha_bar[1:]",
            "your betas sum to 1 minus the last alpha-bar. But a step multiplies: is a difference what it takes?",
        ),
        Slip(
            " / alpha_bar[:-1]",
            "",
            "they never fall: is this the variance that one step adds, or what all steps up to here have added?",
        ),
        Slip(
            "alpha_bar[1:] / alpha_bar[:-1]",
            "(alpha_bar[1:] / alpha_bar[:-1]).sqrt()",
            "each is about half of what is expected: alpha-bar is a product of 1 - beta, is there a root too many?",
        ),
        Slip("1 - ", "", "each is 1 minus what is expected: is this the share that goes or the share that stays?"),
        Slip(".clamp(", ".sqrt().clamp(", "each is the root of what is expected: a standard deviation?"),
        Slip(
            ".clamp(max=0.999)",
            "",
            "all betas are right but the last one, 1: at t = 1 no signal is left. What did the docstring say about the "
            "largest beta?",
        ),
    ],
    wrong={
        "one beta too many": (lambda alpha_bar: torch.cat([alpha_bar[:1], my_betas(alpha_bar)]), "how many gaps"),
        "another cap": (lambda alpha_bar: my_betas(alpha_bar).clamp(max=0.98), "about the largest beta"),
    },
    accepted={"plain numbers": lambda a: [min(1 - float(v / u), 0.999) for u, v in zip(a[:-1], a[1:])]},
)

ALPHA_BAR = declare(
    my_alpha_bar,
    probes=chains,
    what="alpha-bar",
    slips=[
        Slip(
            "torch.cat([torch.ones(1, dtype=betas.dtype), (1 - betas).cumprod(0)])",
            "(1 - betas).cumprod(0)",
            "the product is right, and the value before the first step is missing: what is alpha-bar_0?",
        ),
        Slip(
            "ones(1, dtype=betas.dtype), (1 - betas)",
            "ones(2, dtype=betas.dtype), (1 - betas[:-1])",
            "it is right, one place too late: after step 1, is beta_1 in the product?",
        ),
        Slip(
            "(1 - betas).cumprod(0)",
            "1 - betas.cumsum(0)",
            "it falls below 0: do the shares that remain add or multiply?",
        ),
        Slip("(1 - betas)", "betas", "it falls to 0 within a few steps: is beta what a step keeps?"),
        Slip(
            ".cumprod(0)", ".cumprod(0).sqrt()", "each is the root of what is expected: is this alpha_t or alpha-bar?"
        ),
        Slip(
            ".cumprod(0)", "", "these are the shares that each step keeps; alpha-bar keeps account of all steps so far."
        ),
    ],
    accepted={"an array": lambda betas: torch.cat([betas.new_ones(1), (1 - betas).cumprod(0)]).numpy()},
)

# ---------------------------------------------------------------------------------------------- 01.4 how long a chain


def my_smallest_T(first, last, limit):
    T = 0
    snr = math.inf
    while snr >= limit:
        T += 1
        alpha_bar = (1 - torch.linspace(first, last, T, dtype=torch.float64)).prod()
        snr = alpha_bar / (1 - alpha_bar)
    return T


def chain_ends():
    yield from [(0.002, 0.09, 0.4), (0.004, 0.05, 0.05), (1e-4, 0.02, 0.01)]


def snr_there(inputs, T):
    """What is said of a number of steps that no slip explains."""
    if T < 1:
        return "A chain has at least one step."
    first, last, limit = inputs
    alpha_bar = float((1 - torch.linspace(first, last, int(T), dtype=torch.float64)).prod())
    snr = alpha_bar / (1 - alpha_bar)
    return f"The SNR there is {snr:.2g}" + (
        "; a shorter chain is below the limit too." if snr < limit else ", which is not below the limit."
    )


LENGTH = declare(
    my_smallest_T,
    probes=chain_ends,
    what="the number of steps",
    otherwise=snr_there,
    slips=[
        Slip(
            "alpha_bar / (1 - alpha_bar)",
            "alpha_bar",
            "That is where alpha-bar itself falls below the limit: what is the SNR divided by?",
        ),
        Slip(
            "alpha_bar / (1 - alpha_bar)",
            "(alpha_bar / (1 - alpha_bar)).sqrt()",
            "That is where alpha / sigma falls below the limit: is the SNR a ratio of scales or of variances?",
        ),
        Slip(
            "return T",
            "return T - 1",
            "The SNR there is not yet below the limit: count the steps again, does 1 come first?",
        ),
        Slip("return T", "return T + 1", "A shorter chain, by one step, is below the limit too."),
        Slip(
            "T, dtype=torch.float64)",
            "1000, dtype=torch.float64)[:T]",
            "That is the step of DDPM's thousand at which the SNR falls below the limit. But a chain of that length "
            "reaches the last beta at its own end: do its betas rise as slowly?",
        ),
        Slip(
            "(1 - torch.linspace(first, last, T, dtype=torch.float64)).prod()",
            "1 - torch.linspace(first, last, T, dtype=torch.float64).sum()",
            "That is where 1 minus the sum of the betas stands for alpha-bar: do shares add or multiply?",
        ),
        Slip(
            "    T = 0",
            "    first, last, limit = 1e-4, 0.02, 0.01\n    T = 0",
            "That is right for DDPM's two variances and the limit 0.01; here a shorter chain is below the limit too: "
            "do you use all three arguments?",
        ),
    ],
    wrong={
        "not a whole number": (lambda first, last, limit: 456.5, "A whole number"),
        "far too many": (lambda first, last, limit: 900, "a shorter chain"),
        "no chain at all": (lambda first, last, limit: 0, "at least one step"),
    },
    accepted={
        "a whole float": lambda first, last, limit: float(my_smallest_T(first, last, limit)),
        "a tensor of one number": lambda first, last, limit: torch.tensor([my_smallest_T(first, last, limit)]),
    },
    remark="Worth knowing: what counts is about T times the mean beta, so betas and T are chosen together.",
)

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
my_bugs = {"A": "shared", "B": "root", "C": "0..255"}


def look_at_picture(letter, bug):
    return "" if bug is ... else f"Picture {letter}, {bug!r}: {SIGNS[bug]}. Is that what you see?"


EXERCISES = {
    "01.1": declare(
        my_noising_step,
        judge=judge_step,
        slips=STEP_SLIPS,
        remark="Worth knowing: beta is a variance in every paper, and only its root ever multiplies noise.",
    ),
    "01.2": ONE_JUMP,
    "01.3": together(
        COSINE,
        BETAS,
        ALPHA_BAR,
        wrong={
            "only one of three": ((my_cosine_alpha_bar, lambda alpha_bar: ..., lambda betas: ...), "write: my_betas"),
            "one function": (my_betas, "3 functions are expected"),
        },
        remark="Worth knowing: any curve that falls from 1 is a chain of betas, and every chain is such a curve.",
    ),
    "01.4": LENGTH,
    "01.5": choose(
        my_bugs,
        among=list(SIGNS),
        look=look_at_picture,
        what="a bug",
        wrong={
            "A is root": (my_bugs | {"A": "root"}, "almost flat grey"),
            "B is uniform": (my_bugs | {"B": "uniform"}, "brighter"),
            "C does not shrink": (my_bugs | {"C": "no shrinking"}, "full contrast"),
            "C is shifted": (my_bugs | {"C": "shifted"}, "no eye"),
            "a word that is no bug": ({"A": "shard", "B": ..., "C": ...}, "A is 'shard'; expected a bug: root"),
            "one found": ({"A": "shared", "B": ..., "C": ...}, "1 of 3 found. Still open: B, C"),
        },
        remark="Worth knowing: none of the three stops with an error. Pictures and statistics are the only witnesses.",
    ),
}

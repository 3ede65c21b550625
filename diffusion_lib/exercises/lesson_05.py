"""Lesson 05, DDPM: the posterior by walking, the loop, how much noise, three broken samplers."""

from itertools import pairwise

import torch

from ..forward import add_noise, noise_like, posterior
from ..schedules import Betas, Cosine, Linear
from .engine import Slip, as_parts, ask, ask_tensor, choose, close, compare, declare, normal, seeded, sign, uniform

# 05.1 the posterior by walking


def my_posterior(schedule, x_0, x_t, t, s, n=400_000, width=0.05):
    begin = torch.full((n,), x_0, dtype=torch.float64)
    x_s = add_noise(schedule, begin, torch.randn_like(begin), s)
    new = schedule.sigma(t) * schedule.fresh_share(t, s, like=begin).sqrt()
    end = schedule.alpha(t) / schedule.alpha(s) * x_s + new * torch.randn_like(begin)
    near = (end - x_t).abs() < width
    return x_s[near].mean(), x_s[near].std()


def numbers(schedule, t, s):
    """alpha_t, sigma_t, alpha_s, sigma_s as plain numbers, and the variance that the step from s to t adds."""
    alpha_t, sigma_t, alpha_s, sigma_s = (float(f(time)) for time in (t, s) for f in (schedule.alpha, schedule.sigma))
    return alpha_t, sigma_t, alpha_s, sigma_s, sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2


def known_end(mean, variance, shrink, added, end):
    """Mean and std of x ~ N(mean, variance), if shrink * x + noise of variance `added` ended at `end`."""
    precision = 1 / variance + shrink**2 / added
    return (mean / variance + shrink * end / added) / precision, precision**-0.5


def judge_walks(answer):
    """Four walks; the symptom is one that fits wherever the answer is wrong."""
    generator, wrong = seeded(1), []
    for trial, schedule in enumerate([Cosine(), Betas.linear(), Linear(), Cosine()]):
        t = uniform(generator, low=0.35, high=0.75)
        s = t * uniform(generator, low=0.5, high=0.75)
        alpha_t, sigma_t, alpha_s, sigma_s, added = numbers(schedule, t, s)
        x_0 = sign(generator) * uniform(generator, low=0.3, high=1.0)
        x_t = alpha_t * x_0 + sign(generator) * sigma_t * uniform(generator, low=0.6, high=1.1)

        torch.manual_seed(trial)
        result = ask(answer, schedule, x_0, x_t, t, s)
        mean, std = (float(part) for part in as_parts(result, ["the mean of the kept x_s", "their standard deviation"]))
        if mean != mean or std != std:
            return "The mean or the standard deviation is nan: was any walk kept at all?"
        if symptoms := walks_symptoms(mean, std, alpha_s * x_0, sigma_s, alpha_t / alpha_s, added, sigma_t, x_t):
            wrong.append(symptoms)
    everywhere = [k for k in wrong[0] if all(k in symptoms for symptoms in wrong)] if wrong else []
    return wrong[0][everywhere[0]] if everywhere else None


def walks_symptoms(mean, std, mean_s, sigma_s, shrink, added, sigma_t, end):
    """{} if mean and std are right, but for chance, else dict: kind of slip -> words, for all slips that fit."""
    right = known_end(mean_s, sigma_s**2, shrink, added, end)

    def looks_like(values, tolerance=0.06):
        return abs(mean - values[0]) < tolerance * right[1] and abs(std - values[1]) < tolerance * values[1]

    def arrives(shrink, added):
        return looks_like(known_end(mean_s, sigma_s**2, shrink, added, end))

    if looks_like(right) and not looks_like(right, 1e-7):
        return {}
    fits = {
        "This is the formula's value to the last digit, and walks miss it by chance. Do not look it up, walk.": (
            looks_like(right, 1e-7)
        ),
        f"Your x_s has mean {mean:.2f} and standard deviation {std:.2f}, and so have all walks at s, wherever they "
        "end. Does each end start from its own x_s, and are only the ends near x_t kept?": looks_like(
            (mean_s, sigma_s)
        ),
        f"The mean is right. Your second number is {std:.3f}, and {right[1]:.3f}, its root, is expected: is it a "
        "variance?": looks_like((right[0], right[1] ** 2)),
        "Mean and standard deviation have changed places.": looks_like((right[1], right[0])),
        "All you return lies near x_t: do you keep walks by their ends, and return where these were at s?": (
            abs(mean - end) < 0.03 and std < 0.05
        ),
        "Your walks arrive at t with too much noise: the ends spread more than sigma_t, because part of the noise was "
        "there at s already. How much is new?": arrives(shrink, sigma_t**2),
        "Your walks arrive at t with too little noise: the number that you multiply the new noise by looks like a "
        "variance. What turns it into a standard deviation?": arrives(shrink, added**2),
        "Your walks arrive at t with too little noise: the fresh share is one of a variance. Which root is missing?": (
            arrives(shrink, (added / sigma_t) ** 2)
        ),
        "Your walks arrive at t too far out: from s to t noise is added, and what happens to x_s itself?": (
            arrives(1.0, added)
        ),
        f"Your walks give mean {mean:.3f} and standard deviation {std:.3f}; expected about {right[0]:.3f} and "
        f"{right[1]:.3f}. Look at all your ends together: is their mean alpha_t x_0 and their spread sigma_t? If so, "
        "look at what you keep: ends on both sides of x_t, as near as a small width?": True,
    }
    return {k: words for k, (words, fit) in enumerate(fits.items()) if fit}


def posterior_looked_up(schedule, x_0, x_t, t, s):
    return posterior(schedule, *(torch.tensor([x], dtype=torch.float64) for x in (x_0, x_t)), t, s)


WALKS = declare(
    my_posterior,
    judge=judge_walks,
    slips=[
        Slip(
            "schedule.alpha(t) / schedule.alpha(s) * x_s + new",
            "schedule.alpha(t) * begin + schedule.sigma(t)",
            "wherever they end",
        ),
        Slip("x_s[near]", "x_s", "wherever they end", every=True),
        Slip("std()", "var()", "is it a variance"),
        Slip(" * schedule.fresh_share(t, s, like=begin).sqrt()", "", "How much is new"),
        Slip("+ new * ", "+ new**2 * ", "too little noise"),
        Slip(".sqrt()", "", "Which root is missing"),
        Slip("schedule.alpha(t) / schedule.alpha(s) * x_s", "x_s", "too far out"),
        Slip(
            "x_s[near].mean(), x_s[near].std()",
            "x_s[near].std(), x_s[near].mean()",
            "Mean and standard deviation have changed places",
        ),
        Slip("x_s[near]", "end[near]", "where these were at s", every=True),
        Slip("(end - x_t).abs() < width", "end - x_t < width", "on both sides of x_t"),
    ],
    wrong={
        "the closed form handed in": (posterior_looked_up, "walk"),
        "one result": (lambda *inputs: my_posterior(*inputs)[0], "2 results"),
        "no walk kept": (lambda *inputs: (float("nan"), float("nan")), "was any walk kept"),
    },
    accepted={
        "plain numbers": lambda *inputs: [float(value) for value in my_posterior(*inputs)],
        "an array": lambda *inputs: torch.stack(my_posterior(*inputs)).numpy(),
        "float32": lambda *inputs: torch.stack(my_posterior(*inputs)).float(),
    },
    remark="Worth knowing: to keep what ends near a value is conditioning by counting. It needs no formula, and it "
    "is hopeless for images, where no two walks end near each other. That is what the product of Gaussians is for.",
)

# 05.2 the loop


def my_ddpm(denoiser, schedule, x_t, times, generator):
    for t, s in pairwise(times):
        x_0 = denoiser(x_t, t)
        mean, std = posterior(schedule, x_0, x_t, t, s)
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


class Spy:
    """A denoiser that writes down when it was asked, what it saw and what it said."""

    def __init__(self):
        self.asked, self.seen, self.said, self.kept = [], [], [], []

    def __call__(self, x_t, t):
        t = torch.as_tensor(t, dtype=torch.float64).flatten()  # () or (B,), as every denoiser takes it
        if not (t == t[0]).all():
            raise ValueError("in one call of this loop all samples have the same t")
        self.asked.append(round(float(t[0]), 5))  # t may come in float32
        self.seen.append(x_t.clone())
        self.said.append(1.7 * torch.tanh(x_t + t[0]) + 0.2)
        self.kept.append(self.said[-1].sum().item())
        return self.said[-1]


def judge_loop(answer):
    generator = seeded(2)
    cases = [
        (Cosine(), torch.linspace(0.95, 0, 8, dtype=torch.float64), (3, 2)),
        (Betas.linear(), torch.tensor([1.0, 0.7, 0.45, 0.3, 0.08, 0.0], dtype=torch.float64), (2, 1, 4, 3)),
        (Linear(), torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64), (4, 3)),
    ]
    for seed, (schedule, times, shape) in enumerate(cases):
        x_t = normal(generator, *shape)
        spy, again = Spy(), Spy()
        result = ask_tensor(answer, spy, schedule, x_t.clone(), times, seeded(seed), shape=shape)
        symptom = wrong_times(spy.asked, [round(float(t), 5) for t in times])
        if symptom:
            return symptom
        ask_tensor(answer, again, schedule, x_t.clone(), times, seeded(seed), shape=shape)
        if not close(again.seen[1], spy.seen[1], 1e-9):
            return "Two runs with generators of the same seed give different samples: where does your noise come from?"
        if spy.kept != [said.sum().item() for said in spy.said]:
            return "Your loop writes into the tensor that the denoiser returned: does a line end in _ or in +=?"
        symptom = wrong_first_step(spy, schedule, x_t, times, noise_like(x_t, seeded(seed)))
        if symptom:
            return symptom
        # From the first step's x_s on, the draws of the whole loop are known: replay them.
        draws = seeded(seed)
        for k, (t, s) in enumerate(pairwise(times)):
            mean, std = posterior(schedule, spy.said[k], spy.seen[k], t, s)
            wanted = mean + std * noise_like(x_t, draws)
            if k + 1 < len(spy.seen) and not close(spy.seen[k + 1], wanted, 1e-6):
                return (
                    f"The first {k} steps are right, and x_s after step {k + 1} is not: does every step use its own "
                    "t and s, the x that the step before left, and noise drawn anew inside the loop?"
                )
        if not close(result, spy.said[-1], 1e-9):
            grain = float((result - spy.said[-1]).std())
            return (
                f"Your result differs from the last estimate of x_0, by {grain:.2g} (standard deviation). At s = 0 the "
                "posterior has no spread left: is noise added in the last step, or is something else returned?"
            )


def wrong_first_step(spy, schedule, x_t, times, noise):
    """None if what the denoiser saw after the first step is right, else the symptom."""
    x_0 = spy.said[0]
    mean, std = posterior(schedule, x_0, x_t, times[0], times[1])
    exchanged, _ = posterior(schedule, x_t, x_0, times[0], times[1])
    large = schedule.sigma(times[0]) * schedule.fresh_share(times[0], times[1], x_t).sqrt()
    number = float(std.mean())
    slips = {
        "After the first step your x_s is the posterior's mean, without any spread. Was the draw forgotten?": mean,
        f"The first step's noise has standard deviation {number**2:.3f}, and {number:.3f}, its root, is expected: "
        "posterior returns a standard deviation.": mean + std**2 * noise,
        "The first step gives what comes out when x_0 and x_t change places. In which order does posterior take "
        "its arguments?": exchanged + std * noise,
        "The first step's noise is that of the large variance; posterior gives the standard deviation to take.": (
            mean + large * noise
        ),
        "After the first step your x_s is the estimate of x_0. Which function says where x was at s?": x_0,
        "After the first step your noise has standard deviation 1: by what is it multiplied?": mean + noise,
    }
    return compare(spy.seen[1], mean + std * noise, slips, what="x_s after the first step")


def wrong_times(asked, times):
    """None if the denoiser was asked at every time but the last, in order; else the symptom."""
    expected, steps = times[:-1], len(times) - 1
    if asked == expected:
        return None
    if not asked:
        return "Your loop never calls the denoiser: where does x_0 come from?"
    if len(asked) == 1 or len(set(asked)) == 1:
        return f"The denoiser is asked at t = {asked[0]:.3g} only. Is it asked again after each step?"
    if asked == times[1:]:
        return "The denoiser is told s, the time where the step ends. At which time is the x that it looks at?"
    if asked == times:
        return f"{len(asked)} calls for {steps} steps: the denoiser is asked once more when x is clean already."
    if asked == times[:-2]:
        return f"{len(asked)} calls for {steps} steps: you stop at t = {times[-2]:.3g}, one step before clean data."
    if asked[0] < asked[-1]:
        return f"The first question comes at t = {asked[0]:.3g} and the last at {asked[-1]:.3g}: which end is noise?"
    shown = ", ".join(f"{t:.3g}" for t in asked[:6])
    return f"The denoiser is asked at {shown}; expected are all times but the last, in the order given."


def loop_from_the_start(denoiser, schedule, x_start, times, generator):
    x_t = x_start
    for t, s in pairwise(times):
        mean, std = posterior(schedule, denoiser(x_t, t), x_start, t, s)
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


def loop_backwards_by_index(denoiser, schedule, x_t, times, generator):
    for k in range(1, len(times)):
        t, s = float(times[k - 1]), float(times[k])
        x_0 = denoiser(x_t, torch.full((len(x_t),), t))
        mean, std = posterior(schedule, x_0, x_t, t, s)
        x_t = mean if s == 0 else mean + std * torch.randn(x_t.shape, generator=generator, dtype=x_t.dtype)
    return x_t


LOOP = declare(
    my_ddpm,
    judge=judge_loop,
    slips=[
        Slip("denoiser(x_t, t)", "denoiser(x_t, s)", "the time where the step ends"),
        Slip("t, s in pairwise(times)", "s, t in pairwise(times.flip(0))", "which end is noise"),
        Slip("return x_t", "return denoiser(x_t, times[-1])", "once more when x is clean"),
        Slip("pairwise(times)", "pairwise(times[:-1])", "one step before clean data"),
        Slip("mean + std", "mean + (std if s > 0 else 0.1)", "noise added in the last step"),
        Slip(" + std * noise_like(x_t, generator)", "", "without any spread"),
        Slip("std * noise", "std**2 * noise", "its root"),
        Slip("x_0, x_t, t, s)", "x_t, x_0, t, s)", "change places"),
        Slip(
            "x_t, generator)\n", "x_t, generator.manual_seed(generator.initial_seed()))\n", "drawn anew inside the loop"
        ),
        Slip(
            "+ std *",
            "+ schedule.sigma(t) * schedule.fresh_share(t, s, x_t).sqrt() * (s > 0) *",
            "of the large variance",
        ),
        Slip("denoiser(x_t, t)", "denoiser(x_t, t).mul_(0.5)", "writes into the tensor"),
        Slip("noise_like(x_t, generator)", "noise_like(x_t)", "where does your noise come from"),
        Slip("denoiser(x_t, t)", "denoiser(x_t, t) if t == times[0] else x_0", "asked again after each step"),
        Slip("denoiser(x_t, t)", "x_t.tanh()", "never calls the denoiser"),
        Slip("x_t = mean + std * noise_like(x_t, generator)", "x_t = x_0", "is the estimate of x_0"),
        Slip("std * noise", "noise", "has standard deviation 1"),
    ],
    wrong={"posterior from the start": (loop_from_the_start, "the x that the step before left")},
    accepted={"by index, t for each sample, no noise at the end": loop_backwards_by_index},
    remark="Worth knowing: nothing in your loop knows about images, networks or labels; it drives every denoiser "
    "of the course, guided and inpainting ones too.",
)

# 05.3 both variances


def my_variances(schedule, T):
    times = torch.arange(T + 1, dtype=torch.float64) / T
    s, t = times[:-1], times[1:]
    fresh = schedule.fresh_share(t, s, like=t)
    small, large = schedule.sigma(s) ** 2 * fresh, schedule.sigma(t) ** 2 * fresh
    return small, large, int((small < 0.9 * large).sum())


def chains():
    generator = seeded(3)
    for make in [
        lambda T: Cosine(),
        lambda T: Betas.linear(T, last=20 / T),
        lambda T: Cosine(0.02),
        lambda T: Betas.linear(T, 1e-3, 10 / T),
    ]:
        T = int(uniform(generator, low=40, high=300))
        yield make(T), T


def capped(small, large, differ):
    """Schedule.betas ends at 0.999, where the truth may be 1."""
    return small.clamp(max=0.998), large.clamp(max=0.998), differ


def from_the_betas(schedule, T):
    large = schedule.betas(T)
    signal = (1 - large).cumprod(0)
    small = large * (1 - torch.cat([signal.new_ones(1), signal[:-1]])) / (1 - signal)
    return small, large, int((small / large < 0.9).sum())


VARIANCES = declare(
    my_variances,
    probes=chains,
    what=("the small variances", "the large variances", "the number of steps"),
    shape="One variance for each of the T steps?",
    view=capped,
    slips=[
        Slip(
            "return small, large,",
            "return small.sqrt(), large.sqrt(),",
            "Your numbers are the roots of what is expected: are these standard deviations?",
        ),
        Slip(
            "return small, large,",
            "return large, small,",
            "Your small variances are larger than your large ones: did the names change places?",
        ),
        Slip(
            " * fresh,",
            ",",
            "Your variances are those of all the noise in x. How much of it does one step account for?",
        ),
        Slip(
            "sigma(s)",
            "sigma(t)",
            "Your two rows are equal. In which of them does the noise scale at s belong?",
        ),
        Slip(
            "small < 0.9",
            "small >= 0.9",
            "Your rows are right, and your number of steps is not: are these the steps in which the two are alike?",
        ),
        Slip(
            "(small < 0.9 * large)",
            "(small.sqrt() < 0.9 * large.sqrt())",
            "Your rows are right, and you count too few steps: did you compare standard deviations? Variances were "
            "asked for.",
        ),
        Slip(
            "s, t = ",
            "t, s = ",
            "All your variances are 0: nothing is fresh from a later time to an earlier one. Which is t?",
        ),
    ],
    accepted={
        "the schedule's own betas": from_the_betas,
        "lists": lambda schedule, T: (
            [part.tolist() for part in my_variances(schedule, T)[:2]] + [float(my_variances(schedule, T)[2])]
        ),
    },
    remark="Worth knowing: you need not choose. Nichol and Dhariwal (2021) let the network interpolate between the "
    "two, in the logarithm.",
)

# 05.4 bug hunt

my_lines = {"A": 6, "B": 3, "C": 5}
LOOK = {
    "A": "its points are in the right places and grainy, as if every cloud were blown up at the very end. Which line "
    "decides whether noise is added, and is it ever false in the last step?",
    "B": "its clouds are the widest of all, although its last step adds nothing. Somebody takes the noise in x for "
    "smaller than it is, and leaves the rest in: who is told how much noise there is?",
    "C": "its points huddle in the middle of their clouds: too little noise on the way. Is the noise multiplied by a "
    "standard deviation?",
}


def look_at_line(sampler, line):
    begin = f"{sampler} has no answer yet" if line is ... else f"Line {line} of sampler {sampler} is right. Look at it"
    return f"{begin}: {LOOK[sampler]}"


EXERCISES = {
    "05.1": WALKS,
    "05.2": LOOP,
    "05.3": VARIANCES,
    "05.4": choose(
        my_lines,
        among=range(1, 8),
        look=look_at_line,
        what="the number of a line",
        wrong={
            "A: the scale of the noise blamed": (my_lines | {"A": 5}, "is it ever false"),
            "A: the last line blamed": (my_lines | {"A": 7}, "is it ever false"),
            "B: the same line as in A": (my_lines | {"B": 6}, "who is told"),
            "C: the draw blamed": (my_lines | {"C": 6}, "standard deviation"),
            "lines as text": (my_lines | {"A": "6"}, "number of a line"),
            "two found": (my_lines | {"C": ...}, "2 of 3"),
        },
        remark="Worth knowing: slips of these three kinds have stood in public code. Not one of them raises an error; "
        "a sampler is tested by what it samples, on data whose distribution is known.",
    ),
}

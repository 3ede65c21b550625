"""Lesson 05, DDPM: the posterior by walking, the loop, how much noise, three broken samplers."""

from itertools import pairwise

import torch

from ..forward import noise_like, posterior
from ..schedules import Betas, Cosine, Linear
from . import Exercise, Untouched, ask, ask_tensor, close, compare


def uniform(low, high, generator):
    """One number between low and high."""
    return low + (high - low) * float(torch.rand(1, generator=generator))


def sign(generator):
    """-1 or 1."""
    return 1 if torch.rand(1, generator=generator) < 0.5 else -1


def seeded(seed):
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


# 05.1 the posterior by walking


def numbers(schedule, t, s):
    """alpha_t, sigma_t, alpha_s, sigma_s as plain numbers, and the variance that the step from s to t adds."""
    alpha_t, sigma_t, alpha_s, sigma_s = (float(f(time)) for time in (t, s) for f in (schedule.alpha, schedule.sigma))
    return alpha_t, sigma_t, alpha_s, sigma_s, sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2


def known_end(mean, variance, shrink, added, end):
    """Mean and std of x ~ N(mean, variance), if shrink * x + noise of variance `added` ended at `end`."""
    precision = 1 / variance + shrink**2 / added
    return (mean / variance + shrink * end / added) / precision, precision**-0.5


def walk_and_keep(schedule, x_0, x_t, t, s, n=400_000, width=0.05, slip=None):
    """Mean and standard deviation of x_s over walks from x_0 that end near x_t; `slip` makes it go wrong."""
    alpha_t, sigma_t, alpha_s, sigma_s, added = numbers(schedule, t, s)
    x_s = alpha_s * x_0 + sigma_s * torch.randn(n, dtype=torch.float64)
    added = {"all noise": sigma_t**2, "variance": added**2}.get(slip, added)
    shrink = 1.0 if slip == "no shrinking" else alpha_t / alpha_s
    end = shrink * x_s + added**0.5 * torch.randn(n, dtype=torch.float64)
    if slip == "two walks":
        end = alpha_t * x_0 + sigma_t * torch.randn(n, dtype=torch.float64)
    near = end - x_t < width if slip == "one side" else (end - x_t).abs() < width
    kept = x_s if slip == "all kept" else (end if slip == "ends" else x_s)[near]
    return kept.mean(), kept.var() if slip == "squared" else kept.std()


def test_walks(answer):
    generator = seeded(1)
    for trial, schedule in enumerate([Cosine(), Betas.linear(), Linear(), Cosine()]):
        t = uniform(0.35, 0.75, generator)
        s = t * uniform(0.5, 0.75, generator)
        alpha_t, sigma_t, alpha_s, sigma_s, added = numbers(schedule, t, s)
        x_0 = sign(generator) * uniform(0.3, 1.0, generator)
        x_t = alpha_t * x_0 + sign(generator) * sigma_t * uniform(0.6, 1.1, generator)

        torch.manual_seed(trial)
        result = ask(answer, schedule, x_0, x_t, t, s)
        if not isinstance(result, tuple) or len(result) != 2:
            return "Two results are expected: the mean and the standard deviation of the kept x_s."
        mean, std = (float(value) for value in result)
        if mean != mean or std != std:
            return "The mean or the standard deviation is nan: was any walk kept at all?"

        symptom = walks_symptom(mean, std, alpha_s * x_0, sigma_s, alpha_t / alpha_s, added, sigma_t, x_t)
        if symptom:
            return symptom


def walks_symptom(mean, std, mean_s, sigma_s, shrink, added, sigma_t, end):
    """None if mean and std are right, but for chance, else the symptom."""
    right = known_end(mean_s, sigma_s**2, shrink, added, end)

    def looks_like(values, tolerance=0.06):
        return abs(mean - values[0]) < tolerance * right[1] and abs(std - values[1]) < tolerance * values[1]

    if looks_like(right, 1e-7):
        return "This is the formula's value to the last digit, and walks miss it by chance. Do not look it up, walk."
    if looks_like(right):
        return None
    if looks_like((mean_s, sigma_s)):
        return (
            f"Your x_s has mean {mean:.2f} and standard deviation {std:.2f}, and so have all walks at s, wherever they "
            "end. Does each end start from its own x_s, and are only the ends near x_t kept?"
        )
    if looks_like((right[0], right[1] ** 2)):
        return (
            f"The mean is right. Your second number is {std:.3f}, and {right[1]:.3f}, its root, is expected: "
            "is it a variance?"
        )
    if looks_like((right[1], right[0])):
        return "Mean and standard deviation have changed places."
    if abs(mean - end) < 0.03 and std < 0.05:
        return "All you return lies near x_t: do you keep walks by their ends, and return where these were at s?"
    if looks_like(known_end(mean_s, sigma_s**2, shrink, sigma_t**2, end)):
        return (
            "Your walks arrive at t with too much noise: the ends spread more than sigma_t, because part of the noise "
            "was there at s already. How much is new?"
        )
    if looks_like(known_end(mean_s, sigma_s**2, shrink, added**2, end)):
        return (
            "Your walks arrive at t with too little noise: the number that you multiply the new noise by looks like a "
            "variance. What turns it into a standard deviation?"
        )
    if looks_like(known_end(mean_s, sigma_s**2, 1.0, added, end)):
        return "Your walks arrive at t too far out: from s to t noise is added, and what happens to x_s itself?"
    return (
        f"Your walks give mean {mean:.3f} and standard deviation {std:.3f}; expected about {right[0]:.3f} and "
        f"{right[1]:.3f}. Look at all your ends together: is their mean alpha_t x_0 and their spread sigma_t? If so, "
        "look at what you keep: ends on both sides of x_t, as near as a small width?"
    )


def posterior_looked_up(schedule, x_0, x_t, t, s):
    mean, std = posterior(schedule, *(torch.tensor([x], dtype=torch.float64) for x in (x_0, x_t)), t, s)
    return mean, std


def with_slip(slip):
    """walk_and_keep with that slip, as a student would hand it in."""
    return lambda schedule, x_0, x_t, t, s: walk_and_keep(schedule, x_0, x_t, t, s, slip=slip)


# 05.2 the loop


class Spy:
    """A denoiser that writes down when it was asked, what it saw and what it said."""

    def __init__(self):
        self.asked, self.seen, self.said, self.kept = [], [], [], []

    def __call__(self, x_t, t):
        t = torch.as_tensor(t, dtype=torch.float64).flatten()  # () or (B,), as every denoiser takes it
        if not (t == t[0]).all():
            raise ValueError("in one call of this loop all samples have the same t")
        self.asked.append(round(float(t[0]), 9))
        self.seen.append(x_t.clone())
        self.said.append(1.7 * torch.tanh(x_t + t[0]) + 0.2)
        self.kept.append(self.said[-1].sum().item())
        return self.said[-1]


def test_loop(answer):
    generator = seeded(2)
    cases = [
        (Cosine(), torch.linspace(0.95, 0, 8, dtype=torch.float64), (3, 2)),
        (Betas.linear(), torch.tensor([1.0, 0.7, 0.45, 0.3, 0.08, 0.0], dtype=torch.float64), (2, 1, 4, 3)),
        (Linear(), torch.tensor([0.9, 0.4, 0.0], dtype=torch.float64), (4, 3)),
    ]
    for seed, (schedule, times, shape) in enumerate(cases):
        x_t = torch.randn(shape, generator=generator, dtype=torch.float64)
        spy, again = Spy(), Spy()
        result = ask_tensor(answer, spy, schedule, x_t.clone(), times, seeded(seed), shape=shape)
        symptom = wrong_times(spy.asked, [round(float(t), 9) for t in times])
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


def loop(denoiser, schedule, x_t, times, generator):
    """The solution of 05.2."""
    for t, s in pairwise(times):
        x_0 = denoiser(x_t, t)
        mean, std = posterior(schedule, x_0, x_t, t, s)
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


def loop_told_s(denoiser, schedule, x_t, times, generator):
    return loop(lambda x, t: denoiser(x, times[times.tolist().index(float(t)) + 1]), schedule, x_t, times, generator)


def loop_one_noise(denoiser, schedule, x_t, times, generator):
    noise = noise_like(x_t, generator)
    for t, s in pairwise(times):
        mean, std = posterior(schedule, denoiser(x_t, t), x_t, t, s)
        x_t = mean + std * noise
    return x_t


def loop_from_the_start(denoiser, schedule, x_start, times, generator):
    x_t = x_start
    for t, s in pairwise(times):
        mean, std = posterior(schedule, denoiser(x_t, t), x_start, t, s)
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


def loop_large_variance(denoiser, schedule, x_t, times, generator):
    for t, s in pairwise(times):
        mean, std = posterior(schedule, denoiser(x_t, t), x_t, t, s)
        large = schedule.sigma(t) * schedule.fresh_share(t, s, x_t).sqrt() * (s > 0)
        x_t = mean + large * noise_like(x_t, generator)
    return x_t


def loop_writes_into_the_estimate(denoiser, schedule, x_t, times, generator):
    return loop(lambda x, t: denoiser(x, t).mul_(0.5), schedule, x_t, times, generator)


def loop_upwards(denoiser, schedule, x_t, times, generator):
    for s, t in pairwise(times.flip(0)):
        mean, std = posterior(schedule, denoiser(x_t, t), x_t, t, s)
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


def loop_one_more(denoiser, schedule, x_t, times, generator):
    return denoiser(loop(denoiser, schedule, x_t, times, generator), times[-1])


def loop_too_short(denoiser, schedule, x_t, times, generator):
    return loop(denoiser, schedule, x_t, times[:-1], generator)


def loop_noise_at_the_end(denoiser, schedule, x_t, times, generator):
    for t, s in pairwise(times):
        mean, std = posterior(schedule, denoiser(x_t, t), x_t, t, s)
        if s == 0:
            std = 0.1
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


def loop_without_noise(denoiser, schedule, x_t, times, generator):
    for t, s in pairwise(times):
        x_t, _ = posterior(schedule, denoiser(x_t, t), x_t, t, s)
    return x_t


def loop_variance(denoiser, schedule, x_t, times, generator):
    for t, s in pairwise(times):
        mean, std = posterior(schedule, denoiser(x_t, t), x_t, t, s)
        x_t = mean + std**2 * noise_like(x_t, generator)
    return x_t


def loop_changed_places(denoiser, schedule, x_t, times, generator):
    for t, s in pairwise(times):
        mean, std = posterior(schedule, x_t, denoiser(x_t, t), t, s)
        x_t = mean + std * noise_like(x_t, generator)
    return x_t


def loop_other_noise(denoiser, schedule, x_t, times, generator):
    return loop(denoiser, schedule, x_t, times, None)


def loop_asked_once(denoiser, schedule, x_t, times, generator):
    x_0 = denoiser(x_t, times[0])
    return loop(lambda x, t: x_0, schedule, x_t, times, generator)


# 05.3 both variances


def variances(schedule, T, slip=None):
    """Small and large variance (T,) of the steps 1 to T, and in how many steps they differ by more than a tenth."""
    times = torch.arange(T + 1, dtype=torch.float64) / T
    s, t = times[:-1], times[1:]
    fresh = schedule.fresh_share(t, s, like=t)
    small, large = schedule.sigma(s) ** 2 * fresh, schedule.sigma(t) ** 2 * fresh
    differ = int((small < 0.9 * large).sum())
    if slip == "roots":
        return small.sqrt(), large.sqrt(), differ
    if slip == "swapped":
        return large, small, differ
    if slip == "no fresh":
        return schedule.sigma(s) ** 2, schedule.sigma(t) ** 2, differ
    if slip == "the same":
        return large, large, 0
    if slip == "count":
        return small, large, T - differ
    if slip == "count of roots":
        return small, large, int((small.sqrt() < 0.9 * large.sqrt()).sum())
    if slip == "s after t":
        return small * 0, large * 0, 0
    return small, large, differ


def test_variances(answer):
    generator = seeded(3)
    for trial in range(4):
        T = int(torch.randint(40, 300, (1,), generator=generator))
        schedule = [Cosine(), Betas.linear(T, last=20 / T), Cosine(0.02), Betas.linear(T, 1e-3, 10 / T)][trial]
        result = ask(answer, schedule, T)
        if not isinstance(result, tuple) or len(result) != 3:
            return "Three results are expected: the small variances, the large variances, and a number of steps."
        small, large, differ = result
        for name, value in [("small", small), ("large", large)]:
            if not isinstance(value, torch.Tensor) or value.shape != (T,):
                got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
                return f"With T = {T} your {name} is {got}; expected a tensor ({T},), one variance for each step."
        right_small, right_large, right_differ = variances(schedule, T)
        if close(large.double(), right_small, 1e-4) and close(small.double(), right_large, 1e-4):
            return "Your small variances are larger than your large ones: did the names change places?"
        if not large.any():
            return "All your variances are 0: nothing is fresh from a later time to an earlier one. Which is t?"
        for name, got, right, scale in [
            ("large", large, right_large, schedule.sigma(torch.arange(1, T + 1, dtype=torch.float64) / T) ** 2),
            ("small", small, right_small, schedule.sigma(torch.arange(T, dtype=torch.float64) / T) ** 2),
        ]:
            found = {
                "Your numbers are the roots of what is expected: are these standard deviations?": right.sqrt(),
                "Your variances are those of all the noise in x. How much of it does one step account for?": scale,
            }
            if name == "small":
                found["Your two rows are equal. In which of them does the noise scale at s belong?"] = right_large
            cap = 0.998  # Schedule.betas ends at 0.999, where the truth may be 1
            found = {words: value.clamp(max=cap) for words, value in found.items()}
            symptom = compare(got.clamp(max=cap), right.clamp(max=cap), found, what=f"the {name} variances: the row")
            if symptom:
                return symptom
        if differ is None or torch.as_tensor(differ).numel() != 1:
            return "Your third result is not one number: count the steps in which the two differ."
        if int(differ) != right_differ:
            ratio = (right_small / right_large).sqrt()
            if int(differ) == T - right_differ:
                return f"You count {int(differ)} of {T} steps: are these the steps in which the two are alike?"
            if int(differ) == int((ratio < 0.9).sum()):
                return f"You count {int(differ)} steps: did you compare standard deviations? Variances were asked for."
            return f"Your rows are right, and you count {int(differ)} of {T} steps; expected {right_differ}."


def with_variance_slip(slip):
    """variances with that slip, as a student would hand it in."""
    return lambda schedule, T: variances(schedule, T, slip)


# 05.4 bug hunt

LINES = {"A": 6, "B": 3, "C": 5}
LOOK = {
    "A": "its points are in the right places and grainy, as if every cloud were blown up at the very end. Which line "
    "decides whether noise is added, and is it ever false in the last step?",
    "B": "its clouds are the widest of all, although its last step adds nothing. Somebody takes the noise in x for "
    "smaller than it is, and leaves the rest in: who is told how much noise there is?",
    "C": "its points huddle in the middle of their clouds: too little noise on the way. Is the noise multiplied by a "
    "standard deviation?",
}


def test_lines(answer):
    if not isinstance(answer, dict) or set(answer) != set(LINES):
        return 'The answer is a dict with one line number for each sampler, {"A": ..., "B": ..., "C": ...}.'
    if all(value is ... for value in answer.values()):
        raise Untouched
    found = [name for name in LINES if answer[name] == LINES[name]]
    for name in LINES:
        value = answer[name]
        if value is ...:
            return f"{len(found)} of 3 found. {name} has no answer yet: {LOOK[name]}"
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 7:
            return f"{name} is {value!r}; expected the number of a line, 1 to 7."
        if value != LINES[name]:
            return f"{len(found)} of 3 found. Line {value} of sampler {name} is right. Look at {name}: {LOOK[name]}"


EXERCISES = {
    "05.1": Exercise(
        test=test_walks,
        solution=lambda schedule, x_0, x_t, t, s: walk_and_keep(schedule, x_0, x_t, t, s),
        mistakes={
            "x_t drawn from x_0, not from x_s": (with_slip("two walks"), "wherever they end"),
            "all walks kept": (with_slip("all kept"), "wherever they end"),
            "variance for standard deviation": (with_slip("squared"), "is it a variance"),
            "sigma_t as the noise of the second leg": (with_slip("all noise"), "How much is new"),
            "variance as the scale of the noise": (with_slip("variance"), "too little noise"),
            "x_s not shrunk on the way to t": (with_slip("no shrinking"), "too far out"),
            "changed places": (
                lambda *inputs: walk_and_keep(*inputs)[::-1],
                "Mean and standard deviation have changed places",
            ),
            "the ends returned": (with_slip("ends"), "where these were at s"),
            "only the ends above": (with_slip("one side"), "on both sides of x_t"),
            "the closed form handed in": (posterior_looked_up, "walk"),
        },
        remark="Worth knowing: to keep what ends near a value is conditioning by counting. It needs no formula, and it "
        "is hopeless for images, where no two walks end near each other. That is what the product of Gaussians is for.",
    ),
    "05.2": Exercise(
        test=test_loop,
        solution=loop,
        mistakes={
            "denoiser told s": (loop_told_s, "the time where the step ends"),
            "upwards": (loop_upwards, "which end is noise"),
            "one call too many": (loop_one_more, "once more when x is clean"),
            "stops one step early": (loop_too_short, "one step before clean data"),
            "noise at the end": (loop_noise_at_the_end, "noise added in the last step"),
            "no noise": (loop_without_noise, "without any spread"),
            "variance for standard deviation": (loop_variance, "its root"),
            "x_0 and x_t change places": (loop_changed_places, "change places"),
            "noise drawn once": (loop_one_noise, "drawn anew inside the loop"),
            "posterior from the start": (loop_from_the_start, "the x that the step before left"),
            "large variance": (loop_large_variance, "that of the large variance"),
            "writes into the estimate": (loop_writes_into_the_estimate, "writes into the tensor"),
            "generator forgotten": (loop_other_noise, "where does your noise come from"),
            "asked only once": (loop_asked_once, "asked again after each step"),
        },
        remark="Worth knowing: nothing in your loop knows about images, networks or labels; it drives every denoiser "
        "of the course, guided and inpainting ones too.",
    ),
    "05.3": Exercise(
        test=test_variances,
        solution=variances,
        mistakes={
            "standard deviations": (with_variance_slip("roots"), "standard deviations?"),
            "swapped": (with_variance_slip("swapped"), "change places"),
            "fresh forgotten": (with_variance_slip("no fresh"), "one step account for"),
            "two equal rows": (with_variance_slip("the same"), "two rows are equal"),
            "the steps that agree are counted": (with_variance_slip("count"), "alike"),
            "counted by standard deviations": (with_variance_slip("count of roots"), "did you compare"),
            "s and t exchanged": (with_variance_slip("s after t"), "Which is t"),
        },
        remark="Worth knowing: you need not choose. Nichol and Dhariwal (2021) let the network interpolate between the "
        "two, in the logarithm.",
    ),
    "05.4": Exercise(
        test=test_lines,
        solution=LINES,
        mistakes={
            "A: the scale of the noise blamed": ({"A": 5, "B": 3, "C": 5}, "is it ever false"),
            "A: the last line blamed": ({"A": 7, "B": 3, "C": 5}, "is it ever false"),
            "B: the same line as in A": ({"A": 6, "B": 6, "C": 5}, "who is told"),
            "C: the draw blamed": ({"A": 6, "B": 3, "C": 6}, "standard deviation"),
            "lines as text": ({"A": "6", "B": 3, "C": 5}, "number of a line"),
            "two found": ({"A": 6, "B": 3, "C": ...}, "2 of 3"),
        },
        remark="Worth knowing: slips of these three kinds have stood in public code. Not one of them raises an error; "
        "a sampler is tested by what it samples, on data whose distribution is known.",
    ),
}

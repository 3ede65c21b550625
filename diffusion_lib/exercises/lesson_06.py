"""Exercises of lesson 06: one DDIM step, a test for samplers, uneven grids, there and back, a budget of calls."""

from functools import partial
from itertools import pairwise
from statistics import mean

import torch

from ..denoisers import exact_mixture
from ..forward import noise_like
from ..samplers import Step, ddim, ddpm, last, time_grid
from ..schedules import Betas, Cosine, Linear
from .engine import Exercise, Wrong, ask, ask_tensor, close, compare, describe

# ---------------------------------------------------------------------------------------------- 06.1 one step of DDIM


def ddim_step(schedule, x_0, x_t, t, s, eta, noise):
    alpha_t, sigma_t = schedule.scales(t, like=x_t)
    alpha_s, sigma_s = schedule.scales(s, like=x_t)
    std = eta * sigma_s * schedule.fresh_share(t, s, like=x_t).sqrt()
    seen = (x_t - alpha_t * x_0) / sigma_t
    return alpha_s * x_0 + (sigma_s**2 - std**2).sqrt() * seen + std * noise


def step_with(slip=""):
    """The step of 06.1 with one slip; without a name it is right."""

    def my_ddim_step(schedule, x_0, x_t, t, s, eta, noise):
        alpha_t, sigma_t = schedule.scales(t, like=x_t)
        alpha_s, sigma_s = schedule.scales(s, like=x_t)
        fresh = schedule.fresh_share(t, s, like=x_t)
        std = eta * sigma_s * fresh.sqrt()
        if slip == "std from a variance":
            std = eta * sigma_s * fresh
        if slip == "std at t":
            std = eta * sigma_t * fresh.sqrt()
        seen = x_t - alpha_t * x_0
        seen = seen if slip == "seen noise not scaled" else seen / sigma_t
        share = (sigma_s**2 - std**2).sqrt()
        if slip == "direction ignores std":
            share = sigma_s
        if slip == "no root in the direction":
            share = share**2
        if slip == "std not squared in the direction":
            share = (sigma_s**2 - std).abs().sqrt()
        signal = alpha_t if slip == "alpha_t" else alpha_s
        return signal * x_0 + share * seen + (std**2 if slip == "noise times a variance" else std) * noise

    return my_ddim_step


def one_t_for_all(schedule, x_0, x_t, t, s, eta, noise):
    return ddim_step(FlatScales(schedule), x_0, x_t, t, s, eta, noise)


class FlatScales:
    """A schedule whose scales keep the shape (B,), as they come out of schedule.alpha(t)."""

    def __init__(self, schedule):
        self.schedule = schedule

    def scales(self, t, like):
        return self.schedule.alpha(t), self.schedule.sigma(t)

    def fresh_share(self, t, s, like):
        return 1 - torch.exp(self.schedule.log_snr(t) - self.schedule.log_snr(s))


STEP_SYMPTOMS = {
    "direction ignores std": "With x_0 fixed, your x_s has variance sigma_s^2 + std^2, more than the {variance:.2f} of "
    "q(x_s | x_0): what has to shrink when fresh noise comes in?",
    "no root in the direction": "The noise that is seen in x_t comes back multiplied by a variance. Which power of the "
    "standard deviation belongs in front of it?",
    "std not squared in the direction": "The noise that is seen and the fresh noise do not add up to a variance of "
    "{variance:.2f}: what is subtracted from sigma_s^2, a variance or a standard deviation?",
    "std from a variance": "Your fresh noise is too weak, and right only where the whole variance is fresh: "
    "schedule.fresh_share is a share of a variance, and what do you multiply noise by?",
    "std at t": "Your fresh noise has the size that belongs to x_t. With eta = 1 it should be the posterior's: "
    "at which of the two times is the sigma in its standard deviation taken?",
    "seen noise not scaled": "What you take for the noise in x_t has standard deviation sigma_t, and noise has 1: "
    "what is left to do after alpha_t * x_0 is removed?",
    "alpha_t": "Your x_s carries as much signal as x_t does. At which time does the step end?",
    "noise times a variance": "The fresh noise in your x_s is too small by a factor, and the factor is std itself: "
    "is it multiplied by a variance?",
}


def test_ddim_step(answer):
    """Compares with every known slip, first with one time for all samples, then with a time for each."""
    generator = torch.Generator().manual_seed(6)
    cases = [(Cosine(), (4, 3), 0.6), (Betas.linear(500), (3, 2, 5, 4), 0.45), (Linear(), (5, 2), 0.7)]
    for schedule, shape, eta in cases:
        x_0, x_t, noise = (0.4 + torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
        s, t = (torch.rand(2, generator=generator, dtype=torch.float64) * 0.4 + torch.tensor([0.1, 0.55])).unbind()
        got = ask_tensor(answer, schedule, x_0, x_t, t, s, eta, noise, shape=shape)
        variance = float(schedule.sigma(s)) ** 2
        slips = {
            text.format(variance=variance): step_with(slip)(schedule, x_0, x_t, t, s, eta, noise)
            for slip, text in STEP_SYMPTOMS.items()
        }
        right = ddim_step(schedule, x_0, x_t, t, s, eta, noise)
        if symptom := compare(got, right, slips, f"x_s with eta = {eta}", tolerance=1e-6):
            return symptom
    x_0, x_t, noise = torch.randn(3, 4, 2, 3, 4, generator=generator, dtype=torch.float64)
    s, t = torch.tensor([0.1, 0.2, 0.3, 0.5]), torch.tensor([0.3, 0.9, 0.5, 0.8])
    inputs = (Cosine(), x_0, x_t, t, s, 0.5, noise)
    try:
        got = ask_tensor(answer, *inputs, shape=x_t.shape)
    except Wrong:
        got = torch.zeros(())
    if not close(got.double(), ddim_step(*inputs), 1e-6):
        return (
            "It is right when all samples share one t and wrong when each has its own: what shape must alpha_t have to "
            "multiply (B, C, H, W), and which method of the schedule sees to that?"
        )
    inputs = (Cosine(), x_0, x_t, torch.tensor(0.2), torch.tensor(0.0), 1.0, noise)
    return compare(ask_tensor(answer, *inputs, shape=x_t.shape), x_0, what="x_s at s = 0 (there it must be x_0 itself)")


# ---------------------------------------------------------------------------------------------- 06.2 both ends of eta


def both_ends(sampler, denoiser, schedule, x_t):
    times = time_grid(20)

    def run(method, seed, **options):
        return last(method(denoiser, schedule, x_t, times, generator=torch.Generator().manual_seed(seed), **options))

    like_ddpm = (run(sampler, 1, eta=1.0) - run(ddpm, 1)).abs().max() < 1e-6
    no_chance = (run(sampler, 1, eta=0.0) - run(sampler, 2, eta=0.0)).abs().max() < 1e-6
    return bool(like_ddpm and no_chance)


def planted(step):
    """A sampler like ddim whose step is wrong somewhere."""

    def sampler(denoiser, schedule, x_t, times, eta=0.0, generator=None):
        for t, s in pairwise(times):
            x_t = step(schedule, denoiser(x_t, t), x_t, t, s, eta, noise_like(x_t, generator))
            yield Step(float(s), x_t, x_t)

    return sampler


def restless(schedule, x_0, x_t, t, s, eta, noise):
    return ddim_step(schedule, x_0, x_t, t, s, max(eta, 0.1), noise)


def a_little_off(schedule, x_0, x_t, t, s, eta, noise):
    return ddim_step(schedule, x_0, x_t, t, s, eta * (1 - 1e-4), noise)


def biased(schedule, x_0, x_t, t, s, eta, noise):
    """Below DDPM everywhere, at eta = 1 only."""
    x_s = ddim_step(schedule, x_0, x_t, t, s, eta, noise)
    return x_s - 1e-4 if eta > 0 and s == 0 else x_s


def one_sample(schedule, x_0, x_t, t, s, eta, noise):
    """Wrong in the last sample alone."""
    x_s = ddim_step(schedule, x_0, x_t, t, s, eta, noise)
    if eta > 0 and s == 0:
        x_s[-1] = x_s[-1].flip(0)
    return x_s


def small_problem(seed, D=2):
    """A mixture in D dimensions with its exact denoiser, and noise to start from, all float64."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(3, D, generator=generator, dtype=torch.float64)
    schedule = Cosine()
    denoiser = exact_mixture(schedule, [0.5, 0.3, 0.2], means, [0.3, 0.2, 0.4])
    return denoiser, schedule, torch.randn(6, D, generator=generator, dtype=torch.float64)


def test_both_ends(answer):
    """A test is right if it accepts the library's ddim and refuses broken ones."""
    good = "Your test refuses the library's own ddim. Do the two runs that you compare begin with equal seeds, and "
    good += "do you allow for the last digits of a float64?"
    bad = [
        (
            restless,
            "Your test accepts a sampler that still adds a tenth of DDPM's noise at eta = 0. Which two runs show it?",
        ),
        (
            step_with("direction ignores std"),
            "Your test accepts a sampler that is fine at eta = 0 and at eta = 1 adds noise without making room for it. "
            "Which sampler of lesson 05 knows the right answer there?",
        ),
        (
            a_little_off,
            "Your test accepts a sampler whose noise is off by one part in ten thousand at eta = 1. "
            "How close do you ask for?",
        ),
        (
            biased,
            "Your test accepts a sampler whose results are 0.0001 too low everywhere at eta = 1. "
            "Does a negative difference count, and how close do you ask for?",
        ),
        (
            one_sample,
            "Your test accepts a sampler that is wrong in one of the samples. Does the worst number decide?",
        ),
    ]
    for seed in (3, 4):
        denoiser, schedule, x_t = small_problem(seed, D=seed)
        for sampler, symptom in [(ddim, good), *((planted(step), words) for step, words in bad)]:
            value = ask(answer, sampler, denoiser, schedule, x_t)
            if not isinstance(value, bool) and describe(value) not in (
                "bool ()",
                "True",
                "False",
                "np.True_",
                "np.False_",
            ):
                return f"Your test returns {describe(value)}; expected True or False."
            if bool(value) != (sampler is ddim):
                return symptom
    return None


def seeds_of(first, second, third, fourth, tolerance=1e-6, ends="both"):
    """A test like both_ends with its own seeds, tolerance and choice of what it looks at."""

    def my_test(sampler, denoiser, schedule, x_t):
        times = time_grid(20)
        seeds = [torch.Generator().manual_seed(seed) for seed in (first, second, third, fourth)]
        eta_1 = last(sampler(denoiser, schedule, x_t, times, eta=1.0, generator=seeds[0]))
        reference = last(ddpm(denoiser, schedule, x_t, times, generator=seeds[1]))
        eta_0 = [last(sampler(denoiser, schedule, x_t, times, eta=0.0, generator=g)) for g in seeds[2:]]
        like_ddpm = bool((eta_1 - reference).abs().max() <= tolerance)
        no_chance = bool((eta_0[0] - eta_0[1]).abs().max() <= tolerance)
        return {"both": like_ddpm and no_chance, "eta = 1": like_ddpm, "eta = 0": no_chance}[ends]

    return my_test


def looking_at(number_of):
    """A test that looks at one number of each difference only."""

    def my_test(sampler, denoiser, schedule, x_t):
        times, seed = time_grid(20), torch.Generator().manual_seed
        like_ddpm = last(sampler(denoiser, schedule, x_t, times, 1.0, seed(1))) - last(
            ddpm(denoiser, schedule, x_t, times, seed(1))
        )
        no_chance = last(sampler(denoiser, schedule, x_t, times, 0.0, seed(1))) - last(
            sampler(denoiser, schedule, x_t, times, 0.0, seed(2))
        )
        return bool(number_of(like_ddpm) < 1e-6 and no_chance.abs().max() < 1e-6)

    return my_test


def one_generator(sampler, denoiser, schedule, x_t):
    generator, times = torch.Generator().manual_seed(0), time_grid(20)
    run = partial(sampler, denoiser, schedule, x_t, times, generator=generator)
    reference = last(ddpm(denoiser, schedule, x_t, times, generator=generator))
    return bool((last(run(eta=1.0)) - reference).abs().max() < 1e-6)


# ---------------------------------------------------------------------------------------------- 06.3 uneven grids


def subsequence(T, steps):
    return [round(T * (steps - k) / steps) for k in range(steps + 1)]


def stride(T, steps):
    return list(range(T, -1, -(T // steps)))


def down_to_one(T, steps):
    return [1 + i for i in counted_from_zero(T, steps)]


def stride_and_a_jump(T, steps):
    return [T - k * (T // steps) for k in range(steps)] + [0]


def counted_from_zero(T, steps):
    return [round((T - 1) * (steps - k) / steps) for k in range(steps + 1)]


def one_too_few(T, steps):
    return [round(T * (steps - 1 - k) / (steps - 1)) for k in range(steps)]


def upwards(T, steps):
    return subsequence(T, steps)[::-1]


def wrapped(T, steps):
    return [(T - k * -(-T // steps)) % T if k else T for k in range(steps)] + [0]


def test_subsequence(answer):
    for T, steps in [(1000, 300), (1000, 7), (50, 50), (97, 40), (1000, 999), (12, 1)]:
        result = ask(answer, T, steps)
        try:
            numbers = [float(i) for i in result]
        except (TypeError, ValueError):
            return f"A list of numbers of steps is expected, and this is {describe(result)}."
        asked = f"For T = {T} and steps = {steps}"
        if any(i != int(i) for i in numbers):
            return f"{asked} your list holds {next(i for i in numbers if i != int(i)):.4g}, and DDPM has no such step."
        if symptom := grid_symptom([int(i) for i in numbers], T, steps, asked):
            return symptom
    return None


def grid_symptom(grid, T, steps, asked):
    gaps = [a - b for a, b in pairwise(grid)]
    if any(gap < 0 for gap in gaps):
        if grid[0] == 0:
            return f"{asked} your list rises from {grid[0]}; a sampler starts from the noise. At which end is that?"
        k = next(k for k, gap in enumerate(gaps) if gap < 0)
        return f"{asked} your list goes from {grid[k]} up to {grid[k + 1]}, back into the noise: does it wrap around?"
    if not grid or grid[0] != T:
        begin = grid[0] if grid else "nothing"
        return f"{asked} your list begins with {begin}. Which i is pure noise, if i = 0 is clean data?"
    if len(grid) > steps + 1:
        return f"{asked} your list makes {len(grid) - 1} steps: what was rounded away in the stride?"
    if grid[-1] != 0:
        return f"{asked} your list ends with {grid[-1]}: some noise stays in the samples. Where does a sampler stop?"
    if len(grid) < steps + 1:
        return f"{asked} your list makes {len(grid) - 1} steps: how many numbers do {steps} steps need?"
    if 0 in gaps:
        return f"{asked} the same i occurs twice, a step that goes nowhere and costs a call."
    if max(gaps) - min(gaps) > 1:
        return f"{asked} your steps span from {min(gaps)} to {max(gaps)}: can all be equal to within 1?"
    return None


# ---------------------------------------------------------------------------------------------- 06.4 there and back


def round_trip(denoiser, schedule, x, steps):
    down = time_grid(steps, start=0.98, stop=0.02)
    noise = last(ddim(denoiser, schedule, x, down.flip(0)))
    return noise, last(ddim(denoiser, schedule, noise, down))


def never_up(denoiser, schedule, x, steps):
    down = time_grid(steps, start=0.98, stop=0.02)
    noise = last(ddim(denoiser, schedule, x, down))
    return noise, last(ddim(denoiser, schedule, noise, down))


def back_from_the_data(denoiser, schedule, x, steps):
    down = time_grid(steps, start=0.98, stop=0.02)
    return last(ddim(denoiser, schedule, x, down.flip(0))), last(ddim(denoiser, schedule, x, down))


def up_twice(denoiser, schedule, x, steps):
    up = time_grid(steps, start=0.98, stop=0.02).flip(0)
    noise = last(ddim(denoiser, schedule, x, up))
    return noise, last(ddim(denoiser, schedule, noise, up))


def estimates(denoiser, schedule, x, steps):
    down = time_grid(steps, start=0.98, stop=0.02)
    noise = list(ddim(denoiser, schedule, x, down.flip(0)))[-1].x_t
    return noise, list(ddim(denoiser, schedule, noise, down))[-1].x_0


def swapped(denoiser, schedule, x, steps):
    return round_trip(denoiser, schedule, x, steps)[::-1]


def with_chance(denoiser, schedule, x, steps):
    down = time_grid(steps, start=0.98, stop=0.02)
    noise = last(ddim(denoiser, schedule, x, down.flip(0)))
    return noise, last(ddim(denoiser, schedule, noise, down, eta=1.0))


def forward_process(denoiser, schedule, x, steps):
    alpha_t, sigma_t = schedule.scales(0.98, like=x)
    noise = alpha_t * x + sigma_t * torch.randn_like(x)
    return noise, last(ddim(denoiser, schedule, noise, time_grid(steps, start=0.98, stop=0.02)))


def test_round_trip(answer):
    for seed, steps in [(5, 30), (6, 12)]:
        denoiser, schedule, _ = small_problem(seed)
        x = torch.randn(7, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        result = ask(answer, denoiser, schedule, x, steps)
        if not (isinstance(result, tuple | list) and len(result) == 2):
            return f"Two tensors are expected, the noise and what came back, and this is {describe(result)}."
        noise, back = result
        for name, value in [("noise", noise), ("back", back)]:
            if not isinstance(value, torch.Tensor) or value.shape != x.shape:
                return f"{name} is {describe(value)}; expected a tensor of the shape of x, {tuple(x.shape)}."
        again = ask(answer, denoiser, schedule, x, steps)
        problem = (denoiser, schedule, x, steps)
        if not close(noise.double(), again[0].double(), 1e-9):
            return "Two calls give two noises. The way up must be one that you can retrace: who draws at random here?"
        if not close(back.double(), again[1].double(), 1e-9):
            return "The way up is the same in every call, the way back is not: which eta goes with an equation?"
        right_noise, right_back = round_trip(*problem)
        slips = {
            "Your noise is closer to the data than x was: do the times of the way up rise?": never_up(*problem)[0],
            "Your first result is almost x, and your second is noise: in which order are they asked for?": right_back,
        }
        if symptom := compare(noise, right_noise, slips, "noise", tolerance=1e-6):
            return symptom
        slips = {
            "The way back does not know of your noise: where does it start?": back_from_the_data(*problem)[1],
            "What comes back is noisier than the noise: do the times of the way back fall?": up_twice(*problem)[1],
            "What comes back is the denoiser's guess of x_0, not the sample at t = 0.02. Which does `last` return?": (
                estimates(*problem)[1]
            ),
        }
        if symptom := compare(back, right_back, slips, "back", tolerance=1e-6):
            return symptom
    return None


# ---------------------------------------------------------------------------------------------- 06.5 a budget of calls


def budget(rows, seconds_per_call, patience, margin=0.1):
    scores = {}
    for row in rows:
        if row["calls"] * seconds_per_call <= patience:
            scores.setdefault((row["sampler"], row["calls"]), []).append(row["frechet"])
    means = {choice: mean(values) for choice, values in scores.items()}
    best = min(means.values())
    good = [choice for choice, value in means.items() if value <= (1 + margin) * best]
    return min(good, key=lambda choice: (choice[1], means[choice]))


def budget_with(slip):
    """The choice of 06.5 with one slip."""

    def my_budget(rows, seconds_per_call, patience, margin=0.1):
        limit = float("inf") if slip == "patience ignored" else patience / seconds_per_call
        if slip == "patience in calls":
            limit = patience
        scores = {}
        for row in rows:
            scores.setdefault((row["sampler"], row["calls"]), []).append(row["frechet"])
        average = min if slip == "luckiest seed" else mean
        means = {choice: average(values) for choice, values in scores.items()}
        affordable = {choice: value for choice, value in means.items() if choice[1] <= limit + 1e-9}
        best = min((means if slip == "best of all" else affordable).values())
        limit = {"margin fixed": 1.1 * best, "margin added": best + margin}.get(slip, (1 + margin) * best)
        good = [choice for choice, value in affordable.items() if value <= limit]
        if slip == "best, not cheapest":
            return min(affordable, key=affordable.get)
        if slip == "most calls":
            return max(good or affordable, key=lambda choice: (choice[1], -means[choice]))
        return min(good or affordable, key=lambda choice: (choice[1], means[choice]))

    return my_budget


BUDGET_SYMPTOMS = {
    "patience ignored": "Your visitor waits longer than they want to: how many seconds do so many calls take?",
    "patience in calls": "Your choice does not change with how long one call takes: in which unit do you compare?",
    "luckiest seed": "Your choice rests on the luckiest seed: which one will your visitor get?",
    "margin added": "Your margin is a distance from the best; expected is a share of it.",
    "margin fixed": "Your margin is 10 %, whatever `margin` says.",
    "best, not cheapest": "You take the best affordable one; a cheaper one is within the margin. Is the rest worth it?",
    "most calls": "Your choice makes the most calls of those within the margin. Who pays for them?",
    "best of all": "You measure the margin from a sampler that nobody will wait for: the best of which set?",
}


def some_rows(seed):
    """Made-up measurements in random order: four samplers, five numbers of calls, three seeds, some luck."""
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for place, sampler in enumerate(["ddpm", "ddim", "heun", "dpm_solver"]):
        size = float(torch.rand(1, generator=generator)) * 10 + 4
        for calls in (3, 6, 12, 24, 48):
            level = 1.2 + 0.1 * place + size / calls
            for run in range(3):
                luck = float(torch.randn(1, generator=generator)) * 0.25 * level
                rows.append(dict(sampler=sampler, calls=calls, seed=run, frechet=max(0.2, level + luck), accuracy=0.9))
    return [rows[i] for i in torch.randperm(len(rows), generator=generator)]


def test_budget(answer):
    found = {}
    for seed in range(24):
        rows = some_rows(seed)
        seconds, patience = [(0.25, 13.0), (2.0, 13.0)][seed % 2]
        margin = (0.1, 0.25, 0.5)[seed % 3]
        result = ask(answer, rows, seconds, patience, margin)
        if not (isinstance(result, tuple | list) and len(result) == 2):
            return f"A pair (sampler, calls) is expected, and this is {describe(result)}."
        right = budget(rows, seconds, patience, margin)
        if tuple(result) == right:
            continue
        known = {(row["sampler"], row["calls"]) for row in rows}
        if tuple(result) not in known:
            return f"{tuple(result)} was never measured; choose one of the pairs (sampler, calls) in rows."
        for slip in BUDGET_SYMPTOMS:
            found.setdefault(slip, True)
        found["wrong"] = f"For one table your choice is {tuple(result)}; expected {right}."
        for slip in BUDGET_SYMPTOMS:
            found[slip] &= tuple(result) == budget_with(slip)(rows, seconds, patience, margin)
    if "wrong" not in found:
        return None
    # The slip is the one that explains every wrong choice.
    return next((text for slip, text in BUDGET_SYMPTOMS.items() if found[slip]), found["wrong"])


EXERCISES = {
    "06.1": Exercise(
        test=test_ddim_step,
        solution=ddim_step,
        mistakes={
            "direction ignores std": (step_with("direction ignores std"), "what has to shrink"),
            "no root in the direction": (step_with("no root in the direction"), "multiplied by a variance"),
            "std not squared": (step_with("std not squared in the direction"), "subtracted from sigma_s^2"),
            "std from a variance": (step_with("std from a variance"), "Your fresh noise is too weak"),
            "std at t": (step_with("std at t"), "at which of the two times"),
            "seen noise not scaled": (step_with("seen noise not scaled"), "has standard deviation sigma_t"),
            "alpha_t for alpha_s": (step_with("alpha_t"), "At which time does the step end"),
            "fresh noise times a variance": (step_with("noise times a variance"), "the factor is std itself"),
            "one t for all": (one_t_for_all, "wrong when each has its own"),
        },
        remark="Five lines without a number of steps in them: they serve 5 steps and 1,000, DDPM and the ODE.",
    ),
    "06.2": Exercise(
        test=test_both_ends,
        solution=both_ends,
        mistakes={
            "one generator for both runs": (one_generator, "begin with equal seeds"),
            "another seed for ddpm": (seeds_of(1, 2, 3, 4), "begin with equal seeds"),
            "equal to the last bit": (seeds_of(1, 1, 3, 4, tolerance=0.0), "last digits of a float64"),
            "only eta = 1": (seeds_of(1, 1, 3, 4, ends="eta = 1"), "at eta = 0. Which two runs"),
            "only eta = 0": (seeds_of(1, 1, 3, 4, ends="eta = 0"), "without making room"),
            "one seed for both runs of eta = 0": (seeds_of(1, 1, 3, 3), "at eta = 0. Which two runs"),
            "only too high counts": (looking_at(lambda difference: difference.max()), "a negative difference"),
            "one number is enough": (looking_at(lambda difference: difference.abs().min()), "one of the samples"),
            "too generous": (seeds_of(1, 1, 3, 4, tolerance=0.02), "one part in ten thousand"),
            "always content": (lambda *inputs: True, "at eta = 0. Which two runs"),
        },
        remark="You just wrote a test of this course's own suite: two identities that no picture would have shown.",
    ),
    "06.3": Exercise(
        test=test_subsequence,
        solution=subsequence,
        mistakes={
            "a stride": (stride, "what was rounded away"),
            "down to 1": (down_to_one, "Where does a sampler stop"),
            "a stride and a last jump": (stride_and_a_jump, "can all be equal to within 1"),
            "counted from zero": (counted_from_zero, "Which i is pure noise"),
            "one step too few": (one_too_few, "how many numbers do"),
            "upwards": (upwards, "At which end is that"),
            "wraps around": (wrapped, "does it wrap around"),
        },
        remark="With times in [0, 1] this is time_grid(steps): a number of steps that divides T was never needed.",
    ),
    "06.4": Exercise(
        test=test_round_trip,
        solution=round_trip,
        mistakes={
            "the way up falls": (never_up, "do the times of the way up rise"),
            "back from the data": (back_from_the_data, "where does it start"),
            "the way back rises": (up_twice, "do the times of the way back fall"),
            "the estimate instead of the sample": (estimates, "guess of x_0"),
            "swapped": (swapped, "in which order"),
            "noise on the way back": (with_chance, "which eta"),
            "the forward process instead of the ODE": (forward_process, "who draws at random"),
        },
        remark="Image editing by inversion starts exactly so: go up, change what the denoiser is told, come down.",
    ),
    "06.5": Exercise(
        test=test_budget,
        solution=budget,
        mistakes={
            "patience ignored": (budget_with("patience ignored"), "waits longer"),
            "patience in calls": (budget_with("patience in calls"), "in which unit"),
            "luckiest seed": (budget_with("luckiest seed"), "luckiest seed"),
            "best, not cheapest": (budget_with("best, not cheapest"), "Is the rest worth it"),
            "margin fixed": (budget_with("margin fixed"), "whatever `margin` says"),
            "margin added": (budget_with("margin added"), "a share of it"),
            "most calls": (budget_with("most calls"), "Who pays"),
            "margin from the best of all": (budget_with("best of all"), "nobody will wait for"),
        },
        remark="Budgets are read from a measured curve of your own model; curves of other models do not carry over.",
    ),
}

"""Exercises of lesson 12: a convolution, a thousand images, copy or not, the schedule's shift, nine claims."""

import math
from functools import partial
from numbers import Real

import numpy as np
import torch

from .engine import Exercise, Untouched, Wrong, ask, ask_tensor, compare, describe

# ---------------------------------------------------------------------------------------------- 12.1 one convolution


def convolution(channels_in, channels_out, kernel, side, stride=1):
    places = math.ceil(side / stride) ** 2
    return channels_in * kernel**2 * channels_out * places


def convolution_with(slip=""):
    """The count of 12.1 with one slip; without a name it is right."""

    def my_convolution(channels_in, channels_out, kernel, side, stride=1):
        out = math.ceil(side / stride)
        places = {
            "stride forgotten": side**2,
            "stride once": math.ceil(side**2 / stride),
            "side once": out,
            "rounded down": (side // stride) ** 2,
            "rounded to nearest": math.floor(side / stride + 0.5) ** 2,
            "no places": 1,
            "unpadded": ((side - kernel) // stride + 1) ** 2,
        }.get(slip, out**2)
        taps = {"kernel once": kernel}.get(slip, kernel**2)
        channels = {"channels in": channels_out, "channels out": channels_in, "depthwise": max(channels_in, 1)}
        pairs = channels.get(slip, channels_in * channels_out)
        return {"flops": 2, "bias": 1 + 1 / (channels_in * taps)}.get(slip, 1) * pairs * taps * places

    return my_convolution


CONVOLUTION_SYMPTOMS = {
    "flops": "Twice what is asked for: one multiplication with its addition counts once here. (FLOPs are twice that.)",
    "stride forgotten": "It is right with stride 1 only. With stride 2 it stands at fewer places: at how many?",
    "stride once": "A stride of 2 leaves out every second row, and what else?",
    "rounded down": "It is right where the stride divides the side. On a side of 7 the kernel stands at 0, 2, 4, 6: "
    "how many places are that?",
    "rounded to nearest": "On a side of 9 with stride 4 the kernel stands at 0, 4, 8: how many places are that?",
    "side once": "Twice the side gives you twice the work. How many places has a square?",
    "no places": "That is how many weights the kernel has. Each of them is used at every place of the output.",
    "unpadded": "Your output is smaller than the input at stride 1; what are the rows of padding for?",
    "kernel once": "A kernel of 5 costs you 5/3 of a kernel of 3. How many numbers does a square kernel look at?",
    "channels in": "The number of input channels does not change your count. What does an output channel add up over?",
    "channels out": "The number of output channels does not change your count. Each of them has a kernel of its own.",
    "bias": "You count an addition for the bias. It is one of the few per cent that the course leaves out.",
}


def explained(call, cases, right, with_slip, symptoms, what, tolerance=1e-9):
    """None if the call is right in all cases; else the symptom of the slip that explains all of it, or one case."""
    got = [as_number(call(*case), what) for case in cases]
    wanted = [float(right(*case)) for case in cases]

    def same(a, b):
        return all(abs(x - y) <= tolerance * max(abs(y), 1e-12) for x, y in zip(a, b))

    if same(got, wanted):
        return None
    for slip, text in symptoms.items():
        if same(got, [float(with_slip(slip)(*case)) for case in cases]):
            return text
    k = next(k for k, (a, b) in enumerate(zip(got, wanted)) if not abs(a - b) <= tolerance * max(abs(b), 1e-12))
    return f"For {', '.join(map(str, cases[k]))} {what} is {got[k]:,.6g}; expected {wanted[k]:,.6g}."


def as_number(value, what):
    """A number, also if it came as a tensor or array of one."""
    if isinstance(value, torch.Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise Wrong(f"{what[0].upper()}{what[1:]} should be a number, and this is {describe(value)}.")
    return float(value)


def test_convolution(answer):
    cases = [
        (2, 3, 3, 9, 4),
        (3, 2, 5, 13, 4),
        (3, 8, 3, 10, 1),
        (8, 5, 5, 12, 2),
        (4, 6, 3, 7, 2),
        (2, 16, 1, 9, 3),
        (16, 4, 5, 28, 1),
        (1, 32, 3, 11, 4),
    ]
    return explained(
        partial(ask, answer), cases, convolution, convolution_with, CONVOLUTION_SYMPTOMS, "the number of multiply-adds"
    )


# ---------------------------------------------------------------------------------------------- 12.2 a thousand images


def estimate(images, steps, sampler, guided, batch_size, seconds_per_call, watts):
    calls = 2 * steps - 1 if sampler == "heun" else steps
    if guided:
        calls = 2 * calls
    seconds = math.ceil(images / batch_size) * calls * seconds_per_call
    return seconds, seconds * watts / 3600


def estimate_with(slip=""):
    """The estimate of 12.2 with one slip; without a name it is right."""

    def my_estimate(images, steps, sampler, guided, batch_size, seconds_per_call, watts):
        calls = 2 * steps - 1 if sampler == "heun" else steps
        if slip == "Heun like DDIM":
            calls = steps
        if slip == "Heun's last step":
            calls = 2 * steps if sampler == "heun" else steps
        twice = {"guidance forgotten": False, "always guided": True}.get(slip, guided)
        calls = 2 * calls if twice else calls
        batches = {
            "images for batches": images,
            "last batch lost": images // batch_size,
            "part of a batch": images / batch_size,
            "one batch": 1,
        }.get(slip, math.ceil(images / batch_size))
        seconds = batches * calls * seconds_per_call
        if slip == "training counted":
            seconds = 3 * seconds
        hours = seconds / 3600
        if slip == "swapped":
            return hours * watts, seconds
        if slip == "hours for seconds":
            return hours, hours * watts
        energy = {"joules": seconds * watts, "kilowatt-hours": hours * watts / 1000, "minutes": seconds * watts / 60}
        return seconds, energy.get(slip, hours * watts)

    return my_estimate


SECONDS_SYMPTOMS = {
    "guidance forgotten": "With guidance your estimate is half of what it takes: how often is the network asked in "
    "each look, and with which labels?",
    "always guided": "Without guidance your estimate is twice what it takes: who is the second call for?",
    "Heun like DDIM": "Heun's estimates are too low: how often does it ask in one step (lesson 06)?",
    "Heun's last step": "Heun's estimates are too high by one look: what does its step to t = 0 leave out?",
    "images for batches": "Your time grows with every single image, but one call serves a whole batch.",
    "last batch lost": "The images that do not fill a batch are never made: which way do you round?",
    "part of a batch": "You pay a batch that is not full only in part; its call is a call, and here all calls cost the "
    "same.",
    "one batch": "The number of images does not change your seconds. How many batches are they?",
    "training counted": "Three times too much: that factor belongs to training, where the way back is paid too.",
    "swapped": "Your first result is the energy. In which order are the two asked for?",
    "hours for seconds": "Your first result is 3,600 times too small: it is asked for in seconds.",
}
ENERGY_SYMPTOMS = {
    "joules": "Your energy is 3,600 times too large: a watt for a second is a joule. How many seconds has an hour?",
    "kilowatt-hours": "Your energy is 1,000 times too small: watt-hours are asked for, not kilowatt-hours.",
    "minutes": "Your energy is 60 times too large: you divide by 60 once. Seconds to hours takes it twice.",
}


def test_estimate(answer):
    cases = [
        (1000, 50, "ddim", False, 64, 0.08, 30.0),
        (1000, 50, "ddim", True, 64, 0.08, 30.0),
        (300, 12, "heun", False, 100, 0.5, 250.0),
        (700, 25, "heun", True, 96, 0.02, 400.0),
        (10, 7, "ddim", True, 16, 1.5, 65.0),
    ]

    def part(which, function):
        def one(*case):
            result = function(*case)
            if isinstance(result, torch.Tensor | np.ndarray):
                result = tuple(result.tolist()) if result.ndim == 1 else result
            if not (isinstance(result, tuple | list) and len(result) == 2):
                raise Wrong(f"A pair (seconds, watt-hours) is expected, and this is {describe(result)}.")
            return result[which]

        return one

    def slip(which):
        return lambda name: part(which, estimate_with(name))

    seconds = explained(
        part(0, partial(ask, answer)),
        cases,
        part(0, estimate),
        slip(0),
        SECONDS_SYMPTOMS,
        "the number of seconds",
        1e-6,
    )
    if seconds:
        return seconds
    return explained(
        part(1, partial(ask, answer)), cases, part(1, estimate), slip(1), ENERGY_SYMPTOMS, "the energy", 1e-6
    )


# ---------------------------------------------------------------------------------------------- 12.3 copy or not


def copy_or_not(samples, training, held_out, false_alarms):
    fresh = torch.cdist(held_out, training).amin(1)
    threshold = fresh.quantile(false_alarms)
    return torch.cdist(samples, training).amin(1) < threshold


def copies_with(slip=""):
    """The test of 12.3 with one slip; without a name it is right."""

    def my_copies(samples, training, held_out, false_alarms):
        def near(a, b):
            distance = torch.cdist(a, b)
            return distance.mean(1) if slip == "mean for minimum" else distance.amin(1)

        judged = near(samples, held_out if slip == "near held-out data" else training)
        if slip == "threshold from training":
            floor = near(training, training)
        elif slip == "threshold from training, not itself":
            floor = torch.cdist(training, training).fill_diagonal_(torch.inf).amin(1)
        elif slip == "threshold from samples":
            floor = judged
        elif slip == "the other way":
            floor = near(training, held_out)
        elif slip == "held-out among themselves":
            floor = torch.cdist(held_out, held_out).fill_diagonal_(torch.inf).amin(1)
        else:
            floor = near(held_out, training)
        share = {"wrong end": 1 - false_alarms, "share ignored": 0.0, "median": 0.5}.get(slip, false_alarms)
        threshold = torch.tensor(0.5).to(judged) if slip == "no floor" else floor.quantile(share)
        return judged > threshold if slip == "far is a copy" else judged < threshold

    return my_copies


COPIES_SYMPTOMS = {
    "far is a copy": "You call those copies that are far from every training point. On which side are they?",
    "mean for minimum": "A copy of one point is at an ordinary distance from all the others, and you average over them "
    "all. Which one counts?",
    "threshold from training": "Your threshold is 0, and nothing is below it: which point is nearest to a training "
    "point in its own set?",
    "threshold from training, not itself": "Your threshold says how near training points lie to each other. How near "
    "do points come that the model has never seen?",
    "threshold from samples": "You call the same share of every set copies, also where all are: the threshold comes "
    "from the suspects themselves.",
    "the other way": "For your threshold you ask of each training point how near a held-out point is. You judge "
    "samples by their way to the training set: measure the held-out points in the same way.",
    "held-out among themselves": "Your threshold says how near held-out points lie to each other; it should say how "
    "near they come to the training set.",
    "near held-out data": "You measure how near samples come to held-out points. Of which set would they be copies?",
    "wrong end": "Nearly all fresh points are copies by your test: which end of the sorted distances is the "
    "suspicious one?",
    "share ignored": "Your threshold does not move with false_alarms, the share of held-out points below it.",
    "median": "Half of all fresh points are copies by your test, whatever false_alarms says.",
    "no floor": "Your threshold is the same for every data set. Points of another set may all be nearer than that: "
    "what would points that nobody copied have?",
}


def copies_problem(seed, false_alarms, scale, spread=1.0):
    """Samples, training and held-out points: some samples are copies with a little noise; none lies near the line."""
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    training, held_out = scale * draw(60, 4), spread * scale * draw(41, 4)
    samples = torch.cat([training[:20] + 0.02 * scale * draw(20, 4), scale * draw(60, 4)])
    fresh = torch.cdist(held_out, training).amin(1).sort().values
    place = round(false_alarms * 40)
    distance = torch.cdist(samples, training).amin(1)
    sure = (distance < fresh[max(place - 1, 0)] * 0.999) | (distance > fresh[place + 1] * 1.001)
    return samples[sure], training, held_out, false_alarms


def test_copies(answer):
    # The share times 40 is a whole number, so that every kind of quantile of the 41 held-out points is the same.
    problems = [
        copies_problem(*case)
        for case in [(0, 0.05, 1.0), (1, 0.1, 0.3), (2, 0.025, 4.0), (3, 0.25, 1.0), (4, 0.1, 1.0, 1.6)]
    ]
    results = []
    for problem in problems:
        got = ask_tensor(answer, *problem, shape=problem[0].shape[:1])
        if got.dtype != torch.bool:
            return f"True or False is expected for each sample, and this is {describe(got)}: compare with a threshold."
        results.append(got)
    wanted = [copy_or_not(*problem) for problem in problems]
    if all(torch.equal(a, b) for a, b in zip(results, wanted)):
        return None
    for slip, text in COPIES_SYMPTOMS.items():
        if all(torch.equal(a, copies_with(slip)(*problem)) for a, problem in zip(results, problems)):
            return text
    k = next(k for k, (a, b) in enumerate(zip(results, wanted)) if not torch.equal(a, b))
    return (
        f"With false_alarms = {problems[k][3]} you call {int(results[k].sum())} of {len(wanted[k])} samples copies; "
        f"expected {int(wanted[k].sum())}, or others of them."
    )


# ---------------------------------------------------------------------------------------------- 12.4 a larger image


def shifted_time(t, side, new_side):
    factor = new_side / side
    return factor * t / (1 + (factor - 1) * t)


def shifted_with(change):
    """The time of 12.4 with another factor in place of new_side / side."""
    return lambda t, side, new_side: shifted_time(t, 1.0, change(new_side / side))


def only_multiplied(t, side, new_side):
    return new_side / side * t


SHIFT_SYMPTOMS = {
    "the other way": (
        shifted_with(lambda f: 1 / f),
        "For a larger image your time is earlier. Does a larger image need more noise to be as hidden, or less?",
    ),
    "area": (
        shifted_with(lambda f: f**2),
        "You shift by the ratio of the areas. An average over f x f pixels divides the variance by f^2: and the "
        "standard deviation?",
    ),
    "not squared": (
        shifted_with(lambda f: f**0.5),
        "Your signal-to-noise ratio falls by f; it is a ratio of variances, and they change by f^2.",
    ),
    "log base 2": (
        shifted_with(lambda f: f ** (1 / math.log(2))),
        "Your shift is right for some logarithm, but not for that of log-SNR in this course: which base has it?",
    ),
    "log base 10": (
        shifted_with(lambda f: f ** (1 / math.log(10))),
        "Your shift is right for some logarithm, but not for that of log-SNR in this course: which base has it?",
    ),
    "only multiplied": (
        only_multiplied,
        "Your times leave [0, 1]: sigma grows by f, but then alpha and sigma no longer belong to Linear, where they "
        "add up to 1.",
    ),
    "sigma multiplied, alpha kept, then cut": (
        lambda t, side, new_side: (new_side / side * t).clamp(max=1),
        "Your times reach 1, pure noise, before t does: it is the ratio of sigma to alpha that grows by f.",
    ),
    "nothing": (lambda t, side, new_side: t + 0, "Your time does not depend on the sides."),
    "sides swapped only for smaller": (
        shifted_with(lambda f: max(f, 1 / f)),
        "It is right for larger images. A smaller one needs less noise than the one you come from.",
    ),
}


def test_shifted_time(answer):
    t = torch.tensor([0.0, 0.07, 0.3, 0.5, 0.81, 0.99, 1.0], dtype=torch.float64)
    found, wrong = None, dict.fromkeys(SHIFT_SYMPTOMS, True)
    for side, new_side in [(28, 56), (28, 112), (64, 32), (32, 96)]:
        got = ask_tensor(answer, t, side, new_side, shape=t.shape)
        right = shifted_time(t, side, new_side)
        found = found or compare(got, right, what=f"t' from {side} to {new_side}", tolerance=1e-6)
        for name, (slip, _) in SHIFT_SYMPTOMS.items():
            wrong[name] &= compare(got, slip(t, side, new_side), tolerance=1e-6) is None
    if found:
        return next((text for name, (_, text) in SHIFT_SYMPTOMS.items() if wrong[name]), found)
    return None


# ---------------------------------------------------------------------------------------------- 12.5 nine claims

REPORT = [  # made up: no such models exist
    dict(method="ours", frechet=[2.9, 3.6, 3.3], n=10_000, floor=0.4, tuning_runs=60, shown="last", steps=50),
    dict(method="rival", frechet=[3.2, 3.4, 3.1], n=10_000, floor=0.4, tuning_runs=60, shown="last", steps=50),
    dict(method="ours-large", frechet=[2.6], n=10_000, floor=0.4, tuning_runs=60, shown="last", steps=50),
    dict(method="ours-small", frechet=[4.5, 4.7, 4.6], n=500, floor=None, tuning_runs=60, shown="last", steps=50),
    dict(method="ours-early", frechet=[2.8, 2.7, 2.9], n=10_000, floor=0.4, tuning_runs=60, shown="best", steps=50),
    dict(method="ours-wide", frechet=[2.2, 2.4, 2.3], n=10_000, floor=0.4, tuning_runs=60, shown="last", steps=25),
    dict(method="gan", frechet=[6.6, 7.0, 6.7], n=10_000, floor=0.4, tuning_runs=0, shown="last", steps=1),
]
for _row in REPORT:
    _row["guidance"] = _row["method"] == "ours-wide"

CLAIMS = {
    1: "`ours` is better than `rival`.",
    2: "`ours-large` is better than `ours`: size pays.",
    3: "`rival` is better than `ours-small`.",
    4: "`ours-small` is far from real digits: 4.6 is a lot.",
    5: "Diffusion beats GANs: `rival` has half the distance of `gan`.",
    6: "Stop early: `ours-early` is better than `ours`.",
    7: "`ours-wide` has a lower Fréchet distance than `rival`.",
    8: "A sample of `ours-wide` asks the network half as often as one of `rival`: 25 steps, not 50.",
    9: "`ours-wide` did not learn its training digits by heart.",
}
WORDS = {
    "supported": "the report shows it",
    "contradicted": "the report shows the opposite, or that it is not so",
    "within the spread": "the seeds differ as much as the methods do",
    "one seed": "one side was trained once",
    "unequal n": "the two distances were measured with different numbers of samples",
    "no floor": "nobody measured what real data get with that n",
    "untuned side": "one side was tuned and the other was not",
    "best of many": "the number was chosen, by itself, among many",
    "not measured": "nothing in the report speaks of it",
}
VERDICTS = dict(
    enumerate(
        ["within the spread", "one seed", "unequal n", "no floor", "untuned side", "best of many", "supported"]
        + ["contradicted", "not measured"],
        start=1,
    )
)
QUESTIONS = {
    1: "the two means differ by 0.03. How far apart are the seeds of one method?",
    2: "how often was each of the two trained?",
    3: "what does a Fréchet distance do when there are fewer samples (lesson 07)?",
    4: "which number do you hold the 4.6 against, and with how many samples was that one measured?",
    5: "how much work went into the one method, and how much into the other?",
    6: "read the column `shown`. Which checkpoint would you have had, without looking at the distance first?",
    7: "compare n, floor, seeds and tuning of the two, one by one. What is there to object to?",
    8: "how often is the network asked in one step with guidance?",
    9: "which column would change if it had?",
}


def test_verdicts(answer):
    if not isinstance(answer, dict):
        return f"A dict is expected, claim -> word, and this is {describe(answer)}."
    if answer and all(word is ... for word in answer.values()):
        raise Untouched
    if not answer:
        raise Untouched
    if not set(answer) & set(CLAIMS):
        return "The keys are the numbers of the claims, 1 to 9."
    open_ones = [k for k in CLAIMS if answer.get(k, ...) is ...]
    words = {k: str(word).strip().lower() for k, word in answer.items() if k in CLAIMS and k not in open_ones}
    for k, word in words.items():
        if word not in WORDS:
            return f"Claim {k}: {word!r} is none of the words. They are: {', '.join(WORDS)}."
    if set(words) == set(CLAIMS) and set(words.values()) == {"supported"}:
        return "You believe all nine. Which of them would you bet on, if the models were trained once more?"
    if set(words) == set(CLAIMS) and "supported" not in words.values():
        return (
            "You believe none of the nine. A checklist that lets nothing pass says nothing: for one claim the report "
            "answers every point of it."
        )
    for k, word in words.items():
        if word != VERDICTS[k]:
            right = sum(word == VERDICTS[k] for k, word in words.items())
            return f"{right} of {len(CLAIMS)} are right. Claim {k}: {QUESTIONS[k]}"
    if open_ones:
        return f"What you have is right. Still open: claim {', '.join(map(str, open_ones))}."
    return None


EXERCISES = {
    "12.1": Exercise(
        test=test_convolution,
        solution=convolution,
        mistakes={
            "stride forgotten": (convolution_with("stride forgotten"), "at fewer places"),
            "stride in one direction": (convolution_with("stride once"), "every second row"),
            "rounded down": (convolution_with("rounded down"), "On a side of 7"),
            "rounded to nearest": (convolution_with("rounded to nearest"), "stands at 0, 4, 8"),
            "side not squared": (convolution_with("side once"), "How many places has a square"),
            "FLOPs": (convolution_with("flops"), "Twice what is asked for"),
            "kernel not squared": (convolution_with("kernel once"), "a square kernel"),
            "weights only": (convolution_with("no places"), "how many weights"),
            "input channels forgotten": (convolution_with("channels in"), "add up over"),
            "output channels forgotten": (convolution_with("channels out"), "a kernel of its own"),
            "no padding": (convolution_with("unpadded"), "rows of padding"),
            "a bias": (convolution_with("bias"), "the bias"),
        },
        remark="Weights say little about work: the same kernel costs four times as much on an image of twice the side.",
    ),
    "12.2": Exercise(
        test=test_estimate,
        solution=estimate,
        mistakes={
            "guidance forgotten": (estimate_with("guidance forgotten"), "with which labels"),
            "always guided": (estimate_with("always guided"), "who is the second call for"),
            "Heun like DDIM": (estimate_with("Heun like DDIM"), "too low"),
            "Heun's last step": (estimate_with("Heun's last step"), "too high by one look"),
            "images for batches": (estimate_with("images for batches"), "serves a whole batch"),
            "last batch lost": (estimate_with("last batch lost"), "which way do you round"),
            "part of a batch": (estimate_with("part of a batch"), "only in part"),
            "one batch": (estimate_with("one batch"), "How many batches"),
            "training counted": (estimate_with("training counted"), "belongs to training"),
            "swapped": (estimate_with("swapped"), "In which order"),
            "hours for seconds": (estimate_with("hours for seconds"), "3,600 times too small"),
            "joules for watt-hours": (estimate_with("joules"), "is a joule"),
            "kilowatt-hours": (estimate_with("kilowatt-hours"), "1,000 times too small"),
            "divided by 60 once": (estimate_with("minutes"), "60 times too large"),
        },
        remark="Six factors, and each can be read off before anything runs. Write them beside every such number.",
    ),
    "12.3": Exercise(
        test=test_copies,
        solution=copy_or_not,
        mistakes={
            "threshold from training": (copies_with("threshold from training"), "nearest to a training point"),
            "training, not itself": (copies_with("threshold from training, not itself"), "never seen"),
            "mean for minimum": (copies_with("mean for minimum"), "you average over them"),
            "threshold from the samples": (copies_with("threshold from samples"), "the suspects themselves"),
            "the other way": (copies_with("the other way"), "in the same way"),
            "held-out among themselves": (
                copies_with("held-out among themselves"),
                "held-out points lie to each other",
            ),
            "near held-out data": (copies_with("near held-out data"), "Of which set"),
            "wrong end": (copies_with("wrong end"), "which end"),
            "false_alarms ignored": (copies_with("share ignored"), "does not move with false_alarms"),
            "the median": (copies_with("median"), "Half of all fresh points"),
            "no held-out floor": (copies_with("no floor"), "the same for every data set"),
            "far is a copy": (copies_with("far is a copy"), "On which side"),
        },
        remark="Your test has a rate of false alarms that you chose. It accuses an honest sampler of that share.",
    ),
    "12.4": Exercise(
        test=test_shifted_time,
        solution=shifted_time,
        mistakes={
            "the other way": (SHIFT_SYMPTOMS["the other way"][0], "more noise to be as hidden"),
            "ratio of areas": (SHIFT_SYMPTOMS["area"][0], "ratio of the areas"),
            "factor not squared": (SHIFT_SYMPTOMS["not squared"][0], "a ratio of variances"),
            "log base 2": (SHIFT_SYMPTOMS["log base 2"][0], "which base"),
            "log base 10": (SHIFT_SYMPTOMS["log base 10"][0], "which base"),
            "only multiplied": (only_multiplied, "leave [0, 1]"),
            "multiplied and cut": (SHIFT_SYMPTOMS["sigma multiplied, alpha kept, then cut"][0], "before t does"),
            "not shifted": (SHIFT_SYMPTOMS["nothing"][0], "does not depend on the sides"),
            "never less noise": (SHIFT_SYMPTOMS["sides swapped only for smaller"][0], "A smaller one needs less"),
        },
        remark="Stable Diffusion 3 shifts its times so (Esser et al. 2024, eq. 23); there f is the root of m / n.",
    ),
    "12.5": Exercise(
        test=test_verdicts,
        solution=VERDICTS,
        mistakes={
            "believes everything": (dict.fromkeys(CLAIMS, "supported"), "all nine"),
            "believes nothing": (VERDICTS | {7: "within the spread"}, "none of the nine"),
            "compares means": (VERDICTS | {1: "contradicted"}, "the two means differ by 0.03"),
            "one run is enough": (VERDICTS | {2: "supported"}, "how often was each"),
            "n ignored": (VERDICTS | {3: "supported"}, "fewer samples"),
            "one floor for all n": (VERDICTS | {4: "supported"}, "do you hold the 4.6 against"),
            "effort ignored": (VERDICTS | {5: "supported"}, "how much work"),
            "picked by itself": (VERDICTS | {6: "supported"}, "the column `shown`"),
            "steps for calls": (VERDICTS | {8: "supported"}, "in one step with guidance"),
            "quality for novelty": (VERDICTS | {9: "supported"}, "which column"),
        },
        remark="One claim of nine stands. That is no cynicism: a report made with care could carry most of them.",
    ),
}

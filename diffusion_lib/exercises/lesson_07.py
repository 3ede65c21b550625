"""Exercises of lesson 07: a distance, how many samples it takes, a permutation test, precision and recall, copies."""

import math
from itertools import combinations

import torch
import torch.nn.functional as F

from .. import data
from ..metrics import copies, nearest, reach, root
from .engine import Exercise, Wrong, ask, close, compare, describe

# ---------------------------------------------------------------------------------------------- 07.1 Frechet distance


def frechet(a, b):
    a, b = a.double(), b.double()
    C_a, C_b = a.T.cov(), b.T.cov()
    overlap = torch.linalg.svdvals(root(C_a) @ root(C_b)).sum()
    return (a.mean(0) - b.mean(0)).square().sum() + C_a.trace() + C_b.trace() - 2 * overlap


def frechet_with(slip):
    """The distance of 07.1 with one slip."""

    def my_frechet(a, b):
        a, b = a.double(), b.double()
        by_n = slip == "divided by N"
        C_a, C_b = (x.T.cov(correction=0 if by_n else 1) for x in (a, b))
        away = (a.mean(0) - b.mean(0)).square().sum()
        if slip == "mean not squared":
            away = away.sqrt()
        if slip == "mean over the features":
            away = (a.mean(0) - b.mean(0)).square().mean()
        if slip == "no means":
            away = 0.0
        overlap = torch.linalg.svdvals(root(C_a) @ root(C_b)).sum()
        if slip == "trace of the product of roots":
            overlap = (root(C_a) @ root(C_b)).trace()
        if slip == "root of each number":
            overlap = (C_a @ C_b).abs().sqrt().trace()
        if slip == "variances only":
            overlap = (C_a.diagonal() * C_b.diagonal()).sqrt().sum()
        if slip == "root of the product":
            overlap = root(C_a @ C_b).trace()
        if slip == "singular values of the product":
            overlap = torch.linalg.svdvals(C_a @ C_b).sqrt().sum()
        if slip == "no root":
            overlap = (C_a @ C_b).trace()
        spread = C_a.trace() + C_b.trace() - (1 if slip == "overlap once" else 2) * overlap
        if slip == "no covariances":
            spread = 0.0
        total = away + spread
        return total.sqrt() if slip == "root of all" else total

    return my_frechet


FRECHET_SYMPTOMS = {
    "overlap once": "Two equal sets are not at distance 0 for you: what remains of C + C - (C C)^(1/2)?",
    "no means": "Move one set by 1 in every feature and your distance stays the same: what is to be said of the means?",
    "mean not squared": "Move one set twice as far and the part of the means should be four times as large; yours is "
    "twice as large.",
    "trace of the product of roots": "It is right where the covariances have the same axes, and too large elsewhere: "
    "the trace of C_a^(1/2) C_b^(1/2) is not that of (C_a C_b)^(1/2). Which singular values help?",
    "root of each number": "You take the root of every number of a matrix. A root R of a matrix M is one with R R = M.",
    "root of the product": "`root` is for symmetric matrices, and C_a C_b is not symmetric. Take the two roots "
    "first, then multiply.",
    "singular values of the product": "The singular values of C_a C_b are not its eigenvalues, since it is not "
    "symmetric. Take the two roots first, then multiply.",
    "mean over the features": "The squared distance of the means is a sum over the features; yours is their mean.",
    "variances only": "Turn both sets together and your distance changes: you look at the variances along the axes "
    "only. Where are the covariances?",
    "no root": "Double all features and a squared distance should grow by 4; a part of yours grows by 16: is there a "
    "root missing?",
    "no covariances": "Two sets with one mean are at distance 0 for you, however wide one of them is.",
    "root of all": "You return the root of the Frechet distance. In this field the squared form is the one that is "
    "reported.",
    "divided by N": "Your covariances divide by N. `.cov()` divides by N - 1; for 40 samples that is seen.",
}


def test_frechet(answer):
    generator = torch.Generator().manual_seed(7)
    for n, m, D in [(40, 60, 3), (30, 25, 5)]:
        a = torch.randn(n, D, generator=generator, dtype=torch.float64)
        mix = torch.randn(D, D, generator=generator, dtype=torch.float64) / D**0.5 + 0.5 * torch.eye(D)
        b = torch.randn(m, D, generator=generator, dtype=torch.float64) @ mix + 0.7
        got = as_number(ask(answer, a, b))
        slips = {text: frechet_with(slip)(a, b) for slip, text in FRECHET_SYMPTOMS.items()}
        if symptom := compare(got, frechet(a, b), slips, "the distance", tolerance=1e-5):
            return symptom
        same = as_number(ask(answer, a, a))
        if abs(same) > 1e-5:
            return f"Two equal sets should be at distance 0; yours are at {float(same):.4g}."
    return None


def as_number(value):
    """A number, or a tensor or array of one number, as a float64 tensor ()."""
    if (isinstance(value, torch.Tensor) and value.numel() == 1) or getattr(value, "size", 0) == 1:
        value = value.item()
    if isinstance(value, complex):
        if abs(value.imag) > 1e-6:
            raise Wrong(f"The result is the complex number {value:.3g}; a distance is real.")
        value = value.real
    if not isinstance(value, float | int) or isinstance(value, bool):
        raise Wrong(f"One number is expected, and this is {describe(value)}.")
    value = torch.as_tensor(value, dtype=torch.float64)
    if not value.isfinite():
        raise Wrong(f"The result is {float(value)}: is there the root of a negative number?")
    return value


# ---------------------------------------------------------------------------------------------- 07.2 how many samples


def unrounded(p_a, p_b):
    return 4 * (p_a * (1 - p_a) + p_b * (1 - p_b)) / (p_a - p_b) ** 2


def samples_needed(p_a, p_b):
    return math.ceil(unrounded(p_a, p_b))


def needed_with(slip):
    """The number of 07.2 with one slip."""

    def my_samples_needed(p_a, p_b):
        variance = p_a * (1 - p_a) + p_b * (1 - p_b)
        gap = abs(p_a - p_b)
        if slip == "one sampler only":
            variance = p_a * (1 - p_a)
        if slip == "the other sampler only":
            variance = p_b * (1 - p_b)
        if slip == "subtracted":
            variance = abs(p_a * (1 - p_a) - p_b * (1 - p_b))
        if slip == "both samplers together":
            variance = variance * 2
        if slip == "averaged":
            variance = variance / 2
        if slip == "standard deviations added":
            variance = ((p_a * (1 - p_a)) ** 0.5 + (p_b * (1 - p_b)) ** 0.5) ** 2
        if slip == "variance forgotten":
            variance = 1.0
        needed = 4 * variance / gap**2
        if slip == "gap not squared":
            needed = 4 * variance / gap
        if slip == "one standard error":
            needed = variance / gap**2
        return math.floor(needed) if slip == "rounded down" else math.ceil(needed)

    return my_samples_needed


NEEDED_SYMPTOMS = {
    "one sampler only": "One sampler's luck is missing: both accuracies are measured, and both variances count.",
    "the other sampler only": "One sampler's luck is missing: both accuracies are measured, and both variances count.",
    "subtracted": "You subtract the variances. In a difference of independent numbers they add up.",
    "both samplers together": "Twice what is needed: n is the number of samples of each sampler, not of both together.",
    "averaged": "Half of what is needed: either the 2 of two standard errors was not squared, or the two variances "
    "were averaged and not added.",
    "standard deviations added": "You add two standard deviations. Of independent numbers the variances add up.",
    "variance forgotten": "Your number does not know how much one answer varies: an answer is right or wrong, with "
    "variance p (1 - p).",
    "gap not squared": "Half the gap should take four times as many samples; yours takes twice as many.",
    "one standard error": "Your gap is one standard error; two are asked for.",
    "rounded down": "One sample too few: rounded down, the gap stays just under two standard errors.",
}


def test_needed(answer):
    cases = [(0.90, 0.97), (0.975, 0.998), (0.6, 0.78), (0.35, 0.31), (0.5, 0.25)]
    for p_a, p_b in cases:
        got = ask(answer, p_a, p_b)
        value = as_number(got)
        right = samples_needed(p_a, p_b)
        if int(value) == value and int(value) == right:
            continue
        if abs(value - unrounded(p_a, p_b)) < 1e-4:
            return f"{float(value):.6g} samples: nobody draws a part of one. Which way do you round?"
        if value == right + 1:
            return f"One sample too many: {right} are just enough. How do you round what is whole already?"
        for slip, text in NEEDED_SYMPTOMS.items():
            if abs(float(value) - needed_with(slip)(p_a, p_b)) < 1e-6:
                return text
        if value < 0:
            return "A negative number of samples: does your formula mind which of the two is better?"
        return f"For accuracies of {p_a} and {p_b} yours are {float(value):.6g} samples; expected {right}."
    return None


# ---------------------------------------------------------------------------------------------- 07.3 permutation test


def p_value(measure, a, b, draws, generator):
    pool = torch.cat([a, b])
    observed, as_large = measure(a, b), 0
    for _ in range(draws):
        order = torch.randperm(len(pool), generator=generator)
        as_large += int(measure(pool[order[: len(a)]], pool[order[len(a) :]]) >= observed)
    return (1 + as_large) / (1 + draws)


def p_value_with(slip):
    """The p-value of 07.3 with one slip."""

    def my_p_value(measure, a, b, draws, generator):
        pool = torch.cat([a, b])
        observed, as_large = measure(a, b), 0
        for _ in range(draws):
            if slip == "the same division":
                generator.manual_seed(0)
            order = torch.randperm(len(pool), generator=generator)
            n = len(a)
            if slip == "with replacement":
                order = torch.randint(len(pool), (len(pool),), generator=generator)
            if slip == "inside the sets":
                order = torch.cat([torch.randperm(n), n + torch.randperm(len(b))])
            if slip == "halves":
                n = len(pool) // 2
            if slip == "the same part twice":
                value = measure(pool[order[:n]], pool[order[:n]])
            else:
                value = measure(pool[order[:n]], pool[order[n:]])
            as_large += int(
                {"strictly larger": value > observed, "smaller": value <= observed}.get(slip, value >= observed)
            )
        if slip == "can be zero":
            return as_large / draws
        if slip == "a count":
            return 1 + as_large
        return (1 + as_large) / (draws if slip == "one draw short" else 1 + draws)

    return my_p_value


class Witness:
    """A measure that remembers the sets it was shown."""

    def __init__(self, measure):
        self.measure, self.seen = measure, []

    def __call__(self, a, b):
        self.seen.append((a.flatten().tolist(), b.flatten().tolist()))
        return self.measure(a, b)


def gap(a, b):
    return abs(float(a.mean() - b.mean()))


def test_p_value(answer):
    generator = torch.Generator().manual_seed(73)
    a = torch.randn(5, 1, generator=generator, dtype=torch.float64)
    b = torch.randn(3, 1, generator=generator, dtype=torch.float64) + 1.5
    witness, other, draws = Witness(gap), Witness(gap), 60
    as_number(ask(answer, witness, a, b, draws, torch.Generator().manual_seed(1)))
    as_number(ask(answer, other, a, b, draws, torch.Generator().manual_seed(2)))
    here, there = a.flatten().tolist(), b.flatten().tolist()
    divisions = [(x, y) for x, y in witness.seen if (x, y) != (here, there)]
    if not witness.seen:
        return "Your function never calls measure."
    if not divisions:
        return "You measure the two sets as they are, again and again: nothing changes sides."
    if any(len(x) != 5 or len(y) != 3 for x, y in divisions):
        sizes = next((len(x), len(y)) for x, y in divisions if len(x) != 5 or len(y) != 3)
        return f"Sets of 5 and 3 samples come back as sets of {sizes[0]} and {sizes[1]}: which sizes did a and b have?"
    if any(sorted([*x, *y]) != sorted([*here, *there]) for x, y in divisions):
        return (
            "In your divisions some samples occur twice and others not at all. Permuted, each sample is on one side, "
            "once."
        )
    if all(sorted(x) == sorted(here) for x, _ in divisions):
        return "Every sample stays on its side: you shuffle inside the sets. What if both came from one pool?"
    if len({(*x, *y) for x, y in divisions}) < len(divisions) / 2:
        return "You measure the same division again and again: where is the order drawn?"
    if not draws - 10 <= len(divisions) <= draws:
        return f"For draws = {draws} you measure {len(divisions)} random divisions."
    again = Witness(gap)
    as_number(ask(answer, again, a, b, draws, torch.Generator().manual_seed(1)))
    if again.seen != witness.seen:
        return "Two calls with equal generators give two answers: which of your draws does not use the generator?"
    if other.seen == witness.seen:
        return "Generators with two seeds give the same divisions: do your draws come from `generator`?"
    return symptom_of_p(answer, a, b)


def symptom_of_p(answer, a, b):
    """What is wrong with the p-value of an answer whose divisions are right."""
    far = as_number(ask(answer, gap, a, b + 100, 500, torch.Generator().manual_seed(2)))
    if far > 1:
        return f"Your p is {float(far):.4g}. A share lies between 0 and 1: share of what?"
    if far > 0.9:
        return "Sets that are far apart get a p near 1. Which divisions count: those that differ as much, or less?"
    constant = as_number(ask(answer, lambda x, y: 1.0, a, b, 40, torch.Generator().manual_seed(3)))
    if constant < 0.5:
        return "If every division measures the same, p must be 1: do divisions that tie with yours count?"
    wide = torch.arange(20.0).double()[:, None]
    never = as_number(ask(answer, gap, wide, wide + 1000, 50, torch.Generator().manual_seed(4)))
    if never == 0:
        return (
            "Your p is 0: impossible, after 50 divisions? The sets themselves are one of the possible divisions. Where "
            "do you count it?"
        )
    if abs(never - 1 / 51) > 1e-6:
        return f"With 50 divisions, none as large, p is 1/51 = {1 / 51:.4g}; yours is {float(never):.4g}."
    if abs(constant - 1) > 1e-6:
        return f"If every division measures the same, p is 1; yours is {float(constant):.4g}."
    exact = exact_p(a, b)
    found = as_number(ask(answer, gap, a, b, 1500, torch.Generator().manual_seed(6)))
    if abs(float(found) - exact) > 5 * (exact * (1 - exact) / 1500) ** 0.5 + 1 / 1500:
        return f"All 56 divisions give p = {exact:.3f}; 1,500 random ones of yours give {float(found):.3f}."
    return None


def exact_p(a, b):
    """The p-value from all divisions."""
    pool, observed = torch.cat([a, b]), gap(a, b)
    values = []
    for left in combinations(range(len(pool)), len(a)):
        right = [i for i in range(len(pool)) if i not in left]
        values.append(gap(pool[list(left)], pool[right]) >= observed - 1e-12)
    return sum(values) / len(values)


# ---------------------------------------------------------------------------------------------- 07.4 precision, recall


def precision_recall(real, generated, k):
    distance = torch.cdist(real, generated)
    precision = (distance < reach(real, k)[:, None]).any(0).double().mean()
    recall = (distance < reach(generated, k)).any(1).double().mean()
    return precision, recall


def precision_recall_with(slip):
    """Precision and recall with one slip."""

    def my_precision_recall(real, generated, k):
        if slip == "itself counted":
            k = k - 1
        if slip == "one too many":
            k = k + 1
        if slip == "k ignored":
            k = 7
        distance = torch.cdist(real, generated)
        in_real, in_generated = distance < reach(real, k)[:, None], distance < reach(generated, k)
        precision, recall = in_real.any(0).double().mean(), in_generated.any(1).double().mean()
        if slip == "exchanged":
            return recall, precision
        if slip == "real balls asked":
            return in_real.any(1).double().mean(), recall
        if slip == "both axes":
            return in_real.any(1).double().mean(), in_generated.any(0).double().mean()
        if slip == "counts":
            return in_real.any(0).sum(), in_generated.any(1).sum()
        if slip == "at most":
            at_most = distance <= reach(real, k)[:, None], distance <= reach(generated, k)
            return at_most[0].any(0).double().mean(), at_most[1].any(1).double().mean()
        if slip == "one kind of ball":
            return precision, in_real.any(1).double().mean()
        if slip == "all balls":
            return in_real.all(0).double().mean(), in_generated.all(1).double().mean()
        if slip == "shares of pairs":
            return in_real.double().mean(), in_generated.double().mean()
        if slip == "the nearest ball only":
            near = distance.argmin(0)
            columns = torch.arange(len(generated))
            return in_real[near, columns].double().mean(), in_generated[
                torch.arange(len(real)), distance.argmin(1)
            ].double().mean()
        return precision, recall

    return my_precision_recall


BALL_SYMPTOMS = {
    "exchanged": "Your two numbers are exchanged: which of the two sets is asked for in a precision?",
    "one kind of ball": "Your precision is right. In the recall you count real balls that hold a sample; that is "
    "coverage. Recall asks for real samples inside balls of generated ones.",
    "all balls": "A sample counts for you if it is inside all balls. One is enough.",
    "shares of pairs": "You count pairs. Count samples: each one is inside some ball, or it is not.",
    "the nearest ball only": "You look into the ball of the nearest sample only. A farther one may have a larger ball.",
    "itself counted": "Your balls are too small by one neighbour: each sample is its own nearest one. `reach(x, k)` "
    "does not count it.",
    "one too many": "Your balls reach one neighbour too far: `reach(x, k)` already leaves the sample itself out.",
    "real balls asked": "In the precision you ask each real ball whether a sample is in it. Ask each generated sample, "
    "that is each column.",
    "both axes": "You ask the balls whether a sample is in them. Precision asks each generated sample, recall each "
    "real one: along which axis is `any` taken?",
}


def test_precision_recall(answer):
    generator = torch.Generator().manual_seed(74)
    for n, m, k, move in [(40, 30, 3, 0.8), (50, 50, 2, 1.4), (25, 60, 4, 0.5)]:
        real = torch.randn(n, 2, generator=generator, dtype=torch.float64)
        generated = torch.randn(m, 2, generator=generator, dtype=torch.float64) * torch.tensor([1.6, 0.5]) + move
        got, right = two_shares(answer, real, generated, k), both(precision_recall, real, generated, k)
        if close(got, right, 1e-5):
            continue
        if got.max() > 1:
            return f"A share lies between 0 and 1, and yours is {float(got.max()):.4g}."
        for slip, text in BALL_SYMPTOMS.items():
            if close(got, both(precision_recall_with(slip), real, generated, k), 1e-5):
                return text
        if close(got, two_shares(answer, real, generated, k + 4), 1e-5):
            return "Your numbers do not change with k."
        names = [name for name, off in zip(("precision", "recall"), (got - right).abs() > 1e-5) if off]
        shown = ", ".join(f"{value:.4g}" for value in got.tolist())
        return (
            f"For {n} real and {m} generated samples and k = {k} you return {shown}; expected "
            f"{right[0]:.4g}, {right[1]:.4g}. Look at the {' and the '.join(names)}."
        )
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0]]).double()
    others = torch.tensor([[-1.0], [4.0], [0.0], [10.0], [11.0]]).double()
    if not close(two_shares(answer, line, others, 1), both(precision_recall, line, others, 1), 1e-5):
        return "A sample at exactly the radius is not inside: less, not at most."
    return None


def two_shares(answer, real, generated, k):
    """What the answer returns, as a tensor (2,)."""
    result = ask(answer, real, generated, k)
    if getattr(result, "shape", None) == (2,):
        result = tuple(result)
    if not (isinstance(result, tuple | list) and len(result) == 2):
        raise Wrong(f"Two numbers are expected, precision and recall, and this is {describe(result)}.")
    return torch.stack([as_number(value) for value in result])


def both(function, real, generated, k):
    return torch.stack([torch.as_tensor(value).double() for value in function(real, generated, k)])


# ---------------------------------------------------------------------------------------------- 07.5 copies in disguise


def moved(x, right, down):
    """Images (N, 1, H, W) moved by whole pixels, on black."""
    H, W = x.shape[-2:]
    return F.pad(x, (1, 1, 1, 1), value=-1.0)[..., 1 - down : 1 - down + H, 1 - right : 1 - right + W]


def moved_copies(x, training):
    places = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    each = [torch.cdist(x.flatten(1), moved(training, *place).flatten(1)) for place in places]
    distance = torch.stack(each).amin(0)  # (B, N), of each training image where it fits best
    first, second = distance.topk(2, dim=1, largest=False).values.unbind(1)
    return first < 0.5 * second


def close_enough(x, training):
    return nearest(x, training)[0][:, 0] < 9.0


def along_one_axis(x, training):
    each = [torch.cdist(x.flatten(1), moved(training, right, 0).flatten(1)) for right in (-1, 0, 1)]
    first, second = torch.stack(each).amin(0).topk(2, dim=1, largest=False).values.unbind(1)
    return first < 0.5 * second


def close_where_it_fits(x, training):
    places = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    each = [torch.cdist(x.flatten(1), moved(training, *place).flatten(1)) for place in places]
    return torch.stack(each).amin((0, 2)) < 5.5


def exact_where_it_fits(x, training):
    places = [(right, down) for right in (-1, 0, 1) for down in (-1, 0, 1)]
    each = [torch.cdist(x.flatten(1), moved(training, *place).flatten(1)) for place in places]
    return copies(x, training) | (torch.stack(each).amin((0, 2)) < 0.1)


def everything(x, training):
    return torch.ones(len(x), dtype=torch.bool)


def exact_only(x, training):
    return nearest(x, training)[0][:, 0] < 0.1


def the_ratio(x, training):
    distance, _ = nearest(x, training, k=2)
    return distance[:, 0] / distance[:, 1]


def test_copies(answer):
    training, (held_out, label) = data.digits("train")[0][:400], data.digits("held_out")
    generator = torch.Generator().manual_seed(75)
    source = training[torch.randperm(400, generator=generator)[:48]]
    noise = 0.1 * torch.randn(source.shape, generator=generator)
    along = torch.cat([moved(source[i : i + 1], 1 - 2 * (i % 2), 0) for i in range(48)])
    steps = [(right, down) for right in (-1, 0, 1) for down in (-1, 1)]
    across = torch.cat([moved(source[i : i + 1], *steps[i % 6]) for i in range(48)])
    share = {}

    def found(name, x):
        result = ask(answer, x, training)
        result = result if isinstance(result, torch.Tensor) else torch.as_tensor(result)
        if tuple(result.shape) != (len(x),):
            raise Wrong(f"For {len(x)} samples the result has shape {tuple(result.shape)}; expected ({len(x)},).")
        if result.dtype != torch.bool and not ((result == 0) | (result == 1)).all():
            raise Wrong(
                "True or False is expected for each sample, and these are numbers in between: where is the limit?"
            )
        share[name] = float(result.double().mean())
        return share[name]

    if found("fresh", held_out[:60]) > 0.5:
        return f"You call {share['fresh']:.0%} of 60 digits copies that nobody trained on."
    if found("exact", source) < 0.95:
        return f"Of 48 training digits, unchanged, you find {share['exact']:.0%}."
    if max(share["fresh"], found("ones", held_out[label == 1][:60]) - 0.07) > 0.05:
        return (
            f"Exact copies are found, and {share['fresh']:.0%} of 60 fresh digits and {share['ones']:.0%} of 60 fresh "
            "1s are called copies too: a 1 is near to many others. Near compared with what?"
        )
    if found("noisy", source + noise) < 0.7:
        return (
            f"A little noise (standard deviation 0.1) hides a copy from you ({share['noisy']:.0%} found): how small "
            "must your distance, or your ratio, be?"
        )
    if found("sideways", along) < 0.9:
        return (
            f"Exact copies are found; moved sideways by one pixel, {share['sideways']:.0%} of them are. To which "
            "pictures would you have to compare?"
        )
    if found("any way", across) < 0.9:
        return f"Copies moved sideways are found, and {share['any way']:.0%} of those moved up, down or both ways."
    if found("moved and noisy", across + noise) < 0.7:
        return (
            f"Copies that are moved are found, and noisy ones; of those that are both, {share['moved and noisy']:.0%}. "
            "Does one distance see through both?"
        )
    return None


EXERCISES = {
    "07.1": Exercise(
        test=test_frechet,
        solution=frechet,
        mistakes={
            "overlap once": (frechet_with("overlap once"), "what remains of C + C"),
            "no means": (frechet_with("no means"), "said of the means"),
            "mean not squared": (frechet_with("mean not squared"), "four times as large"),
            "trace of the product of roots": (frechet_with("trace of the product of roots"), "have the same axes"),
            "root of each number": (frechet_with("root of each number"), "root of every number"),
            "root of the product": (frechet_with("root of the product"), "is for symmetric matrices"),
            "singular values of the product": (
                frechet_with("singular values of the product"),
                "are not its eigenvalues",
            ),
            "mean over the features": (frechet_with("mean over the features"), "yours is their mean"),
            "variances only": (frechet_with("variances only"), "Where are the covariances"),
            "no root": (frechet_with("no root"), "grows by 16"),
            "no covariances": (frechet_with("no covariances"), "however wide"),
            "root of all": (frechet_with("root of all"), "You return the root"),
            "divided by N": (frechet_with("divided by N"), "divide by N."),
            "not a number": (lambda a, b: (a - a.mean(0)).T @ a, "One number is expected"),
        },
        remark="With features of the Inception network in place of this judge's it is the FID of the papers.",
    ),
    "07.2": Exercise(
        test=test_needed,
        solution=samples_needed,
        mistakes={slip: (needed_with(slip), text.split(":")[0][:30]) for slip, text in NEEDED_SYMPTOMS.items()}
        | {"always one more": (lambda p, q: math.floor(unrounded(p, q)) + 1, "One sample too many")}
        | {"not rounded": (unrounded, "Which way do you round")},
        remark="At that number you see the difference in half of all experiments. For nine in ten it takes 2.7 times "
        "as many.",
    ),
    "07.3": Exercise(
        test=test_p_value,
        solution=p_value,
        mistakes={
            "with replacement": (p_value_with("with replacement"), "occur twice"),
            "inside the sets": (p_value_with("inside the sets"), "stays on its side"),
            "halves": (p_value_with("halves"), "which sizes"),
            "the same part twice": (p_value_with("the same part twice"), "which sizes"),
            "strictly larger": (p_value_with("strictly larger"), "that tie with yours"),
            "smaller": (p_value_with("smaller"), "Which divisions count"),
            "can be zero": (p_value_with("can be zero"), "Where do you count it"),
            "a count": (p_value_with("a count"), "share of what"),
            "one draw short": (p_value_with("one draw short"), "With 50 divisions, none as large"),
            "the same division": (p_value_with("the same division"), "where is the order drawn"),
            "a generator of its own": (
                lambda measure, a, b, draws, generator: p_value(measure, a, b, draws, torch.Generator()),
                "do your draws come from",
            ),
            "without the generator": (
                lambda measure, a, b, draws, generator: p_value(measure, a, b, draws, None),
                "does not use the generator",
            ),
        },
        remark="No formula for the distribution of the measure was needed: the samples themselves say what luck does.",
    ),
    "07.4": Exercise(
        test=test_precision_recall,
        solution=precision_recall,
        mistakes={
            "exchanged": (precision_recall_with("exchanged"), "are exchanged"),
            "one kind of ball": (precision_recall_with("one kind of ball"), "that is coverage"),
            "all balls": (precision_recall_with("all balls"), "One is enough"),
            "shares of pairs": (precision_recall_with("shares of pairs"), "You count pairs"),
            "the nearest ball only": (precision_recall_with("the nearest ball only"), "may have a larger ball"),
            "itself counted": (precision_recall_with("itself counted"), "its own nearest"),
            "one too many": (precision_recall_with("one too many"), "one neighbour too far"),
            "k ignored": (precision_recall_with("k ignored"), "do not change with k"),
            "real balls asked": (precision_recall_with("real balls asked"), "Ask each generated sample"),
            "both axes": (precision_recall_with("both axes"), "along which axis"),
            "counts": (precision_recall_with("counts"), "A share lies between"),
            "at most": (precision_recall_with("at most"), "less, not at most"),
        },
        remark="Exchange the two sets and the two numbers change places: one definition, read both ways.",
    ),
    "07.5": Exercise(
        test=test_copies,
        solution=moved_copies,
        mistakes={
            "as they are": (copies, "moved sideways by one pixel"),
            "moved or noisy": (exact_where_it_fits, "of those that are both"),
            "a fixed distance, moved": (close_where_it_fits, "Near compared with what"),
            "a fixed distance": (close_enough, "Near compared with what"),
            "sideways only": (along_one_axis, "moved sideways are found"),
            "everything is a copy": (everything, "that nobody trained on"),
            "exact ones only": (exact_only, "hides a copy from you"),
            "a ratio": (the_ratio, "where is the limit"),
        },
        remark="Every test for copies knows some disguises and not the next one. Say which ones you looked for.",
    ),
}

"""Exercises of lesson 11: a draw that gradients pass, a divergence, the best discriminator, a bet, and what the table
says."""

import math
from statistics import mean

import torch

from .. import measured
from ..metrics import Interval, difference
from .engine import Exercise, Untouched, Wrong, ask, ask_tensor, compare, describe

METHODS = ("diffusion", "gan", "vae")

# ---------------------------------------------------------------------------------------------- 11.1 a draw


def latent(mean, log_variance, noise):
    return mean + torch.exp(log_variance / 2) * noise


def variance_for_std(mean, log_variance, noise):
    return mean + torch.exp(log_variance) * noise


def no_exponential(mean, log_variance, noise):
    return mean + log_variance / 2 * noise


def log_variance_for_std(mean, log_variance, noise):
    return mean + log_variance * noise


def one_over_std(mean, log_variance, noise):
    return mean + torch.exp(-log_variance / 2) * noise


def mean_alone(mean, log_variance, noise):
    return mean + 0 * log_variance


def own_noise(mean, log_variance, noise):
    return torch.distributions.Normal(mean, torch.exp(log_variance / 2)).rsample()


def no_slope(mean, log_variance, noise):
    return torch.normal(mean, torch.exp(log_variance / 2)).detach()


def std_detached(mean, log_variance, noise):
    return mean + torch.exp(log_variance / 2).detach() * noise


def mean_detached(mean, log_variance, noise):
    return mean.detach() + torch.exp(log_variance / 2) * noise


def one_noise_for_all(mean, log_variance, noise):
    return mean + torch.exp(log_variance / 2) * noise[:1]


LATENT_SLIPS = {
    "Your noise is multiplied by the variance. What is exp(log_variance), and of which of the two does noise take a "
    "multiple?": variance_for_std,
    "Your noise is multiplied by half the log-variance itself, which may be negative: how do you get from the "
    "logarithm of a variance to a standard deviation?": no_exponential,
    "Your noise is multiplied by the log-variance itself, which may be negative: how do you get from there to a "
    "standard deviation?": log_variance_for_std,
    "Your z spreads most where the variance is smallest: look at the sign in the exponent.": one_over_std,
    "Your z is the mean and nothing else: where does the noise come in?": mean_alone,
    "All codes of your batch share the noise of the first one. Each image has its own row of noise.": one_noise_for_all,
}


def test_latent(answer):
    """First the values, with the noise as given; then whether a gradient passes to mean and log-variance."""
    generator = torch.Generator().manual_seed(11)
    for shape in [(5, 3), (1, 2), (4, 7)]:
        mean, log_variance, noise = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
        mean, log_variance = (mean + 0.3).requires_grad_(), (0.8 * log_variance - 0.5).requires_grad_()
        z = ask_tensor(answer, mean, log_variance, noise, shape=shape)
        again = ask_tensor(answer, mean, log_variance, noise, shape=shape)
        if not torch.equal(z.detach(), again.detach()):
            return (
                "Two calls with the same noise give two different z: your function draws for itself. The noise is an "
                "argument, so that a run can be repeated; use it."
            )
        slips = {text: slip(mean, log_variance, noise) for text, slip in LATENT_SLIPS.items()}
        right = latent(mean, log_variance, noise)
        if symptom := compare(z, right, slips, "z", tolerance=1e-6):
            return symptom
        if not z.requires_grad:
            return "The numbers are right, and no gradient passes through them: what cuts z off from its arguments?"
        slopes = torch.autograd.grad(z.pow(3).sum(), [mean, log_variance], allow_unused=True)
        wanted = torch.autograd.grad(right.pow(3).sum(), [mean, log_variance])
        for name, slope, want in zip(["the mean", "the log-variance"], slopes, wanted):
            if slope is None:
                return f"The numbers are right, and no gradient reaches {name}: the encoder would never learn it."
            if symptom := compare(slope, want, what=f"the gradient for {name}", tolerance=1e-6):
                return symptom
    return None


# ---------------------------------------------------------------------------------------------- 11.2 the divergence


def divergence(mean, log_variance):
    return ((mean**2 + log_variance.exp() - log_variance - 1) / 2).sum(1)


def divergence_with(slip):
    """The divergence of 11.2 with one slip."""

    def my_kl(mean, log_variance):
        variance = log_variance.exp()
        each = {
            "no half": mean**2 + variance - log_variance - 1,
            "minus one forgotten": (mean**2 + variance - log_variance) / 2,
            "sign of the logarithm": (mean**2 + variance + log_variance - 1) / 2,
            "standard deviation for variance": (mean**2 + variance.sqrt() - log_variance - 1) / 2,
            "log-variance for variance": (mean**2 + log_variance - log_variance - 1) / 2,
            "other way round": ((1 + mean**2) / variance + log_variance - 1) / 2,
            "mean not squared": (mean + variance - log_variance - 1) / 2,
            "log of the standard deviation": (mean**2 + variance - log_variance / 2 - 1) / 2,
            "negative": -(mean**2 + variance - log_variance - 1) / 2,
        }.get(slip, (mean**2 + variance - log_variance - 1) / 2)
        if slip == "mean over the numbers":
            return each.mean(1)
        return each.sum() if slip == "one number for the batch" else each.sum(1)

    return my_kl


KL_SLIPS = {
    "no half": "Your divergence is twice too large: the logarithm of a normal density carries a factor in front of "
    "the square.",
    "minus one forgotten": "Where q is the standard normal itself your divergence is not 0: what does each number of "
    "the code still owe?",
    "sign of the logarithm": "Your divergence falls below 0 for a narrow q: does a small variance cost something or "
    "earn something?",
    "standard deviation for variance": "Your divergence uses the standard deviation where the mean square of z needs "
    "the variance.",
    "log-variance for variance": "In your divergence the variance has cancelled against its own logarithm: which of "
    "the two is exp(log_variance)?",
    "other way round": "That is the divergence of the standard normal from q. Over which of the two is the average "
    "taken?",
    "mean not squared": "Your divergence depends on the sign of the mean; the standard normal looks the same from both "
    "sides.",
    "log of the standard deviation": "The logarithm in your divergence counts half as much as it should: log variance "
    "or log standard deviation?",
    "negative": "Your divergence is negative. Which of the two densities is larger where z usually lies?",
    "mean over the numbers": "Your divergence is a mean over the numbers of the code. Independent numbers: do their "
    "divergences average, or add?",
}


def test_divergence(answer):
    generator = torch.Generator().manual_seed(13)
    for shape in [(6, 4), (3, 9)]:
        mean, log_variance = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        mean, log_variance = mean + 0.4, log_variance - 0.6
        right = divergence(mean, log_variance)
        result = ask_tensor(answer, mean, log_variance)
        if tuple(result.shape) == () and result.double().isclose(right.sum()):
            return "You return one number for the whole batch; expected is one for each image, (B,)."
        slips = {text: divergence_with(slip)(mean, log_variance) for slip, text in KL_SLIPS.items()}
        if symptom := compare(result, right, slips, "the divergence", tolerance=1e-6):
            return symptom
    return None


# ---------------------------------------------------------------------------------------------- 11.3 the best judge


def best_discriminator(p, q):
    D = p / (p + q)
    loss = -(torch.xlogy(p, D) + torch.xlogy(q, 1 - D)).sum()
    return D, loss


def game(slip):
    """The answer to 11.3 with one slip."""

    def my_discriminator(p, q):
        D = {"swapped": q / (p + q), "odds": p / q, "logit": (p / q).log()}.get(slip, p / (p + q))
        one, other = torch.xlogy(p, D), torch.xlogy(q, 1 - D)
        if slip in ("odds", "logit"):
            return D, -(p * D.abs().log() + q * (1 - D).abs().log()).sum()
        if slip == "zero times infinity":
            one, other = p * D.log(), q * (1 - D).log()
        if slip == "half a half where one never is":
            D = torch.where((p == 0) | (q == 0), 0.5, D)
        if slip == "the first half alone":
            return D, -one.sum()
        if slip == "the second half alone":
            return D, -other.sum()
        if slip == "both called real":
            return D, -(torch.xlogy(p, D) + torch.xlogy(q, D)).sum()
        if slip == "not weighted":
            return D, -(D.log() + (1 - D).log()).mean()
        loss = -(one + other)
        loss = loss.mean() if slip == "mean of the places" else loss.sum()
        return D, {"mean of the halves": loss / 2, "bits": loss / math.log(2), "sign": -loss}.get(slip, loss)

    return my_discriminator


D_SLIPS = {
    "Your D is large where the made data is: it is the share of which of the two?": "swapped",
    "Your D goes beyond 1: p / q are the odds. Which share of all the data that lies there is real?": "odds",
    "Your D is the logit, log(p / q). Which probability has this logit?": "logit",
}
LOSS_SLIPS = {
    "Your loss is half of it: the mean of the two halves. The game of the lesson adds them, so that blindness costs "
    "2 log 2.": "mean of the halves",
    "Your loss is in bits: which base has the logarithm of the lesson?": "bits",
    "Your loss is negative. A loss is what one wants small, and a logarithm of a probability is never above 0.": "sign",
    "Your loss counts real data alone. Who pays when made data is taken for real?": "the first half alone",
    "Your loss counts made data alone. Who pays when real data is taken for made?": "the second half alone",
    "Your loss rewards calling made data real: which probability does the discriminator give to 'made'?": (
        "both called real"
    ),
    "Your loss is too small by the number of places: an expectation is a sum of probabilities times values, and the "
    "probabilities add up to 1 already.": "mean of the places",
    "In your loss every place counts the same. How often do real and made data lie there?": "not weighted",
}


def shares(*shape, generator):
    """Random probabilities that sum to 1 over the last axis, none of them near 0."""
    raw = 0.1 + torch.rand(*shape, generator=generator, dtype=torch.float64)
    return raw / raw.sum(-1, keepdim=True)


def pair_of(result):
    """Two tensors, or a message."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise Wrong(f"Two results are expected, D and the loss, and this is {describe(result)}.")
    try:
        return [torch.as_tensor(part, dtype=torch.float64) for part in result]
    except (TypeError, ValueError, RuntimeError):
        raise Wrong(
            f"D and the loss are to be tensors; this is {describe(result[0])} and {describe(result[1])}."
        ) from None


def test_game(answer):
    """Ordinary probabilities, then a made distribution that is right, then places where one of the two never is."""
    generator = torch.Generator().manual_seed(12)
    for K in (4, 7):
        p, q = shares(2, K, generator=generator)
        D, loss = pair_of(ask(answer, p, q))
        right_D, right_loss = best_discriminator(p, q)
        slips = {text: game(slip)(p, q)[0] for text, slip in D_SLIPS.items()}
        if symptom := compare(D, right_D, slips, "D", tolerance=1e-6):
            return symptom
        slips = {text: game(slip)(p, q)[1] for text, slip in LOSS_SLIPS.items()}
        if symptom := compare(loss, right_loss, slips, "the loss", tolerance=1e-6):
            return symptom
    p = shares(5, generator=generator)
    _, loss = pair_of(ask(answer, p, p.clone()))
    if symptom := compare(loss, torch.tensor(2 * math.log(2)), what="the loss of a blind one", tolerance=1e-6):
        return symptom
    p, q = torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.25, 0.25, 0.5]], dtype=torch.float64)
    D, loss = pair_of(ask(answer, p, q))
    right_D, _ = best_discriminator(p, q)
    if D.isfinite().all() and (symptom := compare(D, right_D, what="D where one of the two never is", tolerance=1e-6)):
        return symptom
    if not (D.isfinite().all() and loss.isfinite()):
        return (
            "Right wherever both kinds of data occur. Where one of them never does, D is 0 or 1, and your loss becomes "
            "nan: what is 0 times the logarithm of 0 meant to be here, and which function of torch knows it?"
        )
    return compare(loss, best_discriminator(p, q)[1], what="the loss where one of the two never is", tolerance=1e-6)


# ---------------------------------------------------------------------------------------------- 11.4 a bet

ORDERS = ("quality", "diversity", "stability", "training cost", "sampling cost")
HOLDING = "cells that hold"

popular_bet = {
    "quality": ["diffusion", "gan", "vae"],
    "diversity": ["diffusion", "gan", "vae"],
    "stability": ["diffusion", "vae", "gan"],
    "training cost": ["vae", "gan", "diffusion"],
    "sampling cost": ["vae", "gan", "diffusion"],
    "cells that hold": 12,
}


def leaves(value):
    """All values in nested dicts, lists and tuples."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else None
    return [value] if parts is None else [leaf for part in parts for leaf in leaves(part)]


def test_bet(answer):
    """Any bet is fine, if it can be scored."""
    if not isinstance(answer, dict) or not answer:
        return f"A bet is a dict, criterion -> order, and this is {describe(answer)}."
    if leaves(answer) and all(leaf is ... for leaf in leaves(answer)):
        raise Untouched
    missing = [name for name in (*ORDERS, HOLDING) if name not in answer]
    if missing:
        return f"You make no bet on {', '.join(missing)}. A bet that leaves out the hard ones is none."
    unknown = [str(name) for name in answer if name not in (*ORDERS, HOLDING)]
    if unknown:
        return f"Nothing measures {', '.join(unknown)}; the criteria are {', '.join(ORDERS)}."
    still_open = [name for name, value in answer.items() if any(leaf is ... for leaf in leaves(value))]
    if still_open:
        return f"Still open: {', '.join(still_open)}."
    for name in ORDERS:
        if symptom := order_symptom(name, answer[name]):
            return symptom
    count = answer[HOLDING]
    count = int(count) if isinstance(count, float) and count.is_integer() else count
    if isinstance(count, bool) or not isinstance(count, int):
        return f"{HOLDING!r} is {describe(count)}; the popular table has twelve cells: a whole number from 0 to 12."
    if not 0 <= count <= 12:
        return f"{HOLDING!r} is {count}: of the twelve cells, how many (not how many per cent)?"
    return None


def order_symptom(name, order):
    """What keeps an order of the three methods from being scored, or None."""
    if isinstance(order, str):
        return f"Your bet on {name} is one word; write all three methods in a list, the best first."
    if isinstance(order, set | frozenset | dict):
        return f"Your bet on {name} is a {type(order).__name__}, which has no first and no last; write a list."
    if not isinstance(order, list | tuple) or not all(isinstance(method, str) for method in order):
        return f"Your bet on {name} is {describe(order)}; write the three methods in a list, the best first."
    words = [method.strip().lower() for method in order]
    table = {"high", "moderate", "low", "variable", "stable", "unstable"} & set(words)
    if table:
        return f"Your bet on {name} says {sorted(table)[0]!r}, the table's word. Who is first, who second, who last?"
    strange = [word for word in words if word not in METHODS]
    if strange:
        return f"Your bet on {name} names {strange[0]!r}; the methods are called {', '.join(METHODS)}."
    twice = [word for word in METHODS if words.count(word) > 1]
    if twice:
        return f"Your bet on {name} names {twice[0]} twice. No ties: who would you take if you had to?"
    if len(words) < 3:
        return f"Your bet on {name} has {len(words)} places; there are three methods."
    return None


def bet_with(**changes):
    """The popular bet with some entries changed; underscores stand for spaces, None takes an entry out."""
    bet = popular_bet | {name.replace("_", " "): value for name, value in changes.items()}
    return {name: value for name, value in bet.items() if value is not None}


# ---------------------------------------------------------------------------------------------- 11.5 the sentence

BETTER = {
    "frechet": "lower",
    "precision": "higher",
    "recall": "higher",
    "coverage": "higher",
    "a training image": "lower",
    "100 samples": "lower",
}
OPPOSITE = {"higher": "lower", "lower": "higher"}
AHEAD = {  # measure -> pairs (better, worse) that the popular table claims
    **dict.fromkeys(("frechet", "precision"), [("diffusion", "gan"), ("diffusion", "vae")]),
    **dict.fromkeys(("recall", "coverage"), [("diffusion", "gan"), ("diffusion", "vae"), ("gan", "vae")]),
    **dict.fromkeys(("a training image", "100 samples"), [("vae", "gan"), ("vae", "diffusion"), ("gan", "diffusion")]),
}


def committed_runs():
    """The values by seed, (method, measure) -> list, of the committed race with equal seconds."""
    results = measured.read("bench")
    runs = {}
    for row in sorted(results["rows"], key=lambda row: row["seed"]):
        if row["budget"] == "seconds":
            for measure in ("frechet", "precision", "recall", "coverage"):
                runs.setdefault((row["method"], measure), []).append(row[measure])
            runs.setdefault((row["method"], "a training image"), []).append(row["seconds"] / row["images"])
    for row in sorted(results["sampling"], key=lambda row: row["seed"]):
        if (row["sampler"], row["calls"]) in (tuple(results["settings"]["sampler"]), ("one call", 1)):
            runs.setdefault((row["method"], "100 samples"), []).append(row["seconds"])
    return runs


def claims(runs):
    """Every claim that can be made about these runs, with its interval."""
    for measure in BETTER:
        for method in METHODS:
            for other in METHODS:
                if method != other:
                    for says in OPPOSITE:
                        yield method, says, measure, other, difference(runs[method, measure], runs[other, measure])


def is_supported(claim):
    """Whether the interval of a claim lies on the side that it names."""
    return claim[4].low > 0 if claim[1] == "higher" else claim[4].high < 0


def is_popular(claim):
    """Whether the popular table makes this comparison."""
    method, says, measure, other = claim[:4]
    return ((method, other) if says == BETTER[measure] else (other, method)) in AHEAD[measure]


def sentences(runs):
    supported = next(claim for claim in claims(runs) if is_supported(claim))
    popular_one = next(claim for claim in claims(runs) if is_popular(claim) and not is_supported(claim))
    return supported, popular_one


def sentences_with(slip):
    """The answer to 11.5 with one slip."""

    def my_sentences(runs):
        supported, popular_one = sentences(runs)
        method, says, measure, other, interval = supported
        a, b = runs[method, measure], runs[other, measure]
        if slip == "swapped":
            return popular_one, supported
        if slip == "open claim":
            return next(c for c in claims(runs) if c[4].low < 0 < c[4].high), popular_one
        if slip == "direction":
            return (method, OPPOSITE[says], measure, other, interval), popular_one
        if slip == "popular and true":
            return supported, next(c for c in claims(runs) if is_popular(c) and is_supported(c))
        if slip == "not popular":
            return supported, next(c for c in claims(runs) if not is_popular(c) and not is_supported(c))
        lucky = max(p - q for p in a for q in b)
        wrong = {
            "one seed": Interval(lucky, lucky - interval.value + interval.low, lucky - interval.value + interval.high),
            "other way round": difference(b, a),
            "spread of the runs": broad(a, b),
            "1.96": narrow(a, b),
            "logarithms": difference([math.log(v) for v in a], [math.log(v) for v in b]),
            "the method alone": difference(a, [0.0] * len(a)),
            "a word": "large",
            "the gap alone": interval.value,
        }[slip]
        return (method, says, measure, other, wrong), popular_one

    return my_sentences


def broad(a, b):
    """The spread of single runs instead of the error of their means."""
    value, low, high = difference(a, b)
    return Interval(value, value + (low - value) * len(a) ** 0.5, value + (high - value) * len(a) ** 0.5)


def narrow(a, b):
    """1.96 standard errors, as if the spread were known."""
    a, b = (torch.tensor(values, dtype=torch.float64) for values in (a, b))
    value, half = float(a.mean() - b.mean()), 1.96 * float((a.var() / len(a) + b.var() / len(b)).sqrt())
    return Interval(value, value - half, value + half)


def lowered(claim):
    """The claim with its words in small letters, as methods and measures are written."""
    if not isinstance(claim, tuple | list):
        return claim
    return tuple(part.strip().lower() if isinstance(part, str) else part for part in claim)


def form_symptom(claim, which):
    """What keeps a claim from being read, or None."""
    if not isinstance(claim, tuple | list) or len(claim) != 5:
        return (
            f"The {which} claim is {describe(claim)}; expected five parts: (method, 'higher' or 'lower', measure, "
            "other, interval)."
        )
    method, says, measure, other, interval = claim
    for name in (method, other):
        if not isinstance(name, str) or name not in METHODS:
            return f"The {which} claim names {describe(name)}; the methods are {', '.join(METHODS)}."
    if method == other:
        return f"The {which} claim compares {method} with itself."
    if not isinstance(says, str) or says not in OPPOSITE:
        return f"The {which} claim says {describe(says)}; a comparison says 'higher' or 'lower': it can be wrong."
    if not isinstance(measure, str) or measure not in BETTER:
        return f"The {which} claim measures {describe(measure)}; measured are {', '.join(BETTER)}."
    if numbers_of(interval) is None:
        return (
            f"The {which} claim ends in {describe(interval)}. A number without its interval is no evidence: value, low "
            "and high, as `difference` gives them."
        )
    return None


def numbers_of(interval):
    """Value, low and high as an Interval of floats, or None."""
    if not isinstance(interval, tuple | list) or len(interval) != 3:
        return None
    try:
        numbers = Interval(*(float(value) for value in interval))
        return numbers if all(math.isfinite(value) for value in numbers) else None
    except (TypeError, ValueError, RuntimeError):
        return None


def interval_symptom(claim, runs, which):
    """Whether the interval of a claim is that of these runs; None, or what else it is."""
    method, _, measure, other, interval = claim
    a, b = runs[method, measure], runs[other, measure]
    right, interval = difference(a, b), numbers_of(interval)
    value, low, high = interval
    close = 0.02 * (right.high - right.low)

    def near(one, two):
        return all(abs(p - q) <= close for p, q in zip(one, two))

    if near(interval, right):
        return None
    width = right.high - right.low
    if abs(value - right.value) <= close and 0.75 * width <= high - low <= width:
        return None  # Welch's own degrees of freedom make it a little narrower
    if near(interval, difference(b, a)):
        return f"The interval of the {which} claim is that of {other} minus {method}: which does it name first?"
    if min(a) > 0 and min(b) > 0:
        logs = difference([math.log(v) for v in a], [math.log(v) for v in b])
        if near(interval, logs):
            return f"The interval of the {which} claim is one of logarithms; the claim is about {measure} itself."
    if abs(value - right.value) > close:
        if any(abs(value - (p - q)) <= close for p in a for q in b):
            return (
                f"The {which} claim rests on one run of each method: {value:.3g} is a difference of two single seeds, "
                f"and of all seeds it is {right.value:.3g}. Another seed, another story."
            )
        if abs(value - mean(a)) <= close:
            return f"The number in the {which} claim is that of {method} alone. A comparison has two sides."
        return f"The {which} claim says {value:.3g}; mean of {method} minus mean of {other} is {right.value:.3g}."
    if high - low < right.high - right.low:
        return (
            f"The interval of the {which} claim is too narrow. With so few runs their spread is itself a guess: by "
            "which number do you multiply the standard error?"
        )
    return (
        f"The interval of the {which} claim is too wide. The luck in a mean of several runs is smaller than the luck "
        "in one: by which number is the variance divided?"
    )


def test_sentences(answer):
    runs = committed_runs()
    result = ask(answer, {key: list(values) for key, values in runs.items()})
    if not isinstance(result, tuple | list) or len(result) != 2:
        return f"Two claims are expected, and this is {describe(result)}."
    result = [lowered(claim) for claim in result]
    for claim, which in zip(result, ("first", "second")):
        if symptom := form_symptom(claim, which) or interval_symptom(claim, runs, which):
            return symptom
    supported, popular_one = ((*claim[:4], numbers_of(claim[4])) for claim in result)
    if not is_supported(supported):
        method, says, measure, other, interval = supported
        if is_supported((method, OPPOSITE[says], measure, other, interval)):
            return (
                f"Your first claim says {says}, and its interval, {interval}, lies on the other side: {method} "
                f"minus {other} is {'negative' if interval.high < 0 else 'positive'}."
            )
        return (
            f"The runs do not support your first claim: its interval, {interval}, holds 0, so that they do not even "
            "say who is ahead."
        )
    if not is_popular(popular_one):
        return "The popular table does not say your second claim. Which cells, of which row, does it compare?"
    if is_supported(popular_one):
        return (
            f"Your second claim is popular, and the runs support it: {popular_one[4]} lies on the side that it names."
        )
    return None


EXERCISES = {
    "11.1": Exercise(
        test=test_latent,
        solution=latent,
        mistakes={
            "variance for standard deviation": (variance_for_std, "multiplied by the variance"),
            "log-variance halved, not exponentiated": (no_exponential, "half the log-variance itself"),
            "log-variance for standard deviation": (log_variance_for_std, "by the log-variance itself"),
            "one over the standard deviation": (one_over_std, "sign in the exponent"),
            "no noise": (mean_alone, "where does the noise come in"),
            "its own noise": (own_noise, "draws for itself"),
            "a draw without gradient": (no_slope, "draws for itself"),
            "standard deviation detached": (std_detached, "no gradient reaches the log-variance"),
            "mean detached": (mean_detached, "no gradient reaches the mean"),
            "everything detached": (lambda *inputs: latent(*inputs).detach(), "no gradient passes through"),
            "one noise for all": (one_noise_for_all, "its own row of noise"),
        },
        remark="The forward process of lesson 01 has the same form, x_t = alpha_t x_0 + sigma_t noise, and diffusion's "
        "loss sends its gradients through it in the same way.",
    ),
    "11.2": Exercise(
        test=test_divergence,
        solution=divergence,
        mistakes={
            "no half": (divergence_with("no half"), "twice too large"),
            "minus one forgotten": (divergence_with("minus one forgotten"), "still owe"),
            "sign of the logarithm": (divergence_with("sign of the logarithm"), "narrow q"),
            "standard deviation for variance": (
                divergence_with("standard deviation for variance"),
                "needs the variance",
            ),
            "log-variance for variance": (divergence_with("log-variance for variance"), "cancelled"),
            "the other way round": (divergence_with("other way round"), "Over which of the two"),
            "mean not squared": (divergence_with("mean not squared"), "sign of the mean"),
            "log of the standard deviation": (divergence_with("log of the standard deviation"), "counts half as much"),
            "negative": (divergence_with("negative"), "is negative"),
            "mean over the numbers": (divergence_with("mean over the numbers"), "do their divergences average, or add"),
            "one number for the batch": (divergence_with("one number for the batch"), "one for each image"),
        },
        remark="A code of 12 numbers costs the sum of 12 such terms. A number whose mean is 0 and whose variance is 1 "
        "for every image costs nothing and says nothing.",
    ),
    "11.3": Exercise(
        test=test_game,
        solution=best_discriminator,
        mistakes={
            "swapped": (game("swapped"), "the share of which of the two"),
            "odds": (game("odds"), "beyond 1"),
            "logit": (game("logit"), "has this logit"),
            "mean of the halves": (game("mean of the halves"), "mean of the two halves"),
            "bits": (game("bits"), "which base"),
            "sign": (game("sign"), "is negative"),
            "real data alone": (game("the first half alone"), "counts real data alone"),
            "made data alone": (game("the second half alone"), "counts made data alone"),
            "both called real": (game("both called real"), "rewards calling made data real"),
            "mean of the places": (game("mean of the places"), "by the number of places"),
            "not weighted": (game("not weighted"), "every place counts the same"),
            "zero times infinity": (game("zero times infinity"), "0 times the logarithm of 0"),
            "undecided where one never is": (game("half a half where one never is"), "D where one of the two never is"),
        },
        remark="2 log 2 = 1.386 is the most that the best discriminator can be made to pay, and a discriminator that "
        "has learned nothing pays it too: from the loss alone nobody can tell the two cases apart.",
    ),
    "11.4": Exercise(
        test=test_bet,
        solution=popular_bet,
        mistakes={
            "the hard ones left out": (bet_with(stability=None), "You make no bet on stability"),
            "the table's words": (bet_with(diversity=["high", "moderate", "low"]), "Who is first"),
            "a method twice": (bet_with(quality=["diffusion", "gan", "gan"]), "gan twice"),
            "one winner only": (bet_with(training_cost="vae"), "is one word"),
            "two places": (bet_with(training_cost=["vae", "gan"]), "has 2 places"),
            "no order": (bet_with(sampling_cost={"vae", "gan", "diffusion"}), "no first and no last"),
            "another name": (bet_with(quality=["diffusion", "GANs", "VAE"]), "names 'gans'"),
            "per cent": (bet_with(cells_that_hold=75), "not how many per cent"),
            "a share": (bet_with(cells_that_hold=0.75), "a whole number from 0 to 12"),
            "half a bet": (bet_with(diversity=["diffusion", ..., ...]), "Still open: diversity"),
            "another criterion": (bet_with(beauty=["gan", "vae", "diffusion"]), "Nothing measures beauty"),
        },
        untouched="Without a bet, the score at the end is the popular table's alone.",
        remark="Your bet stands. A cell near the end of the lesson scores it, and the popular table's beside it.",
    ),
    "11.5": Exercise(
        test=test_sentences,
        solution=sentences,
        mistakes={
            "one seed": (sentences_with("one seed"), "of two single seeds"),
            "the other way round": (sentences_with("other way round"), "name first"),
            "higher for lower": (sentences_with("direction"), "lies on the other side"),
            "an open claim": (sentences_with("open claim"), "holds 0"),
            "swapped": (sentences_with("swapped"), "Your first claim"),
            "the spread of single runs": (sentences_with("spread of the runs"), "too wide"),
            "1.96 with five runs": (sentences_with("1.96"), "too narrow"),
            "logarithms": (sentences_with("logarithms"), "one of logarithms"),
            "one method alone": (sentences_with("the method alone"), "alone. A comparison has two sides"),
            "a word": (sentences_with("a word"), "without its interval"),
            "a number without interval": (sentences_with("the gap alone"), "without its interval"),
            "popular and true": (sentences_with("popular and true"), "and the runs support it"),
            "not popular": (sentences_with("not popular"), "does not say your second claim"),
        },
        untouched="The lesson goes on without it.",
        remark="A sentence with a measure, a number and an interval can be wrong. That is what makes it worth saying.",
    ),
}

"""Exercises of lesson 08: dropping labels, whose scale is it, two questions in one call, the scale that is enough."""

from statistics import fmean as mean
from statistics import median

import torch

from .engine import Exercise, Wrong, ask, ask_tensor, compare, describe

# ------------------------------------------------------------------------------------------ 08.1 one class more


def drop(label, classes, probability, generator):
    dropped = torch.rand(len(label), generator=generator) < probability
    return classes + 1, torch.where(dropped, classes, label)


def drop_with(slip):
    """The answer of 08.1 with one slip."""

    def my_drop(label, classes, probability, generator):
        n, rows, null = len(label), classes + 1, classes
        if slip == "missing row":
            rows = classes
        if slip == "a class for null":
            null, rows = 0, classes
        if slip == "null is -1":
            null = -1
        if slip == "null one too far":
            null = classes + 1
        draws = torch.rand(n, generator=generator)
        if slip == "one draw for all":
            draws = draws[:1].expand(n)
        if slip == "normal for uniform":
            draws = torch.randn(n, generator=generator)
        if slip == "the first ones":
            draws = (torch.arange(n) + 0.5) / n
        if slip == "no generator":
            draws = torch.rand(n)
        dropped = draws > probability if slip == "kept for dropped" else draws < probability
        if slip == "rounded":
            dropped = torch.randperm(n, generator=generator) < round(probability * n)
        return rows, torch.where(dropped, null, label)

    return my_drop


def test_drop(answer):
    generator = torch.Generator().manual_seed(8)
    for classes, probability, n in [(10, 0.1, 20_000), (3, 0.3, 20_000), (7, 0.2, 3)]:
        dropped, sets = 0, (200 if n == 3 else 1)
        if n == 3:
            label, one = torch.arange(1000) % 10, torch.Generator().manual_seed(1)
            if torch.equal(*[ask(answer, label, 10, 0.5, one)[1] for _ in range(2)]):
                return "Two batches in a row lose the same places: does your draw begin anew, at one seed, each time?"
        for _ in range(sets):
            label = torch.randint(classes, (n,), generator=generator)
            result = ask(answer, label, classes, probability, generator)
            if symptom := form_of_drop(result, classes, n):
                return symptom
            kept, null = result[1] == label, result[1] == classes
            if not (kept | null).all():
                other = int(result[1][~(kept | null)][0])
                return f"Some labels became {other}. " + (
                    "That is a class of its own: what would the network learn of it?"
                    if 0 <= other < classes
                    else f"The classes are 0 to {classes - 1}; the null label is the next number, {classes}."
                )
            dropped += int(null.sum())
        share, error = dropped / (n * sets), (probability * (1 - probability) / (n * sets)) ** 0.5
        if abs(share - probability) > 6 * error:
            return rate_of_drop(share, probability, n)
        if n > 3:
            both = float((null[1:] & null[:-1]).double().mean())
            if both - probability**2 < -6 * probability / n**0.5:
                return "The share is right, but dropped labels keep a distance. Does each label have its own luck?"
            if both - probability**2 > 6 * probability / n**0.5 or not null[n // 2 :].any():
                return "The share is right, but the dropped labels sit side by side. Does each label have its own luck?"
    label = torch.arange(1000) % 10
    twice = [ask(answer, label, 10, 0.5, torch.Generator().manual_seed(1))[1] for _ in range(2)]
    if not torch.equal(*twice):
        return "Two generators with one seed drop different labels: does your draw use the generator?"
    return None


def form_of_drop(result, classes, n):
    """What is wrong with the form of an answer to 08.1."""
    if not (isinstance(result, tuple | list) and len(result) == 2):
        return f"A pair (rows, label) is expected, and this is {describe(result)}."
    rows, label = result
    if not isinstance(label, torch.Tensor) or label.shape != (n,) or label.dtype not in (torch.int64, torch.int32):
        return f"The second result should be the labels, int64 ({n},), and it is {describe(label)}."
    try:
        rows = int(rows)
    except (TypeError, ValueError, RuntimeError):
        return f"The first result should be the number of rows, and it is {describe(rows)}."
    if rows <= int(label.max()):
        return (
            f"Your labels reach up to {int(label.max())}, and your table has the rows 0 to {rows - 1}: training stops "
            "with an IndexError at the first label that has no row."
        )
    if rows == classes:
        return f"{classes} classes and no label given: how many rows does the table need?"
    if rows != classes + 1:
        return f"Your table has {rows} rows for {classes} classes and one null label."
    return None


def rate_of_drop(share, probability, n):
    """What a wrong share of dropped labels looks like."""
    if n == 3:
        return (
            f"In large batches the share is right; in batches of 3 you drop {share:.2f} instead of "
            f"{probability}. Each label should have its own luck, however small the batch."
        )
    if abs(share - (1 - probability)) < 0.02:
        return f"You drop {share:.2f} of the labels where {probability} was asked: is it the share that you keep?"
    if share in (0.0, 1.0):
        return "In one batch you drop all labels or none: does each label have its own luck?"
    return f"You drop {share:.2f} of the labels where {probability} was asked. From which distribution do you draw?"


# ------------------------------------------------------------------------------------------ 08.2 whose scale is it?


def whose_scale(guide, value):
    return float(guide(torch.tensor(1.0), torch.tensor(0.0), value))


def assume_diffusers(guide, value):
    return value


def assume_ho_and_salimans(guide, value):
    return value + 1


def exchanged(guide, value):
    return float(guide(torch.tensor(0.0), torch.tensor(1.0), value))


def without_the_unconditional(guide, value):
    return float(guide(torch.tensor(2.0), torch.tensor(1.0), value))


def not_divided(guide, value):
    return float(guide(torch.tensor(2.0), torch.tensor(0.0), value))


def straight_line(guide, value):
    at_0, at_1 = (whose_scale(guide, number) for number in (0.0, 1.0))
    return at_0 + value * (at_1 - at_0)


def at_value_one(guide, value):
    return value * float(guide(torch.tensor(1.0), torch.tensor(0.0), 1.0))


GUIDES = {
    "as in this course": (lambda conditional, unconditional, w: unconditional + w * (conditional - unconditional), 0),
    "as Ho and Salimans": (lambda conditional, unconditional, w: (1 + w) * conditional - w * unconditional, 1),
    "a percentage": (
        lambda conditional, unconditional, w: unconditional + w / 100 * (conditional - unconditional),
        None,
    ),
    "with a square": (lambda conditional, unconditional, w: unconditional + w**2 * (conditional - unconditional), None),
}


def test_whose_scale(answer):
    found = {}
    for name, (guide, _) in GUIDES.items():
        for value in (0.5, 3.0, 7.5):
            result = ask(answer, guide, value)
            try:
                found[name, value] = float(result)
            except (TypeError, ValueError, RuntimeError):
                return f"A number is expected, and this is {describe(result)}."
    slips = {
        assume_diffusers: "You return the value as it came. For the function of Ho and Salimans, 0 is already plain "
        "conditional: what do we call that?",
        assume_ho_and_salimans: "You always add 1. That is right for one convention; call the function to find out "
        "which one it has.",
        exchanged: "Your scale falls when theirs rises: which argument is the conditional estimate?",
        without_the_unconditional: "Your result is 1 too large, whatever the convention: in "
        "unconditional + scale * (conditional - unconditional), what did you put in for the first term?",
        not_divided: "Your result is twice the scale: how far apart are the two numbers that you handed over?",
        straight_line: "You ask the function at two values and draw a line through them. Does it have to be one?",
        at_value_one: "You ask the function at value 1 and multiply. It need not be proportional to the value.",
    }
    right = {key: whose_scale(GUIDES[key[0]][0], key[1]) for key in found}
    if all(abs(found[key] - right[key]) < 1e-4 for key in right):
        return None
    for slip, text in slips.items():
        if all(abs(found[key] - slip(GUIDES[key[0]][0], key[1])) < 1e-4 for key in right):
            return text
    key = max(right, key=lambda key: abs(found[key] - right[key]) if found[key] == found[key] else float("inf"))
    return f"For value {key[1]} {key[0]} you find {found[key]:.4g}; the scale of this course is {right[key]:.4g}."


# ---------------------------------------------------------------------------------------- 08.3 two questions, one call


def one_call(model, x_t, t, label, null_label):
    both = torch.cat([label, torch.full_like(label, null_label)])
    t = torch.as_tensor(t)
    twice = t if t.ndim == 0 else torch.cat([t, t])
    conditional, unconditional = model(torch.cat([x_t, x_t]), twice, label=both).chunk(2)
    return conditional, unconditional


def two_calls(model, x_t, t, label, null_label):
    return model(x_t, t, label=label), model(x_t, t, label=torch.full_like(label, null_label))


def one_call_with(slip):
    """The answer of 08.3 with one slip."""

    def my_one_call(model, x_t, t, label, null_label):
        null = torch.full_like(label, 0 if slip == "class 0 for null" else null_label)
        labels = [null, label] if slip == "exchanged" else [label, label if slip == "label twice" else null]
        t = torch.as_tensor(t)
        if t.ndim and slip != "t not doubled":
            t = t.repeat_interleave(2) if slip == "t interleaved" else torch.cat([t, t])
        if t.ndim and slip == "first t for all":
            t = t[0]
        x = x_t.repeat_interleave(2, 0) if slip == "x interleaved" else torch.cat([x_t, x_t])
        out = model(x, t, label=torch.cat(labels))
        if slip == "every other one":
            return out[0::2], out[1::2]
        if slip == "last axis":
            return out.chunk(2, dim=-1)
        return out.chunk(2)

    return my_one_call


class Counting:
    """A denoiser with labels that counts its calls and how many samples each had."""

    def __init__(self, labels, samples, own_time):
        self.samples, self.own_time = samples, own_time
        self.table = torch.linspace(-1, 1, labels + 1, dtype=torch.float64) ** 3
        self.batches = []

    def __call__(self, x_t, t, label=None):
        self.batches.append(len(x_t))
        label = torch.full((len(x_t),), len(self.table) - 1) if label is None else label
        t = torch.as_tensor(t, dtype=torch.float64)
        if t.ndim and len(t) != len(x_t) == 2 * self.samples and not self.own_time:
            raise Wrong(f"Here t is one time for all, (), and the model got times {tuple(t.shape)}. What is there to "
                        "double?")  # fmt: skip
        if t.ndim and len(t) != len(x_t):
            raise Wrong(f"The model got {len(x_t)} samples and {len(t)} times. If every sample has its own time, what "
                        "happens to t when the batch is doubled?")  # fmt: skip
        if len(label) != len(x_t):
            raise Wrong(f"The model got {len(x_t)} samples and {len(label)} labels: one label for each sample.")
        if not label.is_floating_point() and label.min() < 0:
            raise Wrong(f"The model got the label {int(label.min())}, and a table has no such row: which number is the "
                        "null label?")  # fmt: skip
        shape = (-1, *[1] * (x_t.ndim - 1))
        return x_t * (1 - 0.3 * t.expand(len(x_t)).reshape(shape)) + self.table[label].reshape(shape)


ONE_CALL_SYMPTOMS = {
    "exchanged": "Your two results are exchanged: conditional comes first.",
    "class 0 for null": "Your second result is that of class 0. Which label means that none is given?",
    "label twice": "Both halves of your batch carry the label. What does the second half ask?",
    "x interleaved": "A sample's two copies are neighbours in your batch, and the labels are not arranged like that: "
    "which label does the second copy of the first sample get?",
    "every other one": "You take every other result. In torch.cat([a, b]) the second half begins after all of a.",
    "t interleaved": "It is right with one time for all and wrong if each sample has its own: are the times in the "
    "same order as the samples of the doubled batch?",
    "first t for all": "It is right with one time for all; with its own time for each sample you use the first one.",
}


def test_one_call(answer):
    generator = torch.Generator().manual_seed(3)
    for labels, shape, own_time in [(10, (6, 3), False), (4, (4, 1, 6, 6), False), (10, (6, 2, 4), True)]:
        x_t = torch.randn(shape, generator=generator, dtype=torch.float64)
        label = torch.randint(1, labels, shape[:1], generator=generator)
        t = torch.tensor([0.9, 0.1, 0.4, 0.7, 0.2, 0.6])[: shape[0]] if own_time else torch.tensor(0.6)
        model = Counting(labels, len(x_t), own_time)
        try:
            result = ask(answer, model, x_t, t, label, labels)
        except Wrong as wrong:  # what the model itself says needs no frame
            return str(wrong.__cause__ if isinstance(wrong.__cause__, Wrong) else wrong)
        if not (isinstance(result, tuple | list) and len(result) == 2):
            return f"A pair (conditional, unconditional) is expected, and this is {describe(result)}."
        results = [ask_tensor(lambda part=part: part) for part in result]
        if model.batches != [2 * len(x_t)]:
            calls = " and ".join(str(n) for n in model.batches) or "none"
            return f"{len(x_t)} samples, and the model was called with {calls}; expected one call with {2 * len(x_t)}."
        right = two_calls(model, x_t, t, label, labels)
        for part in (0, 1):
            if results[part].shape != x_t.shape:
                return f"For x_t {tuple(x_t.shape)} a result has shape {tuple(results[part].shape)}: " + (
                    "how many samples belong to each half?"
                    if results[part].shape[1:] == x_t.shape[1:]
                    else "along which axis do you cut?"
                )
        if all(compare(a, b, tolerance=1e-6) is None for a, b in zip(results, right)):
            continue
        for slip, text in ONE_CALL_SYMPTOMS.items():
            wrong = one_call_with(slip)(model, x_t, t, label, labels)
            if all(compare(a, b, tolerance=1e-6) is None for a, b in zip(results, wrong)):
                return text
        for name, a, b in zip(("conditional", "unconditional"), results, right):
            if symptom := compare(a, b, what=name, tolerance=1e-6):
                return symptom
    return None


# -------------------------------------------------------------------------------------- 08.4 the scale that is enough


def enough(rows, accuracy):
    found = {}
    for row in rows:
        found.setdefault((row["where"], row["scale"]), []).append(row)
    good = [c for c, some in found.items() if mean(row["accuracy"] for row in some) >= accuracy]
    return max(good, key=lambda c: mean(row["recall"] for row in found[c]))


def enough_with(slip):
    """The choice of 08.4 with one slip."""

    def my_enough(rows, accuracy):
        limit = 0.95 if slip == "95 % always" else accuracy
        average = {"luckiest seed": max, "unluckiest seed": min, "median": median}.get(slip, mean)
        found = {}
        if slip in ("rows first", "one row"):
            rows = [row for row in rows if row["accuracy"] >= accuracy]
        if slip == "one row":
            row = max(rows, key=lambda row: row["recall"])
            return row["where"], row["scale"]
        if slip == "one seed":
            rows = [row for row in rows if row["seed"] == 0]
        if slip == "interval only":
            rows = [row for row in rows if row["where"] == "interval"]
        for row in rows:
            if slip != "everywhere only" or row["where"] == "everywhere":
                found.setdefault((row["where"], row["scale"]), []).append(row)
        reached = {c: average(row["accuracy"] for row in some) for c, some in found.items()}
        good = [c for c in found if reached[c] >= limit] or list(found)
        if slip == "accuracy ignored":
            good = list(found)
        if slip == "most accurate":
            return max(good, key=reached.get)
        if slip == "smallest scale":
            return min(good, key=lambda c: (c[1], -mean(row["recall"] for row in found[c])))
        if slip == "least recall":
            return min(good, key=lambda c: mean(row["recall"] for row in found[c]))
        key, sign = {"precision": ("precision", 1), "frechet": ("frechet", -1)}.get(slip, ("recall", 1))
        best = max if slip == "luckiest recall" else mean
        return max(good, key=lambda c: sign * best(row[key] for row in found[c]))

    return my_enough


ENOUGH_SYMPTOMS = {
    "accuracy ignored": "Your choice does not show the class that was asked for often enough: its mean accuracy lies "
    "below the threshold.",
    "95 % always": "Your threshold is 95 %, whatever `accuracy` says.",
    "luckiest seed": "Your choice passes with its luckiest seed, and not on average.",
    "unluckiest seed": "You ask that every seed passes; asked is the mean over the seeds.",
    "most accurate": "You take the most accurate one. More than the threshold was not asked for: what does it cost?",
    "smallest scale": "You take the smallest scale that passes. Here a larger one, used at some times only, keeps more "
    "recall.",
    "least recall": "Of those that pass you take the one that loses most.",
    "precision": "You take the most precise one; diversity is another number.",
    "frechet": "You take the smallest distance, which mixes fidelity and diversity; asked is recall.",
    "luckiest recall": "You compare the best recall of each choice; expected is the mean over the seeds.",
    "median": "You take the median; asked is the mean.",
    "rows first": "You drop single rows below the threshold before you take the mean over the seeds.",
    "one row": "You take the best single row; asked are means over the seeds of a pair.",
    "one seed": "You look at one seed only; asked is the mean over the seeds.",
    "interval only": "You leave out guidance at all times, and it is sometimes the better choice.",
    "everywhere only": "You leave out guidance in an interval of times, and it is sometimes the better choice.",
}


def some_rows(seed):
    """Made-up measurements in random order: two ways, seven scales, three seeds, some luck."""
    generator = torch.Generator().manual_seed(seed)

    def luck(size):
        return size * float(torch.randn(1, generator=generator))

    rows, base, steep, cost = [], 0.7 + abs(luck(0.08)), 1 + abs(luck(0.6)), 0.05 + abs(luck(0.04))
    for where, strength in (("everywhere", 1.0), ("interval", 0.55)):
        for scale in (1, 1.5, 2, 3, 4, 6, 8):
            push = strength * (scale - 1)
            for run in range(3):
                row = {"where": where, "scale": scale, "seed": run}
                row["accuracy"] = round(min(1.0, 1 - (1 - base) * 2 ** (-steep * push) + luck(0.012)), 4)
                price = 1.5 if where == "interval" and seed % 4 == 3 else strength
                row["recall"] = round(
                    min(1.0, max(0.0, 0.95 - cost * price * push + luck(0.05 if run == 1 else 0.02))), 4
                )
                row["precision"] = round(min(1.0, 0.8 + 0.03 * push - 0.005 * push**2 + luck(0.04)), 4)
                row["frechet"] = round(abs(0.5 + 0.3 * (push - 2.2) ** 2 + luck(0.2)), 3)
                rows.append(row)
    rows = [rows[i] for i in torch.randperm(len(rows), generator=generator)]
    return [row for row in rows if row["seed"] != 2 or row["scale"] != 4]  # some runs are missing


def at_the_threshold(answer):
    """What is wrong if a pair reaches the threshold exactly."""
    rows = [
        {"where": "everywhere", "scale": scale, "seed": seed, "accuracy": reached, "recall": recall}
        for scale, reached, recall in [(1, 0.75, 0.9375), (2, 0.9375, 0.875), (4, 1.0, 0.5)]
        for seed in range(2)
    ]
    if tuple(ask(answer, rows, 0.9375)) != ("everywhere", 2):
        return "A pair whose mean accuracy is exactly the threshold reaches it, and you leave it out."
    return None


def test_enough(answer):
    found = {}
    for seed in range(40):
        rows, accuracy = some_rows(seed), (0.9, 0.95, 0.97)[seed % 3]
        result = ask(answer, rows, accuracy)
        if not (isinstance(result, tuple | list) and len(result) == 2):
            return f"A pair (where, scale) is expected, and this is {describe(result)}."
        right, choice = enough(rows, accuracy), tuple(result)
        if choice == right:
            for slip in ENOUGH_SYMPTOMS:
                found[slip] = found.get(slip, True) and enough_with(slip)(rows, accuracy) == right
            continue
        if choice not in [(row["where"], row["scale"]) for row in rows]:
            return f"{choice} was never measured; choose one of the pairs (where, scale) in rows."
        for slip in ENOUGH_SYMPTOMS:
            found.setdefault(slip, True)
        found["wrong"] = f"For one table and accuracy {accuracy} your choice is {choice}; expected {right}."
        for slip in ENOUGH_SYMPTOMS:
            found[slip] &= choice == enough_with(slip)(rows, accuracy)
    if "wrong" not in found:
        return at_the_threshold(answer)
    # The slip is the one that makes every one of these choices.
    return next((text for slip, text in ENOUGH_SYMPTOMS.items() if found[slip]), found["wrong"])


EXERCISES = {
    "08.1": Exercise(
        test=test_drop,
        solution=drop,
        mistakes={
            "missing row": (drop_with("missing row"), "at the first label that has no row"),
            "a class for null": (drop_with("a class for null"), "how many rows does the table need"),
            "null is -1": (drop_with("null is -1"), "the null label is the next number"),
            "null one too far": (drop_with("null one too far"), "training stops with an IndexError"),
            "kept for dropped": (drop_with("kept for dropped"), "the share that you keep"),
            "one draw for all": (drop_with("one draw for all"), "all labels or none"),
            "normal for uniform": (drop_with("normal for uniform"), "From which distribution"),
            "the first ones": (drop_with("the first ones"), "side by side"),
            "a rounded number of them": (drop_with("rounded"), "however small the batch"),
            "every second one": (
                lambda label, classes, probability, generator: (
                    classes + 1,
                    torch.where(torch.arange(len(label)) % round(1 / probability) == 0, classes, label),
                ),
                "keep a distance",
            ),
            "a seed of its own": (
                lambda label, classes, probability, generator: drop(
                    label, classes, probability, torch.Generator().manual_seed(0)
                ),
                "does your draw begin anew",
            ),
            "no generator": (drop_with("no generator"), "does your draw use the generator"),
        },
        remark="One row and one line in the loss: that is all that training needs for guidance to be possible later.",
    ),
    "08.2": Exercise(
        test=test_whose_scale,
        solution=whose_scale,
        mistakes={
            "as in diffusers": (assume_diffusers, "the value as it came"),
            "as in the paper": (assume_ho_and_salimans, "You always add 1"),
            "arguments exchanged": (exchanged, "which argument is the conditional"),
            "the unconditional left in": (without_the_unconditional, "1 too large"),
            "not divided by the difference": (not_divided, "twice the scale"),
            "a straight line": (straight_line, "Does it have to be one"),
            "proportional": (at_value_one, "need not be proportional"),
        },
        remark="Before you compare two papers' scales, do this with their code: 1 and 0 in, the scale comes out.",
    ),
    "08.3": Exercise(
        test=test_one_call,
        solution=one_call,
        mistakes={
            "two calls": (two_calls, "expected one call with"),
            "exchanged": (one_call_with("exchanged"), "conditional comes first"),
            "class 0 for null": (one_call_with("class 0 for null"), "Which label means that none is given"),
            "x interleaved": (one_call_with("x interleaved"), "copies are neighbours"),
            "every other one": (one_call_with("every other one"), "every other result"),
            "t not doubled": (one_call_with("t not doubled"), "what happens to t"),
            "t interleaved": (one_call_with("t interleaved"), "in the same order"),
            "label twice": (one_call_with("label twice"), "What does the second half ask"),
            "the first t for all": (one_call_with("first t for all"), "you use the first one"),
            "cut along the last axis": (one_call_with("last axis"), "along which axis"),
        },
        remark="Equal to rounding, not to the last bit: a matrix product of twice the rows may add in another order.",
    ),
    "08.4": Exercise(
        test=test_enough,
        solution=enough,
        mistakes={
            "accuracy ignored": (enough_with("accuracy ignored"), "lies below the threshold"),
            "95 % always": (enough_with("95 % always"), "whatever `accuracy` says"),
            "luckiest seed": (enough_with("luckiest seed"), "luckiest seed, and not on average"),
            "unluckiest seed": (enough_with("unluckiest seed"), "that every seed passes"),
            "most accurate": (enough_with("most accurate"), "More than the threshold was not asked"),
            "smallest scale": (enough_with("smallest scale"), "the smallest scale that passes"),
            "least recall": (enough_with("least recall"), "the one that loses most"),
            "precision for recall": (enough_with("precision"), "diversity is another number"),
            "distance for recall": (enough_with("frechet"), "mixes fidelity and diversity"),
            "luckiest recall": (enough_with("luckiest recall"), "the best recall of each choice"),
            "the interval left out": (enough_with("everywhere only"), "in an interval of times"),
            "only the interval": (enough_with("interval only"), "guidance at all times"),
            "median": (enough_with("median"), "You take the median"),
            "rows first": (enough_with("rows first"), "drop single rows"),
            "one row": (enough_with("one row"), "best single row"),
            "one seed": (enough_with("one seed"), "one seed only"),
            "above, not at": (lambda rows, accuracy: enough(rows, accuracy + 1e-9), "exactly the threshold"),
        },
        remark="The answer is a property of this model and this judge; measure again when either changes.",
    ),
}

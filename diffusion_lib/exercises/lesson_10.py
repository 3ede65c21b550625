"""Exercises of lesson 10: the mask, a loss by hand, independent guesses, filling blanks, bits and perplexity."""

import math

import torch
import torch.nn.functional as F

from ..samplers import last, time_grid
from ..schedules import Cosine, Linear, as_time, reshape_like
from ..tokens import decode, encode, unmask
from .engine import Exercise, Unfinished, Wrong, ask, ask_tensor, close, compare, describe, seeded


def uniform(shape, generator):
    return torch.rand(shape, generator=generator, dtype=torch.float64)


# ---------------------------------------------------------------------------------------------- 10.1 the mask


def mask_with(slip=""):
    """The masking of 10.1 with one slip; without a name it is right."""

    def my_mask_tokens(schedule, x_0, noise, t, mask):
        alpha_t, sigma_t = schedule.scales(t, like=noise)
        if slip == "one t for all":
            alpha_t = alpha_t.flatten()[0]
        if slip == "mean t":
            alpha_t = alpha_t.mean()
        if slip == "one coin a line":
            noise = noise[:, :1].expand_as(noise)
        if slip == "one coin a place":
            noise = noise[:1].expand_as(noise)
        survives = {
            "alpha masks": noise >= alpha_t,
            "1 - sigma": noise < 1 - sigma_t,
            "sigma": noise < sigma_t,
            "squared": noise < alpha_t**2,
            "root": noise < alpha_t**0.5,
            "other side": noise > 1 - alpha_t,
            "normal": torch.randn(noise.shape, dtype=noise.dtype) < alpha_t,
            "1 - t": noise < 1 - reshape_like(as_time(t), noise),
            "own coins": torch.rand(noise.shape, dtype=noise.dtype) < alpha_t,
        }.get(slip, noise < alpha_t)
        if slip == "multiplied":
            return x_0 * survives
        if slip == "mask of another id":
            mask = mask - 1
        if slip == "mask is V + 1":
            mask = mask + 1
        if slip == "mask from the batch":
            mask = int(x_0.max()) + 1
        return torch.where(survives, x_0, mask)

    return my_mask_tokens


def float_tokens(schedule, x_0, noise, t, mask):
    return mask_with()(schedule, x_0, noise, t, mask).double()


def where_masked(schedule, x_0, noise, t, mask):
    return mask_with()(schedule, x_0, noise, t, mask) == mask


def flat_alpha(schedule, x_0, noise, t, mask):
    return torch.where(noise < schedule.alpha(t), x_0, mask)


def mask_in_place(schedule, x_0, noise, t, mask):
    x_0[noise >= schedule.scales(t, like=noise)[0]] = mask
    return x_0


MASK_SYMPTOMS = {
    "alpha masks": "Your tokens are masked where they should survive, and the other way round: alpha_t is the "
    "probability of which of the two?",
    "1 - sigma": "Your tokens survive with probability 1 - sigma_t. With Linear() that happens to be right; which "
    "of the two scales is the probability itself?",
    "sigma": "Your tokens survive with probability sigma_t, more of them as t grows. Which scale falls with t?",
    "squared": "Your tokens survive with probability alpha_t^2. In pictures the share of the signal is a variance; "
    "what is alpha_t here?",
    "root": "Your tokens survive with probability sqrt(alpha_t): nothing is a standard deviation here.",
    "other side": "The share of masks is right, and the wrong tokens survive: you keep those with large noise. The "
    "task keeps a token where noise < alpha_t, so that the same noise gives everybody the same masks.",
    "one coin a line": "In your result a line is masked as a whole or not at all: does every token throw its own coin?",
    "one coin a place": "In your result all lines have their masks at the same places: does every line throw its own "
    "coins?",
    "one t for all": "Every line is masked as if it had the time of the first one: what shape must alpha_t have to be "
    "compared with (B, L)?",
    "mean t": "Every line is masked as if it had the mean of the times: what shape must alpha_t have to be compared "
    "with (B, L)?",
    "multiplied": "Where a token should be hidden yours is 0, a symbol like any other. Which id is the mask's?",
    "mask of another id": "Your masks have the id of the last symbol. V symbols are numbered from 0 to V - 1; which id "
    "is left for the mask?",
    "mask from the batch": "Your masks have the id after the largest symbol of this batch. The largest symbol of the "
    "alphabet need not occur in it: which argument says the mask's id?",
    "1 - t": "Your tokens survive with probability 1 - t, whatever the schedule. That is Linear(); what does the "
    "schedule you are given say?",
    "mask is V + 1": "Your masks have an id one too large. The argument `mask` is the id itself.",
}


def test_mask(answer):
    generator = seeded(10)
    for schedule, shape, mask in [(Cosine(), (40, 9), 12), (Linear(), (30, 6), 27), (Cosine(), (9, 9), 8)]:
        x_0 = torch.randint(1, mask if mask == 12 else mask - 2, shape, generator=generator)
        x_0[:, 0] = x_0.max()
        noise = uniform(shape, generator)
        for t in (torch.tensor(0.45), 0.2 + 0.7 * uniform(shape[:1], generator)):
            inputs = (schedule, x_0, noise, t, mask)
            try:
                got = ask_tensor(answer, *inputs, shape=shape)
            except Wrong as wrong:
                if t.ndim and any(words in str(wrong) for words in ("must match the size", "broadcast")):
                    return (
                        "It works when all lines share one t and stops when each has its own: what shape must alpha_t "
                        "have to be compared with (B, L), and which method of the schedule sees to that?"
                    )
                raise
            if got.dtype == torch.bool:
                return "You return where the masks are. The task wants the tokens: x_0 there, the mask's id here."
            if got.is_floating_point():
                return "Your tokens became floats. They are row numbers of a table, whole numbers as x_0 is."
            slips = {text: mask_with(slip)(*inputs) for slip, text in MASK_SYMPTOMS.items()}
            right = mask_with()(*inputs)
            if symptom := compare(got, right, slips, "x_t", tolerance=1e-9):
                if t.ndim and shape[0] == shape[1] and close(got.double(), flat_alpha(*inputs).double(), 1e-9):
                    return (
                        "Here B and L are equal, and the times run along the line instead of along the batch: what "
                        "shape must alpha_t have to be compared with (B, L)?"
                    )
                if ((got == x_0) | (got == mask)).all():
                    again = ask_tensor(answer, *inputs, shape=shape)
                    if not torch.equal(got, again):
                        return (
                            "Two calls with the same noise give different masks. The noise is an argument, uniform in "
                            "[0, 1): compare that with alpha_t, and draw nothing yourself."
                        )
                return symptom
    inputs = (Linear(), x_0, noise, torch.tensor(0.0), mask)
    return compare(ask_tensor(answer, *inputs), x_0, what="x_t at t = 0 (there it must be x_0 itself)")


# ---------------------------------------------------------------------------------------------- 10.2 the loss by hand


def loss_with(slip=""):
    """The loss of 10.2 with one slip; without a name it is right."""

    def my_loss(log_p, x_0, x_t, mask, alpha_t, slope_t):
        masked = x_t == mask
        cost = -log_p.gather(-1, x_0[..., None])[..., 0]  # (B, L)
        if slip == "probability":
            cost = 1 - log_p.exp().gather(-1, x_0[..., None])[..., 0]
        if slip == "bits":
            cost = cost / math.log(2)
        if slip == "known ones too":
            masked = torch.ones_like(masked)
        if slip == "known ones only":
            masked = ~masked
        if slip == "all symbols":
            cost = -log_p.sum(-1)
        if slip == "best guess":
            cost = -log_p.max(-1).values
        sums = torch.where(masked, cost, 0.0).sum(1)
        count = masked.sum(1).clamp(min=1)
        weight = {
            "no weight": torch.ones_like(alpha_t),
            "weight turned over": -(1 - alpha_t) / slope_t,
            "over alpha": -slope_t / alpha_t,
            "slope forgotten": 1 / (1 - alpha_t),
            "only the slope": -slope_t,
            "sign": slope_t / (1 - alpha_t),
        }.get(slip, -slope_t / (1 - alpha_t))
        if slip == "mean over masks":
            sums = sums / count
        if slip == "mean over the line":
            sums = sums / x_0.shape[1]
        if slip == "weight by counting":
            return sums * x_0.shape[1] / count
        if slip == "mean over the batch":
            return (weight * sums).mean()
        if slip == "sum over the batch":
            return (weight * sums).sum()
        if slip == "weights of the batch":
            weight = weight.mean()
        return weight * sums

    return my_loss


LOSS_SYMPTOMS = {
    "no weight": "Your loss is the cross-entropy of the masked tokens without its weight: what stands in front of it?",
    "weight turned over": "Your weight is upside down: is it large when few tokens are masked, or when many are?",
    "over alpha": "You divide by alpha_t, the share that survives. Which tokens are paid for, those or the others?",
    "slope forgotten": "Your weight is 1 / (1 - alpha_t), as if every schedule fell by 1 in a unit of time: where is "
    "the slope?",
    "only the slope": "Your weight is the slope alone: what is it divided by?",
    "sign": "Your loss is negative where a cost is expected. The slope of alpha_t is negative, and so is the logarithm "
    "of a probability: which minus is missing?",
    "probability": "You add up 1 - p, the share of wrong guesses. The cost of a symbol is the negative logarithm of "
    "its probability.",
    "bits": "Your loss is in bits. Here it is in nats: which logarithm is log_p, and is a division by log(2) left?",
    "known ones too": "You also count the tokens that are not masked. The network was told these: what do they cost?",
    "known ones only": "You count the tokens that are known, and not those that are masked.",
    "all symbols": "You add the log-probabilities of all symbols of the alphabet. Which one of them stood there?",
    "best guess": "You take the likeliest symbol, right or wrong. Which symbol stood there?",
    "mean over masks": "You take the mean over the masked tokens. The cost of a line is their sum.",
    "mean over the line": "You divide by the length of the line. The cost of a line is a sum.",
    "weight by counting": "You multiply by L over the number of masks. That loss has the same mean over all masks, and "
    "it is another number for this one: the task wants the weight from alpha_t and its slope.",
    "mean over the batch": "You return the mean over the batch; one number for each line is expected.",
    "sum over the batch": "You return one sum for the whole batch; one number for each line is expected.",
    "weights of the batch": "Every line gets the mean weight of the batch. Each line has its own time: and its weight?",
}


def hand_case():
    """The case of the lesson: 3+4=07 with two masks at t = 0.4 under Linear, three symbols of the alphabet matter."""
    symbols = "0123456789+="
    x_0, x_t = encode(["3+4=07"], symbols), encode(["3+_=_7"], symbols)
    p = torch.full((1, 6, 12), 0.5 / 11, dtype=torch.float64)
    p.scatter_(2, x_0[..., None], 0.5)
    p[0, 4] = 0.75 / 11
    p[0, 4, 0] = 0.25
    return p.log(), x_0, x_t, 12, torch.tensor([0.6], dtype=torch.float64), torch.tensor([-1.0], dtype=torch.float64)


def test_loss(answer):
    generator = seeded(11)
    cases = []
    for B, L, V in [(1, 5, 4), (4, 7, 6), (5, 5, 9)]:
        x_0 = torch.randint(V, (B, L), generator=generator)
        masked = uniform((B, L), generator) < 0.6
        masked[:, 1], masked[:, 0] = True, False
        log_p = torch.randn(B, L, V, generator=generator, dtype=torch.float64).log_softmax(-1)
        alpha_t, slope_t = 0.2 + 0.6 * uniform((B,), generator), -0.4 - uniform((B,), generator)
        cases.append((log_p, x_0, torch.where(masked, V, x_0), V, alpha_t, slope_t))
    for inputs in cases[1:] + cases[:1]:
        B = len(inputs[1])
        slips = {text: loss_with(slip)(*inputs) for slip, text in LOSS_SYMPTOMS.items()}
        got = ask_tensor(answer, *inputs)
        if symptom := compare(got, loss_with()(*inputs), slips, "the loss", tolerance=1e-6):
            if tuple(got.shape) == (B, inputs[1].shape[1]):
                return "You return one number for each token; a line is expected to have one: which axis is summed?"
            return symptom
    got = ask_tensor(answer, *hand_case(), shape=(1,))
    return compare(got, torch.tensor([2.5 * math.log(8)]), what="the loss of the case by hand", tolerance=1e-6)


# ---------------------------------------------------------------------------------------------- 10.3 one step


def one_step_with(slip=""):
    """The probability of 10.3 with one slip; without a name it is right."""

    def my_one_step(x_0, weights):
        symbols = int(x_0.max()) + 1
        w = torch.full_like(weights, 1 / len(weights)) if slip == "unweighted" else weights
        marginals = torch.einsum("n,nlv->lv", w, F.one_hot(x_0, symbols).to(w.dtype))  # (L, V)
        if slip == "one marginal for all":
            marginals = marginals.mean(0, keepdim=True).expand_as(marginals)
        each = marginals.expand(len(x_0), -1, -1).gather(2, x_0[..., None])[..., 0]  # (N, L)
        product = each.prod(1)
        by_slip = {
            "mean over members": product.mean(),
            "weighted by members": (weights * product).sum(),
            "likeliest symbols": marginals.max(-1).values.prod(),
            "wrong share": 1 - product.sum(),
            "all symbols alike": len(x_0) / torch.tensor(float(symbols)).double() ** x_0.shape[1],
            "all seen symbols alike": len(x_0) / (marginals > 0).sum(-1).double().prod(),
            "sum over places": each.sum(1).mean(),
            "last place free": each[:, :-1].prod(1).sum(),
            "joint": weights.sum(),
            "collision": (weights**2).sum(),
            "log": product.sum().log(),
        }
        return float(by_slip.get(slip, product.sum()))

    return my_one_step


def repeated_members(x_0, weights):
    """Counts what is drawn, so near the truth and never there."""
    marginals = torch.einsum("n,nlv->lv", weights, F.one_hot(x_0).to(weights.dtype))
    drawn = torch.multinomial(marginals, 40_000, replacement=True, generator=seeded(3)).T  # (40000, L)
    members = {tuple(line) for line in x_0.tolist()}
    return sum(tuple(line) in members for line in drawn.tolist()) / len(drawn)


ONE_STEP_SYMPTOMS = {
    "unweighted": "You count every member as equally common. The weights say how common each is: where do they enter "
    "the probability of a symbol at a place?",
    "one marginal for all": "You use the same probabilities at every place. The denoiser answers for each place on its "
    "own.",
    "mean over members": "You take the mean over the members. Any of them will do, and no two can be drawn at once: "
    "what happens to their probabilities?",
    "weighted by members": "You weigh the members by how common they are in the language. But the draw does not know "
    "which members there are: the probability to draw one is the product alone.",
    "likeliest symbols": "You take the likeliest symbol at each place. One step draws from the probabilities.",
    "wrong share": "That is the probability of a wrong line.",
    "all symbols alike": "You let every symbol of the alphabet be equally probable at every place. What does the "
    "denoiser say there?",
    "all seen symbols alike": "You let all symbols that occur at a place be equally probable there. Some occur more "
    "often than others.",
    "sum over places": "You add up the probabilities of the places. A line is drawn if all its places are: what is the "
    "probability that independent things all happen?",
    "last place free": "You leave out the last place: a single wrong symbol spoils the line.",
    "joint": "You get 1, what drawing whole members would give. One step draws every place on its own.",
    "collision": "That is the probability that two members drawn from the language are the same one. One step draws "
    "places, not members.",
    "log": "That is the logarithm of the probability.",
}


def languages():
    """(members (N, L), weights (N,)) of three small languages."""
    generator = seeded(12)
    words = encode(["cat", "cot", "cut", "bat", "but", "tab"], "abcotu")
    sums = encode([f"{a}+{b}={a + b}" for a in range(5) for b in range(5)], "012345678+=")
    pairs = torch.cartesian_prod(*[torch.arange(3)] * 4)
    some = pairs[torch.randperm(len(pairs), generator=generator)[:20]]
    for x_0 in (words, sums, some):
        weights = 0.2 + uniform((len(x_0),), generator)
        yield x_0, weights / weights.sum()


def test_one_step(answer):
    for x_0, weights in languages():
        got = ask(answer, x_0, weights)
        if isinstance(got, bool) or not isinstance(got, (int, float, torch.Tensor)):
            try:
                got = float(got)
            except (TypeError, ValueError):
                return f"A probability is expected, and this is {describe(got)}."
        got = torch.as_tensor(got, dtype=torch.float64).detach()
        if got.ndim:
            return f"One number is expected, and this has shape {tuple(got.shape)}: which axes are still to be used up?"
        right = one_step_with()(x_0, weights)
        slips = {text: one_step_with(slip)(x_0, weights) for slip, text in ONE_STEP_SYMPTOMS.items()}
        if symptom := compare(got, right, slips, "the probability", tolerance=1e-5):
            if abs(float(got) - right) < 0.02 and symptom not in slips:
                return (
                    f"{float(got):.4f} is near the right {right:.4f}, and not equal. Did you draw and count? It can be "
                    "computed without chance: a product for each member, and a sum."
                )
            return symptom
    return None


# ---------------------------------------------------------------------------------------------- 10.4 filling blanks


def infill_with(slip=""):
    """The infilling of 10.4 with one slip; without a name it is right."""

    def my_infill(denoiser, schedule, pattern, symbols, n, steps, generator):
        mask = len(symbols)
        x_t = encode([pattern], symbols).repeat(n, 1)
        start = x_t.clone()
        if slip == "blanks are 0":
            x_t[x_t == mask] = 0
        if slip == "blanks are the last symbol":
            x_t[x_t == mask] = mask - 1
        if slip == "everything masked":
            x_t[:] = mask
        if slip == "everything masked, pattern pasted":
            x_t[:] = mask
        if slip == "blanks left out":
            x_t = encode([pattern.replace("_", "")], symbols).repeat(n, 1)
        if slip == "blanks at the end":
            x_t = encode([pattern.replace("_", "") + "_" * pattern.count("_")], symbols).repeat(n, 1)
        if slip == "one line, repeated":
            x_t = x_t[:1]
        if slip == "one line":
            x_t = x_t[:1]
        grid = time_grid(1) if slip == "one step" else time_grid(steps)
        if slip == "one time too few":
            grid = grid[:-1]
        if slip == "upside down":
            grid = grid.flip(0)
        if slip == "global generator":
            generator = None
        if slip == "one sequence of chances":
            lines = [x_t[:1] for _ in range(n)]
            state = generator.get_state()
            done = []
            for line in lines:
                generator.set_state(state)
                done.append(last(unmask(denoiser, schedule, line, grid, generator)))
            return decode(torch.cat(done), symbols)
        if slip == "own seed":
            generator = seeded(0)
        if slip == "always 40 steps":
            grid = time_grid(40)
        x = last(unmask(denoiser, schedule, x_t, grid, generator))
        if slip == "likeliest in the last step":
            *_, step = unmask(denoiser, schedule, x_t, grid, generator)
            x = step.x_0.argmax(-1)
        if slip == "everything masked, pattern pasted":
            x = torch.where(start == mask, x, start)
        if slip == "one line, repeated":
            x = x.repeat(n, 1)
        if slip == "ids":
            return x
        if slip == "first text":
            return decode(x, symbols)[0]
        return decode(x, symbols)

    return my_infill


def fill_by_likeliest(denoiser, schedule, pattern, symbols, n, steps, generator):
    x = encode([pattern], symbols).repeat(n, 1)
    for place in range(x.shape[1]):
        if pattern[place] == "_":
            x[:, place] = denoiser(x, torch.tensor(0.5))[:, place].argmax(-1)
    return decode(x, symbols)


def fits(line, pattern):
    return len(line) == len(pattern) and all(p in ("_", c) for c, p in zip(line, pattern))


def test_infill(answer):
    symbols = "0123456789+="
    lines = [f"{a}+{b}={a + b:02d}" for a in range(10) for b in range(10)]
    members, mask = encode(lines, symbols), len(symbols)
    for pattern, n in [("_+_=07", 24), ("3+_=1_", 15), ("_+_=__", 12)]:
        seen = []

        def denoiser(x_t, t, seen=seen):
            seen.append(x_t.clone())
            fit = ((x_t[:, None] == members) | (x_t[:, None] == mask)).all(-1).double()  # (B, N)
            fit = torch.where(fit.any(1, keepdim=True), fit, 1.0)  # no sum fits: go on with any
            p = torch.einsum("bn,nlv->blv", fit / fit.sum(1, keepdim=True), F.one_hot(members, mask).double())
            known = F.one_hot(x_t.clamp(0, mask), mask + 1)[..., :mask].double()
            return torch.where((x_t == mask)[..., None], p, known).log()

        try:
            got = ask(answer, denoiser, Linear(), pattern, symbols, n, 40, seeded(13))
        except Wrong:
            if seen and seen[-1].shape[-1] != len(pattern):
                length = seen[-1].shape[-1]
                return f"Your start has length {length}, the pattern has {len(pattern)}: a blank keeps its place."
            raise
        if symptom := filled(got, pattern, n, seen, symbols, lines):
            return symptom
        torch.manual_seed(1)
        again = ask(answer, denoiser, Linear(), pattern, symbols, n, 40, seeded(13))
        other = ask(answer, denoiser, Linear(), pattern, symbols, n, 40, seeded(14))
        if list(again) != list(got) or list(other) == list(got):
            return "The lines do not depend on the generator you were given alone: is it passed on to the sampler?"
        seen.clear()
        at_once = ask(answer, denoiser, Linear(), pattern, symbols, n, 1, seeded(13))
        if len(set(at_once)) == 1:
            return f"With one step all {n} lines are the same: is each symbol drawn, or the likeliest taken?"
        if len(seen) == 40:
            return "You make as many steps when asked for one as when asked for 40: is `steps` passed on?"
    return None


def filled(got, pattern, n, seen, symbols, lines):
    """What is wrong with these fillings of a pattern, given what the denoiser was asked; None if nothing is."""
    if isinstance(got, torch.Tensor):
        return f"You return {describe(got)}; lines of text are expected: what turns ids into characters?"
    if isinstance(got, str):
        return f"You return one text; a list of {n} texts is expected."
    if not isinstance(got, (list, tuple)) or not all(isinstance(line, str) for line in got):
        return f"A list of texts is expected, and this is {describe(got)}."
    blank, start = len(symbols), encode([pattern], symbols)[0]
    hidden = start == blank
    if not seen:
        if got and all(line == pattern for line in got):
            return "Your lines are the pattern itself: the sampler did nothing."
        return "The denoiser was never asked. Where do your symbols come from?"
    first = seen[0]
    if first.shape[1:] == start.shape:
        if (first[:, ~hidden] == blank).all() and hidden.sum() < len(hidden):
            if all(fits(line, pattern) for line in got):
                return (
                    "The denoiser begins with nothing but masks, and the pattern is put over the end: the blanks were "
                    "filled without knowing it. Where does what you know have to stand from the start?"
                )
            return (
                "The denoiser begins with nothing but masks: your known symbols are drawn anew. What does the sampler "
                "leave alone?"
            )
        if not torch.equal(first[:, ~hidden], start[~hidden].expand(len(first), -1)):
            return "Your start is not the pattern: the known symbols belong where they stand, a mask at every blank."
        if not (first[:, hidden] == blank).any():
            ids = sorted(set(first[:, hidden].flatten().tolist()))
            return (
                f"In your start the blanks have the id {ids[0]}, a symbol like any other, so that there is nothing to "
                f"fill. The symbols are 0 to {blank - 1}; which id is the mask's?"
            )
        if not (first[:, hidden] == blank).all():
            return "Some of your blanks are no masks in the start."
    if len(got) == 1 or (len(first) == 1 and len(set(got)) == 1 and len(seen) <= 41):
        return f"One line is sampled; {n} are wanted, each with chances of its own: how many lines has the start?"
    if len(got) != n:
        return f"You return {len(got)} lines; expected {n}."
    if len(set(got)) == 1:
        return f"All {n} lines are the same, although there are many fillings: does each line have its own chances?"
    if any("_" in line for line in got):
        return "There are blanks left in the end: does the grid of times reach 0?"
    if not all(fits(line, pattern) for line in got):
        return "Known symbols have changed, or moved: the line in the end has to fit the pattern."
    right = sum(line in lines for line in got) / n
    if right < 0.6:
        return (
            f"Only {right:.0%} of your lines are right sums, with an exact denoiser and {pattern} to be filled: how "
            "many steps are made?"
        )
    if pattern == "_+_=07" and len(set(got)) < 4:
        return f"Your {n} lines show {len(set(got))} of 8 fillings: is each symbol drawn, or the likeliest taken?"
    return None


# ---------------------------------------------------------------------------------------------- 10.5 bits


def bits_with(slip=""):
    """The three results of 10.5 with one slip; without a name they are right."""

    def my_bits(nats, lengths):
        lengths = lengths.to(nats.dtype)
        rate = nats.sum() / lengths.sum()  # nats a character
        if slip == "mean of ratios":
            rate = (nats / lengths).mean()
        if slip == "per line":
            rate = nats.mean()
        if slip == "number of lines":
            rate = nats.sum() / len(nats) / lengths.sum()
        bits, perplexity = rate / math.log(2), rate.exp()
        if slip == "nats for bits":
            bits = rate
        if slip == "times log 2":
            bits = rate * math.log(2)
        if slip == "log10":
            bits = rate / math.log(10)
        if slip == "perplexity from bits with e":
            perplexity = bits.exp()
        if slip == "2 to the nats":
            perplexity = 2**rate
        if slip == "mean of perplexities":
            perplexity = (nats / lengths).exp().mean()
        if slip == "perplexity of a line":
            perplexity = nats.mean().exp()
        if slip == "reciprocal":
            perplexity = (-rate).exp()
        return bits, perplexity, "at least" if slip == "direction" else "at most"

    return my_bits


BITS_SYMPTOMS = {
    "mean of ratios": "You average the rates of the lines, so that a character of a short line counts more than one of "
    "a long line. What is divided by what, if every character is to count alike?",
    "per line": "These are numbers for a line. How many characters is a cost shared by?",
    "number of lines": "You divide by the number of lines and by the number of characters: once is enough.",
    "nats for bits": "Your bits are nats. How many nats is one bit, a choice between two?",
    "times log 2": "Your bits come out smaller than the nats. A bit is log(2) = 0.69 nats: does a cost take more bits "
    "or more nats?",
    "log10": "You divide by log(10): that would be digits. A bit is a choice between two.",
    "perplexity from bits with e": "Your perplexity is e to the bits. Which base belongs to which unit?",
    "2 to the nats": "Your perplexity is 2 to the nats. Which base belongs to which unit?",
    "mean of perplexities": "You average perplexities. Average the costs first and take the exponential once, at the "
    "end.",
    "perplexity of a line": "Your perplexity is that of a whole line. How many choices is that for one character?",
    "reciprocal": "Your perplexity is below 1, a probability. Perplexity is a number of choices: one over it.",
    "direction": "Bits and perplexity are right. The third is not: the loss is an upper bound of -log p. So the true "
    "cost of the text under the model is which, at most or at least this?",
}


def word(text):
    return " ".join(text.lower().split()).strip(" .!")


def test_bits(answer):
    generator = seeded(14)
    for n in (7, 12):
        lengths = torch.randint(5, 60, (n,), generator=generator)
        nats = lengths * (0.5 + 2 * uniform((n,), generator))
        unfinished = None
        try:
            got = ask(answer, nats, lengths)
        except Unfinished as stop:
            got, unfinished = stop.results, stop
        if not isinstance(got, (tuple, list)) or len(got) != 3:
            return f"Three results are expected: bits, perplexity, 'at most' or 'at least'. This is {describe(got)}."
        right = bits_with()(nats, lengths)
        for k, what in enumerate(("the bits a character", "the perplexity a character")):
            if got[k] is ...:
                continue
            try:
                value = torch.as_tensor(got[k], dtype=torch.float64).detach()
            except (TypeError, ValueError, RuntimeError):
                return f"A number is expected for {what}, and this is {describe(got[k])}."
            if value.ndim:
                return f"One number is expected for {what}, and this has shape {tuple(value.shape)}."
            values = {text: bits_with(slip)(nats, lengths) for slip, text in BITS_SYMPTOMS.items()}
            # For the perplexity, only slips that leave the bits right: those were looked at before.
            slips = {text: v[k] for text, v in values.items() if k == 0 or close(v[0], right[0], 1e-9)}
            if symptom := compare(value, right[k], slips, what, tolerance=1e-4):
                return symptom
        if got[2] is not ...:
            if not isinstance(got[2], str) or word(got[2]) not in ("at most", "at least"):
                return f"The third result is {describe(got[2])}; expected 'at most' or 'at least'."
            if word(got[2]) != "at most":
                return BITS_SYMPTOMS["direction"]
        if unfinished:
            return f"What you have is right. {unfinished}"
    return None


def known(make, symptoms, *names):
    """{slip: (wrong answer, the beginning of its message)} of a family of mistakes."""
    return {name: (make(name), symptoms[name][:60]) for name in names or symptoms}


EXERCISES = {
    "10.1": Exercise(
        test=test_mask,
        solution=mask_with(),
        mistakes=known(mask_with, MASK_SYMPTOMS)
        | {
            "floats": (float_tokens, "became floats"),
            "booleans": (where_masked, "You return where the masks are"),
            "alpha of shape (B,)": (flat_alpha, "stops when each has its own"),
            "in place": (mask_in_place, "changes the int64"),
            "own coins": (mask_with("own coins"), "draw nothing yourself"),
            "normal noise": (mask_with("normal"), "draw nothing yourself"),
        },
        remark="Worth knowing: with alpha_t = 1 - t the mask rate is t itself. BERT (Devlin et al. 2019) lets 15 % of "
        "the tokens be guessed, always; a diffusion model must have seen every rate, up to a line of masks.",
    ),
    "10.2": Exercise(
        test=test_loss,
        solution=loss_with(),
        mistakes=known(loss_with, LOSS_SYMPTOMS),
        remark="Worth knowing: without the weight you train a fine denoiser and have no likelihood. With it, the mean "
        "over t is a bound on -log p(x_0), and models of different kinds can be compared.",
    ),
    "10.3": Exercise(
        test=test_one_step,
        solution=one_step_with(),
        mistakes=known(one_step_with, ONE_STEP_SYMPTOMS)
        | {"a simulation": (repeated_members, "Did you draw and count?")},
        remark="Worth knowing: no better training changes this number. It belongs to the step, not to the network: "
        "tokens that are revealed together cannot see each other.",
    ),
    "10.4": Exercise(
        test=test_infill,
        solution=infill_with(),
        mistakes={
            "blanks are 0": (infill_with("blanks are 0"), "have the id 0"),
            "blanks are the last symbol": (infill_with("blanks are the last symbol"), "have the id 11"),
            "everything masked": (infill_with("everything masked"), "drawn anew"),
            "everything masked, pattern pasted": (
                infill_with("everything masked, pattern pasted"),
                "the blanks were filled without knowing it",
            ),
            "blanks left out": (infill_with("blanks left out"), "a blank keeps its place"),
            "blanks at the end": (infill_with("blanks at the end"), "Your start is not the pattern"),
            "one line, repeated": (infill_with("one line, repeated"), "how many lines has the start"),
            "one line": (infill_with("one line"), "how many lines has the start"),
            "one sequence of chances": (infill_with("one sequence of chances"), "does each line have its own chances"),
            "one step": (infill_with("one step"), "how many steps are made"),
            "the likeliest": (fill_by_likeliest, "lines are the same"),
            "ids": (infill_with("ids"), "what turns ids into characters"),
            "one text": (infill_with("first text"), "You return one text"),
            "global generator": (infill_with("global generator"), "is it passed on to the sampler"),
            "own seed": (infill_with("own seed"), "is it passed on to the sampler"),
            "always 40 steps": (infill_with("always 40 steps"), "is `steps` passed on"),
            "likeliest in the last step": (infill_with("likeliest in the last step"), "or the likeliest taken"),
            "times stop early": (infill_with("one time too few"), "does the grid of times reach 0"),
        },
        remark="Worth knowing: that is all of inpainting for symbols. A known token is never hidden, so nothing has to "
        "be glued in afterwards, and with an exact denoiser the filling is an exact draw (unlike lesson 09's).",
    ),
    "10.5": Exercise(
        test=test_bits,
        solution=bits_with(),
        mistakes=known(bits_with, BITS_SYMPTOMS),
        remark="Worth knowing: a left-to-right model's number is exact, a masked model's is a bound. If the bound is "
        "the lower one, the masked model is better; if it is the higher one, you do not know whether it is worse.",
    ),
}

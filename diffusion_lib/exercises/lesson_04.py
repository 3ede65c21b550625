"""Exercises of lesson 04: shares of an average, weight of the loss, runs that do not learn, order of the data."""

import torch
from torch import nn

from ..denoisers import Denoiser
from ..networks import MLP
from ..schedules import Cosine
from ..targets import V
from ..training import EMA
from .engine import Exercise, Untouched, ask, ask_tensor, compare
from .material import FAULTS

# 04.1: which share each step's weights have in the average


def shares(n, window):
    """(n + 1,) shares of the weights 0 .. n in EMA's average after n updates; weights 0 are from before step 1."""
    share = 1 / (1 + window * torch.arange(1, n + 1, dtype=torch.float64))
    start = torch.ones(1, dtype=torch.float64)
    kept = torch.cat([(1 - share).flip(0).cumprod(0).flip(0), start])  # (n + 1,) product over the later steps
    return torch.cat([start, share]) * kept


def shares_by_loop(n, window, share_of):
    """The shares that the recursion with share_of(step) gives, for the slips."""
    average = torch.zeros(n + 1, dtype=torch.float64)
    average[0] = 1
    for k in range(1, n + 1):
        average *= 1 - share_of(k)
        average[k] += share_of(k)
    return average


def shares_of_ema(n, window):
    """What the library's EMA does, seen by letting step k's weights be the k-th unit vector."""
    model = nn.Linear(n + 1, 1, bias=False).double()
    unit = torch.eye(n + 1, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(unit[:1])
        ema = EMA(model, window)
        for k in range(1, n + 1):
            model.weight.copy_(unit[k : k + 1])
            ema.update()
    return ema.average["weight"][0]


def step_from_zero(n, window):
    return shares_by_loop(n, window, lambda k: 1 / (1 + window * (k - 1)))


def swapped(n, window):
    return shares_by_loop(n, window, lambda k: 1 - 1 / (1 + window * k))


def same_share_always(n, window):
    return shares_by_loop(n, window, lambda k: 1 / (1 + window * n))


def window_as_share(n, window):
    return shares_by_loop(n, window, lambda k: window)


def own_step_counted_twice(n, window):
    share = 1 / (1 + window * torch.arange(1, n + 1, dtype=torch.float64))
    kept = (1 - share).flip(0).cumprod(0).flip(0)
    return torch.cat([kept[:1], share * kept])


def newest_first(n, window):
    return shares(n, window).flip(0)


def start_left_out(n, window):
    return shares(n, window)[1:]


def later_steps_forgotten(n, window):
    return torch.cat([torch.ones(1), 1 / (1 + window * torch.arange(1, n + 1))])


def try_shares(answer):
    generator = torch.Generator().manual_seed(41)
    for n in (6, 1, 40, 13):
        window = 0.05 + 0.4 * float(torch.rand((), generator=generator))
        got = ask_tensor(answer, n, window)
        if got.shape == (n,):
            return (
                f"After {n} updates you give {n} shares. The average holds a copy of the weights from the start: "
                "do those before the first step have a share too?"
            )
        got = ask_tensor(lambda got=got: got, shape=(n + 1,))
        total = f"Your {n + 1} shares sum to {float(got.sum()):.3f}"
        symptom = compare(
            got,
            shares_of_ema(n, window),
            slips={
                "The weights from before the first step have share 0 as soon as there is one update: "
                "which number has `step` when the first share is computed?": step_from_zero(n, window),
                f"The oldest weights have share {float(got[0]):.2f} after {n} steps, the newest {float(got[-1]):.2f}; "
                "in the library the newest have most. Is your list newest first?": newest_first(n, window),
                "In every update the old average gets what the new weights should get: look again at which "
                "of the two is multiplied by 1 - share.": swapped(n, window),
                "All updates take one share. In `update`, does the share depend on the step?": same_share_always(
                    n, window
                ),
                f"The newest weights have share {window:.3f}, the window itself, after {n} updates: "
                "look at how `update` makes a share out of window and step.": window_as_share(n, window),
                f"{total}. Does 1 - share of step k belong into the share of step k?": own_step_counted_twice(
                    n, window
                ),
                f"{total}. So much came in at the update: what do the later updates do to it?": later_steps_forgotten(
                    n, window
                ),
            },
            what=f"The list of shares for n = {n}, window = {window:.3f}",
        )
        if symptom:
            return symptom if abs(float(got.sum()) - 1) < 1e-3 or "sum to" in symptom else f"{total}. {symptom}"
    return None


# 04.2: the loss of v, weighted so that all noise levels count as Hang et al. 2023 say


def min_snr_loss(model, x_0, t, noise, gamma=5.0):
    """(B,) losses of a model that predicts v, with weight min(SNR, gamma) on the error of x_0 (Hang et al. 2023)."""
    snr = model.schedule.log_snr(t).exp()
    return model.loss(x_0, t, noise) * (snr.clamp(max=gamma) / (snr + 1)).to(x_0)


def weighted_by(weight):
    """A wrong answer: the loss of v times weight(snr, gamma)."""

    def wrong(model, x_0, t, noise, gamma=5.0):
        return model.loss(x_0, t, noise) * weight(model.schedule.log_snr(t).exp(), gamma).to(x_0)

    return wrong


WEIGHTS_GONE_WRONG = {
    "unweighted": lambda snr, gamma: torch.ones_like(snr),
    "for noise": lambda snr, gamma: snr.clamp(max=gamma) / snr,
    "for x_0": lambda snr, gamma: snr.clamp(max=gamma),
    "standard deviations": lambda snr, gamma: snr.sqrt().clamp(max=gamma) / (snr.sqrt() + 1),
    "log": lambda snr, gamma: snr.log().clamp(max=gamma) / (snr.log() + 1),
    "max": lambda snr, gamma: snr.clamp(min=gamma) / (snr + 1),
    "averaged weight": lambda snr, gamma: (snr.clamp(max=gamma) / (snr + 1)).mean().expand(len(snr)),
}
WEIGHT_SYMPTOMS = {
    "unweighted": "Your losses are those of model.loss: the weight is 1 at every t.",
    "for noise": "Your weight is min(SNR, gamma) / SNR, which turns an error of the noise into the wanted one. "
    "What is the error of v, in units of the error of x_0?",
    "for x_0": "Your weight is min(SNR, gamma) itself. It belongs to the error of x_0, but model.loss is the "
    "error of v: how many times larger is that?",
    "standard deviations": "Your weight looks like that of alpha / sigma in place of the SNR: is a ratio of variances "
    "meant, or of standard deviations?",
    "log": "At small t your weight grows no further and at large t it is negative or odd: "
    "is log_snr a logarithm still?",
    "max": "Where the SNR is small your weights are large: which way does gamma limit the SNR?",
    "averaged weight": "All samples of the batch have the same weight, although they have different t: "
    "was the weight averaged before it was used?",
}


def mean_too_early(model, x_0, t, noise, gamma=5.0):
    return min_snr_loss(model, x_0, t, noise, gamma).mean()


def try_min_snr_loss(answer):
    generator = torch.Generator().manual_seed(42)
    for batch, features in [(7, 3), (2, 5), (11, 2)]:
        torch.manual_seed(batch)
        offset = 0.02 * float(torch.rand((), generator=generator))
        model = Denoiser(MLP(features, width=16, depth=1).double(), Cosine(offset), V)
        x_0, noise = torch.randn(2, batch, features, generator=generator, dtype=torch.float64)
        t = 0.03 + 0.94 * torch.rand(batch, generator=generator, dtype=torch.float64)
        t[0], t[1] = 0.1, 0.8  # one on each side of the limit
        gamma = 2 + 6 * float(torch.rand((), generator=generator))
        got = ask(answer, model, x_0, t, noise, gamma)
        if isinstance(got, torch.Tensor) and got.ndim == 0:
            return (
                f"For {batch} samples you return one number. One loss for each sample is expected: "
                "is there a mean too early?"
            )
        got = ask_tensor(answer, model, x_0, t, noise, gamma, shape=(batch,))
        slips = {
            WEIGHT_SYMPTOMS[name]: weighted_by(weight)(model, x_0, t, noise, gamma)
            for name, weight in WEIGHTS_GONE_WRONG.items()
        }
        right = min_snr_loss(model, x_0, t, noise, gamma)
        symptom = compare(got, right, slips, what=f"The list of losses for gamma = {gamma:.2f}")
        if symptom:
            return symptom
    return None


# 04.3: four runs that do not learn

CANDIDATES = [*FAULTS.values(), "data not scaled", "gradients never zeroed"]
EVIDENCE = {
    "A": "Look at A's points: the noise is gone and nothing is far out; does a colour stay together?",
    "B": "Look at B's points: the colours are roughly in their places, but some noise is left. What would tell the "
    "network how much to take out?",
    "C": "Look at C's curve before its points: what does the loss do after a good beginning?",
    "D": "Look at D: its curve is calm, and its points are still the noise they began as. What can the network tell "
    "about the noise in its input?",
}


def try_faults(answer):
    if not isinstance(answer, dict) or sorted(answer) != sorted(FAULTS):
        return f"A dict with the keys {', '.join(FAULTS)} is expected, each with one of the faults in quotation marks."
    if all(value is ... for value in answer.values()):
        raise Untouched
    for letter, value in answer.items():
        if value is ...:
            return f"{letter} is still open. {EVIDENCE[letter]}"
        if value not in CANDIDATES:
            return f"{letter} is {value!r}, which is not on the list: {', '.join(map(repr, CANDIDATES))}."
    wrong = [letter for letter in FAULTS if answer[letter] != FAULTS[letter]]
    if wrong:
        return f"{len(FAULTS) - len(wrong)} of {len(FAULTS)} are right. {EVIDENCE[wrong[0]]}"
    return None


# 04.4: an order of the data that one integer can continue


def my_batch(n, batch_size, seed, position):
    """Indices (batch_size,) of batch number `position` of an endless, shuffled pass through n samples."""
    epoch, place = divmod(position, n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + epoch))
    return order[place * batch_size : (place + 1) * batch_size]


def global_generator(n, batch_size, seed, position):
    place = position % (n // batch_size)
    return torch.randperm(n)[place * batch_size : (place + 1) * batch_size]


def same_order_every_epoch(n, batch_size, seed, position):
    place = position % (n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return order[place * batch_size : (place + 1) * batch_size]


def starts_the_epoch_again(n, batch_size, seed, position):
    return my_batch(n, batch_size, seed, position // (n // batch_size) * (n // batch_size))


def shuffles_for_every_batch(n, batch_size, seed, position):
    place = position % (n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + position))
    return order[place * batch_size : (place + 1) * batch_size]


def new_order_one_batch_early(n, batch_size, seed, position):
    place, epoch = position % (n // batch_size), (position + 1) // (n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + epoch))
    return order[place * batch_size : (place + 1) * batch_size]


def skips_one_batch(n, batch_size, seed, position):
    epoch, place = divmod(position, n // batch_size)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1000 * seed + epoch))
    return order[(place + 1) * batch_size : (place + 2) * batch_size]


def seed_ignored(n, batch_size, seed, position):
    return my_batch(n, batch_size, 0, position)


def same_left_over(n, batch_size, seed, position):
    return my_batch(n // batch_size * batch_size, batch_size, seed, position)


def seeds_globally(n, batch_size, seed, position):
    epoch, place = divmod(position, n // batch_size)
    torch.manual_seed(1000 * seed + epoch)
    return torch.randperm(n)[place * batch_size : (place + 1) * batch_size]


def not_shuffled(n, batch_size, seed, position):
    place = position % (n // batch_size)
    return torch.arange(n)[place * batch_size : (place + 1) * batch_size]


def indices(answer, n, batch_size, seed, position):
    """The student's batch, or a symptom in words."""
    got = ask_tensor(answer, n, batch_size, seed, position)
    if got.ndim != 1:
        return f"A batch has shape {tuple(got.shape)}; expected ({batch_size},), one number for each sample."
    if got.is_floating_point() or not ((got >= 0) & (got < n)).all():
        return f"For n = {n} a batch holds {got.tolist()[:6]} ...; whole numbers from 0 to {n - 1} are expected."
    if len(got) != batch_size:
        return (
            f"Batch {position} of n = {n}, batch_size = {batch_size} has {len(got)} samples. Every batch is full: "
            "where does batch 0 begin, and what happens to the samples that are left over at the end of an epoch?"
        )
    return got


def try_my_batch(answer):
    for n, batch_size, seed in [(50, 7, 3), (64, 8, 0), (131, 10, 12)]:
        count = n // batch_size
        epochs = []
        for epoch in range(3):
            batches = []
            for position in range(epoch * count, (epoch + 1) * count):
                got = indices(answer, n, batch_size, seed, position)
                state = torch.random.get_rng_state()
                torch.rand(1)  # as a run between two batches would do
                again = indices(answer, n, batch_size, seed, position)
                seeded = torch.equal(state, torch.random.get_rng_state())
                for value in (got, again):
                    if isinstance(value, str):
                        return value
                if not torch.equal(got, again):
                    return (
                        f"Asked twice for batch {position}, you give two different ones. After a kill torch's global "
                        "generator stands somewhere else: which samples would come twice then, and which never?"
                    )
                if seeded:
                    return (
                        "Your function seeds torch's global generator, so the noise of the training would be the same "
                        "after every batch: make a torch.Generator of your own."
                    )
                batches.append(got)
            if torch.equal(batches[0], batches[1]):
                return (
                    f"Batches {epoch * count} and {epoch * count + 1} hold the same samples. A run that was killed in "
                    "the middle of an epoch would see its beginning again: what does `position` say about the place?"
                )
            seen = torch.cat(batches)
            twice = len(seen) - len(seen.unique())
            if twice:
                if len(torch.cat(batches[:-1]).unique()) == len(seen) - batch_size:
                    return (
                        f"The first {count - 1} batches of epoch {epoch} share no sample, and the last one repeats "
                        f"{twice} of them: does it come from the order of the next epoch already?"
                    )
                return (
                    f"{twice} samples come twice in epoch {epoch} (n = {n}, batch_size = {batch_size}), and others "
                    "never: do all batches of an epoch come from one order?"
                )
            epochs.append(seen)
        if torch.equal(epochs[0], torch.arange(count * batch_size)):
            return "The samples come in the order in which they are stored: is the shuffling missing?"
        if torch.equal(epochs[0], epochs[1]) or torch.equal(epochs[1], epochs[2]):
            return "Two epochs have the same order, so that a batch always holds the same samples: is that shuffled?"
        if torch.equal(indices(answer, n, batch_size, seed + 1, 0), epochs[0][:batch_size]):
            return "Another seed gives the same order: is seed used?"
        seen = torch.cat([indices(answer, n, batch_size, seed, position) for position in range(8 * count)])
        if len(seen.unique()) < n:
            return f"In eight epochs {n - len(seen.unique())} samples never came: are those left over always the same?"
    return None


def answer_with(**changes):
    """A wrong answer to 04.3."""
    return FAULTS | changes


EXERCISES = {
    "04.1": Exercise(
        test=try_shares,
        solution=shares,
        mistakes={
            "step counted from 0": (step_from_zero, "which number has `step`"),
            "share and 1 - share swapped": (swapped, "multiplied by 1 - share"),
            "the same share at every step": (same_share_always, "does the share depend on the step"),
            "window as the share": (window_as_share, "the window itself"),
            "own step counted twice": (own_step_counted_twice, "sum to"),
            "later steps forgotten": (later_steps_forgotten, "what do the later updates do"),
            "newest first": (newest_first, "newest first"),
            "start left out": (start_left_out, "before the first step"),
        },
        remark="Worth knowing: window = 1 gives the plain mean of all weights; a small window follows the newest.",
    ),
    "04.2": Exercise(
        test=try_min_snr_loss,
        solution=min_snr_loss,
        mistakes={
            "not weighted": (weighted_by(WEIGHTS_GONE_WRONG["unweighted"]), "the weight is 1"),
            "weight of the error of the noise": (weighted_by(WEIGHTS_GONE_WRONG["for noise"]), "error of the noise"),
            "weight of the error of x_0": (weighted_by(WEIGHTS_GONE_WRONG["for x_0"]), "error of v"),
            "alpha / sigma for the SNR": (weighted_by(WEIGHTS_GONE_WRONG["standard deviations"]), "ratio of variances"),
            "log_snr for the SNR": (weighted_by(WEIGHTS_GONE_WRONG["log"]), "a logarithm still"),
            "max for min": (weighted_by(WEIGHTS_GONE_WRONG["max"]), "which way does gamma limit"),
            "one weight for the batch": (weighted_by(WEIGHTS_GONE_WRONG["averaged weight"]), "averaged before"),
            "mean too early": (mean_too_early, "a mean too early"),
        },
        remark="Worth knowing: every weight has the same ideal denoiser; it decides where a small one tries hardest.",
    ),
    "04.3": Exercise(
        test=try_faults,
        solution=FAULTS,
        mistakes={
            "A for bad data": (answer_with(A="data not scaled"), "Look at A's points"),
            "B for gradients that pile up": (answer_with(B="gradients never zeroed"), "Look at B"),
            "C for gradients that pile up": (answer_with(C="gradients never zeroed"), "Look at C's curve"),
            "A and B confused": (answer_with(A="time not given", B="labels shuffled"), "2 of 4"),
            "C and D confused": (answer_with(C=FAULTS["D"], D=FAULTS["C"]), "Look at C's curve"),
            "a word of one's own": (answer_with(D="too few steps"), "not on the list"),
            "D for bad data": (answer_with(D="data not scaled"), "What can the network tell"),
            "one left open": (answer_with(D=...), "still open"),
        },
        remark="Worth knowing: the curves of A and D are alike. Only samples beside their labels tell them apart.",
    ),
    "04.4": Exercise(
        test=try_my_batch,
        solution=my_batch,
        mistakes={
            "torch's global generator": (global_generator, "Asked twice"),
            "the same order in every epoch": (same_order_every_epoch, "the same order"),
            "begins the epoch again": (starts_the_epoch_again, "see its beginning again"),
            "a new shuffle for every batch": (shuffles_for_every_batch, "others never"),
            "the new order comes one batch early": (new_order_one_batch_early, "the next epoch already"),
            "skips one batch": (skips_one_batch, "where does batch 0 begin"),
            "seed ignored": (seed_ignored, "is seed used"),
            "the same ones left over": (same_left_over, "always the same?"),
            "the global generator seeded": (seeds_globally, "of your own"),
            "not shuffled": (not_shuffled, "the shuffling missing"),
        },
        remark="Worth knowing: data.Batches works like this, so that its whole state in a checkpoint is one integer.",
    ),
}

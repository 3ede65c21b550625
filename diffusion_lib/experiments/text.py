"""Masked diffusion and left to right, on sums and on English (lesson 10)."""

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from .. import data, pretrained, recipes, samplers, tokens
from ..denoisers import even_times
from ..forward import uniform_like
from ..schedules import Linear
from ..tokens import LeftToRight, MaskedDenoiser, exact_language, masked_loss
from ..training import half_precision
from .common import in_turn

SEEDS = (0, 1, 2)


ORDERS = ("random", "shuffled", "confidence")
LENGTHS = {"masked": (1500, 4500), "left_to_right": (200, 400, 800, 1500)}  # steps of training on English


def measure_text(
    device: torch.device,
    seeds: Sequence[int],
    progress: Callable,
    n: int = 500,
    lines: int = 100,
    steps: Sequence[int] = (1, 2, 3, 4, 6, 9),
    text_steps: Sequence[int] = (1, 4, 12, 24, 48),
    repeats: int = 5,
    lengths: dict[str, Sequence[int]] = LENGTHS,
) -> dict:
    """Masked diffusion and the left-to-right model of the same size and training: n sums and so many lines of English.

    Against steps, order and seed: share of right sums, how many differ, and how many are sums that were held out from
    training; share of words that occur in the text, and of lines that copy 24 characters of the training text. Beside
    them the exact denoiser of the sums, which only its steps keep from being right. What held-out data costs each
    model (on English also after other lengths of training), and which results or second numbers of held-out sums it
    finds. Times of n sums are the shortest of several.
    """
    half = str(half_precision(device) or torch.float32).removeprefix("torch.")
    return {
        "precision": f"float32, times in {half}",
        "n": n,
        "lines": lines,
        "sums": sums_written(device, seeds, progress, n, steps),
        "blanks": blanks_filled(device, seeds),
        "sums_nats": {
            "entropy": round(math.log(10_000), 3),
            "masked": nats_of(pretrained.sums(device), "sums", language=data.sums("all")),
            "masked_in_order": nats_of(pretrained.sums(device), "sums", nats_in_order),
            "left_to_right": nats_of(pretrained.sums_left_to_right(device), "sums"),
        },
        "seconds": seconds_of_sums(device, n, steps, repeats),
        "english": english_written(device, seeds, progress, lines, text_steps),
        "english_bits": english_bits(device),
        "english_lengths": english_lengths(device, progress, lengths),
    }


def sums_written(
    device: torch.device, seeds: Sequence[int], progress: Callable, n: int, steps: Sequence[int]
) -> list[dict]:
    """One row for every model, order, number of steps and seed."""
    models = {"masked": pretrained.sums(device), "exact": tokens.exact_language(data.sums("all"), 12)}
    start, held_out = tokens.all_masked(n, 9, 12, device), set(map(tuple, data.sums("held_out").tolist()))
    rows = []

    def add(x, **row):
        right = right_sums(x)
        different = {tuple(line) for line in x[right].tolist()}
        row |= {"right": round(float(right.float().mean()), 4), "different": len(different)}
        rows.append(row | {"held_out": round(len(different & held_out) / max(len(different), 1), 4)})
        progress(str(rows[-1]))

    for seed in seeds:
        for name, denoiser in models.items():
            for order in ORDERS:
                for count in steps:
                    generator = torch.Generator().manual_seed(seed)
                    grid = samplers.time_grid(count)
                    x = samplers.last(tokens.unmask(denoiser, Linear(), start, grid, generator, order))
                    add(x, model=name, order=order, calls=count, seed=seed)
        x = pretrained.sums_left_to_right(device).generate(n, 9, torch.Generator().manual_seed(seed))
        add(x, model="left_to_right", order="left to right", calls=9, seed=seed)
    return rows


def blanks_filled(device: torch.device, seeds: Sequence[int]) -> list[dict]:
    """Share of held-out sums whose missing part is found, for each seed: the result (three blanks), or the second
    number (two blanks), which a left-to-right model cannot be asked for."""
    x_0, rows = data.sums("held_out").to(device), []
    for missing, places in {"result": slice(6, 9), "second number": slice(3, 5)}.items():
        blank = x_0.clone()
        blank[:, places] = 12
        for seed in seeds:
            for order in ("shuffled", "confidence"):
                for calls in (1, places.stop - places.start):
                    x = pretrained.sample_tokens(pretrained.sums(device), blank, calls, order, seed)
                    rows.append({"missing": missing, "model": "masked", "order": order, "calls": calls, "seed": seed})
                    rows[-1]["found"] = round(float((x == x_0).all(1).float().mean()), 4)
            if missing == "result":
                x = pretrained.sample_tokens(pretrained.sums_left_to_right(device), blank, seed=seed)
                found = round(float((x == x_0).all(1).float().mean()), 4)
                rows.append({"missing": missing, "model": "left_to_right", "calls": 3, "seed": seed, "found": found})
    return rows


@torch.no_grad()
def nats(
    model: MaskedDenoiser | LeftToRight, x_0: Tensor, language: Tensor | None = None, looks: int = 16, seed: int = 0
) -> Tensor:
    """What each sequence x_0 (B, L) costs the model: (B,) nats, exact for a left-to-right model; for a masked one the
    mean loss over so many times, a bound.

    Args:
        model: a LeftToRight or a MaskedDenoiser.
        x_0: (B, L) token ids.
        language: (N, L), all members of the language, if they are equally likely and known. Then the exact loss has the
            mean log N for each of them, and what chance makes of it with the same noise is taken off the model's.
        looks: times for each sequence.
        seed: decides times and noise.
    """
    if isinstance(model, LeftToRight):
        return model.loss(x_0)
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(len(x_0), device=x_0.device)
    exact = None if language is None else exact_language(language, model.mask)
    for _ in range(looks):
        t, noise = 1 - even_times(len(x_0), generator), uniform_like(x_0, generator)
        total += model.loss(x_0, t, noise)
        if exact is not None:
            total += math.log(len(language)) - masked_loss(exact, model.schedule, x_0, t, noise, model.mask)
    return total / looks


@torch.no_grad()
def nats_in_order(model: MaskedDenoiser, x_0: Tensor) -> Tensor:
    """What each sequence x_0 (B, L) costs a masked model that is asked from left to right: (B,) nats, and exact, as an
    order that is fixed makes the chain rule of them."""
    x_t, total = torch.full_like(x_0, model.mask), torch.zeros(len(x_0), device=x_0.device)
    for place in range(x_0.shape[1]):
        total -= model(x_t, 1.0)[:, place].gather(-1, x_0[:, place, None])[:, 0]
        x_t[:, place] = x_0[:, place]
    return total


def right_sums(x_0: Tensor) -> Tensor:
    """Which lines (B, 9) are right sums; bool."""
    tens, digits = torch.tensor([100, 10, 1], device=x_0.device), x_0[:, [0, 1, 3, 4, 6, 7, 8]]
    a, b, c = ((part * tens[-part.shape[1] :]).sum(1) for part in (digits[:, :2], digits[:, 2:4], digits[:, 4:]))
    return (digits < 10).all(1) & (x_0[:, 2] == 10) & (x_0[:, 5] == 11) & (a + b == c)


def nats_of(
    model: MaskedDenoiser | LeftToRight, name: str, nats: Callable[..., Tensor] = nats, **options
) -> dict[str, float]:
    """Mean nats of held-out and of some training data of that name, and the standard error of the former."""
    device, results = next(model.parameters()).device, {}
    for split in ("held_out", "train"):
        x_0 = getattr(data, name)(split).to(device)
        each = nats(model, x_0[:: max(len(x_0) // 500, 1)], **options)  # some 500 to 1,000 of them
        results[split] = round(float(each.mean()), 3)
        if split == "held_out":
            results["standard_error"] = round(float(each.std()) / len(each) ** 0.5, 3)
    return results


def seconds_of_sums(device: torch.device, n: int, steps: Sequence[int], repeats: int) -> dict[str, float]:
    """Seconds for n sums, by the number of steps of unmasking, and from left to right."""
    masked, other = pretrained.sums(device), pretrained.sums_left_to_right(device)
    start = tokens.all_masked(n, 9, 12, device)
    calls = {
        f"masked, {count} steps": partial(pretrained.sample_tokens, masked, start, count, "shuffled") for count in steps
    }
    calls["left_to_right"] = partial(pretrained.sample_tokens, other, start)
    return {name: round(seconds, 4) for name, seconds in in_turn(calls, device, repeats).items()}


def english_written(
    device: torch.device, seeds: Sequence[int], progress: Callable, lines: int, steps: Sequence[int]
) -> list[dict]:
    """One row for every model, order, number of steps and seed, and one for held-out lines."""
    known = {split: tokens.decode(data.text(split), data.TEXT_SYMBOLS) for split in ("all", "train", "held_out")}
    words = set(words_of(known["all"]))
    copied = {line[i : i + 24] for line in known["train"] for i in range(25)}
    start, rows = tokens.all_masked(lines, 48, len(data.TEXT_SYMBOLS), device), []

    def add(written, **row):
        found = [word in words for word in words_of(written)]
        row |= {"words": round(sum(found) / max(len(found), 1), 4), "number_of_words": len(found)}
        copies = [any(line[i : i + 24] in copied for i in range(25)) for line in written]
        rows.append(row | {"copies": round(sum(copies) / len(copies), 4), "example": written[:3]})
        progress(str(rows[-1]))

    add(known["held_out"], model="held-out lines")
    for seed in seeds:
        for order in ORDERS:
            for count in steps:
                x = pretrained.sample_tokens(pretrained.text(device), start, count, order, seed)
                written = tokens.decode(x, data.TEXT_SYMBOLS)
                add(written, model="masked", order=order, calls=count, seed=seed)
        x = pretrained.sample_tokens(pretrained.text_left_to_right(device), start, seed=seed)
        add(tokens.decode(x, data.TEXT_SYMBOLS), model="left_to_right", order="left to right", calls=48, seed=seed)
    return rows


def english_lengths(device: torch.device, progress: Callable, lengths: dict[str, Sequence[int]]) -> list[dict]:
    """Bits a character of both models after other lengths of training, {model: steps}: a small text is soon learned by
    heart, and a fair comparison stops each model when its held-out bits are lowest."""
    rows = []
    for name, steps in [(name, steps) for name, budgets in lengths.items() for steps in budgets]:
        model, _ = recipes.train_text(steps=steps, device=device, left_to_right=name == "left_to_right")
        bits = {key: round(nats / 48 / math.log(2), 3) for key, nats in nats_of(model, "text").items()}
        rows.append({"model": name, "steps": steps} | bits)
        progress(str(rows[-1]))
    return rows


def words_of(lines: Sequence[str]) -> list[str]:
    """The words of a list of strings, in their order; a hyphen ends a word."""
    return re.findall("[a-z']+", " ".join(lines))


def english_bits(device: torch.device) -> dict[str, dict]:
    """Bits a character of both models (an upper bound for the masked one, and its exact number if it is asked from left
    to right), and of counting what follows on two or four characters."""
    train, held_out = data.text("train"), data.text("held_out")
    bits = {
        "masked": nats_of(pretrained.text(device), "text"),
        "masked_in_order": nats_of(pretrained.text(device), "text", nats_in_order),
        "left_to_right": nats_of(pretrained.text_left_to_right(device), "text"),
    }
    bits = {name: {key: round(nats / 48 / math.log(2), 3) for key, nats in part.items()} for name, part in bits.items()}
    for name, order in {"trigram": 3, "fivegram": 5}.items():
        bits[name] = {"held_out": round(count_characters(train, held_out, order, len(data.TEXT_SYMBOLS)), 3)}
    return bits


def count_characters(
    train: Tensor, held_out: Tensor, order: int, symbols: int, strengths: Sequence[float] = (3, 10, 30, 100, 300)
) -> float:
    """Bits a character of held-out lines for a model that counts: the character after the last order - 1 of its line.

    A count is mixed with `strength` times the answer of the next shorter context, down to all symbols alike (MacKay and
    Peto 1995). The best strength is taken, as seen on the held-out lines: that favours this model.

    Args:
        train, held_out: (N, L) and (M, L) token ids.
        order: characters that are looked at, the one in question included; at least 1.
        symbols: V.
        strengths: the numbers to choose from.
    """
    require_context(order)
    p = {strength: torch.full(held_out.shape, 1 / symbols, dtype=torch.float64) for strength in strengths}
    for length in range(order):  # of the context
        known, asked = windows(train, length, symbols), windows(held_out, length, symbols)
        seen = times_seen(known, asked)
        before = times_seen(known // (symbols + 1), asked // (symbols + 1))  # the context alone
        p = {strength: (seen + strength * shorter) / (before + strength) for strength, shorter in p.items()}
    return min(float(-mixed.log2().mean()) for mixed in p.values())


def windows(x: Tensor, length: int, symbols: int) -> Tensor:
    """For each token of x (N, L) one number that stands for it (the last digit) and the `length` tokens before it."""
    padded = torch.nn.functional.pad(x, (length, 0), value=symbols)
    return sum(padded[:, length - k : length - k + x.shape[1]] * (symbols + 1) ** k for k in range(length + 1))


def times_seen(known: Tensor, asked: Tensor) -> Tensor:
    """How often each of the numbers `asked` is among the numbers `known`."""
    values, counts = known.unique(return_counts=True)
    place = torch.searchsorted(values, asked).clamp(max=len(values) - 1)
    return torch.where(values[place] == asked, counts[place], 0)


def require_context(order):
    """Refuse an order that is no number of characters."""
    if not isinstance(order, int) or order < 1:
        raise ValueError(f"order is {order!r}; expected a whole number of at least 1, 3 for pairs before each.")

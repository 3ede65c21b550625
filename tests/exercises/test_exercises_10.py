"""Lesson 10's exercises: right answers in other forms are accepted, and what the lesson says by hand is so."""

import math
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffusion_lib import data, tokens
from diffusion_lib.exercises.engine import verdict
from diffusion_lib.exercises.lesson_10 import EXERCISES, hand_case, languages, one_step_with
from diffusion_lib.samplers import last, time_grid
from diffusion_lib.schedules import Linear
from diffusion_lib.tokens import decode, encode, masked_loss, unmask


def mask_by_index(schedule, x_0, noise, t, mask):
    x_t = x_0.clone()
    x_t[noise >= schedule.alpha(t).reshape(-1, 1)] = mask
    return x_t


def mask_by_arithmetic(schedule, x_0, noise, t, mask):
    keep = (noise < schedule.alpha(t).reshape(-1, 1)).long()
    return keep * x_0 + (1 - keep) * mask


def mask_by_loop(schedule, x_0, noise, t, mask):
    alpha_t = schedule.alpha(t).expand(len(x_0)).tolist()
    rows = zip(x_0.tolist(), noise.tolist(), alpha_t)
    return torch.tensor([[v if u < a else mask for v, u in zip(line, coins)] for line, coins, a in rows])


def mask_by_rate(schedule, x_0, noise, t, mask):
    hidden = noise >= 1 - (1 - schedule.alpha(t))[..., None].expand(len(x_0), 1)
    return x_0.masked_fill(hidden, mask)


def loss_by_loop(log_p, x_0, x_t, mask, alpha_t, slope_t):
    losses = []
    for b in range(len(x_0)):
        total = sum(-log_p[b, place, x_0[b, place]] for place in range(x_0.shape[1]) if x_t[b, place] == mask)
        losses.append(abs(slope_t[b]) / (1 - alpha_t[b]) * total)
    return torch.stack(losses)


def loss_by_nll(log_p, x_0, x_t, mask, alpha_t, slope_t):
    target = torch.where(x_t == mask, x_0, -100)
    each = F.nll_loss(log_p.transpose(1, 2), target, reduction="none", ignore_index=-100)
    return each.sum(1) * slope_t / (alpha_t - 1)


def loss_by_one_hot(log_p, x_0, x_t, mask, alpha_t, slope_t):
    hidden = (x_t == mask).to(log_p)[..., None]
    return -(F.one_hot(x_0, log_p.shape[-1]) * log_p * hidden).sum((1, 2)) * -slope_t / (1 - alpha_t)


def one_step_by_dict(x_0, weights):
    tables = [{} for _ in range(x_0.shape[1])]
    for line, w in zip(x_0.tolist(), weights.tolist()):
        for table, symbol in zip(tables, line):
            table[symbol] = table.get(symbol, 0.0) + w
    return sum(math.prod(table[symbol] for table, symbol in zip(tables, line)) for line in x_0.tolist())


def one_step_by_library(x_0, weights):
    symbols = int(x_0.max()) + 1
    denoiser = tokens.exact_language(x_0, symbols, weights)
    log_p = denoiser(torch.full_like(x_0[:1], symbols), 1.0).expand(len(x_0), -1, -1)
    return log_p.gather(-1, x_0[..., None])[..., 0].sum(1).exp().sum()


def fill_line_by_line(denoiser, schedule, pattern, symbols, n, steps, generator):
    x_t = encode([pattern], symbols)
    return [decode(last(unmask(denoiser, schedule, x_t, time_grid(steps), generator)), symbols)[0] for _ in range(n)]


def fill_by_confidence(denoiser, schedule, pattern, symbols, n, steps, generator):
    x_t = encode([pattern] * n, symbols)
    steps = list(unmask(denoiser, schedule, x_t, time_grid(len(pattern)), generator, order="confidence"))
    return tuple(decode(steps[-1].x_t, symbols))


def fill_without_unmask(denoiser, schedule, pattern, symbols, n, steps, generator):
    x = encode([pattern] * n, symbols)
    for place, symbol in enumerate(pattern):
        if symbol == "_":
            x[:, place] = torch.multinomial(denoiser(x, 0.5)[:, place].exp(), 1, generator=generator)[:, 0]
    return decode(x, symbols)


def bits_as_floats(nats, lengths):
    rate = sum(nats.tolist()) / sum(lengths.tolist())
    return rate * math.log2(math.e), 2 ** (rate / math.log(2)), " At most"


def bits_as_arrays(nats, lengths):
    rate = np.float64(nats.sum()) / np.float64(lengths.sum())
    return [np.log2(np.exp(rate)), np.exp(rate), "at most"]


@pytest.mark.parametrize(
    "number, answer",
    [
        ("10.1", mask_by_index),
        ("10.1", mask_by_arithmetic),
        ("10.1", mask_by_loop),
        ("10.1", mask_by_rate),
        ("10.1", tokens.mask_tokens),
        ("10.2", loss_by_loop),
        ("10.2", loss_by_nll),
        ("10.2", loss_by_one_hot),
        ("10.3", one_step_by_dict),
        ("10.3", one_step_by_library),
        ("10.4", fill_line_by_line),
        ("10.4", fill_by_confidence),
        ("10.4", fill_without_unmask),
        ("10.5", bits_as_floats),
        ("10.5", bits_as_arrays),
    ],
)
def test_a_right_answer_in_another_form_is_right(number, answer):
    assert verdict(EXERCISES[number], answer) is None


def test_the_case_by_hand_is_the_library_s_loss():
    """The lesson says: about 5.2, and 2.1 without the weight."""
    log_p, x_0, x_t, mask, *_ = hand_case()
    noise = torch.where(x_t == mask, 0.9, 0.1)

    def denoiser(x, t):
        assert torch.equal(x, x_t)
        return tokens.carry_over(log_p, x)

    loss = float(masked_loss(denoiser, Linear(), x_0, torch.tensor(0.4), noise, mask))
    assert loss == pytest.approx(-2.5 * math.log(0.5 * 0.25)) and round(loss, 1) == 5.2
    assert round(-math.log(0.5 * 0.25), 1) == 2.1


def test_one_step_is_what_the_places_alone_give_by_enumeration():
    x_0, weights = next(languages())
    table = torch.einsum("n,nlv->lv", weights, F.one_hot(x_0).double())
    members = {tuple(line) for line in x_0.tolist()}
    total = sum(
        math.prod(float(table[place, symbol]) for place, symbol in enumerate(line))
        for line in product(range(table.shape[1]), repeat=3)
        if line in members
    )
    assert one_step_with()(x_0, weights) == pytest.approx(total)


def test_one_step_gives_a_right_sum_once_in_two_hundred_tries():
    share = one_step_with()(data.sums("all"), torch.full((10_000,), 1e-4, dtype=torch.float64))
    assert 0.004 < share < 0.006

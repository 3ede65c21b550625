"""tokens: exact languages, whose entropy, marginals and conditionals are known; sequences enumerated; Bayes' rule."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from diffusion_lib import data, tokens
from diffusion_lib.denoisers import even_times
from diffusion_lib.forward import mask_tokens, uniform_like
from diffusion_lib.networks import Transformer
from diffusion_lib.samplers import last, time_grid
from diffusion_lib.schedules import Betas, Cosine, Linear, Shifted
from tests.common import agree, seeded

from .test_networks import noise_in

# A language of six words over three symbols: no symbol follows from one other, and some are likelier than others.
WORDS = torch.tensor([[0, 0, 1, 2], [0, 1, 1, 0], [1, 2, 0, 0], [2, 2, 2, 1], [2, 0, 1, 1], [1, 1, 1, 1]])
WEIGHTS = torch.tensor([0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
ENTROPY = float(-(WEIGHTS * WEIGHTS.log()).sum())
EXACT = tokens.exact_language(WORDS, 3, WEIGHTS)
SCHEDULES = {
    "linear": Linear(),
    "cosine": Cosine(),
    "quarter circle": Cosine(0),
    "shifted": Shifted(Linear(), 2.0),
    "betas": Betas.linear(50, first=2e-3, last=0.2),
}
BLANK = 3


def member(n, seed=0):
    return WORDS[torch.multinomial(WEIGHTS, n, replacement=True, generator=seeded(seed))]


def number(x, symbols=3):
    """Each sequence (B, L) as one whole number, for counting."""
    return (x * symbols ** torch.arange(x.shape[1])).sum(1)


def fits(x, sequences, p, errors=5.0):
    """Pearson's chi-square: whether samples x (B, L) come from these sequences (N, L) with probabilities p (N,).

    Its mean is the degrees of freedom, its variance twice as many.
    """
    counts = (number(x)[:, None] == number(sequences)).double().sum(0)
    assert counts.sum() == len(x), "a sample is none of the sequences"
    expected = len(x) * p.double()
    assert expected.min() >= 5, "too few samples for this test"
    chi_square, freedom = float(((counts - expected) ** 2 / expected).sum()), len(p) - 1
    assert chi_square < freedom + errors * (2 * freedom) ** 0.5, (chi_square, counts.tolist(), expected.tolist())


def all_sequences(symbols, length):
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


def start(n):
    return tokens.all_masked(n, 4, BLANK)


def transformer(causal=False, symbols=3, length=4, seed=0):
    torch.manual_seed(seed)
    return noise_in(Transformer(symbols, length, width=16, depth=2, heads=2, causal=causal), size=0.3).eval()


# ------------------------------------------------------------------------------------------------ strings


def test_strings_come_back():
    strings = ["12+07=019", "99+99=198", "1_+0_=___"]
    ids = tokens.encode(strings, data.SUM_SYMBOLS)
    assert ids.dtype == torch.int64 and ids[2].tolist() == [1, 12, 10, 0, 12, 11, 12, 12, 12]
    assert tokens.decode(ids, data.SUM_SYMBOLS) == strings
    assert tokens.decode(ids, data.SUM_SYMBOLS, mask="?")[2] == "1?+0?=???"


def test_a_start_is_all_masks():
    x = tokens.all_masked(2, 5, 7)
    assert x.shape == (2, 5) and x.dtype == torch.int64 and (x == 7).all()


# ------------------------------------------------------------------------------------------------ denoisers


def test_known_tokens_answer_themselves():
    log_p = torch.tensor([[[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]]]).log()
    p = tokens.carry_over(log_p, torch.tensor([[2, 0, 1]])).exp()
    torch.testing.assert_close(p, torch.tensor([[[0.2, 0.8], [1.0, 0.0], [0.0, 1.0]]]))


@pytest.mark.parametrize("t", [0.15, 0.6, 0.95])
def test_the_exact_denoiser_is_bayes_rule(t):
    """p(x_0 | x_t) from q(x_t | x_0) with its powers of alpha, for every x_t that can come up: they cancel at any t."""
    alpha = float(Cosine().alpha(t))
    for mask in itertools.product([False, True], repeat=4):
        for x_0 in WORDS:
            x_t = torch.where(torch.tensor(mask), BLANK, x_0)
            each = torch.where(x_t == BLANK, 1 - alpha, alpha * (x_t == WORDS))  # (N, L): q(token | member)
            posterior = WEIGHTS * each.prod(1)
            posterior = posterior / posterior.sum()
            right = (posterior[:, None, None] * F.one_hot(WORDS, 3)).sum(0)
            torch.testing.assert_close(EXACT(x_t[None], t)[0].exp(), right, rtol=1e-5, atol=1e-6)


def test_where_no_member_agrees_the_closest_answer():
    x_t = torch.tensor([[0, 2, 0, BLANK]])  # 1200 agrees in two places, all others in one or none
    p = EXACT(x_t, 0.5)[0].exp()
    torch.testing.assert_close(p, F.one_hot(torch.tensor([0, 2, 0, 0]), 3).float())


def test_a_network_answers_for_hidden_tokens_only_and_never_with_a_mask():
    model = tokens.MaskedDenoiser(transformer(), Linear())
    x_t = torch.tensor([[0, BLANK, 2, BLANK]])
    log_p = model(x_t, 0.5)
    assert log_p.shape == (1, 4, 3), "there is a probability for what is no symbol"
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(1, 4))
    assert log_p[0, 0].tolist() == [0, -math.inf, -math.inf] and log_p[0, 2].tolist() == [-math.inf, -math.inf, 0]
    assert log_p[0, [1, 3]].isfinite().all()
    assert torch.equal(log_p, model(x_t, 0.9))  # the time is not asked


# ------------------------------------------------------------------------------------------------ loss


def test_weights_in_closed_form():
    t = torch.tensor([0.01, 0.3, 0.77, 1.0])
    torch.testing.assert_close(tokens.weight(Linear(), t), 1 / t.double())
    angle = math.pi / 2 * t.double()
    torch.testing.assert_close(tokens.weight(Cosine(0), t), math.pi / 2 * angle.sin() / (1 - angle.cos()))
    assert tokens.weight(Linear(), 0.5).shape == ()


@pytest.mark.parametrize("name", SCHEDULES)
def test_weights_are_the_slope_of_alpha(name):
    schedule, t, h = SCHEDULES[name], torch.tensor([0.11, 0.43, 0.909]).double(), 1e-6
    slope = (schedule.alpha(t + h) - schedule.alpha(t - h)) / (2 * h)
    torch.testing.assert_close(tokens.weight(schedule, t), -slope / (1 - schedule.alpha(t)), rtol=1e-5, atol=0)


def test_the_weight_on_the_steps_of_a_chain_is_that_beside_them():
    """t = i / T itself, the last one too: the slope of a step beside it, and not 0, which rounding t would give."""
    schedule = Betas.linear()
    t = torch.tensor([0.1, 0.5, 0.9, 1.0]).double()
    torch.testing.assert_close(tokens.weight(schedule, t), tokens.weight(schedule, t - 4e-4), rtol=0.02, atol=0)


def losses(denoiser, schedule, x_0, seed=0, mask=BLANK):
    generator = seeded(seed)
    t = 1 - torch.rand(len(x_0), generator=generator)
    return tokens.masked_loss(denoiser, schedule, x_0, t, uniform_like(x_0, generator), mask)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_exact_loss_is_the_entropy_whatever_the_schedule(name):
    """Within five standard errors. For the chain of betas, x_1 is not all masks: what is left unasked is taken off."""
    schedule, generator = SCHEDULES[name], seeded(3)
    expected = ENTROPY
    if (
        name == "betas"
    ):  # the part of the integral between the alpha of t = 1 and 0, by a schedule that is uniform in it
        left = float(schedule.alpha(1))
        assert 0.01 < left < 0.1
        alpha = left * torch.rand(100_000, generator=generator)
        x_0 = member(100_000, seed=4)
        x_t = torch.where(uniform_like(x_0, generator) < alpha[:, None], x_0, BLANK)
        surprise = -EXACT(x_t, 0.5).gather(-1, x_0[..., None]).squeeze(-1).sum(1)
        expected -= float((left * surprise / (1 - alpha)).mean())
    agree(losses(EXACT, schedule, member(40_000, seed=2)), expected)


def chain(denoiser, x_0, order):
    """-log p(x_0) if its tokens are revealed one at a time in this order."""
    x, total = torch.full_like(x_0, BLANK), 0.0
    for place in order:
        total -= denoiser(x[None], 0.5)[0, place, x_0[place]]
        x[place] = x_0[place]
    return total


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_mean_loss_of_a_network_is_that_of_random_orders(name):
    """For one sequence: the mean over all 24 orders of revealing (Ou et al. 2024; Hoogeboom et al. 2022), and so a
    bound on -log p, as the probability of the sequence is a mean over orders, too."""
    model = tokens.MaskedDenoiser(transformer(), Linear())
    x_0 = torch.tensor([2, 0, 1, 1])
    with torch.no_grad():
        each = torch.stack([chain(model, x_0, order) for order in itertools.permutations(range(4))])
        assert each.std() > 0.05  # a network that was not trained answers differently in another order
        agree(losses(model, SCHEDULES[name], x_0.expand(20_000, -1)), each.mean())
    assert each.mean() >= -(-each).exp().mean().log()


def test_an_untrained_network_knows_nothing():
    """Its last layer begins at zero: every hidden token costs log V, and L log V is expected of a sequence."""
    model = tokens.MaskedDenoiser(Transformer(3, 4, width=16, depth=1, heads=2), Linear())
    x_0, t = member(6), torch.linspace(0.2, 1.0, 6)
    noise = torch.rand(6, 4, generator=seeded())
    hidden = (mask_tokens(Linear(), x_0, noise, t, BLANK) == BLANK).sum(1)
    torch.testing.assert_close(model.loss(x_0, t, noise), math.log(3) * hidden / t)


def test_training_a_network_brings_it_to_the_entropy():
    torch.manual_seed(0)
    model = tokens.MaskedDenoiser(Transformer(3, 4, width=32, depth=2, heads=2), Linear())
    optimizer, generator = torch.optim.AdamW(model.parameters(), lr=3e-3), seeded(1)
    for step in range(250):
        x_0 = member(128, seed=step)
        loss = model.loss(x_0, 1 - even_times(128, generator), uniform_like(x_0, generator)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        trained = losses(model, Linear(), member(20_000, seed=999))
    assert ENTROPY - 0.1 < float(trained.mean()) < ENTROPY + 0.25


# ------------------------------------------------------------------------------------------------ sampler


def test_a_draw_has_its_probabilities_and_no_impossible_symbol():
    p = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    noise = torch.rand(40_000, 1, generator=seeded())
    drawn = tokens.draw(p.expand(40_000, 1, -1), noise)
    agree(F.one_hot(drawn[:, 0], 6).double(), p.double())
    edges = torch.tensor([[0.0, 0.49999, 0.5, 0.8, 1 - 2**-24]])
    assert tokens.draw(p.expand(1, 5, -1), edges).tolist() == [[1, 1, 3, 4, 4]]
    torch.testing.assert_close(tokens.draw(8 * p.expand(1, 5, -1), edges), torch.tensor([[1, 1, 3, 4, 4]]))


def test_many_small_steps_make_the_language():
    """300 steps, whose coins hardly ever reveal two tokens at once: 6,000 samples, against the weights of the words."""
    for name in ("linear", "cosine"):
        x = last(tokens.unmask(EXACT, SCHEDULES[name], start(6000), time_grid(300), seeded(1)))
        wrong = ~(x[:, None] == WORDS).all(-1).any(1)
        assert wrong.double().mean() < 0.02
        fits(x[~wrong], WORDS, WEIGHTS)


@pytest.mark.parametrize("order", ["random", "shuffled", "confidence"])
def test_one_step_makes_the_product_of_the_marginals(order):
    """Tokens of one step do not see each other: 81 sequences come up, most of which the language does not have."""
    x = last(tokens.unmask(EXACT, Linear(), start(40_000), time_grid(1), seeded(2), order))
    marginals = (WEIGHTS[:, None, None] * F.one_hot(WORDS, 3)).sum(0)  # (L, V)
    sequences = all_sequences(3, 4)
    p = marginals[torch.arange(4), sequences].prod(1)
    fits(x[p[(number(x)[:, None] == number(sequences)).int().argmax(1)] > 2e-4], *kept(sequences, p, 2e-4))
    right = (x[:, None] == WORDS).all(-1).any(1).double()
    in_language = (number(sequences)[:, None] == number(WORDS)).any(1)
    assert p[in_language].sum() < 0.2
    agree(right, float(p[in_language].sum()))


def kept(sequences, p, least):
    """The sequences that are likely enough to be counted, and their probabilities among themselves."""
    return sequences[p > least], p[p > least] / p[p > least].sum()


@pytest.mark.parametrize("order", ["shuffled", "confidence"])
def test_one_token_a_step_is_exact_in_any_order(order):
    """The product rule holds for every order, also for one that depends on what is known by then."""
    steps = list(tokens.unmask(EXACT, Linear(), start(20_000), time_grid(4), seeded(3), order))
    assert [int((step.x_t == BLANK).sum(1).unique()) for step in steps] == [3, 2, 1, 0]
    fits(steps[-1].x_t, WORDS, WEIGHTS)


def test_the_share_that_is_hidden_follows_the_schedule():
    """Random order: at every time of an uneven grid a token is hidden with probability 1 - alpha, each on its own."""
    for schedule in (Linear(), Cosine()):
        for step in tokens.unmask(EXACT, schedule, start(20_000), [1.0, 0.9, 0.4, 0.35, 0.0], seeded(4)):
            hidden = (step.x_t == BLANK).double()
            agree(hidden.flatten(), 1 - float(schedule.alpha(step.t)))
            agree(hidden[:, 0] * hidden[:, 1], (1 - float(schedule.alpha(step.t))) ** 2)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 7, 30])
@pytest.mark.parametrize("order", ["random", "shuffled", "confidence"])
def test_no_mask_is_left(order, steps):
    for schedule in SCHEDULES.values():
        x = last(tokens.unmask(EXACT, schedule, start(50), time_grid(steps), seeded(5), order))
        assert x.max() < BLANK and x.min() >= 0


@pytest.mark.parametrize("order", ["random", "shuffled", "confidence"])
def test_infilling_keeps_what_is_known_and_has_the_right_conditional(order):
    x_t = torch.tensor([[BLANK, BLANK, 1, BLANK]]).expand(12_000, -1)  # 0012, 0110, 2011, 1111
    times = time_grid(200 if order == "random" else 3)
    for step in tokens.unmask(EXACT, Linear(), x_t, times, seeded(6), order):
        assert (step.x_t[:, 2] == 1).all()
    chosen = WORDS[:, 2] == 1
    possible = (step.x_t[:, None] == WORDS[chosen]).all(-1).any(1)
    assert possible.double().mean() > 0.98
    fits(step.x_t[possible], WORDS[chosen], WEIGHTS[chosen] / WEIGHTS[chosen].sum())


def test_estimates_of_known_tokens_are_not_taken():
    """From a denoiser that forgets to carry known tokens over, their estimates are nonsense; they stay all the same."""

    def forgetful(x_t, t):
        return torch.full((*x_t.shape, 3), 1 / 3).log()

    x_t = torch.tensor([[0, BLANK, 1, BLANK]]).expand(500, -1)
    for order in ("random", "shuffled", "confidence"):
        for step in tokens.unmask(forgetful, Linear(), x_t, time_grid(3), seeded(1), order):
            assert (step.x_t[:, [0, 2]] == x_t[:, [0, 2]]).all()


def test_once_revealed_a_token_stays():
    before = start(200)
    for step in tokens.unmask(EXACT, Linear(), before, time_grid(6), seeded(7)):
        known = before != BLANK
        assert (step.x_t[known] == before[known]).all()
        before = step.x_t


def test_confidence_reveals_the_surest_first():
    sure = torch.tensor([0.5, 0.9, 0.6, 0.8])
    p = torch.stack([sure, 1 - sure, 0 * sure], -1)

    def denoiser(x_t, t):
        return tokens.carry_over(p.expand(len(x_t), -1, -1).log(), x_t)

    steps = list(tokens.unmask(denoiser, Linear(), start(100), time_grid(4), seeded(8), "confidence"))
    for step, hidden in zip(steps, [[0, 2, 3], [0, 2], [0], []], strict=True):
        assert ((step.x_t == BLANK).nonzero()[:, 1].reshape(100, -1) == torch.tensor(hidden)).all()


def test_highest_takes_hidden_tokens_only_and_the_left_one_of_equals():
    score = torch.tensor([[0.9, 0.2, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4]])
    hidden = torch.tensor([[False, True, True, True], [True, False, True, False]])
    shown = tokens.highest(score, hidden, torch.tensor([1, 5]))
    assert shown.tolist() == [[False, False, True, False], [True, False, True, False]]


def test_the_generator_decides():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    a, b, c = (last(tokens.unmask(EXACT, Linear(), start(50), time_grid(3), seeded(s))) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())


def test_estimates_are_means_of_one_hot_tokens():
    steps = list(tokens.unmask(EXACT, Linear(), start(5), time_grid(3), seeded(1)))
    marginals = (WEIGHTS[:, None, None] * F.one_hot(WORDS, 3)).sum(0)
    torch.testing.assert_close(steps[0].x_0, marginals.expand(5, -1, -1))
    assert [step.t for step in steps] == pytest.approx([2 / 3, 1 / 3, 0])


def test_sharpening_is_a_power():
    x_t = torch.tensor([[BLANK, 1, BLANK, BLANK]])
    p = EXACT(x_t, 0.5).exp()
    for temperature in (0.5, 2.0):
        powered = p ** (1 / temperature)
        right = powered / powered.sum(-1, keepdim=True)
        torch.testing.assert_close(tokens.sharpen(EXACT, temperature)(x_t, 0.5).exp(), right)
    torch.testing.assert_close(tokens.sharpen(EXACT, 1.0)(x_t, 0.5).exp(), p)


# ------------------------------------------------------------------------------------------------ left to right


def test_left_to_right_probabilities_sum_to_one_over_all_sequences():
    model = tokens.LeftToRight(transformer(causal=True))
    with torch.no_grad():
        p = (-model.loss(all_sequences(3, 4))).exp()
    assert p.max() > 5 * p.min()  # it has opinions
    torch.testing.assert_close(p.sum(), torch.tensor(1.0), rtol=0, atol=1e-5)


def test_the_left_to_right_loss_is_that_of_its_prefixes():
    """Token by token, each with a call that is given nothing but the beginning and the tokens before."""
    network = transformer(causal=True)
    model = tokens.LeftToRight(network)
    x_0 = member(8)
    with torch.no_grad():
        total = torch.zeros(8)
        for i in range(4):
            prefix = torch.cat([torch.full((8, 1), 3), x_0[:, :i]], dim=1)
            total -= network(prefix)[:, -1].log_softmax(-1)[torch.arange(8), x_0[:, i]]
        torch.testing.assert_close(model.loss(x_0), total)


def test_left_to_right_writes_what_it_finds_likely():
    model = tokens.LeftToRight(transformer(causal=True, length=3))
    sequences = all_sequences(3, 3)
    with torch.no_grad():
        p = (-model.loss(sequences)).exp()
    fits(model.generate(20_000, 3, seeded(9)), *(sequences, p))


def test_left_to_right_goes_on_from_a_prompt():
    model = tokens.LeftToRight(transformer(causal=True, length=3))
    prompt = torch.tensor([[2]])
    x = model.generate(10_000, 3, seeded(10), prompt)
    assert x.shape == (10_000, 3) and (x[:, 0] == 2).all()
    sequences = all_sequences(3, 3)
    sequences = sequences[sequences[:, 0] == 2]
    with torch.no_grad():
        p = (-model.loss(sequences)).exp()
    fits(x, sequences, p / p.sum())
    each = model.generate(2, 3, seeded(11), torch.tensor([[0, 1], [2, 2]]))
    assert each[:, :2].tolist() == [[0, 1], [2, 2]]


@pytest.mark.gpu
def test_a_gpu_makes_the_same_text():
    x_t = tokens.all_masked(20, 9, 12)
    exact = tokens.exact_language(data.sums("all"), 12)
    for order in ("random", "shuffled", "confidence"):
        here = last(tokens.unmask(exact, Linear(), x_t, time_grid(9), seeded(1), order))
        there = last(tokens.unmask(exact, Linear(), x_t.cuda(), time_grid(9), seeded(1), order))
        assert (here == there.cpu()).double().mean() > 0.9

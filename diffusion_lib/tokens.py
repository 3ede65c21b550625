"""Diffusion for symbols: the noise is a mask, the estimate a table of probabilities, and a step reveals (lesson 10).

A token is the number of a symbol, 0 to V - 1; the number V is the mask. alpha_t is the probability that a token
survives until t, so that every Schedule of the image lessons serves. A denoiser is a function (x_t, t) -> log
p(x_0 | x_t) for every token; its exponential is the mean of the one-hot x_0, as an image's denoiser gives the mean of
x_0. Known tokens answer themselves, so that infilling needs nothing else. The left-to-right model stands beside it.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from numbers import Integral

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .denoisers import Denoise
from .forward import mask_tokens, uniform_like
from .refusals import may_look
from .samplers import Step, require_decreasing
from .schedules import Schedule, as_time, reshape_like

# ---------------------------------------------------------------------------------------------- strings and ids


def encode(strings: Sequence[str], symbols: str, mask: str = "_") -> Tensor:
    """Strings of one length as token ids (B, L), int64: the place of each character in `symbols`, the mask as V.

    Args:
        strings: list of strings.
        symbols: string of the V symbols, such as data.SUM_SYMBOLS.
        mask: the character that stands for the mask.

    Raises:
        TypeError: one string instead of a list of them.
        ValueError: no strings, strings of several lengths, or a character that is no symbol.

    >>> encode(["12+07=___"], "0123456789+=")
    tensor([[ 1,  2, 10,  0,  7, 11, 12, 12, 12]])
    """
    require_symbols(symbols, mask)
    require_strings(strings, symbols, mask)
    table = {character: number for number, character in enumerate(symbols + mask)}
    return torch.tensor([[table[character] for character in string] for string in strings])


def decode(ids: Tensor, symbols: str, mask: str = "_") -> list[str]:
    """The strings of token ids (B, L), a list: the inverse of `encode`.

    >>> decode(torch.tensor([[1, 2, 10, 0, 7, 11, 12, 1, 9]]), "0123456789+=")
    ['12+07=_19']
    """
    require_symbols(symbols, mask)
    require_tokens(ids, len(symbols))
    return ["".join((symbols + mask)[i] for i in row) for row in ids.tolist()]


def all_masked(n: int, length: int, mask: int, device: torch.device | str = "cpu") -> Tensor:
    """Where sampling starts: n sequences of masks, (n, length) int64.

    Args:
        n, length: B and L, at least 1.
        mask: the mask's id, V.
    """
    require_numbers(n=n, length=length, mask=mask)
    return torch.full((n, length), mask, device=device)


# ---------------------------------------------------------------------------------------------- denoisers


def carry_over(log_p: Tensor, x_t: Tensor) -> Tensor:
    """Known tokens answer themselves: 0 = log 1 for their symbol, -inf = log 0 for the others (Sahoo et al. 2024,
    sec. 3.2).

    Args:
        log_p: (B, L, V) log-probabilities of x_0, right where x_t is masked.
        x_t: (B, L) token ids.

    Returns:
        (B, L, V), right everywhere.
    """
    require_tokens(x_t, log_p.shape[-1], shape=log_p.shape[:-1])
    V = log_p.shape[-1]
    known = F.one_hot(x_t.clamp(max=V - 1), V).to(log_p).log()
    return torch.where((x_t == V)[..., None], log_p, known)


def exact_language(x_0: Tensor, symbols: int, weights: Tensor | None = None) -> Denoise:
    """log p(x_0 | x_t) if the language is this finite list of sequences and nothing else: the share of the members
    that agree with the known tokens, for every place and symbol.

    It needs no schedule and no time: which tokens are hidden depends on t, what they are does not (Ou et al. 2024,
    theorem 1). Where no member agrees, as happens when tokens are revealed together, those that come closest answer.

    Args:
        x_0: (N, L) token ids, the members.
        symbols: V, the number of symbols.
        weights: (N,) probabilities of the members, or None for equal ones.

    Returns:
        denoiser (x_t (B, L), t) -> log-probabilities (B, L, V).

    Raises:
        ValueError, TypeError: ids outside 0..V - 1, or weights that do not sum to 1.
    """
    require_numbers(symbols=symbols)
    require_tokens(x_0, symbols - 1, name="x_0")
    require_weights(weights, x_0)
    weights = torch.full((len(x_0),), 1 / len(x_0)) if weights is None else torch.as_tensor(weights)
    one_hot = F.one_hot(x_0, symbols).float().flatten(1)  # (N, L * V)

    def denoiser(x_t, t):
        require_tokens(x_t, symbols, shape=(len(x_t), x_0.shape[1]))
        members, w = one_hot.to(x_t.device), weights.to(x_t.device, torch.float32)
        known = F.one_hot(x_t, symbols + 1)[..., :-1].float().flatten(1)  # (B, L * V); a mask has a row of zeros
        agreements = known @ members.T  # (B, N)
        share = w * (agreements == agreements.amax(1, keepdim=True))
        p = (share / share.sum(1, keepdim=True)) @ members  # (B, L * V)
        return carry_over(p.reshape(*x_t.shape, symbols).log(), x_t)

    return denoiser


class MaskedDenoiser(nn.Module):
    """A network that looks both ways, as a function (x_t, t) -> log-probabilities of x_0 (Sahoo et al. 2024, sec. 3.2).

    The network is not told the time: p(x_0 | x_t) does not depend on it, and the share of masks gives it away anyhow.
    It has no output for the mask, so that x_0 never holds one.

    Args:
        network: module x_t (B, L) -> (B, L, V), with the number V as its attribute `symbols`; a Transformer.
        schedule: a Schedule; only the loss asks it.
    """

    def __init__(self, network: nn.Module, schedule: Schedule):
        require_network(network, causal=False)
        require_schedule(schedule)
        super().__init__()
        self.network, self.schedule, self.mask = network, schedule, network.symbols

    def forward(self, x_t: Tensor, t: Tensor | float) -> Tensor:
        """Log-probabilities (B, L, V) for tokens x_t (B, L), masks among them. t is what samplers give; not used."""
        return carry_over(self.network(x_t).float().log_softmax(-1), x_t)

    def loss(self, x_0: Tensor, t: Tensor | float, noise: Tensor) -> Tensor:
        """`masked_loss` (B,) of this model, in nats a sequence.

        Args:
            x_0: (B, L) token ids.
            t: () or (B,) times in (0, 1].
            noise: (B, L) uniform in [0, 1).
        """
        return masked_loss(self, self.schedule, x_0, t, noise, self.mask)


# ---------------------------------------------------------------------------------------------- the loss


@torch.enable_grad()
def weight(schedule: Schedule, t: Tensor | float) -> Tensor:
    """What the loss at t counts: -alpha'_t / (1 - alpha_t), the rate at which a hidden token is revealed at t.

    For `Linear` it is 1 / t. The slope alpha'_t of any schedule comes from autograd.

    Args:
        schedule: a Schedule.
        t: () or (B,) times in (0, 1].

    Returns:
        the weight, float64, of the shape of t.

    Raises:
        ValueError: a time of 0, at which nothing is hidden.

    >>> from diffusion_lib.schedules import Linear
    >>> weight(Linear(), 0.25)
    tensor(4., dtype=torch.float64)
    """
    require_hidden(t)
    t = as_time(t).detach().requires_grad_()
    alpha_t = schedule.alpha(t)
    (slope,) = torch.autograd.grad(alpha_t.sum(), t)
    return -slope / (1 - alpha_t.detach())


def masked_loss(
    denoiser: Denoise, schedule: Schedule, x_0: Tensor, t: Tensor | float, noise: Tensor, mask: int
) -> Tensor:
    """Cross-entropy of the hidden tokens, weighted so that its mean over uniform t bounds -log p(x_0) from above.

    weight_t * sum over the masked tokens of -log p(x_0 | x_t) (Sahoo et al. 2024, sec. 3.4; Shi et al. 2024, sec. 3).
    The mean is the same for every schedule that ends with alpha_1 = 0: as an integral over alpha instead of t it holds
    no schedule. With the exact denoiser it is the entropy of the language.

    Args:
        denoiser: function (x_t, t) -> log-probabilities (B, L, V), 0 at the symbol of a known token.
        schedule: a Schedule.
        x_0: (B, L) token ids.
        t: () or (B,) times in (0, 1].
        noise: (B, L) uniform in [0, 1).
        mask: the mask's id, V.

    Returns:
        (B,) nats a sequence.

    Raises:
        ValueError: a time of 0, ids or shapes that do not fit.
    """
    weight_t = weight(schedule, t)
    x_t = mask_tokens(schedule, x_0, noise, t, mask)
    log_p = denoiser(x_t, t)  # (B, L, V)
    cross_entropy = -log_p.gather(-1, x_0[..., None]).squeeze(-1)  # (B, L), 0 where the token is known
    return reshape_like(weight_t, cross_entropy.sum(1)) * cross_entropy.sum(1)


# ---------------------------------------------------------------------------------------------- the sampler


@torch.no_grad()
def unmask(
    denoiser: Denoise,
    schedule: Schedule,
    x_t: Tensor,
    times: Tensor | Sequence[float],
    generator: torch.Generator | None = None,
    order: str = "random",
) -> Iterator[Step]:
    """From masks to symbols: draw every token from the estimate, and reveal the share that the schedule says.

    Between t and s a hidden token is revealed with probability (alpha_s - alpha_t) / (1 - alpha_t) (Sahoo et al. 2024,
    sec. 3.2; Shi et al. 2024, sec. 2). At s = 0 that is 1: no mask is left. Known tokens stay as they are. Those
    that are revealed in one step do not see each other; more steps make fewer of them.

    Args:
        denoiser: function (x_t, t) -> log-probabilities (B, L, V).
        schedule: a Schedule. With `Linear` and as many steps as masks, "shuffled" and "confidence" reveal one a step.
        x_t: (B, L) token ids, V for a mask: all_masked(...), or a text with blanks.
        times: decreasing times in [0, 1], as from time_grid(steps).
        generator: torch.Generator or None.
        order: who is revealed. "random": each hidden token by the toss of a coin; "shuffled": the same share of them,
            but exactly, in random order; "confidence": that share, those first whose likeliest symbol is the surest
            (after Chang et al. 2022, who rank by the symbol drawn, which makes likely texts likelier still).

    Yields:
        Step(s, x_s, x_0), len(times) - 1 of them; x_0 is (B, L, V), the probabilities of every symbol.

    Raises:
        ValueError, TypeError: times that do not decrease, ids that do not fit the denoiser, an unknown order.
    """
    require_decreasing(times)
    require_order(order)
    require_tokens(x_t)
    for (t, alpha_t, _, _), (s, alpha_s, _, _) in pairwise(schedule.along(times)):
        share = (alpha_s - alpha_t) / (1 - alpha_t)
        x_0 = denoiser(x_t, t).exp()  # (B, L, V), the mean of the one-hot x_0
        drawn, chance = draw(x_0, uniform_like(x_t, generator)), uniform_like(x_t, generator)  # (B, L)
        hidden = x_t == x_0.shape[-1]
        if order == "random":
            shown = hidden & (chance < share)
        else:
            first = x_0.amax(-1) if order == "confidence" else chance
            shown = highest(first, hidden, (share * hidden.sum(1)).round())
        x_t = torch.where(shown, drawn, x_t)
        yield Step(float(s), x_t, x_0)


def draw(p: Tensor, noise: Tensor) -> Tensor:
    """A symbol (B, L) for each token, drawn from its probabilities p (B, L, V): the first whose sum passes the noise.

    Args:
        p: (B, L, V), at least 0, each row with a positive sum.
        noise: (B, L) uniform in [0, 1).
    """
    require_draw(p, noise)
    reached = p.cumsum(-1)
    return (reached <= noise[..., None] * reached[..., -1:]).sum(-1)


def highest(score: Tensor, hidden: Tensor, number: Tensor) -> Tensor:
    """Which tokens (B, L) are among the `number` (B,) hidden ones of the highest score in their sequence; bool.

    Of equal scores the one further left comes first.
    """
    score = score.masked_fill(~hidden, -1.0)
    place = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return hidden & (place < number[:, None])


def sharpen(denoiser: Denoise, temperature: float) -> Denoise:
    """The denoiser with p^(1 / temperature) for p: below 1 likely symbols get likelier, 1 changes nothing.

    Args:
        denoiser: function (x_t, t) -> log-probabilities.
        temperature: a positive number.

    Returns:
        denoiser (x_t, t) -> log-probabilities.
    """
    require_temperature(temperature)
    return lambda x_t, t: (denoiser(x_t, t) / temperature).log_softmax(-1)


# ---------------------------------------------------------------------------------------------- left to right


class LeftToRight(nn.Module):
    """The model that most language models are: p(x_0) as the product of p(token | the tokens before it).

    Its loss is exact, no bound; its order is fixed, and it makes one token a call. The id V, which is the mask's in
    `MaskedDenoiser`, stands for the beginning here: networks of both kinds have the same size.

    Args:
        network: module (B, L) -> (B, L, V) that looks to the left only; a Transformer with causal=True.
    """

    def __init__(self, network: nn.Module):
        require_network(network, causal=True)
        super().__init__()
        self.network, self.begin = network, network.symbols

    def forward(self, x_0: Tensor) -> Tensor:
        """Log-probabilities (B, L, V) of every token, given those before it, for x_0 (B, L)."""
        require_tokens(x_0, self.begin - 1, name="x_0")
        before = F.pad(x_0[:, :-1], (1, 0), value=self.begin)  # begin, token 1 to token L - 1
        return self.network(before).float().log_softmax(-1)

    def loss(self, x_0: Tensor) -> Tensor:
        """-log p(x_0), (B,) nats a sequence, of x_0 (B, L)."""
        return -self(x_0).gather(-1, x_0[..., None]).squeeze(-1).sum(1)

    @torch.no_grad()
    def generate(
        self, n: int, length: int, generator: torch.Generator | None = None, prompt: Tensor | None = None
    ) -> Tensor:
        """n sequences (n, length), token by token; a call of the network for each.

        Args:
            n, length: B and L.
            generator: torch.Generator or None.
            prompt: (n, P) or (1, P) token ids to go on from, 0 < P < length; or None.

        Raises:
            ValueError, TypeError: an empty or too long prompt, ids that are no symbols.
        """
        require_numbers(n=n, length=length)
        require_prompt(prompt, n, length, self.begin)
        device = next(self.parameters()).device
        x = torch.full((n, 1), self.begin, device=device)
        if prompt is not None:
            x = torch.cat([x, prompt.to(device).expand(n, -1)], dim=1)
        while x.shape[1] <= length:
            p = self.network(x)[:, -1:].float().softmax(-1)  # (n, 1, V)
            x = torch.cat([x, draw(p, uniform_like(x[:, :1], generator))], dim=1)
        return x[:, 1:]


# ---------------------------------------------------------------------------------------------- checks


def require_symbols(symbols, mask):
    """Refuse symbols that are no string of different characters, and a mask that is one of them."""
    if not isinstance(symbols, str) or len(symbols) < 2 or len(set(symbols)) != len(symbols):
        raise ValueError(f"symbols is {symbols!r}; expected a string of different characters, as data.SUM_SYMBOLS.")
    if not isinstance(mask, str) or len(mask) != 1 or mask in symbols:
        raise ValueError(f"mask is {mask!r}; expected one character that is no symbol, such as '_'.")


def require_strings(strings, symbols, mask):
    """Refuse what is no list of strings of one length, made of the symbols."""
    if isinstance(strings, str) or not all(isinstance(string, str) for string in strings):
        raise TypeError(f"strings is {strings!r}; expected a list of strings, such as ['12+07=019'].")
    lengths = sorted({len(string) for string in strings})
    if len(lengths) != 1 or lengths[0] == 0:
        raise ValueError(f"the strings have lengths {lengths}; expected at least one, all of one length.")
    unknown = sorted(set("".join(strings)) - set(symbols + mask))
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown[:5]))} no symbols here; known are {symbols!r} and {mask!r}.")


def require_tokens(x, highest_id=None, shape=None, name="x_t"):
    """Refuse what is no (B, L) tensor of int64 ids from 0 to highest_id (looked at on the CPU only)."""
    if not isinstance(x, torch.Tensor) or x.dtype != torch.int64:
        raise TypeError(f"{name} is {getattr(x, 'dtype', type(x).__name__)}; expected int64 token ids (see encode).")
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected (B, L), sequences of tokens.")
    if shape is not None and x.shape != torch.Size(shape):
        raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {tuple(shape)}.")
    top = x.max() if highest_id is None else highest_id
    if may_look(x) and not (x.min() >= 0 and x.max() <= top):
        raise ValueError(f"{name} has ids from {x.min()} to {x.max()}; expected 0 to {top}.")


def require_numbers(**numbers):
    """Refuse what is no whole number of at least 1."""
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")


def require_weights(weights, x_0):
    """Refuse weights that are no probabilities of the members; None is allowed."""
    if weights is None:
        return
    weights = torch.as_tensor(weights)
    if weights.shape != x_0.shape[:1] or not (weights > 0).all() or abs(float(weights.sum()) - 1) > 1e-4:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}, smallest {float(weights.min()):.3g}, "
            f"sum {float(weights.sum()):.4g}; expected ({len(x_0)},) positive numbers that sum to 1."
        )


def require_network(network, causal):
    """Refuse a network that looks the wrong way."""
    if not hasattr(network, "symbols") or getattr(network, "causal", causal) != causal:
        came = f"{type(network).__name__} with causal={getattr(network, 'causal', None)}"
        raise ValueError(f"network is {came}; expected one with .symbols, such as Transformer(..., causal={causal}).")


def require_schedule(schedule):
    """Refuse what is no schedule."""
    if not hasattr(schedule, "alpha"):
        raise TypeError(f"schedule is a {type(schedule).__name__}; expected a Schedule, such as Linear().")


def require_hidden(t):
    """Refuse t = 0; looked at where t is on the CPU."""
    t = as_time(t)
    if may_look(t) and not (t > 0).all():
        raise ValueError("t reaches 0, where no token is hidden and the weight is infinite; draw 1 - even_times(B).")


def require_order(order):
    """Refuse an unknown order."""
    if order not in ("random", "shuffled", "confidence"):
        raise ValueError(f"order is {order!r}; expected 'random', 'shuffled' or 'confidence'.")


def require_draw(p, noise):
    """Refuse probabilities and noise that do not belong together."""
    if not isinstance(p, torch.Tensor) or not p.is_floating_point() or p.shape[:-1] != noise.shape:
        raise ValueError(
            f"p has shape {tuple(getattr(p, 'shape', ()))} and noise {tuple(noise.shape)}; expected floats (..., V) "
            "and (...): one number of noise for each token."
        )


def require_temperature(temperature):
    """Refuse a temperature that is not positive."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; expected a positive number, 1 for no change.")


def require_prompt(prompt, n, length, symbols):
    """Refuse a prompt that is empty, leaves nothing to write, or does not fit n; None is allowed."""
    if prompt is None:
        return
    require_tokens(prompt, symbols - 1, name="prompt")
    if prompt.shape[1] >= length or prompt.shape[0] not in (1, n):
        raise ValueError(
            f"prompt has shape {tuple(prompt.shape)}; expected (1, P) or ({n}, P) with 0 < P < {length}, the length."
        )

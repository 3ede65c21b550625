"""Networks that turn (x_t, t, label) into a prediction of the same shape as x_t (built in lesson 03).

A network must know the time, because the same pixels mean other things at another noise level. Time and label become
one vector; every residual block lets it scale and shift its channels. The U-Net looks at the image at three
resolutions.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .refusals import may_look


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Times as waves of many frequencies (Vaswani et al. 2017, sec. 3.5; Ho et al. 2020, app. B).

    [cos(1000 t w_k), sin(1000 t w_k)] for dim / 2 frequencies w_k from 1 down to almost 1/10000.

    Args:
        t: (B,) times in [0, 1].
        dim: size of the embedding, even.

    Returns:
        (B, dim).
    """
    require_embedding(t, dim)
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=t.device) / half)  # (dim / 2,)
    angles = 1000 * t[:, None] * frequencies[None, :]  # (B, dim / 2)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def require_embedding(t, dim):
    """Refuse times that are not (B,) or outside [0, 1], and an odd size."""
    if t.ndim != 1:
        raise ValueError(f"t has shape {tuple(t.shape)}; expected (B,), one time for each sample.")
    if may_look(t) and not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"t reaches from {t.min():.3g} to {t.max():.3g}; expected [0, 1] (step i of T is i / T).")
    if dim % 2 or dim < 2:
        raise ValueError(f"dim is {dim}; expected an even number, half for cosines and half for sines.")


class Condition(nn.Module):
    """Time and label as one vector (B, dim). The last row of the label table is the null label: no class is given.

    Args:
        dim: size of the vector, even.
        labels: number of classes, or None for a network without labels.
    """

    def __init__(self, dim: int, labels: int | None = None):
        super().__init__()
        self.dim, self.null_label = dim, labels
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.label = None if labels is None else nn.Embedding(labels + 1, dim)

    def forward(self, t: Tensor, label: Tensor | None = None) -> Tensor:
        require_label(label, t, self.null_label)
        vector = self.time(timestep_embedding(t, self.dim))
        if self.label is not None:
            if label is None:
                label = torch.full_like(t, self.null_label, dtype=torch.long)
            vector = vector + self.label(label)
        return F.silu(vector)


def require_label(label, t, null_label):
    """Refuse labels that are no classes of this network."""
    if label is None:
        return
    if null_label is None:
        raise ValueError("this network was made without labels; leave label out, or make it with labels=10.")
    batch = len(t)
    if not isinstance(label, torch.Tensor):
        raise TypeError(f"label is a {type(label).__name__}; expected a tensor ({batch},) of classes, one a sample.")
    if label.device != t.device:
        raise ValueError(f"label is on {label.device} and t on {t.device}; move one with .to(...).")
    if label.shape != (batch,) or label.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"label is {tuple(label.shape)} {label.dtype}; expected ({batch},) whole numbers, one a sample."
        )
    if may_look(label) and not ((label >= 0) & (label <= null_label)).all():
        raise ValueError(
            f"label reaches from {label.min()} to {label.max()}; this network knows 0 to {null_label - 1}, "
            f"and {null_label} for no label."
        )


class MLP(nn.Module):
    """For points instead of images: (B, D) with time, through residual layers.

    Args:
        features: D.
        width: size of the hidden layers.
        depth: number of hidden layers.
        labels: number of classes, or None.
    """

    def __init__(self, features: int = 2, width: int = 128, depth: int = 3, labels: int | None = None):
        super().__init__()
        self.condition = Condition(width, labels)
        self.first = nn.Linear(features, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(depth))
        self.final = nn.Linear(width, features)

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        require_coordinates(x_t, self.first.in_features)
        condition = self.condition(t, label)
        h = self.first(x_t)
        for layer, modulation in zip(self.layers, self.modulations):
            scale, shift = modulation(condition).chunk(2, dim=1)
            h = h + layer(F.silu(h * (1 + scale) + shift))
        return self.final(F.silu(h))


class ResBlock(nn.Module):
    """Two convolutions around a shortcut; the condition scales and shifts the channels between them (FiLM, Perez et
    al. 2018).

    The second convolution begins at zero, so that a new block passes its input on.

    Args:
        channels_in, channels_out: C before and after.
        condition_dim: size of the condition vector.
    """

    def __init__(self, channels_in: int, channels_out: int, condition_dim: int):
        super().__init__()
        self.norm_1 = nn.GroupNorm(8, channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.film = nn.Linear(condition_dim, 2 * channels_out)
        self.norm_2 = nn.GroupNorm(8, channels_out)
        self.conv_2 = zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv_1(F.silu(self.norm_1(x)))  # (B, channels_out, H, W)
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)  # (B, channels_out, 1, 1)
        h = self.norm_2(h) * (1 + scale) + shift
        return self.shortcut(x) + self.conv_2(F.silu(h))


class Attention(nn.Module):
    """Every position looks at every other one; where images are small, that is affordable (Vaswani et al. 2017).

    Args:
        channels: C.
        heads: number of heads, a divisor of C.
    """

    def __init__(self, channels: int, heads: int = 4):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(B, 3, self.heads, C // self.heads, H * W).transpose(-1, -2).unbind(1)
        h = F.scaled_dot_product_attention(q, k, v)  # (B, heads, H * W, C / heads)
        return x + self.out(h.transpose(-1, -2).reshape(B, C, H, W))


class UNet(nn.Module):
    """Down through the resolutions and up again, with a bridge at each (Ronneberger et al. 2015; Ho et al. 2020).

    Args:
        channels: C of the images.
        widths: channels of the levels; each level after the first has half the side of the one before it.
        labels: number of classes, or None for a network without labels.
        condition_dim: size of the time and label vector.
    """

    def __init__(
        self,
        channels: int = 1,
        widths: Sequence[int] = (32, 64, 128),
        labels: int | None = None,
        condition_dim: int = 128,
    ):
        super().__init__()
        self.side_divisor = 2 ** (len(widths) - 1)
        self.condition = Condition(condition_dim, labels)
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)

        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for width, below in zip(widths, widths[1:]):
            self.down.append(ResBlock(width, width, condition_dim))
            self.shrink.append(nn.Conv2d(width, below, 3, stride=2, padding=1))

        deepest = widths[-1]
        self.middle_1 = ResBlock(deepest, deepest, condition_dim)
        self.attention = Attention(deepest)
        self.middle_2 = ResBlock(deepest, deepest, condition_dim)

        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        for width, below in reversed(list(zip(widths, widths[1:]))):
            self.grow.append(nn.Conv2d(below, width, 3, padding=1))
            self.up.append(ResBlock(2 * width, width, condition_dim))

        self.final = nn.Sequential(
            nn.GroupNorm(8, widths[0]), nn.SiLU(), zero(nn.Conv2d(widths[0], channels, 3, padding=1))
        )

    def forward(self, x_t: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        require_image(x_t, self.first.in_channels, self.side_divisor)
        condition = self.condition(t, label)
        h, bridges = self.first(x_t), []
        for block, shrink in zip(self.down, self.shrink):
            h = block(h, condition)
            bridges.append(h)
            h = shrink(h)  # half the side
        h = self.middle_1(h, condition)
        h = self.attention(h)
        h = self.middle_2(h, condition)
        for grow, block in zip(self.grow, self.up):
            h = grow(F.interpolate(h, scale_factor=2))  # twice the side
            h = block(torch.cat([h, bridges.pop()], dim=1), condition)
        return self.final(h)


class Autoencoder(nn.Module):
    """Digits (B, 1, 28, 28) as latents (B, 4, 7, 7) and back: a quarter of the numbers at a sixteenth of the places.

    The decoder learns from latents with noise added, so that near latents mean near images; a small pull to 0 keeps
    the latents from growing until the noise no longer counts. This is a variational autoencoder of fixed variance: the
    KL divergence of N(z, s^2) from N(0, 1) is z^2 / 2 and a constant (Kingma and Welling 2014; the KL-reg of Rombach et
    al. 2022, sec. 3.1, with a small weight, too). Built in lesson 09.

    Args:
        width: channels at 14 x 14 and 28 x 28; twice as many at 7 x 7.
        channels: of the latent.
        noise: standard deviation of the noise that is added to latents in training.
        pull: weight of the squared latents in the loss.
    """

    def __init__(self, width: int = 32, channels: int = 4, noise: float = 0.1, pull: float = 1e-3):
        super().__init__()
        self.latent_shape, self.noise, self.pull = (channels, 7, 7), noise, pull
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 3, stride=2, padding=1),  # (B, width, 14, 14)
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),  # (B, 2 * width, 7, 7)
            nn.SiLU(),
            nn.Conv2d(2 * width, channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),  # (B, width, 14, 14)
            nn.SiLU(),
            nn.ConvTranspose2d(width, width, 4, stride=2, padding=1),  # (B, width, 28, 28)
            nn.SiLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, 4, 7, 7) of images x (B, 1, 28, 28); mean 0 and variance 1 after `standardise`."""
        require_image(x, 1, 4)
        return (self.encoder(x) - self.mean) / self.std

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, 1, 28, 28) of latents z (B, 4, 7, 7): near [-1, 1], not clipped."""
        require_image(z, self.latent_shape[0], 1)
        return self.decoder(z * self.std + self.mean)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """Squared error (B,) of images x (B, 1, 28, 28) that went through a noisy latent, and the pull on the latent.

        Args:
            noise: (B, 4, 7, 7) standard normal.
        """
        z = self.encoder(x)
        error = (self.decoder(z + self.noise * noise) - x) ** 2
        return error.flatten(1).mean(1) + self.pull * (z**2).flatten(1).mean(1)

    @torch.no_grad()
    def standardise(self, x: Tensor) -> None:
        """Scale the latents so that those of images x have mean 0 and variance 1 in every channel, as the noise of
        diffusion has (Rombach et al. 2022, app. G, divide by one number for all channels)."""
        z = self.encoder(x)
        self.mean = z.mean((0, 2, 3), keepdim=True)
        self.std = z.std((0, 2, 3), keepdim=True)


class TransformerBlock(nn.Module):
    """Tokens look at each other, then each thinks for itself; both are added to what was there (Vaswani et al. 2017).

    Both branches begin at zero, so that a new block passes its input on. Attention is written out: for sequences as
    short as these that trains several times faster on a CPU than torch's own.

    Args:
        width: D, the numbers of a token.
        heads: number of heads, a divisor of D.
        causal: whether a token sees only itself and those to its left.
    """

    def __init__(self, width: int, heads: int, causal: bool):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = zero(nn.Linear(width, width))
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = zero(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        B, L, D = x.shape
        q, k, v = self.qkv(self.norm_1(x)).reshape(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        score = q @ k.transpose(-1, -2) / (D // self.heads) ** 0.5  # (B, heads, L, L): how much a token asks of another
        if self.causal:
            ahead = torch.ones(L, L, dtype=torch.bool, device=x.device).triu(1)
            score = score.masked_fill(ahead, -math.inf)
        h = score.softmax(-1) @ v  # (B, heads, L, D / heads)
        x = x + self.out(h.transpose(1, 2).reshape(B, L, D))
        return x + self.narrow(F.silu(self.widen(self.norm_2(x))))  # (B, L, 4 D) inside


class Transformer(nn.Module):
    """From token ids (B, L) to an unnormalised log-probability for every symbol at every place (B, L, V). Built in
    lesson 10.

    The last row of the token table, V, is the mask in masked diffusion and the beginning in a left-to-right model; it
    has no output, so that no model can predict it. No time: see `tokens.MaskedDenoiser`. The last layer begins at zero:
    an untrained network finds all symbols equally likely.

    Args:
        symbols: V.
        length: the longest L.
        width, depth, heads: numbers of a token, blocks, heads of each.
        causal: False: every token sees all others; True: only those to its left.
    """

    def __init__(
        self, symbols: int, length: int, width: int = 96, depth: int = 4, heads: int = 4, causal: bool = False
    ):
        require_transformer(symbols, length, width, depth, heads)
        super().__init__()
        self.symbols, self.length, self.causal = symbols, length, causal
        self.tokens = nn.Embedding(symbols + 1, width)
        self.places = nn.Parameter(torch.randn(length, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.final = zero(nn.Linear(width, symbols))

    def forward(self, x_t: Tensor) -> Tensor:
        require_ids(x_t, self.symbols, self.length)
        h = self.tokens(x_t) + self.places[: x_t.shape[1]]  # (B, L, D)
        for block in self.blocks:
            h = block(h)
        return self.final(self.norm(h))  # (B, L, V)


def zero(layer: nn.Module) -> nn.Module:
    """The layer with weights and bias of zero: its branch begins silent."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def require_coordinates(x_t, features):
    """Refuse what is no set of points with that many coordinates."""
    if x_t.ndim != 2 or x_t.shape[1] != features:
        raise ValueError(f"x_t has shape {tuple(x_t.shape)}; this network expects points (B, {features}).")


def require_image(x_t, channels, divisor):
    """Refuse images that the U-Net cannot halve, or that have another number of channels."""
    if x_t.ndim != 4 or x_t.shape[1] != channels:
        raise ValueError(f"x_t has shape {tuple(x_t.shape)}; this network expects (B, {channels}, H, W).")
    if x_t.shape[2] % divisor or x_t.shape[3] % divisor:
        raise ValueError(f"images are {x_t.shape[2]} x {x_t.shape[3]}; both sides must be multiples of {divisor}.")


def require_transformer(symbols, length, width, depth, heads):
    """Refuse sizes that make no transformer."""
    for name, value in dict(symbols=symbols, length=length, width=width, depth=depth, heads=heads).items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1.")
    if width % heads:
        raise ValueError(f"width is {width} and heads {heads}; the heads share the width, so it must be a multiple.")


def require_ids(x_t, symbols, length):
    """Refuse what is no (B, L) tensor of token ids that the table has rows for."""
    if x_t.dtype != torch.int64 or x_t.ndim != 2:
        raise ValueError(f"x_t is {tuple(x_t.shape)} {x_t.dtype}; this network expects (B, L) int64 token ids.")
    if not 1 <= x_t.shape[1] <= length:
        raise ValueError(f"x_t holds {x_t.shape[1]} tokens a sequence; this network has places for 1 to {length}.")
    if may_look(x_t) and x_t.numel() and not (x_t.min() >= 0 and x_t.max() <= symbols):
        raise ValueError(
            f"x_t has ids from {x_t.min()} to {x_t.max()}; this network knows 0 to {symbols - 1}, and {symbols} for "
            "the mask or the beginning."
        )


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)

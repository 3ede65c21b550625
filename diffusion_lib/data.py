"""Data sets: toy distributions in one and two dimensions, handwritten digits, emoji, sums, lines of English.

A diffusion model only ever sees samples of the distribution that it is to learn, so every function here returns such
samples and nothing else: `(x_0, label)`, with x_0 scaled to [-1, 1] because the noise that will be added has standard
deviation 1; or, for symbols, token ids alone. The toys have exactly known densities; images and text ship with the
package; two bigger sets can be fetched. All lessons use it.
"""

import os
import re
from functools import lru_cache
from importlib import resources
from math import cos, pi, sin
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .downloads import download, read_idx

# ---------------------------------------------------------------------------------------------- pixels


def to_unit(pixels: Tensor | np.ndarray) -> Tensor:
    """Pixel values 0..255 to [-1, 1]: x = pixel / 127.5 - 1.

    Args:
        pixels: array or tensor of any shape with values 0..255, usually uint8.
    Returns:
        float32 tensor of the same shape with values in [-1, 1].
    Raises:
        TypeError: booleans or complex numbers.
        ValueError: a value lies outside 0..255, or these are floats that are in [-1, 1] already.

    >>> to_unit(np.array([0, 51, 255], dtype=np.uint8))
    tensor([-1.0000, -0.6000,  1.0000])
    """
    pixels = pixels if isinstance(pixels, torch.Tensor) else torch.from_numpy(np.array(pixels))
    if pixels.is_complex() or pixels.dtype == torch.bool:
        raise TypeError(f"pixels have dtype {pixels.dtype}; expected integers 0..255 (uint8)")
    values = pixels.float()
    if pixels.dtype != torch.uint8 and pixels.numel() > 0:
        low, high = values.min().item(), values.max().item()
        if pixels.is_floating_point() and -1 <= low and high <= 1:
            raise ValueError(
                f"pixels are floats from {low:g} to {high:g}; expected 0..255: "
                "images in [-1, 1] need no to_unit, and for images in [0, 1] write 2 * x - 1"
            )
        if not (low >= 0 and high <= 255):  # written so that NaN fails too
            raise ValueError(f"pixels have values from {low:g} to {high:g}; expected 0..255")
    return values / 127.5 - 1


def to_uint8(x: Tensor | np.ndarray) -> Tensor:
    """[-1, 1] to pixel values 0..255, clipped and rounded; the inverse of `to_unit`.

    Args:
        x: floating-point tensor or array of any shape; values outside [-1, 1] are clipped.
    Returns:
        uint8 tensor of the same shape.
    Raises:
        TypeError: x is not floating point.
        ValueError: x has NaNs, which have no pixel value.

    >>> to_uint8(torch.tensor([-1.0, 0.0, 3.0]))
    tensor([  0, 128, 255], dtype=torch.uint8)
    """
    x = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.array(x))
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}; expected floating point values in [-1, 1]: are these pixels already?")
    if x.isnan().any():
        raise ValueError("x has NaNs; expected values in [-1, 1]: a sampler or a training run has diverged")
    return ((x.float() + 1) * 127.5).clamp(0, 255).round().to(torch.uint8)


# ---------------------------------------------------------------------------------------------- toys

# The exact densities: weights (K,), means (K, D) and standard deviations (K,) of K round Gaussians.
TWO_PEAKS = {
    "weights": torch.tensor([0.7, 0.3]),
    "means": torch.tensor([[-0.5], [0.6]]),
    "stds": torch.tensor([0.12, 0.08]),
}
EIGHT_GAUSSIANS = {
    "weights": torch.full((8,), 1 / 8),
    "means": 0.75 * torch.tensor([[cos(k * pi / 4), sin(k * pi / 4)] for k in range(8)]),
    "stds": torch.full((8,), 0.05),
}


class _Draw:
    """Checks (n, generator) and draws from them, on the generator's device."""

    def __init__(self, n, generator):
        self.n = _whole_number("n", n, at_least=1)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator is {generator!r}; expected a torch.Generator, as torch.Generator() makes")
        self.options = {"generator": generator, "device": "cpu" if generator is None else generator.device}

    def uniform(self, *shape):
        return torch.rand(self.n, *shape, **self.options)

    def normal(self, *shape):
        return torch.randn(self.n, *shape, **self.options)

    def choice(self, k):
        return torch.randint(k, (self.n,), **self.options)


def _mixture(draw, weights, means, stds):
    weights, means, stds = (value.to(draw.options["device"]) for value in (weights, means, stds))
    label = torch.multinomial(weights, draw.n, replacement=True, generator=draw.options["generator"])
    return means[label] + stds[label, None] * draw.normal(means.shape[1]), label


def two_peaks(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """One dimension: 0.7 N(-0.5, 0.12^2) + 0.3 N(0.6, 0.08^2), whose numbers are in TWO_PEAKS.

    The 0.12 and 0.08 are standard deviations.

    Args:
        n: how many samples.
        generator: torch.Generator that the samples are drawn with; by default torch's own.
    Returns:
        x (n, 1) float32, and label (n,) int64: 0 for the peak on the left, 1 for the one on the right.
    Raises:
        TypeError, ValueError: n is no whole number >= 1, or generator is no torch.Generator.

    >>> x, label = two_peaks(5)
    >>> x.shape
    torch.Size([5, 1])
    """
    return _mixture(_Draw(n, generator), **TWO_PEAKS)


def eight_gaussians(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Eight equal Gaussians, standard deviation 0.05, on a circle of radius 0.75; exactly EIGHT_GAUSSIANS.

    Args, Raises: as for `two_peaks`.
    Returns:
        x (n, 2) float32, and label (n,) int64, 0..7, anticlockwise from (0.75, 0).
    """
    return _mixture(_Draw(n, generator), **EIGHT_GAUSSIANS)


def two_moons(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Two half circles of radius 0.6 that reach into each other, with noise of standard deviation 0.03.

    Args, Raises: as for `two_peaks`.
    Returns:
        x (n, 2) float32 roughly in [-1, 1], and label (n,) int64: 0 the upper moon, 1 the lower.
    """
    draw = _Draw(n, generator)
    label, angle = draw.choice(2), pi * draw.uniform()
    side = 1 - 2 * label  # 1 or -1: the lower moon is the upper one turned by half a circle
    arc = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return 0.6 * side[:, None] * arc + 0.03 * draw.normal(2), label


def spiral(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Two arms that wind out from the centre in one and a half turns, with noise of standard deviation 0.02.

    The radius grows in proportion to the angle, up to 0.9.

    Args, Raises: as for `two_peaks`.
    Returns:
        x (n, 2) float32 roughly in [-1, 1], and label (n,) int64, 0 or 1: the arm.
    """
    draw = _Draw(n, generator)
    label, along = draw.choice(2), draw.uniform().sqrt()  # the root spreads samples evenly along the arm
    angle = 3 * pi * along + pi * label
    x = 0.9 * along[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)
    return x + 0.02 * draw.normal(2), label


def checkerboard(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Uniform on the eight dark squares of a 4 x 4 board that fills [-1, 1] x [-1, 1]; the lower left one is dark.

    Args, Raises: as for `two_peaks`.
    Returns:
        x (n, 2) float32 in [-1, 1], and label (n,) int64, 0..7: the square, row by row from below.
    """
    draw = _Draw(n, generator)
    label = draw.choice(8)
    row, place = label // 2, label % 2
    corner = torch.stack([2 * place + row % 2, row], dim=1)
    return (corner + draw.uniform(2)) / 2 - 1, label


def rings(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Two circles around the origin, radius 0.4 and 0.8, with noise of standard deviation 0.03.

    Args, Raises: as for `two_peaks`.
    Returns:
        x (n, 2) float32 roughly in [-1, 1], and label (n,) int64: 0 the inner circle, 1 the outer.
    """
    draw = _Draw(n, generator)
    label, angle = draw.choice(2), 2 * pi * draw.uniform()
    radius = 0.4 + 0.4 * label
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.03 * draw.normal(2), label


def even_bits(n: int, generator: torch.Generator | None = None, bits: int = 8) -> tuple[Tensor, Tensor]:
    """Rows of -1 and 1, uniform over those in which the number of ones is even; the last bit follows from the others.

    A distribution of which every part is uniform and nothing else is: any `bits` - 1 of the bits are coins.

    Args:
        n, generator: as for `two_peaks`.
        bits: how many, at least 2.
    Returns:
        x (n, bits) float32, and label (n,) int64: the number of ones, which is even.
    Raises:
        TypeError, ValueError: as for `two_peaks`, and for fewer than 2 bits.

    >>> x, label = even_bits(1000)
    >>> set((label % 2).tolist())
    {0}
    """
    draw = _Draw(n, generator)
    coins = torch.randint(2, (draw.n, _whole_number("bits", bits, at_least=2) - 1), **draw.options)
    ones = torch.cat([coins, coins.sum(1, keepdim=True) % 2], dim=1)
    return 2.0 * ones - 1, ones.sum(1)


def dots(n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Pictures with exact counts: one to eight white dots on black, 2 x 2 pixels each, that never touch.

    All counts are equally frequent, and given the count so are all arrangements.

    Args, Raises: as for `two_peaks`.
    Returns:
        x (n, 1, 16, 16) float32 of -1 and 1, and label (n,) int64: the number of dots, 1..8.
    """
    draw = _Draw(n, generator)
    label = 1 + draw.choice(8)
    device = label.device
    used = torch.arange(8, device=device) < label[:, None]  # (n, 8)
    corner = torch.zeros(n, 8, 2, dtype=torch.int64, device=device)  # of each dot: the row above, the column left
    todo = torch.arange(n, device=device)
    while len(todo):  # draw all dots of a picture again until no two of them touch
        corner[todo] = torch.randint(15, (len(todo), 8, 2), **draw.options)
        apart = (corner[todo, :, None] - corner[todo, None]).abs().amax(-1)  # (todo, 8, 8), 0 of a dot to itself
        touching = (apart < 3) & used[todo, :, None] & used[todo, None]
        todo = todo[touching.sum((1, 2)) > label[todo]]
    line = torch.arange(16, device=device)
    inside = (line >= corner[..., None]) & (line < corner[..., None] + 2)  # (n, 8, 2, 16)
    ink = (inside[:, :, 0, :, None] & inside[:, :, 1, None] & used[..., None, None]).any(1)
    return 2.0 * ink[:, None] - 1, label


# ---------------------------------------------------------------------------------------------- shipped images


@lru_cache
def _asset(name):
    """The arrays of a file in diffusion_lib/assets; read once, and never with pickle."""
    asset = resources.files("diffusion_lib").joinpath("assets", name)
    with asset.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def digits(split: str = "train") -> tuple[Tensor, Tensor]:
    """5,000 handwritten digits of MNIST, 500 of each class, shipped with the package.

    The split is fixed. Every ten neighbours hold each class once, so `x_0[:n]` is a balanced sample.

    Args:
        split: "train" (4,000), "held_out" (1,000) or "all" (both, training digits first).
    Returns:
        x_0 (N, 1, 28, 28) float32 in [-1, 1], white (1) on black (-1), and label (N,) int64, 0..9.
    Raises:
        ValueError: unknown split.
    Source: MNIST (LeCun, Cortes, Burges 1998), CC BY-SA 3.0; see assets/README.md.

    >>> x_0, label = digits("held_out")
    >>> x_0.shape, label.bincount().tolist()
    (torch.Size([1000, 1, 28, 28]), [100, 100, 100, 100, 100, 100, 100, 100, 100, 100])
    """
    rows = {"train": slice(0, 4000), "held_out": slice(4000, 5000), "all": slice(0, 5000)}
    if split not in rows:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, rows))}")
    arrays = _asset("digits.npz")
    pixels, label = arrays["pixels"][rows[split]], arrays["label"][rows[split]]
    return to_unit(pixels[:, None]), torch.from_numpy(label.astype(np.int64))


def emoji(split: str = "all") -> tuple[Tensor, Tensor]:
    """1,357 emoji in colour, each the only one of its kind, shipped with the package.

    Every tenth is held out: neighbours in Unicode show like things, so that both parts hold all kinds.

    Args:
        split: "train" (1,222), "held_out" (135) or "all" (both, in the order of their labels).
    Returns:
        x_0 (N, 3, 32, 32) float32 in [-1, 1], red, green, blue, on white (1); and label (N,) int64, the place of each
        in `emoji_names()`. Its group is `emoji_groups()[0][label]`.
    Raises:
        ValueError: unknown split.
    Source: the font Noto Color Emoji (Google), SIL Open Font License 1.1; see assets/README.md.

    >>> x_0, label = emoji()
    >>> x_0.shape, emoji_names()[label[-1]]
    (torch.Size([1357, 3, 32, 32]), 'heart hands')
    """
    pixels = _asset("emoji.npz")["pixels"]
    place = np.arange(len(pixels))
    rows = {"train": place % 10 != 9, "held_out": place % 10 == 9, "all": place >= 0}
    if split not in rows:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, rows))}")
    chosen = rows[split]
    return to_unit(pixels[chosen]).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(place[chosen])


def emoji_names() -> list[str]:
    """The Unicode names of the emoji, in lower case, in the order of their labels: a list of strings.

    >>> emoji_names().index("grinning face") < len(emoji_names())
    True
    """
    return _asset("emoji.npz")["names"].tolist()


# The groups of emoji, as rules on their names: words, or "first .. last" for a stretch of the list. The first group
# with a rule that fits has the emoji: a clock face is a clock, a cat face an animal, a person with pouting face a
# person. What fits nowhere is an object.
_EMOJI_GROUPS = {
    "clock": "clock, watch, stopwatch, hourglass",
    "animal": "rat .. paw prints, crab .. guide dog, fly .. cockroach, cat, monkey, chipmunk, dove, spider",
    "sky": "sun, moon symbol, moon with face, crescent moon, medium star, glowing star, shooting star, globe, "
    "comet, cloud, snowflake, ringed planet, cyclone .. rainbow, water wave .. milky way, wind blowing face, fog, "
    "fireworks, brightness, mountain .. mountain, snow capped mountain, mount fuji, desert, national park",
    "food": "hot dog .. chestnut, hot pepper, tomato .. popcorn, birthday cake, hot beverage, "
    "clinking glasses .. spoon, croissant .. bagel, cheese wedge .. mate drink, bubble tea, blueberries .. jar",
    "person": "person, people, boy .. princess, baby angel, guardsman, dancer, man, massage, haircut, kiss .. kiss, "
    "couple, wedding, bust, busts, gesture, face palm, shrug, selfie, father christmas, mother christmas, skier, "
    "snowboarder .. surfer, horse racing, swimmer .. golfer, bicyclist, pedestrian, sleuth, pregnant woman, "
    "breast-feeding, prince, juggling .. handball, ninja, superhero, supervillain, troll, adult .. bearded person, "
    "mage .. zombie",
    "plant": "seedling .. cactus, tulip .. mushroom, tree, bouquet, shamrock, rosette, white flower, wilted flower, "
    "pine decoration, potted plant, wood, lotus",
    "face": "face, laughing, skull, japanese ogre .. ghost, extraterrestrial alien .. imp",
    "hand": "hand, hands, fist, thumbs, pointing index, backhand index, index pointing, biceps, fingers, palms, "
    "handshake, horns, hamsa",
    "heart": "heart, hearts",
    "vehicle": "airplane, ferry, sailboat, rocket .. oncoming bus, trolleybus, minibus .. speedboat, bicycle, "
    "motor boat, passenger ship, racing motorcycle, racing car, flying saucer, scooter, canoe, sled, rickshaw, "
    "truck",
    "building": "church, shrine, temple, mosque, synagogue, kaaba, castle, house, buildings, building, cityscape, "
    "hut, tent, office, hospital, bank, hotel .. factory, stadium, tower, statue of liberty, ferris wheel, "
    "roller coaster",
    "clothes": "womans hat .. womans boots, sari .. flat shoe, billed cap .. socks, ballet shoes .. thong sandal, "
    "hat, cap, helmet, crown, sunglasses, shirt, vest, martial arts uniform",
    "office": "file folder .. books, name badge .. memo, lower left ballpoint pen .. lower left crayon, "
    "outbox tray .. newspaper, card index dividers .. file cabinet, envelope, love letter, banknote, credit card, "
    "chart, note pad, calendar pad, newspaper, bookmark, pencil, nib, scissors, paperclips, ticket, tickets, "
    "receipt, label",
    "sign": "sign, symbol, exclamation, question, check mark, trade mark, alternation mark, cross, leftwards, "
    "rightwards, upwards, downwards, left right, up down, north, south, double triangle, double vertical bar, "
    "squared, circled, suit, aries .. pisces, ophiuchus, yin yang, wheel of dharma, star, sparkle, asterisk, heavy, "
    "curly loop, wavy dash, no, information source, keycap ten, radio button, restroom, water closet, "
    "passport control .. left luggage, children crossing, place of worship, hundred points",
    "shape": "square, circle, diamond, triangle",
}


def emoji_groups() -> tuple[Tensor, list[str]]:
    """A class for every emoji, found by short rules on its name: face, animal, food, ... and object for the rest.

    Returns:
        group (N,) int64, 0..15, in the order of `emoji_names()`; and the names of the 16 groups.

    >>> group, kinds = emoji_groups()
    >>> [kinds[group[emoji_names().index(name)]] for name in ("cat face", "clock face one oclock", "pouting face")]
    ['animal', 'clock', 'face']
    """
    return torch.tensor(_emoji_group()), [*_EMOJI_GROUPS, "object"]


@lru_cache
def _emoji_group():
    """The number of the group of every emoji."""
    names = emoji_names()
    group = [len(_EMOJI_GROUPS)] * len(names)  # an object, until a rule fits
    for number, rules in reversed(list(enumerate(_EMOJI_GROUPS.values()))):  # so that the first group has the last word
        for rule in rules.split(", "):
            for place in _fitting(rule, names):
                group[place] = number
    return group


def _fitting(rule, names):
    """The places of the names that hold these words, or lie between two names: "first .. last"."""
    if " .. " in rule:
        first, last = rule.split(" .. ")
        return range(names.index(first), names.index(last) + 1)
    words = re.compile(rf"(?<![\w-]){rule}(?![\w-])")  # as a whole: heart, but not heart-shaped
    return [place for place, name in enumerate(names) if words.search(name)]


# ---------------------------------------------------------------------------------------------- symbols

# A token is the place of its symbol in one of these strings; tokens.encode and tokens.decode translate.
SUM_SYMBOLS = "0123456789+="
TEXT_SYMBOLS = " abcdefghijklmnopqrstuvwxyz.,'-"


def sums(split: str = "train") -> Tensor:
    """All 10,000 sums of two numbers from 0 to 99, such as 12+07=019: nine tokens each. A seeded tenth is held out.

    Whether a line that a model wrote is right can be computed, and so can the entropy of the language: log 10,000.

    Args:
        split: "train" (9,000), "held_out" (1,000) or "all" (10,000, in the order of the two numbers).
    Returns:
        (N, 9) int64, places in SUM_SYMBOLS.
    Raises:
        ValueError: unknown split.

    >>> sums("all")[1207]
    tensor([ 1,  2, 10,  0,  7, 11,  0,  1,  9])
    """
    place = torch.arange(10_000)
    shuffled = torch.from_numpy(np.random.RandomState(0).permutation(10_000))  # the same for every version of torch
    rows = {"train": shuffled[1000:].sort().values, "held_out": shuffled[:1000].sort().values, "all": place}
    if split not in rows:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, rows))}")
    a, b = rows[split] // 100, rows[split] % 100
    c, plus, equals = a + b, torch.full_like(a, 10), torch.full_like(a, 11)
    return torch.stack([a // 10, a % 10, plus, b // 10, b % 10, equals, c // 100, c // 10 % 10, c % 10], dim=1)


def text(split: str = "train") -> Tensor:
    """Lines of English prose, 48 characters each: Python's own documentation in lower case, shipped with the package.

    A line holds as many whole words as fit, and spaces after them. A training line begins at every word, so that they
    overlap; held-out lines follow one another, and come from topics of which the training lines have nothing.

    Args:
        split: "train", "held_out" or "all" (both, training lines first).
    Returns:
        (N, 48) int64, places in TEXT_SYMBOLS.
    Raises:
        ValueError: unknown split.
    Source: pydoc_data.topics of Python 3.11, Python Software Foundation License 2; see assets/README.md.

    >>> "".join(TEXT_SYMBOLS[i] for i in text("held_out")[0])
    'exceptions are a means of breaking out of the   '
    """
    lines = _text_lines()
    chosen = {"train": lines["train"], "held_out": lines["held_out"], "all": lines["train"] + lines["held_out"]}
    if split not in chosen:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, chosen))}")
    table = torch.zeros(128, dtype=torch.int64)
    table[list(TEXT_SYMBOLS.encode())] = torch.arange(len(TEXT_SYMBOLS))
    characters = np.frombuffer("".join(chosen[split]).encode("ascii"), dtype=np.uint8)
    return table[torch.from_numpy(characters.astype(np.int64))].reshape(-1, 48)


@lru_cache
def _text_lines():
    """{"train": lines, "held_out": lines} of assets/text.txt, where "# split: topic" begins a topic."""
    lines, asset = {"train": [], "held_out": []}, resources.files("diffusion_lib").joinpath("assets", "text.txt")
    for topic in asset.read_text(encoding="ascii").split("\n# ")[1:]:  # what comes before the first is the notice
        head, words = topic.split("\n", 1)
        split = head.split(":")[0]
        lines[split] += _lines_of(words.split(), everywhere=split == "train")
    return lines


def _lines_of(words, everywhere):
    """Full lines of at most 48 characters: one from every word on, or one after the other."""
    first, lines = 0, []
    while True:
        end, length = first, -1
        while end < len(words) and length + 1 + len(words[end]) <= 48:
            length += 1 + len(words[end])
            end += 1
        if end == len(words):  # the text ends before the line is full
            return lines
        lines.append(" ".join(words[first:end]).ljust(48))
        first = first + 1 if everywhere else end


# ---------------------------------------------------------------------------------------------- batches


class Batches:
    """Endless shuffled batches whose whole state is one integer: how many have been given.

    The order of epoch e depends on (seed, e) alone. So `batches.position = k` goes on exactly where a run of k batches
    stopped, whatever happened in between; a checkpoint needs no more than that number.

    Args:
        x_0: tensor (N, ...).
        label: tensor (N, ...), what belongs to each x_0.
        batch_size: 1..N. Every batch is full; the N % batch_size samples left over sit out until the next epoch.
        seed: whole number >= 0 that chooses the order.
    Raises:
        TypeError, ValueError: lengths or devices differ, or a number is out of range.

    >>> batches = Batches(torch.arange(6.0)[:, None], torch.arange(6), batch_size=2)
    >>> first, second = next(batches), next(batches)
    >>> batches.position = 1
    >>> torch.equal(next(batches)[0], second[0])
    True
    """

    def __init__(self, x_0: Tensor, label: Tensor, batch_size: int, seed: int = 0):
        for name, value in (("x_0", x_0), ("label", label)):
            if not isinstance(value, torch.Tensor):
                raise TypeError(f"{name} is a {type(value).__name__}; expected a tensor")
            if value.ndim == 0:
                raise ValueError(f"{name} is a single number; expected a tensor with the N samples along axis 0")
        if len(x_0) != len(label):
            raise ValueError(f"x_0 has {len(x_0)} samples and label {len(label)}; expected one label for each sample")
        if x_0.device != label.device:
            raise ValueError(f"x_0 is on {x_0.device} and label on {label.device}; expected one device")
        self.batch_size = _whole_number("batch_size", batch_size, at_least=1)
        if batch_size > len(x_0):
            raise ValueError(f"batch_size is {batch_size}, but there are only {len(x_0)} samples; choose a smaller one")
        self.seed = _whole_number("seed", seed, at_least=0)
        self.x_0, self.label = x_0, label
        self.batches_per_epoch = len(x_0) // batch_size
        self.position = 0
        self._shuffled = (None, None)  # (epoch, its order), drawn again whenever it is missing

    @property
    def position(self) -> int:
        """Number of batches given so far; set it to continue from there."""
        return self._position

    @position.setter
    def position(self, value: int) -> None:
        self._position = _whole_number("position", value, at_least=0)

    def _order(self, epoch):
        if self._shuffled[0] != epoch:
            # SeedSequence mixes the two numbers, so that (seed 0, epoch 1) and (seed 1, epoch 0) are unrelated.
            mixed = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1, np.uint64)[0])
            # The order is drawn on the CPU, where it is the same on every machine.
            generator = torch.Generator().manual_seed(mixed)
            self._shuffled = (epoch, torch.randperm(len(self.x_0), generator=generator).to(self.x_0.device))
        return self._shuffled[1]

    def __iter__(self) -> "Batches":
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        epoch, batch = divmod(self.position, self.batches_per_epoch)
        idx = self._order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]
        self.position += 1
        return self.x_0[idx], self.label[idx]

    def to(self, device: torch.device | str) -> "Batches":
        """The same batches, at the same position, with the data on `device`."""
        moved = Batches(self.x_0.to(device), self.label.to(device), self.batch_size, self.seed)
        moved.position = self.position
        return moved


def _whole_number(name, value, at_least):
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} is {value!r}; expected a whole number")
    if value < at_least:
        raise ValueError(f"{name} is {value}; expected at least {at_least}")
    return int(value)


# ---------------------------------------------------------------------------------------------- fetched images

# Both sets have the same four files: (split, what) -> name.
_FILES = {
    ("train", "images"): "train-images-idx3-ubyte.gz",
    ("train", "labels"): "train-labels-idx1-ubyte.gz",
    ("held_out", "images"): "t10k-images-idx3-ubyte.gz",
    ("held_out", "labels"): "t10k-labels-idx1-ubyte.gz",
}
_SIZES = {"train": 60_000, "held_out": 10_000}
_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
}
_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
}


def mnist(split: str = "train", folder: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """All 70,000 handwritten digits of MNIST; fetched on first use, then read from the folder.

    Args:
        split: "train" (60,000) or "held_out" (10,000, published as the test set).
        folder: where the files are kept; by default the environment variable DIFFUSION_COURSE_DATA, or else
            ~/.cache/diffusion_course.
    Returns:
        x_0 (N, 1, 28, 28) float32 in [-1, 1], and label (N,) int64, 0..9.
    Raises:
        ValueError: unknown split, or a damaged file.
        OSError: no mirror could be reached, or what came is not the file; `digits()` needs no network.
    Source: LeCun, Cortes, Burges 1998, CC BY-SA 3.0.
    """
    return _fetched("mnist", split, folder)


def fashion_mnist(split: str = "train", folder: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """All 70,000 pictures of clothes of Fashion-MNIST; fetched on first use, then read from the folder.

    The labels 0..9: T-shirt, trousers, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot.

    Args, Returns, Raises: as for `mnist`.
    Source: Xiao, Rasul, Vollgraf 2017, MIT licence.
    """
    return _fetched("fashion_mnist", split, folder)


def _fetched(name, split, folder):
    if split not in _SIZES:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(map(repr, _SIZES))}")
    folder = folder or os.environ.get("DIFFUSION_COURSE_DATA") or Path.home() / ".cache" / "diffusion_course"
    arrays = []
    for what, item_shape in (("images", (28, 28)), ("labels", ())):
        file = _FILES[split, what]
        path = Path(folder).expanduser() / name / file  # one folder for each set, as their file names are the same
        try:
            download([mirror + file for mirror in _MIRRORS[name]], path, _MD5[name][file])
        except OSError as error:
            offline = "Without a network, data.digits() has 5,000 digits that are already here."
            raise OSError(f"{error}\n{offline}") from error
        arrays.append(read_idx(path, (_SIZES[split], *item_shape)))
    images, label = arrays
    return to_unit(images[:, None]), torch.from_numpy(label.astype(np.int64))

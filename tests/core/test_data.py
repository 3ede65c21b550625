"""Data: ranges and splits, the toys against their exact densities, batches that resume, downloads that fail."""

import gzip
import hashlib
import http.server
import re
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from diffusion_lib import data, downloads, samplers
from diffusion_lib.denoisers import exact_dataset
from diffusion_lib.schedules import Cosine
from tests.common import agree


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# ---------------------------------------------------------------------------------------------- pixels


def test_every_pixel_value_survives_the_round_trip():
    pixels = torch.arange(256, dtype=torch.uint8)
    x = data.to_unit(pixels)
    assert (x.dtype, x.min(), x.max()) == (torch.float32, -1, 1)
    assert_close(x, torch.linspace(-1, 1, 256))
    assert torch.equal(data.to_uint8(x), pixels)


def test_to_uint8_rounds_to_the_nearest_and_clips():
    nearest = torch.tensor([-5.0, -1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.0, 9.0])
    assert data.to_uint8(nearest).tolist() == [0, 0, 1, 255, 255]


def test_to_unit_takes_what_image_libraries_give():
    read_only = np.zeros((2, 2), dtype=np.uint8)
    read_only.setflags(write=False)
    assert (data.to_unit(read_only) == -1).all()
    assert data.to_unit([0, 255]).tolist() == [-1, 1]
    assert data.to_unit(np.array([0.0, 255.0])).tolist() == [-1, 1]
    assert data.to_unit(torch.zeros(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ([0, 256], "0 to 256; expected 0..255"),
        ([-1, 0, 200], "-1 to 200; expected 0..255"),
        ([float("nan"), 3.0], "expected 0..255"),
        (torch.linspace(-1, 1, 5), r"images in \[-1, 1\] need no to_unit"),
        (torch.linspace(0, 1, 5), r"for images in \[0, 1\] write 2 \* x - 1"),
    ],
)
def test_to_unit_refuses_values_that_are_no_pixels(pixels, message):
    with pytest.raises(ValueError, match=message):
        data.to_unit(pixels)


def test_wrong_kinds_of_values():
    with pytest.raises(TypeError, match=r"bool; expected integers 0..255"):
        data.to_unit(torch.tensor([True]))
    with pytest.raises(TypeError, match="are these pixels already"):
        data.to_uint8(torch.tensor([3]))
    with pytest.raises(ValueError, match="NaN"):
        data.to_uint8(torch.tensor([0.0, float("nan")]))


# ---------------------------------------------------------------------------------------------- toys


def within(estimate, truth, std_of_mean):
    """Monte Carlo: five standard errors, which a right answer leaves once in two million times."""
    assert abs(estimate - truth) < 5 * std_of_mean, f"{estimate} is not {truth} +- {std_of_mean}"


def test_two_peaks_has_the_stated_moments():
    n, (w, means, stds) = 200_000, (value.double().squeeze() for value in data.TWO_PEAKS.values())
    assert_close(w.tolist(), [0.7, 0.3], rtol=1e-6, atol=0)
    x = data.two_peaks(n, seeded())[0][:, 0].double()
    mean = (w * means).sum()
    variance = (w * (stds**2 + means**2)).sum() - mean**2
    within(x.mean(), -0.17, (variance / n).sqrt())  # 0.7 * -0.5 + 0.3 * 0.6
    within(x.mean(), mean, (variance / n).sqrt())
    fourth = ((x - x.mean()) ** 4).mean()
    within(x.var(), variance, ((fourth - variance**2) / n).sqrt())
    within((x < 0.1).double().mean(), 0.7, (0.7 * 0.3 / n) ** 0.5)  # 0.1 lies five deviations from either peak
    within(x[x < 0.1].std(), 0.12, 0.12 / (2 * 0.7 * n) ** 0.5)
    within(x[x > 0.1].std(), 0.08, 0.08 / (2 * 0.3 * n) ** 0.5)


def test_eight_gaussians_has_the_stated_moments():
    n = 80_000
    x, label = data.eight_gaussians(n, seeded())
    assert_close(data.EIGHT_GAUSSIANS["weights"].sum(), torch.tensor(1.0))
    for k, (mean, std) in enumerate(zip(data.EIGHT_GAUSSIANS["means"], data.EIGHT_GAUSSIANS["stds"], strict=True)):
        assert_close(torch.atan2(mean[1], mean[0]) % (2 * torch.pi), torch.tensor(k * torch.pi / 4), atol=1e-6, rtol=0)
        assert_close(mean.norm(), torch.tensor(0.75))
        members = x[label == k]
        within(len(members) / n, 1 / 8, (7 / 64 / n) ** 0.5)
        for axis in range(2):
            within(members[:, axis].mean(), mean[axis], 0.05 / len(members) ** 0.5)
            within(members[:, axis].std(), 0.05, 0.05 / (2 * len(members)) ** 0.5)
        assert std == pytest.approx(0.05)


def test_rings_have_the_stated_radii():
    x, label = data.rings(20_000, seeded())
    for ring, radius in enumerate((0.4, 0.8)):
        found = x[label == ring].norm(dim=1)
        # Noise across the direction of the radius adds std^2 / (2 radius) to the mean.
        within(found.mean(), radius + 0.03**2 / (2 * radius), 0.03 / len(found) ** 0.5)
        within(found.std(), 0.03, 0.03 / (2 * len(found)) ** 0.5 + 1e-4)
        within(x[label == ring].mean(), 0, radius / len(found) ** 0.5)


def test_checkerboard_fills_its_squares_evenly_and_leaves_the_others_empty():
    x, label = data.checkerboard(80_000, seeded())
    column, row = ((x + 1) * 2).floor().long().clamp(0, 3).unbind(1)
    assert ((row + column) % 2 == 0).all()
    assert torch.equal(label, 2 * row + column // 2)
    for count in label.bincount(minlength=8):
        within(count / len(x), 1 / 8, (7 / 64 / len(x)) ** 0.5)
    inside = ((x + 1) * 2) % 1
    within(inside.mean(), 0.5, (1 / 12 / inside.numel()) ** 0.5)


def test_moons_lie_on_their_half_circles():
    x, label = data.two_moons(20_000, seeded())
    for moon, (centre, sign) in enumerate((((-0.3, -0.15), 1), ((0.3, 0.15), -1))):
        from_centre = x[label == moon] - torch.tensor(centre)
        radius = from_centre.norm(dim=1)
        within(radius.mean(), 0.6 + 0.03**2 / 1.2, 0.03 / len(radius) ** 0.5)
        assert (sign * from_centre[:, 1] > -0.15).all()  # half a circle, five deviations of noise aside


def test_spiral_winds_outwards_in_proportion_to_the_angle():
    x, label = data.spiral(20_000, seeded())
    radius = x.norm(dim=1)
    away = (radius > 0.2) & (radius < 0.85)
    for arm in range(2):
        members = away & (label == arm)
        angle = torch.atan2(x[members, 1], x[members, 0])
        expected = radius[members] / 0.9 * 3 * torch.pi + torch.pi * arm
        miss = torch.remainder(angle - expected + torch.pi, 2 * torch.pi) - torch.pi
        assert miss.abs().mean() < 0.3  # the other arm is pi away
    # Evenly along the arm: the share within radius r grows like r^2.
    within((radius < 0.45).float().mean(), 0.25, (0.25 * 0.75 / len(x)) ** 0.5 + 5e-4)


TOYS = [data.two_moons, data.spiral, data.checkerboard, data.rings, data.eight_gaussians]


@pytest.mark.parametrize("toy", TOYS)
def test_toys_give_points_in_range_with_labels_and_obey_the_generator(toy):
    x, label = toy(2000, seeded(1))
    assert (x.shape, x.dtype, label.shape, label.dtype) == ((2000, 2), torch.float32, (2000,), torch.int64)
    assert x.abs().max() < 1.1
    again, label_again = toy(2000, seeded(1))
    assert torch.equal(x, again) and torch.equal(label, label_again)
    assert not torch.equal(x, toy(2000, seeded(2))[0])


@pytest.mark.parametrize("toy", [*TOYS, data.two_peaks])
def test_toys_refuse_bad_arguments(toy):
    with pytest.raises(ValueError, match="n is 0; expected at least 1"):
        toy(0)
    with pytest.raises(TypeError, match=r"n is 2\.5; expected a whole number"):
        toy(2.5)
    with pytest.raises(TypeError, match="generator is 7; expected a torch.Generator"):
        toy(3, 7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("toy", TOYS)
def test_toys_follow_the_device_of_their_generator(toy):
    x, label = toy(10, torch.Generator("cuda").manual_seed(0))
    assert x.is_cuda and label.is_cuda


# ---------------------------------------------------------------------------------------------- shipped images


def test_digits_are_split_evenly_and_without_overlap():
    train, train_label = data.digits()
    held_out, held_out_label = data.digits("held_out")
    both, both_label = data.digits("all")
    assert (train.shape, train.dtype, train_label.dtype) == ((4000, 1, 28, 28), torch.float32, torch.int64)
    assert train_label.bincount().tolist() == [400] * 10
    assert held_out_label.bincount().tolist() == [100] * 10
    assert torch.equal(both, torch.cat([train, held_out]))
    assert torch.equal(both_label, torch.cat([train_label, held_out_label]))
    assert (both.min(), both.max()) == (-1, 1)
    assert len(both.flatten(1).unique(dim=0)) == 5000  # so no digit is in both parts
    assert (both_label.reshape(-1, 10).sort(dim=1).values == torch.arange(10)).all()  # any [:n] is a balanced mix


def test_digits_look_like_their_labels():
    """Outside truth: the nearest of ten class means gets about 80 % of MNIST right; shuffled labels would get 10 %."""
    x_0, label = data.digits()
    means = torch.stack([x_0[label == c].mean(0) for c in range(10)]).flatten(1)
    held_out, truth = data.digits("held_out")
    accuracy = (torch.cdist(held_out.flatten(1), means).argmin(1) == truth).float().mean()
    assert 0.75 < accuracy < 0.9
    assert (held_out[truth == 0].mean(0)[0, 13:15, 13:15] < -0.5).all()  # a zero is hollow: upright, not transposed
    one = (held_out[truth == 1].mean(0)[0] > 0).nonzero()
    assert one[:, 0].max() - one[:, 0].min() > one[:, 1].max() - one[:, 1].min()  # a one is taller than wide


def test_a_student_cannot_spoil_the_data_for_the_next_call():
    for load in (data.digits, data.emoji):
        x_0, label = load()
        before = x_0.clone(), label.clone()
        x_0.zero_()
        label.zero_()
        assert torch.equal(load()[0], before[0]) and torch.equal(load()[1], before[1])
    names = data.emoji_names()
    names.clear()
    assert len(data.emoji_names()) == len(data.emoji()[1])


def test_digits_refuse_an_unknown_split():
    with pytest.raises(ValueError, match="split is 'test'; expected one of 'train', 'held_out', 'all'"):
        data.digits("test")


def test_emoji_are_what_their_names_say():
    x_0, label = data.emoji()
    names = data.emoji_names()
    assert x_0.shape == (len(names), 3, 32, 32) and torch.equal(label, torch.arange(len(names)))
    assert 1300 < len(names) == len(set(names)) and all(name == name.lower() for name in names)
    assert len(x_0.flatten(1).unique(dim=0)) == len(names)
    assert (x_0.min(), x_0.max(), x_0[:, :, 0, 0].median()) == (-1, 1, 1)  # the corners are white

    def colour(name):
        return x_0[names.index(name), :, 16, 16].tolist()  # red, green, blue in the middle

    assert colour("large red square")[0] > 0.5 > 0 > max(colour("large red square")[1:])
    assert colour("large green square")[1] > max(colour("large green square")[0::2])
    assert colour("large blue square")[2] > max(colour("large blue square")[:2])

    def white_above_minus_below(name):
        white = (x_0[names.index(name)].amin(0) > 0.8)[5:27, 5:27].sum(1)
        return (white[:11].sum() - white[11:].sum()).item()

    # Upright: the head of an arrow has more white than its shaft.
    assert white_above_minus_below("upwards black arrow") > 10 > -10 > white_above_minus_below("downwards black arrow")


def test_every_tenth_emoji_is_held_out():
    everything, places = data.emoji()
    parts = [data.emoji(split) for split in ("train", "held_out")]
    assert [len(place) for _, place in parts] == [1222, 135]
    assert torch.equal(torch.cat([place for _, place in parts]).sort().values, places)
    for x_0, place in parts:
        assert torch.equal(x_0, everything[place])
    with pytest.raises(ValueError, match="split is 'test'; expected one of 'train', 'held_out', 'all'"):
        data.emoji("test")


def test_an_emoji_goes_to_the_first_group_that_fits_its_name():
    group, kinds = data.emoji_groups()
    names = data.emoji_names()
    found = {name: kinds[number] for name, number in zip(names, group.tolist(), strict=True)}
    for kind, members in {
        "clock": ["alarm clock", "clock face one oclock", "hourglass"],
        "animal": ["cat", "cat face with tears of joy", "dog face", "octopus", "see-no-evil monkey", "guide dog"],
        "sky": ["full moon with face", "sun with face", "cloud with rain", "earth globe americas"],
        "food": ["hot dog", "fish cake with swirl design", "moon cake", "fried shrimp", "birthday cake"],
        "person": ["boy", "person with pouting face", "couple with heart", "face with ok gesture", "mage"],
        "plant": ["rose", "cactus", "palm tree"],
        "face": [
            "grinning face",
            "smiling face with heart-shaped eyes",
            "smiling face with sunglasses",
            "rolling on the floor laughing",
        ],
        "hand": ["thumbs up sign", "heart hands", "ok hand sign", "palms up together"],
        "heart": ["heavy black heart", "two hearts", "broken heart"],
        "vehicle": ["rocket", "taxi", "bicycle", "sailboat"],
        "building": ["house with garden", "hospital", "mosque"],
        "clothes": ["jeans", "top hat", "handbag"],
        "office": ["envelope", "open book", "pencil"],
        "sign": ["no entry", "aries", "squared ok", "leftwards black arrow", "heavy equals sign"],
        "shape": ["large red circle", "large blue square", "small orange diamond"],
        "object": ["guitar", "hammer", "mouse trap", "black telephone"],
    }.items():
        assert {found[name] for name in members} == {kind}, kind


def test_every_group_is_of_use_and_every_rule_too():
    group, kinds = data.emoji_groups()
    assert kinds == [*data._EMOJI_GROUPS, "object"] and len(set(kinds)) == 16
    held_out = data.emoji("held_out")[1]
    assert (group.bincount(minlength=16) >= 20).all() and (group[held_out].bincount(minlength=16) >= 1).all()
    for number, rules in enumerate(data._EMOJI_GROUPS.values()):
        for rule in rules.split(", "):
            assert any(group[place] == number for place in data._fitting(rule, data.emoji_names())), rule
    group.zero_()
    kinds.clear()
    assert data.emoji_groups()[0].any() and len(data.emoji_groups()[1]) == 16


def test_shipped_files_hold_plain_arrays_and_are_small():
    from importlib import resources

    for name, limit in (("digits.npz", 1.0e6), ("emoji.npz", 2.5e6)):
        asset = resources.files("diffusion_lib") / "assets" / name
        assert len(asset.read_bytes()) < limit
        with asset.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            assert {arrays[key].dtype.kind for key in arrays.files} <= {"u", "U"}


# ---------------------------------------------------------------------------------------------- symbols


def strings(ids, symbols):
    return ["".join(symbols[i] for i in row) for row in ids.tolist()]


def test_sums_are_all_right_and_all_there():
    """Read back as text: Python's own arithmetic agrees, and every pair of numbers comes once."""
    x_0 = data.sums("all")
    assert x_0.shape == (10_000, 9) and x_0.dtype == torch.int64
    pairs = set()
    for line in strings(x_0, data.SUM_SYMBOLS):
        a, rest = line.split("+")
        b, c = rest.split("=")
        assert (len(a), len(b), len(c)) == (2, 2, 3) and int(a) + int(b) == int(c)
        pairs.add((int(a), int(b)))
    assert len(pairs) == 10_000


def test_a_fixed_tenth_of_the_sums_is_held_out():
    train, held_out, everything = (
        strings(data.sums(split), data.SUM_SYMBOLS) for split in ("train", "held_out", "all")
    )
    assert len(train) == 9000 and len(held_out) == 1000
    assert not set(train) & set(held_out) and sorted(train + held_out) == sorted(everything)
    # Drawn, not cut: the held-out sums are spread over the first number, and over its units.
    tens, units = data.sums("held_out")[:, 0].bincount(), data.sums("held_out")[:, 1].bincount()
    assert tens.min() > 70 and units.min() > 70 and tens.max() < 130 and units.max() < 130
    assert held_out[:3] == ["00+09=009", "00+23=023", "00+31=031"]  # the same on every machine


@pytest.fixture(scope="module")
def lines():
    return {split: strings(data.text(split), data.TEXT_SYMBOLS) for split in ("train", "held_out", "all")}


def test_lines_are_whole_words_of_the_text_filled_up_with_spaces(lines):
    from importlib import resources

    words = set((resources.files("diffusion_lib") / "assets" / "text.txt").read_text(encoding="ascii").split())
    assert data.text().dtype == torch.int64 and lines["train"] + lines["held_out"] == lines["all"]
    for line in lines["all"]:
        assert len(line) == 48 and not line.startswith(" ") and "  " not in line.rstrip()
        assert set(line.split()) <= words
    assert len(lines["train"]) > 15_000 and len(lines["held_out"]) > 250


def test_a_training_line_begins_at_every_word_and_holds_as_many_as_fit(lines):
    words = [line.split()[0] for line in lines["train"][:45]]  # the beginning of the text
    for k in range(20):
        full = lines["train"][k].rstrip()
        many = len(full.split())
        assert full == " ".join(words[k : k + many]) and len(full) + 1 + len(words[k + many]) > 48


def test_held_out_lines_follow_one_another_and_no_line_comes_twice(lines):
    together = " ".join(line.rstrip() for line in lines["held_out"][:4])
    assert together.startswith(
        "exceptions are a means of breaking out of the normal flow of control of a code block in"
    )
    assert len(set(lines["held_out"])) == len(lines["held_out"])


def test_the_training_text_has_nothing_of_the_held_out_text(lines):
    """No stretch of 40 characters, in a line or across two of them."""
    train = {line[i : i + 40] for line in lines["train"] for i in range(9)}
    text = " ".join(line.rstrip() for line in lines["held_out"])
    shared = [text[i : i + 40] for i in range(len(text) - 39) if text[i : i + 40] in train]
    assert not shared


def test_the_text_is_english(lines):
    """The words that are the most frequent ones in English are the most frequent ones here."""
    counts = Counter(word for line in lines["held_out"] for word in re.findall("[a-z]+", line))
    assert {"the", "a", "is", "of", "to", "in"} <= {word for word, _ in counts.most_common(12)}
    assert len(counts) > 500


def test_shipped_text_is_small_plain_and_says_whose_it_is():
    from importlib import resources

    asset = resources.files("diffusion_lib") / "assets" / "text.txt"
    text = asset.read_text(encoding="ascii")
    assert len(text) < 0.2e6 and "Python Software Foundation" in text[:400] and "License" in text[:400]
    assert "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in (asset.parent / "LICENSE-PSF.txt").read_text(
        encoding="utf8"
    )


# ---------------------------------------------------------------------------------------------- batches


def numbers(n=23, batch_size=4, seed=0):
    return data.Batches(torch.arange(n)[:, None].float(), torch.arange(n), batch_size, seed)


def labels(batches, count):
    return [next(batches)[1].tolist() for _ in range(count)]


def test_an_epoch_gives_full_batches_without_repeats():
    batches = numbers()
    assert batches.batches_per_epoch == 5
    for _ in range(4):
        seen = sum(labels(batches, 5), [])
        assert len(seen) == 20 == len(set(seen)) and set(seen) < set(range(23))


def test_x_and_label_stay_together_and_keep_their_types():
    x_0, label = next(numbers())
    assert (x_0.dtype, label.dtype, x_0.shape) == (torch.float32, torch.int64, (4, 1))
    assert torch.equal(x_0[:, 0], label.float())


def test_every_order_is_as_likely_as_any_other():
    """The first sample of an epoch is uniform over the data: chi-square with 4 degrees of freedom, p = 1e-5."""
    first = [next(numbers(5, 5, seed))[1][0].item() for seed in range(2000)]
    counts = np.bincount(first, minlength=5)
    assert ((counts - 400) ** 2 / 400).sum() < 28.5


def test_epochs_and_seeds_differ_but_the_same_seed_repeats():
    assert labels(numbers(), 12) == labels(numbers(), 12)
    epochs = [tuple(sum(labels(numbers(seed=seed), 10)[start : start + 5], [])) for seed in (0, 1) for start in (0, 5)]
    assert len(set(epochs)) == 4


@pytest.mark.parametrize("k", [0, 1, 4, 5, 6, 10, 13])
def test_setting_the_position_resumes_exactly(k):
    whole = labels(numbers(), 17)
    resumed = numbers()
    next(resumed)  # a position set later must not depend on what was drawn before
    resumed.position = k
    assert labels(resumed, 17 - k) == whole[k:]
    assert resumed.position == 17


def test_the_batches_are_independent_of_torch_s_global_generator():
    torch.manual_seed(0)
    first = labels(numbers(), 7)
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert labels(numbers(), 7) == first
    torch.set_rng_state(state)
    labels(numbers(), 7)
    assert torch.equal(torch.get_rng_state(), state)


def test_to_keeps_the_position():
    batches = numbers()
    labels(batches, 7)
    moved = batches.to("cpu")
    assert moved.position == 7 and labels(moved, 6) == labels(batches, 6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_order_is_the_same_on_a_gpu():
    moved = numbers().to("cuda")
    assert next(moved)[0].is_cuda
    moved.position = 0
    assert labels(moved, 12) == labels(numbers(), 12)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.zeros(3, 1), torch.zeros(4), 2), ValueError, "x_0 has 3 samples and label 4"),
        ((torch.zeros(3, 1), torch.zeros(3), 4), ValueError, "batch_size is 4, but there are only 3 samples"),
        ((torch.zeros(3, 1), torch.zeros(3), 0), ValueError, "batch_size is 0; expected at least 1"),
        ((torch.zeros(3, 1), torch.zeros(3), -2), ValueError, "batch_size is -2; expected at least 1"),
        ((torch.zeros(0, 1), torch.zeros(0), 1), ValueError, "only 0 samples"),
        ((torch.zeros(3, 1), torch.zeros(3), 2.0), TypeError, r"batch_size is 2\.0; expected a whole number"),
        ((torch.zeros(3, 1), torch.zeros(3), True), TypeError, "batch_size is True; expected a whole number"),
        ((torch.zeros(3, 1), torch.zeros(3), 2, -1), ValueError, "seed is -1"),
        ((np.zeros((3, 1)), torch.zeros(3), 2), TypeError, "x_0 is a ndarray; expected a tensor"),
        ((torch.zeros(3, 1), torch.tensor(1.0), 2), ValueError, "label is a single number"),
        ((torch.zeros(3, 1), torch.zeros(3, device="meta"), 2), ValueError, "expected one device"),
    ],
)
def test_batches_refuse_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        data.Batches(*arguments)


def test_batches_refuse_a_bad_position():
    batches = numbers()
    with pytest.raises(ValueError, match="position is -1"):
        batches.position = -1
    with pytest.raises(TypeError, match=r"position is 1\.5"):
        batches.position = 1.5
    assert batches.position == 0


# ---------------------------------------------------------------------------------------------- downloads

CONTENT = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@contextmanager
def server(files, ranges=True, cut=None, wrong_range=False):
    """A web server on this machine. cut: after so many bytes of each reply the line goes dead, `cut.pop(0)` per reply.

    Yields (address, log), log being a list of (path, Range header).
    """
    log, cut = [], list(cut or [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            log.append((self.path, wanted))
            body = files.get(self.path.lstrip("/"))
            if body is None:
                return self.send_error(404)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and ranges else 0
            if start >= len(body) > 0:
                return self.send_error(416)
            if wrong_range and start:
                start -= 1
            self.send_response(206 if wanted and ranges else 200)
            if wanted and ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:][: cut.pop(0) if cut else None])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{running.server_port}/", log
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def dead():
    """An address where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}/"


def test_a_whole_download_shows_progress_and_is_not_repeated(tmp_path, capsys):
    path = tmp_path / "new" / "folder" / "file.gz"
    with server({"file.gz": CONTENT}) as (address, log):
        assert downloads.download([address + "file.gz"], path, MD5) == path
        assert "file.gz" in (shown := capsys.readouterr().err) and "100%" in shown
        assert downloads.download([address + "file.gz"], path, MD5) == path
        assert log == [("/file.gz", None)]
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["file.gz"]


def test_a_single_address_and_an_upper_case_checksum_will_do(tmp_path):
    with server({"f": CONTENT}) as (address, _):
        downloads.download(address + "f", str(tmp_path / "f"), MD5.upper())
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_broken_connection_resumes_within_the_call(tmp_path):
    with server({"f": CONTENT}, cut=[100_000]) as (address, log):
        downloads.download([address + "f"], tmp_path / "f", MD5)
    assert log == [("/f", None), ("/f", "bytes=100000-")]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_download_resumes_in_a_later_call(tmp_path):
    path = tmp_path / "f"
    with server({"f": CONTENT}, cut=[100_000, 50_000]) as (address, log):
        with pytest.raises(OSError, match="the connection ended after 150,000 of 300,000 bytes"):
            downloads.download([address + "f"], path, MD5)
        assert not path.exists() and (tmp_path / "f.part").stat().st_size == 150_000
        downloads.download([address + "f"], path, MD5)
    assert [wanted for _, wanted in log] == [None, "bytes=100000-", "bytes=150000-"]
    assert path.read_bytes() == CONTENT and not (tmp_path / "f.part").exists()


def test_a_second_mirror_continues_what_the_first_began(tmp_path):
    with server({"f": CONTENT}, cut=[100_000]) as (first, _), server({"f": CONTENT}) as (second, log):
        downloads.download([first + "f", second + "f"], tmp_path / "f", MD5)
    assert log == [("/f", "bytes=100000-")]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    with server({"f": CONTENT}, ranges=False) as (address, log):
        downloads.download([address + "f"], tmp_path / "f", MD5)
    assert log == [("/f", "bytes=1000-")]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_server_that_answers_another_range_is_not_trusted(tmp_path):
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    with server({"f": CONTENT}, wrong_range=True) as (address, log):
        downloads.download([address + "f"], tmp_path / "f", MD5)
    assert log == [("/f", "bytes=1000-"), ("/f", None)]
    assert (tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT, CONTENT + b"more", b"other" * 10], ids=["whole", "too long", "other file"])
def test_a_part_that_cannot_be_continued_is_started_again(tmp_path, left):
    (tmp_path / "f.part").write_bytes(left)
    with server({"f": CONTENT}) as (address, _):
        downloads.download([address + "f"], tmp_path / "f", MD5)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_dead_mirror_and_one_without_the_file_are_passed_over(tmp_path, dead):
    with server({}) as (empty, _), server({"f": CONTENT}) as (good, _):
        downloads.download([dead + "f", empty + "f", good + "f"], tmp_path / "f", MD5)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_wrong_checksum_deletes_the_file_and_says_so(tmp_path):
    with server({"f": b"log in to the hotel's network"}) as (address, log):
        with pytest.raises(OSError, match=f"has MD5 .*, expected {MD5}; it was deleted"):
            downloads.download([address + "f"], tmp_path / "f", MD5)
        assert len(log) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_altered_file_is_fetched_again(tmp_path, capsys):
    (tmp_path / "f").write_bytes(b"altered")
    with server({"f": CONTENT}) as (address, _):
        downloads.download([address + "f"], tmp_path / "f", MD5)
    assert "wrong checksum; it was deleted" in capsys.readouterr().out
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_mirror_that_says_nothing_is_given_up(tmp_path, monkeypatch):
    asked, urlopen = [], downloads.urllib.request.urlopen

    def with_patience(request, timeout):
        """Short with the mirror that will never answer, long with the one that may be slow."""
        asked.append((request.full_url, timeout))
        return urlopen(request, timeout=0.1 if request.full_url == silent else 600)

    monkeypatch.setattr(downloads.urllib.request, "urlopen", with_patience)
    with socket.socket() as mute, server({"f": CONTENT}) as (good, _):
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        silent = f"http://127.0.0.1:{mute.getsockname()[1]}/f"
        downloads.download([silent, good + "f"], tmp_path / "f", MD5, timeout=7)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert asked == [(silent, 7), (good + "f", 7)]


def test_download_refuses_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="expected at least one address"):
        downloads.download([], tmp_path / "f", MD5)
    with pytest.raises(ValueError, match="starts with http:// or https://"):
        downloads.download(["file:///etc/passwd"], tmp_path / "f", MD5)
    with pytest.raises(ValueError, match="expected 32 hexadecimal digits"):
        downloads.download(["http://127.0.0.1/f"], tmp_path / "f", "abc")


# ---------------------------------------------------------------------------------------------- fetched images

IMAGES = np.random.default_rng(1).integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


@pytest.fixture
def small_mnist(monkeypatch):
    """serve(images, labels) serves six images under the names of MNIST, with their checksums and sizes."""

    @contextmanager
    def serve(images, labels_):
        files = {"train-images-idx3-ubyte.gz": images, "train-labels-idx1-ubyte.gz": labels_}
        with server(files) as (address, log):
            monkeypatch.setitem(data._MIRRORS, "mnist", (address,))
            md5 = {name: hashlib.md5(body).hexdigest() for name, body in files.items()}
            monkeypatch.setitem(data._MD5, "mnist", md5)
            monkeypatch.setitem(data._SIZES, "train", 6)
            yield log

    return serve


def test_mnist_reads_what_the_server_has_and_then_needs_it_no_more(small_mnist, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSION_COURSE_DATA", str(tmp_path))
    with small_mnist(idx(IMAGES), idx(LABELS)) as log:
        x_0, label = data.mnist()
        assert len(log) == 2
    assert (x_0.shape, x_0.dtype, label.dtype) == ((6, 1, 28, 28), torch.float32, torch.int64)
    assert torch.equal(data.to_uint8(x_0)[:, 0], torch.from_numpy(IMAGES)) and label.tolist() == LABELS.tolist()
    offline, _ = data.mnist(folder=tmp_path)  # the server is gone
    assert torch.equal(offline, x_0)
    assert (tmp_path / "mnist" / "train-images-idx3-ubyte.gz").exists()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(IMAGES)[:-500], "not a whole gzip file"),
        (b"<html>", "not a whole gzip file"),
        (gzip.compress(b"", mtime=0), "it starts with"),
        (idx(LABELS), "it starts with 00 00 08 01; expected 00 00 08 03"),
        (idx(IMAGES[:5]), r"its header says \(5, 28, 28\); expected \(6, 28, 28\)"),
        (idx(IMAGES[:, :, :27]), r"its header says \(6, 28, 27\)"),
        (gzip.compress(gzip.decompress(idx(IMAGES))[:10], mtime=0), r"its header says \(\)"),
        (gzip.compress(gzip.decompress(idx(IMAGES))[:-1], mtime=0), "4703 bytes of data; expected 4704"),
        (gzip.compress(gzip.decompress(idx(IMAGES)) + b"x", mtime=0), "4705 bytes of data; expected 4704"),
    ],
)
def test_damaged_files_are_named(small_mnist, tmp_path, images, message):
    with small_mnist(images, idx(LABELS)), pytest.raises(ValueError, match=message) as caught:
        data.mnist(folder=tmp_path)
    assert "train-images-idx3-ubyte.gz is damaged; delete it" in str(caught.value)


@pytest.mark.parametrize("load", [data.mnist, data.fashion_mnist])
def test_offline_the_error_names_the_digits_that_are_here(load, tmp_path, monkeypatch, dead):
    monkeypatch.setitem(data._MIRRORS, load.__name__, (dead, dead + "other/"))
    with pytest.raises(OSError, match=r"could not be fetched(.|\n)*other/(.|\n)*data\.digits\(\) has 5,000 digits"):
        load(folder=tmp_path)
    with pytest.raises(ValueError, match="split is 'test'; expected one of 'train', 'held_out'"):
        load("test")


def test_every_published_file_has_mirrors_and_a_checksum():
    for name in ("mnist", "fashion_mnist"):
        assert len(data._MIRRORS[name]) >= 2 and all(mirror.endswith("/") for mirror in data._MIRRORS[name])
        assert set(data._MD5[name]) == set(data._FILES.values())
    every = [md5 for files in data._MD5.values() for md5 in files.values()]
    assert len(set(every)) == 8 and all(len(md5) == 32 for md5 in every)


# Even bits: data with an exact rule


def test_even_bits_are_even_and_otherwise_coins():
    x, label = data.even_bits(20_000, seeded())
    assert ((x > 0).sum(1) == label).all() and (label % 2 == 0).all() and set(x.unique().tolist()) == {-1, 1}
    for left_out in range(8):  # any seven of the eight bits: mean 0, no correlation, and no parity of their own
        seven = x[:, [bit for bit in range(8) if bit != left_out]]
        agree(seven, torch.zeros(7))
        agree(seven[:, :1] * seven[:, 1:], torch.zeros(6))
        agree(seven.prod(1), torch.tensor(0.0))
    rows = ((x > 0) * 2 ** torch.arange(8)).sum(1).bincount(minlength=256)
    assert (rows > 0).sum() == 128 and rows.max() < 250  # 20,000 / 128 = 156


def test_the_exact_denoiser_of_even_bits_never_breaks_the_rule():
    """So an odd sample of a trained network is the network's fault, not the sampler's."""
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 8)
    even = every[(every > 0).sum(1) % 2 == 0]
    assert len(even) == 128
    noise = samplers.start_noise(Cosine(), (2000, 8), seeded())
    denoiser = exact_dataset(Cosine(), even)
    for sampler, options in ((samplers.ddim, {}), (samplers.ddpm, {"generator": seeded(1)})):
        x = samplers.last(sampler(denoiser, Cosine(), noise, samplers.time_grid(50), **options))
        assert (x.abs() - 1).abs().max() < 0.01
        assert ((x > 0).sum(1) % 2 == 0).all()

"""The limits of diffusion: counters against scipy, exact cases against closed forms, committed results and claims."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from diffusion_lib import data, forward, limits, measured, pretrained, samplers
from diffusion_lib.denoisers import exact_dataset
from diffusion_lib.schedules import Cosine, Linear, Shifted
from tests.common import agree, normal, seeded

CPU = torch.device("cpu")
SIDES, CORNERS = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


def silent(line):
    """Progress that says nothing."""


# Data with exact rules


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


def test_dots_are_as_many_as_the_label_says_and_do_not_touch():
    x, label = data.dots(1000, seeded())
    assert x.shape == (1000, 1, 16, 16) and set(x.unique().tolist()) == {-1, 1}
    assert label.min() == 1 and label.max() == 8
    for picture, k in zip(x[:, 0].numpy() > 0, label.tolist()):
        pieces, n = ndimage.label(picture, CORNERS)
        assert n == k and all(np.bincount(pieces.flat)[1:] == 4)
    counts = label.bincount(minlength=9)[1:]
    assert ((counts - 125).abs() < 5 * 125**0.5).all()
    torch.testing.assert_close(data.dots(1000, seeded())[0], x)


def test_all_arrangements_of_two_dots_are_equally_frequent():
    """How often is one of two dots in the corner at the top left? Counted over all pairs that do not touch."""
    places = [(row, column) for row in range(15) for column in range(15)]
    pairs = [(a, b) for a in places for b in places if max(abs(a[0] - b[0]), abs(a[1] - b[1])) >= 3]
    expected = sum((0, 0) in pair for pair in pairs) / len(pairs)
    x, label = data.dots(50_000, seeded())
    two = x[label == 2, 0]
    agree((two[:, :2, :2] > 0).all(2).all(1), expected)


# Counters


@pytest.mark.parametrize("share", [0.2, 0.45, 0.6, 0.8])
def test_pieces_are_those_of_scipy(share):
    ink = torch.rand(50, 1, 17, 23, generator=seeded()) < share
    for corners, structure in ((True, CORNERS), (False, SIDES)):
        expected = [ndimage.label(picture, structure)[1] for picture in ink[:, 0].numpy()]
        assert limits.count_pieces(ink, corners).tolist() == expected


def test_a_piece_may_wind_as_long_as_it_likes():
    ink = torch.zeros(1, 1, 15, 15, dtype=torch.bool)
    ink[0, 0, ::2] = True  # a line in every other row, joined at alternating ends: one snake
    ink[0, 0, 1::4, -1], ink[0, 0, 3::4, 0] = True, True
    assert limits.count_pieces(ink).tolist() == [1] == limits.count_pieces(ink, corners=False).tolist()
    assert limits.count_pieces(torch.zeros(2, 1, 4, 4)).tolist() == [0, 0]


def test_dots_that_meet_in_a_corner_are_one_piece():
    x = -torch.ones(3, 1, 16, 16)
    x[:, 0, 4:6, 4:6] = 1
    x[0, 0, 6:8, 6:8], x[1, 0, 6:8, 7:9], x[2, 0, 7:9, 4:6] = 1, 1, 1
    assert limits.count_dots(x).tolist() == [1, 2, 2]
    assert limits.proper_dots(x).tolist() == [False, True, True]


def test_proper_dots_are_squares_of_four():
    x, _ = data.dots(200, seeded())
    assert limits.proper_dots(x).all()
    for wrong in ((slice(4, 6), slice(4, 7)), (slice(4, 5), slice(4, 8)), (slice(4, 5), slice(4, 5))):
        spoilt = -torch.ones(1, 1, 16, 16)
        spoilt[0, 0][wrong] = 1
        assert not limits.proper_dots(spoilt).any(), wrong
    tall = -torch.ones(1, 1, 16, 16)  # eight white pixels, two pieces, but not four and four
    tall[0, 0, 2:4, 2:4], tall[0, 0, 8:10, 8:10] = 1, 1
    tall[0, 0, 3, 3], tall[0, 0, 10, 8] = -1, 1
    assert not limits.proper_dots(tall).any()


def test_holes_are_those_of_scipy():
    x, _ = data.digits("held_out")
    holes = [ndimage.label(ndimage.binary_fill_holes(d, SIDES) ^ d, SIDES)[1] for d in x[:300, 0].numpy() > 0]
    assert limits.count_holes(x[:300]).tolist() == holes
    assert len(set(holes)) > 2


# Memory


def test_the_halves_are_disjoint_and_balanced():
    (a, label_a), (b, label_b) = limits.half(0, 2000), limits.half(1, 2000)
    assert label_a.bincount().tolist() == label_b.bincount().tolist() == [200] * 10
    assert torch.cdist(a.flatten(1), b.flatten(1)).min() > 0.5
    assert limits.half(0, 10)[1].sort().values.tolist() == list(range(10))
    torch.testing.assert_close(limits.half(1, 30)[0], b[:30])


@pytest.mark.parametrize("n", [10, 100])
def test_a_model_sees_its_own_digits_and_each_equally_often(monkeypatch, n):
    seen, first = {}, []

    def fit(model, x_0, label, loss_fn, steps, **options):
        seen.update(x_0=F.pixel_shuffle(x_0, 2), steps=steps, **options)
        first.append(model.network.first.weight)
        return model, []

    monkeypatch.setattr(limits.pretrained, "fit", fit)
    for which in (0, 1):
        limits.train_half(which, n, steps=7)
        digits, times = torch.unique(seen["x_0"].flatten(1), dim=0, return_counts=True)
        assert len(seen["x_0"]) >= seen["batch_size"] and len(digits) == n and len(set(times.tolist())) == 1
        assert torch.cdist(digits, limits.half(which, n)[0].flatten(1)).min(1).values.max() < 0.1
        assert seen["steps"] == 7 and seen["seed"] == which
    assert not torch.equal(*first)


def test_equal_seeds_start_from_equal_noise():
    """A model that answers with what it was given shows the noise; it is the same noise on every model."""

    class Echo(torch.nn.Module):
        schedule = Cosine()

        def forward(self, x_t, t):
            return x_t

    a, b, c = (limits.sample_half(Echo(), 3, steps=2, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(a, b)
    assert a.shape == (3, 1, 28, 28) and not torch.allclose(a, c)


def test_correlation_is_that_of_the_pixels():
    a, b = normal(4, 1, 5, 5), normal(4, 1, 5, 5, seed=1)
    expected = [torch.corrcoef(torch.stack([p.flatten(), q.flatten()]))[0, 1] for p, q in zip(a, b)]
    torch.testing.assert_close(limits.correlation(a, b), torch.stack(expected))
    torch.testing.assert_close(limits.correlation(a, 3 * a + 1), torch.ones(4, dtype=torch.float64))


def test_twins_are_nearer_to_each_other_than_to_what_was_learnt():
    training_a, training_b = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([[4.0, 0.0]])
    a = torch.tensor([[1.8, 0.0], [0.1, 0.0], [1.8, 0.0], [9.0, 8.0]])
    b = torch.tensor([[2.1, 0.0], [2.0, 0.0], [3.9, 0.0], [9.0, 7.0]])
    assert limits.twins(a, b, training_a, training_b).tolist() == [True, False, False, False]


def test_nearness_tells_copies_from_new_digits():
    training, held_out = limits.half(0, 100)[0], data.digits("held_out")[0][:200]
    copied = training[torch.arange(200) % 100] + 0.02 * normal(200, 1, 28, 28, dtype=torch.float32)
    result = limits.nearness(copied, held_out, training)
    assert result["sample"]["copies"] == 1 and result["held_out"]["copies"] < 0.02
    assert result["sample"]["distance"] == pytest.approx(0.02 * 28, rel=0.05)
    assert result["sample"]["ratio"] < 0.1 and 0.9 < result["held_out"]["ratio"] < 1


def test_the_loss_of_a_silent_network_is_known():
    """A new network answers 0, so its loss for v is the mean of v^2 = alpha^2 + sigma^2 E x_0^2, at every time."""
    training, held_out = limits.half(0, 30)[0], data.digits("held_out")[0]
    found = limits.losses(limits.new_half_model(), training, held_out, CPU, n=90)
    for name, x_0 in (("training", training), ("held_out", held_out[:90])):
        for t, loss in found[name].items():
            alpha, sigma = (float(scale) for scale in Cosine().scales(float(t), like=x_0))
            assert loss == pytest.approx(alpha**2 + sigma**2 * float((x_0**2).mean()), rel=0.02)


def test_a_small_bench_of_memory_measures_both_halves(monkeypatch):
    """With a "model" that hands back its own training digits, the bench must say: copies, no twins."""

    def sample_half(model, n, device, seed):
        return model[(torch.arange(n) + seed) % len(model)]

    monkeypatch.setattr(limits, "train_half", lambda which, n, steps, device: limits.half(which, n)[0])
    monkeypatch.setattr(limits, "sample_half", sample_half)
    monkeypatch.setattr(limits, "losses", lambda *ignored: {})
    results, kept = limits.memory(
        CPU, [0, 3], silent, plan=((20, 1000), (100, 1000)), n=80, show=((100, 1000),), keep=4
    )
    assert [(row["size"], row["half"], row["seed"]) for row in results["rows"]] == [
        (size, which, seed) for size in (20, 100) for seed in (0, 3) for which in (0, 1)
    ]
    assert all(row["sample"]["copies"] == 1 and row["held_out"]["copies"] < 0.05 for row in results["rows"])
    assert [(pair["size"], pair["seed"], pair["twins"]) for pair in results["pairs"]] == [
        (size, seed, 0) for size in (20, 100) for seed in (0, 3)
    ]
    assert list(kept) == ["100_1000"] and kept["100_1000"].shape == (2, 4, 28, 28)
    torch.testing.assert_close(data.to_unit(kept["100_1000"][1, 2]), limits.half(1, 100)[0][2, 0])


# Dots


def test_what_is_counted_on_real_and_on_spoilt_pictures():
    x, label = data.dots(400, seeded())
    real = limits.brightness(data.dots(2000, seeded(1))[0])
    right = limits.counted(x, label, real)
    assert right["right"] == right["proper"] == 1 and right["mean_error"] == 0 and right["right_by_count"] == [1] * 8
    assert right["histogram"] == label.bincount(minlength=13).tolist()
    one_more = limits.counted(x, label - 1, real)
    assert one_more["right"] == 0 and one_more["mean_error"] == 1
    # Half the dots wrong, half right: the distance to real pictures hardly sees it.
    shuffled = limits.counted(x, label[torch.randperm(400, generator=seeded())], real)
    assert shuffled["right"] < 0.3 and shuffled["frechet"] == right["frechet"]
    assert "right" not in limits.counted(x, None, real)


def test_a_small_bench_of_dots_trains_and_samples_what_it_says(monkeypatch):
    trained, sampled = [], []

    def sample_dots(model, label, scale, interval=(0, 1), steps=50, eta=0, seed=0):
        sampled.append((model, scale, steps, eta, seed))
        x, count = data.dots(20 * len(label), seeded(seed))
        return torch.stack([x[count == k][i] for i, k in enumerate(label.tolist())])

    monkeypatch.setattr(limits, "train_dots", lambda n, *run: trained.append((n, *run[:2])) or run[:2])
    monkeypatch.setattr(limits, "sample_dots", sample_dots)
    results, _ = limits.dots(CPU, [0, 1], silent, budgets=(250, 300), scales=(1, 3), looks=((7, 1),), n=80)
    assert trained == [(10_000, 250, 0), (10_000, 300, 0), (10_000, 250, 1)]
    short, long, again = ((steps, seed) for _, steps, seed in trained)
    assert sampled == [
        *((model, scale, 25, 0, 0) for model in (short, long) for scale in (1, 3, 0)),
        (long, 1, 7, 1, 0),
        (again, 1, 25, 0, 1),
    ]
    assert all(row["right"] == 1 if row["scale"] > 0 else "right" not in row for row in results["rows"])
    assert all((row["steps"], row["seed"]) == model for row, (model, *_) in zip(results["rows"], sampled))


# Minority


def test_without_guidance_the_rare_kind_has_its_share():
    for where in limits.PLACES:
        share = limits.rare_share(where, scale=1, n=2000)
        assert abs(share - 0.1) < 5 * (0.1 * 0.9 / 2000) ** 0.5


@pytest.mark.parametrize("where", ["inside", "beside", "outside"])
def test_the_sharpened_density_would_keep_the_rare_share(where):
    """p(x | class)^w p(x)^(1 - w), integrated on a grid: the rare kind keeps its tenth wherever it is, as the kinds do
    not overlap. So what guided sampling does to it is not in that formula."""
    one, both = limits.rare_kinds(where)
    axis = torch.linspace(-1.5, 1.5, 601, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)

    def log_density(kinds):
        distance = torch.cdist(x, kinds["means"].double()) ** 2
        std = kinds["stds"].double()
        return (kinds["weights"].double().log() - distance / (2 * std**2) - 2 * std.log()).logsumexp(1)

    nearest = torch.cdist(x, both["means"].double()).argmin(1)
    for scale in (1, 2, 5):
        density = (scale * log_density(one) + (1 - scale) * log_density(both)).softmax(0)
        assert float(density[nearest == 1].sum()) == pytest.approx(0.1, abs=0.003)


def test_guidance_takes_from_the_rare_near_the_other_class_and_gives_beyond():
    shares = {where: limits.rare_share(where, scale=3, n=1000) for where in limits.PLACES}
    assert shares["inside"] < 0.01
    assert shares["beside"] == limits.rare_share("beside", scale=1, n=1000)
    assert shares["outside"] > 0.25
    assert shares["outside"] > limits.rare_share("outside", 3, pretrained.INTERVAL, n=1000) > 0.12


@pytest.mark.parametrize("shear", [-0.5, 0.0, 0.3])
def test_slant_is_the_shear_of_a_bar(shear):
    """A soft upright bar, every row moved by shear * (height above the middle): to the right at the top."""
    row = torch.arange(28.0)[:, None]
    column = torch.arange(28.0)[None, :]
    middle = 13.5 + shear * (13.5 - row)
    bar = 2 * torch.exp(-((column - middle) ** 2) / 2) * ((row > 5) & (row < 22)) - 1
    assert float(limits.slant(bar[None, None])) == pytest.approx(shear, abs=1e-3)


def test_rare_styles_know_the_training_digits_and_what_is_missing():
    x, label = data.digits("held_out")
    found = limits.rare_styles(x, label, x, label)
    assert all(found[style] == pytest.approx(0.1, abs=0.001) for style in ("thin", "bold", "left", "right"))
    assert found["spread of ink"] == found["spread of slant"] == 1
    assert limits.ink(x[:5]).tolist() == pytest.approx(((x[:5] + 1) / 2).flatten(1).mean(1).tolist(), abs=1e-6)

    amount, lean = limits.ink(x), limits.slant(x)
    middle = torch.zeros(len(x), dtype=torch.bool)
    for k in range(10):
        for value in (amount, lean):
            v = value[label == k]
            v_low, v_high = v.quantile(0.1), v.quantile(0.9)
            middle[label == k] |= (v < v_low) | (v > v_high)
    tame = ~middle  # nobody thin, bold or slanted is left
    found = limits.rare_styles(x[tame], label[tame], x, label)
    assert all(found[style] == 0 for style in ("thin", "bold", "left", "right"))
    assert found["spread of ink"] < 0.7 and found["spread of slant"] < 0.8
    mirrored = limits.rare_styles(x.flip(3), label, x, label)
    assert mirrored["left"] > 0.3 and mirrored["right"] < 0.1


def test_open_digits_and_loops_are_counted_by_their_holes():
    x, label = data.digits("held_out")
    holes = limits.count_holes(x)
    some = (torch.isin(label, torch.tensor([0, 6, 9])) & (holes == 0)) | ((label == 2) & (holes == 1))
    found = limits.rare_styles(x[some], label[some], *data.digits("train"))
    assert found["open"] == found["loop"] == 1


def test_a_small_bench_of_minorities_measures_both_ways(monkeypatch):
    asked = []

    def sample_digits(model, label, scale, interval, steps, eta, seed):
        asked.append((scale, tuple(interval), seed))
        return data.digits("held_out")[0][: len(label)]

    monkeypatch.setattr(limits.pretrained, "sample_digits", sample_digits)
    monkeypatch.setattr(limits, "rare_share", lambda where, scale, interval: 0.1 * scale)
    results, _ = limits.minority(CPU, [0, 1], silent, scales=(1, 4), digit_scales=(3,), n=1000)
    inside = pretrained.INTERVAL
    assert asked == [(*way, seed) for way in ((1, (0, 1)), (3, (0, 1)), (3, inside)) for seed in (0, 1)]
    assert len(results["exact"]) == 3 * 2 * 2 and results["exact"][1]["share"] == 0.4
    assert [row["where"] for row in results["rows"]] == ["everywhere"] * 4 + ["interval"] * 2


# Resolution


@pytest.mark.parametrize("factor", [2, 4])
def test_averaging_divides_the_noise_and_keeps_the_picture(factor):
    x_0 = normal(3, 2, 6, 5)
    torch.testing.assert_close(F.avg_pool2d(limits.enlarge(x_0, factor), factor), x_0)
    noise = normal(1, 1, 400 * factor, 100 * factor)
    agree(F.avg_pool2d(noise, factor).flatten() ** 2, 1 / factor**2)


@pytest.mark.parametrize("schedule", [Cosine(), Linear()])
@pytest.mark.parametrize("factor", [2, 4])
def test_a_shifted_schedule_hides_the_large_picture_as_the_plain_one_hides_the_small(schedule, factor):
    """After the mean over squares: the same signal-to-noise ratio at every time, whatever the size."""
    for t in (0.1, 0.5, 0.9):
        x_0, noise = normal(1, 1, 4, 4), normal(1, 1, 4 * factor, 4 * factor, seed=1)
        x_t = forward.add_noise(Shifted(schedule, factor), limits.enlarge(x_0, factor), noise, t)
        alpha, sigma = schedule.scales(t, like=x_0)
        small_noise = factor * F.avg_pool2d(noise, factor)  # standard normal again
        small = F.avg_pool2d(x_t, factor)
        length = float(Shifted(schedule, factor).length(torch.tensor(t)))
        torch.testing.assert_close(small * length, alpha * x_0 + sigma * small_noise)
        shift = Shifted(schedule, factor).log_snr(torch.tensor(t)) - schedule.log_snr(torch.tensor(t))
        assert float(shift) == pytest.approx(-2 * math.log(factor))


def test_crossing_is_read_off_the_line():
    assert limits.crossing([0.1, 0.2, 0.4], [0.9, 0.6, 0.2]) == pytest.approx(0.25)
    assert limits.crossing([0.0, 1.0], [1.0, 0.0], level=0.25) == pytest.approx(0.75)


def test_large_digits_are_read_longer_unless_the_schedule_is_shifted():
    results, _ = limits.resolution(CPU, [0], silent, n=200, factors=(1, 2), times=tuple(i / 10 for i in range(1, 10)))
    half_at = {(row["shifted"], row["side"]): row["half_at"] for row in results["rows"]}
    assert half_at[False, 28] == half_at[True, 28]
    assert half_at[False, 56] > half_at[False, 28] + 0.12
    assert abs(half_at[True, 56] - half_at[True, 28]) < 0.03


# What is committed

MEMORY_SIZES = (10, 30, 100, 300, 1000, 2000)


@pytest.mark.parametrize("name", ["memory", "dots", "minority", "resolution"])
def test_committed_results_say_machine_date_and_versions(name):
    results = measured.read(name)
    assert results["machine"] and results["versions"]["torch"] and results["date"] and results["rows"]


def test_an_unknown_set_of_pictures_is_named():
    with pytest.raises(ValueError, match="no pictures called 'nonsense'; committed are bench_samples"):
        measured.read_pictures("nonsense")


def test_shifted_schedules_bring_all_sizes_onto_one_curve():
    rows = measured.read("resolution")["rows"]
    plain, shifted = ([row for row in rows if row["shifted"] is flag] for flag in (False, True))
    for side, low, high in ((28, 0.58, 0.62), (56, 0.77, 0.79), (112, 0.87, 0.90)):
        assert all(low < row["half_at"] < high for row in plain if row["side"] == side)
    assert all(0.58 < row["half_at"] < 0.62 for row in shifted)
    curves = torch.tensor([row["accuracy"] for row in shifted])
    assert float((curves - curves.mean(0)).abs().max()) < 0.05


def mean_over(rows, key, **which):
    """The mean of a key over the rows that have these values."""
    values = [row[key] for row in rows if all(row[name] == value for name, value in which.items())]
    assert values, which
    return sum(values) / len(values)


def memory_gap(results, size, steps):
    """Loss on held-out digits over loss on digits seen, at t = 0.4: means over both halves and all seeds."""
    rows = [row["loss"] for row in results["rows"] if (row["size"], row["steps"]) == (size, steps)]
    return mean_over([loss["held_out"] for loss in rows], "0.4") / mean_over([loss["training"] for loss in rows], "0.4")


def test_few_digits_are_copied_and_many_are_not():
    """What lesson 12 says of 1,000 steps: as digits become fewer, the gap opens first, and the copies come later."""
    results = measured.read("memory")
    rows = [row for row in results["rows"] if row["steps"] == 1000]
    copies = {size: [row["sample"]["copies"] for row in rows if row["size"] == size] for size in MEMORY_SIZES}
    assert sum(map(len, copies.values())) == len(rows) and all(len(values) == 4 for values in copies.values())
    assert min(copies[10]) == 1 and min(copies[30]) > 0.9 and 0.14 < sum(copies[100]) / 4 < 0.19
    assert max(copies[300] + copies[1000] + copies[2000]) == 0
    gap = {size: memory_gap(results, size, 1000) for size in MEMORY_SIZES}
    assert gap[10] > 200 and 6.5 < gap[100] < 8 and 1.2 < gap[300] < 1.3
    assert all(0.95 < gap[size] < 1.05 for size in (1000, 2000))
    for row in rows:
        assert row["held_out"]["copies"] <= (0.03 if row["size"] == 10 else 0.011)
        nearer = row["sample"]["distance"] / row["held_out"]["distance"]
        assert nearer < 0.15 if row["size"] <= 30 else nearer > 0.5


def test_a_hundred_digits_are_copied_if_looked_at_often_enough():
    """The second series of lesson 12: 128 looks at each digit make no copies of any of the four numbers of digits."""
    results = measured.read("memory")
    looks = {(row["size"], row["steps"]): results["batch_size"] * row["steps"] / row["size"] for row in results["rows"]}
    second = [key for key in looks if looks[key] == 128]
    assert second == [(100, 200), (300, 600), (1000, 2000), (2000, 4000)] and looks[100, 1000] == 640
    for row in results["rows"]:
        if (row["size"], row["steps"]) in second:
            assert row["sample"]["copies"] == 0
    gap = {size: memory_gap(results, size, steps) for size, steps in second}
    assert all(1 < value < 1.15 for value in gap.values()) and gap[300] > gap[1000] > gap[2000]
    frechet = {key: mean_over(results["rows"], "frechet", size=key[0], steps=key[1]) for key in looks}
    assert frechet[100, 200] > 2.5 * frechet[100, 1000]  # 200 steps are little training
    assert frechet[2000, 4000] == min(frechet.values()) < 0.6 * frechet[2000, 1000]


@pytest.mark.parametrize("size", [100, 300, 1000, 2000])
def test_longer_training_on_the_same_digits_widens_the_gap_and_parts_twins(size):
    results = measured.read("memory")
    short, long = sorted({row["steps"] for row in results["rows"] if row["size"] == size})
    assert memory_gap(results, size, short) < memory_gap(results, size, long) - 0.01
    twins = [mean_over(results["pairs"], "twins", size=size, steps=steps) for steps in (short, long)]
    assert twins[0] > twins[1] + 0.02


def test_two_halves_of_many_digits_draw_the_same_picture():
    results = measured.read("memory")
    pairs = results["pairs"]
    alike = [mean_over(pairs, "same_noise", size=size, steps=1000) for size in MEMORY_SIZES]
    assert alike == sorted(alike) and alike[0] < 0.4 and alike[-1] > 0.9
    assert all(0.25 < pair["other_noise"] < 0.4 for pair in pairs)
    twins = {size: mean_over(pairs, "twins", size=size, steps=1000) for size in MEMORY_SIZES}
    assert twins[10] == twins[30] == 0 and twins[100] < 0.1 and 0.75 < twins[300] < 0.9
    assert twins[1000] > 0.9 and twins[2000] > 0.9
    assert mean_over(pairs, "twins", size=2000, steps=4000) > 0.9
    assert mean_over(pairs, "twins", size=100, steps=200) > 0.97  # bad pictures of two halves agree, too: most of all


def test_the_kept_samples_are_those_of_the_results():
    """Copies and others: the kept samples of a pair are as near to their half as the rows say."""
    results, kept = measured.read("memory"), measured.read_pictures("memory")
    assert list(kept) == ["100_1000", "2000_4000"]
    for key, samples in kept.items():
        assert samples.shape == (2, 16, 28, 28)
        size, steps = map(int, key.split("_"))
        for which in (0, 1):
            distance = limits.metrics.nearest(samples[which][:, None], limits.half(which, size)[0])[0]
            wanted = (size, steps, which, 0)
            (row,) = [r for r in results["rows"] if (r["size"], r["steps"], r["half"], r["seed"]) == wanted]
            assert float(distance.median()) == pytest.approx(row["sample"]["distance"], rel=0.35)


def test_guidance_drives_out_thin_digits_and_breeds_bold_ones():
    results = measured.read("minority")
    rows = results["rows"]
    thin = [mean_over(rows, "thin", where="everywhere", scale=scale) for scale in (1, 2, 5)]
    bold = [mean_over(rows, "bold", where="everywhere", scale=scale) for scale in (1, 2, 5)]
    right = [mean_over(rows, "accuracy", where="everywhere", scale=scale) for scale in (1, 2, 5)]
    assert thin[0] > 0.05 and thin[1] < 0.02 and thin[2] == 0
    assert bold[0] < 0.1 and 0.15 < bold[1] < 0.2 and bold[2] > 0.38
    assert right == sorted(right) and right[0] < 0.98 and right[2] > 0.999
    assert mean_over(rows, "thin", where="interval", scale=2) > 4 * thin[1]
    assert mean_over(rows, "bold", where="interval", scale=2) < 0.6 * bold[1]
    exact = {(row["place"], row["where"], row["scale"]): row["share"] for row in results["exact"]}
    assert exact["inside", "everywhere", 2] == 0 and exact["outside", "everywhere", 8] > 0.99
    assert {exact["beside", where, scale] for where in ("everywhere", "interval") for scale in (1, 8)} == {0.0975}
    assert exact["outside", "everywhere", 3] == pytest.approx(limits.rare_share("outside", 3), abs=0.002)


def test_the_metrics_like_the_copying_model_better():
    """A hundred digits, a sixth of the samples copies, against a thousand or two and none: who looks better?"""
    rows = [row for row in measured.read("memory")["rows"] if row["steps"] == 1000]
    few, *many = (
        {key: mean_over(rows, key, size=size) for key in ("frechet", "precision", "recall", "coverage")}
        for size in (100, 1000, 2000)
    )
    assert all(few["frechet"] < other["frechet"] - 0.3 for other in many)
    assert all(few["precision"] > other["precision"] + 0.1 for other in many)
    assert all(few["coverage"] > other["coverage"] + 0.1 for other in many)
    assert all(few["recall"] < other["recall"] - 0.15 for other in many)  # the one that does not
    nearly_all_copies = mean_over(rows, "precision", size=30)
    assert nearly_all_copies > measured.read("memory")["floor"]["precision"] - 0.02


def test_pictures_look_right_long_before_they_count_right():
    """Nearly all pictures consist of proper dots, the distance to real ones is at its floor; the number is wrong."""
    results = measured.read("dots")
    rows = [row for row in results["rows"] if row["size"] == 10_000]
    plain = {row["steps"]: row for row in rows if (row["scale"], row["calls"], row["seed"]) == (1, 25, 0)}
    assert sorted(plain) == [125, 250, 500, 1000]
    for steps in (250, 500, 1000):
        assert plain[steps]["proper"] > 0.9 and plain[steps]["right"] < 0.5
        assert plain[steps]["frechet"] < 1.15 * results["floor"]
    for row in plain.values():  # one dot is drawn rightly more often than eight
        assert row["right_by_count"][0] > 0.6 and row["right_by_count"][7] < 0.4
    longer = [row for row in rows if row["calls"] == 100]
    assert {row["eta"] for row in longer} == {0, 1} and all(0.42 < row["right"] < 0.55 for row in longer)


def test_guidance_overshoots_the_number():
    """After 125 steps: asked for one dot it draws none, asked for eight it draws more than there ever were."""
    rows = [row for row in measured.read("dots")["rows"] if row["steps"] == 125 and row["calls"] == 25]
    right = {row["scale"]: row["right"] for row in rows if row["scale"] > 0}
    assert right[1] > right[2] > right[3] > right[5] and right[5] < 1 / 8
    never_seen = {row["scale"]: row["histogram"][0] + sum(row["histogram"][9:]) for row in rows}
    assert never_seen[1] < 20 < 60 < never_seen[2] < never_seen[3] < never_seen[5]
    seldom = next(row["histogram"] for row in rows if row["scale"] == 0)  # no number asked for: the middle only
    assert sum(seldom[3:6]) > 0.8 * sum(seldom) and seldom[1] + seldom[8] < 10  # 100 of 400 real ones have one or eight

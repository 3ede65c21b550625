"""dots: counters against scipy, and what is committed of models that count."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from diffusion_lib import data, measured
from diffusion_lib.experiments import dots
from tests.common import agree, seeded

from .common import CPU, silent

SIDES, CORNERS = ndimage.generate_binary_structure(2, 1), ndimage.generate_binary_structure(2, 2)


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


@pytest.mark.parametrize("share", [0.2, 0.45, 0.6, 0.8])
def test_pieces_are_those_of_scipy(share):
    ink = torch.rand(50, 1, 17, 23, generator=seeded()) < share
    for corners, structure in ((True, CORNERS), (False, SIDES)):
        expected = [ndimage.label(picture, structure)[1] for picture in ink[:, 0].numpy()]
        assert dots.count_pieces(ink, corners).tolist() == expected


def test_a_piece_may_wind_as_long_as_it_likes():
    ink = torch.zeros(1, 1, 15, 15, dtype=torch.bool)
    ink[0, 0, ::2] = True  # a line in every other row, joined at alternating ends: one snake
    ink[0, 0, 1::4, -1], ink[0, 0, 3::4, 0] = True, True
    assert dots.count_pieces(ink).tolist() == [1] == dots.count_pieces(ink, corners=False).tolist()
    assert dots.count_pieces(torch.zeros(2, 1, 4, 4)).tolist() == [0, 0]


def test_dots_that_meet_in_a_corner_are_one_piece():
    x = -torch.ones(3, 1, 16, 16)
    x[:, 0, 4:6, 4:6] = 1
    x[0, 0, 6:8, 6:8], x[1, 0, 6:8, 7:9], x[2, 0, 7:9, 4:6] = 1, 1, 1
    assert dots.count_dots(x).tolist() == [1, 2, 2]
    assert dots.proper_dots(x).tolist() == [False, True, True]


def test_proper_dots_are_squares_of_four():
    x, _ = data.dots(200, seeded())
    assert dots.proper_dots(x).all()
    for wrong in ((slice(4, 6), slice(4, 7)), (slice(4, 5), slice(4, 8)), (slice(4, 5), slice(4, 5))):
        spoilt = -torch.ones(1, 1, 16, 16)
        spoilt[0, 0][wrong] = 1
        assert not dots.proper_dots(spoilt).any(), wrong
    tall = -torch.ones(1, 1, 16, 16)  # eight white pixels, two pieces, but not four and four
    tall[0, 0, 2:4, 2:4], tall[0, 0, 8:10, 8:10] = 1, 1
    tall[0, 0, 3, 3], tall[0, 0, 10, 8] = -1, 1
    assert not dots.proper_dots(tall).any()


def test_holes_are_those_of_scipy():
    x, _ = data.digits("held_out")
    holes = [ndimage.label(ndimage.binary_fill_holes(d, SIDES) ^ d, SIDES)[1] for d in x[:300, 0].numpy() > 0]
    assert dots.count_holes(x[:300]).tolist() == holes
    assert len(set(holes)) > 2


def test_what_is_counted_on_real_and_on_spoilt_pictures():
    x, label = data.dots(400, seeded())
    real = dots.brightness(data.dots(2000, seeded(1))[0])
    right = dots.counted(x, label, real)
    assert right["right"] == right["proper"] == 1 and right["mean_error"] == 0 and right["right_by_count"] == [1] * 8
    assert right["histogram"] == label.bincount(minlength=13).tolist()
    one_more = dots.counted(x, label - 1, real)
    assert one_more["right"] == 0 and one_more["mean_error"] == 1
    # Half the dots wrong, half right: the distance to real pictures hardly sees it.
    shuffled = dots.counted(x, label[torch.randperm(400, generator=seeded())], real)
    assert shuffled["right"] < 0.3 and shuffled["frechet"] == right["frechet"]
    assert "right" not in dots.counted(x, None, real)


def test_a_small_bench_of_dots_trains_and_samples_what_it_says(monkeypatch):
    trained, sampled = [], []

    def sample_dots(model, label, scale, interval=(0, 1), steps=50, eta=0, seed=0):
        sampled.append((model, scale, steps, eta, seed))
        x, count = data.dots(20 * len(label), seeded(seed))
        return torch.stack([x[count == k][i] for i, k in enumerate(label.tolist())])

    monkeypatch.setattr(dots, "train_dots", lambda n, *run: trained.append((n, *run[:2])) or run[:2])
    monkeypatch.setattr(dots, "sample_dots", sample_dots)
    results = dots.measure_dots(CPU, [0, 1], silent, budgets=(250, 300), scales=(1, 3), looks=((7, 1),), n=80)
    assert trained == [(10_000, 250, 0), (10_000, 300, 0), (10_000, 250, 1)]
    short, long, again = ((steps, seed) for _, steps, seed in trained)
    assert sampled == [
        *((model, scale, 25, 0, 0) for model in (short, long) for scale in (1, 3, 0)),
        (long, 1, 7, 1, 0),
        (again, 1, 25, 0, 1),
    ]
    assert all(row["right"] == 1 if row["scale"] > 0 else "right" not in row for row in results["rows"])
    assert all((row["steps"], row["seed"]) == model for row, (model, *_) in zip(results["rows"], sampled))


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

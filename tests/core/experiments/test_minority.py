"""minority: rare kinds against closed forms, rare styles on digits that are known, and the committed claims."""

import pytest
import torch

from diffusion_lib import data, measured, pretrained
from diffusion_lib.experiments import dots, minority

from .common import CPU, mean_over, silent


def test_without_guidance_the_rare_kind_has_its_share():
    for where in minority.PLACES:
        share = minority.rare_share(where, scale=1, n=2000)
        assert abs(share - 0.1) < 5 * (0.1 * 0.9 / 2000) ** 0.5


@pytest.mark.parametrize("where", ["inside", "beside", "outside"])
def test_the_sharpened_density_would_keep_the_rare_share(where):
    """p(x | class)^w p(x)^(1 - w), integrated on a grid: the rare kind keeps its tenth wherever it is, as the kinds do
    not overlap. So what guided sampling does to it is not in that formula."""
    one, both = minority.rare_kinds(where)
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
    shares = {where: minority.rare_share(where, scale=3, n=1000) for where in minority.PLACES}
    assert shares["inside"] < 0.01
    assert shares["beside"] == minority.rare_share("beside", scale=1, n=1000)
    assert shares["outside"] > 0.25
    assert shares["outside"] > minority.rare_share("outside", 3, pretrained.INTERVAL, n=1000) > 0.12


@pytest.mark.parametrize("shear", [-0.5, 0.0, 0.3])
def test_slant_is_the_shear_of_a_bar(shear):
    """A soft upright bar, every row moved by shear * (height above the middle): to the right at the top."""
    row = torch.arange(28.0)[:, None]
    column = torch.arange(28.0)[None, :]
    middle = 13.5 + shear * (13.5 - row)
    bar = 2 * torch.exp(-((column - middle) ** 2) / 2) * ((row > 5) & (row < 22)) - 1
    assert float(minority.slant(bar[None, None])) == pytest.approx(shear, abs=1e-3)


def test_rare_styles_know_the_training_digits_and_what_is_missing():
    x, label = data.digits("held_out")
    found = minority.rare_styles(x, label, x, label)
    assert all(found[style] == pytest.approx(0.1, abs=0.001) for style in ("thin", "bold", "left", "right"))
    assert found["spread of ink"] == found["spread of slant"] == 1
    assert minority.share_of_ink(x[:5]).tolist() == pytest.approx(
        ((x[:5] + 1) / 2).flatten(1).mean(1).tolist(), abs=1e-6
    )

    amount, lean = minority.share_of_ink(x), minority.slant(x)
    middle = torch.zeros(len(x), dtype=torch.bool)
    for k in range(10):
        for value in (amount, lean):
            v = value[label == k]
            v_low, v_high = v.quantile(0.1), v.quantile(0.9)
            middle[label == k] |= (v < v_low) | (v > v_high)
    tame = ~middle  # nobody thin, bold or slanted is left
    found = minority.rare_styles(x[tame], label[tame], x, label)
    assert all(found[style] == 0 for style in ("thin", "bold", "left", "right"))
    assert found["spread of ink"] < 0.7 and found["spread of slant"] < 0.8
    mirrored = minority.rare_styles(x.flip(3), label, x, label)
    assert mirrored["left"] > 0.3 and mirrored["right"] < 0.1


def test_open_digits_and_loops_are_counted_by_their_holes():
    x, label = data.digits("held_out")
    holes = dots.count_holes(x)
    some = (torch.isin(label, torch.tensor([0, 6, 9])) & (holes == 0)) | ((label == 2) & (holes == 1))
    found = minority.rare_styles(x[some], label[some], *data.digits("train"))
    assert found["open"] == found["loop"] == 1


def test_a_small_bench_of_minorities_measures_both_ways(monkeypatch):
    asked = []

    def sample_digits(model, label, scale, interval, steps, eta, seed):
        asked.append((scale, tuple(interval), seed))
        return data.digits("held_out")[0][: len(label)]

    monkeypatch.setattr(pretrained, "sample_digits", sample_digits)
    monkeypatch.setattr(minority, "rare_share", lambda where, scale, interval: 0.1 * scale)
    results = minority.measure_minority(CPU, [0, 1], silent, scales=(1, 4), digit_scales=(3,), n=1000)
    inside = pretrained.INTERVAL
    assert asked == [(*way, seed) for way in ((1, (0, 1)), (3, (0, 1)), (3, inside)) for seed in (0, 1)]
    assert len(results["exact"]) == 3 * 2 * 2 and results["exact"][1]["share"] == 0.4
    assert [row["where"] for row in results["rows"]] == ["everywhere"] * 4 + ["interval"] * 2


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
    assert exact["outside", "everywhere", 3] == pytest.approx(minority.rare_share("outside", 3), abs=0.002)

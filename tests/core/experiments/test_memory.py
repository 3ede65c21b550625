"""memory: halves without a digit in common, copies and twins found where they are, and the committed claims."""

import pytest
import torch
import torch.nn.functional as F

from diffusion_lib import data, measured, metrics
from diffusion_lib.experiments import memory
from diffusion_lib.schedules import Cosine
from tests.common import normal

from .common import CPU, mean_over, silent

MEMORY_SIZES = (10, 30, 100, 300, 1000, 2000)


def test_the_halves_are_disjoint_and_balanced():
    (a, label_a), (b, label_b) = memory.half(0, 2000), memory.half(1, 2000)
    assert label_a.bincount().tolist() == label_b.bincount().tolist() == [200] * 10
    assert torch.cdist(a.flatten(1), b.flatten(1)).min() > 0.5
    assert memory.half(0, 10)[1].sort().values.tolist() == list(range(10))
    torch.testing.assert_close(memory.half(1, 30)[0], b[:30])


@pytest.mark.parametrize("n", [10, 100])
def test_a_model_sees_its_own_digits_and_each_equally_often(monkeypatch, n):
    seen, first = {}, []

    def fit(model, x_0, label, loss_fn, steps, **options):
        seen.update(x_0=F.pixel_shuffle(x_0, 2), steps=steps, **options)
        first.append(model.network.first.weight)
        return model, []

    monkeypatch.setattr(memory.recipes, "fit", fit)
    for which in (0, 1):
        memory.train_half(which, n, steps=7)
        digits, times = torch.unique(seen["x_0"].flatten(1), dim=0, return_counts=True)
        assert len(seen["x_0"]) >= seen["batch_size"] and len(digits) == n and len(set(times.tolist())) == 1
        assert torch.cdist(digits, memory.half(which, n)[0].flatten(1)).min(1).values.max() < 0.1
        assert seen["steps"] == 7 and seen["seed"] == which
    assert not torch.equal(*first)


def test_equal_seeds_start_from_equal_noise():
    """A model that answers with what it was given shows the noise; it is the same noise on every model."""

    class Echo(torch.nn.Module):
        schedule = Cosine()

        def forward(self, x_t, t):
            return x_t

    a, b, c = (memory.sample_half(Echo(), 3, steps=2, seed=seed) for seed in (1, 1, 2))
    torch.testing.assert_close(a, b)
    assert a.shape == (3, 1, 28, 28) and not torch.allclose(a, c)


def test_correlation_is_that_of_the_pixels():
    a, b = normal(4, 1, 5, 5), normal(4, 1, 5, 5, seed=1)
    expected = [torch.corrcoef(torch.stack([p.flatten(), q.flatten()]))[0, 1] for p, q in zip(a, b)]
    torch.testing.assert_close(memory.correlation(a, b), torch.stack(expected))
    torch.testing.assert_close(memory.correlation(a, 3 * a + 1), torch.ones(4, dtype=torch.float64))


def test_twins_are_nearer_to_each_other_than_to_what_was_learnt():
    training_a, training_b = torch.tensor([[0.0, 0.0], [9.0, 9.0]]), torch.tensor([[4.0, 0.0]])
    a = torch.tensor([[1.8, 0.0], [0.1, 0.0], [1.8, 0.0], [9.0, 8.0]])
    b = torch.tensor([[2.1, 0.0], [2.0, 0.0], [3.9, 0.0], [9.0, 7.0]])
    assert memory.twins(a, b, training_a, training_b).tolist() == [True, False, False, False]


def test_nearness_tells_copies_from_new_digits():
    training, held_out = memory.half(0, 100)[0], data.digits("held_out")[0][:200]
    copied = training[torch.arange(200) % 100] + 0.02 * normal(200, 1, 28, 28, dtype=torch.float32)
    result = memory.nearness(copied, held_out, training)
    assert result["sample"]["copies"] == 1 and result["held_out"]["copies"] < 0.02
    assert result["sample"]["distance"] == pytest.approx(0.02 * 28, rel=0.05)
    assert result["sample"]["ratio"] < 0.1 and 0.9 < result["held_out"]["ratio"] < 1


def test_the_loss_of_a_silent_network_is_known():
    """A new network answers 0, so its loss for v is the mean of v^2 = alpha^2 + sigma^2 E x_0^2, at every time."""
    training, held_out = memory.half(0, 30)[0], data.digits("held_out")[0]
    found = memory.losses(memory.new_half_model(), training, held_out, CPU, n=90)
    for name, x_0 in (("training", training), ("held_out", held_out[:90])):
        for t, loss in found[name].items():
            alpha, sigma = (float(scale) for scale in Cosine().scales(float(t), like=x_0))
            assert loss == pytest.approx(alpha**2 + sigma**2 * float((x_0**2).mean()), rel=0.02)


def test_a_small_bench_of_memory_measures_both_halves(monkeypatch):
    """With a "model" that hands back its own training digits, the bench must say: copies, no twins."""

    def sample_half(model, n, device, seed):
        return model[(torch.arange(n) + seed) % len(model)]

    monkeypatch.setattr(memory, "train_half", lambda which, n, steps, device: memory.half(which, n)[0])
    monkeypatch.setattr(memory, "sample_half", sample_half)
    monkeypatch.setattr(memory, "losses", lambda *ignored: {})
    results = memory.measure_memory(
        CPU, [0, 3], silent, plan=((20, 1000), (100, 1000)), n=80, show=((100, 1000),), keep=4
    )
    assert [(row["size"], row["half"], row["seed"]) for row in results["rows"]] == [
        (size, which, seed) for size in (20, 100) for seed in (0, 3) for which in (0, 1)
    ]
    assert all(row["sample"]["copies"] == 1 and row["held_out"]["copies"] < 0.05 for row in results["rows"])
    assert [(pair["size"], pair["seed"], pair["twins"]) for pair in results["pairs"]] == [
        (size, seed, 0) for size in (20, 100) for seed in (0, 3)
    ]
    kept = results["pictures"]
    assert list(kept) == ["100_1000"] and kept["100_1000"].shape == (2, 4, 28, 28)
    torch.testing.assert_close(data.to_unit(kept["100_1000"])[1, 2], memory.half(1, 100)[0][2, 0])


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
            distance = metrics.nearest(samples[which][:, None], memory.half(which, size)[0])[0]
            wanted = (size, steps, which, 0)
            (row,) = [r for r in results["rows"] if (r["size"], r["steps"], r["half"], r["seed"]) == wanted]
            assert float(distance.median()) == pytest.approx(row["sample"]["distance"], rel=0.35)


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

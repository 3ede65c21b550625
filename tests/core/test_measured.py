"""The committed results say how they were made, and the code that made them runs."""

import math
import re
from statistics import mean

import pytest
import torch

from diffusion_lib import measured, pretrained, training


@pytest.mark.parametrize("name", ["headline", "calls", "guidance", "latent"])
def test_results_say_machine_date_and_versions(name):
    results = measured.read(name)
    assert results["machine"] and results["versions"]["torch"] and re.fullmatch(r"\d{4}-\d\d-\d\d", results["date"])
    floor = results["floor"]["frechet"] if name == "guidance" else results["floor"]
    assert floor > 0 and len(results["rows"]) >= 6


@pytest.mark.parametrize("way", ["plain", "guided", "guided everywhere"])
@pytest.mark.parametrize("budget", ["seconds", "steps"])
def test_the_headline_summary_is_that_of_its_rows(budget, way):
    results = measured.read("headline")
    rows = [row[way] for row in results["rows"] if budget in row["budget"]]
    assert len(rows) >= 3
    summary = results["summary"][budget][way]
    assert summary["accuracy"]["worst"] == min(row["accuracy"] for row in rows)
    assert summary["frechet"]["worst"] == max(row["frechet"] for row in rows)
    assert summary["frechet"]["mean"] == pytest.approx(sum(row["frechet"] for row in rows) / len(rows), abs=6e-4)


@pytest.mark.parametrize("budget, accuracy, frechet", [("seconds", 0.95, 1.5), ("steps", 0.99, 0.9)])
def test_the_headline_keeps_its_promise(budget, accuracy, frechet):
    """What the course promises of a minute and of 500 steps, as the mean over the seeds."""
    summary = measured.read("headline")["summary"][budget]["guided"]
    assert summary["accuracy"]["mean"] >= accuracy and summary["frechet"]["mean"] <= frechet


def test_the_headline_trains_and_measures_every_seed_both_ways(monkeypatch):
    trained, graded = [], []

    def train_digits(steps=None, seconds=None, seed=0, device="cpu", batch_size=0):
        trained.append((seed, seconds, steps, batch_size))
        return f"model of seed {seed}", ["one step"] * (steps or 3)

    def quality(model, n, steps, eta, seed):
        graded.append((model, n, steps, eta, seed))
        grades = {"accuracy": 0.9 + 0.01 * seed, "frechet": 1.0 + seed, "floor": 0.5}
        return {way: grades for way in ("plain", "guided", "guided everywhere")}

    monkeypatch.setattr(measured.pretrained, "train_digits", train_digits)
    monkeypatch.setattr(measured.pretrained, "quality", quality)
    results = measured.headline(torch.device("cpu"), [1, 2], lambda line: None)
    assert trained == [(seed, *run) for seed in (1, 2) for run in ((60, None, 128), (None, 500, 256))]
    assert graded == [(f"model of seed {seed}", 300, 50, 0.5, seed) for seed in (1, 1, 2, 2)]
    assert [row["images"] for row in results["rows"]] == [3 * 128, 500 * 256] * 2
    assert results["summary"]["steps"]["guided"]["accuracy"] == {"mean": 0.915, "worst": 0.91}
    assert results["summary"]["seconds"]["plain"]["frechet"] == {"mean": 2.5, "worst": 3.0}
    assert results["floor"] == 0.5


def test_latents_and_pixels_are_measured_alike():
    results = measured.latent(torch.device("cpu"), [0], lambda line: None, n=70, steps=2, batch_size=2, repeats=1)
    assert [row["model"] for row in results["rows"]] == ["pixels", "latent"]
    cost = results["cost"]
    # Counted by hand: each convolution's weights work once at every place of its output.
    decoder = (4 * 64 * 9 + 64 * 32 * 16) * 49 + 32 * 32 * 16 * 196 + 32 * 9 * 784
    encoder = 32 * 9 * 196 + (32 * 64 * 9 + 64 * 4 * 9) * 49
    assert cost["decode"]["multiply_adds"] == decoder and cost["encode"]["multiply_adds"] == encoder
    assert cost["latent"]["multiply_adds"] < cost["pixels"]["multiply_adds"] / 3
    assert cost["latent"]["numbers_an_image"] * 4 == cost["pixels"]["numbers_an_image"] == 784
    assert all(part["seconds"] > 0 for part in cost.values())
    assert results["reconstructed"]["accuracy"] > 0.95


def test_counting_characters_is_the_formula_written_out():
    """Every probability from its counts in plain Python, on a text of three lines."""
    train, held_out = torch.tensor([[0, 1, 0, 1], [0, 1, 1, 0], [1, 1, 0, 1]]), torch.tensor([[0, 1, 1, 1]])

    def p(strength):  # of the held-out line, one token after the other
        total = 0.0
        for i in range(4):
            share = 1 / 2
            for length in range(3):
                before = [2] * 4 + held_out[0].tolist()  # 2: the beginning
                context = before[i + 4 - length : i + 4]
                rows = [[2] * 4 + row for row in train.tolist()]
                places = [(row, j) for row in rows for j in range(4, 8) if row[j - length : j] == context]
                seen = sum(row[j] == held_out[0, i] for row, j in places)
                share = (seen + strength * share) / (len(places) + strength)
            total -= math.log2(share)
        return total / 4

    for strength in (1.0, 5.0):
        got = measured.count_characters(train, held_out, 3, 2, strengths=(strength,))
        assert got == pytest.approx(p(strength))
    best = measured.count_characters(train, held_out, 3, 2, strengths=(1.0, 5.0))
    assert best == pytest.approx(min(p(1.0), p(5.0)))


def test_the_committed_text_results_bear_out_what_is_said_of_them():
    """As means over three seeds; the rows of lesson 10's figures."""
    results = measured.read("text")
    assert results["machine"] and results["n"] == 500

    def right(model, order, calls):
        rows = [
            row["right"]
            for row in results["sums"]
            if (row["model"], row["order"]) == (model, order) and row["calls"] == calls
        ]
        assert len(rows) == 3
        return sum(rows) / 3

    for order in ("shuffled", "confidence"):
        assert right("exact", order, 9) == 1
        share = [right("masked", order, calls) for calls in (3, 4, 6, 9)]
        assert share == sorted(share) and right("exact", order, 3) < 0.5
    assert right("masked", "shuffled", 9) > 0.93 > right("masked", "confidence", 9) > right("masked", "random", 9)
    assert right("masked", "confidence", 3) < 0.1 < right("masked", "random", 3) < right("masked", "shuffled", 3)
    assert right("left_to_right", "left to right", 9) > 0.99
    for row in results["sums"]:  # sums that were never seen are a tenth of all, and of what is written
        assert row["calls"] < 6 or abs(row["held_out"] - 0.1) < 0.05
    nats = results["sums_nats"]
    assert nats["masked"]["held_out"] > nats["left_to_right"]["held_out"] > nats["masked_in_order"]["held_out"]
    assert nats["masked_in_order"]["held_out"] > nats["entropy"]
    bits = results["english_bits"]
    lengths = {(row["model"], row["steps"]): row for row in results["english_lengths"]}
    left, masked = ({s: row for (m, s), row in lengths.items() if m == name} for name in ("left_to_right", "masked"))
    for name, steps in [("left_to_right", 400), ("text", 10_000)]:  # the shipped models, each at its best
        assert pretrained.card(name.replace("left_to_right", "text_left_to_right"))["steps"] == steps
    assert min(left, key=lambda s: left[s]["held_out"]) == 400
    assert left[400]["held_out"] == bits["left_to_right"]["held_out"] < bits["fivegram"]["held_out"]
    assert bits["fivegram"]["held_out"] < bits["masked_in_order"]["held_out"] < bits["masked"]["held_out"]
    assert masked[1500]["held_out"] > masked[4500]["held_out"] > bits["masked"]["held_out"]  # still getting better
    assert masked[1500]["held_out"] < left[1500]["held_out"] and left[1500]["train"] < 1  # learned by heart

    def words(model, order, calls):
        return mean(
            row["words"]
            for row in results["english"][1:]
            if (row["model"], row["order"], row["calls"]) == (model, order, calls)
        )

    assert words("left_to_right", "left to right", 48) > words("masked", "confidence", 48)
    assert words("masked", "confidence", 48) > words("masked", "shuffled", 48) + 0.1  # one at a time
    assert all(words("masked", "confidence", T) < words("masked", "shuffled", T) for T in (4, 12, 24))


def test_words_end_at_hyphens_and_points():
    assert measured.words_of(["a built-in one. it's", "so"]) == ["a", "built", "in", "one", "it's", "so"]


def test_a_small_bench_writes_both_ways(monkeypatch):
    """Untrained models: every row is there, calls are counted, the exact denoiser is right with a token a step."""
    for name in ("sums", "text"):
        new = getattr(measured.pretrained, f"new_{name}_model")
        monkeypatch.setattr(measured.pretrained, name, lambda device, new=new: new())
        monkeypatch.setattr(
            measured.pretrained, f"{name}_left_to_right", lambda device, new=new: new(left_to_right=True)
        )
    monkeypatch.setattr(measured, "nats_of", lambda model, name, *options, **more: {"held_out": 1.0})
    results = measured.text(
        torch.device("cpu"),
        [0],
        lambda line: None,
        n=12,
        lines=3,
        steps=(1, 9),
        text_steps=(2,),
        repeats=1,
        lengths={"masked": (1,), "left_to_right": (2,)},
    )
    assert [(row["model"], row["steps"]) for row in results["english_lengths"]] == [("masked", 1), ("left_to_right", 2)]
    rows = [(row["model"], row["order"], row["calls"]) for row in results["sums"]]
    orders = ("random", "shuffled", "confidence")
    ways = [(model, order, calls) for model in ("masked", "exact") for order in orders for calls in (1, 9)]
    assert rows == [*ways, ("left_to_right", "left to right", 9)]
    for row in results["sums"]:
        if row["model"] == "exact" and row["calls"] == 9 and row["order"] != "random":
            assert row["right"] == 1 and row["different"] > 10
    assert [row["model"] for row in results["english"]] == [
        "held-out lines",
        "masked",
        "masked",
        "masked",
        "left_to_right",
    ]
    assert results["english"][0]["words"] == 1
    assert all(seconds > 0 for seconds in results["seconds"].values()) and len(results["seconds"]) == 3
    assert {row["missing"] for row in results["blanks"]} == {"result", "second number"}
    bits = results["english_bits"]
    assert bits["fivegram"]["held_out"] < bits["trigram"]["held_out"] < 4


def test_unknown_results_are_named():
    with pytest.raises(ValueError, match="no results called 'nonsense'; committed are .*calls.*headline"):
        measured.read("nonsense")


def test_a_small_bench_counts_the_calls_of_every_sampler(monkeypatch):
    counted = []
    digits = measured.pretrained.digits

    def counting(device):
        model = digits(device)
        model.network.register_forward_hook(lambda *_: counted.append(1))
        return model

    monkeypatch.setattr(measured.pretrained, "digits", counting)
    results = measured.calls(torch.device("cpu"), [0], lambda line: None, n=70, budgets=(2,), long_budgets=(3,))
    calls = [(row["sampler"], row["calls"]) for row in results["rows"]]
    ddpm = [(name, budget) for name in ("ddpm", "ddpm_large") for budget in (2, 3)]
    assert calls == [*ddpm, ("ddim", 2), ("heun", 1), ("dpm_solver", 2)]
    assert len(counted) == sum(budget for _, budget in calls)


def test_the_curve_of_scales_buys_fidelity_with_diversity():
    """What lesson 08 says of the committed numbers, as means over the seeds."""
    results = measured.read("guidance")

    def over_seeds(where, scale, key):
        values = [row[key] for row in results["rows"] if (row["where"], row["scale"]) == (where, scale)]
        assert len(values) == 3, (where, scale)
        return sum(values) / 3

    assert over_seeds("everywhere", 2, "precision") > over_seeds("everywhere", 1, "precision") + 0.03
    recall = [over_seeds("everywhere", scale, "recall") for scale in (0.5, 1, 1.5, 2, 3, 5, 8)]
    assert recall == sorted(recall, reverse=True)
    assert over_seeds("everywhere", 8, "precision") < over_seeds("everywhere", 3, "precision")
    for scale in (1.5, 2, 3, 5, 8):
        assert over_seeds("interval", scale, "recall") > over_seeds("everywhere", scale, "recall")
        assert over_seeds("interval", scale, "frechet") < over_seeds("everywhere", scale, "frechet")
    assert results["floor"]["frechet"] == measured.read("calls")["floor"]


def test_a_small_bench_measures_every_scale(monkeypatch):
    asked = []

    def sample_digits(model, label, scale, interval, steps, eta, seed):
        asked.append((scale, tuple(interval), seed))
        return measured.data.digits("held_out")[0][seed * 70 : seed * 70 + 70]

    monkeypatch.setattr(measured.pretrained, "sample_digits", sample_digits)
    results = measured.guidance_scales(torch.device("cpu"), [0, 1], lambda line: None, n=70, scales=(1, 2))
    inside = measured.pretrained.INTERVAL
    ways = [(1, (0, 1)), (2, (0, 1)), (2, inside)]
    assert asked == [(*way, seed) for way in ways for seed in (0, 1)]
    assert {key: results["rows"][0][key] for key in results["floor"]} == results["floor"]  # seed 0 are those digits
    assert [row["where"] for row in results["rows"]] == ["everywhere"] * 4 + ["interval"] * 2


def test_the_recorded_minute_is_lesson_04_s():
    """What stands in when the lesson is presented: eight looks, the digits legible at the end."""
    results, pictures = measured.read("minute"), measured.read_pictures("minute")
    looks = results["looks"]
    assert len(looks) == len(measured.LOOKS) + 1 and results["machine"]
    wanted = [60 * share for share in (*measured.LOOKS, 1)]
    assert all(share <= look["seconds"] < share + 4 for share, look in zip(wanted, looks)), looks
    steps, losses = ([look[key] for look in looks] for key in ("step", "average loss"))
    assert steps == sorted(steps) and steps[-1] >= 200 and losses[0] > 0.4 and losses[-1] < 0.15
    for name in ("raw", "average"):
        assert pictures[name].shape == (8, 10, 1, 28, 28)
    last = pictures["average"][-1]
    assert pretrained.classifier()(last).argmax(1).tolist() == list(range(10))


def test_a_minute_is_looked_at_as_it_goes(monkeypatch):
    """On a clock that each step moves by a second."""
    said, now, update = [], [0.0], training.EMA.update

    def step(ema):
        now[0] += 1
        update(ema)

    monkeypatch.setattr(training.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(training.EMA, "update", step)
    results = measured.minute(torch.device("cpu"), [3], said.append, seconds=1)
    looks, pictures = results["looks"], results["pictures"]
    assert len(said) == len(looks) == 2 and looks[0]["step"] == 1 and results["seed"] == 3
    assert {*looks[0]} == {"seconds", "step", "raw loss", "average loss"} and 0.9 < looks[0]["average loss"] < 1.1
    for name in ("raw", "average"):
        assert pictures[name].shape == (2, 10, 1, 28, 28) and str(pictures[name].dtype) == "uint8"
    assert pictures["raw"][0].std() > 1

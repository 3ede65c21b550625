"""text: what sequences cost a model, counting characters, and both ways of writing; the committed claims."""

import math
from statistics import mean

import pytest
import torch

from diffusion_lib import data, measured, pretrained, recipes, tokens
from diffusion_lib.experiments import text
from diffusion_lib.networks import Transformer
from diffusion_lib.schedules import Linear
from tests.common import agree, seeded

from .common import CPU, silent


def test_right_sums_are_those_that_python_finds_right():
    lines = ["12+07=019", "99+99=198", "12+07=119", "1_+07=019", "12=07+019", "12+7=0019", "01+02=003", "12+07=018"]
    right = text.right_sums(tokens.encode(lines, data.SUM_SYMBOLS))
    assert right.tolist() == [True, True, False, False, False, False, True, False]
    assert text.right_sums(data.sums("all")).all()


def test_the_nats_of_a_sequence_are_its_loss():
    """Exact from left to right. Masked: an untrained network costs log V for each token on average; so it does with the
    exact loss taken off and its mean put back."""
    x_0, V = data.sums("held_out")[:200], len(data.SUM_SYMBOLS)
    other = recipes.new_sums_model(left_to_right=True)
    torch.testing.assert_close(text.nats(other, x_0), other.loss(x_0))
    model = recipes.new_sums_model()
    plain, paired = text.nats(model, x_0), text.nats(model, x_0, data.sums("all"))
    agree(plain, 9 * math.log(V))
    agree(paired, 9 * math.log(V))


def test_a_fixed_order_makes_the_nats_of_a_masked_model_exact():
    """Its probabilities sum to 1 over all sequences; and they are the product of its answers."""
    torch.manual_seed(0)
    network = Transformer(2, 3, width=8, depth=1, heads=2)
    with torch.no_grad():
        network.final.weight += torch.randn(2, 8, generator=seeded())
    model = tokens.MaskedDenoiser(network, Linear())
    x_0 = torch.tensor([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    p = (-text.nats_in_order(model, x_0)).exp()
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))
    with torch.no_grad():
        answers = [model(torch.tensor([row]), 0.5)[0].exp() for row in ([2, 2, 2], [1, 2, 2], [1, 0, 2])]
    right = answers[0][0, 1] * answers[1][1, 0] * answers[2][2, 1]
    torch.testing.assert_close(p[5], right)  # 101


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
        got = text.count_characters(train, held_out, 3, 2, strengths=(strength,))
        assert got == pytest.approx(p(strength))
    best = text.count_characters(train, held_out, 3, 2, strengths=(1.0, 5.0))
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
    assert text.words_of(["a built-in one. it's", "so"]) == ["a", "built", "in", "one", "it's", "so"]


def test_a_small_bench_writes_both_ways(monkeypatch):
    """Untrained models: every row is there, calls are counted, the exact denoiser is right with a token a step."""
    for name in ("sums", "text"):
        new = getattr(recipes, f"new_{name}_model")
        monkeypatch.setattr(pretrained, name, lambda device, new=new: new())
        monkeypatch.setattr(pretrained, f"{name}_left_to_right", lambda device, new=new: new(left_to_right=True))
    monkeypatch.setattr(text, "nats_of", lambda model, name, *options, **more: {"held_out": 1.0})
    results = text.measure_text(
        CPU,
        [0],
        silent,
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

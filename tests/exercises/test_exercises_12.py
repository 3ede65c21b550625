"""Exercises of lesson 12: the solutions against the world outside the exercise, right answers in other forms."""

from functools import partial
from statistics import mean, stdev

import numpy as np
import pytest
import torch

from diffusion_lib import costs, guidance, samplers
from diffusion_lib.exercises.engine import Untouched, verdict
from diffusion_lib.exercises.lesson_12 import CLAIMS, EXERCISES, QUESTIONS, REPORT, VERDICTS, WORDS
from diffusion_lib.schedules import Cosine, Linear, Shifted


def solution(number):
    return EXERCISES[number].solution


def judged(number, answer):
    return verdict(EXERCISES[number], answer)


@pytest.mark.parametrize("side, kernel, stride", [(10, 3, 1), (7, 3, 2), (9, 5, 4), (28, 1, 3), (13, 7, 2)])
def test_the_convolution_is_what_torch_counts(side, kernel, stride):
    layer = torch.nn.Conv2d(6, 4, kernel, stride=stride, padding=kernel // 2)
    counted = costs.multiply_adds(partial(layer, torch.zeros(1, 6, side, side)))
    assert solution("12.1")(6, 4, kernel, side, stride) == counted


@pytest.mark.parametrize("sampler, guided", [("ddim", False), ("ddim", True), ("heun", False), ("heun", True)])
def test_the_estimate_is_what_a_sampler_asks(sampler, guided):
    asked = []

    def network(x_t, t):
        asked.append(len(x_t))
        return 0.5 * x_t

    denoiser = guidance.classifier_free(network, network, 2.0) if guided else network
    for batch in torch.zeros(70, 2).split(32):  # three batches, the last of them not full
        samplers.last(getattr(samplers, sampler)(denoiser, Cosine(), batch, samplers.time_grid(9)))
    seconds, energy = solution("12.2")(70, 9, sampler, guided, 32, seconds_per_call=1.0, watts=3600.0)
    assert seconds == len(asked) and energy == pytest.approx(len(asked))
    assert energy == costs.energy(seconds, 3600.0)


def test_the_test_for_copies_has_the_rate_of_false_alarms_that_was_asked_for():
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    training, held_out, fresh = draw(200, 3), draw(2000, 3), draw(2000, 3)
    for share in (0.05, 0.3):
        called = solution("12.3")(fresh, training, held_out, share).double().mean()
        spread = (share * (1 - share) * (1 / 2000 + 1 / 2000)) ** 0.5  # the luck of both sets
        assert abs(called - share) < 4 * spread
    assert solution("12.3")(training + 1e-6 * draw(200, 3), training, held_out, 0.05).all()


@pytest.mark.parametrize("side, new_side", [(28, 56), (28, 112), (64, 32), (28, 28)])
def test_the_shifted_time_is_that_of_the_shifted_schedule(side, new_side):
    t = torch.linspace(0.01, 0.99, 25, dtype=torch.float64)
    later = solution("12.4")(t, side, new_side)
    assert torch.allclose(Linear().log_snr(later), Shifted(Linear(), new_side / side).log_snr(t), atol=1e-9)


def test_the_report_bears_out_the_verdicts():
    rows = {row["method"]: row for row in REPORT}
    ours, rival, wide, small = (rows[name] for name in ("ours", "rival", "ours-wide", "ours-small"))
    assert abs(mean(ours["frechet"]) - mean(rival["frechet"])) < 0.5 * stdev(ours["frechet"])
    assert len(rows["ours-large"]["frechet"]) == 1 and rival["n"] != small["n"] and small["floor"] is None
    assert mean(rows["gan"]["frechet"]) > 2 * mean(rival["frechet"])
    assert rows["gan"]["tuning_runs"] == 0 < rival["tuning_runs"]
    assert [name for name, row in rows.items() if row["shown"] == "best"] == ["ours-early"]
    assert mean(rows["ours-early"]["frechet"]) < mean(ours["frechet"])
    same = ("n", "floor", "tuning_runs", "shown")
    assert [wide[key] for key in same] == [rival[key] for key in same] and len(wide["frechet"]) == 3
    assert mean(rival["frechet"]) - mean(wide["frechet"]) > 4 * stdev(rival["frechet"] + [min(rival["frechet"])])
    assert wide["steps"] * (1 + wide["guidance"]) == rival["steps"] * (1 + rival["guidance"])
    assert not any("cop" in key for row in REPORT for key in row)
    assert set(VERDICTS) == set(CLAIMS) == set(QUESTIONS) and set(VERDICTS.values()) == set(WORDS)


def by_log_odds(t, side, new_side):
    odds = torch.logit(t) + torch.log(torch.tensor(new_side / side, dtype=t.dtype))
    return torch.sigmoid(odds)


def by_sorting(samples, training, held_out, false_alarms):
    fresh = ((held_out[:, None] - training) ** 2).sum(-1).amin(1).sort().values
    return ((samples[:, None] - training) ** 2).sum(-1).amin(1) <= fresh[int(false_alarms * len(fresh))]


OTHER_FORMS = {
    "12.1": lambda c, d, kernel, side, stride=1: torch.tensor(
        c * d * kernel * kernel * ((side - 1) // stride + 1) ** 2
    ),
    "12.2": lambda *case: list(solution("12.2")(*case)),
    "12.3": by_sorting,
    "12.4": by_log_odds,
    "12.5": {k: word.upper() for k, word in reversed(VERDICTS.items())},
}


@pytest.mark.parametrize("number", OTHER_FORMS)
def test_right_answers_in_other_forms_are_right(number):
    assert judged(number, OTHER_FORMS[number]) is None


def test_numbers_may_be_numpy_s_and_in_single_precision():
    def by_numpy(c, d, kernel, side, stride=1):
        return np.prod([c, d, kernel**2, (-(-side // stride)) ** 2])

    assert judged("12.1", by_numpy) is None
    assert judged("12.2", lambda *case: torch.tensor(solution("12.2")(*case), dtype=torch.float32)) is None


def test_claims_may_be_judged_one_by_one():
    with pytest.raises(Untouched):
        judged("12.5", dict.fromkeys(CLAIMS, ...))
    some = {k: word if k < 4 else ... for k, word in VERDICTS.items()}
    assert judged("12.5", some) == "What you have is right. Still open: claim 4, 5, 6, 7, 8, 9."
    assert "The keys are" in judged("12.5", {"1": "supported"})
    assert "none of the words" in judged("12.5", VERDICTS | {2: "luck"})

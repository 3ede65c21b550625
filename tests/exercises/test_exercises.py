"""Every exercise of every lesson: solved, in other forms, mistaken, untouched, nonsense."""

import random
import re
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_lib import exercises
from diffusion_lib.exercises import check
from diffusion_lib.exercises.engine import faults, verdict

FOLDER = Path(exercises.__file__).parent
LESSONS = sorted(re.findall(r"lesson_(\d\d)\.py", " ".join(path.name for path in FOLDER.iterdir())))
ALL = {
    number: exercise
    for lesson in LESSONS
    for number, exercise in import_module(f"diffusion_lib.exercises.lesson_{lesson}").EXERCISES.items()
}
every_exercise = pytest.mark.parametrize("number", ALL)


def said(capsys, number, answer):
    """The one message that `check` prints."""
    capsys.readouterr()
    check(number, answer)
    text = capsys.readouterr().out
    assert text.startswith(f"{number} ") and text.endswith("\n") and text.count(f"{number} ") == 1, text
    return text.removeprefix(f"{number} ").rstrip()


def test_the_length_of_ddpm_s_chain_is_the_one_that_the_solution_names():
    """The notebook's text says 457."""
    assert ALL["01.4"].solution(1e-4, 0.02, 0.01) == 457
    assert "it is 457" in (FOLDER.parents[1] / "notebooks" / "01_forward_noising.ipynb").read_text(encoding="utf8")


def test_right_answers_of_lesson_11_in_other_forms():
    Normal, kl = torch.distributions.Normal, torch.distributions.kl_divergence

    def with_torch_s_own(mean, log_variance):
        return kl(Normal(mean, (log_variance / 2).exp()), Normal(torch.zeros_like(mean), 1.0)).sum(1)

    def by_the_logit(p, q):
        D = torch.sigmoid((p / q).log())
        return D, -torch.xlogy(p, D).sum() - torch.special.xlog1py(q, -D).sum()

    def with_a_little_added(p, q):
        D = p / (p + q)
        return D, float(-(p * (D + 1e-12).log() + q * (1 - D + 1e-12).log()).sum())

    def bet_in_capitals(bet):
        return {name: tuple(m.upper() for m in value) if name in order else value for name, value in bet.items()}

    order = ("quality", "diversity")
    assert verdict(ALL["11.1"], lambda mean, log_variance, noise: mean + noise * log_variance.exp().sqrt()) is None
    assert verdict(ALL["11.2"], with_torch_s_own) is None
    assert verdict(ALL["11.3"], by_the_logit) is None and verdict(ALL["11.3"], with_a_little_added) is None
    assert verdict(ALL["11.4"], bet_in_capitals(ALL["11.4"].solution)) is None
    assert verdict(ALL["11.4"], ALL["11.4"].solution | {"cells that hold": 0}) is None


def test_sentences_may_be_rounded_lists():
    def rounded(runs):
        return [[*claim[:4], [round(float(f"{v:.4g}"), 6) for v in claim[4]]] for claim in ALL["11.5"].solution(runs)]

    assert verdict(ALL["11.5"], rounded) is None


def test_results_that_are_still_open_are_named(capsys):
    conversions = ALL["02.2"].solution

    def half(*inputs):
        from_noise, _, from_score, _ = conversions(*inputs)
        return from_noise, ..., from_score, ...

    def half_wrong(*inputs):
        from_noise, *_ = conversions(*inputs)
        return -from_noise, ..., ..., ...

    assert said(capsys, "02.2", half) == (
        "not yet. What you have is right. Of its 4 results these are still `...`: number 2, 4."
    )
    assert "noise" in said(capsys, "02.2", half_wrong) and "right" not in said(capsys, "02.2", half_wrong)
    assert said(capsys, "00.2", lambda alpha_bar: (alpha_bar**0.5, ...)).endswith("still `...`: number 2.")
    assert said(capsys, "02.2", lambda *inputs: (..., ..., ..., ...)).startswith("not attempted yet.")


# -------------------------------------------------------------------------------------- every exercise


@every_exercise
def test_right_answers_are_right(number, capsys):
    """The solution and the other forms; and nothing outside the check notices that it draws."""
    for name, answer in {"the solution": ALL[number].solution, **ALL[number].accepted}.items():
        before = states()
        text = said(capsys, number, like(answer, careless))
        assert text.startswith("correct."), (name, text)
        assert states() == before


def states():
    torch_s, numpy_s = torch.random.get_rng_state().tolist(), np.random.get_state()[1].tolist()
    return torch_s, random.getstate(), numpy_s, torch.is_grad_enabled(), torch.get_default_dtype()


def careless(part):
    """The same function, but it draws from everywhere."""
    if not callable(part):
        return part

    def answer(*arguments, **options):
        torch.rand(3), random.random(), np.random.rand()
        return part(*arguments, **options)

    return answer


@every_exercise
def test_known_mistakes_are_told_by_their_symptoms(number):
    exercise = ALL[number]
    said_of = {name: verdict(exercise, answer) for name, (answer, _) in exercise.mistakes.items()}
    for name, (_, words) in exercise.mistakes.items():
        text = said_of[name]
        assert text and words in text, (name, text)
        assert "this came up" not in text, ("the check itself stumbled", name, text)
        assert len(words) > 3 and not all(words in other for other in said_of.values()), (name, "fits every mistake")
    assert len(set(said_of.values())) >= 3 and exercise.remark
    assert faults(exercise) == []


def like(answer, change):
    """An answer of the same form (a function, a class, a tuple or dict of them, a value) with its leaves changed."""
    if isinstance(answer, tuple):
        return tuple(like(part, change) for part in answer)
    if isinstance(answer, list):
        return [like(part, change) for part in answer]
    if isinstance(answer, dict):
        return {key: like(part, change) for key, part in answer.items()}
    return change(answer)


def function_or(value, result):
    """A function that gives `result` in place of a function, and `result` itself in place of a value."""
    return (lambda *a, **k: result) if callable(value) else result


def test_untouched_answers_are_not_attempted(capsys):
    for number, exercise in ALL.items():
        stub = like(exercise.solution, lambda part: function_or(part, ...))
        for answer in (..., stub):
            before = states()
            assert said(capsys, number, answer).startswith("not attempted yet"), number
            assert states() == before


def raises(*arguments, **options):
    raise RuntimeError("my own mistake")


def strange(part):
    class Strange:
        def __getattr__(self, name):
            raise RuntimeError("strange")

    return function_or(part, Strange())


NONSENSE = {
    "None": None,
    "a number": 42,
    "a word": "fast",
    "an empty list": [],
    "an empty dict": {},
    "an object": object(),
    "a tensor": torch.zeros(2),
    "a type": int,
    "a function that raises": raises,
    "a function without arguments": lambda: None,
    "a generator": (k for k in range(3)),
}
SHAPED = {
    "raises": lambda part: raises if callable(part) else "wrong",
    "returns None": lambda part: function_or(part, None),
    "returns a number": lambda part: function_or(part, 0.5),
    "returns a word": lambda part: function_or(part, "fast"),
    "returns an empty tensor": lambda part: function_or(part, torch.zeros(0)),
    "returns a tensor of another shape": lambda part: function_or(part, torch.ones(7, 5)),
    "returns nan": lambda part: function_or(part, torch.tensor(float("nan"))),
    "returns whole numbers": lambda part: function_or(part, torch.ones(2, dtype=torch.int64)),
    "returns a pair": lambda part: function_or(part, (torch.ones(2), torch.ones(2))),
    "returns an empty list": lambda part: function_or(part, []),
    "returns a generator": lambda part: function_or(part, (k for k in range(3))),
    "returns a strange object": strange,
    "leaves": lambda part: sys.exit if callable(part) else "wrong",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_never_raises_and_is_never_right(name, capsys):
    for number in ALL:
        text = said(capsys, number, NONSENSE[name])
        assert text.startswith(("not yet. ", "not attempted")), (number, text)


@pytest.mark.parametrize("name", SHAPED)
def test_nonsense_in_the_form_of_an_answer_is_wrong(name, capsys):
    for number, exercise in ALL.items():
        text = said(capsys, number, like(exercise.solution, SHAPED[name]))
        assert text.startswith("not yet. "), (number, text)


def test_every_number_belongs_to_its_lesson():
    for lesson in LESSONS:
        numbers = list(import_module(f"diffusion_lib.exercises.lesson_{lesson}").EXERCISES)
        assert numbers == [f"{lesson}.{k}" for k in range(1, len(numbers) + 1)]

"""exercises: the engine on a toy, then every exercise of every lesson: solved, mistaken, untouched, nonsense."""

import random
import re
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_lib import exercises
from diffusion_lib.exercises import Exercise, Unfinished, Untouched, ask, ask_tensor, check, compare, describe, verdict
from tests.common import normal

FOLDER = Path(exercises.__file__).parent
LESSONS = sorted(re.findall(r"lesson_(\d\d)\.py", " ".join(path.name for path in FOLDER.iterdir())))
ALL = {
    number: exercise
    for lesson in LESSONS
    for number, exercise in import_module(f"diffusion_lib.exercises.lesson_{lesson}").EXERCISES.items()
}
MISTAKES = [(number, name) for number, exercise in ALL.items() for name in exercise.mistakes]
every_exercise = pytest.mark.parametrize("number", ALL)


def said(capsys, number, answer):
    """The one message that `check` prints."""
    capsys.readouterr()
    check(number, answer)
    text = capsys.readouterr().out
    assert text.startswith(f"{number} ") and text.endswith("\n") and text.count(f"{number} ") == 1, text
    return text.removeprefix(f"{number} ").rstrip()


# ----------------------------------------------------------------------------------- the engine, a toy


def twice(x):
    return 2 * x


def look(answer):
    x = normal(3, 2)
    return compare(ask_tensor(answer, x, shape=(3, 2)), 2 * x, {"Three times?": 3 * x}, what="the double")


@pytest.fixture
def toy(monkeypatch):
    exercise = Exercise(test=look, solution=twice, mistakes={"three": (lambda x: 3 * x, "Three")}, remark="Well done.")
    monkeypatch.setattr(exercises, "find", lambda number: exercise)


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


def test_the_variances_may_come_from_the_schedule_s_own_betas():
    def from_betas(schedule, T):
        large = schedule.betas(T)
        signal = (1 - large).cumprod(0)
        small = large * (1 - torch.cat([signal.new_ones(1), signal[:-1]])) / (1 - signal)
        return small, large, int((small / large < 0.9).sum())

    assert verdict(ALL["05.3"], from_betas) is None


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


def test_the_toy_s_messages(toy, capsys):
    assert said(capsys, "00.0", twice) == "correct. Well done."
    assert said(capsys, "00.0", lambda x: 3 * x) == "not yet. Three times?"
    assert said(capsys, "00.0", ...).startswith("not attempted yet. The lesson goes on")
    assert said(capsys, "00.0", lambda x: ...).startswith("not attempted yet.")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: None, "It returns None: is the return missing?"),
        (lambda x: 1 / 0, r"Called with float64 \(3, 2\), it stops with ZeroDivisionError: division by zero"),
        (lambda: 1, "it stops with TypeError"),
        (lambda x: x[0], r"the result has shape \(2,\); expected \(3, 2\)"),
        (lambda x: x / 0, "nan or infinite numbers"),
        (lambda x: "2x", "A tensor is expected, and this is '2x'"),
        (lambda x: x.tolist(), "A tensor is expected, and this is"),
        (lambda x: x, "the double differs most at"),
        (42, "A function is expected here, and this is a int"),
        (None, "A function is expected here, and this is a NoneType"),
    ],
)
def test_the_toy_names_what_it_sees(toy, capsys, answer, words):
    text = said(capsys, "00.0", answer)
    assert text.startswith("not yet. ") and re.search(words, text), text


def test_an_error_names_the_line_of_the_student_s_function(toy, capsys):
    def mine(x):
        y = 2 * x
        return y.no_such_thing

    text = said(capsys, "00.0", mine)
    assert "AttributeError" in text and "return y.no_such_thing" in text


def test_a_fault_of_the_check_itself_is_a_message(capsys, monkeypatch):
    def faulty(answer):
        raise KeyError("inside")

    monkeypatch.setattr(exercises, "find", lambda number: Exercise(test=faulty, solution=twice))
    assert "While looking at your answer this came up: KeyError: 'inside'" in said(capsys, "00.0", twice)


def test_ask_notices_a_stub_among_several_results():
    with pytest.raises(Untouched):
        ask(lambda x: (..., ...), 1)
    with pytest.raises(Unfinished, match="Of its 3 results these are still `...`: number 2, 3"):
        ask(lambda x: (x, ..., ...), 1)
    assert ask(lambda x, y=0: (x, y), 1, y=2) == (1, 2)


def test_compare():
    right = torch.tensor([1.0, -2.0, 1000.0])
    assert compare(right, right) is None
    assert compare(right + 0.01, right) is None  # relative to the size of the result
    assert "differs most at [2]: 1000 instead" not in (compare(right, right) or "")
    assert (
        compare(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0])) == "the result differs most at [1]: 5 instead of 2."
    )
    assert compare(3.0, 2.0, what="the loss") == "the loss is 3; expected 2."
    assert compare(torch.zeros(2), torch.zeros(3)) == "the result has shape (2,); expected (3,)."
    assert compare(4.0, 2.0, {"squared?": 4.0}) == "squared?"
    assert compare(2.0, 2.0, {"squared?": 2.0}) is None  # what is right is right, whatever a slip would give


def test_describe_is_short():
    assert describe(torch.zeros(2, 3)) == "float32 (2, 3)" and describe(twice) == "twice"
    assert describe(0.5) == "0.5" and describe(list(range(100))) == "list"


def test_an_unknown_exercise():
    with pytest.raises(ValueError, match="there is no exercise '99.1'; lesson 99 has none"):
        check("99.1", twice)
    for number in list(ALL)[:1]:
        with pytest.raises(ValueError, match=f"has .*{number}"):
            check(f"{number[:2]}.99", twice)


# -------------------------------------------------------------------------------------- every exercise


@every_exercise
def test_the_solution_is_right(number, capsys):
    text = said(capsys, number, ALL[number].solution)
    assert text.startswith("correct."), text


@every_exercise
def test_there_are_three_known_mistakes_at_least(number):
    assert len(ALL[number].mistakes) >= 3 and ALL[number].remark
    assert re.fullmatch(r"\d\d\.\d+", number)


@cache
def symptom(number, name):
    return verdict(ALL[number], ALL[number].mistakes[name][0])


@pytest.mark.parametrize("number, name", MISTAKES)
def test_a_known_mistake_is_told_by_its_symptom(number, name):
    text = symptom(number, name)
    assert text and ALL[number].mistakes[name][1] in text, text
    assert "this came up" not in text, "the check itself stumbled"


@every_exercise
def test_each_symptom_is_its_own(number):
    """Words that fit every message would name no mistake."""
    exercise = ALL[number]
    words = [words for _, words in exercise.mistakes.values()]
    assert all(len(w) > 3 for w in words)
    assert len({symptom(number, name) for name in exercise.mistakes}) >= 3


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


@every_exercise
def test_an_untouched_answer_is_not_attempted(number, capsys):
    assert said(capsys, number, ...).startswith("not attempted yet")
    stub = like(ALL[number].solution, lambda part: function_or(part, ...))
    assert said(capsys, number, stub).startswith("not attempted yet")


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
    "returns a strange object": strange,
}


@every_exercise
def test_nonsense_never_raises_and_is_never_right(number, capsys):
    for name, answer in NONSENSE.items():
        text = said(capsys, number, answer)
        assert text.startswith(("not yet. ", "not attempted")), (name, text)
    for name, change in SHAPED.items():
        text = said(capsys, number, like(ALL[number].solution, change))
        assert text.startswith("not yet. "), (name, text)


@every_exercise
def test_a_check_leaves_all_random_states_alone(number, capsys):
    def careless(part):
        if not callable(part):
            return part

        def answer(*arguments, **options):
            torch.rand(3)
            return part(*arguments, **options)

        return answer

    for answer, words in [
        (like(ALL[number].solution, careless), "correct"),
        (raises, "not yet"),
        (..., "not attempted"),
    ]:
        torch.manual_seed(5)
        before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        assert said(capsys, number, answer).startswith(words)
        after = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
        assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
        assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


def test_every_number_belongs_to_its_lesson():
    for lesson in LESSONS:
        numbers = list(import_module(f"diffusion_lib.exercises.lesson_{lesson}").EXERCISES)
        assert numbers == [f"{lesson}.{k}" for k in range(1, len(numbers) + 1)]

"""exercises.engine: checks on a toy, reading and comparing results, declared exercises and their slips."""

import inspect
import random
import re
import sys

import numpy as np
import pytest
import torch

from diffusion_lib.exercises import check, engine
from diffusion_lib.exercises.engine import (
    Exercise,
    Slip,
    Unfinished,
    Untouched,
    Wrong,
    as_parts,
    as_tensor,
    ask,
    ask_tensor,
    choose,
    compare,
    declare,
    describe,
    faults,
    hinted,
    normal,
    seeded,
    sign,
    together,
    uniform,
    verdict,
)


def said(capsys, number, answer):
    """What `check` prints."""
    capsys.readouterr()
    check(number, answer)
    return capsys.readouterr().out.removeprefix(f"{number} ").rstrip()


# ------------------------------------------------------------------------------- the check, on a toy


def twice(x):
    return 2 * x


def look(answer):
    x = normal(seeded(0), 3, 2)
    return compare(ask_tensor(answer, x, shape=(3, 2)), 2 * x, {"Three times?": 3 * x}, what="the double")


@pytest.fixture
def toy(monkeypatch):
    exercise = Exercise(test=look, solution=twice, mistakes={"three": (lambda x: 3 * x, "Three")}, remark="Well done.")
    monkeypatch.setattr(engine, "find", lambda number: exercise)


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
        (lambda x: x.tolist(), "the double differs most at"),
        (lambda x: [x, x[0]], "A tensor is expected, and this is list"),
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

    monkeypatch.setattr(engine, "find", lambda number: Exercise(test=faulty, solution=twice))
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
    assert compare(right + torch.tensor([0.0, 0.0, 1.0]), right) == (
        "the result differs most at [2]: 1001 instead of 1000."
    )
    assert compare(3.0, 2.0, what="the loss") == "the loss is 3; expected 2."
    assert compare(torch.zeros(2), torch.zeros(3)) == "the result has shape (2,); expected (3,)."
    assert compare(4.0, 2.0, {"squared?": 4.0}) == "squared?"
    assert compare(2.0, 2.0, {"squared?": 2.0}) is None  # what is right is right, whatever a slip would give


def test_describe_is_short():
    assert describe(torch.zeros(2, 3)) == "float32 (2, 3)" and describe(twice) == "twice"
    assert describe(0.5) == "0.5" and describe(list(range(100))) == "list"


# ------------------------------------------------------------------------- whatever a check is given


class Hostile:
    """Raises whenever it is looked at."""

    def __getattribute__(self, name):
        raise RuntimeError("hostile")

    def __eq__(self, other):
        raise RuntimeError("hostile")

    def __repr__(self):
        raise RuntimeError("hostile")

    __bool__ = __len__ = __iter__ = __hash__ = __str__ = __call__ = __float__ = __repr__


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("unspeakable")


def endless(x):
    return endless(x)


def unspeakable(x):
    raise Unspeakable


def interrupted(x):
    raise KeyboardInterrupt


NUMBERS = {
    **{
        repr(n): n
        for n in (None, 1.2, 1, "99.9", "1.2", "01.99", "", "01.1\n", "../x.1", "0\0.1", "01.one", ["01.1"], ...)
    },
    "hostile": Hostile(),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_none_is_told(name, capsys):
    check(NUMBERS[name], twice)
    text = capsys.readouterr().out
    assert text.startswith("Nothing to check: ") and text.count("\n") == 1
    assert "lesson 99 has none" in text or "lesson 01 has 01.1, 01.2" in text or 'such as "01.2"' in text


def test_find_refuses_what_is_no_exercise():
    with pytest.raises(ValueError, match="there is no exercise '99.9'; lesson 99 has none"):
        engine.find("99.9")


def test_a_lesson_that_cannot_be_imported_is_not_a_lesson_without_exercises(monkeypatch, capsys):
    def broken(name):
        raise ModuleNotFoundError("No module named 'sklearn'", name="sklearn")

    monkeypatch.setattr(engine, "import_module", broken)
    check("01.1", twice)
    assert (
        "Nothing to check: the exercises stop with ModuleNotFoundError: No module named 'sklearn'"
        in capsys.readouterr().out
    )


ANSWERS = {
    "hostile itself": (Hostile(), "hostile"),
    "gives what is hostile": (lambda x: Hostile(), "hostile"),
    "holds what is hostile": (lambda x: [Hostile(), x], "A tensor is expected, and this is list"),
    "an error without words": (unspeakable, "stops with Unspeakable: no message"),
    "endless": (endless, "stops with RecursionError"),
    "leaves": (lambda x: sys.exit(3), "stops with SystemExit: 3"),
    "complex": (lambda x: x + 1j, "Real numbers are expected"),
    "writes into its input": (lambda x: x.mul_(2), "changes the float64"),
    "a generator": ((x for x in range(3)), "A function is expected here, and this is a generator"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_answer_gets_through(name, toy, capsys):
    answer, words = ANSWERS[name]
    text = said(capsys, "00.0", answer)
    assert text.startswith("not yet. ") and re.search(words, text), text


def test_an_interrupt_gets_through(toy):
    with pytest.raises(KeyboardInterrupt):
        check("00.0", interrupted)


def test_an_answer_may_print(toy, capsys):
    def mine(x):
        print("x is", tuple(x.shape))
        return 2 * x

    assert said(capsys, "00.0", mine) == "x is (3, 2)\n00.0 correct. Well done."


def test_what_an_answer_turns_off_is_on_again(toy, capsys):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist()

    def mine(x):
        random.seed(3), np.random.seed(3), torch.manual_seed(3)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        sys.stdout = None
        return 2 * x

    assert said(capsys, "00.0", mine) == "correct. Well done."
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.random.get_rng_state().tolist())


# ------------------------------------------------------------------------------------- reading results


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([1.0, 2.0]),
        np.array([1.0, 2.0], dtype=np.float32),
        [1, 2],
        (1.0, np.float64(2)),
        [torch.tensor(1.0), 2],
        [np.int64(1), torch.tensor([[2.0]]).squeeze()],
    ],
)
def test_results_are_read_generously(value):
    assert as_tensor(value).tolist() == [1, 2]


def test_numbers_are_read_without_loss():
    assert as_tensor(0.1).item() == 0.1 and as_tensor([0.1]).dtype == torch.float64
    assert as_tensor(np.float64(0.1)).item() == 0.1 and as_tensor([2**40]).tolist() == [2**40]


@pytest.mark.parametrize(
    "value", ["12", [1, "2"], [[1], [1, 2]], None, {1: 2}, [torch.ones(1), torch.ones(2)], 10**400, [None]]
)
def test_what_is_no_tensor_is_said_to_be_none(value):
    with pytest.raises(Wrong, match="A tensor is expected, and this is"):
        as_tensor(value)


def test_several_results_are_read_alike():
    for value in [(1, 2.0), [1, 2], torch.tensor([1, 2]), np.array([1.0, 2.0])]:
        assert [float(part) for part in as_parts(value, ("a", "b"))] == [1, 2]
    for value in [(1,), 3, torch.tensor(1.0), (1, 2, 3)]:
        with pytest.raises(Wrong, match="2 results are expected: a, b"):
            as_parts(value, ("a", "b"))


def test_random_inputs_come_from_their_generator():
    def draws():
        generator = seeded(3)
        return uniform(generator), uniform(generator, 4, low=2, high=3), normal(generator, 2, 1), sign(generator)

    (one, some, noise, side), again = draws(), draws()
    assert isinstance(one, float) and 0 <= one < 1 and one == again[0]
    assert some.shape == (4,) and some.dtype == torch.float64 and ((2 <= some) & (some < 3)).all()
    assert noise.shape == (2, 1) and noise.dtype == torch.float64 and torch.equal(noise, again[2])
    assert side in (-1, 1) and {sign(seeded(k)) for k in range(9)} == {-1, 1}


# ------------------------------------------------------------------------------- declared exercises, toys


def my_mean(x, weights, eps=0.0):
    """The weighted mean of each row; weights are no shares yet."""
    total = weights.sum()
    return (x * weights).sum(1) / (total + eps)


def rows():
    generator = seeded(1)
    for n in (3, 5):
        yield normal(generator, 4, n), uniform(generator, n, low=0.5, high=2)
    yield hinted("Are the weights shares already?", normal(generator, 2, 3), uniform(generator, 3, low=2, high=3))


SLIPS = [
    Slip("sum(1)", "sum(0)", "Over which axis?"),
    Slip(" / (total + eps)", "", "Divided by nothing?"),
    Slip("(total + eps)", "x.shape[1]", "Divided by the number?"),
    Slip("x * weights", "x * 2", "Where are the weights?"),
]


def declared(solution=my_mean, probes=rows, slips=SLIPS, **how):
    return declare(solution, probes=probes, slips=slips, **how)


@pytest.mark.parametrize(
    "answer",
    [
        my_mean,
        lambda x, w: (x @ w / w.sum()).float(),
        lambda x, w: (x.numpy() @ w.numpy()) / w.numpy().sum(),
        lambda x, w: [float((row * w).sum() / w.sum()) for row in x],
        lambda x, w: [(row * w).sum() / w.sum() for row in x],
        lambda x, w: np.average(x, axis=1, weights=w).astype(np.float32),
        lambda x, w: torch.nn.Parameter(x @ w / w.sum()),
    ],
)
def test_a_declared_exercise_reads_every_form(answer):
    assert verdict(declared(), answer) is None


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x, w: (x * w).sum(0) / w.sum(), "Over which axis?"),
        (lambda x, w: x @ w, "Divided by nothing?"),
        (lambda x, w: x.mean(1) * 2 * x.shape[1] / w.sum(), "Where are the weights?"),
        # elsewhere it is wrong in another way; where it is first wrong it is this slip
        (lambda x, w: x @ w if x.shape[1] == 3 else x.sum(1), "Divided by nothing?"),
        (lambda x, w: x @ w / (w.sum() + 1), r"the result differs most at \[\d\]: "),
        (lambda x, w: (x @ w / w.sum()) if len(x) == 4 else x @ w / 7, "Are the weights shares already"),
        (lambda x, w: (x @ w / w.sum())[:, None], r"the result has shape \(4, 1\); expected \(4,\)"),
        (lambda x, w: x @ w / 0, "nan or infinite"),
        (lambda x, w: "mean", "A tensor is expected, and this is 'mean'"),
        (lambda x, w: None, "is the return missing"),
        (lambda x, w: x.mul_(w).sum(1) / w.sum(), "changes the float64"),
        (lambda x: x, "stops with TypeError"),
    ],
)
def test_a_declared_exercise_says_what_it_sees(answer, words):
    text = verdict(declared(), answer)
    assert text and re.search(words, text), text


def test_float32_comes_in_too():
    seen = set()

    def mine(x, weights):
        seen.add(x.dtype)
        return x @ weights / weights.sum()

    assert verdict(declared(), mine) is None and seen == {torch.float32, torch.float64}
    single = declared(keeps_dtype=True)
    assert verdict(single, my_mean) is None
    assert "float64, where float32 came in" in verdict(single, lambda x, w: my_mean(x.double(), w.double()))


def test_a_slip_that_raises_is_known_by_its_error():
    exercise = declared(slips=[Slip("x * weights", "x * weights[:2]", "Not all of them?")])
    assert verdict(exercise, lambda x, w: (x * w[:2]).sum(1) / w.sum()) == "Not all of them?"
    assert "stops with RuntimeError" in verdict(exercise, lambda x, w: x @ w[:2] / w.sum())


@pytest.mark.parametrize(
    "slip, words",
    [
        (Slip("median", "mean", "?"), "finds no place"),
        (Slip("sum(1)", "sum(1)", "?"), "finds no place"),
        (Slip("weights", "x", "?"), r"finds \d places in its source; say every=True"),
        (Slip("(total + eps)", "(total", "?"), "cannot be read"),
    ],
)
def test_a_slip_without_a_place_fails_where_it_is_declared(slip, words):
    with pytest.raises(ValueError, match=words):
        declared(slips=[slip])


def test_a_slip_may_be_everywhere():
    slip = Slip("weights)", "weights.flip(0))", "Turned?", every=True)
    assert inspect.getsource(my_mean).count("weights)") == 1
    with pytest.raises(ValueError, match="finds 2 places"):
        Slip(".sum(", ".mean(", "?").applied(my_mean)
    assert Slip(".sum(", ".mean(", "?", every=True).applied(my_mean)(torch.ones(2, 3), torch.ones(3)).tolist() == [1, 1]
    assert verdict(declared(slips=[slip]), slip.applied(my_mean)) == "Turned?"


def test_slips_that_nobody_could_see_are_faults():
    assert faults(declared()) == []
    (unseen,) = faults(declared(slips=[Slip("+ eps", "- eps", "?")]))
    assert "gives the solution's values on all probes" in unseen
    (alike,) = faults(declared(slips=[*SLIPS, Slip("total = weights.sum()", "total = 1", "?")]))
    assert "give the same values" in alike and "'total = 1'" in alike
    (name,) = faults(declared(slips=[Slip("total = ", "totals = ", "?")]))
    assert "writes a name that is not there" in name


def test_a_judge_and_probes_are_too_much():
    with pytest.raises(ValueError, match="either a judge, or probes"):
        declare(twice, judge=look, probes=rows)
    assert verdict(declare(twice, judge=look, slips=[Slip("2", "3", "Three")]), twice) is None


def my_spread(x):
    return x.min(), x.max(), len(x)


def lists():
    for n in (4, 7):
        yield (normal(seeded(n), n),)


SPREAD = declare(
    my_spread,
    probes=lists,
    what=("the least", "the largest", "the number"),
    slips=[Slip("x.min(), x.max()", "x.max(), x.min()", "Changed places?"), Slip("x.min()", "-x.max()", "Symmetric?")],
)


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda x: [float(x.min()), x.numpy().max(), np.float32(len(x))], None),
        (lambda x: torch.stack((x.min(), x.max(), torch.tensor(len(x)))), None),
        (lambda x: (x.max(), x.min(), len(x)), "Changed places?"),
        (lambda x: (-x.max(), x.max(), len(x) + 1), "Symmetric?"),  # one of two slips is enough
        (lambda x: (x.min(), x.max()), "3 results are expected: the least, the largest, the number."),
        (lambda x: (x.min(), x.max(), len(x) + 0.5), "A whole number is expected, and the number is 4.5."),
        (lambda x: (x.min(), x.max(), len(x) - 1), "the number is 3; expected 4."),
        (lambda x: (x.min(), x.max(), True), "the number is 1; expected 4."),
        (lambda x: (x.min(), ..., len(x)), "What you have is right. Of its 3 results these are still `...`: number 2."),
        (lambda x: (x.max(), ..., len(x)), "Changed places?"),
    ],
)
def test_several_results(answer, words):
    assert verdict(SPREAD, answer) == words


def test_several_results_that_are_all_open_are_untouched():
    with pytest.raises(Untouched):
        verdict(SPREAD, lambda x: (..., ..., ...))


def my_count(first, name):
    return int(10 * first) + len(name)


def test_plain_numbers_are_named():
    exercise = declare(
        my_count,
        probes=lambda: [(0.5, "ab"), (1.5, "abc")],
        slips=[Slip(" + len(name)", "", "And the name?")],
        otherwise=lambda inputs, n: "Too many." if n > 20 else "Too few.",
    )
    assert verdict(exercise, lambda f, n: torch.tensor([int(10 * f)])) == (
        "For first = 0.5, name = ab it gives 5. And the name?"
    )
    assert verdict(exercise, lambda f, n: 70) == "For first = 0.5, name = ab it gives 70. Too many."
    assert faults(exercise) == []


def test_functions_together():
    exercise = together(declared(accepted={"product": lambda x, w: x @ w / w.sum()}), SPREAD, remark="Both.")
    assert verdict(exercise, (my_mean, my_spread)) is None
    assert verdict(exercise, (my_mean, lambda x: (x.max(), x.min(), len(x)))) == "my_spread: Changed places?"
    assert verdict(exercise, [my_mean, lambda x: ...]) == "my_mean: right. Still to write: my_spread."
    with pytest.raises(Untouched):
        verdict(exercise, (lambda x, w: ..., ...))
    assert verdict(exercise, my_mean).startswith("2 functions are expected, (my_mean, my_spread)")
    assert len(exercise.mistakes) == 6 and all(verdict(exercise, a).endswith(w) for a, w in exercise.mistakes.values())
    assert list(exercise.accepted) == ["my_mean: product"] and faults(exercise) == []


CHOICE = choose({"A": 3, "B": 1}, among=range(1, 5), look=lambda name, line: f"Look at {name}.", what="a line")


@pytest.mark.parametrize(
    "answer, words",
    [
        ({"A": 3, "B": 1}, None),
        ({"B": torch.tensor(1), "A": np.int64(3)}, None),
        ({"A": 3.0, "B": 1}, None),
        ({"A": 3, "B": 2}, "1 of 2 found. Look at B."),
        ({"A": 3, "B": ...}, "1 of 2 found. Still open: B. Look at B."),
        ({"A": 9, "B": ...}, "A is 9; expected a line: 1 to 4."),
        ({"A": True, "B": ...}, "A is True; expected a line: 1 to 4."),
        ({"A": "3", "B": 1}, "A is '3'; expected a line: 1 to 4."),
        ({"A": [3], "B": 1}, "A is [3]; expected a line: 1 to 4."),
        ({"A": 3}, 'A dict is expected, with a line for each of "A", "B".'),
        (3, 'A dict is expected, with a line for each of "A", "B".'),
    ],
)
def test_choices(answer, words):
    assert verdict(CHOICE, answer) == words


def test_choices_that_are_all_open_are_untouched():
    with pytest.raises(Untouched):
        verdict(CHOICE, {"A": ..., "B": ...})

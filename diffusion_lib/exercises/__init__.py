"""How the course answers an exercise: untouched, wrong with its symptom, or right. It never raises.

Each lesson has a module with a dict EXERCISES: number -> Exercise. `check("01.2", mine)` finds the exercise, tries the
student's answer on several random inputs, and prints one message. A known mistake is a wrong answer written down as a
function with words that its message must contain; a test runs every solution and every mistake through its check.
"""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

import torch


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Args:
        test: function of the student's answer that returns None if it is right, else the symptom in words. What it
            raises is turned into a message; call the answer through `ask` so that an untouched stub is noticed.
        solution: the right answer.
        mistakes: dict: name of a slip -> (wrong answer, words that the message must contain).
        remark: one line that deepens the right answer.
        untouched: what is said of the rest of the lesson while there is no answer.
    """

    test: Callable
    solution: object
    mistakes: dict = field(default_factory=dict)
    remark: str = ""
    untouched: str = "The lesson goes on with the library's version."


class Untouched(Exception):
    """The answer is still `...`."""


class Wrong(Exception):
    """The answer failed in a way that `test` need not look at: it raised, or it is no tensor."""


class Unfinished(Wrong):
    """Some of the results are there, others are still `...`; `results` has them all."""

    def __init__(self, results):
        open_ones = ", ".join(str(k) for k, part in enumerate(results, 1) if part is ...)
        super().__init__(f"Of its {len(results)} results these are still `...`: number {open_ones}.")
        self.results = results


def check(number, answer):
    """Print what is to be said of the answer to an exercise.

    Args:
        number: "01.2" is the second exercise of lesson 01.
        answer: the student's function, class or value; `...` where nothing was done.
    """
    exercise = find(number)
    try:
        symptom = verdict(exercise, answer)
    except Untouched:
        print(f"{number} not attempted yet. {exercise.untouched}")
        return
    if symptom:
        print(f"{number} not yet. {symptom}")
    else:
        print(f"{number} correct. {exercise.remark}".rstrip())


def verdict(exercise, answer):
    """None if the answer is right, else the symptom; raises Untouched."""
    if answer is ...:
        raise Untouched
    state = torch.random.get_rng_state()
    try:
        return exercise.test(answer)
    except Untouched:
        raise
    except Wrong as wrong:
        return str(wrong)
    except Exception as error:
        return f"While looking at your answer this came up: {type(error).__name__}: {first_line(error)}"
    finally:
        torch.random.set_rng_state(state)  # a check must not change what comes after it


def find(number):
    """The exercise of that number.

    Raises:
        ValueError: there is none.
    """
    lesson = str(number).split(".")[0]
    try:
        exercises = import_module(f"{__name__}.lesson_{lesson}").EXERCISES
    except ModuleNotFoundError:
        exercises = {}
    if number not in exercises:
        raise ValueError(f"there is no exercise {number!r}; lesson {lesson} has {', '.join(exercises) or 'none'}.")
    return exercises[number]


def ask(answer, *inputs, **options):
    """What the student's function gives for these inputs.

    Raises:
        Untouched: it returns `...`.
        Unfinished: it returns several results, and some are `...`.
        Wrong: it is no function, it raises (with the line where that happened), or it changes a tensor it was given.
    """
    if not callable(answer):
        raise Wrong(f"A function is expected here, and this is a {type(answer).__name__}.")
    kept = [(value, value.detach().clone()) for value in inputs if isinstance(value, torch.Tensor)]
    try:
        result = answer(*inputs, **options)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)
        mine = [entry for entry in last if entry.name == getattr(answer, "__name__", "")]
        where = f" (line {mine[-1].lineno} of its cell: {mine[-1].line})" if mine and mine[-1].line else ""
        shapes = ", ".join(describe(value) for value in inputs)
        raise Wrong(
            f"Called with {shapes}, it stops with {type(error).__name__}: {first_line(error)}{where}"
        ) from error
    for value, before in kept:
        if not torch.allclose(value.detach(), before, rtol=0, atol=0, equal_nan=True):
            raise Wrong(
                f"Your function changes the {describe(value)} it was given. Whoever calls it still needs that: does a "
                "line write into an argument (+=, *=, a method ending in _, inplace=True)?"
            )
    parts = result if isinstance(result, tuple) and result else (result,)
    if all(part is ... for part in parts):
        raise Untouched
    if any(part is ... for part in parts):
        raise Unfinished(parts)
    if result is None:
        raise Wrong("It returns None: is the return missing?")
    return result


def ask_tensor(answer, *inputs, shape=None, **options):
    """Like `ask`, but the result must be a finite tensor, of that shape if one is given."""
    result = ask(answer, *inputs, **options)
    if not isinstance(result, torch.Tensor):
        raise Wrong(f"A tensor is expected, and this is {describe(result)}.")
    if shape is not None and tuple(result.shape) != tuple(shape):
        given = ", ".join(describe(value) for value in inputs)
        raise Wrong(f"For {given} the result has shape {tuple(result.shape)}; expected {tuple(shape)}.")
    if not torch.isfinite(result.double()).all():
        raise Wrong(
            "The result holds nan or infinite numbers: is there a division by zero or the root of a negative number?"
        )
    return result


def compare(got, right, slips=None, what="the result", tolerance=1e-4):
    """None if got is close to right, else a symptom: that of the slip whose value it has, or where it is off.

    Args:
        got, right: tensors or numbers of the same shape.
        slips: dict: message -> the value that this slip would give.
        what: name of the result for the message.
        tolerance: relative to the size of `right`.
    """
    got, right = (torch.as_tensor(value).detach().double() for value in (got, right))
    if close(got, right, tolerance):
        return None
    for message, value in (slips or {}).items():
        if close(got, torch.as_tensor(value).detach().double(), tolerance):
            return message
    if got.shape != right.shape:
        return f"{what} has shape {tuple(got.shape)}; expected {tuple(right.shape)}."
    off = (got - right).abs()
    if off.ndim == 0:
        return f"{what} is {number(got)}; expected {number(right)}."
    place = torch.unravel_index(off.argmax(), off.shape)
    index = ", ".join(str(int(i)) for i in place)
    return f"{what} differs most at [{index}]: {got[place]:.4g} instead of {right[place]:.4g}."


def number(value):
    """A number for a message: whole ones in full, so that a difference of 1 is seen."""
    return f"{int(value):,}" if value == value.round() and value.abs() < 1e15 else f"{value:.4g}"


def close(a, b, tolerance):
    """Whether two float64 tensors of one shape agree to `tolerance` times the size of b."""
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance * max(1e-12, float(b.abs().max())))


def describe(value):
    """A value in a few words: shape and type of a tensor, else the value itself, shortened."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 40 else type(value).__name__


def first_line(error):
    """The first line of an error's text."""
    return (str(error).splitlines() or ["no message"])[0][:200]

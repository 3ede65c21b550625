"""How the course answers an exercise: untouched, wrong with its symptom, or right. A check never raises.

Each lesson has a module with a dict EXERCISES: number -> Exercise. `check("01.2", mine)` finds the exercise, looks at
the student's answer, and prints one message. Most exercises are a declaration (`declare`):

    the solution     a plain function, named as the lesson's stub; the lesson's folded Solution is written from it
    the probes       a generator of random inputs, the same at each call
    the slips        Slip(old, new, words): in the solution's source `old` becomes `new`, and the words answer it
    other answers    `accepted`, right ones in other forms; `wrong`, mistakes that are no replacement

An answer is right if it gives the solution's values on all probes, whatever its form; else it is told the slip whose
values it gives. Statistical exercises bring a judge of their own, choices use `choose`. A test runs every solution,
accepted form, slip and mistake through its check, and asks `faults` for slips that nobody could see.
"""

import contextlib
import inspect
import math
import random
import re
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from itertools import combinations

import numpy as np
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
        accepted: dict: name -> a right answer in another form.
        values: the comparisons of values that `declare` has made; empty where the test is written by hand.
    """

    test: Callable
    solution: object
    mistakes: dict = field(default_factory=dict)
    remark: str = ""
    untouched: str = "The lesson goes on with the library's version."
    accepted: dict = field(default_factory=dict)
    values: tuple = ()


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


# ------------------------------------------------------------------------------------------------- the check


def check(number, answer):
    """Print what is to be said of the answer to an exercise. Only an interrupt gets through.

    Args:
        number: "01.2" is the second exercise of lesson 01.
        answer: the student's function, class or value; `...` where nothing was done.
    """
    try:
        exercise = find(number)
    except ValueError as error:
        print(f"Nothing to check: {error}")
        return
    except Exception as error:  # something that the exercises need is not there
        print(f"Nothing to check: the exercises stop with {type(error).__name__}: {first_line(error)}")
        return
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
    with undisturbed():
        try:
            return exercise.test(answer)
        except (Untouched, KeyboardInterrupt):
            raise
        except Wrong as wrong:
            return str(wrong)
        except BaseException as error:  # sys.exit() in an answer, too
            return f"While looking at your answer this came up: {type(error).__name__}: {first_line(error)}"


@contextlib.contextmanager
def undisturbed():
    """What comes after a check does not notice it: random states, dtype, gradients and output are as before."""
    states = torch.random.get_rng_state(), random.getstate(), np.random.get_state()
    dtype, grad, out = torch.get_default_dtype(), torch.is_grad_enabled(), (sys.stdout, sys.stderr)
    try:
        yield
    finally:
        torch.random.set_rng_state(states[0])
        random.setstate(states[1])
        np.random.set_state(states[2])
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        sys.stdout, sys.stderr = out


def find(number):
    """The exercise of that number.

    Raises:
        ValueError: there is none.
    """
    if not issubclass(type(number), str) or not re.fullmatch(r"\d\d\.\d+", number):
        raise ValueError(
            f'{describe(number)} is no number of an exercise; expected text such as "01.2" for lesson 01, exercise 2.'
        )
    lesson, module = number[:2], f"{__package__}.lesson_{number[:2]}"
    try:
        exercises = import_module(module).EXERCISES
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        exercises = {}
    if number not in exercises:
        raise ValueError(f"there is no exercise {number!r}; lesson {lesson} has {', '.join(exercises) or 'none'}.")
    return exercises[number]


# ------------------------------------------------------------------------------------------- asking an answer


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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() is no reason to leave the lesson
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
    parts = tuple(result) if isinstance(result, tuple | list) and result else (result,)
    if all(part is ... for part in parts):
        raise Untouched
    if any(part is ... for part in parts):
        raise Unfinished(parts)
    if result is None:
        raise Wrong("It returns None: is the return missing?")
    return result


def ask_tensor(answer, *inputs, shape=None, **options):
    """Like `ask`, but the result is read as a tensor, must be finite, and of that shape if one is given."""
    result = as_tensor(ask(answer, *inputs, **options))
    if shape is not None and tuple(result.shape) != tuple(shape):
        given = ", ".join(describe(value) for value in inputs)
        raise Wrong(f"For {given} the result has shape {tuple(result.shape)}; expected {tuple(shape)}.")
    if not torch.isfinite(result.double()).all():
        raise Wrong(NOT_FINITE)
    return result


NOT_FINITE = "The result holds nan or infinite numbers: is there a division by zero or the root of a negative number?"


def as_tensor(value):
    """A result as a tensor: a tensor, an array, a number of Python or NumPy, or a list of these.

    Python's numbers become float64 or int64, so that nothing is lost by reading them.

    Raises:
        Wrong: it is none of these.
    """
    try:
        if isinstance(value, list | tuple) and any(isinstance(part, torch.Tensor) for part in flat(value)):
            return torch.stack([as_tensor(part) for part in value])
        if isinstance(value, np.ndarray | np.generic | bool | int | float | list | tuple):
            value = torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError, OverflowError):  # words, rows of different lengths
        pass
    if not isinstance(value, torch.Tensor):
        raise Wrong(f"A tensor is expected, and this is {describe(value)}.")
    if value.is_complex():
        raise Wrong(f"Real numbers are expected, and this is {describe(value)}.")
    return value


def as_parts(result, names):
    """Several results as a tuple of tensors: from a tuple, a list, or a tensor or array of that length.

    Raises:
        Wrong: they are not as many as the names, or one of them cannot be read.
    """
    many = isinstance(result, tuple | list) or getattr(result, "ndim", 0)
    if not many or len(result) != len(names):
        raise Wrong(f"{len(names)} results are expected: {', '.join(names)}.")
    return tuple(as_tensor(part) for part in result)


def flat(value):
    """The leaves of nested lists and tuples."""
    if not isinstance(value, list | tuple):
        return [value]
    return [leaf for part in value for leaf in flat(part)]


# -------------------------------------------------------------------------------------------- comparing values


def compare(got, right, slips=None, what="the result", tolerance=1e-4):
    """None if got is close to right, else a symptom: that of the slip whose value it has, or where it is off.

    Args:
        got, right: tensors or numbers of the same shape.
        slips: dict: message -> the value that this slip would give, or a function that gives it.
        what: name of the result for the message.
        tolerance: relative to the size of `right`.
    """
    got, right = (torch.as_tensor(value).detach().double() for value in (got, right))
    if close(got, right, tolerance):
        return None
    for message, value in (slips or {}).items():
        value = value() if callable(value) else value
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
    if a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    return bool((a - b).abs().max() <= tolerance * max(1e-12, float(b.abs().max())))


def describe(value):
    """A value in a few words: shape and type of a tensor, else the value itself, shortened."""
    try:
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
        text = getattr(value, "__name__", None) or repr(value)
    except Exception:  # an object of the student's that cannot be shown
        return type(value).__name__
    return text if isinstance(text, str) and len(text) <= 40 else type(value).__name__


def first_line(error):
    """The first line of an error's text."""
    try:
        return (str(error).splitlines() or ["no message"])[0][:200]
    except Exception:  # an error of the student's own making
        return "no message"


# ------------------------------------------------------------------------------------------ random inputs


def seeded(seed):
    """A generator of that seed."""
    return torch.Generator().manual_seed(seed)


def uniform(generator, *shape, low=0.0, high=1.0):
    """Random float64 numbers between low and high; without a shape one plain number."""
    numbers = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    return numbers if shape else float(numbers)


def normal(generator, *shape):
    """Random float64 numbers, standard normal."""
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def sign(generator):
    """-1 or 1."""
    return 1 if torch.rand(1, generator=generator) < 0.5 else -1


# ------------------------------------------------------------------------------------------- declarations


@dataclass(frozen=True)
class Slip:
    """A known slip: in the solution's source `new` stands where `old` stood, and `words` answer it.

    Args:
        old, new: pieces of the source.
        words: what the student is told. Where a judge written by hand says it, a part of what it says.
        every: replace `old` wherever it stands; otherwise it must stand there once.
    """

    old: str
    new: str
    words: str
    every: bool = False

    def __str__(self):
        return f"{self.old!r} -> {self.new!r}"

    def applied(self, function):
        """The function with the slip, living where the function does.

        Raises:
            ValueError: `old` does not stand in its source, or more than once, or it cannot be read with `new`.
        """
        source = textwrap.dedent(inspect.getsource(function))
        found, where = source.count(self.old), f"the slip {self} of {function.__name__}"
        if found == 0 or self.new == self.old:
            raise ValueError(f"{where} finds no place in its source.")
        if found > 1 and not self.every:
            raise ValueError(f"{where} finds {found} places in its source; say every=True, or write more of it.")
        scope = {}
        try:
            exec(compile(source.replace(self.old, self.new), f"<{self}>", "exec"), function.__globals__, scope)
        except SyntaxError as error:
            raise ValueError(f"{where} cannot be read: {error}.") from None
        return scope[function.__name__]


@dataclass(frozen=True)
class Probe:
    """Inputs to try, and a hint for the answer that has been right up to here and fails on them."""

    inputs: tuple
    hint: str = ""


def hinted(hint, *inputs):
    """For a generator of probes: these inputs with that hint."""
    return Probe(inputs, hint)


@dataclass(frozen=True)
class Values:
    """Compares what an answer gives with the solution's values on all probes, and with those of each slip.

    Args:
        solution: a plain function.
        probes: generator function of tuples of inputs, or `hinted(...)`; the first is tried in float32 as well.
        slips: tuple of (Slip, the function with it).
        what: name of the result, or a tuple of names if there are several.
        tolerance: relative to the size of the right value.
        keeps_dtype: the result must have the type that the solution's has.
        shape: words for a result of another shape.
        view: function of all results that gives the tuple of what is compared.
        otherwise: function of (inputs, result) with words for a wrong number that no slip explains.
    """

    solution: Callable
    probes: Callable
    slips: tuple = ()
    what: str | tuple = "the result"
    tolerance: float = 1e-4
    keeps_dtype: bool = False
    shape: str = ""
    view: Callable | None = None
    otherwise: Callable | None = None

    def cases(self):
        """All probes, and the first one again in float32."""
        probes, (again, *_) = ([p if isinstance(p, Probe) else Probe(p) for p in self.probes()] for _ in range(2))
        single = tuple(x.float() if is_float(x) else x for x in again.inputs)
        return [*probes, Probe(single, again.hint)] if any(map(is_float, single)) else probes

    def outcomes(self, answer):
        """For each case the results of an answer as a tuple of tensors, or the Wrong that they end in."""
        return [self.outcome(answer, case.inputs, k) for k, case in enumerate(self.cases())]

    def outcome(self, answer, inputs, seed):
        torch.manual_seed(seed)
        try:
            result = ask(answer, *inputs)
            if isinstance(self.what, str):
                return (as_tensor(result).detach(),)
            return tuple(part.detach() for part in as_parts(result, self.what))
        except Unfinished as unfinished:
            if isinstance(self.what, str) or len(unfinished.results) != len(self.what):
                return unfinished
            return tuple(part if part is ... else as_tensor(part).detach() for part in unfinished.results)
        except Wrong as wrong:
            return wrong

    @cached_property
    def right(self):
        """The solution's outcomes."""
        outcomes = self.outcomes(self.solution)
        if broken := [wrong for wrong in outcomes if isinstance(wrong, Wrong)]:
            raise RuntimeError(f"the solution itself fails: {broken[0]}")
        return outcomes

    @cached_property
    def known(self):
        """(slip, its outcomes) of all slips."""
        return [(slip, self.outcomes(function)) for slip, function in self.slips]

    def symptom(self, answer):
        """None if the answer is right, else what is to be said of it."""
        right, got = self.right, self.outcomes(answer)
        wrong = [k for k, (mine, wanted) in enumerate(zip(got, right)) if not self.alike(mine, wanted)]
        if not wrong:
            return self.unfinished(got)
        k, case = wrong[0], self.cases()[wrong[0]]
        begin = self.begin(case.inputs, got[k])
        if words := self.explained(got, k):
            return begin + words
        return begin + self.unexplained(case, got[k], right[k])

    def unfinished(self, got):
        for results in got:
            if any(part is ... for part in results):
                return f"What you have is right. {Unfinished(results)}"
        return None

    def explained(self, got, k):
        """The words of the slip whose values these are: everywhere, at the first wrong place, or in the wrong part."""
        for slip, theirs in self.known:
            if all(map(self.alike, got, theirs)):
                return slip.words
        for slip, theirs in self.known:
            if self.alike(got[k], theirs[k]):
                return slip.words
        if isinstance(got[k], Wrong):
            return None
        for slip, theirs in self.known:
            if any(self.has_slip(part, got, theirs) for part in range(len(self.seen(self.right[k])))):
                return slip.words
        return None

    def has_slip(self, part, got, theirs):
        """Whether one of several results is wrong, and has a slip's values everywhere."""
        rows = [row for row in zip(got, theirs, self.right) if not any(isinstance(results, Wrong) for results in row)]
        rows = [[self.seen(results)[part] for results in row] for row in rows]
        rows = [row for row in rows if row[0] is not ...]
        off = any(not self.same(mine, wanted) for mine, _, wanted in rows)
        return off and all(self.same(mine, slip) for mine, slip, _ in rows)

    def unexplained(self, case, got, right):
        """Where an answer is off that no slip explains."""
        hint = f" {case.hint}" if case.hint else ""
        if isinstance(got, Wrong):
            return f"{got}{hint}"
        names = (self.what,) if isinstance(self.what, str) else self.what
        for name, mine, wanted in zip(names, got, right):
            if mine is ...:
                continue
            if mine.shape != wanted.shape and not mine.numel() == wanted.numel() == 1:
                return f"{compare(mine, wanted, what=name)} {self.shape or case.hint}".rstrip()
            if not torch.isfinite(mine.double()).all():
                return NOT_FINITE + hint
            if is_whole(wanted) and not is_whole(mine) and (mine != mine.round()).any():
                return f"A whole number is expected, and {name} is {number(mine.flatten()[0])}."
        if self.otherwise:
            return self.otherwise(case.inputs, *(part.item() if part.numel() == 1 else part for part in got))
        for name, mine, wanted in zip(names, self.seen(got), self.seen(right)):
            if mine is not ... and (text := compare(mine.reshape(wanted.shape), wanted, None, name, self.tolerance)):
                return text + hint
        came, expected = (str(results[0].dtype).removeprefix("torch.") for results in (got, right))
        return f"Every number is right. But the result is {came}, where {expected} came in and is expected."

    def begin(self, inputs, got):
        """Where all is plain numbers: what was asked and what was given."""
        if isinstance(got, Wrong) or not all(isinstance(x, int | float | str) for x in inputs):
            return ""
        if len(got) > 1 or got[0].numel() > 1 or not got[0].numel():
            return ""
        names = list(inspect.signature(self.solution).parameters)
        asked = ", ".join(
            f"{name} = {x:g}" if isinstance(x, float) else f"{name} = {x}" for name, x in zip(names, inputs)
        )
        return f"For {asked} it gives {number(got[0].flatten()[0])}. "

    def seen(self, results):
        """What is compared of the results."""
        return self.view(*results) if self.view and not any(part is ... for part in results) else results

    def alike(self, a, b):
        """Whether two outcomes are the same: equal values, or the same error; what is still open counts as equal."""
        if isinstance(a, Wrong) or isinstance(b, Wrong):
            return type(a) is type(b) and fault_of(a) == fault_of(b)
        return all(x is ... or y is ... or self.same(x, y) for x, y in zip(self.seen(a), self.seen(b), strict=True))

    def same(self, a, b):
        """Whether two tensors hold the same numbers, nan included, and are of one type where that matters."""
        if a.numel() == b.numel() == 1:
            a, b = a.reshape(()), b.reshape(())
        if a.shape != b.shape or (a.dtype == torch.bool) != (b.dtype == torch.bool) or a.is_complex():
            return False
        if self.keeps_dtype and a.dtype != b.dtype:
            return False
        a, b = a.double(), b.double()
        size = b[torch.isfinite(b)].abs().max() if torch.isfinite(b).any() else 0.0
        return torch.allclose(a, b, rtol=0, atol=self.tolerance * max(1e-12, float(size)), equal_nan=True)

    def faults(self):
        """Complaints: slips that give the solution's values, and pairs of slips that give the same ones."""

        def equal(a, b):
            return all(map(self.alike, a, b))

        for slip, theirs in self.known:
            if any(isinstance(results, Wrong) and isinstance(results.__cause__, NameError) for results in theirs):
                yield f"the slip {slip} writes a name that is not there."
            if equal(theirs, self.right):
                yield f"the slip {slip} gives the solution's values on all probes: nobody can see it."
        for (one, a), (other, b) in combinations(self.known, 2):
            if equal(a, b) or equal(b, a):
                yield f"the slips {one} and {other} give the same values: whose words are said?"


def is_float(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def is_whole(value):
    return not value.is_floating_point() and not value.is_complex()


def fault_of(wrong):
    """What an answer that failed is recognised by: the error's type and text, else what was said of it."""
    cause = wrong.__cause__
    return str(wrong) if cause is None else (type(cause), first_line(cause))


def declare(
    solution,
    *,
    probes=None,
    judge=None,
    slips=(),
    wrong=None,
    accepted=None,
    remark="",
    untouched=Exercise.untouched,
    **how,
):
    """An exercise as a declaration. `solution` is a function with the stub's name: the folded Solution is its source.

    Args:
        probes: generator function of random inputs; the answer is right if it gives the solution's values there.
        judge: in place of probes, a test written by hand: function of the answer that returns None or the symptom.
        slips: Slips in the solution's source.
        wrong: dict: name -> (an answer that is no replacement, words that its message must contain).
        accepted: dict: name -> a right answer in another form.
        remark, untouched: see Exercise.
        how: further arguments of Values.

    Raises:
        ValueError: a slip finds no place, or several.
    """
    built = tuple((slip, slip.applied(solution)) for slip in slips)
    mistakes = {str(slip): (function, slip.words) for slip, function in built} | (wrong or {})
    if judge and (probes or how):
        raise ValueError("a judge written by hand makes its own probes; give either a judge, or probes.")
    values = () if judge else (Values(solution, probes, built, **how),)
    return Exercise(judge or values[0].symptom, solution, mistakes, remark, untouched, accepted or {}, values)


def together(*exercises, remark="", wrong=None):
    """One exercise of several functions, each declared on its own; the answer is a tuple of them."""
    names = [exercise.solution.__name__ for exercise in exercises]
    solution = tuple(exercise.solution for exercise in exercises)

    def symptom(answer):
        """The functions one after the other; what is still untouched is named once something is done."""
        if not isinstance(answer, tuple | list) or len(answer) != len(names):
            raise Wrong(f"{len(names)} functions are expected, ({', '.join(names)}), and this is {describe(answer)}.")
        untouched, done = [], []
        for name, exercise, function in zip(names, exercises, answer):
            try:
                text = verdict(exercise, function)
            except Untouched:
                untouched.append(name)
                continue
            if text:
                return f"{name}: {text}"
            done.append(name)
        if not done:
            raise Untouched
        return f"{', '.join(done)}: right. Still to write: {', '.join(untouched)}." if untouched else None

    def with_part(k, part):
        return (*solution[:k], part, *solution[k + 1 :])

    mistakes = {
        f"{name}: {slip}": (with_part(k, answer), words)
        for k, (name, exercise) in enumerate(zip(names, exercises))
        for slip, (answer, words) in exercise.mistakes.items()
    }
    accepted = {
        f"{name}: {form}": with_part(k, answer)
        for k, (name, exercise) in enumerate(zip(names, exercises))
        for form, answer in exercise.accepted.items()
    }
    values = tuple(values for exercise in exercises for values in exercise.values)
    return Exercise(symptom, solution, mistakes | (wrong or {}), remark, accepted=accepted, values=values)


def choose(solution, *, among, look, what, remark="", wrong=None):
    """An exercise whose answer is a choice for each of several names, such as {"A": ..., "B": ...}.

    Args:
        solution: dict: name -> the right choice.
        among: the choices: a list of words, or a range of numbers.
        look: function of (name, choice) that says where to look; the choice is `...` where there is none yet.
        what: what a choice is, in words, such as "the number of a line".
        remark: see Exercise.
        wrong: dict: name -> (wrong answer, words that its message must contain).
    """
    keys = ", ".join(f'"{name}"' for name in solution)
    listing = f"{among[0]} to {among[-1]}" if isinstance(among, range) else ", ".join(among)

    def symptom(answer):
        if not isinstance(answer, dict) or set(answer) != set(solution):
            return f"A dict is expected, with {what} for each of {keys}."
        if all(choice is ... for choice in answer.values()):
            raise Untouched
        made = {name: plain(answer[name]) for name in solution if answer[name] is not ...}
        for name, choice in made.items():
            if isinstance(choice, bool) or not isinstance(choice, str | int | float) or choice not in among:
                return f"{name} is {describe(choice)}; expected {what}: {listing}."
        begin = f"{sum(solution[name] == choice for name, choice in made.items())} of {len(solution)} found. "
        for name, choice in made.items():
            if choice != solution[name]:
                return begin + look(name, choice)
        if remaining := [name for name in solution if name not in made]:
            return f"{begin}Still open: {', '.join(remaining)}. {look(remaining[0], ...)}".rstrip()
        return None

    return Exercise(symptom, solution, wrong or {}, remark)


def plain(choice):
    """A choice as Python's own word or number."""
    if isinstance(choice, torch.Tensor | np.ndarray | np.generic) and math.prod(choice.shape) == 1:
        choice = choice.item()
    return choice.strip() if isinstance(choice, str) else choice


def faults(exercise):
    """What is wrong with a declared exercise itself, as a list of complaints (empty for one written by hand)."""
    with undisturbed():
        return [complaint for values in exercise.values for complaint in values.faults()]

"""Exercises: `check("01.2", mine)` in a lesson's cell says whether the answer is right, and if not, what it looks like.

engine.py judges, lesson_NN.py holds the exercises of one lesson, material.py what exercises show.
"""

from .engine import check, find

__all__ = ["check", "find"]

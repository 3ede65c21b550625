"""What the tests of several experiments share."""

import torch

CPU = torch.device("cpu")


def silent(line):
    """Progress that says nothing."""


def mean_over(rows, key, **which):
    """The mean of a key over the rows that have these values."""
    values = [row[key] for row in rows if all(row[name] == value for name, value in which.items())]
    assert values, which
    return sum(values) / len(values)

"""How much a chat template may do. Templates come with model files, so they are not trusted.

Work is counted in units: a unit is one elementary step, one element of a container, or sixteen letters
of a string that is made or looked at. Whatever can make something large or take long asks here first.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

UNITS = 1_000_000
UNITS_PER_LETTER = 4
"""The allowance: UNITS (a second or so), and UNITS_PER_LETTER more for every letter of the messages.

A conversation of a thousand messages takes about a tenth of it with the templates of today's models.
"""

LETTERS_PER_UNIT = 16
MAX_INTEGER_BITS = 4096

_COLLECTIONS = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


class TooMuchWork(Exception):
    """A template used up its allowance, or asked for something absurd."""


class Budget:
    """What is left of one rendering's allowance. call_cost: units of a call of one of its macros."""

    def __init__(self, units: int, call_cost: int = 1) -> None:
        self.left = units
        self.call_cost = call_cost


_BUDGET: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def allowance(budget: Budget) -> Iterator[None]:
    """Work within the block counts against this budget."""
    token = _BUDGET.set(budget)
    try:
        yield
    finally:
        _BUDGET.reset(token)


def spend(units: int) -> None:
    """Take units off. Raises TooMuchWork when there are not enough."""
    budget = _BUDGET.get()
    budget.left -= units
    if budget.left < 0:
        raise TooMuchWork("it does more work than any conversation needs")


def spend_call() -> None:
    """Take off what a macro call costs."""
    spend(_BUDGET.get().call_cost)


def spend_letters(letters: int) -> None:
    """Take off what a string of this length costs."""
    spend(1 + letters // LETTERS_PER_UNIT)


def spend_value(value: Any) -> tuple[int, int]:
    """Take off what it costs to walk through a value; returns the number of its parts and its depth.

    A part that is contained twice counts twice: that is how long it takes to print or compare it.
    """
    parts, deepest = 0, 0
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        parts, deepest = parts + 1, max(deepest, depth)
        if isinstance(part, str):
            spend_letters(len(part))
        elif isinstance(part, _COLLECTIONS):
            spend(1 + len(part))
            waiting.extend((each, depth + 1) for each in part)
        elif isinstance(part, Mapping):
            spend(1 + 2 * len(part))
            waiting.extend((each, depth + 1) for pair in part.items() for each in pair)
        else:
            spend(1)
    return parts, deepest


def spend_size(value: Any) -> None:
    """Take off what it costs to copy a value without looking into its parts."""
    if isinstance(value, str):
        spend_letters(len(value))
    elif hasattr(value, "__len__"):
        spend(1 + len(value))
    else:
        spend(1)

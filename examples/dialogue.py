"""A form that is filled in by talking: the model asks, and reads every answer into a field of its type.

    plait program examples/dialogue.py "I'm Ann Lee; next Friday at eight; the four of us; by the window"

Answers come from the command line, apart by semicolons; at a terminal those that are missing are asked for.
"""

from __future__ import annotations

import sys
from typing import Any

from plait.programs.lm import Constraint, Prompt, integer, one_of, regex

FIELDS: list[tuple[str, str, type, Constraint]] = [
    ("name", "What is your name?", str, regex(r"[A-Z][A-Za-z' .-]{0,30}")),
    (
        "day",
        "Which day would you like to come?",
        str,
        one_of([*("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")]),
    ),
    ("guests", "How many of you will there be?", int, integer(1, 20)),
    ("table", "Where would you like to sit?", str, one_of(["window", "garden", "bar", "any"])),
]
SHOTS = """A waiter takes a booking and notes every answer down.

Waiter: What is your name?
Guest: My name's Peter Novak, hello.
Note: name = Peter Novak
Waiter: Which day would you like to come?
Guest: Could we come on tuesday evening?
Note: day = Tuesday
Waiter: How many of you will there be?
Guest: My wife, my son and I, so three.
Note: guests = 3
Waiter: Where would you like to sit?
Guest: Outside would be lovely.
Note: table = garden
Waiter: Thank you, Peter Novak! A table for 3 in the garden on Tuesday.

"""


async def main(p: Prompt, answers: str = "") -> dict[str, Any]:
    """Book a table by talking."""
    given = [answer.strip() for answer in answers.split(";") if answer.strip()]
    found: dict[str, Any] = {}
    p += SHOTS
    for name, question, kind, constraint in FIELDS:
        said = given.pop(0) if given else ask(question)
        p += f"Waiter: {question}\nGuest: {said}\nNote: {name} = "
        found[name] = await p.gen(kind, constraint, stops_before="\n")
        p += "\n"
    p += "Waiter: "
    found["reply"] = await p.gen(stops_before="\n", max_tokens=40)
    return found


def ask(question: str) -> str:
    """The guest's answer from the terminal. Raises ValueError where there is none."""
    if not sys.stdin.isatty():
        raise ValueError(f"nobody answers {question!r}: give all answers, apart by semicolons")
    return input(f"{question} ")

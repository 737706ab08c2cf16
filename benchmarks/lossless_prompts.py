"""The prompts of benchmarks/lossless.py, with what is asked of each.

Every fourth has stop strings, and the model's own end ends it as well; the others go on for as many tokens as were
asked for. Every eighth is long: it is read in several forwards, and begins like the other long ones.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait import SamplingParams

TEXT = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "text" / "english.txt"
CODE_STOPS = ["\ndef", "\nclass", "\nif __name__", "\n#", "\nprint"]
PROSE_STOPS = ["\n\n", " the end", "ing.", "I do not"]
SHOTS = 6
"""Solved problems that a long prompt of code begins with."""
PIECES, LONGEST, LONG = 200, 700, 5000
"""Pieces of prose, letters of the longest of the short ones, and of what all long ones begin with."""


@dataclass(frozen=True)
class Asked:
    """One prompt. stops: none for an answer of fixed length."""

    text: str
    stops: tuple[str, ...]

    def params(self, tokens: int) -> SamplingParams:
        return SamplingParams(
            max_tokens=tokens, temperature=0.0, stop=list(self.stops), ignore_eos=not self.stops
        )


def humaneval(file: Path) -> tuple[list[Asked], list[str]]:
    """The problems of a file of HumanEval, and texts for a corpus: the solved problems of odd number."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines if line.strip()]
    solved = [problem["prompt"] + problem["canonical_solution"] for problem in problems]
    shots = "\n\n".join(solved[-SHOTS:]) + "\n\n"
    asked = [_asked(i, one["prompt"], shots, CODE_STOPS) for i, one in enumerate(problems)]
    return asked, solved[1::2]


def prose() -> tuple[list[Asked], list[str]]:
    """Pieces of 20 letters and more, every other one twice, so that there is something to copy; and texts for a
    corpus: every second thousand letters of the same book."""
    text = TEXT.read_text(encoding="utf-8")
    asked = []
    for number in range(PIECES):
        start, length = number * len(text) // PIECES, 20 + 97 * number % LONGEST
        piece = text[start : start + length]
        twice = piece + "\n" + piece if number % 2 else piece
        asked.append(_asked(number, twice, text[:LONG] + "\n\n", PROSE_STOPS))
    return asked, [text[start : start + 1000] for start in range(0, len(text), 2000)]


def _asked(number: int, text: str, before: str, stops: list[str]) -> Asked:
    long = number % 8 == 6
    return Asked(before + text if long else text, tuple(stops) if number % 4 == 1 else ())


def described(asked: list[Asked]) -> dict[str, Any]:
    """For the record."""
    return {
        "prompts": len(asked),
        "long": sum(number % 8 == 6 for number in range(len(asked))),
        "with_stop_strings": sum(bool(one.stops) for one in asked),
    }

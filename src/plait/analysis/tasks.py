"""Tasks with answers that can be checked: files of items, and what grades an answer.

A file holds a JSON object per line: {"prompt": text, "answer": text, "max_tokens": number, "grader": name}; "grader"
may be left out, then the answer has to be the same text but for the space around it. Instead of max_tokens "infill" may
say which stretches of the prompt are open, [[start, end], ...] in tokens; the answer is the text from the first on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from plait.core.errors import FormatError, UserError
from plait.core.params import SamplingParams

MAX_BYTES = 64 << 20
MOST_TOKENS = 1 << 20


@dataclass(frozen=True, slots=True)
class Item:
    """prompt: what the model goes on from, or fills in. max_tokens: longest answer. infill: as for SamplingParams."""

    prompt: str
    answer: str
    max_tokens: int = 0
    grader: str = "exact"
    infill: tuple[tuple[int, int], ...] = ()

    def is_solved(self, text: str) -> bool:
        """Whether a model's answer counts."""
        return GRADERS[self.grader](self, text)


Grader = Callable[[Item, str], bool]


def exact(item: Item, text: str) -> bool:
    """The same text, but for the space around it."""
    return text.strip() == item.answer.strip()


def permutation(item: Item, text: str) -> bool:
    """The same letters in any order (shuffling has many right answers)."""
    return sorted(text.strip()) == sorted(item.answer.strip())


def same_json(item: Item, text: str) -> bool:
    """JSON that says the same."""
    try:
        return bool(json.loads(text) == json.loads(item.answer))
    except (ValueError, RecursionError):
        return False


def pattern(item: Item, text: str) -> bool:
    """The answer is a regular expression, and all of the text but the space around it matches (a free choice that has
    to be repeated is one: `\\1`)."""
    return re.fullmatch(item.answer, text.strip()) is not None


GRADERS: dict[str, Grader] = {
    "exact": exact,
    "permutation": permutation,
    "json": same_json,
    "pattern": pattern,
}
"""By the name that a file knows."""


def read(file: Path, most: int = 0) -> list[Item]:
    """The items of a file, the first `most` of them (0: all). Raises UserError with the line at fault."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise FormatError(f"{file} is larger than {MAX_BYTES:,} bytes", "fewer items")
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is no task: {error}") from None
    items = [_item(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise FormatError(f"{file} holds no item", "a JSON object per line")
    return items[:most] if most else items


def _item(file: Path, number: int, line: str) -> Item:
    where = f"{file}, line {number}"
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise FormatError(f"{where} is not JSON", "an object with prompt and answer") from None
    known = {field.name: field for field in fields(Item)}
    if not isinstance(found, dict) or found.keys() - known:
        raise FormatError(f"{where} is no item", f"fields: {', '.join(known)}")
    length = "infill" if "infill" in found else "max_tokens"
    if missing := [name for name in ("prompt", "answer", length) if name not in found]:
        raise FormatError(f"{where} has no {missing[0]}", f"fields: {', '.join(known)}")
    _check(where, found)
    return Item(**{**found, "infill": _stretches(where, found)})


def _stretches(where: str, found: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    given = found.get("infill", [])
    try:
        stretches = tuple((start, end) for start, end in given)
        SamplingParams(infill=stretches)
    except (TypeError, ValueError):
        raise FormatError(f"{where}: infill is {given!r}", "[[start, end], ...]") from None
    except UserError as error:
        raise FormatError(f"{where}: {error.message}", error.hint) from None
    return stretches


def _check(where: str, found: dict[str, Any]) -> None:
    for name in ("prompt", "answer", "grader"):
        if not isinstance(found.get(name, ""), str):
            raise FormatError(f"{where}: {name} is no text", "a string")
    if "max_tokens" in found and "infill" in found:
        raise FormatError(f"{where} has max_tokens and infill", "one of them")
    count = found.get("max_tokens", 1)
    if type(count) is not int or not 1 <= count <= MOST_TOKENS:
        raise FormatError(f"{where}: max_tokens is {count!r}", f"from 1 to {MOST_TOKENS}")
    if found.get("grader", "exact") not in GRADERS:
        raise FormatError(
            f"{where}: grader {found['grader']!r} is not known", f"one of: {', '.join(GRADERS)}"
        )
    if found.get("grader") == "pattern":
        _check_pattern(where, found["answer"])


def _check_pattern(where: str, answer: str) -> None:
    try:
        re.compile(answer)
    except (re.error, RecursionError, OverflowError) as error:
        raise FormatError(
            f"{where}: answer is no pattern: {error}", "a regular expression"
        ) from None

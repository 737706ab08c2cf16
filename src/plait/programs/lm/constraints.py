"""What a hole may hold, as languages: expressions that are joined by `&`, `|` and `~` before they become token masks.

Every constraint is a regular language over text, written as a terminal of llguidance's notation, which knows
intersections and complements. Nothing is generated first and checked afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from plait.core.errors import UserError

ANYTHING = "/(?s:.*)/"
MOST_DIGITS = 18
INTEGER = f"-?(0|[1-9][0-9]{{0,{MOST_DIGITS - 1}}})"
NUMBER = rf"{INTEGER}(\.[0-9]{{1,6}})?"


@dataclass(frozen=True, slots=True)
class Constraint:
    """terminal: the language. stops_at, stops_before: texts that end a hole, if this is all of its constraint or one
    of those joined by `&`. max_tokens, min_tokens: of the whole answer; None and 0 for no bound."""

    terminal: str = ANYTHING
    stops_at: tuple[str, ...] = ()
    stops_before: tuple[str, ...] = ()
    max_tokens: int | None = None
    min_tokens: int = 0

    @property
    def is_free(self) -> bool:
        """Whether any text fits."""
        return self.terminal == ANYTHING

    def __and__(self, other: Constraint) -> Constraint:
        _check(other)
        least = [c.max_tokens for c in (self, other) if c.max_tokens is not None]
        free = [c.terminal for c in (self, other) if not c.is_free]
        return Constraint(
            f"({' & '.join(free)})" if len(free) > 1 else (free or [ANYTHING])[0],
            self.stops_at + other.stops_at,
            self.stops_before + other.stops_before,
            min(least, default=None),
            max(self.min_tokens, other.min_tokens),
        )

    def __or__(self, other: Constraint) -> Constraint:
        _check(other)
        return Constraint(f"({self._language('or')} | {other._language('or')})")

    def __invert__(self) -> Constraint:
        return Constraint(_without(self._language("not")))

    def _language(self, word: str) -> str:
        """As a set of texts. Raises UserError for what is none."""
        if self.max_tokens is not None or self.min_tokens:
            raise UserError(
                f"a number of tokens cannot stand within {word!r}",
                "joined by & to the rest; or a length in characters or words",
            )
        if self.stops_before:
            raise UserError(
                f"stops_before cannot stand within {word!r}: its text is no part of the answer",
                "joined by & to the rest; or stops_at",
            )
        parts = [self.terminal, *map(ending, self.stops_at)]
        return f"({' & '.join(parts)})" if len(parts) > 1 else parts[0]


def regex(pattern: str) -> Constraint:
    """The whole answer matches an expression: as Rust has them, without look-around and back references."""
    if not isinstance(pattern, str) or not pattern:
        raise UserError("regex needs an expression", 'such as "[a-z]+"')
    return Constraint(f"/{_escaped(pattern)}/")


def one_of(texts: Sequence[str]) -> Constraint:
    """The answer is one of these texts."""
    is_list = isinstance(texts, Sequence) and not isinstance(texts, str) and len(texts)
    if not is_list or not all(isinstance(text, str) and text for text in texts):
        raise UserError("one_of needs a list of texts", "at least one, none of them empty")
    return Constraint(f"({' | '.join(map(literal, texts))})")


def integer(low: int | None = None, high: int | None = None) -> Constraint:
    """A whole number, without leading zeros; both bounds included."""
    if low is None and high is None:
        return regex(INTEGER)
    bound = 10**MOST_DIGITS - 1
    first, last = (-bound if low is None else low), (bound if high is None else high)
    if not all(type(n) is int and abs(n) <= bound for n in (first, last)) or first > last:
        raise UserError(
            f"integer: no whole numbers from {low} to {high}", f"bounds of {MOST_DIGITS} digits"
        )
    signs = []
    if first < 0:
        signs.append(f"-({'|'.join(_between(max(1, -last), -first))})")
    if last >= 0:
        signs += _between(max(0, first), last)
    return regex("|".join(signs))


def number(decimals: int = 6) -> Constraint:
    """A decimal number, with so many digits after the point at most."""
    if type(decimals) is not int or not 0 <= decimals <= MOST_DIGITS:
        raise UserError(f"number: decimals={decimals!r}", f"from 0 to {MOST_DIGITS}")
    tail = f"(\\.[0-9]{{1,{decimals}}})?" if decimals else ""
    return regex(f"{INTEGER}{tail}")


def contains(text: str) -> Constraint:
    """The text occurs in the answer."""
    return Constraint(f"({ANYTHING} {literal(_text(text, 'contains'))} {ANYTHING})")


def characters(at_least: int = 0, at_most: int | None = None) -> Constraint:
    """How long the answer is, in characters."""
    low, high = _bounds("characters", at_least, at_most)
    return Constraint(f"/(?s:.{{{low},{high}}})/")


def words(at_least: int = 1, at_most: int | None = None) -> Constraint:
    """How many words the answer has: what white space separates, three letters of it at most; there may be some before
    and behind them. A word has 50 letters at most: else the answer need not come to an end."""
    low, high = _bounds("words", at_least, at_most)
    if low < 1:
        raise UserError("words: at_least=0", "1 or more; or characters(...)")
    rest = f"{{{low - 1},{int(high) - 1 if high else ''}}}"
    word = r"\S{1,50}"
    return regex(rf"\s{{0,3}}{word}(\s{{1,3}}{word}){rest}\s{{0,3}}")


def tokens(at_least: int = 0, at_most: int | None = None) -> Constraint:
    """How many tokens the answer has. At least so many: only where nothing else is asked for."""
    _bounds("tokens", at_least, at_most)
    return Constraint(max_tokens=at_most, min_tokens=at_least)


def stops_at(*texts: str) -> Constraint:
    """The answer ends with the first of these texts to occur, which is a part of it."""
    return Constraint(stops_at=tuple(_text(text, "stops_at") for text in texts))


def stops_before(*texts: str) -> Constraint:
    """The answer ends before the first of these texts to occur."""
    return Constraint(stops_before=tuple(_text(text, "stops_before") for text in texts))


def without(*texts: str) -> str:
    """The language of what holds none of these texts."""
    if all(len(text) == 1 for text in texts):
        # As a complement even a short constraint beside it can cost more than the library's limits allow.
        letters = "".join(f"\\x{{{ord(text):x}}}" for text in texts)
        return f"/[^{letters}]*/"
    return _without(f"{ANYTHING} ({' | '.join(map(literal, texts))}) {ANYTHING}")


def ending(*texts: str) -> str:
    """The language of what ends with one of these texts, where none has occurred before."""
    either = " | ".join(map(literal, texts))
    return f"(({ANYTHING} ({either})) & {_without(f'{ANYTHING} ({either}) /(?s:.+)/')})"


def literal(text: str) -> str:
    """The language of one text."""
    return json.dumps(text, ensure_ascii=False)


def _without(language: str) -> str:
    """All other texts."""
    # Of a complement alone the library does not notice when no text is left, and lets the answer run into a dead end;
    # of an intersection it does. This one holds everything, in a way that is not simplified to that.
    return f'(~({language}) & ({ANYTHING} /(?s:.)/ | ""))'


def _text(text: object, name: str) -> str:
    if not isinstance(text, str) or not text:
        raise UserError(f"{name}: {text!r} is no text", "one that is not empty")
    return text


def _escaped(pattern: str) -> str:
    """For between two slashes."""
    done, is_quoted = [], False
    for letter in pattern:
        bare = {"/": "/", "\n": "n"}.get(letter)
        done.append(letter if bare is None else bare if is_quoted else f"\\{bare}")
        is_quoted = letter == "\\" and not is_quoted
    return "".join(done)


def _check(other: object) -> None:
    if not isinstance(other, Constraint):
        raise UserError(f"{other!r} is no constraint", "such as one_of([...]) or regex(...)")


def _bounds(name: str, low: int, high: int | None) -> tuple[int, str]:
    is_fine = (
        type(low) is int and low >= 0 and (high is None or (type(high) is int and high >= low))
    )
    if not is_fine or high == 0:
        raise UserError(f"{name}: from {low} to {high}", "whole numbers, the second at least 1")
    return low, "" if high is None else str(high)


def _between(low: int, high: int) -> list[str]:
    """Expressions for the whole numbers from low >= 0 to high."""
    if len(str(low)) < len(str(high)):
        top = 10 ** len(str(low))
        return _between(low, top - 1) + _between(top, high)
    first, last = str(low), str(high)
    if first == last:
        return [first]
    if len(first) == 1:
        return [f"[{first}-{last}]"]
    head, other, size = first[0], last[0], len(first) - 1
    if head == other:
        inner = _padded(int(first[1:]), int(last[1:]), size)
        return [f"{head}({'|'.join(inner)})"]
    parts = [f"{head}({'|'.join(_padded(int(first[1:]), 10**size - 1, size))})"]
    if int(head) + 1 < int(other):
        parts.append(f"[{int(head) + 1}-{int(other) - 1}][0-9]{{{size}}}")
    return [*parts, f"{other}({'|'.join(_padded(0, int(last[1:]), size))})"]


def _padded(low: int, high: int, size: int) -> list[str]:
    """As `_between`, all with `size` digits, zeros in front."""
    if low == 0 and high == 10**size - 1:
        return [f"[0-9]{{{size}}}"]
    first, last = str(low).zfill(size), str(high).zfill(size)
    if size == 1:
        return [f"[{first}-{last}]"]
    parts: list[str] = []
    for digit in range(int(first[0]), int(last[0]) + 1):
        start = int(first[1:]) if digit == int(first[0]) else 0
        end = int(last[1:]) if digit == int(last[0]) else 10 ** (size - 1) - 1
        parts.append(f"{digit}({'|'.join(_padded(start, end, size - 1))})")
    return parts

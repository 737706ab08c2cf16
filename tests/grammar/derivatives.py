"""Regular expressions over bytes by Brzozowski's derivatives: slow, small, and nothing to do with any library.

Equal expressions are one object, so that what was derived of one is found again at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, reduce
from typing import Any


class Expression:
    """kind: set (of bytes), cat, or, star, empty (matches no byte), none (matches nothing)."""

    __slots__ = ("first", "kind", "second")

    def __init__(self, kind: str, first: Any, second: Any) -> None:
        self.kind, self.first, self.second = kind, first, second


@cache
def make(kind: str, first: Any = None, second: Any = None) -> Expression:
    return Expression(kind, first, second)


EMPTY = make("empty")
NONE = make("none")


def cat(a: Expression, b: Expression) -> Expression:
    if NONE in (a, b):
        return NONE
    if a == EMPTY:
        return b
    return a if b == EMPTY else make("cat", a, b)


def either(a: Expression, b: Expression) -> Expression:
    if a in (NONE, b):
        return b
    return a if b == NONE else make("or", a, b)


def star(a: Expression) -> Expression:
    return make("star", a)


def text(letters: str) -> Expression:
    parts: list[Expression] = [make("set", bytes([byte])) for byte in letters.encode()]
    return reduce(lambda done, part: cat(part, done), reversed(parts), EMPTY)


def one_of(texts: Iterable[str]) -> Expression:
    return reduce(either, map(text, texts), NONE)


def times(a: Expression, least: int, most: int) -> Expression:
    done = EMPTY
    for count in range(most, 0, -1):
        done = cat(a, done) if count <= least else either(EMPTY, cat(a, done))
    return done


def span(first: str, last: str) -> Expression:
    """One letter of a span of ASCII."""
    return make("set", bytes(range(ord(first), ord(last) + 1)))


def any_letter(but: str = "") -> Expression:
    """Any character but some of ASCII, as UTF-8 has it (RFC 3629, section 4)."""
    tail: Expression = make("set", bytes(range(0x80, 0xC0)))
    rows = [
        (bytes(byte for byte in range(0x80) if chr(byte) not in but), []),
        (bytes(range(0xC2, 0xE0)), [tail]),
        (b"\xe0", [make("set", bytes(range(0xA0, 0xC0))), tail]),
        (bytes([*range(0xE1, 0xED), 0xEE, 0xEF]), [tail, tail]),
        (b"\xed", [make("set", bytes(range(0x80, 0xA0))), tail]),
        (b"\xf0", [make("set", bytes(range(0x90, 0xC0))), tail, tail]),
        (b"\xf1\xf2\xf3", [tail, tail, tail]),
        (b"\xf4", [make("set", bytes(range(0x80, 0x90))), tail, tail]),
    ]
    letters = [
        reduce(lambda done, part: cat(part, done), reversed([make("set", head), *tails]), EMPTY)
        for head, tails in rows
    ]
    return reduce(either, letters, NONE)


@cache
def nullable(a: Expression) -> bool:
    kind = a.kind
    if kind == "cat":
        return nullable(a.first) and nullable(a.second)
    if kind == "or":
        return nullable(a.first) or nullable(a.second)
    return kind in ("empty", "star")


@cache
def after(a: Expression, byte: int) -> Expression:
    """What may follow the byte."""
    kind = a.kind
    if kind == "set":
        return EMPTY if byte in a.first else NONE
    if kind == "cat":
        first = cat(after(a.first, byte), a.second)
        return either(first, after(a.second, byte)) if nullable(a.first) else first
    if kind == "or":
        return either(after(a.first, byte), after(a.second, byte))
    return cat(after(a.first, byte), a) if kind == "star" else NONE


def after_all(a: Expression, data: bytes) -> Expression:
    for byte in data:
        a = after(a, byte)
        if a == NONE:
            break
    return a

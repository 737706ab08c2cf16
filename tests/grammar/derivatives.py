"""Languages over bytes by Brzozowski's derivatives: slow, small, and nothing to do with any library.

Equal expressions are one object, so that what was derived of one is found again at once. With rules that name each other
(`rule`) they are context-free grammars; a rule may not come back to itself before a byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, reduce
from typing import Any


class Expression:
    """kind: set (of bytes), cat, or, star, rule (what a function gives), empty (matches no byte), none (matches
    nothing)."""

    __slots__ = ("first", "kind", "second")

    def __init__(self, kind: str, first: Any, second: Any) -> None:
        self.kind, self.first, self.second = kind, first, second


@cache
def make(kind: str, first: Any = None, second: Any = None) -> Expression:
    return Expression(kind, first, second)


EMPTY = make("empty")
NONE = make("none")


def cat(a: Expression, b: Expression) -> Expression:
    if a is NONE or b is NONE:
        return NONE
    if a is EMPTY:
        return b
    if b is EMPTY:
        return a
    return make("cat", a.first, cat(a.second, b)) if a.kind == "cat" else make("cat", a, b)


def row(*parts: Expression) -> Expression:
    return reduce(lambda done, part: cat(part, done), reversed(parts), EMPTY)


def either(*ways: Expression) -> Expression:
    found: set[Expression] = set()
    for way in ways:
        found |= way.first if way.kind == "or" else {way}
    found.discard(NONE)
    if len(found) == 1:
        return found.pop()
    return make("or", frozenset(found)) if found else NONE


def star(a: Expression) -> Expression:
    return make("star", a)


def rule(give: Callable[[], Expression]) -> Expression:
    """What the function gives, asked for when a byte is to be derived; the same function is the same rule."""
    return make("rule", give)


def text(letters: str) -> Expression:
    return row(*(make("set", bytes([byte])) for byte in letters.encode()))


def one_of(texts: Iterable[str]) -> Expression:
    return either(*map(text, texts))


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
    return either(*(row(make("set", head), *tails) for head, tails in rows))


@cache
def nullable(a: Expression) -> bool:
    kind = a.kind
    if kind == "cat":
        return nullable(a.first) and nullable(a.second)
    if kind == "or":
        return any(map(nullable, a.first))
    return nullable(a.first()) if kind == "rule" else kind in ("empty", "star")


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
        return either(*(after(way, byte) for way in a.first))
    if kind == "rule":
        return after(a.first(), byte)
    return cat(after(a.first, byte), a) if kind == "star" else NONE


def after_all(a: Expression, data: bytes) -> Expression:
    for byte in data:
        a = after(a, byte)
        if a is NONE:
            break
    return a


class Tokens:
    """A vocabulary in the order of its bytes, so that tokens which begin alike are tried together."""

    def __init__(self, spelt: dict[int, bytes]) -> None:
        """spelt: what each token says, at least one byte."""
        self._sorted = sorted((data, token) for token, data in spelt.items())

    def allowed(self, rest: Expression) -> set[int]:
        """The tokens of which every byte can come next: each one is tried."""
        found, before, along = set(), b"", [rest]  # along[i]: after i bytes of the last token
        for data, token in self._sorted:
            shared = _shared(before, data)
            del along[shared + 1 :]
            before = data
            if along[-1] is NONE:  # so does this one begin
                continue
            for byte in data[shared:]:
                along.append(after(along[-1], byte))
                if along[-1] is NONE:
                    break
            else:
                found.add(token)
        return found


def _shared(a: bytes, b: bytes) -> int:
    """How many bytes two begin with alike."""
    most = min(len(a), len(b))
    if a[:most] == b[:most]:
        return most
    return next(i for i in range(most) if a[i] != b[i])

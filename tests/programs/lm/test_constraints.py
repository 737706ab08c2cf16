"""Constraints are the languages that they say they are: asked of the grammar letter by letter, against plain Python."""

from __future__ import annotations

import itertools
import json
import random
import re
import string
from collections.abc import Callable

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.structured import StructuredOutputs
from plait.grammar.base import bits
from plait.grammar.llguidance import Compiler
from plait.programs.lm import (
    Constraint,
    characters,
    contains,
    hole,
    integer,
    number,
    one_of,
    regex,
    stops_at,
    stops_before,
    tokens,
    words,
)

LETTERS = string.printable
NAMES = [*LETTERS, "ab", "12", "c\n", " a"]
EOS = len(NAMES)


class Spelling:
    """Letters, a few pairs of them, and an end."""

    special_ids = frozenset({EOS})

    def vocabulary(self) -> list[bytes]:
        return [*(name.encode() for name in NAMES), b"<end>"]

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        return [NAMES.index(letter) for letter in text]


COMPILER = Compiler(Spelling, frozenset({EOS}), EOS + 1)


def fits(constraint: Constraint, text: str) -> bool:
    """Whether the answer may be this text."""
    asked = hole.for_value(str, constraint, None, "").structured
    assert asked is not None
    state = COMPILER.compile(asked)
    return all(state.advance(NAMES.index(letter)) for letter in text) and (
        state.is_accepting and not state.is_closed
    )


def begins(constraint: Constraint, text: str) -> bool:
    """Whether the answer may begin with this text."""
    asked = hole.for_value(str, constraint, None, "").structured
    assert asked is not None
    state = COMPILER.compile(asked)
    is_there = all(state.advance(NAMES.index(letter)) for letter in text)
    return is_there and not state.is_closed


TEXTS = ["".join(letters) for n in range(5) for letters in itertools.product("ab c/", repeat=n)]
CASES: list[tuple[Constraint, Callable[[str], bool]]] = [
    (one_of(["a", "ab", "b c"]), lambda t: t in ("a", "ab", "b c")),
    (regex("a+|b/"), lambda t: bool(re.fullmatch("a+|b/", t))),
    (regex(r"a\/b"), lambda t: t == "a/b"),
    (regex("a[/ ]b"), lambda t: t in ("a/b", "a b")),
    (contains("ab"), lambda t: "ab" in t),
    (~contains("a"), lambda t: "a" not in t),
    (characters(2, 2), lambda t: len(t) == 2),
    (characters(2), lambda t: len(t) >= 2),
    (words(2, 2), lambda t: len(t.split()) == 2),
    (words(1), lambda t: len(t.split()) >= 1),
    (words(1, 1) & ~contains("c"), lambda t: len(t.split()) == 1 and "c" not in t),
    (regex("a*") | contains("b"), lambda t: set(t) <= {"a"} or "b" in t),
    (~(regex("a*") | contains("b")), lambda t: not (set(t) <= {"a"} or "b" in t)),
    (~~one_of(["a"]), lambda t: t == "a"),
    (~one_of(["a", "b"]) & characters(1, 2), lambda t: t not in ("a", "b") and 1 <= len(t) <= 2),
    (~stops_at("b") & characters(1), lambda t: len(t) > 0 and t.find("b") != len(t) - 1),
    (stops_at("b") | one_of(["a"]), lambda t: t == "a" or t.find("b") == len(t) - 1 >= 0),
]


@pytest.mark.parametrize(("constraint", "fitting"), CASES)
def test_a_constraint_is_its_language(
    constraint: Constraint, fitting: Callable[[str], bool]
) -> None:
    found = {text for text in TEXTS if fits(constraint, text)}
    every = [text for text in TEXTS if fitting(text)]
    for text in TEXTS:
        if len(text) <= 1:
            assert begins(constraint, text) == any(one.startswith(text) for one in every), text
    assert found == {text for text in TEXTS if fitting(text)}
    assert found
    assert len(found) < len(TEXTS)


def test_whole_numbers_between_bounds() -> None:
    rng = random.Random(1)
    pairs = [tuple(sorted(rng.randint(-1300, 2500) for _ in range(2))) for _ in range(60)]
    for low, high in [*pairs, (0, 0), (-1, 1), (5, 5), (99, 101), (-10, -10), (0, 9999), (-7, 0)]:
        pattern = re.compile(integer(low, high).terminal[1:-1])
        found = {n for n in range(-3000, 11000) if pattern.fullmatch(str(n))}
        assert found == set(range(low, high + 1)), (low, high)
        assert not pattern.fullmatch("007")
        assert not pattern.fullmatch("-0")
    assert re.fullmatch(integer(low=3).terminal[1:-1], "9" * 18)
    assert not re.fullmatch(integer(high=3).terminal[1:-1], "4")
    assert fits(integer(), "-120")
    assert not fits(integer(), "01")
    assert fits(number(1), "-0.9")
    assert not fits(number(1), "0.92")
    assert not fits(number(0), "1.0")


def test_where_an_answer_may_end_anything_else_may_follow() -> None:
    """The mask is brute force: what goes on, and behind a whole answer all that begins otherwise."""
    asked = hole.for_value(str, regex("(ab|12)+a?"), None, "").structured
    assert asked is not None
    assert asked.open_end
    plain = StructuredOutputs(grammar=str(asked.grammar))
    for text in ("", "a", "ab", "aba", "ab12", "12a", "1"):
        state, inner = COMPILER.compile(asked), COMPILER.compile(plain)
        for letter in text:
            assert state.advance(NAMES.index(letter))
            assert inner.advance(NAMES.index(letter))
        mask = np.zeros(COMPILER.num_words, np.uint32)
        state.fill(mask)
        goes_on = {i for i in range(EOS) if inner.fork().advance(i)}
        heads = {NAMES[i][0] for i in goes_on}
        others = {i for i in range(EOS) if NAMES[i][0] not in heads}
        wanted = goes_on | (others | {EOS} if inner.is_accepting else set())
        assert set(bits(mask)) == wanted, text
        for token in range(EOS):
            twin = state.fork()
            assert twin.advance(token) == (token in wanted)
            assert twin.is_closed == (token in wanted and token not in goes_on)
            if twin.is_closed:
                assert twin.is_finished
                assert twin.num_tokens == len(text) + 1
                twin.rollback(1)
                assert not twin.is_closed
                assert twin.num_tokens == len(text)


def test_a_stop_may_lie_inside_a_token() -> None:
    """The language with stops goes on behind them, so that a token may hold more than the stop."""
    asked = hole.for_value(str, regex("[abc]*") & stops_before("\n"), None, "")
    assert asked.structured is not None
    assert not asked.structured.open_end
    state = COMPILER.compile(asked.structured)
    assert state.replay([NAMES.index("ab"), NAMES.index("c\n"), NAMES.index("12")]) == 3
    assert asked.text_of("abc\n", "\n") == "abc"


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (int, ["0", "-12"], ["", "1.0", "a"]),
        (float, ["0", "-1.2", "12"], [".1", "1."]),
        (list[int], ["[]", "[1]", "[1,2, -9]"], ["[", "[1,]", "[a]"]),
        (bool, ["true", "false"], ["True"]),
        (list[str], ['["a", "b"]'], ["[a]"]),
    ],
)
def test_kinds_of_values(kind: type, good: list[str], bad: list[str]) -> None:
    made = hole.for_value(kind, None, None, "")
    asked = made.structured
    assert asked is not None

    def whole(text: str) -> bool:
        state = COMPILER.compile(asked)
        told = [NAMES.index(letter) for letter in text]
        return state.replay(told) == len(told) and state.is_accepting and not state.is_closed

    for text in good:
        assert whole(text)
        assert made.read(text) == json.loads(text)
    for text in bad:
        assert not whole(text)


@pytest.mark.parametrize(
    "make",
    [
        lambda: one_of([]),
        lambda: one_of("abc"),
        lambda: one_of(["a", ""]),
        lambda: regex(""),
        lambda: integer(3, 2),
        lambda: integer(0, 10**30),
        lambda: number(40),
        lambda: characters(3, 2),
        lambda: characters(-1),
        lambda: words(0, 3),
        lambda: contains(""),
        lambda: stops_at(""),
        lambda: regex("a") & "b",  # type: ignore[operator]
        lambda: ~tokens(at_most=3),
        lambda: stops_before("a") | regex("b"),
    ],
)
def test_what_is_no_constraint_says_what_would_be(make: Callable[[], Constraint]) -> None:
    with pytest.raises(UserError) as refusal:
        make()
    assert refusal.value.hint

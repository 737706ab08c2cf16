"""Completions against trying everything: what is found fits, and nearly everything that can be is found."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.places import Effort, Places
from plait.core.structured import StructuredOutputs
from plait.grammar.base import State
from plait.grammar.llguidance import Compiler
from tests.engine.schemas import listed, record, short, whole
from tests.engine.test_structured import EOS, SPECIAL, VOCAB, Spelling
from tests.grammar.derivatives import (
    NONE,
    Expression,
    after_all,
    cat,
    either,
    nullable,
    one_of,
    row,
    rule,
    span,
    star,
    text,
    times,
)
from tests.grammar.languages import Language

SCHEMAS: list[dict[str, Any]] = [
    record(a=whole(0, 99), b={"enum": ["a", "bc", "cab"]}),
    record(ab=listed(whole(0, 9), 3), c={"anyOf": [{"const": True}, short(3)]}),
    listed(record(False, a={"enum": [True, 12]}, b=whole(0, 9)), 2),
    short(4),
]


@cache
def cases() -> list[tuple[StructuredOutputs, Expression]]:
    digit = span("0", "9")

    @cache
    def nested() -> Expression:
        return either(row(text("["), rule(nested), text("]")), digit)

    own = [
        (
            StructuredOutputs(regex="(ab|c){3,9}[0-9]{2}"),
            row(times(one_of(["ab", "c"]), 3, 9), digit, digit),
        ),
        (StructuredOutputs(regex="(abc)*d"), cat(star(text("abc")), text("d"))),
        (StructuredOutputs(choice=["abcdefgh", "abc", "12"]), one_of(["abcdefgh", "abc", "12"])),
        (StructuredOutputs(grammar='start: n\nn: "[" n "]" | /[0-9]/'), rule(nested)),
    ]
    return own + [
        (StructuredOutputs(json=schema, disable_any_whitespace=is_compact), language.whole)
        for schema in SCHEMAS
        for is_compact in (False, True)
        for language in [Language(schema, is_compact=is_compact)]
    ]


@cache
def compiler() -> Compiler:
    return Compiler(Spelling, frozenset({EOS}), VOCAB)


TEXTS = {i: data for i, data in enumerate(Spelling().vocabulary()) if i not in SPECIAL}


def can_be_completed(rest: Expression, places: Places) -> bool:
    """Every way is tried, byte by byte; of two that lead to the same rest only one."""
    ways = {rest}
    for position, known in enumerate(places.known, places.first):
        if known in (None, EOS) and places.may_end(position) and any(map(nullable, ways)):
            return True
        tokens = TEXTS if known is None else {known} - {EOS}
        ways = {after_all(way, TEXTS[token]) for way in ways for token in tokens} - {NONE}
    return any(map(nullable, ways))


def fits(rest: Expression, places: Places, found: list[int]) -> bool:
    for place, (known, token) in enumerate(zip(places.known, found, strict=False)):
        if known not in (None, token):
            return False
        if token == EOS:
            return (
                nullable(rest) and places.may_end(places.first + place) and len(found) == place + 1
            )
        rest = after_all(rest, TEXTS[token])
    is_long = len(found) == len(places.known)
    return nullable(rest) and (is_long or places.may_end(places.first + len(found) - 1))


def random_text(state: State, rng: np.random.Generator) -> list[int]:
    """A walk that fits, 12 tokens at most."""
    mask, tokens = np.empty(compiler().num_words, np.uint32), list[int]()
    while len(tokens) < 12 and not state.is_finished:
        state.fill(mask)
        allowed = [t for t in range(VOCAB) if mask[t // 32] >> t % 32 & 1 and t != EOS]
        if not allowed:
            break
        tokens.append(int(rng.choice(allowed)))
        assert state.advance(tokens[-1])
    return tokens


def problems(count: int, seed: int) -> Iterator[tuple[State, Expression, Places]]:
    """Canvases of 1 to 16 places of which some are taken, mostly by tokens of a text that fits."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        asked, rest = cases()[int(rng.integers(len(cases())))]
        state = compiler().compile(asked)
        tokens = random_text(state.fork(), rng)
        size = int(rng.integers(1, 17))
        known: list[int | None] = [None] * size
        for place in range(min(size, len(tokens))):
            if rng.random() < 0.25:
                known[place] = tokens[place] if rng.random() < 0.9 else int(rng.choice(list(TEXTS)))
        last = max((i for i, token in enumerate(known) if token is not None), default=-1)
        yield state, rest, Places(100, known, 100 + last)


def check(count: int, seed: int) -> None:
    possible = missed = 0
    for state, rest, places in problems(count, seed):
        found = compiler().completer.complete(state, places, Effort(8192))
        if can_be_completed(rest, places):
            possible += 1
            missed += found is None
        else:
            assert found is None, (places, found)
        if found is not None:
            assert fits(rest, places, found), (places, found)
            assert state.fork().replay(found) == len(found)
    assert count / 4 < possible < count
    assert missed <= 0.05 * possible, (missed, possible)


def test_what_is_found_fits_and_what_can_be_is_found() -> None:
    check(300, 1)


@pytest.mark.large
def test_ten_thousand_completions() -> None:
    check(10_000, 2)


def test_no_effort_finds_nothing_and_takes_none() -> None:
    asked, _ = cases()[0]
    state, effort = compiler().compile(asked), Effort(20)
    assert compiler().completer.complete(state, Places(0, [None] * 40, -1), effort) is None
    assert -1 <= effort.left <= 20


def test_a_grammar_that_gives_up_is_no_completion() -> None:
    class Broken(State):
        is_accepting = is_finished = False

        def fill(self, mask: Any) -> None:
            mask.fill(0xFFFFFFFF)

        def forced(self) -> int | None:
            return None

        def advance(self, token: int) -> bool:
            raise UserError("the grammar takes too much")

        def rollback(self, count: int) -> None:
            raise AssertionError

        def fork(self) -> State:
            return self

    effort = Effort(4096)
    assert compiler().completer.complete(Broken(), Places(0, [None] * 9, -1), effort) is None
    assert effort.left < 4096

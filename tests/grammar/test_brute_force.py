"""Masks against trying every token of the vocabulary, byte by byte, in languages that owe nothing to the library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

from plait.core.structured import StructuredOutputs
from plait.grammar.base import State, bits
from tests.engine import schemas
from tests.engine.schemas import CHAIN, EXPRESSION, TREE, listed, record, short, whole
from tests.grammar.cases import EXPRESSIONS
from tests.grammar.derivatives import NONE, Expression, Tokens, after_all, nullable
from tests.grammar.languages import Language
from tests.grammar.test_masks import TOKENIZERS, compiler, mask_of
from tests.text.models import tokenizer

STATES = 1000
SCHEMAS: list[dict[str, Any]] = [
    *(short(6), whole(-50, 1000), schemas.BOOL),
    {"enum": ["ключ", "日本語", "naïve", "😀", 'a "quoted" \\ word', "tab\there", "\x7f"]},
    {"enum": [1, "one", None, True, [1, 2]]},
    {"const": {"a": [1, {"b": None}]}},
    {"anyOf": [record(kind={"const": "a"}, x=schemas.BOOL), record(kind={"const": "b"})]},
    *(listed(short(6), 2, 1), listed(listed(schemas.BOOL, 2), 2)),
    record(False, first=short(4), second=schemas.BOOL, third=whole(0, 9)),
    record(**{"ключ": short(5), "日本": whole(0, 9), 'q"uote\\': schemas.BOOL}),
    *(TREE, CHAIN, EXPRESSION),
]


@dataclass
class Walk:
    """An answer: what the library says of it, and what its language says may follow."""

    asked: StructuredOutputs
    state: State
    rest: Expression


@cache
def tokens(name: str) -> Tokens:
    own = tokenizer(name)
    spelt = enumerate(own.vocabulary())
    return Tokens({i: data for i, data in spelt if data and i not in own.special_ids})


@cache
def cases() -> list[tuple[StructuredOutputs, Expression]]:
    found = [
        (StructuredOutputs(json=schema, disable_any_whitespace=is_compact), language.whole)
        for schema in SCHEMAS
        for is_compact in (False, True)
        for language in [Language(schema, is_compact=is_compact)]
    ]
    return found + [(StructuredOutputs(regex=regex), own) for regex, own, _ in EXPRESSIONS]


def walks(name: str, seed: int) -> Iterator[Walk]:
    """Every place of random answers; rare tokens, such as the halves of a character, are chosen often."""
    rng, own = np.random.default_rng(seed), tokenizer(name)
    while True:
        asked, language = cases()[int(rng.integers(len(cases())))]
        walk = Walk(asked, compiler(name).compile(asked), language)
        for _ in range(24):
            yield walk
            allowed = [i for i in bits(mask_of(walk.state, name)) if i not in own.special_ids]
            if not allowed or walk.state.is_finished:
                break
            odd = [i for i in allowed if own.token_bytes(i)[-1] >= 0x80]
            chosen = odd if odd and rng.random() < 0.4 else allowed
            token = int(rng.choice(chosen))
            assert walk.state.advance(token)
            walk.rest = after_all(walk.rest, own.token_bytes(token))


def is_cut(name: str, allowed: set[int]) -> bool:
    """Whether a token among them ends within a character."""
    return any(_is_partial(tokenizer(name).token_bytes(i)) for i in allowed)


def _is_partial(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return True
    return False


def check(name: str, count: int, seed: int) -> None:
    own, num_open, num_cut = tokenizer(name), 0, 0
    for number, walk in enumerate(walks(name, seed)):
        if number == count:
            break
        assert walk.rest is not NONE
        allowed, forced = set(bits(mask_of(walk.state, name))), walk.state.forced()
        assert bool(allowed & own.eos_ids) == nullable(walk.rest), walk
        assert walk.state.is_accepting == nullable(walk.rest)
        allowed -= own.eos_ids
        expected = tokens(name).allowed(walk.rest)
        if forced is None:
            assert allowed == expected, (walk.asked, allowed ^ expected)
            num_open += 1
            num_cut += is_cut(name, allowed)
        else:  # the one that the tokenizer would begin with
            assert allowed == {forced} <= expected
    assert num_open > count / 3
    assert count < 100 or num_cut > count / 20


def test_masks_are_what_trying_every_token_gives() -> None:
    check(TOKENIZERS[0], 12, 3)


@pytest.mark.large
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_thousand_masks_are_what_trying_every_token_gives(name: str) -> None:
    check(name, STATES, 1)

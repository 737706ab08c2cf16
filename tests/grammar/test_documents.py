"""Documents that fit are never blocked, whatever they hold and however they are written."""

from __future__ import annotations

import json
import random
from functools import cache

import jsonschema
import pytest

from plait.core.structured import StructuredOutputs
from plait.grammar.base import bits
from tests.engine.schemas import SCHEMAS
from tests.grammar.cases import grammars
from tests.grammar.documents import Source, written
from tests.grammar.test_masks import TOKENIZERS, compiler, mask_of
from tests.text.models import tokenizer


def say(name: str, asked: StructuredOutputs, text: str) -> None:
    """Every token of a text must pass its mask, and the end may come where the text ends, and nowhere before."""
    own, state = tokenizer(name), compiler(name).compile(asked)
    rest, ids = text.encode(), own.encode(text, add_special=False)
    while rest:
        forced = state.forced()
        if forced not in (None, ids[0]):  # another spelling of what is certain
            ids = spelt(name, rest[len(own.token_bytes(forced)) :], [forced])
        token = ids.pop(0)
        allowed = bits(mask_of(state, name))
        assert token in allowed, (asked, text, rest)
        assert bool(own.eos_ids & set(allowed)) == state.is_accepting
        assert state.advance(token)
        rest = rest.removeprefix(own.token_bytes(token))
    assert state.is_accepting, (asked, text)


def spelt(name: str, data: bytes, before: list[int]) -> list[int]:
    """Tokens before, then the longest that spell the data: some spelling, not the tokenizer's."""
    while data:
        length = next(n for n in range(min(16, len(data)), 0, -1) if data[:n] in ids_of(name))
        before, data = [*before, ids_of(name)[data[:length]]], data[length:]
    return before


@cache
def ids_of(name: str) -> dict[bytes, int]:
    own = tokenizer(name)
    return {own.token_bytes(i): i for i in range(own.vocab_size) if i not in own.special_ids}


def check(name: str, count: int) -> int:
    """Documents of all schemas in turn; how many there were."""
    rng, num_distinct = random.Random(11), set[str]()
    for i in range(count):
        schema, is_compact = SCHEMAS[i % len(SCHEMAS)], rng.random() < 0.3
        document = Source(schema, rng).document()
        jsonschema.validate(document, schema)
        text = written(document, rng, is_compact=is_compact)
        assert json.loads(text) == document
        say(name, StructuredOutputs(json=schema, disable_any_whitespace=is_compact), text)
        num_distinct.add(text)
    return len(num_distinct)


def test_texts_of_every_kind_of_grammar_are_not_blocked() -> None:
    for asked, texts in grammars():
        for text in texts:
            say(TOKENIZERS[0], asked, text)


def test_a_document_of_every_schema_is_not_blocked() -> None:
    assert check(TOKENIZERS[0], len(SCHEMAS)) > 50


@pytest.mark.large
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_five_hundred_documents_are_not_blocked(name: str) -> None:
    assert check(name, 600) >= 400

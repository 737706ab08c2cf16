"""Masks against trying every token of the vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from plait.core.structured import StructuredOutputs
from plait.grammar.base import State, Words, bits
from plait.grammar.llguidance import Compiler
from tests.grammar import derivatives
from tests.grammar.cases import EXPRESSIONS, grammars
from tests.text.models import tokenizer

TOKENIZERS = ["smollm2-135m", "qwen2.5-coder-0.5b", "gemma3-270m"]
STATES = 1000


@cache
def compiler(name: str) -> Compiler:
    own = tokenizer(name)
    return Compiler(lambda: own, own.eos_ids, own.vocab_size)


def mask_of(state: State, name: str = TOKENIZERS[0]) -> Words:
    mask = np.empty(compiler(name).num_words, np.uint32)
    state.fill(mask)
    return mask


def tried(state: State, name: str) -> set[int]:
    """Tokens that the state lets itself be advanced by."""
    found = set()
    for token in range(tokenizer(name).vocab_size):
        if state.advance(token):
            state.rollback(1)
            found.add(token)
    return found


def walks(name: str, count: int) -> Iterator[tuple[StructuredOutputs, State]]:
    """States on the way of texts that fit, and of random tokens; a quarter of them after a rollback."""
    rng = np.random.default_rng(7)
    own, cases = tokenizer(name), grammars()
    while True:
        asked, texts = cases[int(rng.integers(len(cases)))]
        state = compiler(name).compile(asked)
        ids = own.encode(texts[int(rng.integers(len(texts)))], add_special=False)
        for token in ids[: int(rng.integers(len(ids)))]:
            if not state.advance(token):
                break
        for _ in range(int(rng.integers(4))):
            if state.is_finished:
                break
            token = int(rng.choice(bits(mask_of(state, name))))
            assert state.advance(token)
            if rng.random() < 0.25:
                state.rollback(1)
        yield asked, state
        count -= 1
        if not count:
            return


def check(name: str, count: int) -> None:
    num_forced = num_open = 0
    for asked, state in walks(name, count):
        allowed = set(bits(mask_of(state, name)))
        if state.is_finished:  # only an end may follow, and the engine does not wait for it
            assert allowed == tokenizer(name).eos_ids
            continue
        brute = tried(state, name)
        forced = state.forced()
        if forced is None:
            assert allowed == brute, (asked, allowed ^ brute)
            num_open += 1
        else:
            assert allowed == {forced}
            assert forced in brute
            num_forced += 1
        ends = allowed & tokenizer(name).eos_ids
        assert bool(ends) == state.is_accepting
        assert not allowed & tokenizer(name).special_ids - tokenizer(name).eos_ids
    assert num_open > count / 3
    assert count < 20 or num_forced


def test_a_mask_is_what_trying_every_token_gives() -> None:
    check(TOKENIZERS[0], 12)


@pytest.mark.large
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_thousand_masks_are_what_trying_every_token_gives(name: str) -> None:
    check(name, STATES)


def check_derivatives(name: str, most: int) -> int:
    """Every place of every text of the expressions, against derivatives; how many were compared."""
    own, count = tokenizer(name), 0
    vocabulary, text_ids = (
        own.vocabulary(),
        [i for i in range(own.vocab_size) if i not in own.special_ids],
    )
    for regex, whole, texts in EXPRESSIONS:
        for text in texts[:most]:
            state, rest = compiler(name).compile(StructuredOutputs(regex=regex)), whole
            for token in [*own.encode(text, add_special=False), None]:
                expected = {
                    i for i in text_ids
                    if vocabulary[i] and derivatives.after_all(rest, vocabulary[i]) != derivatives.NONE
                }  # fmt: skip
                allowed = set(bits(mask_of(state, name)))
                assert bool(allowed & own.eos_ids) == derivatives.nullable(rest)
                if state.forced() is None:
                    assert allowed - own.eos_ids == expected, (regex, text)
                else:
                    assert allowed <= expected
                count += 1
                if token is not None:
                    assert token in expected
                    if not state.advance(token):  # another spelling of what is certain
                        break
                    rest = derivatives.after_all(rest, own.token_bytes(token))
    return count


def test_a_mask_is_what_derivatives_say_of_every_token() -> None:
    assert check_derivatives(TOKENIZERS[0], 1) > 8


@pytest.mark.large
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_masks_are_what_derivatives_say_of_every_vocabulary(name: str) -> None:
    assert check_derivatives(name, 2) > 15


@pytest.mark.parametrize(
    "name", [TOKENIZERS[0], *(pytest.param(n, marks=pytest.mark.large) for n in TOKENIZERS[1:])]
)
def test_texts_that_fit_are_never_blocked(name: str) -> None:
    own = tokenizer(name)
    for asked, texts in grammars():
        for text in texts:
            state, rest = compiler(name).compile(asked), text.encode()
            ids = own.encode(text, add_special=False)
            while rest:
                forced = state.forced()
                if forced not in (None, ids[0]):  # another spelling of what is certain
                    ids = spelt(name, rest[len(own.token_bytes(forced)) :], [forced])
                token = ids.pop(0)
                assert token in bits(mask_of(state, name)), (asked, text, rest)
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

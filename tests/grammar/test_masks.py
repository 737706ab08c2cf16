"""Masks against advancing a state by every token of the vocabulary, for every kind of grammar."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from plait.core.structured import StructuredOutputs
from plait.grammar.base import State, Words, bits
from plait.grammar.llguidance import Compiler
from tests.grammar.cases import grammars
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

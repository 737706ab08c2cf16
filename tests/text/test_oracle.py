"""Token for token what llama.cpp makes of twelve thousand awkward strings, and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache

import pytest

from plait.text import merges
from plait.text.pretokenizers import FAMILIES
from plait.text.tokenizer import Tokenizer
from tests.text import models, oracle
from tests.text.strings import NUM_STRINGS, sequences, strings

MODELS = [
    "smollm2-135m",
    pytest.param("qwen2.5-coder-0.5b", marks=pytest.mark.large),
    pytest.param("gemma3-270m", marks=pytest.mark.large),
]

MISREAD = {"gemma3-270m": {212}}
"""Gemma's HTML tag </s>: llama.cpp takes any token of this name for an end of text and never shows it."""


@cache
def small(kind: str, pre: str = "") -> Tokenizer:
    """A tokenizer from the small vocabularies in the fixture: "bytes" or "pieces"."""
    source = json.loads(str(oracle.fixture()[f"{kind} metadata"]))
    return Tokenizer.from_gguf(source | ({"tokenizer.ggml.pre": pre} if pre else {}))


def assert_encodes_like(name: str, tokenizer: Tokenizer, count: int) -> None:
    texts = strings(count)
    for parse_special, label in ((False, "text"), (True, "special")):
        wanted = oracle.fixture()[f"{name}/{label}"]
        assert len(wanted) == count
        for text, checksum in zip(texts, wanted.tolist(), strict=True):
            ids = tokenizer.encode(text, add_special=False, parse_special=parse_special)
            assert oracle.checksum(ids) == checksum, (label, text, ids)


def assert_decodes_like(name: str, tokenizer: Tokenizer) -> None:
    many = sequences(tokenizer.vocab_size)
    wanted = oracle.fixture()[f"{name}/decode"]
    for ids, checksum in zip(many, wanted.tolist(), strict=True):
        if not MISREAD.get(name, set()).isdisjoint(ids):
            continue
        assert oracle.text_checksum(tokenizer.decode(ids)) == checksum, ids


def test_the_strings_are_those_of_the_fixture() -> None:
    assert NUM_STRINGS >= 10_000
    assert oracle.provenance()["strings"] == oracle.whole(strings())


def test_every_family_of_pretokenizers_is_compared() -> None:
    assert {FAMILIES[name] for name in oracle.FAMILIES} >= {
        family for name, family in FAMILIES.items() if name != "glm4"
    }
    assert FAMILIES["glm4"].expressions == FAMILIES["llama-bpe"].expressions


@pytest.mark.parametrize("name", MODELS)
def test_real_vocabularies_encode_like_the_oracle(name: str) -> None:
    assert_encodes_like(name, models.tokenizer(name), NUM_STRINGS)


@pytest.mark.parametrize("name", MODELS)
def test_real_vocabularies_decode_like_the_oracle(name: str) -> None:
    assert_decodes_like(name, models.tokenizer(name))


@pytest.mark.parametrize("pre", oracle.FAMILIES)
def test_pretokenizers_cut_like_the_oracle(pre: str) -> None:
    assert_encodes_like(f"bytes {pre}", small("bytes", pre), oracle.NUM_SMALL_STRINGS)


@pytest.mark.parametrize("pre", oracle.FAMILIES)
def test_long_texts_are_cut_where_nothing_changes(
    pre: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = small("bytes", pre)
    for first in range(0, oracle.NUM_SMALL_STRINGS, 300):
        text = " ".join(strings(oracle.NUM_SMALL_STRINGS)[first : first + 300])
        monkeypatch.setattr(merges, "CHUNK_LETTERS", 1 << 30)
        whole = tokenizer.encode(text)
        monkeypatch.setattr(merges, "CHUNK_LETTERS", 1)
        assert tokenizer.encode(text) == whole


def test_sentencepiece_encodes_like_the_oracle() -> None:
    assert_encodes_like("pieces", small("pieces"), oracle.NUM_SMALL_STRINGS)


def test_sentencepiece_decodes_like_the_oracle() -> None:
    assert_decodes_like("pieces", small("pieces"))


@pytest.mark.parametrize(("kind", "pre"), [("bytes", "qwen2"), ("pieces", "")])
def test_the_least_number_of_tokens_is_not_exceeded(kind: str, pre: str) -> None:
    tokenizer = small(kind, pre)
    for text in strings(oracle.NUM_SMALL_STRINGS):
        assert tokenizer.min_tokens(text) <= len(tokenizer.encode(text, add_special=False))
    assert tokenizer.min_tokens("x" * 1_000_000) > 1_000


def lossless(kind: str, pre: str) -> Callable[[str], bool]:
    tokenizer = small(kind, pre)

    def same(text: str) -> bool:
        ids = tokenizer.encode(text, add_special=False)
        return tokenizer.decode(ids, at_start=True) == text

    return same


@pytest.mark.parametrize(("kind", "pre"), [("bytes", "qwen2"), ("bytes", "smollm")])
def test_what_was_encoded_comes_back(kind: str, pre: str) -> None:
    same = lossless(kind, pre)
    assert all(map(same, strings(oracle.NUM_SMALL_STRINGS)))

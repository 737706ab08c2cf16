"""SentencePiece merging against the definition, written down as slowly as it reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.core.errors import FormatError
from plait.text.pieces import ScoreMerger
from plait.text.tokenizer import Tokenizer
from plait.text.vocabulary import Kind, Vocabulary
from tests.text import small


def by_definition(text: str, scores: dict[str, float]) -> list[str]:
    """Merge the best pair of neighbours, the leftmost of equals, until no two make a piece."""
    symbols = list(text.replace(" ", "▁"))
    while True:
        pairs = [a + b for a, b in zip(symbols, symbols[1:], strict=False)]
        known = [(-scores[pair], at) for at, pair in enumerate(pairs) if pair in scores]
        if not known:
            return symbols
        at = min(known)[1]
        symbols[at : at + 2] = [pairs[at]]


PIECES = st.dictionaries(
    st.text("ab▁c", min_size=1, max_size=5), st.sampled_from([-1.0, -2.0, -3.0]), max_size=25
)


@small.repeatable
@given(scores=PIECES, text=st.text("abc ▁", max_size=40))
def test_merges_as_defined(scores: dict[str, float], text: str) -> None:
    scores = dict.fromkeys("abc▁", -9.0) | scores
    tokenizer = Tokenizer.from_gguf(
        small.pieces(scores, add_space_prefix=False, add_bos_token=False)
    )
    found = [tokenizer.token_name(token_id) for token_id in tokenizer.encode(text)]
    assert found == by_definition(text, scores)


def test_a_letter_without_a_piece_falls_back_to_bytes() -> None:
    tokenizer = Tokenizer.from_gguf(small.pieces({"a": -1.0}, add_space_prefix=False))
    ids = tokenizer.encode("aé", add_special=False)
    assert [tokenizer.token_name(token_id) for token_id in ids] == ["a", "<0xC3>", "<0xA9>"]
    assert tokenizer.decode(ids) == "aé"
    assert tokenizer.decode(ids[:2]) == "a\ufffd"


def test_without_bytes_it_is_unknown() -> None:
    source = small.pieces({"a": -1.0}, with_bytes=False, add_space_prefix=False)
    tokenizer = Tokenizer.from_gguf(source)
    assert tokenizer.encode("ab", add_special=False) == [3, 0]


def test_neither_bytes_nor_unknown_is_refused() -> None:
    vocabulary = Vocabulary(["a"], [Kind.NORMAL], byte_level=False)
    with pytest.raises(FormatError, match="256 bytes have no token"):
        ScoreMerger(vocabulary, [0.0], space_prefix=False, unknown_id=None)


def test_the_space_before_a_text_comes_and_goes() -> None:
    tokenizer = Tokenizer.from_gguf(small.pieces({"▁": -1.0, "a": -1.0, "▁a": -2.0}, user=("<t>",)))
    ids = tokenizer.encode("a a<t>a")
    assert [tokenizer.token_name(i) for i in ids] == ["<s>", "▁a", "▁a", "<t>", "▁a"]
    assert tokenizer.decode(ids[:3]) == " a a"
    assert tokenizer.decode(ids[:3], at_start=True) == "a a"


def test_long_runs_take_the_same_way_as_short_ones() -> None:
    scores = {"▁": 0.0, "▁▁": -1.0, "▁▁▁▁": -2.0, "a": 0.0, "aa": -1.0, "aaa": -2.0}
    tokenizer = Tokenizer.from_gguf(
        small.pieces(scores, add_space_prefix=False, add_bos_token=False)
    )
    text = " " * 999 + "a" * 1_001
    found = [tokenizer.token_name(token_id) for token_id in tokenizer.encode(text)]
    assert found == by_definition(text, scores)

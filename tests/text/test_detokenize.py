"""Text that arrives in pieces is the text that is decoded whole, cut at the first stop string."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plait.core.errors import UserError
from plait.text.detokenize import Detokenizer
from plait.text.stops import MAX_STOPS
from plait.text.tokenizer import Tokenizer
from tests.text import small

TOKENIZER = small.tokenizer()
TABLE = TOKENIZER.vocabulary()
SPECIAL = min(TOKENIZER.special_ids)


def ids_of(*pieces: bytes) -> list[int]:
    return [TABLE.index(piece) for piece in pieces]


def spelt(data: bytes) -> list[int]:
    return ids_of(*(bytes([byte]) for byte in data))


def cut(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """By the definition: the stop string that is complete first, the longest of several."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


def stream(
    ids: Sequence[int], sizes: Sequence[int], stops: Sequence[str] = (), **options: bool
) -> tuple[str, Detokenizer]:
    """All pieces joined, from pushes of these sizes (then one by one)."""
    detokenizer = Detokenizer(TOKENIZER, stops, **options)
    text, place = "", 0
    for size in [*sizes, *[1] * len(ids)]:
        text += detokenizer.push(ids[place : place + size])
        place += size
    return text + detokenizer.finish(), detokenizer


IDS = st.lists(st.integers(0, TOKENIZER.vocab_size - 1), max_size=30)
BYTES = st.text("aé你😀 h").map(lambda text: spelt(text.encode()))
DAMAGED = st.binary(max_size=12).map(spelt)
SIZES = st.lists(st.integers(0, 5), max_size=8)
STOPS = st.lists(st.text("aé你 hel", min_size=1, max_size=4), max_size=4)


@small.repeatable
@given(ids=IDS | BYTES | DAMAGED, sizes=SIZES, stops=STOPS)
@example(ids=spelt(b"\xe4\xbd"), sizes=[1], stops=[])
@example(ids=spelt("你".encode()), sizes=[1, 1, 1], stops=["你"])
@example(ids=ids_of(b"hell", b"hello"), sizes=[], stops=["ellhe", "lh"])
def test_pieces_are_the_whole_text_cut_at_the_first_stop(
    ids: list[int], sizes: list[int], stops: list[str]
) -> None:
    text, detokenizer = stream(ids, sizes, stops)
    assert (text, detokenizer.stopped) == cut(TOKENIZER.decode(ids), stops)


@small.repeatable
@given(ids=IDS | BYTES, sizes=SIZES, stops=STOPS)
def test_special_tokens_can_be_shown(ids: list[int], sizes: list[int], stops: list[str]) -> None:
    text, detokenizer = stream(ids, sizes, stops, skip_special=False)
    assert (text, detokenizer.stopped) == cut(TOKENIZER.decode(ids, skip_special=False), stops)


@small.repeatable
@given(ids=BYTES, sizes=SIZES, stops=STOPS)
def test_the_stop_string_can_be_kept(ids: list[int], sizes: list[int], stops: list[str]) -> None:
    text, detokenizer = stream(ids, sizes, stops, include_stop=True)
    before, stop = cut(TOKENIZER.decode(ids), stops)
    assert text == before + (stop or "")
    assert detokenizer.stopped == stop


@small.repeatable
@given(ids=BYTES, stops=STOPS)
def test_nothing_given_out_is_ever_taken_back(ids: list[int], stops: list[str]) -> None:
    detokenizer, given_out = Detokenizer(TOKENIZER, stops), ""
    whole = cut(TOKENIZER.decode(ids), stops)[0]
    for token_id in ids:
        given_out += detokenizer.push([token_id])
        assert whole.startswith(given_out)


def test_an_unfinished_character_is_held_back() -> None:
    first, second, third = spelt("你".encode())
    detokenizer = Detokenizer(TOKENIZER)
    assert [detokenizer.push([token_id]) for token_id in (first, second, third)] == ["", "", "你"]
    assert detokenizer.finish() == ""


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    detokenizer = Detokenizer(TOKENIZER, ["ellipse"])
    assert detokenizer.push(ids_of(b"hell")) == "h"
    assert detokenizer.push(ids_of(b"o")) == "ello"
    assert detokenizer.push(ids_of(b"e", b"l")) == ""
    assert detokenizer.finish() == "el"
    assert detokenizer.stopped is None


@pytest.mark.parametrize(
    ("pieces", "stop", "text", "kept"),
    [
        ([b"hello", b"hello"], "oh", "hell", 1),
        ([b"hello", b"hello"], "lohe", "hel", 1),
        ([b"a", b"hello", b"b"], "ello", "ah", 2),
        ([b"a", b"hello", b"b"], "hello", "a", 1),
        ([b"hello"], "hello", "", 0),
        ([b"\xe4", b"\xbd", b"\xa0", b"h", b"a"], "h", "你", 3),
        ([b"\xe4", b"\xbd", b"h", b"a"], "h", "\ufffd", 2),
        ([b"\xe4", b"\xbd", b"\xa0", b"\xe4", b"\xbd", b"\xa0"], "你", "", 0),
    ],
)
def test_tokens_that_are_kept(pieces: list[bytes], stop: str, text: str, kept: int) -> None:
    for sizes in ([], [9], [2, 2]):
        found, detokenizer = stream(ids_of(*pieces), sizes, [stop])
        assert (found, detokenizer.num_tokens_kept) == (text, kept)


def test_skipped_tokens_count_when_text_follows_them() -> None:
    ids = [SPECIAL, *ids_of(b"a"), SPECIAL, *ids_of(b"h"), SPECIAL, *ids_of(b"e")]
    _, detokenizer = stream(ids, [], ["e"])
    assert detokenizer.num_tokens_kept == 4
    _, detokenizer = stream(ids, [], ["x"])
    assert detokenizer.num_tokens_kept == 6


def test_nothing_follows_a_stop() -> None:
    detokenizer = Detokenizer(TOKENIZER, ["a"])
    assert detokenizer.push(ids_of(b"h", b"a", b"h")) == "h"
    assert detokenizer.push(ids_of(b"h")) == ""
    assert detokenizer.finish() == ""
    assert detokenizer.num_tokens_kept == 1


def test_the_space_before_a_text_is_taken_off_at_the_start_only() -> None:
    tokenizer = Tokenizer.from_gguf(small.pieces({"▁": -1.0, "a": -1.0, "▁a": -2.0}))
    ids = tokenizer.encode("a a", add_special=False)
    for at_start, text in ((True, "a a"), (False, " a a")):
        detokenizer = Detokenizer(tokenizer, at_start=at_start)
        pieces = [detokenizer.push([token_id]) for token_id in ids]
        assert "".join(pieces) == text == tokenizer.decode(ids, at_start=at_start)


@pytest.mark.parametrize("stops", [[""], ["a", ""], ["a"] * (MAX_STOPS + 1)])
def test_stop_strings_that_are_refused(stops: list[str]) -> None:
    with pytest.raises(UserError, match="stop string"):
        Detokenizer(TOKENIZER, stops)


def test_an_id_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(UserError, match="not a token id"):
        Detokenizer(TOKENIZER).push([TOKENIZER.vocab_size])

"""The strings of a model file's header: nothing that a file says may lead outside its bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.kernels.header import read_strings


def stored(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<Q", len(text)) + text for text in texts)


def read(data: bytes, position: int, count: int) -> tuple[list[str], int]:
    return read_strings(np.frombuffer(data, np.uint8), position, count)


@given(st.lists(st.binary(max_size=20), max_size=8), st.binary(max_size=9), st.binary(max_size=9))
def test_strings_are_read_from_where_they_start(
    texts: list[bytes], before: bytes, after: bytes
) -> None:
    data = before + stored(*texts)
    expected = [text.decode("utf-8", "replace") for text in texts]
    assert read(data + after, len(before), len(texts)) == (expected, len(data))


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=4), st.data())
def test_what_the_data_cuts_short_is_left_out(texts: list[bytes], choice: st.DataObject) -> None:
    whole = stored(*texts)
    size = choice.draw(st.integers(0, len(whole) - 1))
    found, _ = read(whole[:size], 0, len(texts))
    assert len(found) < len(texts)
    assert found == [text.decode("utf-8", "replace") for text in texts[: len(found)]]


@pytest.mark.parametrize("length", [1, 2**31, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1])
def test_a_length_beyond_the_data_ends_it(length: int) -> None:
    assert read(stored(b"ab") + struct.pack("<Q", length), 0, 2)[0] == ["ab"]


def test_a_position_beyond_the_data_gives_nothing() -> None:
    assert read(stored(b"ab"), 11, 1) == ([], 11)

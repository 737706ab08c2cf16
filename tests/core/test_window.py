"""Window and its companions are plain, frozen data."""

from __future__ import annotations

import pytest

from plait.core.window import CAUSAL, FULL, NO_INTS, NOTHING, PatternKind, Window, block, full


def test_a_window_has_the_length_of_its_slots() -> None:
    assert Window(start=5, end=9).length == 4
    assert Window(start=5, end=9).pattern is CAUSAL


def test_a_block_pattern_knows_its_size() -> None:
    assert (block(4).kind, block(4).size) == (PatternKind.BLOCK, 4)


def test_the_empty_defaults_cannot_be_written_to() -> None:
    assert Window(0, 1).rows is NO_INTS
    assert not len(NOTHING.positions)
    assert not NO_INTS.flags.writeable


def test_a_window_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Window(0, 1).start = 2  # type: ignore[misc]


def test_a_full_pattern_reaches_beyond_its_window() -> None:
    assert Window(3, 9).reach == 9
    assert Window(3, 9, pattern=FULL).reach == 9
    assert Window(3, 9, pattern=full(40)).reach == 40
    assert Window(3, 9, pattern=full(5)).reach == 9
    assert Window(3, 9, pattern=block(16)).reach == 9

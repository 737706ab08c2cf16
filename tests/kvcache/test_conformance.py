"""What every cache promises (kvcache/base.py), for each sibling by name."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core import registry
from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import Slot, Window, full
from plait.kvcache.base import Cache
from plait.kvcache.pool import Pool
from tests.fakes import LAYOUT

NAMES = registry.names("kvcache")


@pytest.fixture(params=NAMES)
def cache(request: pytest.FixtureRequest) -> Cache:
    module = registry.load("kvcache", request.param)
    made: Cache = module.Cache(Pool(LAYOUT, 8), module.Options())
    return made


def sequence(request_id: int, length: int = 8 * PAGE) -> Sequence:
    """A canvas like no other's."""
    tokens = np.full(length, request_id, np.int32)
    return Sequence(request_id, tokens, SamplingParams(), limit=length + 1, seed=0)


def feed(cache: Cache, seq: Sequence, start: int, end: int, keep: int | None = None) -> bool:
    """One window, as the scheduler would."""
    window = Window(start if cache.keeps else 0, end, keep=end if keep is None else keep)
    if not cache.reserve(seq, end):
        return False
    cache.view(seq, window)
    cache.stored(seq, window)
    cache.check()
    return True


def test_there_is_an_oracle() -> None:
    assert "none" in NAMES


def test_a_sequence_nobody_has_seen_has_no_slots(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.length(seq) == 0
    assert cache.slots(seq) == b""
    cache.truncate(seq, 0)
    cache.release(seq)
    cache.fork(seq, sequence(2))
    cache.check()
    assert cache.occupancy == 0.0


def test_what_is_said_to_come_is_found(cache: Cache) -> None:
    """`coming` looks at a window before its forward, `match` at the cache after it."""
    first, second = sequence(1, 3 * PAGE), sequence(1, 3 * PAGE + 5)
    second.request_id = 2
    window = Window(0, first.length, keep=first.length)
    pages = cache.coming(second, first, window)
    assert pages == (3 if cache.shares else 0)
    assert feed(cache, first, 0, first.length)
    assert cache.match(second) // PAGE == pages
    assert cache.coming(second, first, window) == 0


def test_match_leaves_a_row_to_compute(cache: Cache) -> None:
    seq = sequence(1, length=PAGE)
    assert cache.match(seq) == cache.length(seq) < seq.length


def test_length_counts_the_exact_slots_it_keeps(cache: Cache) -> None:
    seq = sequence(1)
    assert feed(cache, seq, 0, 40)
    assert cache.length(seq) == (40 if cache.keeps else 0)
    assert feed(cache, seq, 40, 50, keep=40)
    assert cache.length(seq) == (40 if cache.keeps else 0)


def test_held_counts_approximate_slots_too(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.held(seq) == 0
    assert cache.reserve(seq, 70)
    cache.view(seq, Window(0, 70))
    cache.stored(seq, Window(0, 70, keep=70, mark=Slot.APPROX))
    assert (cache.length(seq), cache.held(seq)) == (0, 70 if cache.keeps else 0)
    if cache.keeps:
        cache.stored(seq, Window(40, 50, pattern=full(70), keep=50, mark=Slot.APPROX))
        assert cache.held(seq) == 70
        assert len(cache.view(seq, Window(40, 50, pattern=full(70))).pages) == 3
        cache.stored(seq, Window(40, 50, keep=45, mark=Slot.APPROX))
        assert cache.held(seq) == 45
    cache.release(seq)
    assert cache.held(seq) == 0
    cache.check()


def test_the_view_covers_the_window_and_nothing_else(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.reserve(seq, 3 * PAGE)
    pages = cache.view(seq, Window(0, PAGE + 1)).pages
    assert pages.dtype == np.int32
    assert len(pages) == 2
    assert len(set(pages.tolist())) == 2


def test_views_of_different_sequences_do_not_overlap(cache: Cache) -> None:
    pages: list[int] = []
    for request_id in range(4):
        seq = sequence(request_id)
        assert cache.reserve(seq, 2 * PAGE)
        pages += cache.view(seq, Window(0, 2 * PAGE)).pages.tolist()
    assert sorted(pages) == list(range(8))


def test_a_reservation_that_fails_changes_nothing(cache: Cache) -> None:
    first, second = sequence(1), sequence(2)
    assert feed(cache, first, 0, 5 * PAGE)
    assert feed(cache, second, 0, 2 * PAGE)
    before = cache.view(second, Window(0, 2 * PAGE)).pages.tolist()
    free, length = cache.num_free_slots, cache.length(second)
    assert not cache.reserve(second, 4 * PAGE)
    cache.check()
    assert (cache.num_free_slots, cache.length(second)) == (free, length)
    assert cache.view(second, Window(0, 2 * PAGE)).pages.tolist() == before
    assert cache.reserve(second, 3 * PAGE)


def test_reserving_less_than_is_held_changes_nothing(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.reserve(seq, 3 * PAGE)
    free = cache.num_free_slots
    assert cache.reserve(seq, 1)
    assert cache.num_free_slots == free


def test_truncate_gives_whole_pages_back(cache: Cache) -> None:
    seq = sequence(1)
    assert feed(cache, seq, 0, 3 * PAGE)
    cache.truncate(seq, PAGE + 1)
    cache.check()
    assert cache.length(seq) == (PAGE + 1 if cache.keeps else 0)
    assert cache.num_free_slots == 6 * PAGE
    cache.truncate(seq, 3 * PAGE)
    assert cache.length(seq) == (PAGE + 1 if cache.keeps else 0)


def test_release_is_final_and_may_be_repeated(cache: Cache) -> None:
    seq = sequence(1)
    assert feed(cache, seq, 0, 100)
    cache.release(seq)
    cache.release(seq)
    cache.check()
    assert cache.length(seq) == 0
    assert cache.num_free_slots == cache.num_slots
    assert feed(cache, seq, 0, 10)


def test_forking_into_a_sequence_that_has_slots_is_an_error(cache: Cache) -> None:
    parent, child = sequence(1), sequence(2)
    assert feed(cache, parent, 0, 10)
    assert feed(cache, child, 0, 10)
    with pytest.raises(AssertionError, match="already"):
        cache.fork(parent, child)


def test_dropping_takes_nothing_from_a_sequence(cache: Cache) -> None:
    first, second = sequence(1), sequence(2)
    assert feed(cache, first, 0, 2 * PAGE)
    assert feed(cache, second, 0, 2 * PAGE)
    cache.release(second)
    free, length = cache.num_free_slots, cache.length(first)
    cache.drop()
    cache.check()
    assert (cache.num_free_slots, cache.length(first)) == (free, length)
    assert cache.match(sequence(3)) == cache.match(second) == 0


def test_occupancy_is_the_share_of_pages_in_use(cache: Cache) -> None:
    assert cache.reserve(sequence(1), 2 * PAGE)
    assert cache.occupancy == pytest.approx(0.25)


def test_slots_tell_their_state(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.reserve(seq, 10)
    cache.stored(seq, Window(0, 10, keep=4))
    states = cache.slots(seq)
    expected = [Slot.EXACT] * 4 + [Slot.EMPTY] * 6
    assert list(states) == (expected if cache.keeps else [])

"""Copy-on-write, slot states and random sharing in the paged cache."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.window import Slot, Window
from plait.kvcache.paged import Cache
from plait.kvcache.pool import Pool
from tests.fakes import LAYOUT
from tests.kvcache.test_conformance import feed, sequence


@pytest.fixture
def cache() -> Cache:
    return Cache(Pool(LAYOUT, 8))


def pages(cache: Cache, seq_id: int, end: int) -> list[int]:
    return cache.view(sequence(seq_id), Window(0, end)).pages.tolist()


def test_a_fork_shares_its_pages_until_somebody_writes(cache: Cache) -> None:
    parent, child = sequence(1), sequence(2)
    feed(cache, parent, 0, PAGE + 5)
    cache.pool.data[pages(cache, 1, PAGE + 5)[1]] = 7.0
    cache.fork(parent, child)
    cache.check()
    assert cache.length(child) == PAGE + 5
    assert cache.num_free_slots == 6 * PAGE
    assert pages(cache, 1, PAGE + 5) == pages(cache, 2, PAGE + 5)

    assert cache.reserve(child, PAGE + 6)
    cache.check()
    ours, theirs = pages(cache, 2, PAGE + 6), pages(cache, 1, PAGE + 5)
    assert ours[0] == theirs[0]
    assert ours[1] != theirs[1]
    assert (cache.pool.data[ours[1]] == 7.0).all()

    before = cache.num_free_slots
    assert cache.reserve(parent, PAGE + 6)  # its page is its own again
    assert cache.num_free_slots == before


def test_a_shared_page_without_exact_slots_is_replaced_not_copied(cache: Cache) -> None:
    parent, child = sequence(1), sequence(2)
    feed(cache, parent, 0, PAGE)
    feed(cache, parent, PAGE, PAGE + 8, keep=PAGE)
    cache.fork(parent, child)
    assert cache.length(child) == PAGE
    assert cache.num_free_slots == 6 * PAGE
    feed(cache, child, PAGE, PAGE + 1)
    assert pages(cache, 1, PAGE + 1)[1] != pages(cache, 2, PAGE + 1)[1]


def test_truncating_into_a_shared_page_makes_it_owned_on_the_next_write(cache: Cache) -> None:
    parent, child = sequence(1), sequence(2)
    feed(cache, parent, 0, PAGE)
    cache.fork(parent, child)
    cache.truncate(child, PAGE - 1)
    assert cache.reserve(child, PAGE)
    cache.check()
    assert pages(cache, 1, PAGE) != pages(cache, 2, PAGE)


def test_copies_count_against_the_free_pages(cache: Cache) -> None:
    parent, child = sequence(1), sequence(2)
    feed(cache, parent, 0, 7 * PAGE + 1)
    cache.fork(parent, child)
    assert not cache.reserve(child, 7 * PAGE + 2)
    cache.check()
    assert pages(cache, 1, 7 * PAGE + 1) == pages(cache, 2, 7 * PAGE + 1)
    cache.release(parent)
    assert cache.reserve(child, 7 * PAGE + 2)


def test_only_leading_exact_slots_count(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.reserve(seq, 40)
    cache.stored(seq, Window(10, 20, keep=20))
    assert cache.length(seq) == 0
    cache.stored(seq, Window(0, 10, keep=10))
    assert cache.length(seq) == 20
    cache.stored(seq, Window(20, 30, keep=30, mark=Slot.APPROX))
    assert cache.length(seq) == 20
    cache.stored(seq, Window(15, 18, keep=16))
    assert cache.length(seq) == 16
    assert list(cache.slots(seq)) == [1] * 16 + [0, 0] + [1, 1] + [2] * 10


def test_a_window_needs_a_reservation(cache: Cache) -> None:
    seq = sequence(1)
    assert cache.reserve(seq, PAGE)
    with pytest.raises(AssertionError, match="no reservation"):
        cache.view(seq, Window(0, PAGE + 1))


def test_check_finds_slots_without_pages(cache: Cache) -> None:
    seq = sequence(1)
    feed(cache, seq, 0, 10)
    cache._tables[1].marks.extend(bytes(PAGE))
    with pytest.raises(AssertionError, match="no page"):
        cache.check()


def test_random_sharing_never_mixes_up_what_was_written() -> None:
    """Against a plain dictionary of what every sequence has written where."""
    rng = np.random.default_rng(0)
    cache = Cache(Pool(LAYOUT, 24))
    written: dict[int, list[int]] = {}
    for number in range(400):
        living = list(written)
        action = rng.choice(["feed", "fork", "truncate", "release"], p=[0.5, 0.2, 0.2, 0.1])
        if action == "feed" or not living:
            key = int(rng.choice(living)) if living and rng.random() < 0.8 else number
            _feed_random(cache, written, key, rng)
        elif action == "fork":
            key = int(rng.choice(living))
            cache.fork(sequence(key), sequence(number))
            written[number] = written[key][: cache.length(sequence(number))]
        elif action == "truncate":
            key = int(rng.choice(living))
            length = int(rng.integers(0, len(written[key]) + 1))
            cache.truncate(sequence(key), length)
            del written[key][length:]
        else:
            key = int(rng.choice(living))
            cache.release(sequence(key))
            del written[key]
        cache.check()
        for key, values in written.items():
            assert cache.length(sequence(key)) == len(values)
            assert _read(cache, key, len(values)) == values
    for key in written:
        cache.release(sequence(key))
    assert cache.num_free_slots == cache.num_slots


def _feed_random(
    cache: Cache, written: dict[int, list[int]], key: int, rng: np.random.Generator
) -> None:
    seq, values = sequence(key), written.get(key, [])
    count = int(rng.integers(1, 50))
    keep = int(rng.integers(0, count + 1))
    window = Window(len(values), len(values) + count, keep=len(values) + keep)
    if not cache.reserve(seq, window.end):
        return
    view = cache.view(seq, window)
    new = rng.integers(0, 1000, count).tolist()
    for slot, value in zip(range(window.start, window.end), new, strict=True):
        cache.pool.data[view.pages[slot // PAGE], 0, 0, 0, slot % PAGE] = value
    cache.stored(seq, window)
    written[key] = values + new[:keep]


def _read(cache: Cache, key: int, length: int) -> list[int]:
    if not length:
        return []
    view = cache.view(sequence(key), Window(0, length))
    memory = cache.pool.data[view.pages, 0, 0, 0, :PAGE].ravel()[:length]
    return [int(value) for value in memory]

"""What is found again in the tree, what is not, and what goes first."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plait.core.config import PAGE
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import FULL, Pattern, PatternKind, Window, block
from plait.kvcache.pool import Pool
from plait.kvcache.radix import Cache
from tests.fakes import LAYOUT
from tests.kvcache.test_conformance import feed


@pytest.fixture
def cache() -> Cache:
    return Cache(Pool(LAYOUT, 8))


def sequence(request_id: int, *parts: tuple[int, int], salt: str = "") -> Sequence:
    """parts: (token, how often)."""
    tokens = np.concatenate([np.full(count, token, np.int32) for token, count in parts])
    params = SamplingParams()
    return Sequence(request_id, tokens, params, limit=len(tokens) + 50, seed=0, salt=salt)


def pages(cache: Cache, seq: Sequence, end: int) -> list[int]:
    return cache.view(seq, Window(0, end)).pages.tolist()


def leave(cache: Cache, seq: Sequence, end: int | None = None) -> None:
    """Compute a canvas and go."""
    assert feed(cache, seq, 0, seq.length if end is None else end)
    cache.release(seq)
    cache.check()


def test_full_pages_are_found_again(cache: Cache) -> None:
    first = sequence(1, (5, 2 * PAGE), (6, 10))
    assert feed(cache, first, 0, first.length)
    second = sequence(2, (5, 2 * PAGE), (7, 10))
    assert cache.match(second) == cache.length(second) == 2 * PAGE
    cache.check()
    assert pages(cache, second, 2 * PAGE) == pages(cache, first, 2 * PAGE)
    assert cache.num_free_slots == 5 * PAGE
    cache.release(first)
    cache.release(second)
    assert cache.num_free_slots == cache.num_slots
    assert cache.match(sequence(3, (5, 3 * PAGE))) == 2 * PAGE


def test_a_row_is_left_to_compute(cache: Cache) -> None:
    leave(cache, sequence(1, (5, 2 * PAGE)))
    for length in (2 * PAGE, 2 * PAGE + 1):
        assert cache.match(sequence(length, (5, length))) == length - 1
        cache.check()


def test_a_canvas_that_leaves_inside_a_page_adopts_its_beginning(cache: Cache) -> None:
    first = sequence(1, (5, PAGE + 10), (6, PAGE))
    leave(cache, first)
    second = sequence(2, (5, PAGE + 10), (7, PAGE))
    assert cache.match(second) == PAGE + 10
    kept = pages(cache, second, PAGE + 10)[1]
    cache.pool.data[kept] = 3.0
    assert feed(cache, second, PAGE + 10, second.length)
    mine = pages(cache, second, second.length)[1]
    assert mine != kept
    assert (cache.pool.data[mine] == 3.0).all()
    assert cache.match(sequence(3, (5, PAGE + 10), (6, PAGE))) == 2 * PAGE + 9
    assert cache.match(sequence(4, (5, PAGE + 10), (7, PAGE))) == 2 * PAGE


def test_the_child_that_agrees_longest_is_chosen(cache: Cache) -> None:
    for key, count in ((1, 20), (2, 25), (3, 6)):
        leave(cache, sequence(key, (5, PAGE + count), (key, PAGE - count)))
    assert cache.match(sequence(9, (5, 2 * PAGE))) == PAGE + 25


def test_what_was_held_of_the_last_page_is_found_again(cache: Cache) -> None:
    leave(cache, sequence(1, (5, PAGE + 3)))
    first = sequence(2, (5, PAGE + 3), (6, 2))
    assert cache.match(first) == PAGE + 3
    shared = pages(cache, first, PAGE + 3)[1]
    cache.pool.data[shared] = 3.0
    assert feed(cache, first, PAGE + 3, first.length)
    mine = pages(cache, first, first.length)[1]
    assert mine != shared, "what others may adopt is never written"
    assert (cache.pool.data[mine] == 3.0).all()
    cache.release(first)
    cache.check()
    assert cache.match(sequence(3, (5, PAGE + 3), (6, 9))) == PAGE + 5
    assert cache.match(sequence(4, (5, PAGE + 3), (7, 9))) == PAGE + 3
    cache.check()


def test_a_longer_beginning_takes_the_place_of_a_shorter(cache: Cache) -> None:
    for length in (3, 5, 9, 4):
        leave(cache, sequence(length, (5, length)))
    assert len(cache.pool.idle) == 1
    assert cache.match(sequence(10, (5, 20))) == 9


def test_a_beginning_is_found_among_many(cache: Cache) -> None:
    cache.pool.__init__(LAYOUT, 64)  # type: ignore[misc]
    for token in range(40):
        leave(cache, sequence(token, (99, PAGE), (token, 7)))
    assert cache.match(sequence(100, (99, PAGE), (0, 8))) == PAGE + 7
    assert cache.match(sequence(101, (99, PAGE), (39, 4))) == PAGE + 3
    cache.check()


def test_beginnings_are_given_up_when_memory_is_needed(cache: Cache) -> None:
    for token in range(8):
        leave(cache, sequence(token, (token, 7)))
    assert cache.pool.num_free == 8
    leave(cache, sequence(9, (9, 8 * PAGE)))
    assert cache.match(sequence(10, (3, 20))) == 0


def test_a_beginning_by_blocks_ends_with_a_block(cache: Cache) -> None:
    first = sequence(1, (5, 22))
    assert cache.reserve(first, 22)
    cache.stored(first, Window(0, 22, pattern=block(8), keep=22))
    cache.release(first)
    cache.check()
    assert cache.match(sequence(2, (5, 30))) == 16


def test_who_computes_the_same_at_the_same_time_shares_it(cache: Cache) -> None:
    first, second = sequence(1, (5, 3 * PAGE)), sequence(2, (5, 3 * PAGE))
    for seq in (first, second):
        assert cache.reserve(seq, 2 * PAGE + 5)
    assert not set(pages(cache, first, 2 * PAGE)) & set(pages(cache, second, 2 * PAGE))
    for seq in (first, second):
        cache.stored(seq, Window(0, 2 * PAGE + 5, keep=2 * PAGE + 5))
        cache.check()
    assert pages(cache, first, 2 * PAGE) == pages(cache, second, 2 * PAGE)
    assert cache.num_free_slots == 4 * PAGE


def test_a_sequence_behind_others_catches_up(cache: Cache) -> None:
    first, second = sequence(1, (5, 4 * PAGE)), sequence(2, (5, 4 * PAGE))
    assert feed(cache, second, 0, 10)
    assert cache.match(second) == 10
    assert feed(cache, first, 0, 2 * PAGE)
    assert cache.match(second) == 2 * PAGE
    cache.check()
    assert feed(cache, first, 2 * PAGE, 3 * PAGE)
    assert cache.match(second) == 3 * PAGE
    assert pages(cache, first, 3 * PAGE) == pages(cache, second, 3 * PAGE)


def test_what_was_not_used_for_longest_goes_first_and_the_end_before_the_beginning(
    cache: Cache,
) -> None:
    for key in (1, 2):
        leave(cache, sequence(key, (key, 3 * PAGE)))
    assert cache.match(sequence(8, (1, PAGE), (9, PAGE))) == PAGE  # used once more
    cache.release(sequence(8, (1, 1)))
    assert feed(cache, sequence(3, (3, 4 * PAGE)), 0, 4 * PAGE)
    assert cache.pool.num_evicted == 2
    assert cache.match(sequence(4, (1, 3 * PAGE + 1))) == PAGE
    assert cache.match(sequence(5, (2, 3 * PAGE + 1))) == 3 * PAGE
    cache.check()


def test_what_somebody_holds_is_never_evicted(cache: Cache) -> None:
    first = sequence(1, (1, 3 * PAGE))
    assert feed(cache, first, 0, 3 * PAGE)
    for key in range(2, 6):
        leave(cache, sequence(key, (key, 4 * PAGE)))
    assert not cache.reserve(sequence(9, (9, 6 * PAGE)), 6 * PAGE)
    assert cache.length(first) == 3 * PAGE
    assert cache.match(sequence(8, (1, 4 * PAGE))) == 3 * PAGE


def test_what_a_window_of_another_brings_is_known_before(cache: Cache) -> None:
    first = sequence(1, (5, 3 * PAGE), (6, PAGE))
    assert feed(cache, first, 0, PAGE)
    window = Window(PAGE, 3 * PAGE + 10, keep=3 * PAGE + 10)
    newcomers = {
        2: sequence(2, (5, 3 * PAGE), (7, PAGE)),
        1: sequence(3, (5, 2 * PAGE + 5), (7, PAGE)),
        0: sequence(4, (7, 4 * PAGE)),
    }
    for pages, seq in newcomers.items():
        cache.match(seq)
        assert cache.coming(seq, first, window) == pages
    stranger = sequence(5, (5, 4 * PAGE), salt="other")
    scored = Sequence(6, first.tokens, SamplingParams(prompt_logprobs=0), limit=200, seed=0)
    assert cache.coming(stranger, first, window) == 0
    assert cache.coming(scored, first, window) == 0
    assert cache.coming(newcomers[2], first, window._replace(pattern=FULL)) == 0
    assert feed(cache, first, PAGE, window.end)
    assert cache.match(newcomers[2]) == 3 * PAGE


def test_salts_are_worlds_of_their_own(cache: Cache) -> None:
    leave(cache, sequence(1, (5, 2 * PAGE), salt="one"))
    assert cache.match(sequence(2, (5, 2 * PAGE))) == 0
    assert cache.match(sequence(3, (5, 2 * PAGE), salt="two")) == 0
    assert cache.match(sequence(4, (5, 2 * PAGE + 1), salt="one")) == 2 * PAGE
    cache.release(sequence(4, (5, 1)))
    leave(cache, sequence(5, (5, 2 * PAGE), salt="two"))
    cache.drop()
    assert not cache._roots


def test_only_final_slots_are_adopted(cache: Cache) -> None:
    """A mask is a token like any other in somebody's prompt."""
    leave(cache, sequence(1, (5, PAGE), (60, PAGE)))
    seq = sequence(2, (5, PAGE))
    seq.extend(PAGE, 60, masked=True)
    assert cache.match(seq) == PAGE


def test_who_wants_logprobs_of_the_prompt_computes_it(cache: Cache) -> None:
    leave(cache, sequence(1, (5, 2 * PAGE)))
    seq = sequence(2, (5, 2 * PAGE))
    seq.params = replace(seq.params, prompt_logprobs=1)
    assert cache.match(seq) == 0
    seq.scored = seq.prompt_length
    assert cache.match(seq) == 2 * PAGE - 1


@pytest.mark.parametrize(
    "change",
    [
        {"positions": np.arange(PAGE, dtype=np.int32)},
        {"embeddings": np.zeros((PAGE, 4), np.float32)},
        {"pattern": FULL},
        {"pattern": block(12)},
        {"pattern": block(64)},
        {"pattern": Pattern(PatternKind.PREFIX, PAGE)},
    ],
    ids=str,
)
def test_what_the_tokens_do_not_tell_is_not_shared(cache: Cache, change: dict[str, object]) -> None:
    seq = sequence(1, (5, 3 * PAGE))
    assert cache.reserve(seq, 3 * PAGE)
    cache.stored(seq, replace_window(Window(0, PAGE, keep=PAGE), change))
    cache.stored(seq, Window(PAGE, 3 * PAGE, keep=3 * PAGE))
    assert cache.length(seq) == 3 * PAGE
    assert not cache._nodes
    cache.release(seq)
    assert cache.match(sequence(2, (5, 3 * PAGE))) == 0


def replace_window(window: Window, change: dict[str, object]) -> Window:
    return window._replace(**change)  # type: ignore[arg-type]


def test_of_a_page_in_blocks_whole_blocks_are_adopted(cache: Cache) -> None:
    seq = sequence(1, (5, PAGE + 21), (6, 11))
    assert cache.reserve(seq, seq.length)
    cache.stored(seq, Window(0, seq.length, pattern=block(8), keep=seq.length))
    cache.release(seq)
    assert cache.match(sequence(2, (5, PAGE + 21), (7, 11))) == PAGE + 16


def test_a_page_of_the_tree_is_never_written(cache: Cache) -> None:
    seq = sequence(1, (5, 2 * PAGE))
    assert feed(cache, seq, 0, 2 * PAGE)
    before = pages(cache, seq, 2 * PAGE)
    cache.truncate(seq, 2 * PAGE - 1)
    assert cache.reserve(seq, 2 * PAGE)
    cache.check()
    assert pages(cache, seq, 2 * PAGE)[0] == before[0]
    assert pages(cache, seq, 2 * PAGE)[1] != before[1]
    assert feed(cache, seq, 2 * PAGE - 1, 2 * PAGE)
    assert pages(cache, seq, 2 * PAGE) == before
    assert cache.num_free_slots == 6 * PAGE


def test_who_fits_alone_is_not_refused_for_the_sake_of_the_tree(cache: Cache) -> None:
    seq = sequence(1, (5, 8 * PAGE), (6, 1))
    leave(cache, seq, 8 * PAGE)
    again = sequence(2, (5, 8 * PAGE))
    assert cache.match(again) == 8 * PAGE - 1
    assert feed(cache, again, 8 * PAGE - 1, 8 * PAGE)
    cache.truncate(again, 3 * PAGE + 2)
    assert feed(cache, again, 3 * PAGE + 2, 8 * PAGE)
    assert cache.num_free_slots == 0


def test_a_page_that_others_hold_is_not_taken_out(cache: Cache) -> None:
    first = sequence(1, (5, 8 * PAGE))
    assert feed(cache, first, 0, 8 * PAGE)
    second = sequence(2, (5, 2 * PAGE))
    assert cache.match(second) == 2 * PAGE - 1
    assert not cache.reserve(second, 2 * PAGE)
    cache.check()
    assert cache.length(second) == 2 * PAGE - 1
    assert cache.length(first) == 8 * PAGE


def test_a_fork_goes_on_in_the_tree(cache: Cache) -> None:
    parent, child = sequence(1, (5, 3 * PAGE)), sequence(2, (5, PAGE + 10), (6, PAGE))
    assert feed(cache, parent, 0, PAGE + 10)
    cache.fork(parent, child)
    assert feed(cache, child, PAGE + 10, 2 * PAGE)
    assert feed(cache, parent, PAGE + 10, 2 * PAGE)
    cache.release(parent)
    cache.release(child)
    assert cache.match(sequence(3, (5, PAGE + 10), (6, 3 * PAGE))) == 2 * PAGE
    assert cache.match(sequence(4, (5, 3 * PAGE))) == 2 * PAGE
    cache.check()


def test_check_finds_a_tree_that_does_not_hang_together(cache: Cache) -> None:
    seq = sequence(1, (5, 2 * PAGE))
    assert feed(cache, seq, 0, 2 * PAGE)
    nodes = cache._paths[1].nodes
    nodes.reverse()
    with pytest.raises(AssertionError, match="lost its way"):
        cache.check()
    nodes.reverse()
    del nodes[0].children[nodes[1].key]
    with pytest.raises(AssertionError, match="lost its parent"):
        cache.check()
    nodes[0].children[nodes[1].key] = nodes[1]
    cache.release(seq)
    cache.check()
    cache.pool._idle = dict(reversed(cache.pool._idle.items()))
    with pytest.raises(AssertionError, match="outlives its parent"):
        cache.check()


@pytest.mark.parametrize("seed", range(3))
def test_random_sharing_gives_every_canvas_what_belongs_to_it(seed: int) -> None:
    """Every slot holds a hash of the tokens up to it; canvases over two tokens begin alike all the time."""
    rng = np.random.default_rng(seed)
    cache = Cache(Pool(LAYOUT, 16))
    living: dict[int, Sequence] = {}
    found = 0
    for number in range(800):
        action = rng.choice(
            ["new", "feed", "fork", "truncate", "release"], p=[0.15, 0.5, 0.05, 0.1, 0.2]
        )
        seq = living[int(rng.choice(list(living)))] if living else None
        if action == "new" or seq is None:
            seq = _random_canvas(number, rng)
            found += cache.match(seq)
            living[number] = seq
        elif action == "feed":
            _feed_hashes(cache, seq, int(rng.integers(1, 3 * PAGE)), rng)
        elif action == "fork":
            living[number] = seq.fork(number, seed=0)
            cache.fork(seq, living[number])
        elif action == "truncate":
            cache.truncate(seq, int(rng.integers(0, cache.length(seq) + 1)))
        else:
            cache.release(living.pop(seq.request_id))
        cache.check()
        for one in living.values():
            assert _read(cache, one) == _hashes(one)[: cache.length(one)]
    for one in living.values():
        cache.release(one)
    assert cache.num_free_slots == cache.num_slots
    assert found > 20 * PAGE
    assert cache.pool.num_evicted > 20
    cache.drop()
    cache.check()
    assert cache.pool.idle == []


def _random_canvas(key: int, rng: np.random.Generator) -> Sequence:
    parts = [(int(rng.integers(0, 2)), int(rng.choice([PAGE, 20, 50]))) for _ in range(4)]
    return sequence(key, *parts)


def _hashes(seq: Sequence) -> list[int]:
    value, hashes = 1, []
    for token in seq.tokens.tolist():
        value = (value * 31 + token + 7) % 65_521
        hashes.append(value)
    return hashes


def _feed_hashes(cache: Cache, seq: Sequence, count: int, rng: np.random.Generator) -> None:
    start = cache.match(seq)
    end = min(start + count, seq.length)
    if start == end or not cache.reserve(seq, end):
        return
    window = Window(start, end, keep=int(rng.integers(start, end + 1)))
    view, hashes = cache.view(seq, window), _hashes(seq)
    for slot in range(start, end):
        page = int(view.pages[slot // PAGE])
        assert not cache.pool.is_shared(page)
        kept = slot < window.keep
        cache.pool.data[page, 0, 0, 0, slot % PAGE] = hashes[slot] if kept else -1
    cache.stored(seq, window)


def _read(cache: Cache, seq: Sequence) -> list[int]:
    length = cache.length(seq)
    if not length:
        return []
    view = cache.view(seq, Window(0, length))
    memory = cache.pool.data[view.pages, 0, 0, 0, :PAGE].ravel()[:length]
    return [int(value) for value in memory]

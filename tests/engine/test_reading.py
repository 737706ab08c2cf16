"""Hidden states of a text, read in chunks between the steps of others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from plait.core.errors import BusyError, ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.traits import Traits
from plait.core.window import Floats
from plait.engine.reading import Piece, Reading, Toll
from plait.iteration.pace import Pace
from tests.engine import test_native
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, FULL_TRAITS, drain, make_engine
from tests.iteration.simulation import Cost

TEXT = [1 + i % 20 for i in range(50)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)


def rest(reading: Reading) -> list[list[Piece]]:
    """What every forward gave."""
    found = []
    while pieces := reading.next():
        found.append(pieces)
    assert reading.is_done
    reading.close()
    return found


def of_text(found: list[list[Piece]], text: int) -> Floats:
    return np.concatenate([rows for pieces in found for own, rows in pieces if own == text])


@pytest.mark.parametrize(
    ("traits", "cache", "sizes"),
    [
        (CAUSAL_TRAITS, "paged", [20, 20, 10]),
        (BLOCK_TRAITS, "paged", [16, 16, 18]),
        (CAUSAL_TRAITS, "none", [50]),
        (FULL_TRAITS, "paged", [50]),
    ],
    ids=["causal", "block", "none", "full"],
)
def test_all_of_a_text_is_read(traits: Traits, cache: str, sizes: list[int]) -> None:
    budget = 64 if len(sizes) == 1 else 20
    engine = make_engine(traits, cache=cache, max_num_batched_tokens=budget)
    found = rest(engine.read([TEXT]))
    assert [[len(rows) for _, rows in pieces] for pieces in found] == [[size] for size in sizes]
    assert of_text(found, 0)[:, 0].tolist() == TEXT
    assert engine.scheduler.cache.occupancy == 0
    engine.scheduler.cache.check()


@pytest.mark.parametrize(("traits", "cache"), [(CAUSAL_TRAITS, "radix"), (BLOCK_TRAITS, "none")])
def test_texts_share_forwards_as_far_as_the_budget_goes(traits: Traits, cache: str) -> None:
    engine = make_engine(traits, cache=cache, max_num_batched_tokens=64)
    lengths = [30, 30, 10, 64, 1, 1, 60]
    texts = [[1 + (i + n) % 20 for n in range(length)] for i, length in enumerate(lengths)]
    found = rest(engine.read(texts))
    assert [[text for text, _ in pieces] for pieces in found] == [[0, 1], [2], [3], [4, 5, 6]]
    for i, text in enumerate(texts):
        assert of_text(found, i)[:, 0].tolist() == text
        assert of_text(found, i)[:, 1].tolist() == list(range(len(text)))
    assert engine.scheduler.cache.occupancy == 0
    engine.scheduler.cache.check()


def test_others_follow_the_end_of_a_long_text() -> None:
    engine = make_engine(max_num_batched_tokens=20)
    reading = engine.read([TEXT, TEXT[:5], TEXT[:8]])
    sizes, held = [], []
    while pieces := reading.next():
        sizes.append([len(rows) for _, rows in pieces])
        held.append(not reading.is_between_texts)
    assert sizes == [[20], [20], [10, 5], [8]]
    assert held == [True, True, False, False]


def test_texts_that_do_not_fit_together_go_one_after_the_other() -> None:
    engine = make_engine(num_pages=2, max_num_batched_tokens=512)
    found = rest(engine.read([TEXT] * 3))
    assert [[text for text, _ in pieces] for pieces in found] == [[0], [1], [2]]
    engine.scheduler.cache.check()


def test_a_reading_that_is_given_up_holds_nothing() -> None:
    engine = make_engine(max_num_batched_tokens=20)
    reading = engine.read([TEXT, TEXT])
    reading.next()
    assert engine.scheduler.cache.occupancy > 0
    reading.close()
    assert engine.scheduler.cache.occupancy == 0
    engine.scheduler.cache.check()


def test_others_go_on_meanwhile_as_if_alone() -> None:
    alone = make_engine(max_num_batched_tokens=8)
    key = alone.add(TEXT[:10], GREEDY)
    expected = drain(alone)[key]
    engine = make_engine(max_num_batched_tokens=8)
    key = engine.add(TEXT[:10], GREEDY)
    reading = engine.read([TEXT])
    while reading.next():
        assert engine.step() is not None
    reading.close()
    assert engine.metrics.num_steps >= 6
    rest_of_it = drain(engine)[key]
    assert rest_of_it.tokens == expected.tokens[-len(rest_of_it.tokens) :]


def test_memory_that_others_hold_is_waited_for() -> None:
    engine = make_engine(num_pages=3)
    engine.add(TEXT, GREEDY)
    engine.step()
    reading = engine.read([TEXT])
    with pytest.raises(BusyError):
        reading.next()
    drain(engine)
    assert len(rest(reading)) == 1
    engine.scheduler.cache.check()


def test_what_is_no_text_is_refused() -> None:
    engine = make_engine()
    for ids in ([], [-1], [10**6]):
        with pytest.raises(UserError):
            engine.read([TEXT, ids])
    with pytest.raises(ContextLengthError):
        engine.read([[1] * (engine.traits.context_length + 1)])


def test_neither_chunks_nor_other_texts_change_the_bits() -> None:
    path = ("int8", "f16", "q8_0")

    def read(texts: list[list[int]], budget: int) -> list[list[Piece]]:
        engine = test_native.make_engine("llama", path, max_num_batched_tokens=budget)
        return rest(engine.read(texts))

    whole, chunked = of_text(read([TEXT], 64), 0), of_text(read([TEXT], 7), 0)
    together = read([TEXT[:9], TEXT, TEXT[:3]], 64)
    assert len(together) == 1
    assert whole.shape[0] == len(TEXT)
    assert np.array_equal(whole, chunked)
    assert np.array_equal(whole, of_text(together, 1))
    assert np.array_equal(whole[:3], of_text(together, 2))


def test_beside_streams_a_forward_is_as_long_as_a_prompts_and_waits_for_its_time() -> None:
    """The cost is SIMULATED; how long forwards take is not looked at."""
    engine = make_engine(num_pages=300, max_num_batched_tokens=256)
    engine.scheduler.pace = Pace(Cost(), 1.6)
    engine.add([1] * 10, replace(GREEDY, max_tokens=500))
    for _ in range(3):
        engine.step()
    reading = engine.read([[1] * 400])
    size = len(reading.next()[0].rows)
    assert size == engine.scheduler.beside < 50
    assert engine.toll.owed
    assert reading.next() == []
    assert not reading.is_done
    for _ in range(10_000):
        engine.step()
        if not engine.toll.owed or not engine.has_work:
            break
    assert len(reading.next()[0].rows) > 0
    reading.close()


def test_alone_a_reading_waits_for_nothing() -> None:
    engine = make_engine(num_pages=300, max_num_batched_tokens=256)
    engine.scheduler.pace = Pace(Cost(), 1.6)
    engine.toll.owe(1000.0)
    found = rest(engine.read([[1] * 400]))
    assert [len(pieces[0].rows) for pieces in found] == [256, 144]


def test_a_toll_is_paid_by_the_time_that_steps_may_be_stretched_by() -> None:
    toll = Toll()
    toll.owe(1.2)
    toll.pay(1.0, Pace(Cost(), 2.0))
    assert toll.owed
    toll.pay(1.0, Pace(Cost(), 1.25))
    assert not toll.owed
    toll.owe(0.1)
    toll.pay(1.01, Pace(Cost(), 1.0))
    assert not toll.owed


def test_a_reading_has_the_time_of_a_request() -> None:
    engine = make_engine(max_request_seconds=9.0)
    assert engine.read([TEXT]).seconds == 9.0
    assert engine.read([TEXT], deadline=2.0).seconds == 2.0
    with pytest.raises(UserError, match="deadline"):
        engine.read([TEXT], deadline=-1.0)

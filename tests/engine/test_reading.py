"""Hidden states of a text, read in chunks between the steps of others."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.errors import BusyError, ContextLengthError, UserError
from plait.core.params import SamplingParams
from plait.core.traits import Traits
from plait.core.window import Floats
from plait.engine.reading import Reading
from tests.engine import test_native
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, FULL_TRAITS, drain, make_engine

TEXT = [1 + i % 20 for i in range(50)]
GREEDY = SamplingParams(temperature=0.0, max_tokens=20, ignore_eos=True)


def rest(reading: Reading) -> list[Floats]:
    chunks = []
    while (rows := reading.next()) is not None:
        chunks.append(rows)
    reading.close()
    return chunks


@pytest.mark.parametrize(
    ("traits", "cache", "sizes"),
    [
        (CAUSAL_TRAITS, "paged", [20, 20, 10]),
        (BLOCK_TRAITS, "paged", [16, 16, 16, 2]),
        (CAUSAL_TRAITS, "none", [50]),
        (FULL_TRAITS, "paged", [50]),
    ],
    ids=["causal", "block", "none", "full"],
)
def test_all_of_a_text_is_read(traits: Traits, cache: str, sizes: list[int]) -> None:
    budget = 64 if len(sizes) == 1 else 20
    engine = make_engine(traits, cache=cache, max_num_batched_tokens=budget)
    chunks = rest(engine.read(TEXT))
    assert [len(rows) for rows in chunks] == sizes
    assert np.concatenate(chunks)[:, 0].tolist() == TEXT
    assert engine.scheduler.cache.occupancy == 0
    engine.scheduler.cache.check()


def test_others_go_on_meanwhile_as_if_alone() -> None:
    alone = make_engine(max_num_batched_tokens=8)
    key = alone.add(TEXT[:10], GREEDY)
    expected = drain(alone)[key]
    engine = make_engine(max_num_batched_tokens=8)
    key = engine.add(TEXT[:10], GREEDY)
    reading = engine.read(TEXT)
    while reading.next() is not None:
        assert engine.step() is not None
    reading.close()
    assert engine.metrics.num_steps >= 6
    rest_of_it = drain(engine)[key]
    assert rest_of_it.tokens == expected.tokens[-len(rest_of_it.tokens) :]


def test_memory_that_others_hold_is_waited_for() -> None:
    engine = make_engine(num_pages=3)
    engine.add(TEXT, GREEDY)
    engine.step()
    reading = engine.read(TEXT)
    with pytest.raises(BusyError):
        reading.next()
    drain(engine)
    assert len(rest(reading)) == 1
    engine.scheduler.cache.check()


def test_what_is_no_text_is_refused() -> None:
    engine = make_engine()
    for ids in ([], [-1], [10**6]):
        with pytest.raises(UserError):
            engine.read(ids)
    with pytest.raises(ContextLengthError):
        engine.read([1] * (engine.traits.context_length + 1))


def test_chunks_do_not_change_the_bits() -> None:
    path = ("int8", "f16", "q8_0")
    whole, chunked = (
        np.concatenate(
            rest(test_native.make_engine("llama", path, max_num_batched_tokens=n).read(TEXT))
        )
        for n in (64, 7)
    )
    assert whole.shape[0] == len(TEXT)
    assert np.array_equal(whole, chunked)

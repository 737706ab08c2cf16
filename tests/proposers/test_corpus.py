"""A corpus finds the longest run that ends a canvas, everywhere it stands, within its bytes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from plait.proposers.base import Resources
from plait.proposers.corpus import (
    DEPTH,
    END,
    LOOKED_AT,
    TOKEN_BYTES,
    Corpus,
    gathered,
    sorted_places,
)
from plait.proposers.lookahead import Proposer
from tests.proposers.test_conformance import sequence


def corpus(*documents: list[int]) -> Corpus:
    tokens = gathered(np.array(document, np.int32) for document in documents)
    return Corpus(tokens, sorted_places(tokens))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("vocabulary", [2, 5, 40])
def test_it_finds_what_a_search_finds(seed: int, vocabulary: int) -> None:
    rng = np.random.default_rng(seed)
    documents = [rng.integers(0, vocabulary, size).tolist() for size in (1, 7, 60, 200)]
    made = corpus(*documents)
    flat = [token for document in documents for token in (*document, END)]
    assert len(made) == len(flat)
    for _ in range(40):
        canvas = rng.integers(0, vocabulary, int(rng.integers(1, 30))).tolist()
        where: dict[int, set[int]] = {}
        for order in range(1, min(DEPTH, len(canvas)) + 1):
            ends = range(order, len(flat) + 1)
            hits = {end for end in ends if flat[end - order : end] == canvas[-order:]}
            if hits:
                where[order] = hits
        found = made.find(canvas, 1)
        assert found.order == max(where, default=0)
        assert set(found.places) <= where.get(found.order, set())
        assert len(set(found.places)) == min(LOOKED_AT, len(where.get(found.order, ())))
        assert made.find(canvas, found.order + 1).order == 0


def test_a_corpus_without_documents_holds_nothing() -> None:
    assert corpus().find([1, 2], 1).order == 0
    assert corpus([]).token(0) == END
    assert corpus([3]).token(5) == END


def test_places_that_are_none_are_refused() -> None:
    for places in ([0, 5], [-1, 0], [0]):
        with pytest.raises(ValueError, match="does not fit"):
            Corpus(np.array([1, 2], np.int32), np.array(places, np.int32))


def test_a_corpus_keeps_to_its_bytes() -> None:
    tokens = gathered([np.arange(200_000, dtype=np.int32) % 5000])
    places = sorted_places(tokens)
    tracemalloc.start()
    try:
        made = Corpus(tokens, places)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert made.num_bytes == TOKEN_BYTES * len(made)
    assert held < made.num_bytes + 10_000


def propose(made: Corpus, canvas: list[int], branches: int = 1) -> list[int]:
    proposer = Proposer(Resources(corpus=made))
    return proposer.propose(sequence(canvas), 4, branches).tokens.tolist()


def test_the_request_itself_knows_better_unless_the_corpus_knows_a_long_run() -> None:
    made = corpus([1, 2, 3, 4, 5, 6, 7], [9, 2, 3, 8])
    assert propose(made, [50, 1, 2]) == [3, 4, 5, 6]
    assert propose(made, [1, 2, 60, 61, 1, 2]) == [60, 61, 1, 2]
    assert propose(made, [4, 60, 2, 3, 4]) == [60, 2, 3, 4]
    assert propose(made, [4, 60, 1, 2, 3, 4]) == [5, 6, 7]


def test_most_ways_of_the_corpus_come_first_and_documents_end() -> None:
    made = corpus([1, 2, 3], [1, 2, 3], [1, 2, 4, 5, 6])
    assert propose(made, [2]) == [3]
    assert propose(made, [2], branches=2) == [3, 4, 5, 6]
    assert propose(made, [3]) == []

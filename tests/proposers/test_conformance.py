"""What every proposer promises (proposers/base.py), for each sibling by name."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from plait.core import registry
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import Update
from plait.proposers.base import MOST, Proposer, Resources

NAMES = registry.names("proposers")


class Parrot:
    """A draft model that always says the same."""

    seconds = 0.001

    def catch_up_seconds(self, seq: Sequence) -> float:
        return 0.0

    def follow(self, seq: Sequence, path: tuple[int, ...], breadth: int) -> list[tuple[int, float]]:
        return [(len(path), 0.9), (len(path) + 1, 0.05), (9, 0.02)][:breadth]


class Hydra:
    """Heads, and a model of blocks, that always say the same."""

    seconds = 0.001

    def levels(self, seq: Sequence, depth: int, breadth: int) -> list[list[tuple[int, float]]]:
        tokens = [[(5, 0.5), (6, 0.3), (7, 0.1)], [(8, 0.9)], [(9, 0.4), (3, 0.4)]]
        return [level[:breadth] for level in tokens[:depth]]


@pytest.fixture(params=NAMES)
def proposer(request: pytest.FixtureRequest) -> Proposer:
    made: Proposer = registry.load("proposers", request.param).Proposer(
        Resources(Parrot(), Hydra(), Hydra())
    )
    return made


def sequence(tokens: list[int]) -> Sequence:
    ids = np.array(tokens, np.int32)
    return Sequence(1, ids, SamplingParams(), limit=len(tokens) + 500, seed=0)


def write(seq: Sequence, tokens: list[int]) -> None:
    places = np.arange(seq.length, seq.length + len(tokens), dtype=np.int32)
    seq.apply(Update(places, np.array(tokens, np.int32)))
    seq.final = seq.length


@pytest.mark.parametrize("most", [1, 3, MOST])
@pytest.mark.parametrize("branches", [1, 3])
def test_a_proposal_is_a_tree_of_no_more_than_was_asked_for(
    proposer: Proposer, most: int, branches: int
) -> None:
    rng = np.random.default_rng(0)
    seq = sequence([1, 2, 3] * 10)
    for _ in range(50):
        tokens, parents = proposer.propose(seq, most, branches)
        beginnings = tokens[parents == 0].tolist()
        assert len(set(beginnings)) == len(beginnings) <= branches
        assert len(tokens) == len(parents) <= most
        assert tokens.dtype == parents.dtype == np.int32
        assert all(0 <= parent <= place for place, parent in enumerate(parents.tolist()))
        if len(tokens):
            proposer.learn(seq, len(tokens), int(rng.integers(0, len(tokens) + 1)))
        write(seq, rng.integers(0, 4, int(rng.integers(1, 4))).tolist())


def test_proposing_leaves_the_canvas_alone(proposer: Proposer) -> None:
    seq = sequence([1, 2, 3] * 10)
    before = copy.deepcopy((seq.tokens, seq.scratch, seq.length, seq.final))
    first, second = proposer.propose(seq, 5), proposer.propose(seq, 5)
    assert first.tokens.tolist() == second.tokens.tolist()
    np.testing.assert_array_equal(seq.tokens, before[0])
    assert (seq.scratch, seq.length, seq.final) == before[1:]


def test_requests_know_nothing_of_each_other(proposer: Proposer) -> None:
    alone = proposer.propose(sequence([9, 8, 7, 6]), 5)
    proposer.propose(sequence([9, 8, 7, 6, 5, 4, 9, 8, 7, 6]), 5)
    assert proposer.propose(sequence([9, 8, 7, 6]), 5).tokens.tolist() == alone.tokens.tolist()


def test_a_prompt_of_one_token_is_no_problem(proposer: Proposer) -> None:
    assert len(proposer.propose(sequence([1]), 4).tokens) <= 4


def test_a_copy_is_the_same_proposer(proposer: Proposer) -> None:
    assert copy.deepcopy(proposer) is proposer

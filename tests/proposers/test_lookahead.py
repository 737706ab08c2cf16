"""What lookahead finds."""

from __future__ import annotations

import tracemalloc

import pytest

from plait.proposers import lookahead
from plait.proposers.base import Resources
from tests.proposers.test_conformance import sequence, write

PROPOSER = lookahead.Proposer(Resources())


def follow(tokens: list[int], most: int = 4) -> list[int]:
    return PROPOSER.propose(sequence(tokens), most).tokens.tolist()


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1, 2, 3, 4, 5, 6, 9, 1, 2], [3, 4, 5, 6]),
        ([1, 2, 3, 4], []),
        ([5, 1, 2, 7, 5, 1, 2, 8, 5, 1, 2, 8, 4, 1, 2], [8, 4, 1, 2]),  # most went to 8
        ([1, 2, 7, 0, 1, 2, 8, 0, 1, 2], [8, 0, 1, 2]),  # the latest among equals
        ([1, 2] * 6, [1, 2, 1, 2]),  # what repeats itself goes on
        ([3, 1, 2, 7, 0, 4, 1, 2, 8, 0, 3, 1, 2], [7, 0, 4, 1]),  # the longer run tells more
    ],
)
def test_what_follows(tokens: list[int], expected: list[int]) -> None:
    assert follow(tokens) == expected


def test_branches_begin_with_different_tokens() -> None:
    tokens = [5, 1, 2, 7, 5, 1, 2, 8, 5, 1, 2, 8, 4, 1, 2]
    tree = PROPOSER.propose(sequence(tokens), 5, 2)
    assert tree.tokens.tolist() == [8, 4, 1, 7, 5]
    assert tree.parents.tolist() == [0, 1, 2, 0, 4]


def test_the_answer_is_read_as_it_grows() -> None:
    seq = sequence([1, 2, 3])
    assert not len(PROPOSER.propose(seq, 2).tokens)
    write(seq, [5, 6, 1, 2])
    assert PROPOSER.propose(seq, 2).tokens.tolist() == [3, 5]


def test_an_index_keeps_to_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "MOST_RUNS", 20)
    seq = sequence(list(range(100)) + [50, 51])
    assert not len(PROPOSER.propose(seq, 2).tokens)  # forgotten
    write(seq, [98, 99, 50])
    assert PROPOSER.propose(seq, 2).tokens.tolist() == [51, 98]
    assert len(seq.memo["lookahead"].places) <= 20


def test_an_index_keeps_to_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long canvas without any repetition: what an index holds beside the tokens, per run."""
    monkeypatch.setattr(lookahead, "MOST_RUNS", 2048)
    tokens = list(range(4096))
    tracemalloc.start()
    try:
        index = lookahead._Index()
        for start in range(0, 4096, 1024):
            index.read(tokens[start : start + 1024], lookahead.MOST_RUNS)
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert lookahead.MOST_RUNS // 2 < len(index.places) <= lookahead.MOST_RUNS
    assert held < 400 * lookahead.MOST_RUNS


def test_a_long_prompt_is_read_by_and_by() -> None:
    """A part at once, the last that there is room for; and then what it repeats is found."""
    count = lookahead.MOST_RUNS // 5 + 5000
    seq = sequence([*range(count), count - 30, count - 29])
    tries = 0
    while not len(found := PROPOSER.propose(seq, 2).tokens):
        tries += 1
        assert tries < 100
    assert found.tolist() == [count - 28, count - 27]
    assert 5 < tries <= 1 + lookahead.MOST_RUNS // 5 // lookahead.MOST_READ
    assert len(seq.memo["lookahead"].places) <= lookahead.MOST_RUNS


def test_indices_share_their_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookahead, "ALL_RUNS", 4000)
    # As many proposers as requests have options of their own.
    owns = [lookahead.Proposer(PROPOSER.resources) for _ in range(8)]
    held = [sequence([1000 * i + j for j in range(900)]) for i in range(8)]
    for _ in range(2):
        for own, seq in zip(owns, held, strict=True):
            own.propose(seq, 2)
            write(seq, [7])
    assert sum(len(seq.memo["lookahead"].places) for seq in held) <= 4000

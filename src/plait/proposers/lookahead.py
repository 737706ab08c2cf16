"""What followed the last few tokens before, in the prompt or in the answer, will follow them again.

The n-gram retrieval of Lookahead (arXiv:2312.12728). Where that keeps a trie of all branches, this keeps for every
run of `ORDERS` tokens the last places where it ended, and grows the trie when it is asked, from what followed
there: a few hundred bytes a token instead of several thousand. At each depth the continuation goes the way that
most of the places went, the latest counting most among equals.

An index belongs to one request: what a stranger wrote is never proposed, so how fast an answer comes tells
nothing of others.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from plait.core.sequence import Sequence
from plait.proposers import base
from plait.proposers.base import NO_PROPOSAL, Proposal, tree

SUMMARY = "what followed the last tokens earlier in the prompt or the answer"

ORDERS = (4, 3, 2)
"""Lengths of the runs that are looked up, the most telling first."""
MOST_PLACES = 8
MOST_RUNS = 1 << 16
"""Runs that an index holds, about 300 bytes each; the oldest is forgotten for a new one."""


@dataclass(slots=True)
class _Index:
    """tokens: of the canvas, as far as it has been read. places: run -> where it ended, latest last."""

    tokens: list[int] = field(default_factory=list)
    places: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def read(self, tokens: list[int]) -> None:
        """More of the canvas. A run is entered once a token follows it."""
        for token in tokens:
            end = len(self.tokens)
            for order in ORDERS:
                if end >= order:
                    self._enter(tuple(self.tokens[end - order :]), end)
            self.tokens.append(token)

    def _enter(self, run: tuple[int, ...], end: int) -> None:
        places = self.places.get(run)
        if places is None:
            if len(self.places) >= MOST_RUNS:
                del self.places[next(iter(self.places))]
            places = self.places[run] = []
        places.append(end)
        del places[:-MOST_PLACES]

    def follow(self, most: int, branches: int) -> list[list[int]]:
        """What most likely comes next, in up to `branches` ways of at most `most` tokens in all."""
        order = self.order()
        if not order:
            return []
        return self._branches(self.places[tuple(self.tokens[-order:])], most, branches)

    def order(self) -> int:
        """The length of the longest run at the end that was seen before; 0 if none was."""
        for order in ORDERS:
            if len(self.tokens) >= order and tuple(self.tokens[-order:]) in self.places:
                return order
        return 0

    def _branches(self, places: list[int], most: int, branches: int) -> list[list[int]]:
        """The likeliest way gets half of the tokens, the next half of the rest; the last takes what is left."""
        found: list[list[int]] = []
        while places and most and branches:
            is_last = branches == 1 or len({self.tokens[place] for place in places}) == 1
            best = self._vote(places, most if is_last else (most + 1) // 2)
            places = [place for place in places if self.tokens[place] != best[0]]
            found.append(best)
            most, branches = most - len(best), branches - 1
        return found

    def _vote(self, places: list[int], most: int) -> list[int]:
        found: list[int] = []
        for depth in range(most):
            votes = [(place, self._at(place + depth, found)) for place in places]
            counts = Counter(token for _, token in votes)
            latest = {token: place for place, token in votes}
            best = max(counts, key=lambda token: (counts[token], latest[token]))
            found.append(best)
            places = [place for place, token in votes if token == best]
        return found

    def _at(self, place: int, found: list[int]) -> int:
        """A token of the canvas, or behind its end of what was found for it (it repeats itself)."""
        beyond = place - len(self.tokens)
        return self.tokens[place] if beyond < 0 else found[beyond]


class Proposer(base.Proposer):
    """See the module's text."""

    def kind(self, seq: Sequence) -> str | None:
        """How long a run was seen before: the longer, the more often is right what followed it."""
        order = _index(seq).order()
        return f"after {order}" if order else None

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        found = _index(seq).follow(most, branches)
        return tree(found) if found else NO_PROPOSAL

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """There is nothing to adjust."""


def _index(seq: Sequence) -> _Index:
    """The request's, with all of its canvas read."""
    index: _Index | None = seq.memo.get("lookahead")
    if index is None:
        index = seq.memo["lookahead"] = _Index()
    index.read(seq.tokens[len(index.tokens) :].tolist())
    return index

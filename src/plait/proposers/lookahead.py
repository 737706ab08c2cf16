"""What followed the last few tokens before, in the prompt, in the answer or in a corpus, will follow them again.

The n-gram retrieval of Lookahead (arXiv:2312.12728). Where that keeps a trie of all branches, this keeps for every
run of `ORDERS` tokens the last places where it ended, and grows the trie when it is asked, from what followed
there: a few hundred bytes a token instead of several thousand. At each depth the continuation goes the way that
most of the places went, the latest counting most among equals.

An index belongs to one request: what a stranger wrote is never proposed, so how fast an answer comes tells
nothing of others. A corpus (corpus.py) is what the engine was started with; no answer is added to it.
Where the request itself has seen the last two tokens, it knows better than the corpus; where it has seen but one, a
corpus that knows `TELLING` does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Listing
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from plait.core.sequence import Sequence
from plait.proposers import base
from plait.proposers.base import NO_PROPOSAL, Proposal, tree
from plait.proposers.corpus import DEPTH, END, Found

SUMMARY = "what followed the last tokens earlier in the prompt, the answer or a corpus"

ORDERS = (8, 4, 3, 2, 1)
"""Lengths of the runs that are looked up, the most telling first."""
TELLING = 4
"""A run of the corpus as long as this counts for more than one token of the request's own."""
MOST_PLACES = 8
MOST_RUNS, ALL_RUNS = 1 << 16, 1 << 19
"""Runs that an index holds, and all of an engine together, about 230 bytes each; the oldest is forgotten for a new one."""
MOST_READ = 1024
"""Tokens whose runs are entered at once: some ten milliseconds. A long prompt is known by and by, the last part of it that
there is room for."""

Follower = Callable[[int, list[int]], int]
"""From a place, and what was found for those that lie behind the end of the canvas, to the token there; END: none."""


@dataclass(slots=True, eq=False, weakref_slot=True)
class _Index:
    """tokens: of the canvas. entered: how many of them had their runs entered. places: run -> where it ended, latest
    last; the run that was seen first comes first."""

    tokens: list[int] = field(default_factory=list)
    entered: int = 0
    places: dict[tuple[int, ...], list[int]] = field(default_factory=dict)

    def read(self, tokens: list[int], room: int) -> None:
        """More of the canvas, and enter what comes next of it. A run is entered once a token follows it. room: runs that
        the index may hold."""
        self.tokens += tokens
        count = len(self.tokens)
        self.entered = max(
            self.entered, count - room // len(ORDERS)
        )  # the others would be forgotten
        until = min(count, self.entered + MOST_READ)
        for end in range(self.entered, until):
            for order in ORDERS:
                if end >= order:
                    self._enter(tuple(self.tokens[end - order : end]), end)
        self.entered = until
        if len(self.places) > room:
            # Some more of them at once: to find the first of a dictionary takes the longer the more were taken before.
            count = len(self.places) - room * 7 // 8
            for run in list(islice(self.places, count)):
                del self.places[run]

    def _enter(self, run: tuple[int, ...], end: int) -> None:
        places = self.places.get(run)
        if places is None:
            places = self.places[run] = []
        places.append(end)
        del places[:-MOST_PLACES]

    def order(self) -> int:
        """The length of the longest run at the end that was seen before; 0 if none was."""
        for order in ORDERS:
            if len(self.tokens) >= order and tuple(self.tokens[-order:]) in self.places:
                return order
        return 0

    def places_now(self) -> list[int]:
        """Where the run of `order` was seen; nothing if none was."""
        order = self.order()
        return self.places[tuple(self.tokens[-order:])] if order else []

    def at(self, place: int, found: list[int]) -> int:
        """A token of the canvas, or behind its end of what was found for it (it repeats itself)."""
        beyond = place - len(self.tokens)
        return self.tokens[place] if beyond < 0 else found[beyond]


def branches_from(places: Listing[int], at: Follower, most: int, branches: int) -> list[list[int]]:
    """What most likely comes next, in up to `branches` ways of at most `most` tokens in all. The likeliest way gets
    half of the tokens, the next half of the rest; the last takes what is left."""
    ways: list[list[int]] = []
    while most and branches:
        firsts = {at(place, []) for place in places} - {END}
        if not firsts:
            break
        best = _vote(places, at, most if branches == 1 or len(firsts) == 1 else (most + 1) // 2)
        places = [place for place in places if at(place, []) != best[0]]
        ways.append(best)
        most, branches = most - len(best), branches - 1
    return ways


def _vote(places: Listing[int], at: Follower, most: int) -> list[int]:
    found: list[int] = []
    for depth in range(most):
        votes = [(place, at(place + depth, found)) for place in places]
        votes = [(place, token) for place, token in votes if token != END]
        if not votes:
            break
        counts = Counter(token for _, token in votes)
        latest = {token: place for place, token in votes}
        best = max(counts, key=lambda token: (counts[token], latest[token]))
        found.append(best)
        places = [place for place, token in votes if token == best]
    return found


class _Seen(NamedTuple):
    """What is known of the end of a canvas of `length` tokens. own: order in the request itself, 0 if none. in_corpus:
    in the corpus, where that counts for more."""

    length: int
    own: int
    in_corpus: Found


class Proposer(base.Proposer):
    """See the module's text."""

    def kind(self, seq: Sequence) -> str | None:
        """How long a run was seen before, and where: the longer, the more often is right what followed it."""
        _, own, in_corpus = self._seen(seq)
        if in_corpus.order:
            told_apart = next(order for order in ORDERS if order <= in_corpus.order)
            return f"in corpus after {told_apart}"
        return f"after {own}" if own else None

    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        in_corpus = self._seen(seq).in_corpus
        corpus = self.resources.corpus
        if in_corpus.order and corpus is not None:
            found = branches_from(
                in_corpus.places, lambda place, _: corpus.token(place), most, branches
            )
        else:
            index = self._index(seq)
            found = branches_from(index.places_now(), index.at, most, branches)
        return tree(found) if found else NO_PROPOSAL

    def _seen(self, seq: Sequence) -> _Seen:
        known: _Seen | None = seq.memo.get("lookahead seen")
        if known is None or known.length != seq.length:
            own, found = self._index(seq).order(), Found()
            if self.resources.corpus is not None and own < 2:
                canvas = seq.tokens[-DEPTH:].tolist()
                found = self.resources.corpus.find(canvas, TELLING if own else 1)
            known = seq.memo["lookahead seen"] = _Seen(seq.length, own, found)
        return known

    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """There is nothing to adjust."""

    def _index(self, seq: Sequence) -> _Index:
        """The request's, as far as its canvas has been read."""
        index: _Index | None = seq.memo.get("lookahead")
        if index is None:
            index = seq.memo["lookahead"] = _Index()
            self.resources.indices.add(index)
        room = min(MOST_RUNS, ALL_RUNS // len(self.resources.indices))
        if len(index.tokens) < seq.length or index.entered < seq.length:
            index.read(seq.tokens[len(index.tokens) :].tolist(), room)
        return index

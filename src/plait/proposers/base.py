"""The contract of a proposer: it guesses what a request says next, for the model to verify.

A proposal changes how fast an answer comes, never the answer: whatever is proposed, the verifier keeps what the
model would have said by itself. So a proposer may be wrong, may give up at any time, and may see all of the
canvas. It must be bounded in time and in memory.

Siblings are built as `Proposer(resources)`. One object serves all requests of an engine; what it knows of one
request lies in `seq.memo` and dies with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, Self
from weakref import WeakSet

import numpy as np

from plait.core.sequence import Sequence
from plait.core.window import NO_INTS, Ints
from plait.proposers.corpus import Corpus

MOST = 16
"""Tokens that are ever drafted for one forward of a request."""


class Proposal(NamedTuple):
    """A tree of drafted tokens, int32 [n], with the parents of `Window.parents`; the first branch comes first."""

    tokens: Ints = NO_INTS
    parents: Ints = NO_INTS


NO_PROPOSAL = Proposal()


class Drafter(Protocol):
    """A second model that goes ahead of the one that answers."""

    seconds: float
    """What one drafted token takes, measured as it goes; 0 while nobody knows."""

    def catch_up_seconds(self, seq: Sequence) -> float:
        """What it takes to read the canvas as far as it has not been read, a token or two left out."""
        ...

    def follow(self, seq: Sequence, path: tuple[int, ...], breadth: int) -> list[tuple[int, float]]:
        """What it thinks may follow the canvas and a path of tokens behind it: the likeliest `breadth` with their
        probabilities, best first. Nothing when it has no room for the request."""
        ...


class Levels(Protocol):
    """The model that answers, guessing several of the next tokens at once, each by itself: with further heads, or as
    one that decides blocks."""

    seconds: float
    """What one guessed token takes, measured as it goes; 0 while nobody knows."""

    def levels(self, seq: Sequence, depth: int, breadth: int) -> list[list[tuple[int, float]]]:
        """For each of the next tokens, at most `depth`, the likeliest `breadth` with their probabilities, best first.
        Nothing where it knows nothing, or has no room for the request."""
        ...


@dataclass(slots=True)
class Resources:
    """What an engine has for its proposers; None without a draft model, heads, a model that decides blocks, or a
    corpus. indices: what requests hold of `lookahead`, whichever proposer made it; they share its memory."""

    drafter: Drafter | None = None
    heads: Levels | None = None
    blocks: Levels | None = None
    corpus: Corpus | None = None
    indices: WeakSet[Any] = field(default_factory=WeakSet)


class Proposer(ABC):
    """See the module's text for the contract."""

    def __init__(self, resources: Resources) -> None:
        """Raises UserError when what it needs is not there."""
        self.resources = resources

    def __deepcopy__(self, _: object) -> Self:
        """It belongs to the engine and knows nothing of a request: copies of a planner share it."""
        return self

    @property
    def seconds(self) -> float:
        """What one proposed token takes."""
        return 0.0

    def catch_up_seconds(self, seq: Sequence) -> float:
        """What it takes before the first token can be proposed."""
        return 0.0

    def kind(self, seq: Sequence) -> str | None:
        """Which sort of guess the next would be, None for none: how often guesses are right is told apart by it."""
        return ""

    @abstractmethod
    def propose(self, seq: Sequence, most: int, branches: int = 1) -> Proposal:
        """At most `most` >= 1 tokens to follow the canvas of a request whose every token is decided, in one
        branch, or in up to `branches` that begin with different tokens, the likeliest first."""

    @abstractmethod
    def learn(self, seq: Sequence, proposed: int, accepted: int) -> None:
        """What became of the last proposal for this request."""


def tree(branches: list[list[int]]) -> Proposal:
    """Branches that begin with different tokens, each of at least one."""
    tokens: list[int] = []
    parents: list[int] = []
    for branch in branches:
        start = len(tokens)
        tokens += branch
        parents += [0, *range(start + 1, start + len(branch))]
    return Proposal(np.array(tokens, np.int32), np.array(parents, np.int32))


def chain(tokens: list[int]) -> Proposal:
    """One branch."""
    return Proposal(np.array(tokens, np.int32), np.arange(len(tokens), dtype=np.int32))

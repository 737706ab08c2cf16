"""Trees of guesses: which to verify, and in which order they lie in a proposal."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from plait.core.sequence import Sequence
from plait.proposers.base import NO_PROPOSAL, Proposal

Children = Callable[[tuple[int, ...]], list[tuple[int, float]]]
"""From the tokens of a path to what may follow, with chances, best first; empty: nothing is known."""


class Node(NamedTuple):
    """path: its tokens, the last its own. chance: that all of them are right."""

    path: tuple[int, ...]
    chance: float


FIRST_THRESHOLD = 0.25
LOWEST, HIGHEST = 0.02, 0.9
STEP = 1.15


def threshold(seq: Sequence) -> float:
    """The chance below which a guess for this request is not worth to be verified (LLMCad, arXiv:2309.04255)."""
    known: float = seq.memo.get("draft_threshold", FIRST_THRESHOLD)
    return known


def adjust(seq: Sequence, accepted: int) -> None:
    """Let the threshold follow what became of the last tree: all of a way accepted lowers it, an early refusal
    raises it."""
    depth = seq.memo.get("draft_depth", 0)
    factor = 1 / STEP if accepted >= depth else STEP if 2 * accepted < depth else 1.0
    seq.memo["draft_threshold"] = min(HIGHEST, max(LOWEST, threshold(seq) * factor))


def grown(seq: Sequence, children: Children, most: int, branches: int) -> Proposal:
    """The likeliest tree whose every node has a chance of at least the request's threshold."""
    nodes = likeliest(children, most, branches, threshold(seq))
    seq.memo["draft_depth"] = max((len(node.path) for node in nodes), default=0)
    return proposal(nodes)


def likeliest(children: Children, most: int, branches: int, least: float = 0.0) -> list[Node]:
    """The `most` nodes with the best chances, of at least `least`; each is followed by at most `branches`. Begins with
    the best."""
    open_ = [Node((token,), chance) for token, chance in children(())[:branches]]
    found: list[Node] = []
    while open_ and len(found) < most:
        best = max(open_, key=lambda node: node.chance)
        if best.chance < least:
            break
        open_.remove(best)
        found.append(best)
        if len(found) < most:
            following = children(best.path)[:branches]
            open_ += [
                Node((*best.path, token), best.chance * chance) for token, chance in following
            ]
    return found


def proposal(nodes: list[Node]) -> Proposal:
    """The nodes as a tree: first the way that always goes on with the likeliest, then the others by depth. With every
    node the one before it on its path must be there."""
    if not nodes:
        return NO_PROPOSAL
    first = _first_way(nodes)
    others = [node for node in nodes if node not in first]
    ordered = [*first, *sorted(others, key=lambda node: len(node.path))]
    places = {node.path: place for place, node in enumerate(ordered, 1)}
    parents = [places.get(node.path[:-1], 0) for node in ordered]
    tokens = [node.path[-1] for node in ordered]
    return Proposal(np.array(tokens, np.int32), np.array(parents, np.int32))


def _first_way(nodes: list[Node]) -> list[Node]:
    way: list[Node] = []
    while True:
        path = way[-1].path if way else ()
        following = [node for node in nodes if node.path[:-1] == path]
        if not following:
            return way
        way.append(max(following, key=lambda node: node.chance))

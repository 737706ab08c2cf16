"""Pages by the tokens that they hold: the nodes of the tree of `radix.py`, and how they are searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.window import Ints, PatternKind, Window

MOST_LOOKED_AT = 16
"""Pages, the newest ones, among which the best partial page is looked for."""
_CAUSAL, _BLOCK = PatternKind.CAUSAL, PatternKind.BLOCK  # to look up a member costs a call


@dataclass(slots=True, eq=False)
class Node:
    """A page of the tree. key: its tokens, int32 [n <= PAGE] as bytes; of a root the salt, and no page.

    grain: its first k slots hold good without the others when grain divides k.
    """

    parent: Node | None
    key: bytes
    page: int
    grain: int = 1
    children: dict[bytes, Node] = field(default_factory=dict)


def grain_of(window: Window) -> int:
    """How many slots see each other, if the tokens up to the end of a page tell what is in it; else 0."""
    kind, size = window.pattern.kind, window.pattern.size
    if len(window.parents):
        return 1  # of a tree of drafts the first branch is kept, which lies and sees as without the others
    if window.positions is not None or window.embeddings is not None:
        return 0
    if kind is _CAUSAL:
        return 1
    return size if kind is _BLOCK and PAGE % size == 0 else 0


def walk(node: Node, seq: Sequence, start: int, limit: int) -> list[Node]:
    """The nodes that hold slots [start, ...), as far as whole pages below `limit` go."""
    tokens, found = seq.tokens, []
    for place in range(start, limit - PAGE + 1, PAGE):
        child = node.children.get(tokens[place : place + PAGE].tobytes())
        if child is None:
            break
        found.append(child)
        node = child
    return found


def partial(node: Node, seq: Sequence, start: int, limit: int) -> tuple[Node | None, int]:
    """The child that agrees longest with slots [start, limit), and how many of its slots hold good."""
    wanted = seq.tokens[start : min(start + PAGE, limit)]
    best, most = _tail(node, wanted)
    first = wanted[:1].tobytes()
    for child in islice(reversed(node.children.values()), MOST_LOOKED_AT):
        same = _agreement(child, wanted) if child.key.startswith(first) else 0
        if same > most:
            best, most = child, same
    return best, most


def _tail(node: Node, wanted: Ints) -> tuple[Node | None, int]:
    """The longest child that holds nothing but the beginning of these tokens, int32 [n < PAGE]."""
    spelled, width = wanted.tobytes(), wanted.itemsize
    for size in range(min(len(wanted), PAGE - 1), 0, -1):
        child = node.children.get(spelled[: size * width])
        if child is not None:
            return child, size
    return None, 0


def _agreement(node: Node, wanted: Ints) -> int:
    """How many leading slots of the node's page hold good for these tokens, int32 [n <= PAGE]."""
    own = np.frombuffer(node.key, np.int32)[: len(wanted)]
    different = np.flatnonzero(own != wanted[: len(own)])
    same = int(different[0]) if len(different) else len(own)
    return same // node.grain * node.grain

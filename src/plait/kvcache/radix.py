"""Paged K/V memory whose full pages outlive their sequence, to be found again by what was fed.

A tree holds the pages that are full of EXACT slots. A node is a page, its key the page's tokens; the way from a
root to it spells the canvas that its K/V belongs to, so that it serves every canvas that begins the same way.
A sequence's leading full pages are always the tree's own: a page enters as soon as it is full, and who
computed the same one at the same time gives his back. So whoever owns a page owns all pages above it.

**Memory.** The tree owns nothing. The pool keeps its pages (`Pool.keep`): without an owner they count as free, and
when memory is needed the one that was given back first goes first. Sequences give back their last page first,
and nobody owns a page without those above it, so a page always goes before those it hangs on.

**Partial pages.** Where a canvas leaves the tree inside a page, the slots before that are adopted with the page,
which is copied when the rest is written, like any shared page. Without memory for a copy, a page that nobody else
owns is taken out of the tree and written in place: who fits alone must not fail for the sake of the tree.

**What is not shared.** Slots that the tokens do not tell: fed with embeddings or positions of their own, or with a
pattern that sees beyond the page. Sequences with different salts share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.window import Ints, PatternKind, Window
from plait.kvcache import paged
from plait.kvcache.base import Options as Options
from plait.kvcache.pool import Pool

SUMMARY = "paged, and what prompts begin with is computed once for all requests"

LEAST = 4
"""Slots of a partial page that are worth its copy."""
MOST_LOOKED_AT = 16
"""Pages, the newest ones, among which the best partial page is looked for."""
_CAUSAL, _BLOCK = PatternKind.CAUSAL, PatternKind.BLOCK  # to look up a member costs a call


@dataclass(slots=True, eq=False)
class _Node:
    """A page of the tree. key: its tokens, int32 [PAGE] as bytes; of a root the salt, and no page.

    grain: its first k slots hold good without the others when grain divides k.
    """

    parent: _Node | None
    key: bytes
    page: int
    grain: int = 1
    children: dict[bytes, _Node] = field(default_factory=dict)


@dataclass(slots=True)
class _Path:
    """nodes[i] holds the page i of a sequence. is_private: its tokens do not tell what is in its other pages."""

    nodes: list[_Node] = field(default_factory=list)
    is_private: bool = False


class Cache(paged.Cache):
    """One page table per sequence, and a tree of pages for all."""

    shares = True

    def __init__(self, pool: Pool, options: Options | None = None) -> None:
        super().__init__(pool, options)
        self._paths: dict[int, _Path] = {}
        self._nodes: dict[int, _Node] = {}  # by page
        self._roots: dict[bytes, _Node] = {}  # by salt

    def stored(self, seq: Sequence, window: Window) -> None:
        super().stored(seq, window)
        path = self._path(seq)
        grain = _grain(window)
        if not grain:
            path.is_private = True
        num_full = min(self._tables[seq.request_id].length, seq.final) // PAGE
        if num_full > len(path.nodes) and not path.is_private:
            self._enter(seq, path, num_full, grain)

    def match(self, seq: Sequence) -> int:
        table = self._tables.get(seq.request_id)
        length = table.length if table else 0
        if seq.length - length <= LEAST:  # as in nearly all steps
            return length
        limit = self._adoptable(seq)
        return length if limit - length < LEAST else self._adopt(seq, length, limit)

    def coming(self, seq: Sequence, other: Sequence, window: Window) -> int:
        if seq.salt != other.salt or not _grain(window) or self._path(other).is_private:
            return 0
        first = self.length(seq) // PAGE
        last = min(window.keep, other.final, self._adoptable(seq)) // PAGE
        if last <= first:
            return 0
        differs = np.flatnonzero(seq.tokens[: last * PAGE] != other.tokens[: last * PAGE])
        same = int(differs[0]) // PAGE if len(differs) else last
        return max(0, same - first)

    def truncate(self, seq: Sequence, length: int) -> None:
        super().truncate(seq, length)
        path = self._paths.get(seq.request_id)
        if path:
            del path.nodes[length // PAGE :]

    def fork(self, parent: Sequence, child: Sequence) -> None:
        super().fork(parent, child)
        path = self._paths.get(parent.request_id)
        if path:
            self._paths[child.request_id] = _Path(list(path.nodes), path.is_private)

    def release(self, seq: Sequence) -> None:
        super().release(seq)
        self._paths.pop(seq.request_id, None)

    def drop(self) -> None:
        for page in self.pool.idle:
            self._forget(page)
            self.pool.discard(page)

    def check(self) -> None:
        super().check()
        order = {page: place for place, page in enumerate(self.pool.idle)}
        assert order.keys() <= self._nodes.keys(), "an idle page is not in the tree"
        for page, node in self._nodes.items():
            parent = node.parent
            assert parent is not None, f"page {page} hangs on nothing"
            assert node.page == page, f"page {page} is in the tree as {node.page}"
            assert parent.children.get(node.key) is node, f"page {page} has lost its parent"
            if parent.page in order:
                assert order.get(page, -1) < order[parent.page], f"page {page} outlives its parent"
                assert page in order, f"page {page} has an owner, but its parent has none"
        for request_id, path in self._paths.items():
            pages = self._tables[request_id].pages[: len(path.nodes)] if path.nodes else []
            assert [node.page for node in path.nodes] == pages, (
                f"request {request_id}: lost its way"
            )
        for root in self._roots.values():
            assert root.children, "a root without a tree"

    def _adoptable(self, seq: Sequence) -> int:
        """The slots that may come from others: all but one, or none."""
        # Who wants log-probabilities of the prompt has to compute all of it.
        is_own = not seq.is_scored or self._path(seq).is_private
        return 0 if is_own else min(seq.final, seq.length - 1)

    def _path(self, seq: Sequence) -> _Path:
        path = self._paths.get(seq.request_id)
        if path is None:
            path = self._paths[seq.request_id] = _Path()
        return path

    def _enter(self, seq: Sequence, path: _Path, num_full: int, grain: int) -> None:
        """Put the sequence's full pages into the tree, or the tree's into the sequence."""
        table, tokens = self._tables[seq.request_id], seq.tokens
        node = path.nodes[-1] if path.nodes else self._root(seq)
        for index in range(len(path.nodes), num_full):
            key = tokens[index * PAGE : (index + 1) * PAGE].tobytes()
            child = node.children.get(key)
            if child is None:
                child = self._grow(node, key, table.pages[index], grain)
            else:
                self.pool.retain(child.page)
                self.pool.release(table.pages[index])
                table.pages[index], table.view = child.page, None
            path.nodes.append(child)
            node = child

    def _root(self, seq: Sequence) -> _Node:
        key = seq.salt.encode()
        root = self._roots.get(key)
        if root is None:
            root = self._roots[key] = _Node(None, key, -1)
        return root

    def _grow(self, parent: _Node, key: bytes, page: int, grain: int) -> _Node:
        node = _Node(parent, key, page, grain)
        parent.children[key] = self._nodes[page] = node
        self.pool.keep(page, self._forget)
        return node

    def _adopt(self, seq: Sequence, length: int, limit: int) -> int:
        """Slots of the tree beyond `length` and up to `limit`; returns the new length."""
        path = self._path(seq)
        start = len(path.nodes) * PAGE
        node = path.nodes[-1] if path.nodes else self._roots.get(seq.salt.encode())
        found = [] if node is None else _walk(node, seq, start, limit)
        node = found[-1] if found else node
        reached = start + len(found) * PAGE
        last, count = (None, 0) if node is None else _partial(node, seq, reached, limit)
        if reached + count < length + LEAST:
            return length
        pages = [one.page for one in found] + ([last.page] if last else [])
        for page in pages:
            self.pool.retain(page)
        self.truncate(seq, start)
        self._append(seq, pages, reached + count)
        path.nodes += found
        return reached + count

    def _forget(self, page: int) -> None:
        """A page is handed out to somebody else."""
        node = self._nodes[page]
        assert not node.children, f"page {page} goes before those that hang on it"
        self._cut(node)

    def _cut(self, node: _Node) -> list[int]:
        """Take a node out of the tree, with all that hangs on it; returns their pages."""
        parent = node.parent
        assert parent is not None
        del parent.children[node.key]
        if parent.parent is None and not parent.children:
            del self._roots[parent.key]
        cut = [node]
        for one in cut:
            cut += one.children.values()
            del self._nodes[one.page]
        return [one.page for one in cut]

    def _provide(self, table: paged.Table, upto: int) -> bool:
        return super()._provide(table, upto) or (
            self._take_out(table) and super()._provide(table, upto)
        )

    def _take_out(self, table: paged.Table) -> bool:
        """Make the page that is to be written the sequence's own, if only the tree holds it besides."""
        index = table.length // PAGE
        node = self._nodes.get(table.pages[index]) if index < len(table.pages) else None
        if node is None or self.pool.num_owners(node.page) > 1:
            return False
        for page in self._cut(node):
            self.pool.discard(page)
        return True


def _grain(window: Window) -> int:
    """How many slots see each other, if the tokens up to the end of a page tell what is in it; else 0."""
    kind, size = window.pattern.kind, window.pattern.size
    if window.positions is not None or window.embeddings is not None:
        return 0
    if kind is _CAUSAL:
        return 1
    return size if kind is _BLOCK and PAGE % size == 0 else 0


def _walk(node: _Node, seq: Sequence, start: int, limit: int) -> list[_Node]:
    """The nodes that hold slots [start, ...), as far as whole pages below `limit` go."""
    tokens, found = seq.tokens, []
    for place in range(start, limit - PAGE + 1, PAGE):
        child = node.children.get(tokens[place : place + PAGE].tobytes())
        if child is None:
            break
        found.append(child)
        node = child
    return found


def _partial(node: _Node, seq: Sequence, start: int, limit: int) -> tuple[_Node | None, int]:
    """The child that agrees longest with slots [start, limit), and how many of its slots hold good."""
    wanted = seq.tokens[start : min(start + PAGE, limit)]
    best, most = None, 0
    first = wanted[:1].tobytes()
    for child in islice(reversed(node.children.values()), MOST_LOOKED_AT):
        same = _agreement(child, wanted) if child.key.startswith(first) else 0
        if same > most:
            best, most = child, same
    return (best, most) if most >= LEAST else (None, 0)


def _agreement(node: _Node, wanted: Ints) -> int:
    """How many leading slots of the node's page hold good for these tokens, int32 [n <= PAGE]."""
    different = np.flatnonzero(np.frombuffer(node.key, np.int32)[: len(wanted)] != wanted)
    same = int(different[0]) if len(different) else len(wanted)
    return same // node.grain * node.grain

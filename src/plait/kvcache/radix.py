"""Paged K/V memory whose full pages outlive their sequence, to be found again by what was fed.

A tree holds the pages that are full of EXACT slots. A node is a page, its key the page's tokens; the way from a
root to it spells the canvas that its K/V belongs to, so that it serves every canvas that begins the same way.
A sequence's leading full pages are always the tree's own: a page enters as soon as it is full, and who
computed the same one at the same time gives his back. So whoever owns a page owns all pages above it.

**Memory.** The tree owns nothing. The pool keeps its pages (`Pool.keep`): without an owner they count as free, and
when memory is needed the one that was given back first goes first. Sequences give back their last page first,
and nobody owns a page without those above it, so a page always goes before those it hangs on.

**Partial pages.** What a sequence held of its last page when it went stays in the tree too, as a node whose key is
shorter and on which nothing hangs, so that whoever goes on from there computes none of it again. Where a canvas leaves
the tree inside a page, if only by a slot, the slots before that are adopted with the page, which is copied when the
rest is written, like any shared page: that takes less than to compute one of them. Without memory for a copy, a page
that nobody else owns is taken out of the tree and written in place: who fits alone must not fail for the sake of the
tree.

**What is not shared.** Slots that the tokens do not tell: fed with embeddings or positions of their own, or with a
pattern that sees beyond the page. Sequences with different salts share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.window import Window
from plait.kvcache import paged
from plait.kvcache.base import Options as Options
from plait.kvcache.pool import Pool
from plait.kvcache.tree import Node, grain_of, partial, walk

SUMMARY = "paged, and what prompts begin with is computed once for all requests"


@dataclass(slots=True)
class _Path:
    """nodes[i] holds the page i of a sequence. grain: of all that was stored. is_private: its tokens do not tell what is
    in its other pages."""

    nodes: list[Node] = field(default_factory=list)
    grain: int = 1
    is_private: bool = False


class Cache(paged.Cache):
    """One page table per sequence, and a tree of pages for all."""

    shares = True

    def __init__(self, pool: Pool, options: Options | None = None) -> None:
        super().__init__(pool, options)
        self._paths: dict[int, _Path] = {}
        self._nodes: dict[int, Node] = {}  # by page
        self._roots: dict[bytes, Node] = {}  # by salt

    def stored(self, seq: Sequence, window: Window) -> None:
        super().stored(seq, window)
        path = self._paths.get(seq.request_id) or self._path(seq)
        grain = grain_of(window)
        if not grain:
            path.is_private = True
        path.grain = max(path.grain, grain)
        num_full = min(self._tables[seq.request_id].length, seq.final) // PAGE
        if num_full > len(path.nodes) and not path.is_private:
            self._enter(seq, path, num_full, grain)

    def match(self, seq: Sequence) -> int:
        table = self._tables.get(seq.request_id)
        length = table.length if table else 0
        if seq.length - length <= 1:  # as in nearly all steps
            return length
        limit = self._adoptable(seq)
        return length if limit <= length else self._adopt(seq, length, limit)

    def coming(self, seq: Sequence, other: Sequence, window: Window) -> int:
        if seq.salt != other.salt or not grain_of(window) or self._path(other).is_private:
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
            self._paths[child.request_id] = _Path(list(path.nodes), path.grain, path.is_private)

    def release(self, seq: Sequence) -> None:
        path = self._paths.pop(seq.request_id, None)
        if path and not path.is_private:
            self._leave_tail(seq, path)
        super().release(seq)

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
        # Who wants log-probabilities of the prompt has to compute it from there on.
        if self._path(seq).is_private:
            return 0
        most = min(seq.final, seq.length - 1)
        return most if seq.is_scored else min(most, seq.scored - 1)

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

    def _leave_tail(self, seq: Sequence, path: _Path) -> None:
        """Let the tree have the page that a sequence is about to give back half full."""
        start, end = len(path.nodes) * PAGE, min(self.length(seq), seq.final)
        end -= (end - start) % path.grain
        if not start < end < start + PAGE:
            return
        page, tokens = self._tables[seq.request_id].pages[len(path.nodes)], seq.tokens[start:end]
        node = path.nodes[-1] if path.nodes else self._roots.get(seq.salt.encode())
        is_there = node is not None and partial(node, seq, start, end)[1] == len(tokens)
        if page in self._nodes or is_there:
            return
        node = node or self._root(seq)
        self._grow(node, tokens.tobytes(), page, path.grain)
        for size in range(1, len(tokens)):  # what this one holds as well
            shorter = node.children.get(tokens[:size].tobytes())
            if shorter and not self.pool.num_owners(shorter.page):
                self._cut(shorter)
                self.pool.discard(shorter.page)

    def _root(self, seq: Sequence) -> Node:
        key = seq.salt.encode()
        root = self._roots.get(key)
        if root is None:
            root = self._roots[key] = Node(None, key, -1)
        return root

    def _grow(self, parent: Node, key: bytes, page: int, grain: int) -> Node:
        node = Node(parent, key, page, grain)
        parent.children[key] = self._nodes[page] = node
        self.pool.keep(page, self._forget)
        return node

    def _adopt(self, seq: Sequence, length: int, limit: int) -> int:
        """Slots of the tree beyond `length` and up to `limit`; returns the new length."""
        path = self._path(seq)
        start = len(path.nodes) * PAGE
        node = path.nodes[-1] if path.nodes else self._roots.get(seq.salt.encode())
        found = [] if node is None else walk(node, seq, start, limit)
        node = found[-1] if found else node
        reached = start + len(found) * PAGE
        last, count = (None, 0) if node is None else partial(node, seq, reached, limit)
        if reached + count <= length:
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

    def _cut(self, node: Node) -> list[int]:
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

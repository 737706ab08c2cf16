"""Paged K/V memory: pages on demand, shared between forks, copied before they are written."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.window import KVView, Slot, Window
from plait.kvcache import base
from plait.kvcache.base import Options as Options
from plait.kvcache.pool import Pool, num_pages

SUMMARY = "pages on demand, shared by forks with copy-on-write"

_EXACT = bytes([Slot.EXACT])


@dataclass(slots=True)
class Table:
    """pages[i] holds slots [i * PAGE, (i + 1) * PAGE); marks[s] is the state of slot s.

    length: how many marks from the first on are EXACT. own: up to which slot, from `length` on, the pages are
    known to be there and nobody else's. view: the last that was handed out, good as long as the pages stay as
    they are. Most steps change neither.
    """

    pages: list[int] = field(default_factory=list)
    marks: bytearray = field(default_factory=bytearray)
    length: int = 0
    own: int = 0
    view: KVView | None = None


class Cache(base.Cache):
    """One page table per sequence."""

    def __init__(self, pool: Pool, options: Options | None = None) -> None:
        super().__init__(pool)
        self._tables: dict[int, Table] = {}

    def reserve(self, seq: Sequence, upto: int) -> bool:
        table = self._tables.get(seq.request_id)
        if table is None:
            table = self._tables[seq.request_id] = Table()
        return upto <= table.own or self._provide(table, upto)

    def _provide(self, table: Table, upto: int) -> bool:
        length, pages = table.length, table.pages
        written = range(length // PAGE, len(pages))
        shared = [index for index in written if self.pool.is_shared(pages[index])]
        missing = max(0, num_pages(upto) - len(pages))
        if len(shared) + missing > self.pool.num_free:
            return False
        table.view = None
        for index in shared:
            self._own(table, index, holds_exact=index * PAGE < length)
        pages += [self._allocate() for _ in range(missing)]
        table.own = len(pages) * PAGE
        return True

    def view(self, seq: Sequence, window: Window) -> KVView:
        table = self._tables[seq.request_id]
        needed = -(-window.reach // PAGE)
        assert needed <= len(table.pages), f"request {seq.request_id}: no reservation for {window}"
        if table.view is None or len(table.view.pages) != needed:
            table.view = KVView(np.array(table.pages[:needed], np.int32))
            table.view.pages.setflags(write=False)
        return table.view

    def stored(self, seq: Sequence, window: Window) -> None:
        table = self._tables[seq.request_id]
        marks, start, end = table.marks, window.start, window.end
        if start > len(marks):
            marks.extend(bytes(start - len(marks)))
        kept = max(0, window.keep - start)
        marks[start:end] = bytes((window.mark,)) * kept + bytes(end - start - kept)
        if start <= table.length:
            rest = marks[start:]
            table.length = start + len(rest) - len(rest.lstrip(_EXACT))

    def length(self, seq: Sequence) -> int:
        table = self._tables.get(seq.request_id)
        return table.length if table else 0

    def held(self, seq: Sequence) -> int:
        marks = self.slots(seq)
        empty = marks.find(Slot.EMPTY)
        return len(marks) if empty < 0 else empty

    def slots(self, seq: Sequence) -> bytes:
        table = self._tables.get(seq.request_id)
        return bytes(table.marks) if table else b""

    def truncate(self, seq: Sequence, length: int) -> None:
        table = self._tables.get(seq.request_id)
        if table is None:
            return
        del table.marks[length:]
        table.length = min(table.length, length)
        table.own, table.view = 0, None
        for page in reversed(table.pages[num_pages(length) :]):  # the last first: Pool.idle
            self.pool.release(page)
        del table.pages[num_pages(length) :]

    def fork(self, parent: Sequence, child: Sequence) -> None:
        assert child.request_id not in self._tables, f"request {child.request_id} has slots already"
        source = self._tables.get(parent.request_id)
        if source is None:
            return
        length, source.own = source.length, 0
        pages = source.pages[: num_pages(length)]
        for page in pages:
            self.pool.retain(page)
        self._append(child, pages, length)

    def match(self, seq: Sequence) -> int:
        return self.length(seq)

    def release(self, seq: Sequence) -> None:
        self.truncate(seq, 0)
        self._tables.pop(seq.request_id, None)

    def drop(self) -> None:
        """Nothing outlives its sequence."""

    def check(self) -> None:
        self.pool.check(table.pages for table in self._tables.values())
        for request_id, table in self._tables.items():
            exact = len(table.marks) - len(table.marks.lstrip(_EXACT))
            assert table.length == exact, f"request {request_id}: {exact} slots are exact"
            assert len(table.marks) <= len(table.pages) * PAGE, (
                f"request {request_id}: slots, no page"
            )

    def _append(self, seq: Sequence, pages: list[int], length: int) -> None:
        """Go on with pages, retained for this, whose slots up to `length` are EXACT."""
        table = self._tables.setdefault(seq.request_id, Table())
        table.pages += pages
        table.marks.extend(_EXACT * (length - len(table.marks)))
        table.length, table.own, table.view = length, 0, None

    def _own(self, table: Table, index: int, *, holds_exact: bool) -> None:
        """Replace a shared page by one of our own; its bytes matter only if it holds exact slots."""
        shared = table.pages[index]
        table.pages[index] = self._allocate()
        if holds_exact:
            self.pool.copy(shared, table.pages[index])
        self.pool.release(shared)

    def _allocate(self) -> int:
        page = self.pool.allocate()
        assert page is not None, "the pool ran out of pages that were counted free"
        return page

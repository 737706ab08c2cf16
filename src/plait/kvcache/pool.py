"""The pool: bytes and pages of K/V memory, nothing about sequences.

Memory is one array, zero and lazily backed: a page costs real memory when it is first written.
Nothing here locks: the thread that owns the engine owns the pool.
"""

from __future__ import annotations

import copy
import mmap
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.config import PAGE
from plait.core.errors import CapacityError

_DTYPES: dict[str, type[np.number[Any]]] = {
    "f16": np.float16,
    "f32": np.float32,
    "int8": np.int8,
}
_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class KVLayout:
    """Shape of what one slot holds. dtype: "f16", "f32" or "int8" (integers times a scale per slot and head)."""

    num_layers: int
    num_kv_heads: int
    head_dim: int
    dtype: str = "f16"

    @property
    def part_elements(self) -> int:
        """Elements that hold the keys, or the values, of PAGE slots of one head in one layer."""
        scales = _SCALE_BYTES if self.dtype == "int8" else 0
        return PAGE * (self.head_dim + scales)

    @property
    def page_bytes(self) -> int:
        """Bytes of one page: PAGE slots of K and V in every layer."""
        elements = self.num_layers * self.num_kv_heads * 2 * self.part_elements
        return elements * np.dtype(_DTYPES[self.dtype]).itemsize


class Pool:
    """A fixed number of refcounted pages.

    data: [num_pages, num_layers, num_kv_heads, 2, part_elements] of float16, float32 or int8, aligned to 64
        bytes. data[..., 0, :] is K stored [head_dim][PAGE], data[..., 1, :] is V stored [PAGE][head_dim].
        int8: K, rotated, [head_dim / 2][PAGE][2], V [PAGE / 2][head_dim][2], each followed by float32 scales [PAGE].

    A page may be *kept* by somebody who owns it no more but may want it again: without an owner it is *idle*. It
    counts as free and is handed out when no other page is left, the one that was given back first before all others.

    A page that is handed out again still holds what its last owner wrote: a reader must never let a slot
    that its row may not see touch the result, whatever bits are in it.
    """

    def __init__(self, layout: KVLayout, num_pages: int) -> None:
        """Raises CapacityError when the address space for the pages cannot be had."""
        assert num_pages > 0
        self.layout = layout
        self.num_pages = num_pages
        self.data = _map_zeros(layout, num_pages)
        self._references = [0] * num_pages
        # A stack: the page freed last is the one most likely still in the processor's cache.
        self._free = list(range(num_pages - 1, -1, -1))
        self._kept: dict[int, Callable[[int], None]] = {}
        self._idle: dict[int, None] = {}  # in the order in which they were given back
        self.num_evicted = 0

    @property
    def page_bytes(self) -> int:
        return self.layout.page_bytes

    @property
    def num_free(self) -> int:
        return len(self._free) + len(self._idle)

    @property
    def idle(self) -> list[int]:
        """Kept pages without an owner, the one that would be handed out first at the front."""
        return list(self._idle)

    def allocate(self) -> int | None:
        """A page with one reference, or None when all are in use."""
        if not self._free and self._idle:
            self._evict()
        if not self._free:
            return None
        page = self._free.pop()
        self._references[page] = 1
        return page

    def split(self, count: int) -> Pool:
        """A pool of its own over `count` pages of this memory, which this pool has no more. Before any is in use."""
        assert self.num_free == self.num_pages > count, "pages are in use, or none would be left"
        part = copy.copy(self)
        part._kept, part._idle = {}, {}
        self.num_pages -= count
        self._free = list(range(self.num_pages - 1, -1, -1))
        part._references = list(self._references)
        part._free = list(range(self.num_pages + count - 1, self.num_pages - 1, -1))
        part.num_pages = count
        self._references = self._references[: self.num_pages]
        return part

    def keep(self, page: int, forget: Callable[[int], None]) -> None:
        """Keep a page that has an owner; `forget` is called with its number when it is handed out again."""
        assert self._references[page] > 0, f"page {page} is free"
        assert page not in self._kept, f"page {page} is kept already"
        self._kept[page] = forget

    def discard(self, page: int) -> None:
        """Keep a page no longer."""
        del self._kept[page]
        if page in self._idle:
            del self._idle[page]
            self._free.append(page)

    def retain(self, page: int) -> None:
        """One more owner of a page that has at least one, or is kept."""
        assert self._references[page] > 0 or page in self._idle, f"page {page} is free"
        self._idle.pop(page, None)
        self._references[page] += 1

    def release(self, page: int) -> None:
        """One owner less; the last one gives the page back."""
        assert self._references[page] > 0, f"page {page} is free"
        self._references[page] -= 1
        if self._references[page]:
            return
        if page in self._kept:
            self._idle[page] = None
        else:
            self._free.append(page)

    def num_owners(self, page: int) -> int:
        """References to the page; keeping it is none."""
        return self._references[page]

    def is_shared(self, page: int) -> bool:
        """Whether the page has more than one owner, or is kept, and so must not be written."""
        return self._references[page] > 1 or page in self._kept

    def copy(self, source: int, target: int) -> None:
        """Copy the bytes of a page."""
        self.data[target] = self.data[source]

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Raise AssertionError unless the books balance.

        tables: the pages that each owner holds. Every page must have as many references as owners, and
        the free list and the idle pages must be exactly the pages without one, once each.
        """
        held = np.zeros(self.num_pages, np.int64)
        for table in tables:
            assert len(set(table)) == len(table), f"an owner holds a page twice: {table}"
            held[list(table)] += 1
        references = np.array(self._references, np.int64)
        wrong = np.flatnonzero(held != references)
        assert not len(wrong), (
            f"pages {wrong.tolist()} have {references[wrong].tolist()} references "
            f"but {held[wrong].tolist()} owners"
        )
        free = np.zeros(self.num_pages, np.int64)
        np.add.at(free, np.array([*self._free, *self._idle], np.int64), 1)
        assert self._kept.keys() >= self._idle.keys(), "a page is idle, but nobody keeps it"
        twice = np.flatnonzero(free > 1)
        assert not len(twice), f"pages {twice.tolist()} are on the free list more than once"
        wrong = np.flatnonzero((free == 1) != (references == 0))
        assert not len(wrong), f"pages {wrong.tolist()}: free list and reference counts disagree"

    def _evict(self) -> None:
        page = next(iter(self._idle))
        self._kept[page](page)
        self.discard(page)
        self.num_evicted += 1


def num_pages(slots: int) -> int:
    """Pages that hold `slots` slots."""
    return -(-slots // PAGE)


def _map_zeros(layout: KVLayout, num_pages: int) -> NDArray[Any]:
    """An anonymous private mapping: aligned to the machine's page, zero, without cost until written."""
    dtype = np.dtype(_DTYPES[layout.dtype])
    shape = (num_pages, layout.num_layers, layout.num_kv_heads, 2, layout.part_elements)
    try:
        memory = mmap.mmap(
            -1, num_pages * layout.page_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        )
    except (OSError, OverflowError, ValueError) as error:
        size = num_pages * layout.page_bytes / 2**30
        raise CapacityError(
            f"no memory for a KV cache of {size:.1f} GiB", "ask for a smaller kv_memory"
        ) from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # advice only: a kernel without huge pages refuses it
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype).reshape(shape)

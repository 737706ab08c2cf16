"""The contract of a KV-cache manager, and its manual.

A cache decides which pages of the pool hold which slots of which sequence. It moves no K/V itself, except
to copy a shared page before somebody writes it; the model's kernels read and write the pages through the
`KVView` that `view` hands out.

**Slots.** A slot equals the canvas position it belongs to. Each is EMPTY, EXACT (its K/V equals what a
forward over the final canvas would give) or APPROX (useful, but its visible context may still change).
`length` is the number of leading EXACT slots: what a later forward may skip.

**Life of a window.** The scheduler calls, in this order and for one window at a time

    truncate(seq, window.start)    only when the window feeds slots that were already stored
    reserve(seq, window.reach)     False -> somebody has to give pages back; nothing has changed
    view(seq, window)              after the forward the pages of [start, end) have been written
    stored(seq, window)            [start, keep) become window.mark, [keep, end) EMPTY

and nothing else may touch the sequence between `reserve` and `stored`. A fork between two windows shares
pages, so a reservation is good for one window only: reserve again before the next.

**Ownership.** After `reserve` every page that holds a slot >= length(seq) belongs to `seq` alone; pages
wholly below `length` may be shared and are never written. Shared pages are copied before they are written
(copy-on-write); a page is freed when its last owner lets go.

**Locks.** None. One thread owns the engine, its cache and its pool. **State.** None is ambient: what a
cache knows of a sequence lies in the cache under `seq.request_id` and goes with `release`; the canvas, the
parameters and the scratch of the sequence are only read.

**Edges.** Every method accepts a sequence the cache has never seen (it has no slots). `reserve(seq, n)`
with n <= what is held and a second `release` change nothing; `truncate` beyond the known slots forgets
none, but gives back pages reserved beyond. `fork` into a sequence that already has slots is an error.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.window import KVView, Window
from plait.kvcache.pool import Pool


@dataclass(frozen=True, slots=True)
class Options:
    """A cache without settings."""


class Cache(ABC):
    """See the module's text for the contract.

    keeps: False for a cache whose slots do not outlive a step: every window then starts at slot 0.
    shares: True for a cache whose slots outlive their sequence; only where a slot depends on no later page.
    """

    keeps: ClassVar[bool] = True
    shares: ClassVar[bool] = False

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    @property
    def num_slots(self) -> int:
        """Slots in all: the longest canvas that can ever be held."""
        return self.pool.num_pages * PAGE

    @property
    def num_free_slots(self) -> int:
        """Slots in pages that nobody owns, those included that are kept until they are needed."""
        return self.pool.num_free * PAGE

    @property
    def occupancy(self) -> float:
        """Share of the pages in use, 0 to 1."""
        return 1.0 - self.pool.num_free / self.pool.num_pages

    @abstractmethod
    def reserve(self, seq: Sequence, upto: int) -> bool:
        """Provide pages for slots [0, upto) and make those that hold slots >= length(seq) its own.

        False when the pool has too few free pages; then nothing has changed.
        """

    @abstractmethod
    def view(self, seq: Sequence, window: Window) -> KVView:
        """Where `window` finds and leaves its K/V; needs a reservation up to window.reach."""

    @abstractmethod
    def stored(self, seq: Sequence, window: Window) -> None:
        """Take note that the forward of `window` has been done."""

    @abstractmethod
    def length(self, seq: Sequence) -> int:
        """Number of leading EXACT slots."""

    @abstractmethod
    def held(self, seq: Sequence) -> int:
        """Number of leading slots that are EXACT or APPROX."""

    @abstractmethod
    def slots(self, seq: Sequence) -> bytes:
        """State of every known slot, one byte each (`Slot`); those beyond the end are EMPTY."""

    @abstractmethod
    def truncate(self, seq: Sequence, length: int) -> None:
        """Forget slots [length, ...) and give back the pages that hold nothing else."""

    @abstractmethod
    def fork(self, parent: Sequence, child: Sequence) -> None:
        """Let `child` start with the leading EXACT slots of `parent`."""

    @abstractmethod
    def match(self, seq: Sequence) -> int:
        """Adopt slots that other sequences computed for the same canvas prefix; returns length(seq).

        Called when a sequence is admitted, and again before each of its windows, since others go on meanwhile.
        At most seq.length - 1 slots, because a row has to be computed to go on from, and final ones only.
        Nothing happens in caches that do not share between requests.
        """

    def coming(self, seq: Sequence, other: Sequence, window: Window) -> int:
        """How many full pages beyond length(seq) `match` will find when `window` of `other` has been stored.

        0 in caches that do not share between requests.
        """
        return 0

    @abstractmethod
    def release(self, seq: Sequence) -> None:
        """Give back everything the sequence holds; it may come back later and start from nothing."""

    @abstractmethod
    def drop(self) -> None:
        """Forget the slots that no sequence holds. There are none in caches that do not share."""

    @abstractmethod
    def check(self) -> None:
        """Raise AssertionError with details unless the books balance.

        Reference counts equal what the page tables hold, every page without an owner is on the free
        list exactly once, and no sequence has slots beyond its pages.
        """

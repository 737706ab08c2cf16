"""Keep nothing: every step computes the whole canvas again.

The oracle for every other cache (whatever they remember must not change a token) and the way out when one
of them is in doubt. It still lends pages, because a forward needs somewhere to put its K/V.
"""

from __future__ import annotations

import numpy as np

from plait.core.sequence import Sequence
from plait.core.window import KVView, Window
from plait.kvcache import base
from plait.kvcache.base import Options as Options
from plait.kvcache.pool import Pool, num_pages

SUMMARY = "recompute everything in every step: the oracle, and the way out of doubt"


class Cache(base.Cache):
    """Scratch pages per sequence; no slot outlives a step."""

    keeps = False

    def __init__(self, pool: Pool, options: Options | None = None) -> None:
        super().__init__(pool)
        self._pages: dict[int, list[int]] = {}

    def reserve(self, seq: Sequence, upto: int) -> bool:
        pages = self._pages.setdefault(seq.request_id, [])
        missing = max(0, num_pages(upto) - len(pages))
        if missing > self.pool.num_free:
            return False
        pages += [page for _ in range(missing) if (page := self.pool.allocate()) is not None]
        return True

    def view(self, seq: Sequence, window: Window) -> KVView:
        assert window.start == 0, "a cache that keeps nothing needs whole windows"
        return KVView(np.array(self._pages[seq.request_id][: num_pages(window.reach)], np.int32))

    def stored(self, seq: Sequence, window: Window) -> None:
        """Nothing is stored."""

    def length(self, seq: Sequence) -> int:
        return 0

    def held(self, seq: Sequence) -> int:
        return 0

    def slots(self, seq: Sequence) -> bytes:
        return b""

    def truncate(self, seq: Sequence, length: int) -> None:
        pages = self._pages.get(seq.request_id, [])
        for page in pages[num_pages(length) :]:
            self.pool.release(page)
        del pages[num_pages(length) :]

    def fork(self, parent: Sequence, child: Sequence) -> None:
        assert child.request_id not in self._pages, f"request {child.request_id} has slots already"

    def match(self, seq: Sequence) -> int:
        return 0

    def release(self, seq: Sequence) -> None:
        self.truncate(seq, 0)
        self._pages.pop(seq.request_id, None)

    def drop(self) -> None:
        """Nothing outlives its sequence."""

    def check(self) -> None:
        self.pool.check(self._pages.values())

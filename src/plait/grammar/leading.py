"""An answer that is led to its end where its length would cut it.

A document that is cut is no document, and a model may open parts of one for ever. Where the answer begins, and at some
places on the way to its longest, a completion of what is there is looked for (completing.py). While it leaves room, the
model goes on as it likes; where the next place might be too late, the completion found is what the answer goes on with,
and nothing else may come. A word of the model may take a completion of any length (an object that has to have thirty
members), so how much they grew so far has to tell; an answer for which that was not enough is cut.

Nothing but the tokens of the answer decides what comes, so that drafts, batches and preemption change nothing.
"""

from __future__ import annotations

import itertools
from typing import Final

import numpy as np

from plait.core.places import Effort, Guide, Places
from plait.grammar import base
from plait.grammar.base import Words

CHECKS: Final = (*range(512, 64, -16), *range(64, 32, -8), *range(32, 16, -4), *range(16, 0, -2))
"""Tokens that are left at the places."""
SPARE: Final = 8
"""Tokens that a completion may grow by from one place to the next, besides what is written there; more if it has."""
EFFORT: Final = 4096
"""Tokens that one search may try. One that succeeds mostly tries two for each that it writes, a few milliseconds."""
MOST_MISSES: Final = 3
"""Searches of an answer that may fail; each may take a second with hundreds of optional members."""


class State(base.Around):
    """led_from: after so many tokens the model had no say any more."""

    def __init__(self, inner: base.State, guide: Guide, room: int) -> None:
        """room: how many tokens the answer may have, those included that it has."""
        super().__init__(inner)
        self._guide = guide
        self._room = room
        self._start = 0
        self._lead: list[int] = []
        self._found: list[tuple[int, int]] = []  # after so many tokens, one of so many; 0: none

    @property
    def led_from(self) -> int | None:  # type: ignore[override]
        return self._start if self._lead else None

    @property
    def is_finished(self) -> bool:
        return super().is_finished or self._is_done

    def fill(self, mask: Words) -> None:
        if not self._lead or self._is_done:
            super().fill(mask)
            return
        token = self._next
        mask[:] = 0
        mask[token // 32] = np.uint32(1 << token % 32)

    def forced(self) -> int | None:
        return self._next if self._lead and not self._is_done else super().forced()

    def advance(self, token: int) -> bool:
        if self._lead and (self._is_done or token != self._next):
            return False
        if not self._inner.advance(token):
            return False
        if not self._lead and self._room - self.num_tokens in CHECKS:
            self.look()
        return True

    def rollback(self, count: int) -> None:
        super().rollback(count)
        if self.num_tokens < self._start:
            self._lead = []
        while self._found and self._found[-1][0] > self.num_tokens:
            self._found.pop()

    def fork(self) -> State:
        twin = State(self._inner.fork(), self._guide, self._room)
        twin._start, twin._lead, twin._found = self._start, self._lead, self._found.copy()
        return twin

    def look(self) -> None:
        """Whether the answer has to be led from here on."""
        left = self._room - self.num_tokens
        misses = sum(not length for _, length in self._found)
        if not 0 < left <= CHECKS[0] or self._inner.is_finished or misses == MOST_MISSES:
            return
        found = self._guide.complete(self._inner, Places(0, [None] * left, -1), Effort(EFFORT))
        self._found.append((self.num_tokens, len(found or ())))
        following = next((check for check in CHECKS if check < left), 0)
        if found and len(found) + left - following + self._growth() >= following:
            self._start, self._lead = self.num_tokens, found

    @property
    def _is_done(self) -> bool:
        return bool(self._lead) and self.num_tokens == self._start + len(self._lead)

    @property
    def _next(self) -> int:
        return self._lead[self.num_tokens - self._start]

    def _growth(self) -> int:
        """Of a completion, from one place to the next."""
        pairs = itertools.pairwise(length for _, length in self._found if length)
        return max([SPARE, *(later - earlier for earlier, later in pairs)])

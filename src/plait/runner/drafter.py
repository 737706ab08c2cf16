"""A draft model: its own weights and its own K/V, always behind the canvas of the request it goes ahead for.

What it has been fed for a request stays in its pages. Before it drafts, the slots that agree with the canvas are kept
and the rest of the canvas is fed; so drafts that were refused cost nothing but themselves. When its pages run
out, the request that it drafted for longest ago loses its own: it only has to be fed again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from plait.core.config import PAGE
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import NO_INTS, Floats, Ints, KVView, Window
from plait.kvcache.pool import num_pages
from plait.runner.load import Loaded

CHUNK = 256
"""Positions of a canvas that it is fed at once."""
NEW = 0.1
"""What a new time counts against what is known."""
FEW, MANY = 2, 16
"""Positions of forwards that cost what one token costs, and of those whose time is their positions'."""
LIKELIEST = 8
"""Logits that are wanted of a row: of the likeliest tokens, which hold nearly all of the probability where a draft is
worth anything. The head then reads half of its weights."""
FAR = 16.0
"""Logits so far below the best are nothing beside it."""


@dataclass(slots=True)
class _State:
    """fed: the tokens whose K/V lies in the pages, int32 [n]."""

    pages: list[int] = field(default_factory=list)
    fed: Ints = field(default_factory=lambda: NO_INTS)


class Drafter:
    """See the module's text. seconds: what a drafted token takes, a mean in which the latest count most."""

    def __init__(self, loaded: Loaded) -> None:
        """Owns the runner and the pool from here on."""
        self._loaded = loaded
        self._states: dict[int, _State] = {}
        self.seconds = 0.0
        self._reading_seconds = 0.0  # of a position among many

    def draft(self, seq: Sequence, most: int, least_chance: float) -> list[int]:
        """Greedy tokens, at most `most` >= 1, as long as their joint chance is at least `least_chance`."""
        state = self._state(seq.request_id)
        if not self._reserve(seq.request_id, state, seq.length + most):
            return []
        row = self._catch_up(seq, state)
        found: list[int] = []
        chance = 1.0
        while True:
            token, share = _best(row)
            chance *= share
            if chance < least_chance:
                break
            found.append(token)
            if len(found) == most:
                break
            row = self._feed(seq, state, np.array([token], np.int32))
        return found

    def catch_up_seconds(self, seq: Sequence) -> float:
        """What it takes to feed the canvas as far as it is not fed, but for FEW tokens, by what forwards took."""
        state = self._states.get(seq.request_id)
        behind = seq.length - (len(state.fed) if state else 0)
        return max(0, behind - FEW) * (self._reading_seconds or self.seconds)

    def _note(self, positions: int, seconds: float) -> None:
        """Take the time of a forward into account: of a token's, or of a position's among many."""
        if positions <= FEW:
            self.seconds = _mean(self.seconds, seconds)
        elif positions >= MANY:
            self._reading_seconds = _mean(self._reading_seconds, seconds / positions)

    def _state(self, request_id: int) -> _State:
        """The request's state, as the one that was used last."""
        state = self._states.pop(request_id, None) or _State()
        self._states[request_id] = state
        return state

    def _reserve(self, request_id: int, state: _State, upto: int) -> bool:
        if upto > min(self._loaded.traits.context_length, self._loaded.pool.num_pages * PAGE):
            return False
        while len(state.pages) < num_pages(upto):
            page = self._loaded.pool.allocate()
            if page is None:
                oldest = next(iter(self._states))
                if oldest == request_id:
                    return False
                for held in self._states.pop(oldest).pages:
                    self._loaded.pool.release(held)
            else:
                state.pages.append(page)
        return True

    def _catch_up(self, seq: Sequence, state: _State) -> Floats:
        """Feed the canvas as far as it is not fed; logits behind its end, float32 [vocabulary]."""
        canvas = seq.tokens
        common = min(len(state.fed), len(canvas) - 1)
        differ = np.flatnonzero(state.fed[:common] != canvas[:common])
        start = int(differ[0]) if len(differ) else common
        state.fed = state.fed[:start]
        row: Floats | None = None
        for begin in range(start, len(canvas), CHUNK):
            row = self._feed(seq, state, canvas[begin : begin + CHUNK])
        assert row is not None
        return row

    def _feed(self, seq: Sequence, state: _State, tokens: Ints) -> Floats:
        """Logits of the last of the tokens, which follow those that were fed."""
        start, end = len(state.fed), len(state.fed) + len(tokens)
        rows = np.array([len(tokens) - 1], np.int32)
        window = Window(start, end, rows, rows + np.int32(start + 1), keep=end, tokens=tokens)
        view = KVView(np.array(state.pages[: num_pages(end)], np.int32))
        begin = time.perf_counter()
        (logits,) = self._loaded.runner.forward([StepInput(seq, window, view, LIKELIEST)])
        self._note(len(tokens), time.perf_counter() - begin)
        state.fed = np.concatenate([state.fed, tokens])
        last: Floats = logits[0]
        return last


def _best(row: Floats) -> tuple[int, float]:
    """The likeliest token and its share of the likeliest tokens' probability; 0 for rows that are no numbers."""
    token = int(np.argmax(row))
    near = row[row > row[token] - FAR]
    total = float(np.exp(near - row[token]).sum())
    return token, 1.0 / total if total > 0 else 0.0


def _mean(known: float, new: float) -> float:
    return known + (new - known) * NEW if known else new

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
from plait.core.errors import CapacityError
from plait.core.params import SamplingParams
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
class State:
    """fed: the tokens whose K/V lies in the pages, int32 [n]."""

    pages: list[int] = field(default_factory=list)
    fed: Ints = field(default_factory=lambda: NO_INTS)

    def keep(self, canvas: Ints, size: int = 1) -> int:
        """Keep what was fed as far as it agrees with a canvas, in multiples of `size` tokens; returns how much."""
        common = min(len(self.fed), len(canvas))
        differ = np.flatnonzero(self.fed[:common] != canvas[:common])
        start = (int(differ[0]) if len(differ) else common) // size * size
        self.fed = self.fed[:start]
        return start


class Drafter:
    """See the module's text. seconds: what a drafted token takes, a mean in which the latest count most."""

    def __init__(self, loaded: Loaded) -> None:
        """Owns the runner and the pool from here on."""
        self._loaded = loaded
        self._states: dict[int, State] = {}
        self.seconds = 0.0
        self._reading_seconds = 0.0  # of a position among many

    def measure(self) -> None:
        """Find out what its forwards take, so that nobody has to draft to learn whether to draft."""
        for _ in range(2):  # the first time, weights come into memory and caches
            self.seconds = self._reading_seconds = 0.0
            seq = Sequence(-1, np.zeros(MANY, np.int32), SamplingParams(), limit=4 * MANY, seed=0)
            for length in range(4):
                self.follow(seq, (0,) * length, 1)
            for page in self._states.pop(seq.request_id).pages:
                self._loaded.pool.release(page)

    def logits(self, seq: Sequence) -> Floats:
        """What the model says behind the end of the canvas, float32 [vocabulary].

        Raises CapacityError for a canvas that it cannot hold.
        """
        state = self._state(seq.request_id)
        if not self._reserve(seq.request_id, state, seq.length):
            raise CapacityError(
                f"the amateur model cannot hold a canvas of {seq.length} tokens",
                "shorten the prompt, or ask for fewer tokens",
            )
        return self._catch_up(seq, state, seq.tokens, 0).copy()

    def follow(self, seq: Sequence, path: tuple[int, ...], breadth: int) -> list[tuple[int, float]]:
        """What may follow the canvas and a path behind it, with probabilities, best first; see proposers.base."""
        state = self._state(seq.request_id)
        canvas = np.concatenate([seq.tokens, np.array(path, np.int32)])
        if not self._reserve(seq.request_id, state, len(canvas)):
            return []
        return best(self._catch_up(seq, state, canvas, LIKELIEST), breadth)

    def catch_up_seconds(self, seq: Sequence) -> float:
        """What it takes to feed the canvas as far as it is not fed, but for FEW tokens, by what forwards took."""
        state = self._states.get(seq.request_id)
        behind = seq.length - (len(state.fed) if state else 0)
        return max(0, behind - FEW) * (self._reading_seconds or self.seconds)

    def _note(self, positions: int, seconds: float) -> None:
        """Take the time of a forward into account: of a token's, or of a position's among many."""
        if positions <= FEW:
            self.seconds = mean(self.seconds, seconds)
        elif positions >= MANY:
            self._reading_seconds = mean(self._reading_seconds, seconds / positions)

    def _state(self, request_id: int) -> State:
        """The request's state, as the one that was used last."""
        state = self._states.pop(request_id, None) or State()
        self._states[request_id] = state
        return state

    def _reserve(self, request_id: int, state: State, upto: int) -> bool:
        if upto > min(self._loaded.traits.context_length, self._loaded.pool.num_pages * PAGE):
            if not state.pages:
                self._states.pop(request_id, None)
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

    def _catch_up(self, seq: Sequence, state: State, canvas: Ints, most: int) -> Floats:
        """Feed a canvas as far as it is not fed; logits behind its end, float32 [vocabulary]; most: see `_feed`."""
        start = state.keep(canvas[:-1])
        row: Floats | None = None
        for begin in range(start, len(canvas), CHUNK):
            row = self._feed(seq, state, canvas[begin : begin + CHUNK], most)
        assert row is not None
        return row

    def _feed(self, seq: Sequence, state: State, tokens: Ints, most: int) -> Floats:
        """Logits of the last of the tokens, which follow those that were fed; most: of the likeliest alone, so many; 0: of all."""
        start, end = len(state.fed), len(state.fed) + len(tokens)
        rows = np.array([len(tokens) - 1], np.int32)
        window = Window(start, end, rows, rows + np.int32(start + 1), keep=end, tokens=tokens)
        view = KVView(np.array(state.pages[: num_pages(end)], np.int32))
        begin = time.perf_counter()
        (logits,) = self._loaded.runner.forward([StepInput(seq, window, view, most)])
        self._note(len(tokens), time.perf_counter() - begin)
        state.fed = np.concatenate([state.fed, tokens])
        last: Floats = logits[0]
        return last


def best(row: Floats, breadth: int) -> list[tuple[int, float]]:
    """The likeliest tokens of a row of logits with their probabilities, best first; none for what is no numbers."""
    count = min(breadth, len(row))
    found = np.argpartition(-row, count - 1)[:count]
    found = found[np.lexsort((found, -row[found]))]
    near = row[row > row[found[0]] - FAR]
    total = np.exp(near - row[found[0]], dtype=np.float64).sum()
    if not 0 < total < np.inf:
        return []
    shares = np.exp((row[found] - row[found[0]]).astype(np.float64)) / total
    return list(zip(found.tolist(), shares.tolist(), strict=True))


def mean(known: float, new: float) -> float:
    """One in which the latest count most; `known` 0: nothing is known yet."""
    return known + (new - known) * NEW if known else new

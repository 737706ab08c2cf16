"""The model itself as one that decides blocks, ahead of itself as one that decides token by token.

The weights are the same; the K/V is not, so it has pages of its own. Of the canvas it keeps whole blocks. To guess, it
feeds what it lacks of them and a block with the rest of the canvas and masked positions; all of these are guessed in one
forward. Where more is asked for, it goes on with its guesses as if they were the canvas.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.traits import Predicts
from plait.core.window import Floats, Ints, KVView, PatternKind, Window
from plait.kvcache.pool import num_pages
from plait.runner.drafter import CHUNK, Drafter, State, best, mean
from plait.runner.load import Loaded

SHARE = 5
"""One of so many pages of the cache is taken for drafts."""


class BlockDrafter(Drafter):
    """See the module's text. seconds: what a guessed token takes."""

    def __init__(self, loaded: Loaded) -> None:
        """Takes a part of the pool. Raises UserError for a model that does not decide blocks as well."""
        modes = [
            mode
            for mode in loaded.traits.modes
            if mode.pattern.kind is PatternKind.BLOCK and mode.predicts is Predicts.SAME
        ]
        if not modes or loaded.traits.mask_token is None:
            raise UserError(
                "the proposer 'self' needs a model that was trained to decide blocks as well as token by token",
                "use the proposer 'lookahead' with this one",
            )
        super().__init__(
            replace(loaded, pool=loaded.pool.split(max(1, loaded.pool.num_pages // SHARE)))
        )
        self._size = modes[0].pattern.size
        self._pattern = modes[0].pattern
        self._mask = loaded.traits.mask_token

    def levels(self, seq: Sequence, depth: int, breadth: int) -> list[list[tuple[int, float]]]:
        """For each of the next tokens, at most `depth`, the likeliest `breadth` with their probabilities, best first.
        Nothing when there is no room for the request."""
        begin = time.perf_counter()
        state = self._state(seq.request_id)
        found: list[list[tuple[int, float]]] = []
        canvas = seq.tokens
        while len(found) < depth:
            end = (len(canvas) // self._size + 1) * self._size
            if not self._reserve(seq.request_id, state, end):
                break
            rows = self._guess(seq, state, canvas, end)
            guesses = [best(row, breadth) for row in rows]
            if not all(guesses):
                break
            found += guesses
            canvas = np.append(canvas, np.array([guess[0][0] for guess in guesses], np.int32))
        self.seconds = mean(self.seconds, (time.perf_counter() - begin) / max(1, len(found)))
        return found[:depth]

    def _guess(self, seq: Sequence, state: State, canvas: Ints, end: int) -> Floats:
        """Logits of the positions from the end of a canvas to `end`, float32 [positions, vocabulary]."""
        whole = len(canvas) // self._size * self._size
        start = state.keep(canvas[:whole], self._size)
        step = CHUNK // self._size * self._size or self._size
        while whole - start > step:
            self._pass(seq, state, start, canvas[start : start + step], 0)
            start += step
            state.fed = canvas[:start].copy()
        masked = np.full(end - len(canvas), self._mask, np.int32)
        rows = self._pass(seq, state, start, np.append(canvas[start:], masked), len(masked))
        state.fed = canvas[:whole].copy()
        return rows

    def _pass(self, seq: Sequence, state: State, start: int, tokens: Ints, wanted: int) -> Floats:
        """Feed tokens from `start` on; logits of the last `wanted`."""
        end = start + len(tokens)
        rows = np.arange(len(tokens) - wanted, len(tokens), dtype=np.int32)
        targets = rows + np.int32(start)
        window = Window(start, end, rows, targets, self._pattern, keep=end, tokens=tokens)
        view = KVView(np.array(state.pages[: num_pages(end)], np.int32))
        (logits,) = self._loaded.runner.forward([StepInput(seq, window, view)])
        return logits

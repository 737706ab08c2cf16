"""Texts that are only read: their hidden states, without any token being generated.

A reading is done in forwards, one per call, so that requests that run get their steps in between. A forward takes
as many whole texts as its budget allows, or a chunk of one that is longer, which others then follow when it
ends. What a text holds of the KV cache is its own, from its first forward to its last.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Listing
from itertools import count
from typing import NamedTuple

from plait.core.errors import BusyError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import Runner, StepInput
from plait.core.traits import Traits
from plait.core.window import Floats, Ints, PatternKind, Window
from plait.engine.admission import checked_prompt, salted
from plait.iteration.pace import Pace
from plait.iteration.scheduler import Scheduler

READ_ONLY = SamplingParams(max_tokens=0, prompt_logprobs=0)


class Piece(NamedTuple):
    """Hidden states of the next positions of a text, float32 [n, width]. text: which one, from 0."""

    text: int
    rows: Floats


LEAST_SHARE = 0.1
"""Of the time of steps that readings have besides, at the least: they must get on."""


class Toll:
    """`owed`: seconds of readings that steps have still to make up for, so that those do not slow running requests down
    by more than their pace allows prompts to. Shared by all readings."""

    def __init__(self) -> None:
        self.owed = 0.0

    def owe(self, seconds: float) -> None:
        """A forward of a reading has taken so long."""
        self.owed += seconds

    def pay(self, seconds: float, pace: Pace | None) -> None:
        """A step of so many seconds makes up for what it may be stretched by."""
        share = max(LEAST_SHARE, pace.stretch - 1.0) if pace else 1.0
        self.owed = max(0.0, self.owed - seconds * share)


class Reading:
    """Made by `Engine.read`, in any thread; all else belongs to the thread that owns the engine.

    seconds: from its making on, after which nobody should wait for it any more; None for no end.
    """

    def __init__(
        self,
        prompts: Listing[Listing[int] | Ints],
        first_id: int,
        scheduler: Scheduler,
        runner: Runner,
        traits: Traits,
        toll: Toll,
        salt: str = "",
        seconds: float | None = None,
    ) -> None:
        """first_id: text i is the sequence with the id `+ i`. scheduler: its cache holds the slots, its budget
        and its pace are those of a forward. Raises UserError for ids the model does not have or too many of them.
        """
        self.seconds = seconds
        each = [checked_prompt(prompt, READ_ONLY, traits) for prompt in prompts]
        own = salted(salt, traits.pattern)
        self._texts = [
            Sequence(request_id, ids, READ_ONLY, limit=len(ids), seed=0, salt=own)
            for request_id, ids in zip(count(first_id), each, strict=False)
        ]
        self._scheduler, self._toll = scheduler, toll
        self._cache = scheduler.cache
        self._budget = scheduler.max_num_batched_tokens
        self._runner = runner
        self._pattern = traits.pattern
        self._is_whole = not scheduler.cache.keeps or traits.pattern.kind is PatternKind.FULL
        self._first = self._start = 0

    @property
    def is_done(self) -> bool:
        """Whether every text has been read."""
        return self._first == len(self._texts)

    @property
    def is_between_texts(self) -> bool:
        """Whether no text has been begun and not ended: then nothing is held."""
        return self._start == 0

    def next(self) -> list[Piece]:
        """What the next forward gives, in the order of the texts.

        Nothing after the last, and nothing while running requests have not had their time for those before.
        Raises BusyError while others hold the memory for the first of them.
        """
        if self.is_done or (self._toll.owed and self._is_paced):
            return []
        begin = time.perf_counter()
        pieces = self._forward(self._windows())
        self._toll.owe(time.perf_counter() - begin if self._is_paced else 0.0)
        return pieces

    @property
    def _is_paced(self) -> bool:
        return self._scheduler.has_work and self._scheduler.pace is not None

    def _forward(self, windows: list[Window]) -> list[Piece]:
        texts = self._texts[self._first : self._first + len(windows)]
        inputs = [
            StepInput(seq, window, self._cache.view(seq, window))
            for seq, window in zip(texts, windows, strict=True)
        ]
        rows, pieces = self._runner.hidden(inputs, until="hidden"), []
        for seq, window in zip(texts, windows, strict=True):
            self._cache.stored(seq, window)
            pieces.append(Piece(self._first, rows[: window.length]))
            rows = rows[window.length :]
            self._advance(seq, window.end)
        return pieces

    def close(self) -> None:
        """Give the memory back."""
        for seq in self._texts[self._first :]:
            self._cache.release(seq)

    def _windows(self) -> list[Window]:
        """For the next texts, as far as budget and memory go: one at least, as long as there are any."""
        windows: list[Window] = []
        start, left = self._start, self._limit
        for seq in self._texts[self._first :]:
            length = seq.length - start
            if windows and length > left:
                break
            if not self._cache.reserve(seq, seq.length):
                if windows:
                    break
                hint = "try again when other requests are done"
                raise BusyError("the KV cache is in use", hint, 1.0)
            end = start + self._chunk(length)
            windows.append(Window(start, end, pattern=self._pattern, keep=end))
            start, left = 0, left - (end - windows[-1].start)
            if end < seq.length:
                break
        return windows

    @property
    def _limit(self) -> int:
        """Positions of a forward: beside running requests those of a prompt in a step."""
        return self._scheduler.beside if self._is_paced else self._budget

    def _chunk(self, length: int) -> int:
        """How much of `length` positions one forward takes: all, or whole blocks, as a row sees all of its own."""
        if self._is_whole or length <= self._limit:
            return length
        unit = max(1, self._pattern.size)
        return max(unit, self._limit // unit * unit)

    def _advance(self, seq: Sequence, end: int) -> None:
        self._start = end
        if end == seq.length:
            self._cache.release(seq)
            self._first, self._start = self._first + 1, 0

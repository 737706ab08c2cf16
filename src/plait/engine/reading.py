"""Texts that are only read: their hidden states, without any token being generated.

A reading is done in forwards, one per call, so that requests that run get their steps in between. A forward takes
as many whole texts as its budget allows, or a chunk of one that is longer, which others then follow when it
ends. What a text holds of the KV cache is its own, from its first forward to its last.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from itertools import count
from typing import NamedTuple

from plait.core.errors import BusyError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import Runner, StepInput
from plait.core.traits import Traits
from plait.core.window import Floats, Ints, PatternKind, Window
from plait.engine.admission import checked_prompt
from plait.iteration.scheduler import Scheduler

READ_ONLY = SamplingParams(max_tokens=0, prompt_logprobs=0)


class Piece(NamedTuple):
    """Hidden states of the next positions of a text, float32 [n, width]. text: which one, from 0."""

    text: int
    rows: Floats


class Reading:
    """Made by `Engine.read`, in any thread; all else belongs to the thread that owns the engine."""

    def __init__(
        self,
        prompts: Listing[Listing[int] | Ints],
        first_id: int,
        scheduler: Scheduler,
        runner: Runner,
        traits: Traits,
        salt: str = "",
    ) -> None:
        """first_id: text i is the sequence with the id `+ i`. scheduler: its cache holds the slots, its budget
        is that of a forward. Raises UserError for ids the model does not have or too many of them.
        """
        each = [checked_prompt(prompt, READ_ONLY, traits) for prompt in prompts]
        self._texts = [
            Sequence(request_id, ids, READ_ONLY, limit=len(ids), seed=0, salt=salt)
            for request_id, ids in zip(count(first_id), each, strict=False)
        ]
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
        """What the next forward gives, in the order of the texts; nothing after the last.

        Raises BusyError while others hold the memory for the first of them.
        """
        windows = self._windows()
        if not windows:
            return []
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
        start, left = self._start, self._budget
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

    def _chunk(self, length: int) -> int:
        """How much of `length` positions one forward takes: all, or whole blocks, as a row sees all of its own."""
        if self._is_whole or length <= self._budget:
            return length
        unit = max(1, self._pattern.size)
        return max(unit, self._budget // unit * unit)

    def _advance(self, seq: Sequence, end: int) -> None:
        self._start = end
        if end == seq.length:
            self._cache.release(seq)
            self._first, self._start = self._first + 1, 0

"""A text that is only read: its hidden states, without any token being generated.

A reading is done in chunks, one per call, so that requests that run get their steps in between. Its slots
of the KV cache are its own until `close`.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing

from plait.core.errors import BusyError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import Runner, StepInput
from plait.core.traits import Traits
from plait.core.window import Floats, Ints, PatternKind, Window
from plait.engine.admission import checked_prompt
from plait.iteration.scheduler import Scheduler

READ_ONLY = SamplingParams(max_tokens=0, prompt_logprobs=0)


class Reading:
    """Made by `Engine.read`, in any thread; `next` and `close` belong to the thread that owns the engine."""

    def __init__(
        self,
        prompt: Listing[int] | Ints,
        request_id: int,
        scheduler: Scheduler,
        runner: Runner,
        traits: Traits,
    ) -> None:
        """scheduler: its cache holds the slots, its budget is that of a chunk.
        Raises UserError for ids the model does not have or too many of them.
        """
        ids = checked_prompt(prompt, READ_ONLY, traits)
        self._seq = Sequence(request_id, ids, READ_ONLY, limit=len(ids), seed=0)
        self._cache = cache = scheduler.cache
        self._runner = runner
        self._pattern = traits.pattern
        # A window of whole blocks: a row sees its block to the end.
        unit = max(1, traits.pattern.size)
        whole_blocks = max(unit, scheduler.max_num_batched_tokens // unit * unit)
        in_parts = cache.keeps and traits.pattern.kind is not PatternKind.FULL
        self._chunk = whole_blocks if in_parts else len(ids)
        self._start = 0

    def next(self) -> Floats | None:
        """Hidden states of the next positions, float32 [n, width]; None after the last of them.

        Raises BusyError while others hold the memory for the whole text.
        """
        start, end = self._start, min(self._start + self._chunk, self._seq.length)
        if start == end:
            return None
        window = Window(start, end, pattern=self._pattern, keep=end)
        if not self._cache.reserve(self._seq, self._seq.length):
            raise BusyError("the KV cache is in use", "try again when other requests are done", 1.0)
        view = self._cache.view(self._seq, window)
        rows = self._runner.hidden([StepInput(self._seq, window, view)], until="hidden")
        self._cache.stored(self._seq, window)
        self._start = end
        return rows

    def close(self) -> None:
        """Give the memory back."""
        self._cache.release(self._seq)

"""Grammars in the step: masks are computed while the model runs, and what is certain is written without it.

The mask of a row depends on the tokens before it alone, which are known when a window has been planned, drafts
included. So one thread of its own fills the masks of a step during the forward, and `Masks.take` finds them done.

**Jump-ahead.** Where a grammar leaves no choice the next tokens are written at once, without a row of logits; the
next window feeds them together, as it would a prompt. Since only a forced token passes its mask (grammar/base.py),
the answer is the same as without; log-probabilities need the rows, so a request that wants them does not jump.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.window import Update, Window
from plait.decoding.base import Masks
from plait.grammar.base import Compiler, State
from plait.iteration.base import Job, Request

ALL = np.uint32(0xFFFFFFFF)


class Constraining:
    """The grammars of one engine. make: called with the first request that has one; None where nobody said what the
    tokens spell."""

    def __init__(self, make: Callable[[], Compiler] | None = None) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._compiler: Compiler | None = None
        self._thread: ThreadPoolExecutor | None = None

    def state(self, params: SamplingParams) -> State | None:
        """Where the answer to a request begins, if it has to fit a grammar. Any thread; takes its time for a grammar
        that is new. Raises UserError for one that cannot be honoured."""
        if params.structured_outputs is None:
            return None
        if self._make is None:
            raise UserError("structured output needs a tokenizer, and this engine knows of none")
        with self._lock:
            if self._compiler is None:
                self._compiler = self._make()
        return self._compiler.compile(params.structured_outputs)

    def begin(self, jobs: list[Job]) -> list[Future[Masks] | None]:
        """Begin to compute what the rows of each job may choose; None where they may choose everything."""
        return [
            self._submit(job.request.grammar, job) if job.request.grammar is not None else None
            for job in jobs
        ]

    def _submit(self, state: State, job: Job) -> Future[Masks] | None:
        window = job.window
        count = int(np.count_nonzero(window.targets >= job.request.seq.length))
        if not count:
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "plait-masks")
        assert self._compiler is not None
        masks: Masks = np.full((count, self._compiler.num_words), ALL, np.uint32)
        return self._thread.submit(_fill, state, masks, window)


def take(pending: list[Future[Masks] | None]) -> list[Masks | Exception | None]:
    """What `begin` promised, or why there is none. Waits for all of them: no state is in use any more."""
    return [None if each is None else each.exception() or each.result() for each in pending]  # type: ignore[misc]


def _fill(state: State, masks: Masks, window: Window) -> Masks:
    """The mask of the last row of the canvas, and of the drafted rows behind it. One that no choice leads to keeps all
    its bits: it decides nothing."""
    children: dict[int, list[tuple[int, int]]] = defaultdict(list)
    drafted = () if window.tokens is None else window.tokens[window.length - len(window.parents) :]
    for place, (parent, token) in enumerate(zip(window.parents.tolist(), drafted, strict=True), 1):
        children[parent].append((place, int(token)))

    def fill(place: int) -> None:
        state.fill(masks[place])
        for child, token in children[place]:
            if state.advance(token):
                fill(child)
                state.rollback(1)

    fill(0)
    return masks


def follow(request: Request) -> None:
    """Tell the grammar of a request what was written, and write what is certain. Raises UserError when that takes too
    much."""
    seq, state = request.seq, request.grammar
    assert state is not None
    told = seq.prompt_length + state.num_tokens
    for token in seq.tokens[told:].tolist():
        if state.is_finished or not state.advance(token):
            break
    if seq.params.logprobs is None:
        _jump(request, state)
    if state.is_finished:
        seq.truncate(seq.prompt_length + state.num_tokens)
        seq.ends_here = True


def _jump(request: Request, state: State) -> None:
    seq = request.seq
    forced: list[int] = []
    while seq.length + len(forced) < seq.limit and not state.is_finished:
        token = state.forced()
        if token is None or not state.advance(token):
            break
        forced.append(token)
    if not forced:
        return
    places = np.arange(seq.length, seq.length + len(forced), dtype=np.int32)
    update = Update(places, np.array(forced, np.int32))
    seq.apply(update)
    seq.metrics.num_forced += len(forced)
    request.planner.absorb(seq, Window(seq.length, seq.length), update)

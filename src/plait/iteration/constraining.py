"""Grammars in the step: masks are computed while the model runs, and what is certain is written without it.

The mask of a row depends on the tokens before it alone, which are known when a window has been planned, drafts
included. So a thread of its own can fill masks during the forward. Most take 10 microseconds, though, to wake a thread
takes ten times that, from a processor that the model keeps busy, and a model that knows what a row may choose computes
a part of its logits only: a state whose last mask was quick has its next one filled at once.

**Jump-ahead.** Where a grammar leaves no choice the next tokens are written at once, without a row of logits; the
next window feeds them together, as it would a prompt. Since only a forced token passes its mask (grammar/base.py),
the answer is the same as without; log-probabilities need the rows, so a request that wants them does not jump.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.places import WITNESS, Effort, Witness, places
from plait.core.sequence import Sequence
from plait.core.window import Masks, Update, Window
from plait.grammar import leading
from plait.grammar.base import Compiler, State
from plait.iteration.base import Job, Request

ALL = np.uint32(0xFFFFFFFF)
FIRST_EFFORT = 8_192
"""Tokens that the search for a request's first completion may try: about half a second, ten of a grammar with 300 optional keys."""
QUICK = 1e-3
"""Seconds for the masks of a window, below which nobody else is asked: about what a part of the logits saves."""


class Constraining:
    """The grammars of one engine. make: called with the first request that has one; None where nobody said what the
    tokens spell. is_used: whether any request had one; before, `begin` need not be called."""

    def __init__(self, make: Callable[[], Compiler] | None = None) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._compiler: Compiler | None = None
        self.is_used = False
        self._thread: ThreadPoolExecutor | None = None

    def state(
        self, params: SamplingParams, begun: Iterable[int] = (), room: int = 0
    ) -> State | None:
        """Where the answer to a request begins, if it has to fit a grammar; begun: tokens of it that are there already.
        room: how many tokens it may have, for one that is completed; 0: its planner completes it itself.
        Any thread; takes its time for a grammar that is new. Raises UserError for one that cannot be honoured, and for
        a beginning that does not fit or that nothing may follow."""
        asked = params.structured_outputs
        if asked is None:
            return None
        if self._make is None:
            raise UserError("structured output needs a tokenizer, and this engine knows of none")
        with self._lock:
            if self._compiler is None:
                self._compiler, self.is_used = self._make(), True
        state = self._compiler.compile(asked)
        if not all(map(state.advance, begun)) or state.is_finished:
            raise UserError(
                "the answer that was begun does not fit its grammar, or is complete",
                "tokens that it may begin with",
            )
        if asked.complete and room:
            state = self._led(state, room)
        # With nothing known of it, and of the grammar's first words, its first mask would be slow in the step.
        begin = time.perf_counter()
        state.fill(np.empty(self._num_words, np.uint32))
        state.seconds = time.perf_counter() - begin
        return state

    def _led(self, inner: State, room: int) -> State:
        assert self._compiler is not None
        state = leading.State(inner, self._compiler.completer, room)
        state.look()
        return state

    def guide(self, requests: list[Request]) -> None:
        """Give the choices of a request whose planner guides what that takes: who finds completions, and a first one.
        Any thread, once the canvas is laid out. Raises UserError where none is found."""
        state, seq = requests[0].grammar, requests[0].seq
        if state is None or not requests[0].planner.guides:
            return
        assert self._compiler is not None
        completer, at = self._compiler.completer, places(seq)
        found = completer.complete(state, at, Effort(FIRST_EFFORT))
        if found is None:
            raise UserError(*_no_completion(seq))
        for request in requests:
            request.guide = completer
            request.seq.scratch[WITNESS] = Witness(at.first, tuple(found))

    @property
    def _num_words(self) -> int:
        assert self._compiler is not None
        return self._compiler.num_words

    def begin(self, jobs: list[Job]) -> Pending:
        """What the rows of each job may choose: done where that is quick, and then the job is told, in its place in the
        list; begun where it may not be."""
        pending = Pending([None] * len(jobs))
        slow: list[tuple[int, State, Masks, Window]] = []
        for place, job in enumerate(jobs):
            state, window = job.request.grammar, job.window
            targets = window.targets
            if state is None or not len(targets) or targets.item(-1) < job.request.seq.length:
                continue
            count = 1 + len(window.parents)
            is_quick = state.seconds * count < QUICK
            masks: Masks | None = None
            if count > 1 or not is_quick:
                masks = np.empty((count, self._num_words), np.uint32)
            if masks is None or is_quick:
                found = self._now(state, masks, window)
                pending.masks[place] = found
                if not isinstance(found, Exception) and len(window.rows) == count:
                    jobs[place] = Job(job.request, window, job.view, job.second, found)
            else:
                slow.append((place, state, masks, window))
        if slow:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "plait-masks")
            pending.rest = self._thread.submit(pending.fill, slow)
        return pending

    def _now(self, state: State, masks: Masks | None, window: Window) -> Masks | Exception:
        """masks: to fill; None for a single row, which the state has room for itself."""
        if masks is not None:
            return _filled(state, masks, window, time.perf_counter)
        try:
            begin = time.perf_counter()
            found = state.current(self._num_words)
            state.seconds = time.perf_counter() - begin
            return found
        except Exception as error:  # of this request alone
            return error


def _no_completion(seq: Sequence) -> tuple[str, str]:
    if seq.params.infill:
        return (
            "infill: nothing was found for these stretches that fits the grammar together with what stands around them",
            "longer or shorter stretches (in tokens), text around them that fits, begins_at where that begins",
        )
    return (
        f"no answer was found that fits the grammar and is complete within {seq.limit - seq.prompt_length} tokens",
        "raise max_tokens, or use a planner that writes in order ('block', 'autoregressive')",
    )


@dataclass(slots=True)
class Pending:
    """masks: of each job, None where it may choose everything, or why there are none; empty: everything, all of them.
    rest: those that are not done."""

    masks: list[Masks | Exception | None]
    rest: Future[None] | None = None

    def fill(self, slow: list[tuple[int, State, Masks, Window]]) -> None:
        """In the other thread."""
        for place, state, masks, window in slow:
            # While the model runs there is little time but the thread's own.
            self.masks[place] = _filled(state, masks, window, time.thread_time)

    def take(self) -> list[Masks | Exception | None]:
        """All of them. Waits, so that no state is in use any more."""
        if self.rest is not None:
            self.rest.result()
        return self.masks


def _filled(
    state: State, masks: Masks, window: Window, clock: Callable[[], float]
) -> Masks | Exception:
    try:
        begin = clock()
        if len(masks) == 1:
            state.fill(masks[0])
        else:
            _fill(state, masks, window)
        state.seconds = (clock() - begin) / len(masks)
        return masks
    except Exception as error:  # of this request alone
        return error


def _fill(state: State, masks: Masks, window: Window) -> None:
    """The mask of the last row of the canvas, and of the drafted rows behind it. One that no choice leads to keeps all
    its bits: it decides nothing."""
    masks.fill(ALL)
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


def follow(request: Request) -> None:
    """Tell the grammar of a request what was written, and write what is certain. Raises UserError when that takes too
    much."""
    seq, state = request.seq, request.grammar
    assert state is not None
    told = seq.prompt_length + state.num_tokens
    for token in seq.tokens[told : seq.final].tolist():
        if state.is_finished:
            break
        if not state.advance(token):
            raise UserError("the grammar wants letters that the model's tokenizer cannot spell")
    is_scored = seq.params.prompt_logprobs is None or seq.is_scored
    if seq.params.logprobs is None and is_scored and request.planner.constrains:
        _jump(request, state)
    if request.guide is not None and seq.final == seq.limit:
        seq.ends_here = state.is_accepting
    if state.led_from is not None:
        seq.led_from = seq.prompt_length + state.led_from
    if state.is_finished:
        seq.truncate(seq.prompt_length + state.num_tokens)
        seq.ends_here, seq.is_closed = True, state.is_closed


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

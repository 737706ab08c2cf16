"""Measuring what `step_cost.StepCost` holds: steps of an engine by tokens and context."""

from __future__ import annotations

import time
from statistics import median

import numpy as np

from plait.analysis import drive
from plait.analysis.step_cost import Setup, StepCost
from plait.core.errors import UserError
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import PatternKind, Window
from plait.engine.engine import Engine

TOKENS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 512)
CONTEXTS = (0, 512, 2048)
LOGITS = (1, 2, 4, 8, 16, 32)
SHORT = 16
"""Context of the requests that decode together."""


def measure(
    engine: Engine,
    setup: Setup,
    *,
    tokens: tuple[int, ...] = TOKENS,
    contexts: tuple[int, ...] = CONTEXTS,
    logits: tuple[int, ...] = LOGITS,
    passes: int = 5,
) -> StepCost:
    """Medians over `passes` passes after one warm-up. Contexts that the model has not are left out.

    Of a model that sees ahead forwards of single windows are measured: its steps may feed anything anywhere.

    The engine must be idle; afterwards it is again, with the budget it had.
    """
    room = engine.traits.context_length - max(tokens) - 2
    fitting = tuple(context for context in contexts if context <= room)
    if not fitting or not engine.scheduler.cache.keeps:
        raise UserError("no context to measure at", "a larger --ctx, and the cache 'paged'")
    if engine.scheduler.cache.shares:
        raise UserError("a chunk that is measured again would be found cached", "the cache 'paged'")
    if engine.traits.pattern.kind is not PatternKind.CAUSAL:
        rows = [_windows(engine, context, tokens, (0,), passes) for context in fitting]
        least, *heads = _windows(engine, 0, (max(logits),), (0, *logits), passes)
        over = [max(0.0, seconds - least) for seconds in heads]
        return StepCost(setup, fitting, tokens, rows, logits, over)
    rows = [_chunks(engine, context, tokens, passes) for context in fitting]
    bare = StepCost(setup, fitting, tokens, rows, (), ())
    heads = [_decoding(engine, count, passes) - bare.predict(count, SHORT, 0) for count in logits]
    return StepCost(setup, fitting, tokens, rows, logits, [max(0.0, head) for head in heads])


def _chunks(engine: Engine, context: int, tokens: tuple[int, ...], passes: int) -> list[float]:
    """Seconds of a prompt chunk of each of `tokens` lengths behind `context` tokens.

    One request does for all: its prompt is longer than any chunk reaches, so it never gets to decode, and
    after each step the slots behind `context` are forgotten again.
    """
    scheduler = engine.scheduler
    budget = scheduler.max_num_batched_tokens
    prompt = drive.random_prompt(engine, context + max(tokens) + 1, context)
    (request,) = engine.prepare(prompt, drive.GREEDY)
    engine.enqueue([request])
    try:
        while (missing := context - scheduler.cache.length(request.seq)) > 0:
            scheduler.max_num_batched_tokens = min(budget, missing)
            drive.timed_step(engine)
        samples: list[list[float]] = [[] for _ in tokens]
        for _ in range(passes + 1):
            for count, row in zip(tokens, samples, strict=True):
                scheduler.max_num_batched_tokens = count
                row.append(drive.timed_step(engine).seconds)
                scheduler.cache.truncate(request.seq, context)
        return [median(row[1:]) for row in samples]
    finally:
        scheduler.max_num_batched_tokens = budget
        engine.cancel(request.seq.request_id)


def _windows(
    engine: Engine, context: int, tokens: tuple[int, ...], logits: tuple[int, ...], passes: int
) -> list[float]:
    """Seconds of forwards of a window behind `context` tokens, for all lengths and for each all numbers of rows with
    logits; what lies before the window is read as it stands."""
    cache, end = engine.scheduler.cache, context + max(tokens)
    seq = Sequence(-1, drive.random_prompt(engine, end, context), drive.GREEDY, limit=end, seed=0)
    windows = [
        Window(
            context,
            context + count,
            np.arange(rows, dtype=np.int32),
            context + np.arange(rows, dtype=np.int32),
            engine.traits.pattern,
            context,
        )
        for count in tokens
        for rows in logits
    ]
    if not cache.reserve(seq, end):
        raise UserError(f"{end} tokens do not fit into the KV cache", "more kv_memory")
    try:
        inputs = [StepInput(seq, window, cache.view(seq, window)) for window in windows]
        samples = [[_forward(engine, one) for one in inputs] for _ in range(passes + 1)]
        return [median(row) for row in zip(*samples[1:], strict=True)]
    finally:
        cache.release(seq)


def _forward(engine: Engine, one: StepInput) -> float:
    began = time.perf_counter()
    engine.runner.forward([one])
    return time.perf_counter() - began


def _decoding(engine: Engine, batch: int, passes: int) -> float:
    """Seconds of a step in which `batch` requests decode behind one short prompt."""
    ids = drive.fill(engine, [drive.random_prompt(engine, SHORT, batch)], copies=batch)
    seconds = drive.decode(engine, batch, passes + 1)
    drive.end(engine, ids)
    return median(seconds[1:])

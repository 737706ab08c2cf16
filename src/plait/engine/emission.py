"""From a canvas to events: what became final, whether it ends the request, and why."""

from __future__ import annotations

import time

from plait.core.errors import UserError
from plait.core.sequence import Event, Sequence
from plait.core.traits import Traits
from plait.core.window import FinishReason, TokenLogprobs


def take(seq: Sequence, traits: Traits) -> Event | None:
    """The tokens that became final since the last call, cut at a stop token or the limit.

    A token that has been taken is never taken again. None when there is nothing to say.
    """
    start, end = seq.emitted, min(seq.final, seq.limit)
    tokens = seq.tokens[start:end].tolist()
    stop = seq.first_stop(tokens, traits.eos_ids)
    reason = None
    if stop is not None:
        is_own = tokens[stop] in traits.eos_ids and tokens[stop] not in seq.params.stop_token_ids
        tokens = tokens[: stop + 1]
        end = start + len(tokens)
        reason = FinishReason.LENGTH if is_own and _is_led(seq, end) else FinishReason.STOP
    elif seq.ends_here and end == seq.length:
        reason = FinishReason.LENGTH if _is_led(seq, end) else FinishReason.STOP
        stop = len(tokens) - 1 if seq.is_closed else None
    elif seq.final >= seq.limit and seq.is_complete:
        reason = FinishReason.LENGTH
    if start == end and reason is None:
        return None
    seq.emitted = end
    is_first = start == seq.prompt_length + seq.answered
    if is_first and end > start:
        seq.metrics.first_token_time = time.perf_counter()
        seq.metrics.num_first_tokens = end - start
    return Event(
        seq.request_id,
        tuple(tokens),
        () if seq.params.logprobs is None else _written_logprobs(seq, start, end),
        reason,
        stop_token=None if stop is None else tokens[stop],
        prompt_logprobs=_prompt_logprobs(seq) if is_first else None,
        metrics=seq.metrics if reason else None,
    )


def watched(seq: Sequence, event: Event | None) -> Event | None:
    """The event of a step that decided something, with the canvas; the last one goes as it is."""
    if event is not None and event.finish_reason:
        return event
    shown = zip(seq.tokens[seq.emitted :].tolist(), seq.masked[seq.emitted :].tolist(), strict=True)
    canvas = tuple(None if masked else token for token, masked in shown)
    return (event or Event(seq.request_id))._replace(canvas=canvas)


def ending(seq: Sequence, reason: FinishReason, error: Exception | str | None = None) -> Event:
    """The last event of a request that is ended from outside, or by an error."""
    if isinstance(error, UserError):
        error = error.message
    elif isinstance(error, Exception):
        error = f"{type(error).__name__}: {error}"
    return Event(seq.request_id, finish_reason=reason, error=error, metrics=seq.metrics)


def seal(seq: Sequence, event: Event) -> None:
    """Close the books of a sequence: `event` is its last."""
    seq.finish_reason = event.finish_reason
    seq.metrics.finished_time = time.perf_counter()
    seq.truncate(seq.emitted)


def _is_led(seq: Sequence, end: int) -> bool:
    """Whether an answer that ends there was led to its end."""
    return seq.led_from is not None and end > seq.led_from


def _written_logprobs(seq: Sequence, start: int, end: int) -> tuple[TokenLogprobs, ...]:
    return tuple(seq.logprobs[position] for position in range(start, end))


def _prompt_logprobs(seq: Sequence) -> tuple[TokenLogprobs | None, ...] | None:
    if seq.params.prompt_logprobs is None:
        return None
    return (None, *(seq.logprobs.get(position) for position in range(1, seq.prompt_length)))

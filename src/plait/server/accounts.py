"""What an answer cost: usage and timings."""

from __future__ import annotations

from plait.server.generation import Generation
from plait.server.schema.common import CachedTokens, Timings, Usage


def usage_of(generation: Generation) -> Usage:
    """Tokens of all prompts, each counted once, and of all choices."""
    prompt = sum(len(prompt.ids) for prompt in generation.prompts)
    completion = sum(len(choice.output.token_ids) for choice in generation.choices)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=CachedTokens(cached_tokens=_cached(generation)),
    )


def timings_of(generation: Generation) -> Timings:
    """Counts of all prompts and choices; times and rates of the first choice of the first prompt."""
    first = generation.answers[0].output
    times = first.metrics
    num_computed = len(first.prompt_token_ids) - times.num_cached_tokens
    prefill = _between(times.first_scheduled_time, times.first_token_time)
    decode = _between(times.first_token_time, times.finished_time)
    usage = usage_of(generation)
    cached = usage.prompt_tokens_details.cached_tokens
    return Timings(
        cache_n=cached,
        prompt_n=usage.prompt_tokens - cached,
        prompt_ms=None if prefill is None else prefill * 1e3,
        prompt_per_second=_rate(num_computed, prefill),
        predicted_n=usage.completion_tokens,
        predicted_ms=None if decode is None else decode * 1e3,
        predicted_per_second=_rate(
            len(first.outputs[0].token_ids) - times.num_first_tokens, decode
        ),
        draft_n=times.num_drafted,
        draft_n_accepted=times.num_accepted,
        lossy=times.is_lossy,
        draft_n_by_place=[times.drafts[place] for place in sorted(times.drafts)],
        draft_n_accepted_by_place=[times.accepted[place] for place in sorted(times.drafts)],
        draft_ms=times.draft_seconds * 1e3,
        draft_gain=times.plain_seconds / decode if decode and times.plain_seconds else None,
    )


def _cached(generation: Generation) -> int:
    return sum(answer.output.num_cached_tokens for answer in generation.answers)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _rate(count: int, seconds: float | None) -> float | None:
    return count / seconds if seconds and count > 0 else None

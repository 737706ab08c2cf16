"""What a request cost, in words and as a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plait.llm import RequestOutput


def timings(output: RequestOutput) -> dict[str, Any]:
    """Counts, seconds and rates of one request; a rate is None where there was nothing to divide.

    prompt_per_second counts the prompt tokens that were computed (not those found in the cache), from
    the moment the request was first scheduled to its first token; decode_per_second the tokens after those that came
    with the first one. Of several choices `tokens` counts all, while times and rates are those of the first.
    """
    times = output.metrics
    prompt = len(output.prompt_token_ids)
    counts = [len(one.token_ids) for one in output.outputs]
    prefill = _between(times.first_scheduled_time, times.first_token_time)
    decode = _between(times.first_token_time, times.finished_time)
    return {
        "prompt_tokens": prompt,
        "cached_tokens": times.num_cached_tokens,
        "tokens": sum(counts),
        "forwards": times.num_forwards,
        "time_to_first_token": _between(times.arrival_time, times.first_token_time),
        "total_time": _between(times.arrival_time, times.finished_time),
        "prompt_per_second": _rate(prompt - times.num_cached_tokens, prefill),
        "decode_per_second": _rate(counts[0] - times.num_first_tokens, decode),
        "tokens_per_forward": _rate(counts[0], times.num_forwards),
        "drafted_tokens": times.num_drafted,
        "accepted_tokens": times.num_accepted,
        "lossy": times.is_lossy,
        "accepted_by_place": [
            _rate(times.accepted[place], times.drafts[place]) or 0.0
            for place in sorted(times.drafts)
        ],
        "draft_seconds": times.draft_seconds,
        "gain": _over(times.plain_seconds, decode or 0.0) if times.plain_seconds else None,
        "expected_gain": _over(times.expected_plain_seconds, times.expected_seconds),
    }


def footer(output: RequestOutput) -> str:
    """One line for people."""
    numbers = timings(output)
    cached = f" ({numbers['cached_tokens']} cached)" if numbers["cached_tokens"] else ""
    parts = [
        f"prompt {numbers['prompt_tokens']}{cached}, {_show(numbers['prompt_per_second'], 'tok/s')}",
        f"answer {numbers['tokens']}, {_show(numbers['decode_per_second'], 'tok/s')}",
        f"first token after {_show(numbers['time_to_first_token'], 's', digits=2)}",
        f"{_show(numbers['tokens_per_forward'], 'tokens per forward', digits=2)}",
        f"ended by {'/'.join(str(one.finish_reason) for one in output.outputs)}",
    ]
    if numbers["drafted_tokens"]:
        parts.append(f"{numbers['accepted_tokens']} of {numbers['drafted_tokens']} drafted right")
    if numbers["lossy"]:
        parts.append("lossy: typical acceptance, not the answer of plain decoding")
    return " | ".join(parts)


def drafting(output: RequestOutput) -> list[str]:
    """What drafting came to and why so much was drafted, a line each; nothing for a request that could not draft."""
    numbers, notes = timings(output), output.metrics.draft_notes
    if numbers["gain"] is None:
        return []
    places = " ".join(f"{share:.0%}" for share in numbers["accepted_by_place"]) or "none drafted"
    lines = [
        f"drafting: {_show(numbers['gain'], 'x', digits=2)} of plain decoding as estimated, "
        f"{_show(numbers['expected_gain'], 'x', digits=2)} expected; "
        f"drafts took {1e3 * numbers['draft_seconds']:.1f} ms; right by place: {places}"
    ]
    return lines + [f"  {note}" for note in notes.values()]


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _over(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rate(count: int, seconds: float | None) -> float | None:
    return count / seconds if seconds and count > 0 else None


def _show(value: float | None, unit: str, *, digits: int = 1) -> str:
    return f"- {unit}" if value is None else f"{value:.{digits}f} {unit}"

"""Held-out items asked of a model in one way of decoding through Plait's own engine: a row of a table.

Accuracy with its Wilson interval, tokens per forward (TPF), forwards (NFE) and positions fed. TPF is no speed: what a
forward costs grows with the positions it feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plait import LLM, SamplingParams
from plait.analysis.curve import wilson

SEED = 20_000
"""Of the held-out items; training draws from (seed 1, step)."""
Spans = tuple[tuple[int, int], ...]
Tasks = Mapping[str, tuple[Sequence["Question"], Sequence["Way"]]]
Rows = dict[str, dict[str, dict[str, Any]]]
"""Task -> label of a way -> its row."""


@dataclass(frozen=True)
class Question:
    """grade: whether a text is right. spans: what is filled in, nothing for a continuation. group: for sub-totals."""

    prompt: str
    grade: Callable[[str], bool]
    max_tokens: int | None = None
    spans: Spans = ()
    group: str = ""


@dataclass(frozen=True)
class Way:
    """How to decode; the label is for people."""

    label: str
    planner: str
    decoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 0.0


def ask(llm: LLM, questions: Sequence[Question], way: Way) -> dict[str, Any]:
    """A row of the table."""
    params = [
        SamplingParams(
            temperature=way.temperature,
            seed=number,
            **({"infill": q.spans} if q.spans else {"max_tokens": q.max_tokens}),
        )
        for number, q in enumerate(questions)
    ]
    outputs = llm.generate(
        [q.prompt for q in questions],
        params,
        planner=way.planner,
        decoder=way.decoder,
        options=dict(way.options),
    )
    right = [q.grade(o.outputs[0].text) for q, o in zip(questions, outputs, strict=True)]
    groups = {q.group for q in questions} - {""}
    forwards = sum(o.metrics.num_forwards for o in outputs)
    positions = sum(o.metrics.num_forwarded_positions for o in outputs)
    tokens = sum(
        sum(end - start for start, end in q.spans) or len(o.outputs[0].token_ids)
        for q, o in zip(questions, outputs, strict=True)
    )
    whole = sum(
        o.metrics.num_forwards * (len(q.prompt) + (0 if q.spans else q.max_tokens or 0))
        for q, o in zip(questions, outputs, strict=True)
    )
    return {
        "label": way.label,
        "planner": way.planner,
        "decoder": way.decoder,
        "options": dict(way.options),
        "temperature": way.temperature,
        **share(right),
        "groups": {
            name: share([r for r, q in zip(right, questions, strict=True) if q.group == name])
            for name in sorted(groups)
        },
        "tokens_per_forward": round(tokens / forwards, 3),
        "forwards_per_item": round(forwards / len(questions), 2),
        "positions_per_item": round(positions / len(questions), 1),
        "tokens_per_position": round(tokens / positions, 4),
        "share_of_canvas": round(positions / whole, 3),
    }


def share(right: Sequence[bool]) -> dict[str, Any]:
    low, high = wilson(sum(right), len(right))
    return {
        "items": len(right),
        "right": sum(right),
        "percent": round(100 * sum(right) / len(right), 2),
        "interval": [round(100 * low, 2), round(100 * high, 2)],
    }


def show(task: str, row: Mapping[str, Any]) -> None:
    groups = "".join(f"  {name} {part['percent']:.1f}" for name, part in row["groups"].items())
    low, high = row["interval"]
    print(
        f"{task:12} {row['label']:34} {row['percent']:6.2f} % [{low:.1f}, {high:.1f}]  "
        f"TPF {row['tokens_per_forward']:5.2f}  NFE {row['forwards_per_item']:6.2f}  "
        f"positions {row['positions_per_item']:8.1f} {row['share_of_canvas']:6.1%}{groups}",
        flush=True,
    )

"""Held-out items asked of a model in one way of decoding through Plait's own engine: a row of a table.

Accuracy with its Wilson interval, tokens per forward (TPF), forwards (NFE) and positions fed. TPF is no speed: what a
forward costs grows with the positions it feeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait import LLM, SamplingParams
from plait.analysis.curve import wilson
from plait.analysis.tasks import Item

SEED = 20_000
"""Of the held-out items; training draws from (seed 1, step)."""
Counts = NDArray[np.int64]
"""[questions]"""
Spans = tuple[tuple[int, int], ...]
Tasks = Mapping[str, tuple[Sequence["Question"], Sequence["Way"]]]
Rows = dict[str, dict[str, dict[str, Any]]]
"""Task -> label of a way -> its row."""


@dataclass(frozen=True)
class Question:
    """grade: whether a text is right. spans: what is filled in, nothing for a continuation. group: for sub-totals.
    item: the same for a file of `plait bench diffusion`, if its graders can tell what is right."""

    prompt: str
    grade: Callable[[str], bool]
    max_tokens: int | None = None
    spans: Spans = ()
    group: str = ""
    item: Item | None = None

    @classmethod
    def of(cls, item: Item, group: str = "") -> Question:
        length = item.max_tokens or None
        return cls(item.prompt, item.is_solved, length, item.infill, group, item)


@dataclass(frozen=True)
class Way:
    """How to decode; the label is for people."""

    label: str
    planner: str
    decoder: str
    options: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 0.0


@dataclass(frozen=True)
class Outcomes:
    """Of every question: whether it was answered right, tokens written, forwards, positions fed, and what would have
    been fed if every forward had fed the whole canvas."""

    right: NDArray[np.bool_]
    tokens: Counts
    forwards: Counts
    positions: Counts
    canvases: Counts


def params(question: Question, temperature: float, seed: int) -> SamplingParams:
    given = SamplingParams(temperature=temperature, seed=seed)
    if question.spans:
        return replace(given, infill=question.spans)
    return replace(given, max_tokens=question.max_tokens)


def outcomes(llm: LLM, questions: Sequence[Question], way: Way) -> Outcomes:
    """Question i has the seed i."""
    outputs = llm.generate(
        [q.prompt for q in questions],
        [params(q, way.temperature, number) for number, q in enumerate(questions)],
        planner=way.planner,
        decoder=way.decoder,
        options=dict(way.options),
    )
    pairs = list(zip(questions, outputs, strict=True))
    forwards = np.array([o.metrics.num_forwards for o in outputs])
    canvas = [len(q.prompt) + (0 if q.spans else q.max_tokens or 0) for q in questions]
    return Outcomes(
        np.array([q.grade(o.outputs[0].text) for q, o in pairs]),
        np.array([sum(e - s for s, e in q.spans) or len(o.outputs[0].token_ids) for q, o in pairs]),
        forwards,
        np.array([o.metrics.num_forwarded_positions for o in outputs]),
        forwards * np.array(canvas),
    )


def ask(llm: LLM, questions: Sequence[Question], way: Way) -> dict[str, Any]:
    """A row of the table."""
    found = outcomes(llm, questions, way)
    groups = np.array([q.group for q in questions])
    tokens, forwards, positions = (
        int(each.sum()) for each in (found.tokens, found.forwards, found.positions)
    )
    return {
        "label": way.label,
        "planner": way.planner,
        "decoder": way.decoder,
        "options": dict(way.options),
        "temperature": way.temperature,
        **share(found.right),
        "groups": {
            str(name): share(found.right[groups == name]) for name in np.unique(groups) if name
        },
        "tokens_per_forward": round(tokens / forwards, 3),
        "forwards_per_item": round(forwards / len(questions), 2),
        "positions_per_item": round(positions / len(questions), 1),
        "tokens_per_position": round(tokens / positions, 4),
        "share_of_canvas": round(positions / int(found.canvases.sum()), 3),
    }


def share(right: NDArray[np.bool_]) -> dict[str, Any]:
    count = int(right.sum())
    low, high = wilson(count, len(right))
    return {
        "items": len(right),
        "right": count,
        "percent": round(100 * count / len(right), 2),
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


def write_items(tasks: Tasks, folder: Path) -> None:
    """A file for `plait bench diffusion` of every task whose answers its graders know."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, (questions, _) in tasks.items():
        items = [asdict(q.item) for q in questions if q.item is not None]
        lines = [json.dumps({name: v for name, v in item.items() if v}) for item in items]
        if lines:
            (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n")

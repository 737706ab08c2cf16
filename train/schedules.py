"""HEX (`plait.programs.hex`) beside each of the block schedules that it asks: the same runs, so the vote alone differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plait import LLM
from plait.programs import hex
from train.asking import Question, params, share


def compare(
    llm: LLM,
    questions: Sequence[Question],
    sizes: Sequence[int],
    options: Mapping[str, str],
    *,
    seeds: int = 1,
    temperature: float = 0.0,
) -> dict[str, Any]:
    """sizes: block lengths; of answers with as many votes that of the first of them wins. Alone, a schedule has its
    first run."""
    right: dict[str, list[bool]] = {}
    for number, question in enumerate(questions):
        ids = llm.tokenizer.encode(question.prompt)
        own = params(question, temperature, number * seeds)
        found = hex.vote(
            llm, ids, own, block_sizes=sizes, seeds=seeds, planner="canvas", options=options
        )
        right.setdefault("vote", []).append(question.grade(found.text))
        for size in sizes:
            runs = [run for run in found.runs if run.block_size == size]
            right.setdefault(f"blocks of {size}", []).append(question.grade(runs[0].text))
    rows = {name: share(np.array(each)) for name, each in right.items()}
    best = max((name for name in rows if name != "vote"), key=lambda name: rows[name]["right"])
    vote, other = np.array(right["vote"]), np.array(right[best])
    return {
        "options": dict(options),
        "seeds": seeds,
        "temperature": temperature,
        "rows": rows,
        "best_alone": best,
        "right_by_vote_alone": int((vote & ~other).sum()),
        "right_by_best_alone": int((~vote & other).sum()),
    }

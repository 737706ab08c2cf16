"""HEX: the same request under several block schedules and seeds, and a vote on what they came to (arXiv:2510.05040).

Which positions of a canvas are decided together changes what a masked model answers, and no block length is the best
for every prompt. Here each length in `block_sizes` answers `seeds` times, in one batch, and the answer that most runs
gave wins; of two with as many votes the one that the first of the runs gave. Runs differ by their seed only where
something is drawn: at a temperature above 0, or with a decoder that draws positions.
"""

from __future__ import annotations

import queue
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Event
from plait.core.window import FinishReason
from plait.llm import LLM
from plait.programs.extract import Extract, whole
from plait.text.answer import Answer

BLOCK_SIZES = (8, 16, 32)
MOST_RUNS = 256


class Run(NamedTuple):
    """One answer. answer: what was found in its text, None for nothing: then it does not vote."""

    block_size: int
    seed: int
    text: str
    answer: str | None


class Vote(NamedTuple):
    """answer: that of most runs, None if no run had one. text: of the first run that gave it. votes: number of runs
    by answer, most first. runs: in the order of block_sizes, and of the seeds for each of them."""

    answer: str | None
    text: str
    votes: dict[str, int]
    runs: list[Run]


def vote(
    llm: LLM,
    prompt: Sequence[int],
    params: SamplingParams,
    *,
    block_sizes: Sequence[int] = BLOCK_SIZES,
    seeds: int = 1,
    extract: Extract = whole,
    options: Mapping[str, str] | None = None,
    **choices: Any,
) -> Vote:
    """prompt: token ids. params: of every run; run i of a block length has the seed `params.seed` (not given: 0) + i.
    extract: text to answer. options, choices: as for `LLM.generate`, all but block_size.

    Raises UserError for what the model's planner refuses, and RuntimeError when a run breaks off.
    """
    _check(params, block_sizes, seeds, options or {})
    plan = [(size, (params.seed or 0) + i) for size in block_sizes for i in range(seeds)]
    each = [
        (replace(params, seed=seed), {**(options or {}), "block_size": str(size)})
        for size, seed in plan
    ]
    texts = _answers(llm, prompt, each, choices)
    runs = [Run(*pair, text, extract(text)) for pair, text in zip(plan, texts, strict=True)]
    votes = Counter(run.answer for run in runs if run.answer is not None)
    ranked = dict(votes.most_common())  # equal ones in the order in which they came
    best = next(iter(ranked), None)
    text = next(run.text for run in runs if run.answer == best)
    return Vote(best, text, ranked, runs)


def _check(
    params: SamplingParams, block_sizes: Sequence[int], seeds: int, options: Mapping[str, str]
) -> None:
    if not block_sizes or seeds < 1 or len(set(block_sizes)) < len(block_sizes):
        raise UserError(
            "there is nothing to vote on", "different block_sizes, and one seed or more"
        )
    if len(block_sizes) * seeds > MOST_RUNS:
        raise UserError(
            f"{len(block_sizes)} block_sizes times {seeds} seeds are too many",
            f"{MOST_RUNS} runs at most",
        )
    if params.n != 1:
        raise UserError(f"n={params.n} has no meaning in a vote", "more seeds")
    if {"block_size", "planner.block_size"} & set(options):
        raise UserError("block_size is what the runs differ by", "give block_sizes")


def _answers(
    llm: LLM,
    prompt: Sequence[int],
    each: list[tuple[SamplingParams, dict[str, str]]],
    choices: Mapping[str, Any],
) -> list[str]:
    """Texts of requests with these parameters and options, all running together."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    answers: list[Answer] = []
    running: dict[int, Answer] = {}
    worker = llm.worker
    try:
        for params, options in each:
            ids = worker.submit(prompt, params, events.put, options=options, **choices)
            answers.append(Answer(llm.tokenizer, None, prompt, params, ids))
            running[ids[0]] = answers[-1]
        while running:
            event = events.get()
            if running[event.request_id].take(event):
                worker.finish(event.request_id, FinishReason.STOP)
            if event.finish_reason:
                _refuse_broken(running.pop(event.request_id))
    finally:
        for key in running:
            worker.cancel(key)
    return [answer.output.outputs[0].text for answer in answers]


def _refuse_broken(answer: Answer) -> None:
    (output,) = answer.output.outputs
    if output.finish_reason not in (FinishReason.STOP, FinishReason.LENGTH):
        raise RuntimeError(output.error or f"a run ended early: {output.finish_reason}")

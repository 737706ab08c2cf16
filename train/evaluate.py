"""The small models of `train/` on held-out items, through Plait's own engine: accuracy with Wilson intervals, tokens
per forward (TPF), forwards (NFE) and positions fed.

    python -m train.evaluate sudoku6 --items 500
    python -m train.evaluate trimode --items 500

TPF is no speed: what a forward costs grows with the positions it feeds. One file per model in benchmarks/results.
"""

from __future__ import annotations

import argparse
import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from plait import LLM, SamplingParams
from plait.analysis.curve import wilson
from train import sudoku, trimode

ROOT = Path(__file__).resolve().parent.parent
SEED = 20_000
"""Of the held-out items; training draws from (seed 1, step)."""
POOL = 500
"""Puzzles that are searched for, of which the held-out ones are symmetries."""
Spans = tuple[tuple[int, int], ...]
Tasks = Mapping[str, tuple[Sequence["Question"], Sequence["Way"]]]


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


# --- sudoku ---------------------------------------------------------------------------------------------------------


def spans(grid: sudoku.Grid) -> Spans:
    """The stretches of open cells of a puzzle's text."""
    found: list[tuple[int, int]] = []
    for place, token in enumerate(sudoku.tokens(grid[None])[0]):
        if token == sudoku.MASK:
            joins = found and found[-1][1] == place
            start = found.pop()[0] if joins else place
            found.append((start, place + 1))
    return tuple(found)


def puzzles(count: int) -> list[Question]:
    drawn = sudoku.draw(np.random.default_rng(SEED), count, sudoku.pool(SEED, POOL), held_out=True)
    return [_puzzle(grid, solution) for grid, solution in zip(*drawn, strict=True)]


def _puzzle(grid: sudoku.Grid, solution: sudoku.Grid) -> Question:
    where = spans(grid)
    answer = sudoku.text(solution)[where[0][0] :]
    group = "at most 12 givens" if (grid > 0).sum() <= 12 else "more givens"
    return Question(sudoku.text(grid), lambda text: text == answer, spans=where, group=group)


def boards(count: int) -> list[Question]:
    """Six clues of a held-out grid: mostly with many solutions, all of which are right."""
    generator = np.random.default_rng(SEED + 1)
    _, solved = sudoku.draw(generator, count, sudoku.pool(SEED, POOL), held_out=True)
    found: list[Question] = []
    for solution in solved:
        grid = np.where(generator.random(36).argsort().argsort() < 6, solution, 0)
        prompt, where = sudoku.text(grid), spans(grid)
        found.append(Question(prompt, functools.partial(is_valid, prompt, where), spans=where))
    return found


def is_valid(prompt: str, where: Spans, text: str) -> bool:
    """Whether the board keeps its clues and every unit holds six digits."""
    whole = prompt[: where[0][0]] + text
    open_places = {place for start, end in where for place in range(start, end)}
    kept = all(
        a == b for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if i not in open_places
    )
    cells = [letter for letter in whole if letter not in "abcdef"]
    if not kept or len(whole) != len(prompt) or len(cells) != sudoku.CELLS:
        return False
    return all({cells[cell] for cell in unit} == set("123456") for unit in sudoku.UNITS)


def sudoku_ways() -> list[Way]:
    whole = {"block_size": "42"}

    def steps(score: str, count: str = "") -> Way:
        options = {**whole, "score": score, **({"steps": count} if count else {})}
        return Way(f"{score}, {count or 'as many'} steps", "canvas", "fixed_steps", options)

    thresholds = [
        Way(f"threshold {t}", "canvas", "threshold", {**whole, "threshold": t})
        for t in ("0.5", "0.7", "0.9", "0.95", "0.99", "0.999")
    ]
    return [
        steps("confidence"),
        steps("random"),
        *thresholds,
        *(steps(score, count) for score in ("confidence", "random") for count in ("1", "4", "8")),
        Way("factor 1", "canvas", "factor", {**whole, "factor": "1"}),
        Way(
            "hierarchical .4/.9",
            "canvas",
            "hierarchical",
            {**whole, "low_threshold": "0.4", "threshold": "0.9"},
        ),
        Way(
            "hierarchical .7/.95",
            "canvas",
            "hierarchical",
            {**whole, "low_threshold": "0.7", "threshold": "0.95"},
        ),
        Way("credit(threshold .9)", "canvas", "credit(threshold)", {**whole, "threshold": "0.9"}),
        Way("credit(threshold .99)", "canvas", "credit(threshold)", {**whole, "threshold": "0.99"}),
        steps("margin"),
        Way("left to right", "canvas", "fixed_steps", {"block_size": "1"}),
    ]


def reuse_ways() -> list[Way]:
    """Rows of 7 positions as blocks, everything computed in every step or only what is near."""
    near = {"block_size": "7", "threshold": "0.99"}
    window = {"look_behind": "3", "look_ahead": "4"}
    return [
        Way("blocks of 7", "canvas", "threshold", near),
        Way("blocks of 7, prefix", "canvas", "threshold", {**near, "reuse": "prefix"}),
        Way("blocks of 7, dual", "canvas", "threshold", {**near, "reuse": "dual"}),
        Way(
            "blocks of 7, vicinity", "canvas", "threshold", {**near, **window, "reuse": "vicinity"}
        ),
    ]


def completion_ways() -> list[Way]:
    wanted = ("confidence, as many steps", "confidence, 1 steps", "confidence, 8 steps")
    more = ("threshold 0.9", "threshold 0.99")
    return [way for way in sudoku_ways() if way.label in (*wanted, *more)]


def sudoku_tasks(items: int) -> Tasks:
    return {
        "sudoku": (puzzles(items), [*sudoku_ways(), *reuse_ways()]),
        "6 clues": (boards(items), completion_ways()),
    }


# --- three modes ----------------------------------------------------------------------------------------------------


def questions(task: str, count: int) -> list[Question]:
    generator = np.random.default_rng((SEED, len(task)))
    found: list[Question] = []
    seen = set()
    while len(found) < count:
        prompt, answer = trimode.item(task, generator, held_out=True)
        if (prompt, answer) in seen:
            continue
        seen.add((prompt, answer))
        found.append(Question(prompt, grader(task, prompt, answer), max_tokens=len(answer) + 1))
    return found


def grader(task: str, prompt: str, answer: str) -> Callable[[str], bool]:
    if task == "shuffle":
        return lambda text: sorted(text.strip()) == sorted(prompt[1:-1])
    if task == "json":
        return is_record
    return lambda text: text.strip() == answer


def is_record(text: str) -> bool:
    """A JSON object of the four fields whose id is said again."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and list(found) == ["id", "n", "ok", "ref"]
        and isinstance(found["id"], str)
        and len(found["id"]) == 4
        and found["ref"] == found["id"]
    )


def mode_ways(task: str) -> list[Way]:
    many = {"block_size": "64"}
    ways = [
        Way("autoregressive", "autoregressive", "auto"),
        Way("block, 1 per step", "block", "fixed_steps"),
        Way("block, threshold .9", "block", "threshold", {"threshold": "0.9"}),
        Way("canvas, 1 per step", "canvas", "fixed_steps", many),
        Way("canvas, threshold .9", "canvas", "threshold", {**many, "threshold": "0.9"}),
        Way("canvas, one step", "canvas", "fixed_steps", {**many, "steps": "1"}),
    ]
    if task not in ("shuffle", "json"):
        return ways
    if task == "json":
        ways += near_ways()
    drawn = [
        Way(f"{way.label}, T=1", way.planner, way.decoder, way.options, 1.0) for way in ways[:6]
    ]
    spread = [
        Way(
            f"random, {n} steps, T=1",
            "canvas",
            "fixed_steps",
            {**many, "steps": str(n), "score": "random"},
            1.0,
        )
        for n in (1, 2, 4, 8, 20)
    ]
    return [*ways, *drawn, *spread]


def near_ways() -> list[Way]:
    """Blocks one token at a time, everything computed in every step or only what is near."""
    blocks = {"block_size": "6"}
    reuse = {
        "all": {},
        "prefix": {"reuse": "prefix"},
        "dual": {"reuse": "dual"},
        "vicinity": {"reuse": "vicinity", "look_behind": "1", "look_ahead": "1"},
    }
    return [
        Way(f"blocks of 6, {name}", "canvas", "fixed_steps", {**blocks, **options})
        for name, options in reuse.items()
    ]


def trimode_tasks(items: int) -> Tasks:
    return {task: (questions(task, items), mode_ways(task)) for task in trimode.TASKS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("model", choices=("sudoku6", "trimode"))
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="of the checkpoint (models/MODEL)")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as are useful")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    args = parser.parse_args()
    folder = args.folder or ROOT / "models" / args.model
    tasks = sudoku_tasks(args.items) if args.model == "sudoku6" else trimode_tasks(args.items)
    record: dict[str, Any] = {"model": args.model, "date": time.strftime("%Y-%m-%d"), "tasks": {}}
    for planner in ("autoregressive", "block", "canvas"):  # the engine is in one mode at a time
        own = [
            (task, asked, way)
            for task, (asked, ways) in tasks.items()
            for way in ways
            if way.planner == planner
        ]
        if not own:
            continue
        llm = LLM(model=folder, planner=planner, max_num_seqs=64, threads=args.threads)
        for task, asked, way in own:
            row = ask(llm, asked, way)
            record["tasks"].setdefault(task, []).append(row)
            show(task, row)
            out = args.results / f"diffusion-{args.model}.json"
            out.write_text(json.dumps(record, indent=1) + "\n")
        llm.close()


if __name__ == "__main__":
    main()

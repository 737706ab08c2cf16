"""What the model of three modes is asked: every task in every mode."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np

from train import trimode
from train.asking import SEED, Question, Tasks, Way


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

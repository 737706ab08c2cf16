"""What the model of three modes is asked: every task in every mode.

Where a task has many right answers, it is asked at temperature 1 too: the surest answer to the only prompt of `json` is
one and the same, and says little.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from plait.analysis.tasks import Item
from train import trimode
from train.asking import SEED, Question, Tasks, Way

RECORD = r'\{"id":"([a-z]{4})","n":\d\d,"ok":(true|null),"ref":"\1"\}'
"""Four fields, of which the last says the id again."""


def questions(task: str, count: int) -> list[Question]:
    generator = np.random.default_rng((SEED, len(task)))
    found: dict[tuple[str, str], Question] = {}
    while len(found) < count:
        prompt, answer = trimode.item(task, generator, held_out=True)
        found[prompt, answer] = Question.of(item(task, prompt, answer))
    return list(found.values())


def item(task: str, prompt: str, answer: str) -> Item:
    """With room for the answer and its end."""
    length = len(answer) + 1
    if task == "json":
        return Item(prompt, RECORD, length, "pattern")
    return Item(prompt, answer, length, "permutation" if task == "shuffle" else "exact")


def mode_ways(task: str) -> list[Way]:
    many = {"block_size": "64"}
    ways = [
        Way("autoregressive", "autoregressive", "auto"),
        Way("block, 1 per step", "block", "fixed_steps"),
        Way("block, threshold .9", "block", "threshold", {"threshold": "0.9"}),
        Way("canvas, 1 per step", "canvas", "fixed_steps", many),
        Way("canvas, threshold .9", "canvas", "threshold", {**many, "threshold": "0.9"}),
        Way("canvas, one step", "canvas", "fixed_steps", {**many, "steps": "1"}),
        Way("block, entropy bound .15", "block", "entropy_bound", {"bound": "0.15"}),
        Way("canvas, entropy bound .15", "canvas", "entropy_bound", {**many, "bound": "0.15"}),
    ]
    if task not in ("shuffle", "json"):
        return ways
    if task == "json":
        halves = {"block_size": "32", "threshold": "0.9"}
        ways += [Way("canvas, blocks of 32, threshold .9", "canvas", "threshold", halves)]
        ways += near_ways()
    drawn = [replace(way, label=f"{way.label}, T=1", temperature=1.0) for way in ways]
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

"""How probable the model of three modes finds answers (`plait.programs.likelihood`), each mode by itself.

Where many answers are right, what it gives to those that were drawn is compared with what somebody gives who knows the
task: -ln 8! to an order of eight digits, -ln(22^4 90 2) to a record. On average nobody gives more. Where one answer is
right, it is compared with the same answer with one digit changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from plait import LLM
from plait.programs.likelihood import likelihood
from train import trimode
from train.asking import SEED, share

CERTAIN = {
    "shuffle": -math.log(math.factorial(8)),
    "json": -math.log(22**4 * 90 * 2),
    "add": 0.0,
    "sort": 0.0,
}
"""What the right answers of a task get from who knows it, in nats."""
SAMPLES = 8
"""Of an estimate; one of Monte Carlo is a forward."""
Judge = Callable[[str, str, int], float]
"""(prompt, answer, seed of the estimate) -> log p(answer and its end | prompt)."""


def compare(folder: Path, threads: int, items: int) -> dict[str, Any]:
    """Task -> mode -> mean log-probability in nats with its interval over the items."""
    found: dict[str, Any] = {task: {"certain": round(CERTAIN[task], 3)} for task in CERTAIN}
    for mode in ("autoregressive", "block", "canvas"):
        with LLM(model=folder, planner=mode, max_num_seqs=64, threads=threads) as llm:
            judge = judge_of(llm, mode)
            for task in CERTAIN:
                found[task][mode] = row(judge, task, answers(task, items))
                print(task, mode, found[task][mode], flush=True)
    return found


def judge_of(llm: LLM, mode: str) -> Judge:
    def judge(prompt: str, answer: str, seed: int) -> float:
        given = llm.tokenizer.encode(prompt)
        asked = llm.tokenizer.encode(answer + trimode.END)
        if mode == "autoregressive":
            return float(llm.score([*given, *asked])[len(given) :].sum())
        return likelihood(llm.worker, given, asked, samples=SAMPLES, seed=seed).mean

    return judge


def answers(task: str, count: int) -> list[tuple[str, str]]:
    """Held-out prompts with a right answer each, drawn as in training."""
    generator = np.random.default_rng((SEED, 7, len(task)))
    return [trimode.item(task, generator, held_out=True) for _ in range(count)]


def row(judge: Judge, task: str, asked: list[tuple[str, str]]) -> dict[str, Any]:
    # Each with a seed of its own: a few samples do not mask as many tokens as there are, and which they leave out must
    # not be the same everywhere.
    values = np.array([judge(*each, seed) for seed, each in enumerate(asked)])
    reach = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    mean = float(values.mean())
    found = {
        "mean": round(mean, 3),
        "interval": [round(mean - reach, 3), round(mean + reach, 3)],
    }
    if CERTAIN[task]:
        return found
    wrong = np.array([judge(p, changed(a), seed) for seed, (p, a) in enumerate(asked)])
    return {**found, "above_a_changed_digit": share(values > wrong)}


def changed(answer: str) -> str:
    """With another digit in one place, which both follow from the answer."""
    place = sum(map(int, answer)) % len(answer)
    other = (int(answer[place]) + 1) % 10
    return f"{answer[:place]}{other}{answer[place + 1 :]}"

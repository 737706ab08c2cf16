"""What the sudoku model is asked: puzzles with one solution, and boards of six clues with many."""

from __future__ import annotations

import functools

import numpy as np

from plait.analysis.tasks import Item
from train import sudoku
from train.asking import SEED, Question, Spans, Tasks, Way

POOL = 500
"""Puzzles that are searched for, of which the held-out ones are symmetries."""


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
    return Question.of(Item(sudoku.text(grid), answer, infill=where), group)


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

"""6x6 sudoku (boxes of 2 rows and 3 columns): puzzles with one solution, as text and as batches.

A puzzle is six lines of a letter and six cells, `a1?34??`...: the letters tell a model that knows only distances where
it is. A pool of puzzles is searched for once; the symmetries of the grid (digits, rows and columns within bands and
stacks, bands, stacks: 2.5 million of them) make a stream of it that does not repeat itself. Solutions whose hash is
divisible by HELD_OUT are for evaluation alone.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

Grid = NDArray[np.int64]
"""[36], digits 1 to 6, 0 where open."""

SIDE, CELLS, HELD_OUT = 6, 36, 16
ALPHABET = "\n123456abcdef?"
"""By token id; the first ends a text, the last is the mask."""
MASK = ALPHABET.index("?")
POOL, LEAST_GIVENS, MOST_GIVENS = 8000, 10, 18


def units() -> list[list[int]]:
    """The cells of every row, column and box."""
    rows = [[6 * r + c for c in range(6)] for r in range(6)]
    columns = [[6 * r + c for r in range(6)] for c in range(6)]
    corners = [(r, c) for r in (0, 2, 4) for c in (0, 3)]
    boxes = [[6 * (r + i) + c + j for i in range(2) for j in range(3)] for r, c in corners]
    return rows + columns + boxes


UNITS = units()
PEERS = [
    sorted({other for unit in UNITS if cell in unit for other in unit} - {cell})
    for cell in range(CELLS)
]


def solutions(grid: list[int], most: int, generator: np.random.Generator | None) -> list[list[int]]:
    """Up to `most` completions; a generator makes the order random."""
    found: list[list[int]] = []
    grid = list(grid)

    def search() -> None:
        best = -1
        choices: list[int] = []
        for cell in range(CELLS):
            if grid[cell]:
                continue
            free = sorted(set(range(1, 7)) - {grid[peer] for peer in PEERS[cell]})
            if best < 0 or len(free) < len(choices):
                best, choices = cell, free
            if len(choices) < 2:
                break
        if best < 0:
            found.append(list(grid))
            return
        if generator is not None:
            generator.shuffle(choices)
        for digit in choices:
            grid[best] = digit
            search()
            if len(found) >= most:
                break
        grid[best] = 0

    search()
    return found


def puzzle(generator: np.random.Generator) -> tuple[list[int], list[int]]:
    """(puzzle with one solution, the solution): givens are taken away until there are few enough."""
    solution = solutions([0] * CELLS, 1, generator)[0]
    grid, target = list(solution), int(generator.integers(LEAST_GIVENS, MOST_GIVENS + 1))
    for cell in generator.permutation(CELLS):
        if CELLS - grid.count(0) <= target:
            break
        kept, grid[cell] = grid[cell], 0
        if len(solutions(grid, 2, None)) > 1:
            grid[cell] = kept
    return grid, solution


@functools.cache
def pool(seed: int, count: int = POOL) -> tuple[Grid, Grid]:
    """(puzzles, solutions), int64 [count, 36] each, of LEAST_GIVENS to MOST_GIVENS givens."""
    generator = np.random.default_rng((seed, 6))
    pairs: list[tuple[list[int], list[int]]] = []
    while len(pairs) < count:
        grid, solution = puzzle(generator)
        if CELLS - grid.count(0) <= MOST_GIVENS:
            pairs.append((grid, solution))
    puzzles, solved = zip(*pairs, strict=True)
    return np.array(puzzles), np.array(solved)


def classes(solved: Grid) -> Grid:
    """A hash of each solution modulo HELD_OUT; 0 is held out. solved: [n, 36]."""
    hashed = np.full(len(solved), 1469598103934665603, np.uint64)
    for column in solved.T.astype(np.uint64):
        hashed = (hashed ^ column) * np.uint64(1099511628211)
    return ((hashed >> np.uint64(33)) % np.uint64(HELD_OUT)).astype(np.int64)


def symmetries(generator: np.random.Generator, count: int) -> tuple[Grid, Grid]:
    """(cells [count, 36]: where each cell comes from, digits [count, 7]: what each digit becomes, 0 stays)."""

    def lines(groups: int, size: int) -> Grid:
        outer = generator.random((count, groups)).argsort(1)
        inner = generator.random((count, groups, size)).argsort(2)
        moved = np.take_along_axis(inner, outer[:, :, None], 1)
        return (outer[:, :, None] * size + moved).reshape(count, SIDE)

    rows, columns = lines(3, 2), lines(2, 3)
    cells = (rows[:, :, None] * SIDE + columns[:, None, :]).reshape(count, CELLS)
    digits = np.zeros((count, 7), np.int64)
    digits[:, 1:] = generator.random((count, 6)).argsort(1) + 1
    return cells, digits


def draw(
    generator: np.random.Generator, count: int, found: tuple[Grid, Grid], *, held_out: bool
) -> tuple[Grid, Grid]:
    """(puzzles, solutions) [count, 36] of the symmetries of a pool, of one side of the division by hash."""
    puzzles, solved = found
    kept: list[tuple[Grid, Grid]] = []
    while sum(len(part) for part, _ in kept) < count:
        picked = generator.integers(0, len(puzzles), 2 * count)
        cells, digits = symmetries(generator, 2 * count)
        turned = [
            np.take_along_axis(digits, np.take_along_axis(part[picked], cells, 1), 1)
            for part in (puzzles, solved)
        ]
        fits = (classes(turned[1]) == 0) == held_out
        kept.append((turned[0][fits], turned[1][fits]))
    first, second = (np.concatenate(parts)[:count] for parts in zip(*kept, strict=True))
    return first, second


def tokens(grids: Grid) -> Grid:
    """[n, 36] -> ids [n, 42]: a letter before every row, MASK for an open cell."""
    cells = np.where(grids == 0, MASK, grids).reshape(-1, SIDE, SIDE)
    labels = np.broadcast_to(np.arange(7, 13)[None, :, None], (len(grids), SIDE, 1))
    return np.concatenate([labels, cells], 2).reshape(len(grids), -1)


def text(grid: Grid) -> str:
    """As a prompt: 42 characters, one token each."""
    return "".join(ALPHABET[token] for token in tokens(grid[None])[0])

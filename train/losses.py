"""What is trained: masked positions of a batch, in each of the ways that a model is to be decoded."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from train import sudoku, trimode
from train.body import Body
from train.trimode import Course, Ids

MODES = ("causal", "block", "full")
FIRST = Course()


def sudoku_loss(
    model: Body, generator: np.random.Generator, *, seed: int, size: int
) -> tuple[Tensor, str]:
    """Of a batch: k of the open cells masked, k uniform from 1 to all; the mean over them (LLaDA's 1/t weight)."""
    puzzles, solved = sudoku.draw(generator, size, sudoku.pool(seed), held_out=False)
    open_cells = puzzles == 0
    counts = generator.integers(1, open_cells.sum(1) + 1)
    order = np.where(open_cells, generator.random(puzzles.shape), 2.0).argsort(1).argsort(1)
    hidden = order < counts[:, None]
    fed = torch.from_numpy(sudoku.tokens(np.where(hidden, 0, solved)))
    wanted = torch.from_numpy(sudoku.tokens(solved))
    logits = model(fed, torch.arange(fed.shape[1]), torch.ones(1, 1, *[fed.shape[1]] * 2).bool())
    losses = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
    masked = (fed == sudoku.MASK).float()
    each = (losses.view_as(masked) * masked).sum(1) / masked.sum(1)
    return each.mean(), "masked"


def trimode_loss(
    model: Body, generator: np.random.Generator, *, size: int, course: Course = FIRST
) -> tuple[Tensor, str]:
    mode = str(generator.choice(MODES, p=course.modes))
    tokens, starts, ends = trimode.batch(generator, size, course)
    where = np.arange(tokens.shape[1])
    is_answer = (where >= starts[:, None]) & (where < ends[:, None])
    if mode == "causal":
        return _causal(model, tokens, is_answer, course.copies), mode
    if mode == "block":
        return _blocks(model, generator, tokens, starts, ends), mode
    return _canvas(model, generator, tokens, starts, ends, course), mode


def _causal(model: Body, tokens: Ids, is_answer: NDArray[np.bool_], copies: float) -> Tensor:
    rows = tokens.shape[1]
    before = np.broadcast_to(np.arange(rows) < trimode.NAMED[1].start, tokens.shape)
    weights = np.where(trimode.copies(tokens, before), copies, 1.0) * is_answer
    mask = torch.ones(rows, rows).tril().bool()[None, None]
    logits = model(torch.from_numpy(tokens), torch.arange(rows), mask)
    return _mean(logits[:, :-1], tokens[:, 1:], weights[:, 1:])


def _canvas(
    model: Body,
    generator: np.random.Generator,
    tokens: Ids,
    starts: Ids,
    ends: Ids,
    course: Course,
) -> Tensor:
    """The answer and up to trimode.MOST_EXTRA positions behind it, or all but its END."""
    where = np.arange(tokens.shape[1])
    last = ends + generator.integers(-1, trimode.MOST_EXTRA + 1, len(ends))
    is_open = (where >= starts[:, None]) & (where < last[:, None])
    is_stretch = course.stretches > 0 and generator.random() < course.stretches
    hidden = (hide_stretch if is_stretch else hide)(generator, is_open)
    sees = torch.from_numpy(where < last[:, None])[:, None, None, :]
    fed = torch.from_numpy(np.where(hidden, trimode.ALPHABET.index(trimode.MASK), tokens))
    logits = model(fed, torch.arange(tokens.shape[1]), sees)
    seen = ~hidden & (where < last[:, None])
    weights = np.where(trimode.copies(tokens, seen), course.copies, 1.0) * hidden
    return _mean(logits, tokens, weights)


def _blocks(
    model: Body, generator: np.random.Generator, tokens: Ids, starts: Ids, ends: Ids
) -> Tensor:
    """Noisy blocks before which the clean ones stand: [noisy | clean] in one forward (arXiv:2503.09573)."""
    size, rows = tokens.shape
    where = np.arange(rows)
    closed = -(-ends // trimode.BLOCK) * trimode.BLOCK
    is_open = (where >= starts[:, None]) & (where < closed[:, None])
    # Every block has a share of its own, as it has when it is decoded.
    by_block = is_open.reshape(size * rows // trimode.BLOCK, trimode.BLOCK)
    hidden = hide(generator, by_block).reshape(size, rows)
    noisy = np.where(hidden, trimode.ALPHABET.index(trimode.MASK), tokens)
    fed = torch.from_numpy(np.concatenate([noisy, tokens], 1))
    logits = model(fed, torch.arange(rows).repeat(2), noisy_and_clean(rows, trimode.BLOCK))
    return _mean(logits[:, :rows], tokens, hidden.astype(np.float64))


def noisy_and_clean(rows: int, length: int) -> Tensor:
    """Mask of [noisy | clean]: a noisy block sees itself and the clean ones before it, a clean one itself and those.
    length: of a block. -> bool [1, 1, 2 rows, 2 rows]."""
    block = np.arange(rows) // length
    before, same = block[:, None] > block[None, :], block[:, None] == block[None, :]
    mask = np.block([[same, before], [np.zeros_like(same), before | same]])
    return torch.from_numpy(mask)[None, None]


def hide(generator: np.random.Generator, is_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """k of the open positions of each row, k uniform from 1 to all of them."""
    counts = np.ceil(generator.random(len(is_open)) * is_open.sum(1))
    order = np.where(is_open, generator.random(is_open.shape), 2.0).argsort(1).argsort(1)
    hidden: NDArray[np.bool_] = (order < counts[:, None]) & is_open
    return hidden


def hide_stretch(generator: np.random.Generator, is_open: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """One stretch of the open positions of each row, as long as any and anywhere."""
    count = is_open.sum(1)
    length = np.ceil(generator.random(len(is_open)) * count)
    first = np.floor(generator.random(len(is_open)) * (count - length + 1))
    place = is_open.cumsum(1) - 1
    hidden: NDArray[np.bool_] = (
        is_open & (place >= first[:, None]) & (place < (first + length)[:, None])
    )
    return hidden


def _mean(logits: Tensor, wanted: Ids, weights: NDArray[np.float64]) -> Tensor:
    """Cross entropy: the weighted mean over the positions of a sequence, then the mean over the sequences."""
    losses = functional.cross_entropy(
        logits.flatten(0, 1), torch.from_numpy(wanted).flatten(), reduction="none"
    )
    counted = torch.from_numpy(weights).float()
    each = (losses.view_as(counted) * counted).sum(1) / counted.sum(1).clamp(min=1)
    return each.mean()

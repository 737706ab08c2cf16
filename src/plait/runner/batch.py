"""Windows -> flat arrays: what both executors read."""

from __future__ import annotations

from collections.abc import Sequence as Listing
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from plait.core.step import StepInput
from plait.core.window import NO_INTS, Floats, Ints, PatternKind

WINDOW_FIELDS = 7
_NO_BYTES: NDArray[np.uint8] = np.zeros(0, np.uint8)


@dataclass(frozen=True, slots=True)
class Batch:
    """One step as flat arrays; rows of all windows one after the other.

    tokens, positions: int32 [rows]. windows: int32 [windows, 7]: first row, rows, start slot, pattern,
    pattern size, first page, first mask (-1: none). pages: int32, each window's page table. masks: uint8,
    tree masks row by row. wanted: int32, flat rows whose logits are asked for; counts: how many of them
    belong to each input. embeddings: float32 [n, width] or None; embedding_rows: int32 [rows], -1 for a
    token id. best: int32 [wanted], StepInput.best of each.
    """

    tokens: Ints
    positions: Ints
    windows: Ints
    pages: Ints
    masks: NDArray[np.uint8]
    wanted: Ints
    best: Ints
    counts: tuple[int, ...]
    embeddings: Floats | None
    embedding_rows: Ints | None


def flatten(inputs: Listing[StepInput]) -> Batch:
    """inputs: at least one."""
    starts = [0, *accumulate(i.window.length for i in inputs)]
    masks = [i.window.pattern.mask for i in inputs if i.window.pattern.mask is not None]
    embeddings, embedding_rows = _embeddings(inputs, starts)
    counts = tuple(len(i.window.rows) for i in inputs)
    return Batch(
        tokens=_joined([i.sequence.tokens[i.window.start : i.window.end] for i in inputs]),
        positions=_joined([_positions(i) for i in inputs]),
        windows=_windows(inputs, starts),
        pages=_joined([i.view.pages for i in inputs]),
        masks=np.concatenate([m.ravel() for m in masks]).astype(np.uint8) if masks else _NO_BYTES,
        wanted=_joined([i.window.rows + s for i, s in zip(inputs, starts, strict=False)]),
        best=_joined([np.full(n, i.best, np.int32) for i, n in zip(inputs, counts, strict=True)]),
        counts=counts,
        embeddings=embeddings,
        embedding_rows=embedding_rows,
    )


def _joined(parts: list[Ints]) -> Ints:
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0], np.int32)
    return np.concatenate(parts).astype(np.int32, copy=False) if parts else NO_INTS


def _positions(item: StepInput) -> Ints:
    window = item.window
    if window.positions is not None:
        return window.positions
    return np.arange(window.start, window.end, dtype=np.int32)


def _windows(inputs: Listing[StepInput], starts: list[int]) -> Ints:
    table = []
    first_page = first_mask = 0
    for item, first_row in zip(inputs, starts, strict=False):
        window, pattern = item.window, item.window.pattern
        is_tree = pattern.kind is PatternKind.TREE
        mask = first_mask if is_tree else -1
        shape = first_row, window.length, window.start, pattern.kind, pattern.size
        table.append((*shape, first_page, mask))
        first_page += len(item.view.pages)
        first_mask += window.length**2 if is_tree else 0
    return np.array(table, np.int32)


def _embeddings(inputs: Listing[StepInput], starts: list[int]) -> tuple[Floats | None, Ints | None]:
    given = [(i.window.embeddings, s) for i, s in zip(inputs, starts, strict=False)]
    fed = [(e, s) for e, s in given if e is not None]
    if not fed:
        return None, None
    rows = np.full(starts[-1], -1, np.int32)
    next_row = 0
    for embeddings, start in fed:
        rows[start : start + len(embeddings)] = np.arange(next_row, next_row + len(embeddings))
        next_row += len(embeddings)
    return np.ascontiguousarray(np.concatenate([e for e, _ in fed]), np.float32), rows

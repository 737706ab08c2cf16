"""Windows -> flat arrays: what both executors read."""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Listing
from typing import NamedTuple

import numpy as np

from plait.core.step import StepInput
from plait.core.window import Floats, Ints, Masks, Pattern, PatternKind

WINDOW_FIELDS = 7
_TREE = PatternKind.TREE  # to look up a member costs a call


class Batch(NamedTuple):
    """One step as flat arrays of int32; rows of all windows one after the other.

    tokens, positions: [rows]. windows: [windows * WINDOW_FIELDS]: first row, rows, start slot, pattern,
    pattern size, first page, first mask (-1: none). pages: each window's page table. masks: tree masks row by
    row, a byte each. wanted: flat rows whose logits are asked for; counts: how many of them belong to each input.
    best: [wanted], StepInput.best of each. allowed: StepInput.allowed of the inputs that have one; allowed_of:
    [wanted], the row of all of these together, -1: none. embeddings: float32 [n, width] or None; embedding_rows: int32
    [rows], -1 for a token id.
    """

    tokens: array[int]
    positions: array[int]
    windows: array[int]
    pages: array[int]
    masks: bytes
    wanted: array[int]
    best: array[int]
    allowed: list[Masks]
    allowed_of: array[int]
    counts: list[int]
    embeddings: Floats | None
    embedding_rows: Ints | None


def flatten(inputs: Listing[StepInput]) -> Batch:
    """inputs: at least one."""
    # Not NumPy's arrays: most batches are a few numbers, and making those costs more than filling them.
    tokens, positions, windows = array("i"), array("i"), array("i")
    pages, wanted, best, allowed_of = array("i"), array("i"), array("i"), array("i")
    allowed: list[Masks] = []
    counts, embedded = [], []
    first_row = first_mask = num_allowed = 0
    for sequence, window, view, num_best, own_allowed in inputs:
        start, end, pattern = window.start, window.end, window.pattern
        fed = sequence.tokens[start:end] if window.tokens is None else window.tokens
        tokens.frombytes(fed.tobytes())
        positions.extend(range(start, end) if window.positions is None else window.positions)
        has_mask = pattern.kind is _TREE
        mask = first_mask if has_mask else -1
        shape = first_row, end - start, start, pattern.kind, pattern.size
        windows.extend((*shape, len(pages), mask))
        pages.frombytes(view.pages.tobytes())
        rows = window.rows.tolist()
        wanted.extend([first_row + row for row in rows] if first_row else rows)
        best.extend([num_best] * len(rows))
        counts.append(len(rows))
        if own_allowed is None:
            allowed_of.extend([-1] * len(rows))
        else:
            allowed.append(own_allowed)
            allowed_of.extend(range(num_allowed, num_allowed + len(rows)))
            num_allowed += len(own_allowed)
        if window.embeddings is not None:
            embedded.append((window.embeddings, first_row))
        first_row += end - start
        first_mask += (end - start) ** 2 if has_mask else 0
    masks = b"".join(_mask(item.window.pattern) for item in inputs) if first_mask else b""
    given = _embeddings(embedded, first_row) if embedded else (None, None)
    return Batch(
        tokens, positions, windows, pages, masks, wanted, best, allowed, allowed_of, counts, *given
    )


def _mask(pattern: Pattern) -> bytes:
    return b"" if pattern.mask is None else pattern.mask.astype(np.uint8).tobytes()


def _embeddings(fed: list[tuple[Floats, int]], num_rows: int) -> tuple[Floats, Ints]:
    """fed: embeddings, and the flat row where they begin."""
    rows = np.full(num_rows, -1, np.int32)
    next_row = 0
    for embeddings, start in fed:
        rows[start : start + len(embeddings)] = np.arange(next_row, next_row + len(embeddings))
        next_row += len(embeddings)
    return np.ascontiguousarray(np.concatenate([e for e, _ in fed]), np.float32), rows

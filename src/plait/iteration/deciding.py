"""From the logits of a step to what is written: one call per decoder, for all its requests."""

from __future__ import annotations

from collections.abc import Sequence as Listing

import numpy as np

from plait.core.window import NOTHING, Floats, Masks, Update, Window
from plait.decoding.base import Decoder, Item
from plait.iteration.base import Job
from plait.iteration.smoothing import SOFT


def decide(
    jobs: list[Job], rows: list[Floats | Exception], masks: Listing[Masks | Exception | None] = ()
) -> list[Update | Exception]:
    """rows: logits per job, perhaps none, or why there are none; masks: the same of what they may choose, or nothing at
    all. The update of each job, or what is wrong."""
    updates: list[Update | Exception] = [NOTHING] * len(jobs)
    groups: dict[Decoder, tuple[list[int], list[Item]]] = {}
    for index, (job, logits) in enumerate(zip(jobs, rows, strict=True)):
        mask = masks[index] if masks else None
        if isinstance(logits, Exception):
            updates[index] = logits
        elif isinstance(mask, Exception):
            updates[index] = mask
        elif len(logits):
            indices, items = groups.setdefault(job.request.decoder, ([], []))
            indices.append(index)
            items.append(_item(job, logits, mask))
    for decoder, (indices, items) in groups.items():
        found = _decide_all(decoder, items)
        for index, item, update in zip(indices, items, found, strict=True):
            updates[index] = _remember(item, update) if item.window.remember else update
    return updates


def _item(job: Job, logits: Floats, masks: Masks | None) -> Item:
    """logits: of the window's rows; behind them, if the second stream wanted one, its row."""
    seq, window = job.request.seq, job.window
    if window.guidance:
        logits = _guided(logits, window)
    if job.second is None or not len(job.second.window.rows):
        request = job.request
        walk = request.grammar if request.planner.walks or request.guide else None
        return Item(logits, seq, window, None, masks, walk, request.guide)
    return Item(logits[:-1], seq, window, logits[-1], masks)


def _guided(logits: Floats, window: Window) -> Floats:
    """One row per target: of a window with guidance the two halves become one."""
    half = len(logits) // 2
    without = logits[half:]
    mixed: Floats = without + np.float32(window.guidance + 1.0) * (logits[:half] - without)
    return mixed


def _remember(item: Item, update: Update | Exception) -> Update | Exception:
    """Keep the best probabilities of every target that stays open, for iteration/smoothing.py."""
    if isinstance(update, Exception):
        return update
    targets = item.window.targets
    is_open = item.seq.masked[targets] & ~np.isin(targets, update.positions)
    logits = item.logits[is_open]
    count = min(item.window.remember, logits.shape[1])
    best = np.argpartition(-logits, count - 1, axis=1)[:, :count].astype(np.int32)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    shares = np.take_along_axis(shifted, best, axis=1) / shifted.sum(axis=1, keepdims=True)
    return update._replace(memory={**update.memory, SOFT: (targets[is_open], best, shares)})


def _decide_all(decoder: Decoder, items: list[Item]) -> list[Update | Exception]:
    try:
        return decoder.decide_all(items)
    except Exception as error:  # a request that the decoder fails for ends alone
        if len(items) == 1:
            return [error]
        return [update for item in items for update in _decide_all(decoder, [item])]

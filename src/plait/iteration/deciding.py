"""From the logits of a step to what is written: one call per decoder, for all its requests."""

from __future__ import annotations

from plait.core.window import NOTHING, Floats, Update
from plait.decoding.base import Decoder, Item
from plait.iteration.base import Job


def decide(jobs: list[Job], rows: list[Floats | Exception]) -> list[Update | Exception]:
    """rows: logits per job, perhaps none, or why there are none. The update of each job, or what is wrong."""
    updates: list[Update | Exception] = [NOTHING] * len(jobs)
    groups: dict[Decoder, tuple[list[int], list[Item]]] = {}
    for index, (job, logits) in enumerate(zip(jobs, rows, strict=True)):
        if isinstance(logits, Exception):
            updates[index] = logits
        elif len(logits):
            indices, items = groups.setdefault(job.request.decoder, ([], []))
            indices.append(index)
            items.append(Item(logits, job.request.seq, job.window))
    for decoder, (indices, items) in groups.items():
        for index, update in zip(indices, _decide_all(decoder, items), strict=True):
            updates[index] = update
    return updates


def _decide_all(decoder: Decoder, items: list[Item]) -> list[Update | Exception]:
    try:
        return decoder.decide_all(items)
    except Exception as error:  # a request that the decoder fails for ends alone
        if len(items) == 1:
            return [error]
        return [update for item in items for update in _decide_all(decoder, [item])]

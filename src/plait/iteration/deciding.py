"""From the logits of a step to what is written: one call per decoder, for all its requests."""

from __future__ import annotations

from plait.core.window import NOTHING, Floats, Update
from plait.decoding.base import Decoder, Item
from plait.iteration.base import Job


def decide(jobs: list[Job], rows: list[Floats]) -> list[Update | Exception]:
    """rows: logits per job, perhaps none. The update of each job, or what is wrong with its logits."""
    places: dict[Decoder, list[int]] = {}
    for index, (job, logits) in enumerate(zip(jobs, rows, strict=True)):
        if len(logits):
            places.setdefault(job.request.decoder, []).append(index)
    updates: list[Update | Exception] = [NOTHING] * len(jobs)
    for decoder, indices in places.items():
        items = [Item(rows[i], jobs[i].request.seq, jobs[i].window) for i in indices]
        for index, update in zip(indices, _decide_all(decoder, items), strict=True):
            updates[index] = update
    return updates


def _decide_all(decoder: Decoder, items: list[Item]) -> list[Update | Exception]:
    try:
        return decoder.decide_all(items)
    except Exception as error:  # a faulty decoder ends its own requests and nobody else's
        return [error] * len(items)

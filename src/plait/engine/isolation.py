"""The forward of a step, in which the fault of one request stays its own."""

from __future__ import annotations

import logging

import numpy as np

from plait.core.step import Runner
from plait.core.window import Floats
from plait.iteration.base import Job

log = logging.getLogger(__name__)


def forward(runner: Runner, jobs: list[Job]) -> list[Floats | Exception]:
    """Logits float32 [rows wanted, vocab] of each job, valid until the next forward, or why it has none.

    When the forward of several jobs fails, each half of them is tried again, down to those that fail alone. That
    may be done at any time: rows depend on nothing else in the batch, and a forward only writes the K/V of the
    slots it feeds, which belong to their request and count as empty until it has ended well (kvcache/base.py).

    Raises MemoryError: who asked for the last of it is not known, and smaller forwards would not give it back.
    """
    try:
        inputs = [item for job in jobs for item in job.inputs]
        rows = runner.forward(inputs)
        return [*rows] if len(rows) == len(jobs) else _joined(jobs, rows)
    except MemoryError:
        raise
    except Exception as error:
        if len(jobs) == 1:
            return [error]
        log.warning("a forward of %d requests failed, each half is tried: %s", len(jobs), error)
    middle = len(jobs) // 2
    # A copy, because the arrays of the first half do not outlive the forward of the second.
    first = [_copy(rows) for rows in forward(runner, jobs[:middle])]
    return first + forward(runner, jobs[middle:])


def _joined(jobs: list[Job], rows: list[Floats]) -> list[Floats | Exception]:
    """Those of a second stream come behind those of the first."""
    following = iter(rows)
    return [
        next(following)
        if job.second is None
        else np.concatenate([next(following), next(following)])
        for job in jobs
    ]


def _copy(rows: Floats | Exception) -> Floats | Exception:
    return rows if isinstance(rows, Exception) else rows.copy()

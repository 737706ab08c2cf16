"""Choices of a request that wait until its prompt has been computed, once, by the first of them."""

from __future__ import annotations

from collections.abc import Mapping

from plait.iteration.base import Request
from plait.iteration.scheduler import Scheduler


class Choices:
    """requests: those that have not ended, by id; one that has is passed over. unborn: who waits, by whom for."""

    def __init__(self, scheduler: Scheduler, requests: Mapping[int, Request]) -> None:
        self._scheduler = scheduler
        self._requests = requests
        self.unborn: dict[int, list[Request]] = {}

    def wait(self, first: Request, others: list[Request]) -> None:
        """The others will be forked when the first has its first token."""
        if others:
            self.unborn[first.seq.request_id] = others

    def born(self, parent: Request) -> None:
        """Fork those that waited for a request whose prompt has just been computed."""
        for child in self._left(parent.seq.request_id):
            child.seq.share_scores(parent.seq)
            self._scheduler.adopt(child, parent)

    def orphaned(self, request_id: int) -> None:
        """The request has ended: those that still wait fend for themselves, the next one first."""
        if heirs := self._left(request_id):
            self._scheduler.add(heirs[0])
            self.wait(heirs[0], heirs[1:])

    def _left(self, request_id: int) -> list[Request]:
        waiting = self.unborn.pop(request_id, ())
        return [child for child in waiting if child.seq.request_id in self._requests]

"""Requests that wait: one queue per priority and tenant, each in order of arrival."""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from plait.iteration.base import Account, Request


class Queues:
    """Iterates in the order of rank, over all of them. queues: by account, none of them empty."""

    def __init__(self) -> None:
        self.queues: dict[Account, list[Request]] = {}

    def __bool__(self) -> bool:
        return bool(self.queues)

    def __len__(self) -> int:
        """May be asked for from any thread."""
        return sum(map(len, list(self.queues.values())))

    def __iter__(self) -> Iterator[Request]:
        every = [request for queue in self.queues.values() for request in queue]
        return iter(sorted(every, key=_rank))

    def add(self, request: Request) -> None:
        bisect.insort(self.queues.setdefault(request.account, []), request, key=_rank)

    def discard(self, request: Request) -> None:
        """Take a request out, if it is there."""
        queue = self.queues.get(request.account, [])
        if request in queue:
            queue.remove(request)
            if not queue:
                del self.queues[request.account]

    def heads(self) -> list[Request]:
        """The first of every queue."""
        return [queue[0] for queue in self.queues.values()]

    def count(self, account: Account) -> int:
        """Requests of an account."""
        return len(self.queues[account])

    def need(self, account: Account, most: int) -> int:
        """Positions that the requests of an account have to compute; counted as far as `most`."""
        total = 0
        for request in self.queues[account]:
            total += sum(seq.length for seq in request.streams)
            if total >= most:
                return most
        return total


def _rank(request: Request) -> tuple[int, int]:
    return request.rank

"""A simulated server: the real scheduler, a clock that a cost model drives, and no model at all.

Nothing is timed here. A step of M positions takes what `Cost` says, so that the tests see what clients would
see on such a machine, the same every time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from plait.iteration.base import Job, Request
from plait.iteration.scheduler import Scheduler
from tests.iteration.test_scheduler import apply


class Cost:
    """5 ms to read the weights, 0.2 ms per position, and 0.1 ms per position and 2,000 tokens before it."""

    def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
        return 0.005 + num_tokens * (0.0002 + 0.0001 * context / 2000)

    def of(self, jobs: list[Job]) -> float:
        positions = sum(job.window.length for job in jobs)
        context = sum(job.window.length * job.window.start for job in jobs)
        return self.predict(positions, context // positions)


@dataclass
class Times:
    """Simulated seconds at which a request arrived and had each of its tokens."""

    arrival: float
    tokens: list[float] = field(default_factory=list)

    @property
    def to_first_token(self) -> float:
        return self.tokens[0] - self.arrival

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in zip(self.tokens, self.tokens[1:], strict=False)]

    @property
    def per_token(self) -> float:
        """TPOT; of at least two tokens."""
        return (self.tokens[-1] - self.tokens[0]) / (len(self.tokens) - 1)


Make = Callable[[int], Request]


class Simulation:
    """clients: what a tenant sends; each sends its next request when the one before has ended."""

    def __init__(self, plan: Scheduler) -> None:
        self.plan = plan
        self.now = 0.0
        self.times: dict[int, Times] = {}
        self.tenants: dict[int, str] = {}
        self.steps: list[dict[int, int]] = []
        self._clients: dict[int, Make] = {}

    def send(self, make: Make) -> int:
        """A request now; returns its id."""
        request = make(len(self.times))
        key = request.seq.request_id
        self.times[key] = Times(self.now)
        self.tenants[key] = request.tenant
        self.plan.check(request)
        self.plan.add(request)
        return key

    def client(self, make: Make) -> None:
        self._clients[self.send(make)] = make

    def run(self, steps: int) -> None:
        for _ in range(steps):
            jobs = self.plan.plan()
            if not jobs:
                return
            self.now += Cost().of(jobs)
            self.steps.append({job.request.seq.request_id: job.window.length for job in jobs})
            apply(self.plan, jobs)
            for job in jobs:
                self._note(job)

    def _note(self, job: Job) -> None:
        seq = job.request.seq
        if len(job.window.targets):
            self.times[seq.request_id].tokens.append(self.now)
        if seq.is_complete and seq.request_id in self._clients:
            self.client(self._clients.pop(seq.request_id))

    def per_token(self, tenant: str) -> list[float]:
        """TPOT of the tenant's requests that have two tokens, ascending."""
        own = [times for key, times in self.times.items() if self.tenants[key] == tenant]
        return sorted(times.per_token for times in own if len(times.tokens) > 1)

    def computed(self) -> dict[str, int]:
        """Positions computed for each tenant."""
        totals: dict[str, int] = defaultdict(int)
        for step in self.steps:
            for key, count in step.items():
                totals[self.tenants[key]] += count
        return totals


def percentile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]

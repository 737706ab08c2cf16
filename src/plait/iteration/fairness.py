"""Fairness between tenants: who may spend how much of a step, and who has to make room for whom.

Deficit round robin over tenants (Shreedhar and Varghese, SIGCOMM 1995), counted in positions to compute.
Each step is a round, its quantum the tenant's max-min fair share of what the prompts of the step may take;
what a tenant could not spend, because a window is not divided, it keeps for the next step, but no more than such a
window: who could not spend for want of memory must not take whole steps from the others later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet

from plait.iteration.base import Account, Request
from plait.kvcache.base import Cache

PATIENCE = 3
"""How often a request gives its pages back because its tenant holds most."""


class Purse:
    """What every account may still spend in this step, in positions.

    most: what a step has at most. divides: whether a window may be any part of a prompt; else what is saved up may
    reach `most`.
    """

    def __init__(self, most: int, *, divides: bool) -> None:
        self._most = most
        self._saved = 1 if divides else most
        self._total = 0
        self._left: dict[Account, float] = {}
        self._is_open = False

    def widen(self, window: int) -> None:
        """There are windows of so many positions that are not divided."""
        self._saved = max(self._saved, window)

    def fill(self, needs: Mapping[Account, int], streaming: AbstractSet[str], budget: int) -> None:
        """Begin a step; the arguments are those of `shares`. Who needs nothing keeps nothing."""
        self._is_open = False
        self._total = budget
        self._left = {
            account: share + min(self._left.get(account, 0.0), self._saved)
            for account, share in shares(needs, streaming, budget).items()
        }

    def open(self) -> None:
        """Let everybody spend what the step has: no share was enough for a window."""
        self._is_open = True

    def holds(self, account: Account) -> int:
        """Whole positions that it may spend."""
        if self._is_open:
            return self._most
        # An n-th, taken n times, may fall short of the whole by a rounding error.
        return min(self._total, int(self._left.get(account, 0.0) + 1e-6))

    def spend(self, account: Account, count: int) -> None:
        self._total -= count
        self._left[account] = max(0.0, self._left.get(account, 0.0) - count)


def shares(
    needs: Mapping[Account, int], streaming: AbstractSet[str], budget: int
) -> dict[Account, float]:
    """The part of `budget` for every account that needs something; urgent priorities come first.

    streaming: tenants whose requests are waiting for their next token. Each has a share too, which it takes
    by leaving it: the step is shorter by it. So a tenant alone in having prompts cannot slow the others down
    by more than its own part.
    """
    divided: dict[Account, float] = {}
    left = float(budget)
    for priority in sorted({priority for priority, _ in needs}):
        level = {tenant: need for (own, tenant), need in needs.items() if own == priority}
        others = dict.fromkeys(streaming - level.keys(), budget)
        parts = max_min({**others, **level}, left)
        for tenant in level:
            divided[priority, tenant] = parts[tenant]
            left -= parts[tenant]
    return divided


def max_min(needs: Mapping[str, int], budget: float) -> dict[str, float]:
    """Equal parts, but nobody gets more than it needs, and what it leaves is divided among the others."""
    parts: dict[str, float] = {}
    for count, (tenant, need) in enumerate(sorted(needs.items(), key=lambda item: item[1])):
        parts[tenant] = min(need, budget / (len(needs) - count))
        budget -= parts[tenant]
    return parts


def surplus(
    running: Iterable[Request], newcomer: Request, weigh: Callable[[Request], int], claim: int
) -> Request | None:
    """The request that should make room for `newcomer`, whose tenant would then hold `claim` more.

    It is the latest of the tenant that holds most by `weigh`, within the priority; None unless that tenant
    keeps at least what the newcomer's will have. So no tenant loses its last request in this way, and two
    tenants never take turns in driving each other out.
    """
    rivals = [request for request in running if request.priority == newcomer.priority]
    held: Counter[str] = Counter()
    for request in rivals:
        held[request.tenant] += weigh(request)
    last = max(rivals, key=lambda r: (held[r.tenant], r.tenant, r.arrival), default=None)
    if last is None or last.tenant == newcomer.tenant:
        return None
    is_fair = held[last.tenant] - weigh(last) >= held[newcomer.tenant] + claim
    return last if is_fair else None


def worst(running: Iterable[Request], cache: Cache) -> Request:
    """Who gives its pages back when there are too few: of the lowest priority the tenant with the most slots,
    of its requests the latest arrival.

    Who has given way `PATIENCE` times does so by arrival alone, after those of others. In the end that is
    every request, so the earliest arrival can have all pages, and nobody gives way for ever.
    """
    held: Counter[Account] = Counter()
    if len({request.account for request in running}) > 1:
        for request in running:
            if request.seq.metrics.num_preemptions < PATIENCE:
                held[request.account] += cache.length(request.seq)

    def badness(request: Request) -> tuple[int, int, int]:
        is_patient = request.seq.metrics.num_preemptions < PATIENCE
        return request.priority, held[request.account] if is_patient else 0, request.arrival

    return max(running, key=badness)


def may_displace(running: Iterable[Request], heads: Iterable[Request]) -> list[Request]:
    """Those of `heads` for which `surplus` would find a place among the running, all at once."""
    held = Counter(request.account for request in running)
    most: Counter[int] = Counter()
    for (priority, _), count in held.items():
        most[priority] = max(most[priority], count)
    return [head for head in heads if most[head.priority] >= held[head.account] + 2]

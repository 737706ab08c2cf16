"""Division of a step among tenants: what their streams may take (turns.py), and their prompts (fairness.py, pace.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from plait.iteration import fairness
from plait.iteration.base import Account, Request
from plait.iteration.pace import Pace, StepTime, share_due
from plait.iteration.queues import Queues
from plait.iteration.turns import Guess, Share, Turns, together
from plait.kvcache.base import Cache


class Division:
    """For each step `begin`, then `holds` and `spend` for every request that wants a part of it, unless `is_alone`: then
    nobody else does, and it may take all."""

    def __init__(self, cache: Cache, most: int) -> None:
        """most: positions of a step."""
        self._cache = cache
        self._most = most
        self._purse = fairness.Purse(most, divides=cache.keeps)
        self._turns = Turns()
        self.is_alone = False

    def streams(self, request: Request) -> bool:
        """Whether somebody waits for its next token, not for its prompt."""
        seq, second, planner = request.seq, request.seq.second, request.planner
        stored = self._cache.length(seq)
        if not (request.served or stored or planner.is_whole) or not planner.streams(seq, stored):
            return False
        return second is None or planner.streams(second, self._cache.length(second))

    def behind(self, request: Request) -> int:
        """Positions that it has to compute."""
        seq, second = request.seq, request.seq.second
        own = seq.length - self._cache.length(seq)
        return own if second is None else own + second.length - self._cache.length(second)

    def enter(self, request: Request) -> None:
        """A request that will want parts."""
        self._purse.widen(request.planner.smallest_window)

    def begin(
        self, running: Sequence[Request], waiting: Queues, max_running: int, pace: Pace | None
    ) -> None:
        """Begin a step, in which those in `waiting` may begin as far as places go."""
        self.is_alone = len(running) == 1 and not waiting.queues
        if self.is_alone:
            return
        streams: list[Request] = []
        prompts: list[Request] = []
        for request in running:
            (streams if self.streams(request) else prompts).append(request)
        time: StepTime = pace.time if pace else Guess()
        fed = self._turns.begin([(r, max(1, self.behind(r))) for r in streams], time)
        if not prompts and not waiting:
            return
        needs: Counter[Account] = Counter()
        for request in prompts:
            needs[request.account] += self.behind(request)
        if waiting:
            self._add_waiting(needs, running, waiting, max_running)
        if needs:
            places = max(0, max_running - len(running))
            due = self._due(streams, prompts, waiting, places)
            budget = self._prompt_budget(streams, fed, prompts, pace, due)
            self._purse.fill(needs, {request.tenant for request in streams}, budget)

    def beside(self, running: Sequence[Request], pace: Pace | None) -> int:
        """Positions of a prompt that would fit into a step with the running requests."""
        streams = [request for request in running if self.streams(request)]
        fed = together([(request, max(1, self.behind(request))) for request in streams])
        return self._prompt_budget(streams, fed, [], pace)

    def open(self) -> None:
        """Let everybody take what the step has: nobody's part was enough."""
        self._purse.open()
        self._turns.open()

    def holds(self, request: Request, *, is_prompt: bool) -> int:
        """Positions that a request may take."""
        if is_prompt:
            return self._purse.holds(request.account)
        return self._most if self._turns.allows(request) else 0

    def spend(self, request: Request, count: int, *, is_prompt: bool) -> None:
        """A request takes `count` positions."""
        if is_prompt:
            self._purse.spend(request.account, count)
        else:
            self._turns.spend(request, count)

    def _add_waiting(
        self, needs: Counter[Account], running: Sequence[Request], waiting: Queues, most: int
    ) -> None:
        """What accounts could use for requests that wait: nothing, where no place is to be had for them."""
        heads = waiting.heads()
        if len(running) >= most:
            heads = fairness.may_displace(running, heads)
        for head in heads:
            needs[head.account] += waiting.need(head.account, self._most)

    def _due(
        self, streams: list[Request], prompts: list[Request], waiting: Queues, places: int
    ) -> float:
        """What prompts are due of a step, those among them that would find a place in it."""
        counts = Counter(request.tenant for request in prompts)
        for head in waiting.heads() if places else ():
            counts[head.tenant] += min(places, waiting.count(head.account))
        return share_due(Counter(request.tenant for request in streams), counts)

    def _prompt_budget(
        self,
        streams: list[Request],
        fed: Share,
        prompts: list[Request],
        pace: Pace | None,
        due: float = 0.0,
    ) -> int:
        if pace is None or not streams:
            return self._most
        context = sum(self._cache.length(r.seq) for r in prompts) // max(1, len(prompts))
        budget = pace.prompt_budget(fed.load, fed.num_streams, context, self._most, due)
        return max(budget, *(request.planner.smallest_window for request in streams))

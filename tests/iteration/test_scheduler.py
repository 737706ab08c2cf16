"""The scheduler: budget, order, memory, fairness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from plait.core import registry
from plait.core.config import PAGE
from plait.core.errors import CapacityError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.traits import Traits
from plait.core.window import Update
from plait.decoding.sample import Decoder
from plait.iteration.base import Job, Options, Planner, Request
from plait.iteration.pace import Pace
from plait.iteration.scheduler import Scheduler
from plait.kvcache.pool import Pool
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, LAYOUT, MASK


def scheduler(
    *,
    budget: int = 64,
    seqs: int = 16,
    num_pages: int = 64,
    cache: str = "paged",
    pace: Pace | None = None,
) -> Scheduler:
    made = registry.load("kvcache", cache).Cache(Pool(LAYOUT, num_pages))
    return Scheduler(made, max_num_batched_tokens=budget, max_num_seqs=seqs, pace=pace)


def planner_for(traits: Traits) -> Planner:
    name = "block" if traits is BLOCK_TRAITS else "autoregressive"
    module = registry.load("iteration", name)
    made: Planner = module.Planner(module.Options(), traits)
    return made


def request(
    key: int,
    prompt: int,
    output: int = 8,
    *,
    priority: int = 0,
    tenant: str = "",
    traits: Traits = CAUSAL_TRAITS,
) -> Request:
    seq = Sequence(
        key,
        np.zeros(prompt, np.int32),
        SamplingParams(max_tokens=output),
        limit=prompt + output,
        seed=key,
    )
    planner = planner_for(traits)
    planner.admit(seq)
    return Request(seq, planner, Decoder(Options(), traits), priority, tenant)


def absorb(plan: Scheduler, jobs: Iterable[Job], rng: np.random.Generator | None = None) -> None:
    """What the engine does after a forward, with a look at the books."""
    apply(plan, jobs, rng)
    plan.cache.check()


def apply(plan: Scheduler, jobs: Iterable[Job], rng: np.random.Generator | None = None) -> None:
    """Write some targets, drop who has finished."""
    for job in jobs:
        seq, targets = job.request.seq, job.window.targets
        if rng is not None and len(targets) > 1:
            targets = np.sort(
                rng.choice(targets, int(rng.integers(1, len(targets))), replace=False)
            )
        update = Update(targets, np.ones(len(targets), np.int32))
        plan.cache.stored(seq, job.window)
        seq.apply(update, MASK)
        job.request.planner.absorb(seq, job.window, update)
        if seq.is_complete:
            plan.remove(job.request)


def sizes(jobs: Iterable[Job]) -> dict[int, int]:
    return {job.request.seq.request_id: job.window.length for job in jobs}


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert scheduler().plan() == []


def test_a_long_prompt_takes_what_the_others_leave() -> None:
    plan = scheduler(budget=20)
    for key in range(4):
        plan.add(request(key, 2))
    absorb(plan, plan.plan())
    plan.add(request(9, 100))
    jobs = plan.plan()
    assert sizes(jobs) == {0: 1, 1: 1, 2: 1, 3: 1, 9: 16}
    absorb(plan, jobs)
    # In the next step too the small windows come first.
    assert sizes(plan.plan()) == {0: 1, 1: 1, 2: 1, 3: 1, 9: 16}


def test_several_prompts_share_a_step_in_order_of_arrival() -> None:
    plan = scheduler(budget=25)
    for key in range(4):
        plan.add(request(key, 10))
    assert sizes(plan.plan()) == {0: 10, 1: 10, 2: 5}


def test_priority_goes_before_arrival() -> None:
    plan = scheduler(budget=10)
    plan.add(request(0, 10, priority=1))
    plan.add(request(1, 10, priority=0))
    plan.add(request(2, 10, priority=1))
    jobs = plan.plan()
    assert sizes(jobs) == {1: 10}
    absorb(plan, jobs)
    assert sizes(plan.plan()) == {1: 1, 0: 9}


def test_no_more_run_than_may() -> None:
    plan = scheduler(seqs=2)
    for key in range(4):
        plan.add(request(key, 4, output=1))
    jobs = plan.plan()
    assert sizes(jobs) == {0: 4, 1: 4}
    assert len(plan.waiting) == 2
    absorb(plan, jobs)
    assert sizes(plan.plan()) == {2: 4, 3: 4}


def test_memory_admits_whole_canvases_only() -> None:
    plan = scheduler(budget=500, num_pages=5)
    plan.add(request(0, 3 * PAGE))
    plan.add(request(1, 3 * PAGE))
    assert sizes(plan.plan()) == {0: 3 * PAGE}
    assert plan.cache.length(next(iter(plan.waiting)).seq) == 0


def test_who_never_fits_is_refused_with_both_numbers() -> None:
    plan = scheduler(num_pages=2)
    with pytest.raises(CapacityError, match=f"{2 * PAGE + 1} slots.* {2 * PAGE}"):
        plan.check(request(0, PAGE, output=PAGE + 1))
    whole = scheduler(budget=40, cache="none")
    with pytest.raises(CapacityError, match="41.*40"):
        whole.check(request(0, 40, output=1))
    plan.check(request(0, PAGE, output=PAGE))
    whole.check(request(0, 39, output=1))


def test_the_latest_arrival_gives_its_pages_back() -> None:
    plan = scheduler(budget=500, num_pages=4)
    for key in range(2):
        plan.add(request(key, 2 * PAGE, output=PAGE))
    absorb(plan, plan.plan())
    jobs = plan.plan()  # both need a third page, and there is none
    assert sizes(jobs) == {0: 1}
    assert [r.seq.request_id for r in plan.waiting] == [1]
    assert plan.num_preemptions == 1
    assert next(iter(plan.waiting)).seq.metrics.num_preemptions == 1
    for _ in range(PAGE - 1):
        absorb(plan, jobs)
        jobs = plan.plan()
    assert sizes(jobs) == {1: 2 * PAGE + 1}  # the first is done; its canvas is computed again


def test_a_lower_priority_is_preempted_before_a_later_arrival() -> None:
    plan = scheduler(budget=500, num_pages=6)
    plan.add(request(0, 2 * PAGE, output=PAGE, priority=5))
    plan.add(request(1, 2 * PAGE, output=PAGE))
    plan.add(request(2, 2 * PAGE, output=PAGE))
    absorb(plan, plan.plan())
    assert sizes(plan.plan()) == {1: 1, 2: 1}


def test_a_preempted_request_is_the_first_to_come_back() -> None:
    plan = scheduler(budget=500, seqs=2)
    for key in range(4):
        plan.add(request(key, 5))
    absorb(plan, plan.plan())
    victim = plan.running[0]
    plan.preempt(victim)
    assert [r.seq.request_id for r in plan.waiting] == [0, 2, 3]
    assert sizes(plan.plan()) == {1: 1, 0: 6}


def test_the_worst_request_waits_with_what_it_has() -> None:
    plan = scheduler(budget=500, num_pages=5)
    plan.add(request(0, 3 * PAGE - 4, output=4))
    plan.add(request(1, 2 * PAGE, output=4))
    absorb(plan, plan.plan())
    while 0 in sizes(jobs := plan.plan()):  # the first has room in its page, the second has not
        assert sizes(jobs) == {0: 1}
        assert plan.is_short_of_memory
        absorb(plan, jobs)
    assert sizes(jobs) == {1: 1}
    assert plan.num_preemptions == 0


def test_memory_that_shrank_ends_a_request_alone() -> None:
    plan = scheduler(num_pages=3)
    plan.add(request(0, 2 * PAGE - 1, output=5))
    jobs = plan.plan()
    while jobs:
        if plan.cache.num_free_slots:
            stolen = plan.cache.pool.allocate()
            assert stolen is not None
        for job in jobs:
            targets = job.window.targets
            plan.cache.stored(job.request.seq, job.window)
            job.request.seq.apply(Update(targets, np.ones(len(targets), np.int32)))
            job.request.planner.absorb(job.request.seq, job.window, Update())
        jobs = plan.plan()
    [(refused, error)] = plan.refused
    assert refused.seq.request_id == 0
    assert isinstance(error, CapacityError)
    assert not plan.has_work


def test_a_fork_starts_with_its_parents_slots() -> None:
    plan = scheduler()
    parent = request(0, 40)
    plan.add(parent)
    absorb(plan, plan.plan())
    child = Request(parent.seq.fork(1, seed=1), parent.planner, parent.decoder)
    plan.adopt(child, parent)
    assert plan.cache.length(child.seq) == 40
    assert sizes(plan.plan()) == {0: 1, 1: 1}


def test_what_admissions_find_in_the_cache_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = scheduler(seqs=3)
    found = iter([0, 12, 7])
    monkeypatch.setattr(plan.cache, "match", lambda seq: next(found))
    for key in range(3):
        plan.add(request(key, 20))
    plan.plan()
    assert (plan.num_prefix_hits, plan.num_prefix_tokens) == (2, 19)
    assert [r.seq.metrics.num_cached_tokens for r in plan.running] == [0, 12, 7]


def test_a_fork_waits_when_there_is_no_place() -> None:
    plan = scheduler(seqs=1)
    parent = request(0, 40)
    plan.add(parent)
    absorb(plan, plan.plan())
    child = Request(parent.seq.fork(1, seed=1), parent.planner, parent.decoder)
    plan.adopt(child, parent)
    assert list(plan.waiting) == [child]
    assert plan.cache.length(child.seq) == 0


def test_without_a_cache_windows_are_whole_and_take_turns() -> None:
    plan = scheduler(budget=50, cache="none")
    for key in range(3):
        plan.add(request(key, 20, output=4))
    served: list[int] = []
    while plan.has_work:
        jobs = plan.plan()
        assert all(job.window.start == 0 for job in jobs)
        assert sum(sizes(jobs).values()) <= 50
        served += sizes(jobs)
        absorb(plan, jobs)
    assert sorted(served) == [0] * 4 + [1] * 4 + [2] * 4


@pytest.mark.parametrize("traits", [CAUSAL_TRAITS, BLOCK_TRAITS], ids=["causal", "block"])
@pytest.mark.parametrize("cache", ["paged", "none"])
@pytest.mark.parametrize("seed", range(8))
def test_random_loads_come_to_an_end_within_the_budget_and_in_turn(
    traits: Traits, cache: str, seed: int
) -> None:
    """Little memory, little budget, requests that come at any time: everybody gets on."""
    rng = np.random.default_rng(seed)
    budget = int(rng.integers(9, 80)) if cache == "paged" else 130
    plan = scheduler(
        budget=budget,
        seqs=int(rng.integers(1, 8)),
        num_pages=int(rng.integers(5, 12)),
        cache=cache,
    )
    todo = [
        request(key, int(rng.integers(1, 90)), int(rng.integers(1, 30)), traits=traits)
        for key in range(25)
    ]
    left_out: dict[int, int] = {}
    steps = 0
    while todo or plan.has_work:
        if todo and rng.random() < 0.5:
            plan.check(todo[-1])
            plan.add(todo.pop())
        running = {r.seq.request_id for r in plan.running}
        jobs = plan.plan()
        assert not plan.refused
        assert sum(job.window.length for job in jobs) <= budget
        assert len(plan.running) <= plan.max_num_seqs
        assert len({job.request.seq.request_id for job in jobs}) == len(jobs)
        if plan.is_short_of_memory:
            left_out.clear()  # who comes last waits for the others to end
        else:
            _note_who_was_left_out(left_out, running, jobs)
            # Every step serves at least whoever is first in line.
            assert max(left_out.values(), default=0) <= plan.max_num_seqs
        absorb(plan, jobs, rng)
        steps += 1
        assert steps < 20_000
    assert plan.cache.num_free_slots == plan.cache.num_slots


def _note_who_was_left_out(left_out: dict[int, int], running: set[int], jobs: list[Job]) -> None:
    served = {job.request.seq.request_id for job in jobs}
    for key in list(left_out):
        if key not in running:
            del left_out[key]
    for key in running:
        left_out[key] = 0 if key in served else left_out.get(key, 0) + 1


def test_the_best_request_finishes_as_if_it_were_alone() -> None:
    """Whatever comes later can cost the first arrival no step."""

    def steps_of_first(others: int) -> int:
        plan = scheduler(budget=64, num_pages=8, seqs=8)
        first = request(0, 100, output=40)
        plan.add(first)
        for key in range(1, 1 + others):
            plan.add(request(key, 60, output=60))
        steps = 0
        while not first.seq.is_complete:
            absorb(plan, plan.plan())
            steps += 1
        return steps

    assert steps_of_first(20) == steps_of_first(0)


def test_planning_is_the_same_every_time() -> None:
    def trace() -> list[dict[int, int]]:
        plan = scheduler(budget=30, num_pages=7)
        rng = np.random.default_rng(5)
        for key in range(10):
            plan.add(request(key, int(rng.integers(1, 60)), 10))
        steps: list[dict[int, Any]] = []
        while plan.has_work:
            jobs = plan.plan()
            steps.append(sizes(jobs))
            absorb(plan, jobs)
        return steps

    assert trace() == trace()

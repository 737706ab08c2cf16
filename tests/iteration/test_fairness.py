"""Fairness between tenants. Everything that has to do with time is SIMULATED (simulation.py)."""

from __future__ import annotations

import itertools

import pytest

from plait.core.config import PAGE, EngineConfig
from plait.iteration.fairness import PATIENCE, Purse, max_min, may_displace, shares, surplus
from plait.iteration.pace import Pace
from tests.iteration.simulation import Cost, Make, Simulation, percentile
from tests.iteration.test_scheduler import absorb, request, scheduler, sizes

STRETCH = EngineConfig().max_step_stretch
MIX = [("a", 0)] * 4 + [("b", 0)] * 2 + [("c", 0)] * 3 + [("a", 1)] * 2 + [("b", 1)]


def test_max_min_gives_what_one_leaves_to_the_others() -> None:
    assert max_min({"a": 10, "b": 100, "c": 200}, 130) == {"a": 10, "b": 60, "c": 60}
    assert max_min({"a": 1, "b": 2}, 100) == {"a": 1, "b": 2}


def test_urgent_priorities_are_served_first() -> None:
    needs = {(0, "a"): 30, (1, "a"): 100, (1, "b"): 100}
    assert shares(needs, set(), 70) == {(0, "a"): 30, (1, "a"): 20, (1, "b"): 20}


def test_a_tenant_that_only_streams_takes_its_share_by_leaving_it() -> None:
    assert shares({(0, "a"): 100}, {"a"}, 90) == {(0, "a"): 90}
    assert shares({(0, "a"): 100}, {"a", "b", "c"}, 90) == {(0, "a"): 30}


def test_what_is_too_little_for_a_window_is_saved_up() -> None:
    purse = Purse(100, divides=False)
    needs = dict.fromkeys([(0, "a"), (0, "b"), (0, "c")], 50)
    held = []
    for _ in range(3):
        purse.fill(needs, set(), 1)
        held.append(purse.holds((0, "a")))
    assert held == [0, 0, 1]
    purse.spend((0, "a"), 1)
    purse.fill(needs, set(), 300)
    assert purse.holds((0, "a")) == 50
    for _ in range(10):
        purse.fill(needs, set(), 60)
    assert purse.holds((0, "a")) == 60  # all of a step, though it has saved up more
    purse.spend((0, "b"), 50)
    assert purse.holds((0, "a")) == 10
    purse.spend((0, "a"), 10)
    purse.fill(needs, set(), 300)
    assert purse.holds((0, "a")) == 150  # a share, and no more than may be saved up
    purse.fill({(0, "b"): 5}, set(), 300)
    assert purse.holds((0, "a")) == 0


def test_no_more_is_saved_up_than_a_window_that_is_not_divided() -> None:
    purse = Purse(100, divides=True)
    needs = dict.fromkeys([(0, "a"), (0, "b")], 50)
    for window, held in ((1, 11), (8, 18), (4, 18)):
        purse.widen(window)
        for _ in range(5):
            purse.fill(needs, set(), 20)
        assert purse.holds((0, "a")) == held


def test_prompts_of_two_tenants_share_a_step() -> None:
    plan = scheduler(budget=60)
    for key in range(5):
        plan.add(request(key, 100, tenant="greedy"))
    plan.add(request(9, 100, tenant="modest"))
    assert sizes(plan.plan()) == {0: 30, 9: 30}


def test_a_tenant_that_needs_little_leaves_the_rest_to_the_other() -> None:
    plan = scheduler(budget=60)
    plan.add(request(0, 100, tenant="a"))
    plan.add(request(1, 10, tenant="b"))
    assert sizes(plan.plan()) == {0: 50, 1: 10}


def test_computed_positions_are_shared_over_time_whatever_the_number_of_requests() -> None:
    sim = Simulation(scheduler(budget=50, seqs=8, num_pages=200))
    for _ in range(20):
        sim.client(lambda key: request(key, 300, 1, tenant="many"))
    sim.client(lambda key: request(key, 40, 1, tenant="few"))
    sim.client(lambda key: request(key, 60, 1, tenant="few"))
    sim.run(300)
    computed = sim.computed()
    assert computed["few"] == pytest.approx(computed["many"], rel=0.1)


def test_a_full_house_makes_room_for_a_tenant_without_a_place() -> None:
    plan = scheduler(seqs=4, budget=500)
    for key in range(8):
        plan.add(request(key, 10, 50, tenant="first"))
    absorb(plan, plan.plan())
    assert len(plan.running) == 4
    for key in range(10, 14):
        plan.add(request(key, 10, 50, tenant="second"))
    absorb(plan, plan.plan())
    places = [r.tenant for r in plan.running]
    assert (places.count("first"), places.count("second")) == (2, 2)
    assert plan.num_preemptions == 2
    for _ in range(20):
        absorb(plan, plan.plan())
    assert plan.num_preemptions == 2  # nobody is driven out in return


def test_who_may_displace_is_told_for_all_at_once_as_for_each() -> None:
    running = [request(k, 1, tenant=t, priority=p) for k, (t, p) in enumerate(MIX)]
    heads = [request(50 + k, 1, tenant=t, priority=p) for k, (t, p) in enumerate(sorted(set(MIX)))]
    heads += [request(90, 1, tenant="new"), request(91, 1, tenant="new", priority=1)]
    each = [head for head in heads if surplus(running, head, lambda _: 1, 1)]
    assert may_displace(running, heads) == each
    assert 0 < len(each) < len(heads)


def test_full_memory_makes_room_for_a_tenant_that_holds_less() -> None:
    plan = scheduler(num_pages=12, budget=500)
    for key in range(3):
        plan.add(request(key, 4 * PAGE - 1, 1 + PAGE, tenant="first"))
    absorb(plan, plan.plan())
    plan.add(request(9, 2 * PAGE, tenant="second"))
    jobs = plan.plan()
    assert 9 in sizes(jobs)
    assert {r.seq.request_id for r in plan.waiting} == {2}


def test_a_tenants_last_request_is_not_driven_out() -> None:
    plan = scheduler(num_pages=12, budget=500, seqs=1)
    plan.add(request(0, 10 * PAGE, 20, tenant="first"))
    absorb(plan, plan.plan())
    plan.add(request(1, 4 * PAGE, 1, tenant="second"))
    assert sizes(plan.plan()) == {0: 1}
    assert plan.num_preemptions == 0


def test_when_pages_run_out_the_tenant_with_most_gives_some_back() -> None:
    plan = scheduler(num_pages=6, budget=500)
    plan.add(request(0, 2 * PAGE, PAGE, tenant="first"))
    plan.add(request(1, 2 * PAGE, PAGE, tenant="first"))
    plan.add(request(2, 2 * PAGE, PAGE, tenant="second"))
    absorb(plan, plan.plan())
    assert set(sizes(plan.plan())) == {0, 2}  # by arrival alone it would have been 2


def test_who_has_given_way_often_does_so_by_arrival_alone() -> None:
    plan = scheduler(num_pages=6, budget=500)
    plan.add(request(0, 2 * PAGE, PAGE, tenant="first"))
    plan.add(request(1, 2 * PAGE, PAGE, tenant="first"))
    plan.add(request(2, 2 * PAGE, PAGE, tenant="second"))
    absorb(plan, plan.plan())
    for one in plan.running:
        if one.tenant == "first":
            one.seq.metrics.num_preemptions = PATIENCE
    assert set(sizes(plan.plan())) == {0, 1}


def test_large_and_small_requests_of_many_tenants_come_to_an_end_in_little_memory() -> None:
    """The large one alone takes nearly all pages, and the small ones never stop coming."""
    sim = Simulation(scheduler(budget=100, seqs=6, num_pages=12))
    sim.client(lambda key: request(key, 5 * PAGE, 6 * PAGE, tenant="large"))
    for tenant in ("a", "b", "c"):
        for _ in range(2):
            sim.client(lambda key, tenant=tenant: request(key, 20, 50, tenant=tenant))  # type: ignore[misc]
    sim.run(6000)
    ended = [key for key, times in sim.times.items() if len(times.tokens) == 6 * PAGE]
    assert ended
    assert {sim.tenants[key] for key in ended} == {"large"}
    for tenant in ("a", "b", "c"):
        assert len(sim.per_token(tenant)) > 50


def victims(plan_seqs: int, fourth: Make, *, clients: int) -> Simulation:
    """Three tenants with four clients each, and a fourth that sends what it likes."""
    sim = Simulation(
        scheduler(budget=512, seqs=plan_seqs, num_pages=2000, pace=Pace(Cost(), STRETCH))
    )
    for _ in range(clients):
        sim.client(fourth)
    for tenant in ("a", "b", "c"):
        for client in range(4):
            sim.client(small(tenant, 60 + 7 * client))
    sim.run(1200)
    return sim


def small(tenant: str, prompt: int) -> Make:
    return lambda key: request(key, prompt, 40, tenant=tenant)


@pytest.mark.parametrize("seqs", [16, 12])
def test_an_attacker_costs_the_others_no_more_than_their_share(seqs: int) -> None:
    """Simulated. Fair is what they have when the fourth tenant behaves as they do, four clients.

    The attacker has 60 requests under way, of 3,000 tokens each, prompts of 2,000.
    """
    fair = victims(seqs, small("d", 70), clients=4)
    attack = victims(seqs, lambda key: request(key, 2000, 1000, tenant="d"), clients=60)
    for tenant in ("a", "b", "c"):
        pair = [percentile(sim.per_token(tenant), 0.99) for sim in (attack, fair)]
        assert pair[0] <= 1.2 * pair[1]
        assert len(attack.per_token(tenant)) > 40
    assert attack.computed()["d"] > 0.1 * sum(attack.computed().values())  # it is served, too


def test_an_attacker_is_no_worse_off_than_the_others_make_it() -> None:
    """Simulated: alone, the same requests have the whole machine."""
    sim = Simulation(scheduler(budget=512, seqs=4, num_pages=2000, pace=Pace(Cost(), STRETCH)))
    first = sim.send(lambda key: request(key, 2000, 4, tenant="d"))
    sim.run(10)
    assert [step[first] for step in itertools.islice(sim.steps, 4)] == [512, 512, 512, 464]


@pytest.mark.parametrize("is_paced", [True, False])
@pytest.mark.parametrize(
    ("seqs", "num_pages"), [(16, 2000), (16, 300), (64, 250), (64, 120), (4, 120)]
)
def test_who_comes_to_a_house_full_of_an_attacker_is_let_in_at_once(
    seqs: int, num_pages: int, is_paced: bool
) -> None:
    """Whatever is full, places or memory, at whatever moment."""
    pace = Pace(Cost(), STRETCH) if is_paced else None
    sim = Simulation(scheduler(budget=512, seqs=seqs, num_pages=num_pages, pace=pace))
    for _ in range(70):
        sim.client(lambda key: request(key, 2000, 1000, tenant="d"))
    sim.run(60)
    for number in range(60):
        sim.run(3 + number % 11)
        before = len(sim.steps)
        tenant = f"v{number % 3}"
        key = sim.send(lambda key, own=tenant: request(key, 60, 3, tenant=own))  # type: ignore[misc]
        sim.run(30)
        assert key in {*sim.steps[before], *sim.steps[before + 1]}
        assert len(sim.times[key].tokens) == 3


def test_memory_that_is_short_in_every_step_keeps_nobody_out() -> None:
    """The last request wants a page for its next token again and again, and there is none."""
    plan = scheduler(num_pages=4, budget=500)
    plan.add(request(0, PAGE + 1, 20, tenant="first"))
    plan.add(request(1, 2 * PAGE, 20, tenant="first"))
    absorb(plan, plan.plan())
    for _ in range(3):
        absorb(plan, plan.plan())
        assert plan.is_short_of_memory
    plan.add(request(8, PAGE // 2, 4, tenant="first"))
    assert set(sizes(plan.plan())) == {0}  # not for one's own sake
    plan.add(request(9, PAGE // 2, 4, tenant="second"))
    assert set(sizes(plan.plan())) == {0, 9}

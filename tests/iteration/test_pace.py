"""How many prompt positions ride along. The times are SIMULATED (simulation.py)."""

from __future__ import annotations

import pytest

from plait.iteration import division
from plait.iteration.pace import LEAST, MOST_DUE, Load, Pace, share_due
from tests.fakes import BLOCK_TRAITS
from tests.iteration.simulation import Cost, Simulation
from tests.iteration.test_scheduler import absorb, request, scheduler, sizes


@pytest.mark.parametrize("stretch", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("streams", [1, 8, 32])
def test_the_budget_is_the_most_that_keeps_the_step_in_time(stretch: float, streams: int) -> None:
    pace = Pace(Cost(), stretch)
    load = Load(streams, streams * 700)
    count = pace.prompt_budget(load, streams, 1000, 512)
    bare = Cost().predict(streams, 700)

    def step(prompt: int) -> float:
        positions = streams + prompt
        return Cost().predict(positions, (streams * 700 + prompt * 1000) // positions)

    assert LEAST < count < 512
    assert step(count) <= stretch * bare < step(count + 1)


def test_a_prompt_always_gets_on_and_never_beyond_the_step() -> None:
    load = Load(4, 400)
    assert Pace(Cost(), 1.0).prompt_budget(load, 4, 0, 512) == LEAST
    assert Pace(Cost(), 1000.0).prompt_budget(load, 4, 0, 512) == 512
    assert Pace(Cost(), 1000.0).prompt_budget(load, 4, 0, 5) == 5


def test_a_long_prompt_cannot_stall_those_that_stream() -> None:
    """Simulated: 8 requests decode when a prompt of 1,500 tokens arrives; before that it would have been
    a step of 504 positions."""
    for stretch in (1.6, 3.0):
        sim = Simulation(scheduler(budget=512, num_pages=200, pace=Pace(Cost(), stretch)))
        keys = [sim.send(lambda key: request(key, 20, 400)) for _ in range(8)]
        sim.run(40)
        before = max(gap for key in keys for gap in sim.times[key].gaps[5:])
        long = sim.send(lambda key: request(key, 1500, 3))
        sim.run(200)
        after = max(gap for key in keys for gap in sim.times[key].gaps[5:])
        assert 0.8 * stretch * before < after < 1.1 * stretch * before
        assert len(sim.times[long].tokens) == 3


def test_without_a_measurement_a_prompt_takes_what_is_left() -> None:
    plan = scheduler(budget=512, num_pages=200)
    plan.add(request(0, 2, 50))
    absorb(plan, plan.plan())
    plan.add(request(1, 1500))
    assert sizes(plan.plan()) == {0: 1, 1: 511}


def test_alone_a_prompt_takes_the_largest_chunk() -> None:
    plan = scheduler(budget=512, num_pages=200, pace=Pace(Cost(), 1.0))
    plan.add(request(0, 1500))
    assert sizes(plan.plan()) == {0: 512}


def test_a_block_gets_its_smallest_window_at_any_pace() -> None:
    plan = scheduler(budget=512, num_pages=200, pace=Pace(Cost(), 1.0))
    plan.add(request(0, 3, 50, traits=BLOCK_TRAITS))
    absorb(plan, plan.plan())
    plan.add(request(1, 300, traits=BLOCK_TRAITS))
    assert sizes(plan.plan()) == {0: 16, 1: 8}  # two blocks: one to store, one to decide


def test_one_prompt_is_due_nothing_and_many_their_part() -> None:
    assert share_due({"": 8}, {"": 1}) == 0
    assert share_due({"": 1}, {"": 4}) == pytest.approx(3 / 5)
    assert share_due({"": 1}, {"": 1000}) == MOST_DUE
    assert share_due({}, {}) == 0


def test_a_tenant_loses_no_more_to_the_prompts_of_another_than_a_tenants_part() -> None:
    assert share_due({"victim": 4}, {"attacker": 500}) < 1 / 2
    assert share_due({"a": 1, "b": 9, "c": 3}, {"attacker": 500}) < 1 / 4


def test_many_prompts_at_once_are_not_fed_in_crumbs_beside_a_few_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Simulated: 16 requests of one tenant come together; with crumbs it was 1.81 s instead of 1.52."""

    def seconds() -> float:
        sim = Simulation(scheduler(budget=512, num_pages=400, pace=Pace(Cost(), 1.6)))
        keys = [sim.send(lambda key: request(key, 200, 40)) for _ in range(16)]
        sim.run(400)
        assert all(len(sim.times[key].tokens) == 40 for key in keys)
        return sim.now

    ours = seconds()
    monkeypatch.setattr(division, "share_due", lambda streams, prompts: 0.0)
    assert ours < 0.9 * seconds()

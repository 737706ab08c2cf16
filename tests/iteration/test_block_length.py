"""Blocks and windows from what a step costs: the rule worked out by hand, and a planner that follows it."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from plait.core.config import EngineConfig
from plait.core.params import SamplingParams
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.iteration import block_length
from plait.iteration.canvas import Planner
from plait.kvcache.pool import Pool
from tests.fakes import FULL_TRAITS, LAYOUT, FakeRunner, drain, make_engine


class Line(NamedTuple):
    """Seconds of a step: `least`, and `each` for every position beyond `free`."""

    least: float
    each: float
    free: int = 0

    def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
        return self.least + self.each * max(0, num_tokens - self.free)


@pytest.mark.parametrize(("size", "count"), [(1, 1), (2, 2), (4, 4), (8, 7), (32, 12), (64, 14)])
def test_steps_follow_the_rule(size: int, count: int) -> None:
    """8 are decided as 2, 1.5, 1.125, 1, 1, 1 and the rest."""
    assert block_length.steps(size) == count


def test_the_cost_of_a_token_is_that_of_a_refresh_and_of_the_steps() -> None:
    time = Line(least=1.0, each=0.5)
    expected = (1 + 0.5 * block_length.CANVAS + 6 * (1 + 0.5 * 12)) / 8
    assert block_length.seconds(time, 8, 4) == pytest.approx(expected)


def test_where_positions_are_free_blocks_are_long_and_where_they_cost_shorter() -> None:
    chosen = [
        block_length.fastest(time, 0)
        for time in (
            Line(1.0, 0.0),
            Line(1.0, 0.01, 512),
            Line(0.1, 0.1, 500),
            Line(0.001, 1.0, 500),
        )
    ]
    assert chosen[:3] == [64, 64, 64]
    # A refresh costs 12 and a step its length: 4 + 3 x 4 of 4, 12 + 6 x 8 of 8, ...
    each = [block_length.seconds(Steep(), size, 0) for size in block_length.SIZES]
    assert block_length.fastest(Steep(), 0) == block_length.SIZES[each.index(min(each))] == 8


class Steep:
    """A step costs what it feeds beyond 4 positions, and a refresh nearly as much as a few of them."""

    def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
        return 40.0 if num_tokens > 256 else 1 + 1.5 * max(0, num_tokens - 4)


def test_a_window_is_as_wide_as_it_is_nearly_free() -> None:
    assert block_length.widest(Line(1.0, 0.0), 16) == 32
    assert block_length.widest(Line(1.0, 1.0, 48), 16) == 16
    assert block_length.widest(Line(0.0, 1.0), 16) == 4


def engine_with(time: Any, **options: str) -> Engine:
    pool = Pool(LAYOUT, 64)
    config = EngineConfig("fake", max_num_batched_tokens=2048, options=options)
    return assemble(config, FakeRunner(pool, FULL_TRAITS), FULL_TRAITS, pool, time=time)


def planner(time: Any, **options: str) -> Planner:
    own = engine_with(time, **options).own_planner
    assert isinstance(own, Planner)
    return own


def test_a_planner_takes_what_was_measured_unless_it_is_told() -> None:
    flat = Line(1.0, 0.0)
    assert planner(flat, reuse="dual").block_size == 64
    assert planner(flat, reuse="vicinity").looks == (32, 32)
    assert planner(flat, reuse="vicinity", look_ahead="3").looks == (32, 3)
    assert planner(flat, reuse="dual", block_size="5").block_size == 5
    assert planner(Steep(), reuse="dual").block_size == 8
    for reuse in ("none", "prefix"):
        assert planner(flat, reuse=reuse).block_size == 32
    unmeasured = planner(None, reuse="vicinity")
    assert (unmeasured.block_size, unmeasured.looks) == (32, (16, 16))


def test_it_says_what_it_chose_and_why() -> None:
    (line,) = planner(Steep(), reuse="dual").words
    assert line.startswith("blocks of 8 positions, from the measured cost of a step")
    assert "with 4" in line
    assert (
        "64 positions, 32 before and 32 behind"
        in planner(Line(1.0, 0.0), reuse="vicinity").words[0]
    )
    assert planner(Steep(), reuse="none").words == ()
    assert planner(Steep(), reuse="dual", block_size="8").words == ()
    assert planner(None, reuse="dual").words == ()


def test_the_choice_is_what_saying_so_gives() -> None:
    params = SamplingParams(max_tokens=40, temperature=1.0, seed=1, ignore_eos=True)
    chosen = engine_with(Steep(), reuse="dual")
    chosen.add([1, 2, 3], params)
    told = make_engine(
        FULL_TRAITS, max_num_batched_tokens=2048, options={"reuse": "dual", "block_size": "8"}
    )
    told.add([1, 2, 3], params)
    other = engine_with(Line(1.0, 0.0), reuse="dual")
    other.add([1, 2, 3], params)
    tokens = [drain(engine)[0].tokens for engine in (chosen, told, other)]
    assert tokens[0] == tokens[1] != tokens[2]


def test_a_request_of_its_own_options_is_served_the_same_way() -> None:
    engine = engine_with(Steep())
    engine.add([1, 2, 3], SamplingParams(max_tokens=9), options={"reuse": "dual"})
    (request,) = engine.requests
    assert isinstance(request.planner, Planner)
    assert request.planner.block_size == 8

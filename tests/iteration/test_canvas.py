"""The canvas planner: which slots it feeds, which rows it wants, what it keeps, and where a block ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.traits import Predicts
from plait.core.window import NOTHING, PatternKind, Slot, Update, Window
from plait.iteration import blocks
from plait.iteration.canvas import Options, Planner
from plait.iteration.smoothing import SOFT
from tests.fakes import EOS, FULL_TRAITS, MASK


def planner(*, shifted: bool = False, **options: Any) -> Planner:
    predicts = Predicts.NEXT if shifted else Predicts.SAME
    return Planner(Options(**{"block_size": 8, **options}), replace(FULL_TRAITS, predicts=predicts))


def sequence(plan: Planner, prompt: int = 10, max_tokens: int = 20, **params: Any) -> Sequence:
    own = SamplingParams(max_tokens=max_tokens, **params)
    tokens = np.full(prompt, 3, np.int32)
    seq = Sequence(1, tokens, own, limit=prompt + max_tokens, seed=0)
    plan.admit(seq)
    return seq


def shape(window: Window | None) -> tuple[int, int, list[int]]:
    assert window is not None
    return window.start, window.end, window.targets.tolist()


def write(plan: Planner, seq: Sequence, *positions: int, token: int = 9, held: int = 0) -> None:
    window = plan.next(seq, held, 1000)
    assert window is not None
    update = Update(np.array(positions, np.int32), np.full(len(positions), token, np.int32))
    seq.apply(update, MASK)
    plan.absorb(seq, window, update)


def test_the_canvas_lies_open_to_its_end_and_blocks_count_from_the_prompt() -> None:
    plan = planner()
    seq = sequence(plan)
    assert seq.length == 30
    assert shape(plan.next(seq, 0, 1000)) == (0, 30, list(range(10, 18)))
    write(plan, seq, *range(10, 18))
    assert shape(plan.next(seq, 0, 1000)) == (0, 30, list(range(18, 26)))
    write(plan, seq, *range(18, 26))
    assert shape(plan.next(seq, 0, 1000)) == (0, 30, list(range(26, 30)))
    assert plan.next(seq, 0, 29) is None
    write(plan, seq, *range(26, 30))
    assert seq.is_complete


def test_what_is_final_ends_before_the_first_open_position() -> None:
    plan = planner()
    seq = sequence(plan)
    write(plan, seq, 10, 12)
    assert seq.final == 11
    write(plan, seq, 11, 13)
    assert seq.final == 14


def test_the_row_of_a_shifted_models_first_target_lies_before_the_block() -> None:
    plan = planner(shifted=True, reuse="dual")
    seq = sequence(plan)
    first = plan.next(seq, 0, 1000)
    assert first is not None
    assert (first.rows + 1 == first.targets).all()
    write(plan, seq, 10)
    window = plan.next(seq, 30, 1000)
    # The same slots in every step of the block, though position 10 is decided.
    assert shape(window) == (9, 18, list(range(11, 18)))
    assert window is not None
    assert window.rows.tolist() == list(range(1, 8))


def test_what_is_kept_is_approximate_and_seen_to_the_end() -> None:
    plan = planner(reuse="dual")
    seq = sequence(plan)
    refresh = plan.next(seq, 0, 1000)
    assert refresh is not None
    assert (refresh.keep, refresh.mark) == (30, Slot.APPROX)
    write(plan, seq, 12)
    window = plan.next(seq, 30, 1000)
    assert window is not None
    assert (window.keep, window.mark, window.reach) == (18, Slot.APPROX, 30)
    assert window.pattern.kind is PatternKind.FULL
    exact = planner().next(sequence(planner()), 0, 1000)
    assert exact is not None
    assert exact.keep == 0


def test_lost_slots_are_computed_from_the_canvas_of_the_last_refresh() -> None:
    plan = planner(reuse="dual")
    seq = sequence(plan)
    before = seq.tokens.copy()
    write(plan, seq, 12, 13)
    again = plan.next(seq, 0, 1000)
    assert again is not None
    assert shape(again) == (0, 30, [])
    assert again.tokens is not None
    assert again.tokens.tolist() == before.tolist()
    steps = seq.scratch["steps"]
    plan.absorb(seq, again, NOTHING)
    assert seq.scratch["steps"] == steps
    assert shape(plan.next(seq, 30, 1000)) == (10, 18, [10, 11, 14, 15, 16, 17])


def test_warm_up_and_period_are_refreshes() -> None:
    def kinds(**options: Any) -> list[str]:
        plan, found = planner(reuse="dual", **options), []
        seq = sequence(plan, max_tokens=16)
        for position in range(10, 26):
            window = plan.next(seq, 30, 1000)
            assert window is not None
            found.append("R" if window.length == seq.length else ".")
            write(plan, seq, position, held=30)
        return ["".join(found[:8]), "".join(found[8:])]

    assert kinds() == ["R.......", "R......."]
    assert kinds(refresh_every=3) == ["R..R..R.", "R..R..R."]
    assert kinds(warm_up=3) == ["RRR.....", "R......."]
    assert kinds(warm_up=10) == ["RRRRRRRR", "RR......"]


def test_early_stop_leaves_out_what_stands_behind_a_stop_token() -> None:
    plan = planner()
    seq = sequence(plan)
    write(plan, seq, 14, token=EOS)
    assert shape(plan.next(seq, 0, 1000))[2] == [10, 11, 12, 13]
    late = planner(early_stop=False)
    assert shape(late.next(seq, 0, 1000))[2] == [10, 11, 12, 13, 15, 16, 17]
    ignoring = sequence(plan, ignore_eos=True)
    write(plan, ignoring, 14, token=EOS)
    assert len(shape(plan.next(ignoring, 0, 1000))[2]) == 7
    held = sequence(plan, min_tokens=5)
    write(plan, held, 14, token=EOS)  # output token 4: too early to end anything
    assert len(shape(plan.next(held, 0, 1000))[2]) == 7
    write(plan, seq, 10, 11, 12, 13)
    assert shape(plan.next(seq, 0, 1000))[2] == [15, 16, 17]  # a driver that goes on all the same


def test_a_prompt_that_holds_a_stop_token_is_no_end() -> None:
    plan = planner()
    tokens = np.array([EOS, EOS, 4], np.int32)
    seq = Sequence(1, tokens, SamplingParams(max_tokens=8), limit=11, seed=0)
    plan.admit(seq)
    assert len(shape(plan.next(seq, 0, 1000))[2]) == 8


def test_blocks_open_one_after_the_other() -> None:
    plan = planner(open_blocks=2)
    seq = sequence(plan, max_tokens=30)
    assert seq.length == 26
    write(plan, seq, *range(10, 18))
    assert seq.length == 34
    write(plan, seq, *range(18, 26))
    assert seq.length == seq.limit == 40


def test_an_edited_block_is_final_when_it_has_come_to_rest() -> None:
    plan = planner()
    seq = sequence(plan, max_tokens=16)
    seq.edits = True
    positions = np.arange(10, 18, dtype=np.int32)
    for settled in (False, True):
        window = plan.next(seq, 0, 1000)
        assert shape(window)[2] == positions.tolist()
        assert window is not None
        update = Update(positions, positions, settled=settled)
        seq.apply(update, MASK)
        plan.absorb(seq, window, update)
        assert seq.final == (18 if settled else 10)
    assert shape(plan.next(seq, 0, 1000))[2] == list(range(18, 26))


def test_blocks_without_an_open_position_are_passed_over() -> None:
    plan = planner()
    params = SamplingParams(infill=[(2, 4), (27, 28)])
    seq = Sequence(1, np.full(40, 3, np.int32), params, limit=56, seed=0)
    plan.admit(seq)
    assert (seq.prompt_length, seq.final, seq.limit) == (2, 2, 40)
    assert shape(plan.next(seq, 0, 1000)) == (0, 40, [2, 3])
    write(plan, seq, 2, 3)
    assert shape(plan.next(seq, 0, 1000)) == (0, 40, [27])
    assert seq.scratch["opened"] == 1
    write(plan, seq, 27)
    assert seq.is_complete


def test_guidance_feeds_the_canvas_twice() -> None:
    plan = planner(guidance=2.0)
    seq = sequence(plan, prompt=3, max_tokens=4)
    window = plan.next(seq, 0, 1000)
    assert window is not None
    assert plan.span(seq) == window.end == 14
    assert window.tokens is not None
    assert window.tokens.tolist() == [3, 3, 3, *[MASK] * 4, *[MASK] * 7]
    assert window.rows.tolist() == [3, 4, 5, 6, 10, 11, 12, 13]
    assert window.targets.tolist() == [3, 4, 5, 6]
    assert window.positions is not None
    assert window.positions.tolist() == [*range(7), *range(7)]
    mask = window.pattern.mask
    assert mask is not None
    assert mask[:7, :7].all()
    assert mask[7:, 7:].all()
    assert not mask[:7, 7:].any()
    assert not mask[7:, :7].any()


def test_smoothing_feeds_what_is_still_open_with_a_growing_weight() -> None:
    plan = planner(smoothing=0.2, smoothing_start=0.1, smoothing_growth=0.06)
    seq = sequence(plan)
    assert plan.next(seq, 0, 1000)._replace(soft=None).remember == 8  # type: ignore[union-attr]
    positions = np.array([10, 11, 12], np.int32)
    tokens = np.array([[1, 2], [3, 4], [5, 6]], np.int32)
    shares = np.array([[0.5, 0.25], [0.5, 0.25], [0.5, 0.25]], np.float32)
    for weight in (0.1, 0.16, 0.2, 0.2):
        write(plan, seq, 11)
        seq.scratch[SOFT] = (positions, tokens, shares)
        window = plan.next(seq, 0, 1000)
        assert window is not None
        assert window.soft is not None
        assert window.soft.rows.tolist() == [10, 12]
        assert window.soft.tokens.tolist() == [[1, 2], [5, 6]]
        np.testing.assert_allclose(
            window.soft.weights, [[0.5 * weight, 0.25 * weight]] * 2, rtol=1e-6
        )
    write(plan, seq, 10, 12)
    window = plan.next(seq, 0, 1000)
    assert window is not None
    assert window.soft is None


def test_steps_are_counted_for_the_request_and_for_the_block() -> None:
    plan = planner()
    seq = sequence(plan)
    assert seq.scratch == {"block_steps": 0, "opened": 8}
    write(plan, seq, 10)
    write(plan, seq, *range(11, 18))
    assert (seq.scratch["steps"], seq.scratch["block_steps"], seq.scratch["opened"]) == (2, 0, 8)
    assert blocks.targets(seq, 18, 26, FULL_TRAITS, early_stop=True).tolist() == [*range(18, 26)]

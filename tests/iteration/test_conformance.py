"""What every planner promises (iteration/base.py), for each sibling by name.

The planner is driven by hand: budgets vary from step to step, slots get lost, tokens are written at random.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core import registry
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.traits import Predicts, Traits
from plait.core.window import NOTHING, PatternKind, Slot, Update, Window
from plait.iteration.base import Equipment, Planner
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, FULL_TRAITS, MASK, VOCAB

KINDS = {
    "causal": CAUSAL_TRAITS,
    "block": BLOCK_TRAITS,
    "block, next": replace(BLOCK_TRAITS, predicts=Predicts.NEXT),
    "full": FULL_TRAITS,
    "full, next": replace(FULL_TRAITS, predicts=Predicts.NEXT),
    "full, noise": replace(FULL_TRAITS, mask_token=None, starts_from_noise=True),
}


def planner_of(name: str, traits: Traits) -> Planner | None:
    module = registry.load("iteration", name)
    try:
        made: Planner = module.Planner(module.Options(), traits)
        made.equip(Equipment())
    except UserError:
        return None
    return made


CASES = [
    (name, kind)
    for name in registry.names("iteration")
    for kind, traits in KINDS.items()
    if (made := planner_of(name, traits)) and made.generates
]


@pytest.fixture(params=CASES, ids=str)
def planner(request: pytest.FixtureRequest) -> Planner:
    name, kind = request.param
    made = planner_of(name, KINDS[kind])
    assert made
    return made


def sequence(planner: Planner, prompt: int, max_tokens: int, **params: int) -> Sequence:
    ids = (np.arange(prompt) * 7 % VOCAB).astype(np.int32)
    seq = Sequence(
        1,
        ids,
        SamplingParams(max_tokens=max_tokens, **params),  # type: ignore[arg-type]
        limit=prompt + max_tokens,
        seed=0,
    )
    planner.admit(seq)
    return seq


def decide(seq: Sequence, window: Window, rng: np.random.Generator) -> Update:
    """Write a random non-empty part of the targets, as some decoder might; of a draft the first ones."""
    if len(window.parents):
        positions = window.targets[: int(rng.integers(1, len(window.targets) + 1))]
        return Update(positions, rng.integers(0, MASK, len(positions)).astype(np.int32))
    open_targets = [t for t in window.targets.tolist() if t >= seq.length or seq.masked[t]]
    if not open_targets:
        return NOTHING
    count = int(rng.integers(1, len(open_targets) + 1))
    positions = np.sort(rng.choice(open_targets, count, replace=False)).astype(np.int32)
    return Update(positions, rng.integers(0, MASK, count).astype(np.int32))


@pytest.mark.parametrize("name", registry.names("iteration"))
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_says_what_to_use_instead(name: str, kind: str) -> None:
    if planner_of(name, KINDS[kind]) is None:
        module = registry.load("iteration", name)
        with pytest.raises(UserError) as refusal:
            module.Planner(module.Options(), KINDS[kind])
        assert "planner" in refusal.value.hint


def test_every_kind_of_model_has_a_planner() -> None:
    assert {kind for _, kind in CASES} == set(KINDS)


def check_window(planner: Planner, seq: Sequence, window: Window, stored: int, budget: int) -> None:
    assert 0 <= window.start <= stored
    assert 1 <= window.length <= budget
    assert window.start <= window.keep <= window.end <= seq.length + len(window.parents)
    assert window.keep <= seq.length
    assert window.end <= planner.span(seq)
    shift = 1 if planner.traits.predicts is Predicts.NEXT else 0
    assert (window.targets == window.start + window.rows + shift).all()
    assert (np.diff(window.rows) > 0).all()
    assert all(0 <= row < window.length for row in window.rows)
    for slot in range(window.start, window.keep if window.mark is Slot.EXACT else 0):
        limit = slot + 1
        if window.pattern.kind is PatternKind.BLOCK:
            size = window.pattern.size
            limit = (slot // size + 1) * size
            assert limit <= window.end, "a kept slot did not see its whole block"
        assert limit <= seq.final, "a kept slot saw what may still change"


def state(planner: Planner) -> dict[str, Any]:
    """A copy of what a planner holds, but for what its engine has measured and shares with it."""
    held = {name: value for name, value in planner.__dict__.items() if name != "equipment"}
    return copy.deepcopy(held)


@pytest.mark.parametrize("seed", range(30))
def test_a_request_comes_to_its_end_whatever_happens(planner: Planner, seed: int) -> None:
    rng = np.random.default_rng(seed)
    seq = sequence(planner, int(rng.integers(1, 60)), int(rng.integers(1, 40)))
    stored, final, shown = 0, seq.final, seq.tokens[: seq.final].tolist()
    for _ in range(1000):
        if seq.is_complete:
            break
        budget = int(rng.integers(1, 140 if planner.is_whole else 40))
        before = state(planner)
        window = planner.next(seq, stored, budget)
        assert before == state(planner), "planners have no state"
        if window is None:
            assert budget < (seq.length if planner.is_whole else planner.smallest_window)
            continue
        check_window(planner, seq, window, stored, budget)
        update = decide(seq, window, rng)
        seq.apply(update, MASK)
        planner.absorb(seq, window, update)
        stored = max(min(stored, window.start), window.keep)
        assert stored <= seq.length
        assert final <= seq.final <= seq.length
        assert seq.tokens[:final].tolist() == shown[:final], "a final token changed"
        final, shown = seq.final, seq.tokens[: seq.final].tolist()
        if rng.random() < 0.2:  # preempted, or cut back, or found in the cache
            found = max(stored, min(seq.final, seq.length - 1) // 8 * 8)
            stored = int(rng.choice([0, stored // 2 // 8 * 8, found]))
    assert seq.is_complete
    assert seq.length <= planner.span(seq)
    assert not seq.masked[: seq.limit].any()


def test_a_step_with_budget_enough_never_stands_still(planner: Planner) -> None:
    """At most: one forward for each piece of the prompt, and one for each token."""
    for prompt in (1, 7, 8, 9, 30):
        rng = np.random.default_rng(prompt)
        seq = sequence(planner, prompt, 12)
        stored = steps = 0
        while not seq.is_complete:
            least = seq.length if planner.is_whole else planner.smallest_window
            window = planner.next(seq, stored, least)
            assert window is not None
            update = decide(seq, window, rng)
            seq.apply(update, MASK)
            planner.absorb(seq, window, update)
            stored = max(min(stored, window.start), window.keep)
            steps += 1
        assert steps <= prompt + 12 + 8


def test_without_a_cache_every_window_starts_at_zero_and_decides(planner: Planner) -> None:
    seq = sequence(planner, 20, 10)
    rng = np.random.default_rng(0)
    for _ in range(10):
        if seq.is_complete:
            break
        window = planner.next(seq, 0, 10_000)
        assert window is not None
        assert window.start == 0
        assert len(window.targets)
        update = decide(seq, window, rng)
        assert len(update.positions)
        seq.apply(update, MASK)
        planner.absorb(seq, window, update)


def test_a_literal_mask_id_in_the_prompt_stays(planner: Planner) -> None:
    ids = np.array([3, MASK, 4, MASK, MASK], np.int32)
    seq = Sequence(1, ids, SamplingParams(), limit=21, seed=0)
    planner.admit(seq)
    rng, stored = np.random.default_rng(0), 0
    while not seq.is_complete:
        window = planner.next(seq, stored, 100)
        assert window is not None
        assert all(target >= 5 for target in window.targets)
        update = decide(seq, window, rng)
        seq.apply(update, MASK)
        planner.absorb(seq, window, update)
        stored = max(min(stored, window.start), window.keep)
    assert seq.tokens[:5].tolist() == ids.tolist()

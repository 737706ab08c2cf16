"""The decoders for masked canvases against their definitions, on rows with known confidences and entropies."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from plait.core import registry
from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import Update
from plait.decoding import anneal, credit, fixed_steps, scores, threshold
from plait.decoding.base import Decoder, noise
from plait.decoding.hierarchical import surest_of_runs
from tests.decoding.test_conformance import OPEN, logits, masked_sequence, window_of
from tests.decoding.test_threshold import rows_with
from tests.fakes import BLOCK_TRAITS, MASK, VOCAB, suited


def make(name: str, **options: Any) -> Decoder:
    module = registry.load("decoding", name)
    made: Decoder = module.Decoder(module.Options(**options), suited(name, BLOCK_TRAITS))
    return made


def written(name: str, confidences: list[float], **options: Any) -> list[int]:
    seq = open_sequence(len(confidences))
    window = window_of(list(range(3, 3 + len(confidences))))
    return make(name, **options).decide(rows_with(confidences), seq, window).positions.tolist()


def open_sequence(count: int, **params: Any) -> Sequence:
    """Three tokens of prompt and `count` open positions."""
    own = SamplingParams(**{"temperature": 0.0, **params})
    seq = Sequence(1, np.array([5, MASK, 9], np.int32), own, limit=100, seed=3)
    seq.extend(count, MASK, masked=True)
    return seq


@pytest.mark.parametrize(
    ("opened", "steps", "shift", "expected"),
    [
        (8, None, 1.0, [1] * 8),
        (8, 1, 1.0, [8]),
        (8, 4, 1.0, [2] * 4),
        (7, 3, 1.0, [3, 2, 2]),
        (8, 3, 1.0, [3, 3, 2]),
        (10, 4, 1.0, [3, 3, 2, 2]),
        (3, 5, 1.0, [1, 1, 1]),
        (5, 2, 1.0, [3, 2]),
        (3, 9, 1.0, [1, 1, 1]),
        (8, 4, 3.0, [1, 1, 2, 4]),
        (8, 4, 1 / 3, [4, 2, 2]),
    ],
)
def test_a_schedule_is_kept_to(
    opened: int, steps: int | None, shift: float, expected: list[int]
) -> None:
    left, counts = opened, []
    while left:
        counts.append(fixed_steps.due(steps, shift, opened, left))
        left -= counts[-1]
    assert counts == expected


def test_a_schedule_knows_how_large_the_block_was() -> None:
    seq = open_sequence(4)
    seq.scratch["opened"] = 16
    decoder, rows = make("fixed_steps", steps=4), logits(4)
    # 16, 12, 8, 4, 0: with 4 left it is the last step.
    assert len(decoder.decide(rows, seq, window_of([3, 4, 5, 6])).positions) == 4
    seq.scratch["opened"] = 8
    assert len(decoder.decide(rows, seq, window_of([3, 4, 5, 6])).positions) == 2


def test_the_best_scored_go_first() -> None:
    rows = np.full((3, VOCAB), -20.0, np.float32)
    rows[0, [1, 2]] = np.log([0.55, 0.45])  # likeliest token
    rows[1, [1, 2, 3, 4, 5, 6, 7]] = np.log([0.5, *[0.5 / 6] * 6])  # widest margin
    rows[2, [1, 2]] = np.log([0.5, 0.5])  # second least entropy, no margin
    shares = scores.distributions(rows, BLOCK_TRAITS)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-6)
    assert (shares[:, MASK] == 0).all()
    expected = {"confidence": [3], "margin": [4], "entropy": [3]}
    for score, positions in expected.items():
        decoder = make("fixed_steps", score=score)
        assert (
            decoder.decide(rows, open_sequence(3), window_of([3, 4, 5])).positions.tolist()
            == positions
        )
    np.testing.assert_allclose(scores.entropies(rows, BLOCK_TRAITS)[2], np.log(2), rtol=1e-4)
    np.testing.assert_allclose(scores.margins(rows, BLOCK_TRAITS), [0.1, 5 / 12, 0.0], atol=1e-4)


def test_the_random_order_is_that_of_the_seed() -> None:
    def order(seed: int) -> list[int]:
        seq, decoder = masked_sequence(seed=seed), make("fixed_steps", score="random")
        found = []
        while targets := np.flatnonzero(seq.masked).tolist():
            update = decoder.decide(logits(len(targets)), seq, window_of(targets))
            found += update.positions.tolist()
            seq.apply(update, MASK)
        return found

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(60)}) > 15  # of 24


def test_a_temperature_on_positions_draws_by_the_softmax_of_the_score() -> None:
    rows = rows_with([0.9, 0.5, 0.5, 0.1])
    counts = dict.fromkeys([3, 4, 5, 6], 0)
    decoder = make("fixed_steps", position_temperature=0.4)
    for seed in range(2000):
        seq = Sequence(
            1, np.array([5, 4, 9], np.int32), SamplingParams(temperature=0.0), limit=9, seed=seed
        )
        seq.extend(4, MASK, masked=True)
        counts[decoder.decide(rows, seq, window_of([3, 4, 5, 6])).positions.item()] += 1
    shares = np.exp(np.array([0.9, 0.5, 0.5, 0.1]) / 0.4)
    shares /= shares.sum()
    np.testing.assert_allclose(np.array([*counts.values()]) / 2000, shares, atol=0.04)


@pytest.mark.parametrize(
    ("form", "factor", "expected"),
    [
        # doubts .01 .02 .05 .2; n times the weakest, plus it: .02 .06 .2 1.0
        ("weakest", 1.01, [3, 4, 5, 6]),
        ("weakest", 0.99, [3, 4, 5]),
        ("weakest", 0.1, [3, 4]),
        ("weakest", 0.0, [3]),
        # sums so far plus the weakest: .02 .05 .13 .48
        ("frechet", 0.5, [3, 4, 5, 6]),
        ("frechet", 0.4, [3, 4, 5]),
        ("frechet", 0.1, [3, 4]),
    ],
)
def test_a_factor_bounds_the_doubts_together(form: str, factor: float, expected: list[int]) -> None:
    assert written("factor", [0.99, 0.98, 0.95, 0.8], form=form, factor=factor) == expected


def test_hierarchical_on_one_run_takes_its_best_and_all_that_are_sure() -> None:
    assert written("hierarchical", [0.6, 0.7, 0.95, 0.3]) == [5]
    assert written("hierarchical", [0.95, 0.7, 0.96, 0.3]) == [3, 5]
    assert written("hierarchical", [0.2, 0.3, 0.25, 0.1]) == [4]


def test_hierarchical_takes_the_surest_of_every_run() -> None:
    targets = np.array([3, 4, 6, 7, 8, 12], np.int32)
    assert surest_of_runs(targets, np.array([0.1, 0.2, 0.9, 0.3, 0.4, 0.5])).tolist() == [1, 2, 5]
    # Positions 3 and 5, 6, 7 are open: 4 is decided.
    seq, rows = masked_sequence(), rows_with([0.6, 0.55, 0.7, 0.65])
    assert make("hierarchical").decide(rows, seq, window_of(OPEN)).positions.tolist() == [3, 6]
    low = make("hierarchical", low_threshold=0.65)
    assert low.decide(rows, seq, window_of(OPEN)).positions.tolist() == [6]


def test_an_entropy_bound_counts_what_was_picked_before() -> None:
    rows = np.full((4, VOCAB), -np.inf, np.float32)
    for row, count in enumerate([2, 1, 4, 1]):  # entropies ln 2, 0, ln 4, 0
        rows[row, :count] = 0.0

    def positions(bound: float) -> list[int]:
        decoder = make("entropy_bound", bound=bound)
        return decoder.decide(rows, open_sequence(4), window_of([3, 4, 5, 6])).positions.tolist()

    assert positions(0.0) == [3, 4, 6]  # before the third there is none yet
    assert positions(0.69) == [3, 4, 6]
    assert positions(0.70) == [3, 4, 5, 6]


def test_credit_follows_the_formula() -> None:
    """Three steps over known logits, M by hand with a whole matrix."""
    options = credit.Options(strength=0.7, exponent=0.2, decay=0.8)
    seen: list[np.ndarray] = []

    class Inner(threshold.Decoder):
        def decide_all(self, items: list[Any]) -> list[Any]:
            seen.extend(item.logits.copy() for item in items)
            return super().decide_all(items)

    inner = Inner(threshold.Options(2.0), BLOCK_TRAITS)
    decoder = credit.Decoder(options, BLOCK_TRAITS, inner)
    seq, matrix, open_rows = open_sequence(4), np.zeros((4, VOCAB)), [0, 1, 2, 3]
    for step in range(3):
        rows = logits(len(open_rows), step)
        shares = np.exp(rows.astype(np.float64))
        shares[:, MASK] = 0
        shares /= shares.sum(axis=1, keepdims=True)
        matrix *= options.decay
        for i, row in enumerate(open_rows):
            matrix[row, shares[i].argmax()] += shares[i].max() ** options.exponent
        targets = [3 + row for row in open_rows]
        update = decoder.decide(rows, seq, window_of(targets))
        expected = rows + 0.7 * np.log1p(matrix[open_rows])
        np.testing.assert_allclose(seen[-1], expected, rtol=1e-5, atol=1e-5)
        seq.apply(update, MASK)
        open_rows = [row for row in open_rows if seq.masked[3 + row]]
        assert set(seq.scratch["credit"]) == {3 + row for row in open_rows}


def test_credit_leaves_log_probabilities_as_the_model_gives_them() -> None:
    seq = masked_sequence(SamplingParams(temperature=0.0, logprobs=2))
    rows = logits(4)
    plain = make("threshold", threshold=0.01).decide(rows, seq, window_of(OPEN))
    inner = make("threshold", threshold=0.01)
    wrapped = credit.Decoder(credit.Options(strength=0.01), BLOCK_TRAITS, inner)
    update = wrapped.decide(rows, seq, window_of(OPEN))
    assert update.tokens.tolist() == plain.tokens.tolist()
    assert update.logprobs == plain.logprobs


def test_annealing_lowers_the_threshold_step_by_step() -> None:
    inner = make("threshold", threshold=0.5)
    decoder = anneal.Decoder(anneal.Options(start=1.0, rate=0.15), BLOCK_TRAITS, inner)
    counts = []
    for step in range(6):
        seq = masked_sequence()
        seq.scratch["steps"] = step
        update = decoder.decide(rows_with([0.95, 0.8, 0.66, 0.45]), seq, window_of(OPEN))
        counts.append(len(update.positions))
    assert counts == [1, 1, 2, 3, 3, 3]  # thresholds 1, .85, .7, .55, .5, .5
    assert inner.threshold == 0.5
    deep = anneal.Decoder(
        anneal.Options(), BLOCK_TRAITS, credit.Decoder(credit.Options(), BLOCK_TRAITS)
    )
    assert deep.threshold == 0.9
    with pytest.raises(UserError, match="threshold"):
        anneal.Decoder(anneal.Options(), BLOCK_TRAITS, make("factor"))


def step(decoder: Decoder, seq: Sequence, rows: np.ndarray) -> Update:
    update = decoder.decide(rows, seq, window_of(list(range(3, 3 + len(rows)))))
    seq.apply(update, MASK)
    return update


def test_joint_edits_until_nothing_changes() -> None:
    seq, decoder = open_sequence(3), make("joint", threshold=0.9, edit_threshold=0.7)
    first = step(decoder, seq, rows_with([0.95, 0.5, 0.91]))
    assert (first.positions.tolist(), first.settled) == ([3, 5], False)
    # Position 3 now prefers token 1 with 0.8, position 5 token 0 with 0.6 only.
    rows = rows_with([0.8, 0.95, 0.6])[[0, 1, 2]]
    rows[0, [0, 1]], rows[2, [0, 2]] = rows[0, [1, 0]], rows[2, [2, 0]]
    second = step(decoder, seq, rows)
    assert (second.positions.tolist(), second.tokens.tolist()) == ([3, 4], [1, 1])
    assert not second.settled
    last = step(decoder, seq, rows)
    assert (len(last.positions), last.settled) == (0, True)
    assert seq.tokens[3:].tolist() == [1, 1, 2]


def test_joint_comes_to_rest_after_so_many_edits() -> None:
    seq, decoder = open_sequence(2), make("joint", most_edits=3, edit_threshold=0.5)
    step(decoder, seq, rows_with([0.95, 0.95]))
    settled = []
    for turn in range(3):
        rows = np.roll(rows_with([0.95, 0.95]), turn + 1, axis=1)
        rows[:, MASK] = -np.inf
        settled.append(step(decoder, seq, rows).settled)
    assert settled == [False, False, True]
    once = make("joint", most_edits=0)
    assert step(once, open_sequence(2), rows_with([0.95, 0.95])).settled


def test_joint_never_edits_what_is_final() -> None:
    seq, decoder = open_sequence(2), make("joint", edit_threshold=0.1)
    update = decoder.decide(rows_with([0.95, 0.95, 0.95]), seq, window_of([2, 3, 4]))
    assert update.positions.tolist() == [3, 4]


def test_renoise_keeps_what_is_certain_and_draws_the_rest_anew() -> None:
    seq, decoder = open_sequence(3), make("renoise", bound=0.1)
    rows = rows_with([0.97, 0.2, 0.3])
    update = step(decoder, seq, rows)
    assert (update.positions.tolist(), update.remask.tolist()) == ([3], [4, 5])
    assert update.noise is not None
    assert seq.tokens[4:].tolist() == update.noise.tolist()
    assert seq.masked[3:].tolist() == [False, True, True]
    # What was certain may become noise again.
    update = step(decoder, seq, rows[[1, 0, 2]])
    assert seq.masked[3:].tolist() == [True, False, True]
    assert not update.settled


def test_renoise_comes_to_rest_when_calm_or_out_of_steps() -> None:
    seq, decoder = open_sequence(3), make("renoise")
    rows = rows_with([1 - 1e-7] * 3)
    assert not step(decoder, seq, rows).settled
    assert step(decoder, seq, rows).settled
    assert not seq.masked.any()
    seq = open_sequence(3)
    seq.scratch["block_steps"] = 47
    assert step(decoder, seq, rows_with([0.2, 0.3, 0.2])).settled
    assert not seq.masked.any()


def test_noise_is_uniform_over_all_but_the_mask_token() -> None:
    seq = open_sequence(1)
    drawn = noise(seq, np.arange(6000, dtype=np.int32), 1, BLOCK_TRAITS)
    counts = np.bincount(drawn, minlength=VOCAB)
    assert counts[MASK] == 0
    assert counts[:MASK].min() > 50
    assert (noise(seq, np.arange(9, dtype=np.int32), 2, BLOCK_TRAITS) != drawn[:9]).any()
    unmasked = noise(
        seq, np.arange(6000, dtype=np.int32), 1, replace(BLOCK_TRAITS, mask_token=None)
    )
    assert unmasked.max() == VOCAB - 1


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("fixed_steps", {"steps": 0}),
    ("fixed_steps", {"steps": 10_001}),
    ("fixed_steps", {"score": "luck"}),
    ("fixed_steps", {"position_temperature": -1.0}),
    ("fixed_steps", {"position_temperature": 1e-320}),
    ("fixed_steps", {"shift": 0.0}),
    ("factor", {"factor": float("nan")}),
    ("factor", {"form": "other"}),
    ("hierarchical", {"low_threshold": 0.0}),
    ("entropy_bound", {"bound": -0.1}),
    ("joint", {"edit_threshold": float("nan")}),
    ("joint", {"most_edits": -1}),
    ("renoise", {"most_steps": 0}),
    ("renoise", {"calm": -1.0}),
    ("credit", {"decay": 1.5}),
    ("credit", {"strength": float("inf")}),
    ("anneal", {"start": 0.0}),
    ("anneal", {"rate": -0.1}),
]


@pytest.mark.parametrize(("name", "options"), WRONG, ids=str)
def test_settings_out_of_range_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(options))) as refusal:
        make(name, **options)
    assert refusal.value.hint

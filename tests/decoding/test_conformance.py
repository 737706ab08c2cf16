"""What every decoder promises (decoding/base.py), for each sibling by name."""

from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest

from plait.core import registry
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import Floats, Update, Window
from plait.decoding.base import Decoder
from tests.fakes import BLOCK_TRAITS, EOS, MASK, VOCAB, suited

NAMES = registry.names("decoding")


@pytest.fixture(params=NAMES)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    module = registry.load("decoding", request.param)
    made: Decoder = module.Decoder(module.Options(), suited(request.param, BLOCK_TRAITS))
    return made


def masked_sequence(params: SamplingParams | None = None, **more: Any) -> Sequence:
    """Three tokens of prompt, one decided, four open."""
    seq = Sequence(
        1,
        np.array([5, MASK, 9], np.int32),
        params or SamplingParams(temperature=0.0),
        limit=100,
        **{"seed": 3, **more},
    )
    seq.extend(5, MASK, masked=True)
    seq.apply(Update(np.array([4], np.int32), np.array([11], np.int32)), MASK)
    return seq


def logits(rows: int, seed: int = 0) -> Floats:
    return (np.random.default_rng(seed).normal(size=(rows, VOCAB)) * 3).astype(np.float32)


def window_of(targets: list[int]) -> Window:
    return Window(0, 8, np.arange(len(targets), dtype=np.int32), np.array(targets, np.int32))


OPEN = [3, 5, 6, 7]


def test_siblings_have_frozen_options() -> None:
    for name in NAMES:
        options = registry.load("decoding", name).Options()
        for field in fields(options):
            with pytest.raises(FrozenInstanceError):
                setattr(options, field.name, getattr(options, field.name))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_deciding_is_pure(decoder: Decoder, temperature: float) -> None:
    seq = masked_sequence(SamplingParams(temperature=temperature, logprobs=2))
    rows, before = logits(4), copy.deepcopy(seq)
    kept = rows.copy()
    rows.setflags(write=False)
    first = decoder.decide(rows, seq, window_of(OPEN))
    second = decoder.decide(rows, seq, window_of(OPEN))
    np.testing.assert_array_equal(rows, kept)
    np.testing.assert_array_equal(seq.tokens, before.tokens)
    np.testing.assert_array_equal(seq.masked, before.masked)
    assert (seq.scratch, seq.logprobs, seq.final) == (before.scratch, {}, before.final)
    assert first.positions.tolist() == second.positions.tolist()
    assert first.tokens.tolist() == second.tokens.tolist()
    assert first.logprobs == second.logprobs


@pytest.mark.parametrize("seed", range(20))
def test_every_decision_makes_progress_on_open_targets_only(decoder: Decoder, seed: int) -> None:
    update = decoder.decide(logits(4, seed), masked_sequence(), window_of(OPEN))
    assert 1 <= len(update.positions) <= 4
    assert set(update.positions.tolist()) <= set(OPEN)
    assert len(update.tokens) == len(update.positions)
    assert update.tokens.dtype == update.positions.dtype == np.int32


def test_deciding_again_and_again_comes_to_an_end(decoder: Decoder) -> None:
    seq = masked_sequence(SamplingParams())
    for round_ in range(5):
        targets = np.flatnonzero(seq.masked).tolist()
        if not targets:
            return
        seq.apply(decoder.decide(logits(len(targets), round_), seq, window_of(targets)), MASK)
    pytest.fail("positions are left open")


def test_the_mask_token_is_never_written(decoder: Decoder) -> None:
    rows = logits(4)
    rows[:, MASK] = 1000.0
    for temperature in (0.0, 5.0):
        seq = masked_sequence(SamplingParams(temperature=temperature))
        assert MASK not in decoder.decide(rows, seq, window_of(OPEN)).tokens


def test_stop_tokens_wait_for_min_tokens(decoder: Decoder) -> None:
    rows = logits(4)
    rows[:, [EOS, 20]] = 1000.0
    params = SamplingParams(temperature=0.0, max_tokens=50, stop_token_ids=[20, VOCAB + 7])
    free = decoder.decide(rows, masked_sequence(params), window_of(OPEN))
    assert set(free.tokens.tolist()) <= {EOS, 20}
    # Output tokens 0..3 are positions 3..6.
    held = decoder.decide(rows, masked_sequence(replace(params, min_tokens=4)), window_of(OPEN))
    for position, token in zip(held.positions.tolist(), held.tokens.tolist(), strict=True):
        assert (token in (EOS, 20)) == (position >= 7)
    ignored = replace(params, min_tokens=4, ignore_eos=True, stop_token_ids=[20])
    assert set(decoder.decide(rows, masked_sequence(ignored), window_of(OPEN)).tokens) <= {EOS, 20}


def test_decided_targets_are_scored_and_not_written(decoder: Decoder) -> None:
    rows, targets = logits(5), [1, 2, 3, 5, 6]
    seq = masked_sequence(SamplingParams(temperature=0.0, prompt_logprobs=3))
    update = decoder.decide(rows, seq, window_of(targets))
    assert set(update.positions.tolist()) <= {3, 5, 6}
    assert set(update.logprobs) == {1, 2}
    exact = rows[0].astype(np.float64) - np.log(np.exp(rows[0].astype(np.float64)).sum())
    assert update.logprobs[1].token == pytest.approx(exact[MASK])
    assert list(update.logprobs[1].top) == np.argsort(-rows[0])[:3].tolist()
    only = decoder.decide(rows[:2], seq, window_of(targets[:2]))
    assert set(only.logprobs) == {1, 2}
    assert len(only.positions) == 0


def test_logprobs_come_with_every_written_token_if_asked_for(decoder: Decoder) -> None:
    rows = logits(4)
    assert decoder.decide(rows, masked_sequence(), window_of(OPEN)).logprobs == {}
    params = SamplingParams(temperature=0.0, logprobs=0)
    update = decoder.decide(rows, masked_sequence(params), window_of(OPEN))
    assert set(update.logprobs) == set(update.positions.tolist())
    assert all(entry.top == {} for entry in update.logprobs.values())


def test_a_token_depends_on_seed_and_position_not_on_its_row(decoder: Decoder) -> None:
    rows = logits(4)
    params = SamplingParams(temperature=2.0)
    whole = decoder.decide(rows, masked_sequence(params), window_of(OPEN))
    chosen = dict(zip(whole.positions.tolist(), whole.tokens.tolist(), strict=True))
    for i, target in enumerate(OPEN):
        alone = decoder.decide(rows[i : i + 1], masked_sequence(params), window_of([target]))
        assert alone.positions.tolist() == [target]
        if target in chosen:
            assert alone.tokens.tolist() == [chosen[target]]
    tokens = {
        decoder.decide(rows[:1], masked_sequence(params, seed=s), window_of([3])).tokens[0]
        for s in range(50)
    }
    assert len(tokens) > 5


def test_logits_that_are_no_numbers_are_an_error(decoder: Decoder) -> None:
    rows = logits(4)
    rows[2, 0] = np.nan
    with pytest.raises(FloatingPointError, match="position 6"):
        decoder.decide(rows, masked_sequence(), window_of(OPEN))


BEST = [
    SamplingParams(temperature=0.0),
    SamplingParams(top_k=5, temperature=1.3),
    SamplingParams(top_k=7, top_p=0.8, min_p=0.01, typical_p=0.9),
    SamplingParams(temperature=0.0, max_tokens=50, min_tokens=4, stop_token_ids=[20, 21]),
    SamplingParams(top_k=3, max_tokens=50, min_tokens=2, stop_token_ids=[20]),
    SamplingParams(top_p=0.5),
    SamplingParams(temperature=0.0, logit_bias={3: 9.0}),
    SamplingParams(temperature=0.0, repetition_penalty=1.5),
    SamplingParams(temperature=0.0, logprobs=1),
    SamplingParams(temperature=0.0, prompt_logprobs=1),
]


@pytest.mark.parametrize("params", BEST, ids=range(len(BEST)))
def test_the_best_logits_it_asks_for_are_enough(decoder: Decoder, params: SamplingParams) -> None:
    window = window_of(OPEN)
    for seed in range(30):
        seq, rows = masked_sequence(params), logits(4, seed)
        rows[:, [MASK, EOS, 20]] += 6.0 * (seed % 3)
        few = rows.copy()
        if count := decoder.best(seq, window):
            last = np.sort(rows, axis=1)[:, -count]
            few[rows < last[:, None]] = -np.inf
        whole, part = (decoder.decide(x, seq, window) for x in (rows, few))
        assert part.tokens.tolist() == whole.tokens.tolist()
        assert part.logprobs == whole.logprobs


def test_a_target_at_the_end_of_the_canvas_appends(decoder: Decoder) -> None:
    seq = Sequence(1, np.array([5, 9], np.int32), SamplingParams(temperature=0.0), limit=9, seed=0)
    rows = logits(1)
    update = decoder.decide(rows, seq, Window(0, 2, np.array([1]), np.array([2], np.int32)))
    assert update.positions.tolist() == [2]
    assert update.tokens.tolist() == [int(rows[0, :MASK].argmax())]

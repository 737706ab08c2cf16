"""Typical acceptance follows its rule, and is not plain decoding; where it does not apply, it is `verify`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.window import Floats, Update, Window
from plait.decoding import typical, verify
from plait.kernels import sampling_reference
from tests.fakes import CAUSAL_TRAITS, EOS, VOCAB, drain, make_engine

PROMPT = np.array([5, 9, 11], np.int32)


def drafted(logits: Floats, tokens: list[int], **fields: Any) -> Update:
    """What is decided of a chain of drafted tokens behind the prompt."""
    decoder = typical.Decoder(typical.Options(**fields.pop("options", {})), CAUSAL_TRAITS)
    seq = Sequence(1, PROMPT, SamplingParams(seed=3, **fields), limit=50, seed=3)
    return decoder.decide(logits, seq, window_of(tokens))


def window_of(tokens: list[int]) -> Window:
    count = len(tokens)
    rows = np.arange(2, 3 + count, dtype=np.int32)
    fed = np.append(PROMPT, np.array(tokens, np.int32))
    parents = np.arange(count, dtype=np.int32)
    return Window(0, 3 + count, rows, rows + np.int32(1), keep=3, tokens=fed, parents=parents)


def shares(row: Floats, temperature: float = 1.0) -> Any:
    p = np.exp(row.astype(np.float64) / temperature)
    return p / p.sum()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
@pytest.mark.parametrize(("threshold", "factor"), [(0.09, 0.3), (0.01, 1.0), (0.5, 0.05)])
def test_a_token_is_taken_by_the_rule(threshold: float, factor: float, temperature: float) -> None:
    options = {"threshold": threshold, "factor": factor}
    taken = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rows = (rng.normal(size=(4, VOCAB)) * rng.uniform(0.5, 4)).astype(np.float32)
        tokens = [int(rng.choice(np.argsort(-row)[:6])) for row in rows[:3]]
        update = drafted(rows, tokens, temperature=temperature, options=options)
        plain = [
            int(
                sampling_reference.sample(
                    row[None],
                    SamplingParams(temperature=temperature),
                    positions=np.array([3 + place], np.int32),
                    seed=3,
                )[0][0]
            )
            for place, row in enumerate(rows)
        ]
        wanted: list[int] = []
        for place, token in enumerate(tokens):
            p = shares(rows[place], temperature)
            least = min(threshold, factor * np.exp((p * np.log(p)).sum()))
            if token != plain[place] and p[token] <= least:
                break
            wanted.append(token)
            taken += token != plain[place]
        wanted.append(plain[len(wanted)])
        assert update.tokens.tolist() == wanted
        assert update.positions.tolist() == [3 + i for i in range(len(wanted))]
        assert update.accepted == len(wanted) - 1
    assert taken > 5


EXACT: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {"presence_penalty": 0.5},
    {"logit_bias": {3: 1.0}},
    {"typical_p": 0.9},
]


@pytest.mark.parametrize("fields", EXACT, ids=str)
def test_some_requests_are_verified_exactly(fields: dict[str, Any]) -> None:
    params = SamplingParams(seed=3, **fields)
    seq = Sequence(1, PROMPT, params, limit=50, seed=3)
    exact = verify.Decoder(verify.Options(), CAUSAL_TRAITS)
    lossy = typical.Decoder(typical.Options(), CAUSAL_TRAITS)
    assert not lossy.is_lossy(params)
    assert lossy.is_lossy(SamplingParams(top_p=0.9))
    for seed in range(20):
        rows = np.random.default_rng(seed).normal(size=(4, VOCAB)).astype(np.float32)
        window = window_of(np.argsort(-rows[:3], axis=1)[:, 1].tolist())
        one, other = (d.decide(rows, seq, window) for d in (exact, lossy))
        assert one.tokens.tolist() == other.tokens.tolist()


def test_what_the_request_rules_out_is_never_taken() -> None:
    rows = np.zeros((2, VOCAB), np.float32)
    rows[0, [4, 7, 9]] = 6.0, 5.9, 5.8
    easy = {"threshold": 0.05}
    assert drafted(rows, [9], options=easy).accepted == 1
    assert drafted(rows, [9], options=easy, top_p=0.3).accepted == 0
    assert drafted(rows, [9], options=easy, top_k=2).accepted == 0
    assert drafted(rows, [9], options=easy, min_p=0.9).accepted == 0
    assert drafted(rows, [EOS], options=easy).accepted == 1
    assert drafted(rows, [EOS], options=easy, min_tokens=3).accepted == 0


def test_shaped_is_what_the_sampler_draws_from() -> None:
    rng = np.random.default_rng(0)
    row = (rng.normal(size=VOCAB) * 2).astype(np.float32)
    for fields in (
        {"top_k": 8},
        {"top_p": 0.7},
        {"min_p": 0.2},
        {"top_k": 9, "top_p": 0.8, "min_p": 0.1},
    ):
        params = SamplingParams(temperature=0.8, **fields)  # type: ignore[arg-type]
        p = typical.shaped(row, params)
        tokens, _ = sampling_reference.sample(
            np.repeat(row[None], 4000, axis=0),
            params,
            positions=np.arange(4000, dtype=np.int32),
            seed=1,
        )
        counts = np.bincount(tokens, minlength=VOCAB)
        assert set(np.flatnonzero(counts)) == set(np.flatnonzero(p))
        np.testing.assert_allclose(counts / 4000, p, atol=0.03)


def test_an_answer_says_that_it_is_lossy() -> None:
    engine = make_engine(planner="speculative", decoder="typical", options={"width": "4"})
    prompt = [3, 1, 4, 1, 5] * 6
    sampled = engine.add(prompt, SamplingParams(max_tokens=30, seed=1, ignore_eos=True))
    greedy = engine.add(prompt, SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True))
    exact = engine.add(prompt, SamplingParams(max_tokens=30, seed=1), decoder="verify")
    answers = drain(engine)
    lossy = [answers[i].metrics.is_lossy for i in (sampled, greedy, exact)]  # type: ignore[union-attr]
    assert lossy == [True, False, False]
    plain = make_engine()
    key = plain.add(prompt, SamplingParams(max_tokens=30, temperature=0.0, ignore_eos=True))
    assert drain(plain)[key].tokens == answers[greedy].tokens


def test_options_out_of_range_are_refused() -> None:
    for name in ("threshold", "factor"):
        with pytest.raises(UserError, match=name):
            typical.Options(**{name: 0.0})

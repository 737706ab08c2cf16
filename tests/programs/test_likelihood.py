"""Estimates of how probable an answer is, against sums over all subsets and a model that is walked by hand."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.traits import Predicts, Traits
from plait.engine.worker import Worker
from plait.programs.likelihood import likelihood
from tests.fakes import BLOCK_TRAITS, CAUSAL_TRAITS, FULL_TRAITS, MASK, make_engine, plain_logits

PROMPT = [3, 1, MASK, 1, 5]
ANSWER = [9, MASK, 6, 7]
NEXT = replace(FULL_TRAITS, predicts=Predicts.NEXT)


@contextmanager
def running(traits: Traits) -> Iterator[Worker]:
    worker = Worker(make_engine(traits))
    try:
        yield worker
    finally:
        worker.shutdown()


def logprobs(traits: Traits, canvas: list[int], masked: list[int]) -> list[float]:
    """Of the tokens of `canvas` at the masked positions, all masked together."""
    fed = np.array(canvas, np.int32)
    fed[masked] = MASK
    shift = 1 if traits.predicts is Predicts.NEXT else 0
    rows = [plain_logits(fed, traits.pattern, p - shift)[0].astype(np.float64) for p in masked]
    return [
        float(z[canvas[p]] - z.max() - np.log(np.exp(z - z.max()).sum()))
        for z, p in zip(rows, masked, strict=True)
    ]


def expected(traits: Traits, canvas: list[int], places: list[int]) -> float:
    """The mean over all sizes and all subsets."""
    means = []
    for size in range(1, len(places) + 1):
        subsets = [list(subset) for subset in itertools.combinations(places, size)]
        sums = [sum(logprobs(traits, canvas, subset)) for subset in subsets]
        means.append(len(places) / size * float(np.mean(sums)))
    return float(np.mean(means))


@pytest.mark.parametrize("traits", [FULL_TRAITS, NEXT], ids=["same", "next"])
@pytest.mark.parametrize(("method", "samples"), [("monte_carlo", 400), ("any_order", 150)])
def test_an_estimate_comes_near_the_sum_over_all_subsets(
    traits: Traits, method: str, samples: int
) -> None:
    exact = expected(traits, PROMPT + ANSWER, [5, 6, 7, 8])
    with running(traits) as worker:
        found = likelihood(worker, PROMPT, ANSWER, method=method, samples=samples, seed=1)
    assert abs(found.mean - exact) < 4 * found.error
    assert found.error < 0.1 * abs(exact)
    assert found.num_forwards == samples * (len(ANSWER) if method == "any_order" else 1)


def test_an_answer_of_one_token_needs_no_estimate() -> None:
    (exact,) = logprobs(FULL_TRAITS, [*PROMPT, 9], [5])
    with running(FULL_TRAITS) as worker:
        for method in ("monte_carlo", "any_order"):
            found = likelihood(worker, PROMPT, [9], method=method, samples=3)
            assert found.mean == pytest.approx(exact, abs=1e-5)
            assert found.error == pytest.approx(0.0, abs=1e-9)


def test_a_block_model_is_given_whole_blocks_one_after_the_other() -> None:
    """Answer positions 5 ... 12 of blocks of 8."""
    answer = [9, 2, 6, 7, 1, 30, 31, 32]
    canvas = PROMPT + answer
    exact = expected(BLOCK_TRAITS, canvas[:8], [5, 6, 7])
    exact += expected(BLOCK_TRAITS, canvas, [8, 9, 10, 11, 12])
    with running(BLOCK_TRAITS) as worker:
        found = likelihood(worker, PROMPT, answer, samples=400, seed=2)
    assert abs(found.mean - exact) < 4 * found.error
    assert found.num_forwards == 800


def test_many_rows_are_scored_in_parts() -> None:
    answer = [(7 * i) % 60 for i in range(150)]
    with running(FULL_TRAITS) as worker:
        found = likelihood(worker, PROMPT, answer, samples=1, method="monte_carlo", seed=3)
    assert np.isfinite(found.mean)
    size = 1 + int(np.random.default_rng(3).integers(150))
    assert worker.engine.metrics.num_windows == -(-size // 64)


def test_the_same_seed_gives_the_same_estimate() -> None:
    with running(FULL_TRAITS) as worker:
        first, second, other = (
            likelihood(worker, PROMPT, ANSWER, samples=5, seed=seed) for seed in (1, 1, 2)
        )
    assert first == second != other


def test_what_cannot_be_estimated_is_refused() -> None:
    with running(FULL_TRAITS) as worker:
        for wrong in ({"method": "guess"}, {"samples": 0}):
            with pytest.raises(UserError):
                likelihood(worker, PROMPT, ANSWER, **wrong)  # type: ignore[arg-type]
        with pytest.raises(UserError, match="empty"):
            likelihood(worker, PROMPT, [])
        with pytest.raises(UserError, match="context|whole canvas"):
            likelihood(worker, PROMPT, [1] * 5000)
    with running(CAUSAL_TRAITS) as worker, pytest.raises(UserError, match="masked positions"):
        likelihood(worker, PROMPT, ANSWER)

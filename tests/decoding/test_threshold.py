"""The threshold decoder against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.errors import UserError
from plait.core.params import SamplingParams
from plait.core.window import Floats
from plait.decoding.threshold import Decoder, Options
from tests.decoding.test_conformance import OPEN, masked_sequence, window_of
from tests.fakes import BLOCK_TRAITS, VOCAB


def rows_with(confidences: list[float]) -> Floats:
    """Row i puts this probability on token i, and shares the rest evenly among the others but the mask."""
    rows = np.full((len(confidences), VOCAB), -np.inf, np.float32)
    for i, confidence in enumerate(confidences):
        rows[i, : VOCAB - 1] = np.log((1 - confidence) / (VOCAB - 2))
        rows[i, i] = np.log(confidence)
    return rows


def written(confidences: list[float], threshold: float, **params: float) -> list[int]:
    seq = masked_sequence(SamplingParams(**{"temperature": 0.0, **params}))  # type: ignore[arg-type]
    decoder = Decoder(Options(threshold), BLOCK_TRAITS)
    return decoder.decide(rows_with(confidences), seq, window_of(OPEN)).positions.tolist()


@pytest.mark.parametrize(
    ("confidences", "threshold", "expected"),
    [
        ([0.95, 0.5, 0.91, 0.89], 0.9, [3, 6]),
        ([0.3, 0.5, 0.4, 0.2], 0.9, [5]),  # nobody is sure: the surest alone
        ([0.5, 0.5, 0.4, 0.5], 0.9, [3, 5, 7]),  # equally sure within 1e-5
        ([0.3, 0.5, 0.4, 0.2], 0.35, [5, 6]),
        ([0.99, 0.98, 0.97, 0.96], 1.5, [3]),  # above 1: one at a time
        ([0.99, 0.98, 0.97, 0.96], 0.01, OPEN),
    ],
)
def test_positions_at_or_above_the_bar_are_written(
    confidences: list[float], threshold: float, expected: list[int]
) -> None:
    assert written(confidences, threshold) == expected


def test_a_sampled_token_has_its_own_probability_as_confidence() -> None:
    # The unlikely tokens have 0.5 / 59 each: whoever draws one of them is not sure of it.
    decoder = Decoder(Options(0.45), BLOCK_TRAITS)
    seen = set()
    for seed in range(40):
        seq = masked_sequence(SamplingParams(temperature=1.0), seed=seed)
        update = decoder.decide(rows_with([0.5] * 4), seq, window_of(OPEN))
        sure = {OPEN.index(p) == t for p, t in zip(update.positions, update.tokens, strict=True)}
        assert len(sure) == 1
        seen |= sure
        assert sure == {True} or len(update.positions) == 4  # nobody drew the likely token
    assert True in seen


def test_a_low_temperature_does_not_make_it_surer() -> None:
    assert written([0.3, 0.5, 0.4, 0.2], 0.9, temperature=0.01) == [5]


def test_a_threshold_of_nothing_is_refused() -> None:
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(UserError, match="threshold"):
            Options(value)

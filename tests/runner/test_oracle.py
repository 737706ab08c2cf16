"""Real models against transformers on the same dequantised weights."""

from __future__ import annotations

import pytest

from tests.oracle import MODELS, compare, fixture, open_model, prompts

LARGE = [pytest.param(m, marks=pytest.mark.large) for m in MODELS[1:]]


@pytest.mark.parametrize("model", [MODELS[0], *LARGE])
def test_f32_logits_and_greedy_steps(model: str) -> None:
    data = fixture(model)
    assert len(prompts(data)) == 20
    assert max(len(p) for p in prompts(data)) > 512
    loaded = open_model(model, "f32")
    result = compare(loaded, data, range(20))
    print(model, result)
    assert result.worst_logit < 1e-3
    assert all(gap <= 1e-3 + 2 * noise for _, _, gap, noise in result.noisy)
    assert result.worst_logsumexp < 1e-3
    assert result.equal + result.ties == result.steps == 20 * 128

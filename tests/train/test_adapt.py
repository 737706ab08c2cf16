"""A step of adaptation: which rows decide a position, and what they may see."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train`")

from train.body import Body, Shape  # noqa: E402

from train import adapt  # noqa: E402

MASK, ROWS = 9, 12
SHAPE = Shape(10, 16, 2, 4, 24, kv_heads=2, tied=True, mask=MASK)


@pytest.fixture
def body() -> Body:
    torch.manual_seed(1)
    made = Body(SHAPE).requires_grad_(False)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape))
    return made


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(1).integers(0, MASK, (1, ROWS))


def hidden(*places: int) -> np.ndarray:
    return np.isin(np.arange(ROWS), places)[None]


def test_rows_decide_the_next_position_and_clean_ones_the_next_block() -> None:
    assert adapt.sources(ROWS)[1:].tolist() == [0, 1, 2, 15, 4, 5, 6, 19, 8, 9, 10]


def test_as_the_model_that_is_fed_the_masked_block_behind_its_clean_prefix(
    body: Body, tokens: np.ndarray
) -> None:
    """[noisy | clean] in one forward, against a block-causal forward of what decoding has then."""
    found = adapt.at_hidden(body, tokens, hidden(5, 7, 8, 9, 10, 11))
    for block, places in ((1, [5, 7]), (2, [8, 9, 10, 11])):
        fed = torch.from_numpy(np.where(hidden(*places), MASK, tokens)[:, : block * 4 + 4])
        number = torch.arange(fed.shape[1]) // 4
        sees = (number[:, None] >= number[None, :])[None, None]
        logits = body(fed, torch.arange(fed.shape[1]), sees)[0]
        wanted = logits[[place - 1 for place in places]]
        assert torch.allclose(found[:2] if block == 1 else found[2:], wanted, atol=1e-3)


def test_what_is_masked_or_later_is_not_seen(body: Body, tokens: np.ndarray) -> None:
    found = adapt.at_hidden(body, tokens, hidden(5, 7))
    other = tokens.copy()
    other[0, [5, 7, 8, 11]] = (other[0, [5, 7, 8, 11]] + 1) % MASK
    assert torch.equal(found, adapt.at_hidden(body, other, hidden(5, 7)))
    other[0, 6] = (other[0, 6] + 1) % MASK
    assert not torch.allclose(found, adapt.at_hidden(body, other, hidden(5, 7)))


def test_a_causal_model_does_not_depend_on_what_it_predicts(body: Body, tokens: np.ndarray) -> None:
    found = adapt.causal_at(body, tokens, hidden(5))
    other = tokens.copy()
    other[0, 5:] = 0
    assert torch.allclose(found, adapt.causal_at(body, other, hidden(5)), atol=1e-5)


def test_only_the_answer_is_masked_and_every_block_of_it() -> None:
    generator = np.random.default_rng(2)
    found = adapt.hidden_in_blocks(generator, (50, ROWS), np.full(50, 5))
    assert not found[:, :5].any()
    assert found[:, 5:].reshape(50, -1)[:, 3:].reshape(50, 1, 4).any(2).all()
    assert found[:, 5:8].any(1).all()


def test_no_held_out_prompt_is_trained() -> None:
    sides = [set(adapt.prompts(held_out=held_out)) for held_out in (False, True)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == len(adapt.OPENINGS) * len(adapt.TOPICS)

"""Keys that share a vector: what is learned of them, and what int8 pages then lose."""

from __future__ import annotations

import numpy as np
import pytest

from plait.core.window import Floats
from plait.kernels import reference as ops
from plait.kernels.reference_kv import load_kv, store_kv
from plait.models.base import Rope
from plait.runner.center import Center, center

SLOTS, HEADS, WIDTH = 32, 2, 64
INVERSE = tuple(float(x) for x in 10_000.0 ** (-np.arange(0, 1, 2 / WIDTH)))


def no_tensor(name: str) -> Floats:
    raise AssertionError(name)


def biased_keys(rope: Rope, slots: int) -> Floats:
    """[slots, HEADS, WIDTH] at positions 0, 1, ...: noise, and a bias a hundred times as large in a few columns."""
    rng = np.random.default_rng(5)
    bias = np.where(rng.random((HEADS, WIDTH)) < 0.1, 100 * rng.normal(size=(HEADS, WIDTH)), 0)
    flat = (rng.normal(size=(slots, HEADS, WIDTH)) + bias).astype(np.float32).reshape(slots, -1)
    inverse = np.asarray(rope.inverse_frequencies, np.float32)
    turned = ops.rope(
        flat, np.arange(slots, dtype=np.int32), inverse, HEADS, interleaved=rope.interleaved
    )
    return turned.reshape(slots, HEADS, WIDTH)


def stored(keys: Floats) -> Floats:
    """The keys as int8 pages give them back."""
    pages = np.arange(-(-len(keys) // SLOTS), dtype=np.int32)
    data = np.zeros((len(pages), 1, HEADS, 2, SLOTS * (WIDTH + 4)), np.int8)
    store_kv(data, 0, pages, 0, keys, keys)
    return load_kv(data, 0, pages, len(keys), WIDTH)[0]


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("inverse", [INVERSE, INVERSE[:16]], ids=["whole", "half"])
def test_scores_of_biased_keys_lose_less_than_half_of_what_they_lost(
    inverse: tuple[float, ...], interleaved: bool
) -> None:
    """Also 500 positions behind those that were looked at, up to a number that a softmax does not see."""
    rope = Rope(inverse, interleaved)
    keys = biased_keys(rope, 512)
    known = center(keys[:SLOTS], rope, no_tensor)
    query = np.random.default_rng(6).normal(size=(HEADS, WIDTH)).astype(np.float32)

    def error(centered: Center) -> float:
        held = stored((keys - centered.mean) / centered.scale)
        scores = np.einsum("thd,hd->th", held, query * centered.scale)
        lost = scores - np.einsum("thd,hd->th", keys, query)
        return float((lost - lost.mean(axis=0)).std())

    plain = Center(np.zeros_like(known.mean), np.ones_like(known.scale))
    assert error(known) < 0.5 * error(plain)


def test_keys_that_are_no_numbers_or_nothing_are_left_alone() -> None:
    for value in (0.0, np.nan, np.inf):
        known = center(np.full((SLOTS, HEADS, WIDTH), value, np.float32), None, no_tensor)
        assert (known.mean == 0).all()
        assert (known.scale == 1).all()

"""2:4 sparse panels: the bits of dense ones, fewer bytes, and dense where the weights are not sparse."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from plait._C import runnable_isas
from plait.analysis.sparse import FORMATS, prune
from plait.kernels import reference_linear as reference
from plait.kernels.linear import PackedMatrix, Pool, linear
from plait.quant.base import by_name
from tests.kernels.raw_weights import ALL, block_size, random_raw

POOL = Pool(2)
ROWS = 77  # ten panels, the last with five rows
COLS = 768
NUM_TOKENS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 31, 33, 130)
BYTES = {"q4_0": 14 / 18, "q8_0": 22 / 34, "q6_k": 1168 / 1680}
"""Of the dense panels: half the values, two bits each for their places, the same scales."""


def raw_weights(name: str, seed: int = 0) -> NDArray[np.uint8]:
    weights = np.random.default_rng(seed).standard_normal((ROWS, COLS)).astype(np.float32)
    return by_name(name).quantize(prune(weights)).reshape(-1)


def pack(name: str, raw: NDArray[np.uint8], *, packing: str = "sparse") -> PackedMatrix:
    return PackedMatrix(name, ROWS, COLS, raw, POOL, packing=packing)


def activations(num_tokens: int) -> NDArray[np.float32]:
    return np.random.default_rng(num_tokens).standard_normal((num_tokens, COLS)).astype(np.float32)


def test_pruning_keeps_the_two_largest_of_four() -> None:
    weights = np.array([[3, -4, 1, 2, 0, 0, 5, -1]], np.float32)
    np.testing.assert_array_equal(prune(weights), [[3, -4, 0, 0, 0, 0, 5, -1]])


@pytest.mark.parametrize("name", FORMATS)
def test_sparse_panels_hold_the_same_weights_in_fewer_bytes(name: str) -> None:
    raw = raw_weights(name)
    sparse, dense = pack(name, raw), pack(name, raw, packing="panels")
    assert (sparse.is_sparse, dense.is_sparse) == (True, False)
    assert sparse.bytes / dense.bytes == pytest.approx(BYTES[name])
    for row in range(ROWS):
        np.testing.assert_array_equal(sparse.dequantize_row(row), dense.dequantize_row(row))


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize("name", FORMATS)
def test_results_have_the_bits_of_dense_panels_for_any_number_of_tokens(
    name: str, isa: str
) -> None:
    raw = raw_weights(name)
    sparse, dense = pack(name, raw), pack(name, raw, packing="panels")
    bias = np.linspace(-1, 1, ROWS, dtype=np.float32)
    for num_tokens in NUM_TOKENS:
        x = activations(num_tokens)
        for fine in (None, np.array([0, 7, COLS // 32 - 1], np.int32)):
            got, want = (
                linear(packed, x, POOL, isa=isa, fine=fine, bias=bias) for packed in (sparse, dense)
            )
            np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("name", FORMATS)
def test_results_are_those_of_the_reference(name: str) -> None:
    raw = raw_weights(name)
    weights = by_name(name).dequantize(raw, (ROWS, COLS))
    for num_tokens in (1, 5, 40):
        x = activations(num_tokens)
        size = np.abs(x) @ np.abs(weights).T
        got = linear(pack(name, raw), x, POOL)
        assert np.all(np.abs(got - reference.linear_int8(weights, x)) <= 1e-5 * (size + 1))


@pytest.mark.parametrize("name", ALL)
def test_other_weights_stay_dense(name: str) -> None:
    raw = random_raw(name, 9, 2 * block_size(name)).reshape(-1)
    packed = PackedMatrix(name, 9, 2 * block_size(name), raw, POOL, packing="sparse")
    assert not packed.is_sparse


@pytest.mark.parametrize("name", FORMATS)
def test_one_group_of_three_keeps_a_matrix_dense(name: str) -> None:
    weights = prune(np.random.default_rng(1).standard_normal((ROWS, COLS)).astype(np.float32))
    weights[-1, -4:] = (1, 2, 3, 0)
    assert not pack(name, by_name(name).quantize(weights).reshape(-1)).is_sparse


def test_there_is_no_float_path() -> None:
    with pytest.raises(ValueError, match="sparse panels"):
        linear(pack("q8_0", raw_weights("q8_0")), activations(1), POOL, activations="f32")

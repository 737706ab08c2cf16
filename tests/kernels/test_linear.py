"""The linear kernels against NumPy: every format, every kernel table, both paths."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from plait._C import runnable_isas
from plait.core.window import NO_INTS
from plait.kernels import reference_linear as reference
from plait.kernels.linear import PackedMatrix, Pool, linear, quantize_rows
from tests.kernels.raw_weights import ALL, BLOCKS, HALVES, block_size, meaning, random_raw

POOL = Pool(2)
ISAS = runnable_isas()
NUM_TOKENS = (1, 2, 3, 5, 7, 8, 16, 33, 130)
ROWS = 45  # five panels and five rows


def pack(name: str, raw: NDArray[np.uint8], cols: int) -> PackedMatrix:
    return PackedMatrix(name, len(raw), cols, raw.reshape(-1), POOL)


def columns(name: str) -> int:
    return max(96, 2 * block_size(name))


def activations(rows: int, cols: int, seed: int = 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)


def assert_close(got: NDArray[np.float32], want: NDArray[np.float32], size: NDArray) -> None:
    """size: the sum of |weight * x| of each element, what rounding errors are relative to."""
    assert np.all(np.abs(got - want) <= 1e-5 * (size + 1))


@pytest.mark.parametrize("name", ALL)
def test_packing_loses_nothing(name: str) -> None:
    raw = random_raw(name, ROWS, columns(name))
    packed = pack(name, raw, columns(name))
    got = np.stack([packed.dequantize_row(row) for row in range(ROWS)])
    np.testing.assert_array_equal(got.view(np.uint32), meaning(name, raw).view(np.uint32))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_int8_path(name: str, isa: str) -> None:
    raw = random_raw(name, ROWS, columns(name))
    packed, weights = pack(name, raw, columns(name)), meaning(name, raw)
    for num_tokens in NUM_TOKENS:
        x = activations(num_tokens, columns(name), num_tokens)
        size = np.abs(x) @ np.abs(weights).T
        for fine in (NO_INTS, np.array([1, columns(name) // 32 - 1], np.int32)):
            got = linear(packed, x, POOL, isa=isa, fine=fine)
            assert_close(got, reference.linear_int8(weights, x, fine=fine), size)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ALL)
def test_the_f32_path(name: str, isa: str) -> None:
    raw = random_raw(name, ROWS, columns(name))
    packed, weights = pack(name, raw, columns(name)), meaning(name, raw)
    for num_tokens in NUM_TOKENS:
        x = activations(num_tokens, columns(name), num_tokens)
        got = linear(packed, x, POOL, activations="f32", isa=isa)
        assert_close(got, reference.linear_f32(weights, x), np.abs(x) @ np.abs(weights).T)


@pytest.mark.parametrize("isa", ISAS)
def test_float_weights_take_any_number_of_columns(isa: str) -> None:
    for name in ("f32", "f16", "bf16"):
        raw = random_raw(name, 11, 301)
        packed, weights, x = pack(name, raw, 301), meaning(name, raw), activations(9, 301)
        got = linear(packed, x, POOL, activations="f32", isa=isa)
        assert_close(got, reference.linear_f32(weights, x), np.abs(x) @ np.abs(weights).T)


@pytest.mark.parametrize("path", ["int8", "f32"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["q4_1", "q6_k", "q8_0"])
def test_bias_then_residual(name: str, isa: str, path: str) -> None:
    packed = pack(name, random_raw(name, ROWS, columns(name)), columns(name))
    x, bias, residual = activations(7, columns(name)), activations(1, ROWS)[0], activations(7, ROWS)
    options = {"activations": path, "isa": isa}
    plain = linear(packed, x, POOL, **options)
    np.testing.assert_array_equal(linear(packed, x, POOL, bias=bias, **options), plain + bias)
    both = linear(packed, x, POOL, bias=bias, residual=residual, **options)
    np.testing.assert_array_equal(both, (plain + bias) + residual)


@pytest.mark.parametrize("name", ALL)
def test_the_f32_path_is_a_chain_of_fused_steps(name: str) -> None:
    """Two columns that matter: fma(w1, x1, w0 * x0), which unlike w0 x0 + w1 x1 rounds once."""
    cols = columns(name)
    raw = random_raw(name, 16, cols)
    weights, x = meaning(name, raw), np.zeros((1, cols), np.float32)
    x[0, 3], x[0, cols - 2] = 1.2345678, -0.87654321
    first = (weights[:, 3] * x[0, 3]).astype(np.float64)
    want = weights[:, cols - 2].astype(np.float64) * x[0, cols - 2] + first
    got = linear(pack(name, raw, cols), x, POOL, activations="f32")[0]
    np.testing.assert_array_equal(got, want.astype(np.float32))


@pytest.mark.parametrize("isa", ISAS)
def test_the_most_negative_weight(isa: str) -> None:
    raw = np.full((16, 34), 0x80, np.uint8)
    raw[:, :2] = np.array([1.0], np.float16).view(np.uint8)
    x = np.full((3, 32), -1, np.float32)
    np.testing.assert_array_equal(
        linear(pack("q8_0", raw, 32), x, POOL, isa=isa), np.full((3, 16), np.float32(128 * 32))
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", BLOCKS)
def test_the_largest_sums_fit(name: str, isa: str) -> None:
    """All bits set, all activations at the limit: where an integer too narrow would overflow."""
    cols, size = columns(name), block_size(name)
    raw = random_raw(name, 8, cols).reshape(8, cols // size, -1) | np.uint8(255)
    one = np.array([1.0], np.float16).view(np.uint8)
    for at in HALVES[name]:
        raw[..., at : at + 2] = one
    raw = raw.reshape(8, -1)
    for x in (np.ones((2, cols), np.float32), -np.ones((40, cols), np.float32)):
        want = reference.linear_int8(meaning(name, raw), x)
        size = np.abs(x) @ np.abs(meaning(name, raw)).T
        assert_close(linear(pack(name, raw, cols), x, POOL, isa=isa), want, size)


@pytest.mark.parametrize("isa", ISAS)
def test_quantized_rows_are_the_twins(isa: str) -> None:
    random = np.random.default_rng(3)
    x = (random.standard_normal((50, 320)) * 10.0 ** random.integers(-30, 30, (50, 1))).astype(
        np.float32
    )
    x[3, :64], x[4, 5], x[5, 6], x[6, 7], x[7, :32] = 0, np.nan, np.inf, -np.inf, 1e-40
    x[8, :32] = np.arange(32) * 0.5  # ties
    x[8, 31] = 127.0
    x[9, :32] = 3.4e38
    for fine in (NO_INTS, np.array([0, 1, 9], np.int32)):
        pairs = zip(quantize_rows(x, isa, fine), reference.quantize_rows(x, fine), strict=True)
        for got, want in pairs:
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)


def test_quantizing_rounds_by_at_most_half_a_step() -> None:
    x = activations(20, 256)
    values, multipliers, scales = quantize_rows(x)
    error = np.abs(reference.dequantize_rows(values, multipliers, scales) - x)
    steps = reference.block_scales(multipliers, scales)
    assert np.all(error <= np.repeat(steps, 16, axis=1) * 0.5001)
    largest = np.abs(values.astype(int)).reshape(20, -1, 16).max(axis=-1)
    assert np.all(largest >= 127 * (1 - 1 / multipliers) - 0.5)
    assert np.all(multipliers.max(axis=1) == 4095)


def test_fine_blocks_are_kept_to_fifteen_bits() -> None:
    x, fine = activations(20, 256), np.array([0, 5], np.int32)
    values, multipliers, scales = quantize_rows(x, fine=fine)
    held = reference.dequantize_rows(values, multipliers, scales, fine)
    error = np.abs(held - x).reshape(20, -1, 2, 16)
    steps = reference.block_scales(multipliers, scales)[:, :16].reshape(20, -1, 2, 1)
    # Multipliers of rests are integers too: half of one of theirs more.
    smallest = scales.reshape(20, 1, 1, 1) * reference.REST_SCALE
    assert np.all(error[:, fine] <= (steps[:, fine] / 254 + smallest) * 0.5001)


def test_a_quiet_block_beside_a_loud_one_keeps_its_steps() -> None:
    x = activations(4, 64)
    x[:, :16] *= 500
    values, multipliers, scales = quantize_rows(x)
    error = np.abs(reference.dequantize_rows(values, multipliers, scales) - x)[:, 16:]
    assert np.all(error <= np.abs(x[:, 16:]).max() / 127 * 0.75)

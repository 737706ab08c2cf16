"""Wrong shapes, wrong types and hostile bytes: an error in words, or a result; never a crash."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plait._C import runnable_isas
from plait.kernels.linear import PackedMatrix, Pool, linear, quantize_rows
from tests.kernels.raw_weights import ALL, FLOATS, block_size, random_raw

POOL = Pool(2)
ISAS = runnable_isas()


def small() -> PackedMatrix:
    return PackedMatrix("q8_0", 10, 64, random_raw("q8_0", 10, 64).reshape(-1), POOL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("q9_z", 1, 32, 34), "no weight format"),
        (("q8_0", 1, 33, 34), "no multiple"),
        (("q4_k", 1, 128, 72), "blocks of 256"),
        (("q8_0", 0, 32, 0), "at least one row"),
        (("q8_0", -1, 32, 34), "at least one row"),
        (("q8_0", 1, 0, 0), "at least one row"),
        (("q8_0", 2, 32, 34), "take 68 bytes, not 34"),
        (("q8_0", 1, 32, 35), "take 34 bytes, not 35"),
        (("f32", 2**62, 2**62, 4), "too large"),
    ],
)
def test_weights_that_do_not_fit(arguments: tuple[str, int, int, int], message: str) -> None:
    name, rows, cols, num_bytes = arguments
    with pytest.raises(ValueError, match=message):
        PackedMatrix(name, rows, cols, np.zeros(num_bytes, np.uint8), POOL)


def test_raw_weights_of_the_wrong_kind() -> None:
    for raw in (np.zeros(34, np.int8), np.zeros((1, 34), np.uint8), np.zeros(68, np.uint8)[::2]):
        with pytest.raises(ValueError, match="raw must be a contiguous uint8"):
            PackedMatrix("q8_0", 1, 32, raw, POOL)


def test_activations_that_do_not_fit() -> None:
    packed = small()
    for x in (np.zeros((2, 32), np.float32), np.zeros((2, 65), np.float32)):
        with pytest.raises(ValueError, match="the matrix has 64"):
            linear(packed, x, POOL)
    for x in (np.zeros((2, 64)), np.zeros(64, np.float32), np.zeros((1, 2, 64), np.float32)):
        with pytest.raises(ValueError, match="x must be a contiguous float32"):
            linear(packed, x, POOL)
    with pytest.raises(ValueError, match="multiple of 32"):
        quantize_rows(np.zeros((1, 33), np.float32))
    for blocks in ([2], [-1], [1, 0], [0, 0]):
        with pytest.raises(ValueError, match="ascending"):
            linear(packed, np.zeros((2, 64), np.float32), POOL, fine=np.array(blocks, np.int32))


def test_options_that_do_not_fit() -> None:
    packed, x = small(), np.zeros((2, 64), np.float32)
    wrong = {
        "bias": np.zeros(9, np.float32),
        "residual": np.zeros((3, 10), np.float32),
        "isa": "mmx",
        "activations": "int4",
        "panels": (1, 3),
    }
    for option, value in wrong.items():
        with pytest.raises(ValueError, match=option if option != "isa" else "mmx"):
            linear(packed, x, POOL, **{option: value})
    for panels in ((-1, 1), (2, 1)):
        with pytest.raises(ValueError, match="panels"):
            linear(packed, x, POOL, panels=panels)
    with pytest.raises(ValueError, match="row outside"):
        packed.dequantize_row(10)


def test_float_weights_have_no_int8_path() -> None:
    packed = PackedMatrix("f16", 3, 32, np.zeros(192, np.uint8), POOL)
    with pytest.raises(ValueError, match="f32"):
        linear(packed, np.zeros((1, 32), np.float32), POOL)


def test_no_rows_of_activations() -> None:
    assert linear(small(), np.zeros((0, 64), np.float32), POOL).shape == (0, 10)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(ALL),
    rows=st.integers(1, 20),
    num_tokens=st.sampled_from([1, 2, 9, 33]),
    seed=st.integers(0, 2**32 - 1),
    is_int8=st.booleans(),
)
def test_any_bytes_are_weights(
    name: str, rows: int, num_tokens: int, seed: int, is_int8: bool
) -> None:
    """Undefined and infinite scales may spoil their own results, and all tables agree which ones."""
    random = np.random.default_rng(seed)
    cols = max(32, block_size(name))
    raw = random.integers(0, 256, random_raw(name, rows, cols).size, np.uint8)
    packed = PackedMatrix(name, rows, cols, raw, POOL)
    x = random.standard_normal((num_tokens, cols)).astype(np.float32)
    path = "int8" if is_int8 and name not in FLOATS else "f32"
    want = linear(packed, x, POOL, activations=path, isa="generic")
    for isa in ISAS:
        got = linear(packed, x, POOL, activations=path, isa=isa)
        np.testing.assert_array_equal(got, want)  # takes NaN for equal to NaN


@pytest.mark.parametrize("isa", ISAS)
def test_a_bad_scale_spoils_its_own_row_only(isa: str) -> None:
    raw = random_raw("q8_0", 24, 64)
    clean = raw.copy()
    raw[5, :2] = np.array([np.nan], np.float16).view(np.uint8)
    raw[9, :2] = np.array([np.inf], np.float16).view(np.uint8)
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    want = linear(PackedMatrix("q8_0", 24, 64, clean.reshape(-1), POOL), x, POOL, isa=isa)
    got = linear(PackedMatrix("q8_0", 24, 64, raw.reshape(-1), POOL), x, POOL, isa=isa)
    others = [row for row in range(24) if row not in (5, 9)]
    assert np.all(np.isnan(got[:, 5]))
    assert not np.any(np.isfinite(got[:, 9]))
    np.testing.assert_array_equal(got[:, others], want[:, others])


@pytest.mark.parametrize("isa", ISAS)
def test_activations_that_are_not_numbers(isa: str) -> None:
    x = np.ones((4, 64), np.float32)
    x[1, 3], x[2, 40], x[3, 63] = np.nan, np.inf, -np.inf
    assert np.all(np.isfinite(linear(small(), x, POOL, isa=isa)[0]))
    values, _, scales = quantize_rows(x, isa)
    assert np.all(np.isfinite(scales))
    assert values[1, 3] == -127
    assert (values[2, 40], values[3, 63]) == (127, -127)

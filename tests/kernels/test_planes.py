"""Q8_0 in two planes: the same weights and, to the bit, the same results as in panels."""

from __future__ import annotations

import numpy as np
import pytest

from plait._C import runnable_isas
from plait.kernels.linear import PackedMatrix, Pool, linear
from tests.kernels.raw_weights import random_raw

POOL = Pool(2)
SHAPES = [(1, 32), (8, 32), (77, 64), (200, 576)]


def both(rows: int, cols: int) -> tuple[PackedMatrix, PackedMatrix]:
    raw = random_raw("q8_0", rows, cols).reshape(-1)
    return (
        PackedMatrix("q8_0", rows, cols, raw, POOL),
        PackedMatrix("q8_0", rows, cols, raw, POOL, packing="planes"),
    )


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_rows_come_back_and_no_byte_is_added(rows: int, cols: int) -> None:
    panels, planes = both(rows, cols)
    assert panels.bytes == planes.bytes
    for row in range(rows):
        np.testing.assert_array_equal(panels.dequantize_row(row), planes.dequantize_row(row))


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_results_have_the_same_bits(rows: int, cols: int, isa: str) -> None:
    panels, planes = both(rows, cols)
    random = np.random.default_rng(1)
    for tokens in (1, 2, 3, 5, 8, 33, 130):
        x = random.standard_normal((tokens, cols)).astype(np.float32)
        for fine in (None, np.array([cols // 32 - 1], np.int32)):
            want = linear(panels, x, POOL, isa=isa, fine=fine)
            got = linear(planes, x, POOL, isa=isa, fine=fine)
            np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def test_only_q8_0_lies_in_planes_and_only_int8_reads_them() -> None:
    with pytest.raises(ValueError, match="q8_0"):
        PackedMatrix("q4_0", 8, 32, random_raw("q4_0", 8, 32).reshape(-1), POOL, packing="planes")
    with pytest.raises(ValueError, match="int8"):
        linear(both(8, 32)[1], np.zeros((1, 32), np.float32), POOL, activations="f32")

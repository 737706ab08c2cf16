"""Matrices in two planes: the same weights and, to the bit, the same results as in panels."""

from __future__ import annotations

import numpy as np
import pytest

from plait._C import runnable_isas
from plait.kernels.linear import PackedMatrix, Pool, linear
from tests.kernels.raw_weights import random_raw

POOL = Pool(2)
SHAPES = [("q8_0", 1, 32), ("q8_0", 8, 32), ("q8_0", 77, 64), ("q8_0", 200, 576)]
SHAPES += [("q6_k", 1, 256), ("q6_k", 8, 256), ("q6_k", 77, 512), ("q6_k", 200, 1536)]


def both(name: str, rows: int, cols: int) -> tuple[PackedMatrix, PackedMatrix]:
    raw = random_raw(name, rows, cols).reshape(-1)
    return (
        PackedMatrix(name, rows, cols, raw, POOL),
        PackedMatrix(name, rows, cols, raw, POOL, packing="planes"),
    )


@pytest.mark.parametrize(("name", "rows", "cols"), SHAPES)
def test_rows_come_back_and_no_byte_is_added(name: str, rows: int, cols: int) -> None:
    panels, planes = both(name, rows, cols)
    assert panels.bytes == planes.bytes
    for row in range(rows):
        np.testing.assert_array_equal(panels.dequantize_row(row), planes.dequantize_row(row))


@pytest.mark.parametrize("isa", runnable_isas())
@pytest.mark.parametrize(("name", "rows", "cols"), SHAPES)
def test_results_have_the_same_bits(name: str, rows: int, cols: int, isa: str) -> None:
    panels, planes = both(name, rows, cols)
    random = np.random.default_rng(1)
    for tokens in (1, 2, 3, 5, 8, 33, 130):
        x = random.standard_normal((tokens, cols)).astype(np.float32)
        for fine in (None, np.array([cols // 32 - 1], np.int32)):
            want = linear(panels, x, POOL, isa=isa, fine=fine)
            got = linear(planes, x, POOL, isa=isa, fine=fine)
            np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("name", ["q4_0", "q5_k", "f16"])
def test_other_formats_do_not_lie_in_planes(name: str) -> None:
    raw = random_raw(name, 8, 256).reshape(-1)
    with pytest.raises(ValueError, match="q6_k"):
        PackedMatrix(name, 8, 256, raw, POOL, packing="planes")


def test_only_int8_reads_planes() -> None:
    with pytest.raises(ValueError, match="int8"):
        linear(both("q8_0", 8, 32)[1], np.zeros((1, 32), np.float32), POOL, activations="f32")

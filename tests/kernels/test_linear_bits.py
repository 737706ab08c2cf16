"""Bit equality: a result depends on its row of x and its row of W, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from plait._C import runnable_isas
from plait.kernels.linear import PackedMatrix, Pool, linear
from tests.kernels.raw_weights import ALL, BLOCKS, FLOATS, block_size, random_raw

ISAS = runnable_isas()
POOL = Pool(2)
ROWS = 77  # ten panels, the last with five rows: streams, pairs and remainders all occur
SLICES = ((0, 1), (1, 1), (1, 2), (3, 3), (0, 5), (2, 7), (9, 8), (5, 16), (100, 33))
PATHS = [(name, "int8") for name in BLOCKS] + [(name, "f32") for name in ALL]


def matrix(name: str, rows: int = ROWS) -> PackedMatrix:
    cols = 2 * max(block_size(name), 80 if name in FLOATS else 32)
    return PackedMatrix(name, rows, cols, random_raw(name, rows, cols).reshape(-1), POOL)


def activations(packed: PackedMatrix, num_tokens: int) -> NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal((num_tokens, packed.cols)).astype(np.float32)


def fine_blocks(packed: PackedMatrix, path: str) -> list[NDArray[np.int32] | None]:
    """None at all, and the first and last block."""
    last = packed.cols // 32 - 1
    return [None, np.array([0, last], np.int32)] if path == "int8" else [None]


def assert_same_bits(got: NDArray[np.float32], want: NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("name", "path"), PATHS)
def test_the_number_of_rows_changes_nothing(name: str, path: str, isa: str) -> None:
    packed = matrix(name)
    x = activations(packed, 260)
    for fine in fine_blocks(packed, path):
        whole = linear(packed, x, POOL, activations=path, isa=isa, fine=fine)
        for first, count in SLICES:
            rows = slice(first, first + count)
            part = linear(packed, x[rows], POOL, activations=path, isa=isa, fine=fine)
            assert_same_bits(part, whole[rows])


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_every_table_gives_the_same_bits(name: str, path: str) -> None:
    packed = matrix(name)
    for num_tokens in (1, 6, 37):
        x = activations(packed, num_tokens)
        for fine in fine_blocks(packed, path):
            want = linear(packed, x, POOL, activations=path, isa="generic", fine=fine)
            for isa in ISAS:
                got = linear(packed, x, POOL, activations=path, isa=isa, fine=fine)
                assert_same_bits(got, want)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("name", "path"), PATHS)
def test_ranges_of_panels_are_columns_of_the_whole(name: str, path: str, isa: str) -> None:
    packed = matrix(name)
    for num_tokens in (1, 4, 40):
        x = activations(packed, num_tokens)
        whole = linear(packed, x, POOL, activations=path, isa=isa)
        for begin, end in ((0, 1), (1, 2), (3, 8), (9, 10), (0, 9), (4, 4)):
            part = linear(packed, x, POOL, activations=path, isa=isa, panels=(begin, end))
            want = np.zeros_like(whole)
            want[:, 8 * begin : 8 * end] = whole[:, 8 * begin : 8 * end]
            assert_same_bits(part, want)


@pytest.mark.parametrize(("name", "path"), PATHS)
def test_the_number_of_threads_changes_nothing(name: str, path: str) -> None:
    packed = matrix(name)
    pools = [Pool(1), Pool(3), Pool(7)]
    for num_tokens in (1, 35):
        x = activations(packed, num_tokens)
        want = linear(packed, x, POOL, activations=path)
        for pool in pools:
            assert_same_bits(linear(packed, x, pool, activations=path), want)


@pytest.mark.parametrize("num_threads", [1, 2, 5])
def test_packing_does_not_depend_on_the_threads(num_threads: int) -> None:
    raw = random_raw("q5_k", ROWS, 512)
    packed = PackedMatrix("q5_k", ROWS, 512, raw.reshape(-1), Pool(num_threads))
    x = activations(packed, 3)
    assert_same_bits(linear(packed, x, POOL), linear(matrix("q5_k"), x, POOL))


@pytest.mark.parametrize("rows", range(1, 18))
def test_any_number_of_rows_of_weights(rows: int) -> None:
    for name in ("q4_0", "q6_k", "f16"):
        path = "f32" if name in FLOATS else "int8"
        whole = matrix(name, 24)
        x = activations(whole, 34)
        raw = random_raw(name, 24, whole.cols)[:rows]
        few = PackedMatrix(name, rows, whole.cols, raw.reshape(-1), POOL)
        want = linear(whole, x, POOL, activations=path)
        assert_same_bits(linear(few, x, POOL, activations=path), want[:, :rows])

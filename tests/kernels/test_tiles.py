"""Which tiles run is a matter of speed: every choice gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from plait._C import runnable_isas
from plait.analysis.sparse import FORMATS, prune
from plait.kernels.linear import PackedMatrix, Pool, linear
from plait.kernels.tiles import MATRIX, NEVER, ROWS, Kind, expand_from, measure, set_expand_from
from plait.quant.base import by_name
from tests.kernels.raw_weights import BLOCKS, block_size, random_raw

POOL = Pool(2)
ISAS = runnable_isas()
KINDS = [Kind(name, False) for name in BLOCKS] + [Kind(name, True) for name in FORMATS]


def matrix(kind: Kind) -> PackedMatrix:
    rows, cols = 45, 2 * block_size(kind.format_name)
    raw = random_raw(kind.format_name, rows, cols)
    if kind.is_sparse:
        weights = np.random.default_rng(0).standard_normal((rows, cols)).astype(np.float32)
        raw = by_name(kind.format_name).quantize(prune(weights))
    return PackedMatrix(
        kind.format_name,
        rows,
        cols,
        raw.reshape(-1),
        POOL,
        packing="sparse" if kind.is_sparse else "panels",
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_choice_changes_a_bit(kind: Kind, isa: str) -> None:
    packed, before = matrix(kind), expand_from(isa, *kind)
    assert packed.is_sparse == kind.is_sparse
    x = np.random.default_rng(3).standard_normal((64, packed.cols)).astype(np.float32)
    for num_tokens in (1, 2, 3, 4, 5, 7, 11, 16, 31, 64):
        found = []
        for rows in (1, 5, NEVER):
            set_expand_from(isa, *kind, rows)
            found.append(linear(packed, x[:num_tokens], POOL, isa=isa).view(np.uint32))
        set_expand_from(isa, *kind, before)
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


@pytest.mark.parametrize("kind", [Kind("q4_0", True), Kind("q6_k", False)], ids=str)
def test_measuring_finds_a_choice_and_makes_none(kind: Kind) -> None:
    set_expand_from(ISAS[-1], *kind, 11)
    zeros = by_name(kind.format_name).quantize(np.zeros(MATRIX, np.float32)).reshape(-1)
    assert measure(kind, zeros, ISAS[-1]) in (*ROWS, NEVER)
    assert expand_from(ISAS[-1], *kind) == 11


def test_choices_are_kept_apart_and_checked() -> None:
    set_expand_from("generic", "q8_0", False, 3)
    set_expand_from("generic", "q8_0", True, 4)
    assert expand_from("generic", "q8_0", False) == 3
    assert expand_from("generic", "q8_0", True) == 4
    with pytest.raises(ValueError, match="at least 1"):
        set_expand_from("generic", "q8_0", False, 0)
    with pytest.raises(ValueError, match="no weight format"):
        set_expand_from("generic", "q9_0", False, 1)

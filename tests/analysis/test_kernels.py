"""Roofline and linear kernels: what is recorded. No timing is asserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plait.analysis import gemm, roofline, sparse
from plait.analysis.roofline import Peaks
from plait.analysis.throughput import Load, measure
from plait.core.errors import UserError
from plait.kernels.measure import time_linear, time_multiply, time_read
from plait.kernels.plan import PackedMatrix, Pool, runnable_isas
from tests.fakes import make_engine
from tests.synthetic import LLAMA, checkpoint

PEAKS = Peaks(read=1e9, multiply=1e9, last_level_cache=1 << 12)


@pytest.mark.parametrize("isa", runnable_isas())
def test_the_peaks_are_positive(isa: str) -> None:
    pool = Pool(2)
    assert all(seconds > 0 for seconds in time_read(pool, 1 << 16, 3, isa))
    assert time_multiply(pool, 1, isa) > 0


def test_the_last_level_cache_is_the_largest(tmp_path: Path) -> None:
    for index, text in enumerate(["32K", "512K", "8M\n"]):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(text)
    assert roofline.last_level_cache(tmp_path) == 8 << 20
    assert roofline.last_level_cache(tmp_path / "missing") == roofline.DEFAULT_CACHE


class Opened:
    """A checkpoint in memory with the table that a file has."""

    def __init__(self, matrix_format: str) -> None:
        self.inner = checkpoint(LLAMA, matrix_format=matrix_format)
        self.tensors = {name: self.inner.info(name) for name in self.inner.names()}
        self.raw = self.inner.raw

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is mapped."""


def test_every_kind_of_matrix_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemm, "open_checkpoint", lambda path: Opened("q8_0"))
    found = list(gemm.measure(Path("m"), Pool(1), PEAKS, rows=(1, 4), seconds=0.0))
    shapes = {(64, 64), (32, 64), (96, 64), (64, 96)}  # q and o, k and v, gate and up, down
    assert {tuple(one["shape"]) for one in found} == shapes
    assert [one["rows"] for one in found] == [1, 4] * 4
    for one in found:
        assert one["copies"] * _bytes(one) > gemm.CACHES * PEAKS.last_level_cache
        assert one["of_read"] == pytest.approx(one["gigabytes_per_second"])
        assert one["of_multiply"] == pytest.approx(one["gigamacs_per_second"])


def _bytes(one: dict[str, Any]) -> float:
    return float(one["gigabytes_per_second"] * 1e3 * one["microseconds"])


def test_a_format_that_the_model_has_not_is_refused() -> None:
    with pytest.raises(UserError, match="q4_k"):
        gemm.kinds(Opened("q8_0"), "q4_k")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="any"):
        gemm.kinds(Opened("f32"))  # type: ignore[arg-type]


def test_matrices_that_do_not_fit_are_refused() -> None:
    pool = Pool(1)
    one = PackedMatrix("q8_0", 8, 32, np.zeros(8 * 34, np.uint8), pool)
    other = PackedMatrix("q8_0", 16, 32, np.zeros(16 * 34, np.uint8), pool)
    x = np.zeros((2, 32), np.float32)
    assert len(time_linear([one, one], x, pool, 3)) == 3
    for matrices, rows in [([], x), ([one, other], x), ([one], x[:, :16].copy()), ([one], x[:0])]:
        with pytest.raises(ValueError):
            time_linear(matrices, rows, pool, 1)


def test_throughput_counts_all_requests() -> None:
    engine = make_engine(max_num_batched_tokens=32)
    record = measure(engine, Load(batch=3, prompt_tokens=20, tokens=5), runs=2)
    assert (record["batch"], record["prompt_tokens"], record["tokens"]) == (3, 20, 5)
    rates = record["median"]
    assert rates["all_tokens_per_second"] == pytest.approx(5 * rates["tokens_per_second"], rel=0.5)
    assert engine.metrics.num_tokens == 3 * 3 * 5
    assert not engine.has_work


def test_every_shape_is_pruned_and_measured_in_both_kinds_of_panels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "open_checkpoint", lambda path: Opened("q4_1"))
    found = list(sparse.measure(Path("m"), Pool(1), PEAKS, rows=(1, 4), seconds=0.0))
    shapes = {(64, 64), (32, 64), (96, 64), (64, 96)}
    kinds = {(tuple(one["shape"]), one["format"], one["rows"]) for one in found}
    assert kinds == {
        (shape, name, m) for shape in shapes for name in ("q4_0", "q8_0") for m in (1, 4)
    }
    assert len(found) == len(kinds)
    for one in found:
        assert one["bytes"] < 1
        times = one["dense_microseconds"] / one["sparse_microseconds"]
        assert one["speedup"] == pytest.approx(times)
    with pytest.raises(UserError, match="q5_0 has no sparse panels"):
        next(sparse.measure(Path("m"), Pool(1), PEAKS, wanted="q5_0"))

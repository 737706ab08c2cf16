"""Mixtures of experts: native equals reference, no row depends on the others, only what was chosen is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plait.core.window import CAUSAL, FULL, block
from plait.kernels.plan import runnable_isas
from tests.runner.test_executors import Bench, bits, close, feed
from tests.synthetic import CONFIGS, MemoryCheckpoint, checkpoint

FAMILIES = ["llada-moe", "llada2"]


def mostly(ours: np.ndarray, theirs: np.ndarray) -> None:
    """A value on the edge between two int8 steps may fall to either side in the two executors, and then a row
    on the edge between two experts may fall to another one."""
    apart = np.sqrt(np.mean((ours - theirs) ** 2, axis=1)) / np.std(theirs)
    assert np.quantile(apart, 0.9) < 0.04


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("matrix_format", ["f16", "bf16"])
def test_float_weights_equal_the_reference(family: str, matrix_format: str) -> None:
    bench = Bench(CONFIGS[family], matrix_format=matrix_format, activations="int8")
    step = [feed(bench.sequence(45, 1), 0, 45, pattern=FULL)]
    (ours,), (theirs,) = bench.native.forward(step), bench.reference.forward(step)
    close(ours, theirs, 1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("matrix_format", ["q8_0", "q4_0", "q5_1", "iq4_nl"])
def test_int8_activations_equal_the_reference(family: str, matrix_format: str) -> None:
    bench = Bench(CONFIGS[family], matrix_format=matrix_format, activations="int8", kv="f16")
    step = [feed(bench.sequence(45, 1), 0, 45, pattern=FULL)]
    (ours,), (theirs,) = bench.native.forward(step), bench.reference.forward(step)
    mostly(ours, theirs)


@pytest.mark.parametrize("matrix_format", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k"])
def test_formats_of_256_columns_equal_the_reference(matrix_format: str) -> None:
    wide = {"hidden_size": 256, "dense_intermediate_size": 256, "expert_intermediate_size": 256}
    config = {**CONFIGS["llada-moe"], **wide, "num_experts": 6, "num_experts_per_tok": 2}
    bench = Bench(config, matrix_format=matrix_format, activations="int8", kv="f16")
    step = [feed(bench.sequence(20, 1), 0, 20, pattern=FULL)]
    (ours,), (theirs,) = bench.native.forward(step), bench.reference.forward(step)
    mostly(ours, theirs)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_batch_equals_single_bit_for_bit(family: str, activations: str) -> None:
    bench = Bench(CONFIGS[family], matrix_format="q5_0", activations=activations, kv="f16")
    pattern = bench.model.traits().pattern
    lengths = [1, 40, 7, 33, 64, 2]

    def window(index: int) -> Any:
        item = bench.sequence(lengths[index], 10 + index)
        return feed(item, 0, lengths[index], pattern=pattern)

    singles = [bits(bench.native.forward([window(i)])[0]) for i in range(len(lengths))]
    together = bench.native.forward([window(i) for i in range(len(lengths))])
    assert [bits(rows) for rows in together] == singles


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_chunked_equals_whole_bit_for_bit(family: str, activations: str) -> None:
    bench = Bench(CONFIGS[family], matrix_format="q4_1", activations=activations, kv="f16")
    for pattern, chunk in ((CAUSAL, 1), (CAUSAL, 7), (block(8), 8), (block(8), 24)):
        whole = bits(bench.native.forward([feed(bench.sequence(64, 4), 0, 64, pattern=pattern)])[0])
        again = bench.sequence(64, 4)
        parts = [
            bench.native.forward([feed(again, s, min(64, s + chunk), pattern=pattern)])[0].copy()
            for s in range(0, 64, chunk)
        ]
        assert bits(np.concatenate(parts)) == whole


def test_threads_and_tables_do_not_change_a_bit() -> None:
    outcomes = set()
    for isa in runnable_isas():
        for threads in (1, 2, 3):
            bench = Bench(
                CONFIGS["llada2"], matrix_format="q4_1", activations="int8", kv="f16",
                threads=threads, isa=isa,
            )  # fmt: skip
            outcomes.add(bits(bench.native.forward([feed(bench.sequence(80, 6), 0, 80)])[0]))
    assert len(outcomes) == 1


def test_experts_that_nobody_chose_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may hold anything."""
    favoured = {0, 3, 8, 11}
    steered = np.array([50.0 if e in favoured else 0.0 for e in range(16)], np.float32)

    def answer(spoil: float) -> np.ndarray:
        def made(config: dict[str, Any], *, matrix_format: str) -> MemoryCheckpoint:
            given = checkpoint(config)
            tensors = {name: given.dequantized(name).copy() for name in given.names()}
            for name, tensor in tensors.items():
                _, _, inside = name.partition("mlp.experts.")
                if name.endswith("expert_bias"):
                    tensor[:] = steered
                elif inside and int(inside.split(".")[0]) not in favoured:
                    tensor *= spoil
            return MemoryCheckpoint(config, tensors, "f16")

        monkeypatch.setattr("tests.runner.test_executors.checkpoint", made)
        bench = Bench(CONFIGS["llada2"])
        return bench.native.forward([feed(bench.sequence(40, 1), 0, 40)])[0].copy()

    assert bits(answer(100.0)) == bits(answer(1.0))
    assert np.isfinite(answer(1.0)).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_activations_beyond_all_bounds_disturb_no_neighbour(
    family: str, activations: str, value: float
) -> None:
    bench = Bench(CONFIGS[family], matrix_format="q8_0", activations=activations)
    good, bad = bench.sequence(20, 1), bench.sequence(20, 2)
    alone = bits(bench.native.forward([feed(good, 0, 20, pattern=FULL)])[0])
    wild = np.full((20, 64), value, np.float32)
    step = [feed(bad, 0, 20, embeddings=wild), feed(good, 0, 20, pattern=FULL)]
    assert bits(bench.native.forward(step)[1]) == alone

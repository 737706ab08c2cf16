"""A model whose matrices are 2:4 sparse: fewer bytes in memory, the same bits in every logit."""

from __future__ import annotations

import numpy as np
import pytest

from plait.analysis.sparse import prune
from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import Floats, KVView, Window
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.runner import native
from plait.runner.native import NativeRunner
from plait.runner.weights import Weights
from plait.weights.base import Checkpoint
from tests.synthetic import CONFIGS, MemoryCheckpoint, checkpoint

CONFIG = CONFIGS["llama-tied-mha"]


def pruned() -> MemoryCheckpoint:
    plain = checkpoint(CONFIG)
    tensors = {name: plain.dequantized(name) for name in plain.names()}
    halved = {name: prune(t) if t.ndim == 2 else t for name, t in tensors.items()}
    return MemoryCheckpoint(CONFIG, halved, "q8_0")


def run(activations: str) -> tuple[list[Floats], int]:
    """Logits of a prompt and of one token after it; bytes of the packed matrices."""
    model, weights = model_for("safetensors", CONFIG), pruned()
    graph = trace(model, {name: weights.info(name).shape for name in weights.names()})
    shape = model.cache_shape()
    pool = Pool(KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, "f16"), 4)
    runner = NativeRunner(graph, weights, pool, activations=activations, threads=Threads(2))
    sequence = Sequence(0, np.arange(41, dtype=np.int32), SamplingParams(), limit=41, seed=0)
    steps = [
        Window(0, 40, rows=np.arange(40, dtype=np.int32)),
        Window(40, 41, rows=np.zeros(1, np.int32)),
    ]
    view = KVView(np.array([2, 1], np.int32))
    logits = [runner.forward([StepInput(sequence, step, view)])[0].copy() for step in steps]
    return logits, runner.weights.packed_bytes


class DenseWeights(Weights):
    def __init__(self, checkpoint: Checkpoint, pool: Threads, packing: object) -> None:
        super().__init__(checkpoint, pool, lambda name, format_name: "panels")


def test_logits_are_those_of_dense_panels_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, sparse_bytes = run("int8")
    monkeypatch.setattr(native, "Weights", DenseWeights)
    dense, dense_bytes = run("int8")
    assert 22 / 34 < sparse_bytes / dense_bytes < 0.75  # the head is dense, in planes
    for got, want in zip(sparse, dense, strict=True):
        assert np.abs(want).max() > 0.1
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


def test_float_activations_keep_dense_panels() -> None:
    _, dense_bytes = run("f32")
    _, sparse_bytes = run("int8")
    assert 22 / 34 < sparse_bytes / dense_bytes < 0.75  # the head is dense, in planes

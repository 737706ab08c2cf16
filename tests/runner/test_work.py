"""What a forward costs at least, against counts made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plait.models.base import AttentionSpec
from plait.models.choose import model_for, trace
from plait.runner.work import Cost, Mixture, Work, graph_work, seen
from tests.synthetic import CONFIGS, LLAMA, checkpoint

SPEC = AttentionSpec(0, heads=4, kv_heads=2, head_dim=16, scale=1.0)
WORK = Work(1000, 600, 500, 300, (SPEC, replace(SPEC, layer=1, window=8)))


@pytest.mark.parametrize("window", [0, 1, 8, 100])
@pytest.mark.parametrize(("rows", "start"), [(1, 0), (1, 30), (5, 0), (5, 6), (20, 30)])
def test_pairs_and_slots_are_those_that_a_mask_has(rows: int, start: int, window: int) -> None:
    visible = [
        {s for s in range(slot + 1) if not window or s > slot - window}
        for slot in range(start, start + rows)
    ]
    assert seen(rows, start, window) == (sum(map(len, visible)), len(set().union(*visible)))


def test_a_step_reads_weights_once_and_caches_for_each() -> None:
    slot = 2 * 2 * 16 * 2
    alone = WORK.step(rows=1, start=20, logits=1, kv="f16")
    assert alone == Cost(900 + (21 + 8) * slot, 1500 + 2 * 4 * 16 * (21 + 8))
    four = WORK.step(rows=1, start=20, logits=1, kv="f16", sequences=4)
    assert four == Cost(900 + 4 * (21 + 8) * slot, 4 * alone.macs)
    assert WORK.step(rows=3, start=0, logits=0, kv="f32").bytes == 600 + 2 * 3 * 2 * slot


def test_a_shared_prefix_is_read_once() -> None:
    slot = 2 * 2 * 16 * 2
    shared = WORK.step(rows=1, start=20, logits=0, kv="f16", sequences=4, shared=16)
    # Without a window 16 of the 21 slots are common; with one of 8, slots 13 to 15 of 13 to 20.
    assert shared.bytes == 600 + (4 * 21 - 3 * 16 + 4 * 8 - 3 * 3) * slot


def test_the_graph_is_counted_as_the_file_stores_it() -> None:
    source = checkpoint(LLAMA, matrix_format="q8_0")
    shapes = {name: source.info(name).shape for name in source.names()}
    work = graph_work(trace(model_for("hf", LLAMA), shapes), source)
    matrices = [name for name in source.names() if len(shapes[name]) == 2]
    total = sum(shapes[n][0] * shapes[n][1] for n in matrices if "embed" not in n)
    assert work.weights + work.head_weights == total
    assert work.weight_bytes == work.weights // 32 * 34
    assert len(work.attention) == 2


def test_of_experts_only_those_that_a_row_chose_are_read() -> None:
    mixture = Mixture(weights=100, bytes=50, count=16, top_k=4)
    assert mixture.cost(1) == Cost(4 * 50, 4 * 100)
    assert mixture.cost(2) == Cost(
        7 * 50, 8 * 100
    )  # the second row finds a quarter of its four read
    assert mixture.cost(1000) == Cost(16 * 50, 4000 * 100)
    dense, sparse = WORK, replace(WORK, mixtures=(mixture, mixture))
    for rows in (1, 5):
        costs = [work.step(rows=rows, start=3, logits=1, kv="f16") for work in (dense, sparse)]
        assert costs[1] == costs[0] + mixture.cost(rows) * 2


def test_experts_of_a_graph_are_counted_apart() -> None:
    config = CONFIGS["llada-moe"]
    source = checkpoint(config, matrix_format="q8_0")
    shapes = {name: source.info(name).shape for name in source.names()}
    work = graph_work(trace(model_for("safetensors", config), shapes), source)
    expert = Mixture(3 * 32 * 64, 3 * 32 * 64 // 32 * 34, count=16, top_k=4)
    assert work.mixtures == (expert, expert)
    assert work.weights == 2 * (4 * 64 * 64 + 16 * 64)

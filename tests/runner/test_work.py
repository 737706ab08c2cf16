"""What a forward costs at least, against counts made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plait.models.base import AttentionSpec
from plait.models.choose import model_for, trace
from plait.runner.work import Cost, Work, graph_work, seen
from tests.synthetic import LLAMA, checkpoint

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

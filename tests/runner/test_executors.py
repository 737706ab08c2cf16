"""The native executor equals the reference, and a row never depends on what else is in the batch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from plait.core.params import SamplingParams
from plait.core.sequence import Sequence
from plait.core.step import StepInput
from plait.core.window import (
    CAUSAL,
    FULL,
    KVView,
    Pattern,
    PatternKind,
    Soft,
    Window,
    block,
    full,
)
from plait.kernels.plan import Pool as Threads
from plait.kernels.plan import runnable_isas
from plait.kvcache.pool import KVLayout, Pool
from plait.models.choose import model_for, trace
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from tests.synthetic import CONFIGS, checkpoint

NUM_PAGES = 64


class Bench:
    """One model on both executors; pages are dealt out in a scrambled order."""

    def __init__(
        self,
        config: dict[str, Any],
        *,
        matrix_format: str = "f32",
        activations: str = "f32",
        kv: str = "f32",
        threads: int = 2,
        isa: str = "auto",
        num_pages: int = NUM_PAGES,
    ) -> None:
        self.checkpoint = checkpoint(config, matrix_format=matrix_format)
        self.model = model_for("safetensors", config)
        names = self.checkpoint.names()
        self.graph = trace(self.model, {n: self.checkpoint.info(n).shape for n in names})
        shape = self.model.cache_shape()
        layout = KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, kv)
        self.pool, self.twin_pool = Pool(layout, num_pages), Pool(layout, num_pages)
        self.native = NativeRunner(
            self.graph,
            self.checkpoint,
            self.pool,
            activations=activations,
            threads=Threads(threads),
            isa=isa,
        )
        self.reference = ReferenceRunner(
            self.graph, self.checkpoint, self.twin_pool, activations=activations
        )
        self._free = np.random.default_rng(5).permutation(num_pages).tolist()

    def sequence(self, length: int, seed: int) -> tuple[Sequence, KVView]:
        vocab = self.model.config.vocab_size
        tokens = np.random.default_rng(seed).integers(0, vocab, length, dtype=np.int32)
        pages = np.array([self._free.pop() for _ in range(-(-length // 32))], np.int32)
        sequence = Sequence(seed, tokens, SamplingParams(), limit=length, seed=0)
        return sequence, KVView(pages)


def feed(item: tuple[Sequence, KVView], start: int, end: int, **fields: Any) -> StepInput:
    """A window over [start, end) that asks for the logits of all its rows."""
    fields.setdefault("rows", np.arange(end - start, dtype=np.int32))
    sequence, view = item
    return StepInput(sequence, Window(start, end, **fields), view)


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(a, b, atol=tolerance, rtol=0)


def roughly(ours: np.ndarray, theirs: np.ndarray) -> None:
    """A value on the edge between two int8 steps may fall to either side in the two executors."""
    assert np.sqrt(np.mean((ours - theirs) ** 2)) < 0.02 * np.std(theirs)


@pytest.mark.parametrize("name", CONFIGS)
def test_native_equals_reference(name: str) -> None:
    bench = Bench(CONFIGS[name])
    pattern = bench.model.traits().pattern
    long, short = bench.sequence(90, 1), bench.sequence(9, 2)
    steps = [
        [feed(long, 0, 60, pattern=pattern), feed(short, 0, 8, pattern=pattern)],
        [feed(short, 8, 9, pattern=pattern), feed(long, 60, 90, pattern=pattern)],
    ]
    for step in steps:
        for ours, theirs in zip(
            bench.native.forward(step), bench.reference.forward(step), strict=True
        ):
            assert np.abs(theirs).max() > 0.5
            close(ours, theirs, 1e-3)


@pytest.mark.parametrize("matrix_format", ["q4_1", "q8_0", "q5_0", "f16"])
def test_native_equals_reference_with_int8_activations(matrix_format: str) -> None:
    bench = Bench(CONFIGS["llama"], matrix_format=matrix_format, activations="int8", kv="f16")
    item = bench.sequence(70, 1)
    step = [feed(item, 0, 70)]
    (ours,), (theirs,) = bench.native.forward(step), bench.reference.forward(step)
    roughly(ours, theirs)


TREE_MASK = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]], bool)


@pytest.mark.parametrize(
    "pattern",
    [
        CAUSAL,
        FULL,
        block(8),
        Pattern(PatternKind.PREFIX, 44),
        Pattern(PatternKind.TREE, 0, TREE_MASK),
    ],
    ids=lambda p: p.kind.name,
)
@pytest.mark.parametrize("name", ["llama", "mistral"])
@pytest.mark.parametrize("kv", ["f32", "int8"])
def test_every_pattern_equals_reference(pattern: Pattern, name: str, kv: str) -> None:
    bench = Bench(CONFIGS[name], kv=kv)
    item = bench.sequence(44, 3)
    positions = None
    if pattern.kind is PatternKind.TREE:
        positions = np.array([40, 41, 41, 42], np.int32)
    end = 44
    first = [feed(item, 0, 40)]
    second = [feed(item, 40, end, pattern=pattern, positions=positions)]
    for runner in (bench.native, bench.reference):
        runner.forward(first)
    (ours,), (theirs,) = bench.native.forward(second), bench.reference.forward(second)
    if kv == "int8":
        roughly(ours, theirs)
    else:
        close(ours, theirs, 1e-3)


def test_int8_pages_hold_the_bytes_of_the_reference() -> None:
    bench = Bench(CONFIGS["llama"], kv="int8")
    step = [feed(bench.sequence(70, 1), 0, 70)]
    bench.native.forward(step), bench.reference.forward(step)
    ours, theirs = bench.pool.data[:, 0], bench.twin_pool.data[:, 0]  # the layer with equal inputs
    apart = ours[..., :-128].astype(int) - theirs[..., :-128]
    assert np.abs(apart).max() <= 1
    assert np.count_nonzero(apart) < 0.01 * np.count_nonzero(theirs[..., :-128])
    scales = [pages[..., -128:].view(np.float32) for pages in (ours, theirs)]
    np.testing.assert_allclose(*scales, rtol=1e-5)


def bits(rows: np.ndarray) -> bytes:
    return np.ascontiguousarray(rows).tobytes()


@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("kv", ["f16", "int8"])
@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_chunked_equals_whole_bit_for_bit(activations: str, kv: str, chunk: int) -> None:
    bench = Bench(CONFIGS["llama"], matrix_format="q4_1", activations=activations, kv=kv)
    whole = bits(bench.native.forward([feed(bench.sequence(75, 4), 0, 75)])[0])
    again = bench.sequence(75, 4)
    parts = [
        bench.native.forward([feed(again, s, min(75, s + chunk))])[0].copy()
        for s in range(0, 75, chunk)
    ]
    assert bits(np.concatenate(parts)) == whole


@pytest.mark.parametrize("activations", ["f32", "int8"])
@pytest.mark.parametrize("kv", ["f16", "int8"])
def test_batch_equals_single_bit_for_bit(activations: str, kv: str) -> None:
    bench = Bench(CONFIGS["llama"], matrix_format="q5_0", activations=activations, kv=kv)
    lengths = [1, 40, 7, 33, 64, 2]
    singles = [
        bits(bench.native.forward([feed(bench.sequence(n, 10 + i), 0, n)])[0])
        for i, n in enumerate(lengths)
    ]
    items = [bench.sequence(n, 10 + i) for i, n in enumerate(lengths)]
    together = bench.native.forward([feed(x, 0, n) for x, n in zip(items, lengths, strict=True)])
    assert [bits(rows) for rows in together] == singles


@pytest.mark.parametrize("kv", ["f16", "int8"])
def test_threads_and_tables_do_not_change_a_bit(kv: str) -> None:
    outcomes = set()
    for isa in runnable_isas():
        for threads in (1, 2, 3):
            bench = Bench(
                CONFIGS["gemma3"], matrix_format="q4_1", activations="int8", kv=kv,
                threads=threads, isa=isa,
            )  # fmt: skip
            outcomes.add(bits(bench.native.forward([feed(bench.sequence(80, 6), 0, 80)])[0]))
    assert len(outcomes) == 1


@pytest.mark.parametrize("kv", ["f16", "int8"])
def test_long_context_is_cut_into_chunks_the_same_way_by_any_number_of_threads(kv: str) -> None:
    outcomes = set()
    for threads in (1, 2, 4):
        bench = Bench(CONFIGS["llama"], activations="int8", kv=kv, threads=threads)
        item = bench.sequence(1300, 7)
        for start in range(0, 1299, 433):
            bench.native.forward([feed(item, start, start + 433)])
        last = bench.native.forward([feed(item, 1299, 1300)])[0].copy()
        whole = bench.native.forward([feed(item, 0, 1300)])[0]
        assert bits(last) == bits(whole[-1:])
        outcomes.add(bits(last))
    assert len(outcomes) == 1


@pytest.mark.parametrize("pattern", [CAUSAL, block(8), Pattern(PatternKind.TREE, 0, TREE_MASK)])
@pytest.mark.parametrize("kv", ["f16", "f32", "int8"])
def test_a_forward_that_broke_off_may_be_run_again_in_parts(kv: str, pattern: Pattern) -> None:
    """What is in the pages afterwards, and what comes out, is what one forward without a fault leaves."""
    calm, hurt = (Bench(CONFIGS["llama"], activations="int8", kv=kv) for _ in range(2))
    lengths = [76, 36, 68]
    steps: list[list[StepInput]] = []
    for bench in (calm, hurt):
        items = [bench.sequence(length, i) for i, length in enumerate(lengths)]
        pairs = list(zip(items, lengths, strict=True))
        bench.native.forward([feed(item, 0, length - 4) for item, length in pairs])
        steps.append([feed(item, n - 4, n, pattern=pattern) for item, n in pairs])
    expected = [bits(rows) for rows in calm.native.forward(steps[0])]
    hurt.native.hidden(steps[1], until="layer.1")
    hurt.native.hidden(steps[1][1:], until="hidden")
    again = [bits(rows) for rows in hurt.native.forward(steps[1][:1])]
    again += [bits(rows) for rows in hurt.native.forward(steps[1][1:])]
    assert again == expected
    assert hurt.pool.data.tobytes() == calm.pool.data.tobytes()


def test_layers_can_be_run_in_two_halves() -> None:
    bench = Bench(CONFIGS["llama"])
    step = [feed(bench.sequence(20, 8), 0, 20)]
    whole = bench.native.forward(step)[0].copy()
    middle = bench.native.hidden(step, until="layer.1")
    close(middle, bench.reference.hidden(step, until="layer.1"), 1e-3)
    assert bits(bench.native.resume(step, since="layer.1", hidden=middle)) == bits(whole)
    hidden = bench.native.hidden(step, until="hidden", since="layer.1", hidden=middle)
    assert bits(bench.native.resume(step, since="hidden", hidden=hidden)) == bits(whole)


def test_embeddings_can_be_fed_instead_of_ids() -> None:
    bench = Bench(CONFIGS["llama"])
    item = bench.sequence(12, 9)
    by_id = bench.native.forward([feed(item, 0, 12)])[0].copy()
    table = bench.checkpoint.dequantized("model.embed_tokens.weight")
    rows = table[item[0].tokens]
    other = bench.sequence(3, 10)
    step = [feed(other, 0, 3), feed(item, 0, 12, embeddings=rows)]
    assert bits(bench.native.forward(step)[1]) == bits(by_id)
    close(bench.reference.forward(step)[1], by_id, 1e-3)


def test_a_batch_that_points_outside_is_refused() -> None:
    bench = Bench(CONFIGS["llama"])
    sequence, view = bench.sequence(5, 1)
    sequence.tokens[2] = 10_000
    with pytest.raises(ValueError, match="vocabulary"):
        bench.native.forward([feed((sequence, view), 0, 5)])
    sequence.tokens[2] = 0
    with pytest.raises(ValueError, match="page"):
        bench.native.forward([feed((sequence, KVView(np.array([9999], np.int32))), 0, 5)])


@pytest.mark.parametrize("kv", ["f32", "int8"])
@pytest.mark.parametrize("end", [44, 70, 300])
def test_a_window_that_sees_behind_itself_equals_reference(kv: str, end: int) -> None:
    """Slots behind the window are read as an earlier forward left them."""
    bench = Bench(CONFIGS["llama"], kv=kv)
    item, other = bench.sequence(300, 3), bench.sequence(9, 4)
    whole = [feed(item, 0, 300, pattern=FULL)]
    part = [feed(item, 20, end, pattern=full(300)), feed(other, 0, 9, pattern=FULL)]
    for runner in (bench.native, bench.reference):
        runner.forward(whole)
    for ours, theirs in zip(bench.native.forward(part), bench.reference.forward(part), strict=True):
        if kv == "int8":
            roughly(ours, theirs)
        else:
            close(ours, theirs, 1e-3)


def test_a_window_fed_again_sees_what_the_whole_saw() -> None:
    """With K/V of the same canvas behind and before it, a part gives the rows of the whole."""
    bench = Bench(CONFIGS["llama"])
    item = bench.sequence(90, 3)
    for runner in (bench.native, bench.reference):
        (whole,) = (rows.copy() for rows in runner.forward([feed(item, 0, 90, pattern=FULL)]))
        (part,) = runner.forward([feed(item, 30, 41, pattern=full(90))])
        close(part, whole[30:41], 1e-5)
        (beyond,) = runner.forward([feed(item, 30, 41, pattern=FULL)])
        assert np.abs(beyond - whole[30:41]).max() > 0.1


@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_other_tokens_and_mixtures_equal_reference(activations: str) -> None:
    bench = Bench(CONFIGS["gemma3"], activations=activations, matrix_format="q8_0")
    item = bench.sequence(20, 3)
    tokens = np.arange(20, dtype=np.int32)
    soft = Soft(
        np.array([2, 19], np.int32),
        np.array([[1, 4, 1], [7, 8, 9]], np.int32),
        np.array([[0.5, 0.25, 0.1], [0.3, 0.3, 0.3]], np.float32),
    )
    step = [
        feed(item, 0, 20, pattern=FULL, tokens=tokens, soft=soft),
        feed(bench.sequence(5, 4), 0, 5),
    ]
    ours, theirs = (bench.native.forward(step)[0].copy(), bench.reference.forward(step)[0])
    compare = roughly if activations == "int8" else functools.partial(close, tolerance=1e-2)
    compare(ours, theirs)
    plain = [feed(item, 0, 20, pattern=FULL, tokens=tokens)]
    assert np.abs(bench.reference.forward(plain)[0] - theirs).max() > 0.1
    table = bench.checkpoint.dequantized("model.embed_tokens.weight")[:, :64] * np.float32(64**0.5)
    mixed = table[tokens]
    mixed[soft.rows] += np.einsum("mk,mkd->md", soft.weights, table[soft.tokens])
    given = [feed(item, 0, 20, pattern=FULL, embeddings=mixed)]
    compare(bench.reference.forward(given)[0], theirs)
    fresh = bench.sequence(20, 5)
    fresh[0].tokens[:] = tokens
    close(
        bench.native.forward([feed(fresh, 0, 20, pattern=FULL)])[0],
        bench.native.forward(plain)[0],
        0,
    )

"""How long the attention op alone takes: a plan of nothing but attention, on K/V larger than the cache."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.config import PAGE
from plait.core.window import Floats
from plait.kernels.plan import PackedMatrix, Pool, make_plan
from plait.kvcache.pool import KVLayout
from plait.kvcache.pool import Pool as Pages

COLD_BYTES = 96 << 20
"""K/V that is cycled through, unless one step reads more: three times a 32 MB last-level cache."""


@dataclass(frozen=True, slots=True)
class Heads:
    """The attention of a model: layers, query heads, KV heads, columns per head, sliding window (0: none)."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0


@dataclass(frozen=True, slots=True)
class Load:
    """One step: `sequences` requests that feed `rows` positions each behind `context` stored slots, of which
    the first `shared` are the same pages for all."""

    sequences: int
    rows: int
    context: int
    shared: int = 0


HEADS = {
    "smollm2-135m": Heads(30, 9, 3, 64),
    "qwen2.5-1.5b": Heads(28, 12, 2, 128),
    "gemma3-270m": Heads(18, 4, 1, 256, window=512),
}
LOADS = {
    "prefill 512": Load(1, 512, 0),
    "prefill 2048": Load(1, 2048, 0),
    "decode 1 at 128": Load(1, 1, 128),
    "decode 1 at 8192": Load(1, 1, 8191),
    "decode 8 at 512": Load(8, 1, 512),
    "decode 32 at 128": Load(32, 1, 128),
    "decode 16 sharing 2048": Load(16, 1, 2048 + 40, shared=2048),
}


class Bench:
    """One model's attention on one load; every run takes the next set of pages."""

    def __init__(self, heads: Heads, load: Load, kv: str, threads: Pool) -> None:
        """kv: element type of the cache, "f16", "f32" or "int8"."""
        self.heads, self.load = heads, load
        layout = KVLayout(heads.layers, heads.kv_heads, heads.head_dim, kv)
        tables = _tables(load)
        per_set = int(tables.max()) + 1
        sets = max(1, -(-COLD_BYTES // (per_set * layout.page_bytes)))
        self.pages = Pages(layout, per_set * sets)
        _fill(self.pages)
        self._tables = [
            np.ascontiguousarray(tables + per_set * i, np.int32).ravel() for i in range(sets)
        ]
        self._windows = _windows(load, tables.shape[1])
        self._rows = load.sequences * load.rows
        width = (heads.heads + 2 * heads.kv_heads) * heads.head_dim
        shape = (heads.layers, heads.kv_heads, heads.head_dim, self.pages.num_pages)
        widths = [width, heads.heads * heads.head_dim]
        self._plan = make_plan(widths, 1, shape, kv, False, "auto", threads)
        self._entry = (0, 0, width, False)
        self._hidden = np.random.default_rng(1).normal(size=(self._rows, width)).astype(np.float32)
        self.out: Floats = np.zeros((self._rows, widths[1]), np.float32)
        self._build(threads)

    def _build(self, threads: Pool) -> None:
        heads, dim = self.heads, self.heads.head_dim
        table = PackedMatrix("f32", 1, 32, np.zeros(128, np.uint8), threads)
        self._plan.embed(table, (0, 0, 32, False), 1.0)  # gives a plan its vocabulary; never run
        q, kv = heads.heads * dim, heads.kv_heads * dim
        views = (0, 0, q, False), (0, q, kv, False), (0, q + kv, kv, False), (1, 0, q, False)
        for layer in range(heads.layers):
            self._plan.attention(*views, layer, heads.heads, dim**-0.5, heads.window)

    def run(self, number: int) -> float:
        """Seconds that one step takes over all layers."""
        load, plan = self.load, self._plan
        none = np.zeros(self._rows, np.int32)
        place = np.tile(np.arange(load.context, load.context + load.rows), load.sequences)
        wanted = np.arange(self._rows, dtype=np.int32)
        pages = self._tables[number % len(self._tables)]
        begin = time.perf_counter()
        plan.run(
            none, place.astype(np.int32), self._windows, pages, np.zeros(0, np.uint8), wanted, none,
            self.pages.data, self.out, None, None, self._hidden, 1, plan.num_ops, self._entry, None,
        )  # fmt: skip
        return time.perf_counter() - begin

    def pairs(self) -> int:
        """(query head, slot) pairs that one step looks at."""
        ends = np.arange(self.load.context, self.load.context + self.load.rows) + 1
        seen = np.minimum(ends, self.heads.window) if self.heads.window else ends
        return int(seen.sum()) * self.load.sequences * self.heads.heads * self.heads.layers

    def bytes_read(self) -> int:
        """Bytes of K/V that one step has to read at least once."""
        load, end = self.load, self.load.context + self.load.rows
        slots = load.shared + load.sequences * (end - load.shared)
        if self.heads.window:
            slots = load.sequences * min(end, self.heads.window + load.rows)
        return slots * self.pages.page_bytes // PAGE


def measure(
    heads: Heads, load: Load, kv: str, threads: Pool, seconds: float = 1.0
) -> dict[str, Any]:
    """One record: median milliseconds of a step, nanoseconds and GMAC/s of its work, GB/s of K/V read."""
    bench = Bench(heads, load, kv, threads)
    times: list[float] = []
    end, number = time.perf_counter() + seconds, 0
    while time.perf_counter() < end or len(times) < 4:
        times.append(bench.run(number))
        number += 1
    middle = median(times[1:])
    pairs = bench.pairs()
    return {
        "kv": kv,
        "milliseconds": 1e3 * middle,
        "core_nanoseconds_per_pair": 1e9 * middle * threads.size / pairs,
        "gmac_per_second": 2e-9 * pairs * heads.head_dim / middle,
        "gigabytes_per_second": 1e-9 * bench.bytes_read() / middle,
        "runs": number - 1,
    }


def _tables(load: Load) -> NDArray[np.int64]:
    """Page numbers [sequences, pages]: the shared ones first, then each sequence's own, scrambled."""
    total, shared = -(-(load.context + load.rows) // PAGE), load.shared // PAGE
    own = total - shared
    order = np.random.default_rng(0).permutation(shared + own * load.sequences)
    tables = np.empty((load.sequences, total), np.int64)
    tables[:, :shared] = order[:shared]
    tables[:, shared:] = order[shared:].reshape(load.sequences, own)
    return tables


def _windows(load: Load, pages: int) -> NDArray[np.int32]:
    table = np.zeros((load.sequences, 7), np.int32)
    for i, row in enumerate(table):
        row[:] = (i * load.rows, load.rows, load.context, 0, 0, i * pages, -1)
    return table


def _fill(pages: Pages) -> None:
    """Writes every page, so that reading it costs what it costs in use."""
    generator = np.random.default_rng(2)
    page = pages.data[0]
    if page.dtype == np.int8:
        page[:] = generator.integers(-127, 128, page.shape, np.int8)
        page[..., -4 * PAGE :].view(np.float32)[:] = 0.01
    else:
        page[:] = generator.standard_normal(page.shape, np.float32)
    pages.data[1:] = page

"""How long the attention op alone takes: a plan of nothing but attention, on K/V larger than the cache."""

from __future__ import annotations

import time
from array import array
from collections.abc import Mapping
from collections.abc import Sequence as Listing
from dataclasses import asdict, dataclass
from statistics import geometric_mean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.analysis.roofline import Peaks
from plait.core.config import PAGE
from plait.core.window import Floats
from plait.engine.facts import Cost, Work, save_softmax_gain, softmax_key
from plait.kernels.plan import PackedMatrix, Pool, make_plan
from plait.kvcache.pool import KVLayout
from plait.kvcache.pool import Pool as Pages

COLD_BYTES = 96 << 20
"""K/V that is cycled through, unless one step reads more: three times a 32 MB last-level cache."""

LEAST_RUNS = 3


@dataclass(frozen=True, slots=True)
class Load:
    """One step: `sequences` requests that feed `rows` positions each behind `context` stored slots, of which
    the first `shared` are the same pages for all."""

    sequences: int
    rows: int
    context: int
    shared: int = 0


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

    def __init__(self, work: Work, load: Load, kv: str, threads: Pool, isa: str = "auto") -> None:
        """kv: element type of the cache, "f16", "f32" or "int8". Learns the maxima of the unified softmax."""
        self.load, self.kv, self._work = load, kv, work.attention_alone
        first, layers = work.attention[0], len(work.attention)
        layout = KVLayout(layers, first.kv_heads, first.head_dim, kv)
        tables = _tables(load)
        per_set = int(tables.max()) + 1
        sets = max(1, -(-COLD_BYTES // (per_set * layout.page_bytes)))
        self.pages = Pages(layout, per_set * sets)
        _fill(self.pages)
        self._tables = [array("i", (tables + per_set * i).ravel().tolist()) for i in range(sets)]
        self._windows = _windows(load, tables.shape[1])
        self._rows = load.sequences * load.rows
        width = (first.heads + 2 * first.kv_heads) * first.head_dim
        shape = (layers, first.kv_heads, first.head_dim, self.pages.num_pages)
        widths = [width, first.heads * first.head_dim]
        self._plan = make_plan(widths, 1, shape, kv, False, isa, threads)
        self._entry = (0, 0, width, False)
        self._hidden = np.random.default_rng(1).normal(size=(self._rows, width)).astype(np.float32)
        self.out: Floats = np.zeros((self._rows, widths[1]), np.float32)
        self._build(threads)
        self._plan.watch(True)
        self.run(0)
        self._plan.watch(False)
        self._maxima = [self._plan.maxima(op) for op in range(1, self._plan.num_ops)]

    def use(self, *, unified: bool) -> None:
        """Which form of softmax the next runs use."""
        for op, maxima in enumerate(self._maxima, 1):
            self._plan.unify(op, maxima if unified else [])

    @property
    def redone(self) -> float:
        """Of what was computed in the unified form, the share that had to be computed again."""
        unified, redone = self._plan.attention_counts()
        return redone / max(1, unified)

    def _build(self, threads: Pool) -> None:
        table = PackedMatrix("f32", 1, 32, np.zeros(128, np.uint8), threads)
        self._plan.embed(table, (0, 0, 32, False), 1.0)  # gives a plan its vocabulary; never run
        for spec in self._work.attention:
            q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
            views = (0, 0, q, False), (0, q, kv, False), (0, q + kv, kv, False), (1, 0, q, False)
            self._plan.attention(*views, spec.layer, spec.heads, spec.scale, spec.window)

    def run(self, number: int) -> float:
        """Seconds that one step takes over all layers."""
        load, plan = self.load, self._plan
        none, wanted = array("i", [0] * self._rows), array("i", range(self._rows))
        place = array("i", range(load.context, load.context + load.rows)) * load.sequences
        pages = self._tables[number % len(self._tables)]
        begin = time.perf_counter()
        plan.run(
            none, place, self._windows, pages, b"", wanted, none, [], none,
            self.pages.data, self.out, None, None, self._hidden, 1, plan.num_ops, self._entry, None,
        )  # fmt: skip
        return time.perf_counter() - begin

    def cost(self) -> Cost:
        """What one step has to read of K/V and to multiply."""
        load = self.load
        return self._work.step(
            rows=load.rows,
            start=load.context,
            logits=0,
            kv=self.kv,
            sequences=load.sequences,
            shared=load.shared,
        )


def measure(
    work: Work, load: Load, kv: str, threads: Pool, peaks: Peaks, *, isa: str, seconds: float
) -> dict[str, Any]:
    """One record: median milliseconds of a step, the time one core takes for a query and a slot, rates of
    reading and multiplying and their shares of the peaks, and the milliseconds of the unified softmax, in turns with the
    other. seconds: about how long to measure.

    work: of a model; only its attention is looked at.
    """
    bench = Bench(work, load, kv, threads, isa)
    times: list[float] = []
    unified: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < LEAST_RUNS:
        for form in (times, unified) if len(times) % 2 else (unified, times):
            bench.use(unified=form is unified)
            form.append(bench.run(len(times) + len(unified) + 1))
    middle, cost = median(times), bench.cost()
    pairs = cost.macs // (2 * work.attention[0].head_dim)
    return {
        "kv": kv,
        **asdict(load),
        "milliseconds": 1e3 * middle,
        "core_nanoseconds_per_pair": 1e9 * middle * threads.size / pairs,
        "gigabytes_per_second": 1e-9 * cost.bytes / middle,
        "of_read": cost.bytes / middle / peaks.read,
        "gigamacs_per_second": 1e-9 * cost.macs / middle,
        "of_multiply": cost.macs / middle / peaks.multiply,
        "unified_milliseconds": 1e3 * median(unified),
        "unified_gain": middle / median(unified),
        "unified_redone": bench.redone,
        "runs": len(times),
    }


def choose_softmax(work: Work, records: Listing[Mapping[str, Any]], isa: str) -> dict[str, float]:
    """Save how many times as fast the unified softmax was, on the geometric mean over all loads, for runs to come; by
    type of cache, of those that every load was measured with."""
    found: dict[str, float] = {}
    for kv in dict.fromkeys(record["kv"] for record in records):
        gains = [record["unified_gain"] for record in records if record["kv"] == kv]
        if len(gains) == len(LOADS):
            found[kv] = geometric_mean(gains)
            save_softmax_gain(softmax_key(kv, work.attention[0]), isa, found[kv])
    return found


def _tables(load: Load) -> NDArray[np.int64]:
    """Page numbers [sequences, pages]: the shared ones first, then each sequence's own, scrambled."""
    total, shared = -(-(load.context + load.rows) // PAGE), load.shared // PAGE
    own = total - shared
    order = np.random.default_rng(0).permutation(shared + own * load.sequences)
    tables = np.empty((load.sequences, total), np.int64)
    tables[:, :shared] = order[:shared]
    tables[:, shared:] = order[shared:].reshape(load.sequences, own)
    return tables


def _windows(load: Load, pages: int) -> array[int]:
    table = array("i")
    for i in range(load.sequences):
        table.extend((i * load.rows, load.rows, load.context, 0, 0, i * pages, -1))
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

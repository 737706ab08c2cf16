"""A model without weights, for tests of everything around the model.

`FakeRunner` has two layers of "attention". It writes what it is fed through the pages of the view and
computes every row from what it then reads back through them, so that a wrong page, a missing copy, a stale
slot, a wrong chunk or a wrong pattern changes the logits, as in a real model:

    layer 0 keeps (token, position) of every slot, in the K memory
    layer 1 keeps a hash of the slot and of what it saw of layer 0, in the V memory
    logits  are a hash of the row's slot and of what it sees of layer 1
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plait.core.config import PAGE, EngineConfig
from plait.core.sequence import Event, Metrics
from plait.core.step import StepInput
from plait.core.traits import Predicts, Traits
from plait.core.window import (
    FULL,
    FinishReason,
    Floats,
    Ints,
    Pattern,
    PatternKind,
    TokenLogprobs,
    Window,
    block,
)
from plait.engine.build import assemble
from plait.engine.engine import Engine
from plait.kvcache.pool import KVLayout, Pool

Hashes = NDArray[np.uint64]

VOCAB = 61
MASK = 60
EOS = 7
LAYOUT = KVLayout(num_layers=2, num_kv_heads=1, head_dim=2, dtype="f32")

CAUSAL_TRAITS = Traits(VOCAB, context_length=4096, eos_ids=frozenset({EOS}))
BLOCK_TRAITS = Traits(
    VOCAB,
    context_length=4096,
    predicts=Predicts.SAME,
    pattern=block(8),
    mask_token=MASK,
    eos_ids=frozenset({EOS}),
)


FULL_TRAITS = replace(BLOCK_TRAITS, pattern=FULL)


def suited(decoder: str, traits: Traits) -> Traits:
    """The traits with what the decoder is for."""
    return replace(traits, starts_from_noise=True) if decoder == "renoise" else traits


def mix(*values: Any) -> Hashes:
    """A 64-bit hash of integers, element by element (the finaliser of SplitMix64)."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for value in values:
            state = state + np.asarray(value).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
            state = state ^ state >> np.uint64(31)
    return state


def seen(entries: Hashes, window: Window) -> Hashes:
    """For every row of the window: the sum of the entries [end] that it may see."""
    slots = np.arange(window.start, window.end)
    with np.errstate(over="ignore"):
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(entries, dtype=np.uint64)])
        if window.pattern.kind is PatternKind.TREE:
            assert window.pattern.mask is not None
            inside = window.pattern.mask.astype(np.uint64) * entries[window.start :]
            return sums[window.start] + inside.sum(axis=1, dtype=np.uint64)
    return sums[limits(slots, window.pattern, window.end)]


def limits(slots: NDArray[np.int64], pattern: Pattern, end: int) -> NDArray[np.int64]:
    """Where the visible slots of each row end, from the text of `Pattern`."""
    if pattern.kind is PatternKind.CAUSAL:
        return slots + 1
    if pattern.kind is PatternKind.BLOCK:
        return np.minimum((slots // pattern.size + 1) * pattern.size, end)
    if pattern.kind is PatternKind.FULL:
        return np.full_like(slots, max(end, pattern.size))
    return np.minimum(np.maximum(pattern.size, slots + 1), end)


def logits_of(hashes: Hashes, vocab_size: int) -> Floats:
    """Rows float32 [n, vocab_size], sometimes sure of themselves and sometimes not."""
    noise = mix(hashes[:, None], np.arange(vocab_size)) >> np.uint64(40)
    spread = (mix(hashes, 12345) >> np.uint64(60)).astype(np.float32)[:, None]
    return (noise.astype(np.float32) / 2**24 * spread).astype(np.float32)


def positions_of(window: Window) -> NDArray[np.int64]:
    slots = np.arange(window.start, window.end)
    return slots if window.positions is None else window.positions.astype(np.int64)


def fed_tokens(item: StepInput) -> NDArray[np.float64]:
    """Token ids, moved by whatever is mixed in."""
    window = item.window
    fed = (
        item.sequence.tokens[window.start : window.end] if window.tokens is None else window.tokens
    )
    tokens = fed.astype(np.float64)
    if window.soft is not None:
        rows, ids, weights = window.soft
        tokens[rows] += np.rint(1000 * (weights * ids).sum(axis=1))
    return tokens


class FakeRunner:
    """See the module's text. broken: requests whose logits are NaN. error: raised by the next forward."""

    def __init__(self, pool: Pool, traits: Traits) -> None:
        self.pool = pool
        self.traits = traits
        self.broken: set[int] = set()
        self.error: Exception | None = None
        self.batches: list[list[tuple[int, Window]]] = []

    def counters(self) -> dict[str, int]:
        return {"head_rows": 0}

    def forward(self, inputs: Listing[StepInput]) -> list[Floats]:
        if self.error:
            error, self.error = self.error, None
            raise error
        self.batches.append([(item.sequence.request_id, item.window) for item in inputs])
        for item in inputs:
            self._write_tokens(item)
        for item in inputs:
            self._write_hashes(item)
        return [self._logits(item) for item in inputs]

    def hidden(self, inputs: Listing[StepInput], *, until: str) -> Floats:
        """Rows of (token, position, 1); the K/V is written as in `forward`."""
        assert until == "hidden"
        self.forward(inputs)
        spans = [np.arange(item.window.start, item.window.end) for item in inputs]
        rows = [
            np.stack([item.sequence.tokens[span], span, np.ones(len(span))], axis=1)
            for item, span in zip(inputs, spans, strict=True)
        ]
        return np.concatenate(rows).astype(np.float32)

    def _write_tokens(self, item: StepInput) -> None:
        window = item.window
        slots = np.arange(window.start, window.end)
        for page in item.view.pages[window.start // PAGE :].tolist():
            assert not self.pool.is_shared(page), f"page {page} is written but not owned"
        positions = positions_of(window)
        memory = self._layer(0, item, slots)
        # K is stored [head_dim][PAGE].
        memory[slots - window.start, slots % PAGE] = fed_tokens(item)
        memory[slots - window.start, PAGE + slots % PAGE] = positions
        self._put(0, item, slots, memory)

    def _write_hashes(self, item: StepInput) -> None:
        window = item.window
        slots = np.arange(window.start, window.end)
        hashes = mix(seen(self._entries(0, item), window), positions_of(window))
        memory = self._layer(1, item, slots)
        rows = slots - window.start
        # V is stored [PAGE][head_dim]; float32 holds 24 bits exactly.
        memory[rows, slots % PAGE * 2] = hashes & np.uint64(0xFFFFFF)
        memory[rows, slots % PAGE * 2 + 1] = hashes >> np.uint64(40)
        self._put(1, item, slots, memory)

    def _logits(self, item: StepInput) -> Floats:
        window = item.window
        hashes = mix(seen(self._entries(1, item), window), positions_of(window))
        logits = logits_of(hashes[window.rows], self.traits.vocab_size)
        if item.sequence.request_id in self.broken:
            logits[:] = np.nan
        return logits

    def _entries(self, layer: int, item: StepInput) -> Hashes:
        """The visible entries of slots [0, reach), read back from the pages."""
        slots = np.arange(item.window.reach)
        memory, rows = self._layer(layer, item, slots), slots
        if layer == 0:
            return mix(memory[rows, slots % PAGE], memory[rows, PAGE + slots % PAGE], 1)
        return mix(memory[rows, slots % PAGE * 2], memory[rows, slots % PAGE * 2 + 1], 2)

    def _layer(self, layer: int, item: StepInput, slots: NDArray[np.int64]) -> Floats:
        """The page memory of each slot, float32 [slots, 2 * PAGE]; a copy."""
        pages = item.view.pages[slots // PAGE]
        copy: Floats = self.pool.data[pages, layer, 0, layer]
        return copy

    def _put(self, layer: int, item: StepInput, slots: NDArray[np.int64], memory: Floats) -> None:
        """Write back the two values of each slot."""
        rows, pages = np.arange(len(slots)), item.view.pages[slots // PAGE]
        offsets = (
            (slots % PAGE, PAGE + slots % PAGE)
            if layer == 0
            else (slots % PAGE * 2, slots % PAGE * 2 + 1)
        )
        for offset in offsets:
            self.pool.data[pages, layer, 0, layer, offset] = memory[rows, offset]


def plain_logits(tokens: Ints, pattern: Pattern, row: int, vocab_size: int = VOCAB) -> Floats:
    """What the fake model answers at `row` of a canvas, without pages, windows or caches."""
    window, slots = Window(0, len(tokens), pattern=pattern), np.arange(len(tokens))
    second = mix(seen(mix(tokens, slots, 1), window), slots)
    entries = mix(second & np.uint64(0xFFFFFF), second >> np.uint64(40), 2)
    return logits_of(mix(seen(entries, window), slots)[row : row + 1], vocab_size)


@dataclass
class Answer:
    """What the events of one request add up to."""

    tokens: list[int] = field(default_factory=list)
    reason: FinishReason | None = None
    stop_token: int | None = None
    error: str | None = None
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None
    metrics: Metrics | None = None


def make_engine(traits: Traits = CAUSAL_TRAITS, *, num_pages: int = 64, **config: Any) -> Engine:
    """An engine over a fake runner; config: fields of EngineConfig."""
    pool = Pool(LAYOUT, num_pages)
    return assemble(EngineConfig("fake", **config), FakeRunner(pool, traits), traits, pool)


def runner_of(engine: Engine) -> FakeRunner:
    assert isinstance(engine.runner, FakeRunner)
    return engine.runner


def collect(answers: dict[int, Answer], events: Listing[Event]) -> None:
    """Add events to the answers; after a finish_reason nothing more may come."""
    for event in events:
        answer = answers.setdefault(event.request_id, Answer())
        assert answer.reason is None, "an event after the last one"
        answer.tokens += event.token_ids
        answer.logprobs += event.logprobs
        answer.reason, answer.error = event.finish_reason, event.error
        answer.stop_token, answer.metrics = event.stop_token, event.metrics
        if event.prompt_logprobs is not None:
            assert answer.prompt_logprobs is None, "prompt_logprobs twice"
            answer.prompt_logprobs = event.prompt_logprobs


def step(engine: Engine, answers: dict[int, Answer]) -> None:
    """One step, after which the books must balance."""
    collect(answers, engine.step())
    engine.scheduler.cache.check()


def drain(engine: Engine, answers: dict[int, Answer] | None = None) -> dict[int, Answer]:
    """Step until nothing is left; then every page must be free."""
    answers = {} if answers is None else answers
    for _ in range(100_000):
        if not engine.has_work:
            break
        step(engine, answers)
    assert not engine.has_work, "the engine does not come to an end"
    pool = engine.scheduler.cache.pool
    assert pool.num_free == pool.num_pages, "pages were leaked"
    return answers

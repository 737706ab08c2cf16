"""The reference executor: walks the graph op by op in NumPy. Slow; the oracle of every test."""

from __future__ import annotations

from collections.abc import Sequence as Listing
from dataclasses import fields

import numpy as np

from plait.core.step import StepInput
from plait.core.window import NO_INTS, Floats, Ints
from plait.kernels import reference as ops
from plait.kernels.reference_kv import load_kv, store_kv
from plait.kernels.reference_linear import block_scales, dequantize_rows, quantize_rows
from plait.kernels.reference_moe import route
from plait.kvcache.pool import Pool
from plait.models.base import AttentionSpec, Graph, Node, Rope, Value
from plait.runner import center, fine
from plait.runner.batch import WINDOW_FIELDS, Batch, flatten
from plait.runner.soften import soften
from plait.weights.base import Checkpoint

_FLOAT_FORMATS = ("f32", "f16", "bf16")


class ReferenceRunner:
    """Implements core.step.Runner with float32 weights and the pool's own pages."""

    def __init__(self, graph: Graph, checkpoint: Checkpoint, kv: Pool, *, activations: str) -> None:
        """activations: "f32", or "int8" for activations quantised as the kernels do."""
        self._graph = graph
        self._checkpoint = checkpoint
        self._kv = kv.data
        self._int8 = activations == "int8"
        self._tensors: dict[str, Floats] = {}
        self._fine: dict[Value, Ints] = {}
        self._centers: dict[int, center.Center] = {}
        if self._int8 or kv.layout.dtype == "int8":
            self._learn(kv)

    def forward(self, inputs: Listing[StepInput]) -> list[Floats]:
        """Logits float32 [rows wanted, vocab] per input."""
        inputs = soften(inputs, self._embeddings)
        batch = flatten(inputs)
        result = self._graph.result
        assert result is not None
        logits = self._walk(inputs, batch, len(self._graph.nodes))[result.buffer]
        ends = np.cumsum(batch.counts).tolist()
        return [logits[end - n : end] for end, n in zip(ends, batch.counts, strict=True)]

    def _embeddings(self, tokens: Ints) -> Floats:
        node = next(node for node in self._graph.nodes if node.kind == "embed")
        rows: Floats = self._tensor(node.weights[0])[tokens] * np.float32(node.attrs["scale"])
        return rows

    def counters(self) -> dict[str, int]:
        """Nothing is counted."""
        return {}

    def hidden(self, inputs: Listing[StepInput], *, until: str) -> Floats:
        """The rows [all fed positions, width] at a cut point."""
        cut = next(c for c in self._graph.cuts if c.name == until)
        return self._walk(inputs, flatten(inputs), cut.node)[cut.value.buffer].copy()

    def _walk(self, inputs: Listing[StepInput], batch: Batch, until: int) -> dict[int, Floats]:
        step = _Step(inputs, batch)
        for node in self._graph.nodes[:until]:
            self._do(node, step)
        return step.buffers

    def _do(self, node: Node, step: _Step) -> None:
        result = getattr(self, f"_{node.kind}")(node, step)
        step.write(node.output, result, self._graph.widths[node.output.buffer])

    def _tensor(self, name: str) -> Floats:
        if name not in self._tensors:
            self._tensors[name] = self._checkpoint.dequantized(name)
        return self._tensors[name]

    def _embed(self, node: Node, step: _Step) -> Floats:
        table, batch = self._tensor(node.weights[0]), step.batch
        rows: Floats = table[np.array(batch.tokens)] * np.float32(node.attrs["scale"])
        if batch.embeddings is not None and batch.embedding_rows is not None:
            given = batch.embedding_rows >= 0
            rows[given] = batch.embeddings[batch.embedding_rows[given]]
        return rows

    def _rmsnorm(self, node: Node, step: _Step) -> Floats:
        weight = self._tensor(str(node.vectors[0])).ravel() + np.float32(node.attrs["offset"])
        x = step.read(node.inputs[0])
        return ops.rmsnorm(x, weight, node.attrs["eps"], node.attrs["groups"])

    def _layernorm(self, node: Node, step: _Step) -> Floats:
        weight, bias = (None if n is None else self._tensor(n) for n in node.vectors)
        assert weight is not None
        return ops.layernorm(step.read(node.inputs[0]), weight, bias, node.attrs["eps"])

    def _linear(self, node: Node, step: _Step) -> Floats:
        x = step.read(node.inputs[0])
        blocks = self._fine.get(node.output, NO_INTS)
        parts = []
        for name, bias in zip(node.weights, node.vectors, strict=True):
            y = self._met(x, name, blocks) @ self._tensor(name).T
            parts.append(y if bias is None else y + self._tensor(bias))
        return np.concatenate(parts, axis=1)

    def _met(self, x: Floats, name: str, fine_blocks: Ints = NO_INTS) -> Floats:
        """x as the tensor meets it: as its int8 blocks hold it, unless one of the two stays float."""
        is_float = self._checkpoint.info(name).format_name in _FLOAT_FORMATS
        if is_float or not self._int8 or x.shape[1] % 32:
            return x
        return dequantize_rows(*quantize_rows(x, fine_blocks), fine_blocks).astype(np.float32)

    def _moe(self, node: Node, step: _Step) -> Floats:
        x, logits = (step.read(value) for value in node.inputs)
        experts, routing = node.attrs["experts"], node.attrs["routing"]
        bias = None if routing.bias is None else self._tensor(routing.bias).ravel()
        rule = {field.name: getattr(routing, field.name) for field in fields(routing)}
        chosen, weights = route(logits, **{**rule, "bias": bias})
        blocks = self._fine.get(node.output, NO_INTS)
        out = np.zeros((len(x), node.output.width), np.float32)
        for expert in np.unique(chosen):
            rows, ranks = np.nonzero(chosen == expert)
            gate, up, down = (
                (names[0], self._tensor(names[0])[expert])
                if experts.is_stacked
                else (names[expert], self._tensor(names[expert]))
                for names in (experts.gate, experts.up, experts.down)
            )
            inner = ops.gated(
                experts.activation,
                self._met(x[rows], gate[0], blocks) @ gate[1].T,
                self._met(x[rows], up[0], blocks) @ up[1].T,
            )
            out[rows] += weights[rows, ranks][:, None] * (self._met(inner, down[0]) @ down[1].T)
        return out

    def _learn(self, kv: Pool) -> None:
        """Choose fine blocks and centres from one page of tokens, as the native executor does."""
        result = self._graph.result
        page = kv.allocate()
        assert page is not None
        assert result is not None
        inputs = [fine.probe(page, result.width)]
        step, chosen = _Step(inputs, flatten(inputs)), {}
        for node in self._graph.nodes:
            has_blocks = node.kind in ("linear", "moe") and node.inputs[0].width % 32 == 0
            if has_blocks and self._int8:
                _, multipliers, scales = quantize_rows(step.read(node.inputs[0]))
                energy = fine.energy(block_scales(multipliers, scales))
                is_head = node.output.buffer == result.buffer
                chosen[node.output] = fine.choose(energy, is_head=is_head)
            self._do(node, step)
        self._fine = chosen
        kv.release(page)
        if kv.layout.dtype == "int8":
            learned = center.learn(self._graph.nodes, kv.data, page, self._tensor)
            layers = (self._graph.nodes[index].attrs["spec"].layer for index in learned)
            self._centers = dict(zip(layers, learned.values(), strict=True))

    def _rope(self, node: Node, step: _Step) -> Floats:
        rope: Rope = node.attrs["rope"]
        return ops.rope(
            step.read(node.inputs[0]),
            np.array(step.batch.positions),
            rope.frequencies(self._tensor),
            node.attrs["heads"],
            interleaved=rope.interleaved,
        )

    def _attention(self, node: Node, step: _Step) -> Floats:
        spec: AttentionSpec = node.attrs["spec"]
        q, k, v = (step.read(x).reshape(-1, n, spec.head_dim) for x, n in _heads(node, spec))
        if known := self._centers.get(spec.layer):
            k = (k - known.mean) * (np.float32(1) / known.scale)
            q = q * np.repeat(known.scale, spec.heads // spec.kv_heads, axis=0)
        parts = []
        for item, first in step.windows():
            rows = slice(first, first + item.window.length)
            positions = np.array(step.batch.positions[rows])
            pages, start, reach = item.view.pages, item.window.start, item.window.reach
            store_kv(self._kv, spec.layer, pages, start, k[rows], v[rows])
            keys, values = load_kv(self._kv, spec.layer, pages, reach, spec.head_dim)
            pattern = item.window.pattern
            seen = ops.visible(
                pattern.kind, pattern.size, pattern.mask, start, positions, spec.window
            )
            parts.append(ops.attention(q[rows], keys, values, seen, spec.scale))
        return np.concatenate(parts).reshape(len(q), -1)

    def _gated(self, node: Node, step: _Step) -> Floats:
        gate, up = (step.read(value) for value in node.inputs)
        return ops.gated(node.attrs["activation"], gate, up)

    def _add(self, node: Node, step: _Step) -> Floats:
        x, y = (step.read(value) for value in node.inputs)
        return np.float32(node.attrs["alpha"]) * x + y

    def _wanted(self, node: Node, step: _Step) -> Floats:
        rows: Floats = step.read(node.inputs[0])[np.array(step.batch.wanted, np.int32)]
        return rows


def _heads(node: Node, spec: AttentionSpec) -> zip[tuple[Value, int]]:
    return zip(node.inputs, (spec.heads, spec.kv_heads, spec.kv_heads), strict=True)


class _Step:
    """The buffers of one walk."""

    def __init__(self, inputs: Listing[StepInput], batch: Batch) -> None:
        self.inputs = inputs
        self.batch = batch
        self.buffers: dict[int, Floats] = {}

    def read(self, value: Value) -> Floats:
        columns = slice(value.offset, value.offset + value.width)
        return self.buffers[value.buffer][:, columns]

    def write(self, value: Value, rows: Floats, width: int) -> None:
        if value.buffer not in self.buffers:
            self.buffers[value.buffer] = np.zeros((len(rows), width), np.float32)
        self.buffers[value.buffer][:, value.offset : value.offset + value.width] = rows

    def windows(self) -> list[tuple[StepInput, int]]:
        firsts = self.batch.windows[::WINDOW_FIELDS]
        return list(zip(self.inputs, firsts, strict=True))

"""The native executor: compiles a graph to a Plan once, then runs it in one call per step."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Listing

import numpy as np

from plait.core.step import StepInput
from plait.core.window import Floats, Ints
from plait.kernels.plan import Plan, Pool, make_plan
from plait.kvcache import pool as kv_pool
from plait.models.base import AttentionSpec, Graph, Rope, Value
from plait.runner import learning
from plait.runner.batch import Batch, flatten
from plait.runner.fuse import Fused, Op, fuse
from plait.runner.soften import as_window, soften
from plait.runner.weights import Weights
from plait.weights.base import Checkpoint

Columns = tuple[int, int, int, bool]

_HEAD = "head_rows", "head_panels", "head_wide", "head_broken", "head_narrow"
COUNTERS = "kernel_nanoseconds", *_HEAD, "softmax_unified", "softmax_redone"


class NativeRunner:
    """Implements core.step.Runner.

    The logits array is reused: what forward returns is valid until the next call.
    """

    def __init__(
        self,
        graph: Graph,
        checkpoint: Checkpoint,
        kv: kv_pool.Pool,
        *,
        activations: str,
        threads: Pool,
        isa: str = "auto",
        unified: bool = False,
    ) -> None:
        """activations: "int8" or "f32". unified: the form of softmax (softmax.py). Packs every weight; raises FormatError
        for damaged ones."""
        self._kv = kv.data
        self._fused = fuse(graph)
        self.weights = Weights(checkpoint, threads, _packing(self._fused, activations))
        layout = kv.layout
        shape = (layout.num_layers, layout.num_kv_heads, layout.head_dim, kv.num_pages)
        self._plan = make_plan(
            self._fused.widths,
            self._fused.result.buffer,
            shape,
            layout.dtype,
            activations == "int8",
            isa,
            threads,
        )
        _Emitter(self._plan, self.weights).emit(self._fused)
        self.last = self._fused.ops[-1]
        self._result = _columns(self._fused.result)
        self._seconds = 0.0
        self._out: Floats = np.zeros((0, self._fused.result.width), np.float32)
        learning.learn(
            self._plan,
            self._fused,
            kv,
            self.forward,
            self.weights.vector,
            fine_blocks=activations == "int8",
            centers=layout.dtype == "int8",
            unified=unified,
        )

    def forward(self, inputs: Listing[StepInput]) -> list[Floats]:
        """Logits float32 [rows wanted, vocab] per input."""
        batch = flatten(soften(inputs, self._embeddings))
        out = self._out if len(batch.wanted) <= len(self._out) else self._room(len(batch.wanted))
        self._run(batch, out, 0, self._plan.num_ops, None)
        rows: list[Floats] = []
        first = 0
        for count in batch.counts:
            rows.append(out[first : first + count])
            first += count
        return rows

    def _embeddings(self, tokens: Ints) -> Floats:
        return self.hidden([as_window(tokens)], until="layer.0")

    def hidden(
        self,
        inputs: Listing[StepInput],
        *,
        until: str,
        since: str | None = None,
        hidden: Floats | None = None,
    ) -> Floats:
        """The rows [all fed positions, width] at a cut point, running only the layers up to it.

        until, since: names of cuts ("layer.3", "hidden"). since starts there from `hidden` instead of
        from the embeddings.
        """
        batch = flatten(inputs)
        last, _ = self._fused.cuts[until]
        first = 0 if since is None else self._fused.cuts[since][0]
        value = self._fused.cuts[until][1]
        out = np.zeros((len(batch.tokens), value.width), np.float32)
        self._run(batch, out, first, last, hidden, since=since, until=until)
        return out

    def resume(self, inputs: Listing[StepInput], *, since: str, hidden: Floats) -> Floats:
        """Logits of the wanted rows, float32 [rows, vocab], from hidden rows at a cut point on."""
        batch = flatten(inputs)
        out = np.zeros((len(batch.wanted), self._fused.result.width), np.float32)
        first, _ = self._fused.cuts[since]
        self._run(batch, out, first, self._plan.num_ops, hidden, since=since)
        return out

    def counters(self) -> dict[str, int]:
        """Time in the kernels. Of the search for the best logits (csrc/ops/head.h): rows searched; panels of the
        vocabulary matrix, 8 tokens each, computed for them; rows for which a thread computed its whole part; steps
        that computed everything because a bound had not held; rows that had so few choices that none was searched. Of the unified softmax: parts of rows (csrc/ops/plan_attention.cpp),
        and those computed again."""
        counts = int(1e9 * self._seconds), *self._plan.head_counts(), *self._plan.attention_counts()
        return dict(zip(COUNTERS, counts, strict=True))

    def _room(self, rows: int) -> Floats:
        """Room for so many rows of logits, more than there is."""
        self._out = np.zeros((rows, self._out.shape[1]), np.float32)
        return self._out

    def _run(
        self,
        batch: Batch,
        out: Floats,
        first: int,
        last: int,
        hidden: Floats | None,
        *,
        since: str | None = None,
        until: str | None = None,
    ) -> None:
        entry = _columns(self._fused.cuts[since][1]) if since else self._result
        self._seconds += self._plan.run(
            batch.tokens,
            batch.positions,
            batch.windows,
            batch.pages,
            batch.masks,
            batch.wanted,
            batch.best,
            batch.allowed,
            batch.allowed_of,
            self._kv,
            out,
            batch.embeddings,
            batch.embedding_rows,
            hidden,
            first,
            last,
            entry,
            _columns(self._fused.cuts[until][1]) if until else None,
        )


def _packing(fused: Fused, activations: str) -> Callable[[str, str], str]:
    """(tensor, format) -> how it is packed. Where int8 activations meet it a matrix may leave its zeros out,
    and one whose product is the logits may lie so that a part of its bytes can be read alone."""
    last = fused.ops[-1]
    is_head = last.kind == "linear" and last.output.buffer == fused.result.buffer
    heads = last.weights if is_head else ()

    def packing(name: str, format_name: str) -> str:
        if activations != "int8":
            return "panels"
        return "planes" if name in heads and format_name in ("q8_0", "q6_k") else "sparse"

    return packing


def _columns(value: Value) -> Columns:
    return value.buffer, value.offset, value.width, value.rows == "wanted"


class _Emitter:
    """Adds fused ops to a plan; one method per kind."""

    def __init__(self, plan: Plan, weights: Weights) -> None:
        self.plan = plan
        self.weights = weights
        self.tables: dict[Rope, int] = {}

    def emit(self, fused: Fused) -> None:
        for op in fused.ops:
            getattr(self, f"_{op.kind}")(op)

    def _embed(self, op: Op) -> None:
        table = self.weights.matrix(op.weights[0])
        self.plan.embed(table, _columns(op.output), op.attrs["scale"])

    def _linear(self, op: Op) -> None:
        prologue, eps, activation = "none", 0.0, "silu"
        norm_weight: list[float] = []
        if op.prologue is not None:
            prologue = op.prologue.kind
            eps = op.prologue.attrs.get("eps", 0.0)
            activation = op.prologue.attrs.get("activation", "silu")
            if prologue == "rmsnorm":
                norm_weight = self._norm(op.prologue.vectors[0], op.prologue.attrs["offset"])
        self.plan.linear(
            [_columns(value) for value in op.inputs],
            [self.weights.matrix(name) for name in op.weights],
            [self._vector(name) for name in op.vectors],
            _columns(op.output),
            op.residual is not None,
            prologue,
            norm_weight,
            eps,
            activation,
        )

    def _rmsnorm(self, op: Op) -> None:
        self.plan.rmsnorm(
            _columns(op.inputs[0]),
            _columns(op.output),
            self._norm(op.vectors[0], op.attrs["offset"]),
            op.attrs["eps"],
            op.attrs["groups"],
            _columns(op.residual) if op.residual else None,
        )

    def _layernorm(self, op: Op) -> None:
        weight, bias = (self._vector(name) for name in op.vectors)
        self.plan.layernorm(
            _columns(op.inputs[0]), _columns(op.output), weight, bias, op.attrs["eps"]
        )

    def _rope(self, op: Op) -> None:
        rope = op.attrs["rope"]
        if rope not in self.tables:
            frequencies = rope.frequencies(self.weights.vector)
            self.tables[rope] = self.plan.rope_table(frequencies.tolist())
        table = self.tables[rope]
        self.plan.rope(_columns(op.inputs[0]), op.attrs["heads"], table, rope.interleaved)

    def _attention(self, op: Op) -> None:
        spec: AttentionSpec = op.attrs["spec"]
        q, k, v = (_columns(value) for value in op.inputs)
        out = _columns(op.output)
        self.plan.attention(q, k, v, out, spec.layer, spec.heads, spec.scale, spec.window)

    def _gated(self, op: Op) -> None:
        gate, up = (_columns(value) for value in op.inputs)
        self.plan.gated(gate, up, _columns(op.output), op.attrs["activation"])

    def _moe(self, op: Op) -> None:
        experts, routing = op.attrs["experts"], op.attrs["routing"]
        x, scores = (_columns(value) for value in op.inputs)
        gate, up, down = (
            self.weights.experts(names, experts.count, is_stacked=experts.is_stacked)
            for names in (experts.gate, experts.up, experts.down)
        )
        self.plan.moe(
            x,
            scores,
            _columns(op.output),
            gate,
            up,
            down,
            activation=experts.activation,
            score=routing.score,
            top_k=routing.top_k,
            bias=self._vector(routing.bias),
            groups=routing.groups,
            top_groups=routing.top_groups,
            normalize=routing.normalize,
            scale=routing.scale,
        )

    def _add(self, op: Op) -> None:
        x, y = (_columns(value) for value in op.inputs)
        self.plan.add(x, y, _columns(op.output), op.attrs["alpha"])

    def _wanted(self, op: Op) -> None:
        self.plan.wanted(_columns(op.inputs[0]), _columns(op.output))

    def _vector(self, name: str | None) -> list[float]:
        return [] if name is None else self.weights.vector(name).tolist()

    def _norm(self, name: str | None, offset: float) -> list[float]:
        assert name is not None
        return [float(w) for w in self.weights.vector(name) + np.float32(offset)]

"""The contract of a model: traits for the planner, a shape for the cache, one forward pass on a Graph.

A model is one file: `ALIASES` (other names its checkpoints go by), `SUMMARY`, and a class `Model`. Its
`build` is run once; what it records is executed by the native plan or by the NumPy reference.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from plait.core.errors import FormatError
from plait.core.traits import Traits
from plait.core.window import Floats
from plait.models.config import ModelConfig
from plait.models.experts import Experts, Routing

TOKENS = "tokens"
WANTED = "wanted"


@dataclass(frozen=True, slots=True)
class Value:
    """Float32 rows [n, width]: columns [offset, offset + width) of a buffer.

    rows: TOKENS (one row per fed position) or WANTED (one per row whose logits are asked for).
    """

    buffer: int
    offset: int
    width: int
    rows: str = TOKENS

    def columns(self, offset: int, width: int) -> Value:
        """A view of some columns."""
        assert offset >= 0
        assert offset + width <= self.width
        return replace(self, offset=self.offset + offset, width=width)


@dataclass(frozen=True, slots=True)
class Node:
    """One op. weights: checkpoint tensor names (matrices, then vectors); attrs: numbers and words."""

    kind: str
    inputs: tuple[Value, ...]
    output: Value
    weights: tuple[str, ...] = ()
    vectors: tuple[str | None, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cut:
    """A named point between two ops where a single value is live. node: index of the op that follows."""

    name: str
    node: int
    value: Value


class Graph:
    """Records a forward pass. `shapes` tells the row-major shape of a tensor by its name."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = shapes
        self.nodes: list[Node] = []
        self.cuts: list[Cut] = []
        self.widths: list[int] = []
        self.result: Value | None = None

    def embed(self, weight: str, *, scale: float = 1.0) -> Value:
        """Rows of `weight` [vocab, width] by token id, times scale."""
        out = self._buffer(self._matrix(weight)[1])
        return self._add(Node("embed", (), out, (weight,), attrs={"scale": scale}))

    def rmsnorm(
        self, x: Value, weight: str, *, eps: float, offset: float = 0.0, groups: int = 1
    ) -> Value:
        """x / rms(x) * (weight + offset), over each of `groups` equal parts of a row (arXiv:1910.07467)."""
        self._expect(weight, x.width // groups)
        attrs = {"eps": eps, "offset": offset, "groups": groups}
        return self._add(Node("rmsnorm", (x,), self._like(x), (), (weight,), attrs))

    def layernorm(self, x: Value, weight: str, bias: str | None, *, eps: float) -> Value:
        """(x - mean) / std * weight + bias over a row (arXiv:1607.06450)."""
        for name in (weight, *((bias,) if bias else ())):
            self._expect(name, x.width)
        return self._add(Node("layernorm", (x,), self._like(x), (), (weight, bias), {"eps": eps}))

    def linear(
        self, x: Value, *weights: str, biases: tuple[str | None, ...] | None = None
    ) -> tuple[Value, ...]:
        """x W^T + b for several W [n, x.width] on one input; one value per weight."""
        sizes = [self._matrix(w, cols=x.width)[0] for w in weights]
        for bias, size in zip(biases or (), sizes, strict=False):
            if bias is not None:
                self._expect(bias, size)
        out = self._buffer(sum(sizes), x.rows)
        self._add(Node("linear", (x,), out, weights, biases or (None,) * len(weights)))
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        return tuple(out.columns(end - n, n) for end, n in zip(ends, sizes, strict=True))

    def rope(self, x: Value, rope: Rope, *, heads: int) -> Value:
        """Rotary embedding in place, on the first 2 * len(inverse_frequencies) columns of each head."""
        return self._add(Node("rope", (x,), x, attrs={"rope": rope, "heads": heads}))

    def attention(self, q: Value, k: Value, v: Value, spec: AttentionSpec) -> Value:
        """Stores k and v in the cache, then softmax(q k^T scale) v over what the window's rows may see."""
        expected = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim)
        if (q.width, k.width, v.width) != (*expected, expected[1]):
            raise FormatError(
                f"layer {spec.layer}: q, k, v of {q.width}, {k.width}, {v.width} columns do not make "
                f"{spec.heads} heads and {spec.kv_heads} key-value heads of {spec.head_dim}"
            )
        out = self._buffer(q.width, q.rows)
        return self._add(Node("attention", (q, k, v), out, attrs={"spec": spec}))

    def gated(self, gate: Value, up: Value, activation: str) -> Value:
        """activation(gate) * up; activation: silu, gelu (erf) or gelu_tanh (arXiv:2002.05202)."""
        self._same_width(gate, up)
        out = self._like(gate)
        return self._add(Node("gated", (gate, up), out, attrs={"activation": activation}))

    def moe(self, x: Value, scores: Value, experts: Experts, routing: Routing) -> Value:
        """The weighted sum of what the experts that a row chooses make of it, in the order of their numbers.

        scores: [rows, experts.count], before softmax or sigmoid.
        """
        if scores.width != experts.count:
            raise FormatError(
                f"the scores of {scores.width} experts meet {experts.count} of them",
                "a damaged file or configuration",
            )
        routing.check(experts.count)
        if routing.bias is not None:
            self._expect(routing.bias, experts.count)
        out = self._buffer(experts.width(self.shapes, x.width), x.rows)
        attrs = {"experts": experts, "routing": routing}
        return self._add(Node("moe", (x, scores), out, experts.names, (routing.bias,), attrs))

    def add(self, x: Value, y: Value, *, alpha: float = 1.0) -> Value:
        """alpha * x + y; writes over x when alpha is 1, so x must not be used after."""
        self._same_width(x, y)
        out = x if alpha == 1.0 else self._like(x)
        return self._add(Node("add", (x, y), out, attrs={"alpha": alpha}))

    def wanted(self, x: Value) -> Value:
        """Only the rows whose logits are asked for."""
        return self._add(Node("wanted", (x,), self._buffer(x.width, WANTED)))

    def cut(self, name: str, x: Value) -> None:
        """Name this point; x must be the only value used after it."""
        self.cuts.append(Cut(name, len(self.nodes), x))

    def finish(self, logits: Value) -> None:
        self.result = logits

    def _matrix(self, name: str, cols: int | None = None) -> tuple[int, ...]:
        shape = self.shapes[name]
        if len(shape) != 2 or (cols is not None and shape[1] != cols):
            wanted = f"a matrix of {cols} columns" if cols is not None else "a matrix"
            raise FormatError(f"tensor {name} has shape {list(shape)}", f"{wanted} belongs here")
        return shape

    def _expect(self, name: str, size: int) -> None:
        if math.prod(self.shapes[name]) != size:
            shape = list(self.shapes[name])
            raise FormatError(f"tensor {name} has shape {shape}", f"{size} values belong here")

    def _same_width(self, x: Value, y: Value) -> None:
        if x.width != y.width:
            raise FormatError(
                f"rows of {x.width} and of {y.width} columns meet",
                "a tensor does not fit the others: a damaged file?",
            )

    def _buffer(self, width: int, rows: str = TOKENS) -> Value:
        self.widths.append(width)
        return Value(len(self.widths) - 1, 0, width, rows)

    def _like(self, x: Value) -> Value:
        return self._buffer(x.width, x.rows)

    def _add(self, node: Node) -> Value:
        self.nodes.append(node)
        return node.output


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotary position embedding (arXiv:2104.09864).

    inverse_frequencies: radians per position of each rotated pair. interleaved: pairs are (2i, 2i+1),
    as GGUF stores llama; else (i, i + half). factors: a vector of the checkpoint that divides the
    frequencies, or None.
    """

    inverse_frequencies: tuple[float, ...]
    interleaved: bool
    factors: str | None = None

    def frequencies(self, tensor: Callable[[str], Floats]) -> Floats:
        """Radians per position of each pair, float32, divided by the factors. tensor: of the checkpoint, by name."""
        inverse: Floats = np.asarray(self.inverse_frequencies, np.float32)
        if self.factors is not None:
            inverse /= np.ravel(tensor(self.factors))
        return inverse


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """layer: index of the layer in the cache. window: slots a row looks back over, 0 for all."""

    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int = 0


@dataclass(frozen=True, slots=True)
class CacheShape:
    """What one slot of the KV cache holds."""

    num_layers: int
    num_kv_heads: int
    head_dim: int


class Model(ABC):
    """A definition bound to one checkpoint's configuration."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config

    @abstractmethod
    def traits(self) -> Traits:
        """What the planner needs."""

    @abstractmethod
    def cache_shape(self) -> CacheShape:
        """What the cache needs."""

    def experts(self) -> tuple[int, int]:
        """How many experts a layer has, and how many of them a row meets; (0, 0) for a model without any."""
        return 0, 0

    @abstractmethod
    def build(self, graph: Graph) -> None:
        """Record the forward pass with checkpoint tensor names as `tensor_name` maps them."""

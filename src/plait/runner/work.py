"""What a forward of a model has to read and to multiply at least, counted on its graph."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from plait.core.config import PAGE
from plait.kvcache.pool import KVLayout
from plait.models.base import WANTED, AttentionSpec, Graph, Node
from plait.models.choose import model_for, trace
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint


@dataclass(frozen=True, slots=True)
class Cost:
    """bytes: read once each, of weights and of K/V. macs: multiply-accumulates."""

    bytes: int
    macs: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes + other.bytes, self.macs + other.macs)

    def __mul__(self, times: int) -> Cost:
        return Cost(self.bytes * times, self.macs * times)


@dataclass(frozen=True, slots=True)
class Mixture:
    """The experts of a layer. weights, bytes: of one of them; a row goes through `top_k` of `count`."""

    weights: int
    bytes: int
    count: int
    top_k: int

    def cost(self, rows: int) -> Cost:
        """bytes: of the experts that at least one of the rows chose, if all are as likely."""
        chosen = self.count * (1 - (1 - self.top_k / self.count) ** rows)
        return Cost(round(chosen * self.bytes), rows * self.top_k * self.weights)


@dataclass(frozen=True, slots=True)
class Work:
    """weights, weight_bytes: of the matrices that every fed position goes through, as the file stores them.

    head_weights, head_bytes: of those that only rows with logits go through. attention: one per layer.
    mixtures: of the layers whose rows go through some of their matrices.
    """

    weights: int
    weight_bytes: int
    head_weights: int
    head_bytes: int
    attention: tuple[AttentionSpec, ...]
    mixtures: tuple[Mixture, ...] = ()

    @property
    def attention_alone(self) -> Work:
        """The same without a matrix."""
        return Work(0, 0, 0, 0, self.attention)

    def step(
        self, *, rows: int, start: int, logits: int, kv: str, sequences: int = 1, shared: int = 0
    ) -> Cost:
        """A forward of `sequences` requests that feed `rows` positions each behind `start` slots.

        logits: rows of each whose logits are wanted. kv: element type of the cache. shared: so many of the
        first slots are the same for all, and read once. What the embedding, norms and activations take is
        left out: it is little.
        """
        tokens = sequences * rows
        macs = tokens * self.weights + sequences * logits * self.head_weights
        read = self.weight_bytes + (self.head_bytes if logits else 0)
        for spec in self.attention:
            pairs, slots = seen(rows, start, spec.window)
            common = max(0, min(shared, start) - (start + rows - slots))
            macs += sequences * 2 * spec.heads * spec.head_dim * pairs
            read += (sequences * slots - (sequences - 1) * common) * slot_bytes(spec, kv)
        return sum((mixture.cost(tokens) for mixture in self.mixtures), Cost(read, macs))


def seen(rows: int, start: int, window: int) -> tuple[int, int]:
    """(row, slot) pairs that causal attention looks at, and slots that at least one of the rows sees.

    window: how far back a row sees; 0 is to the beginning.
    """
    end = start + rows
    if not window:
        return rows * start + rows * (rows + 1) // 2, end
    return sum(min(slot + 1, window) for slot in range(start, end)), min(end, window + rows - 1)


def slot_bytes(spec: AttentionSpec, kv: str) -> int:
    """Bytes of one slot's K and V in one layer."""
    return KVLayout(1, spec.kv_heads, spec.head_dim, kv).page_bytes // PAGE


def model_work(path: Path) -> Work:
    """Of the model at a local path. Raises UserError for what is no model that can be run."""
    with open_checkpoint(path) as checkpoint:
        model = model_for(checkpoint.kind, checkpoint.config)
        shapes = {name: checkpoint.info(name).shape for name in checkpoint.names()}
        return graph_work(trace(model, shapes), checkpoint)


def graph_work(graph: Graph, checkpoint: Checkpoint) -> Work:
    """Of a traced model."""
    linear = [node for node in graph.nodes if node.kind == "linear"]
    body = [name for n in linear if n.inputs[0].rows != WANTED for name in n.weights]
    head = [name for n in linear if n.inputs[0].rows == WANTED for name in n.weights]

    def totals(names: list[str]) -> tuple[int, int]:
        infos = [checkpoint.info(name) for name in names]
        return sum(math.prod(info.shape) for info in infos), sum(info.nbytes for info in infos)

    def mixture(node: Node) -> Mixture:
        weights, size = totals(list(node.weights))
        count = node.attrs["experts"].count
        return Mixture(weights // count, size // count, count, node.attrs["routing"].top_k)

    specs = (node.attrs["spec"] for node in graph.nodes if node.kind == "attention")
    mixtures = (mixture(node) for node in graph.nodes if node.kind == "moe")
    return Work(*totals(body), *totals(head), tuple(specs), tuple(mixtures))

"""Graph -> flat list of native ops: neighbours fused, buffers shared by what does not live together.

Three fusions, each only between direct neighbours whose value nobody else reads:
a norm or a gate goes into the linear op that reads it (made in registers, quantised at once), a linear op
adds to the residual in place, and so does a norm after a block (Gemma).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from plait.models.base import Graph, Node, Value


@dataclass(frozen=True, slots=True)
class Op:
    """One native op. kind: that of a Node; residual: value added in place; attrs: the fused nodes' too."""

    kind: str
    inputs: tuple[Value, ...]
    output: Value
    weights: tuple[str, ...] = ()
    vectors: tuple[str | None, ...] = ()
    attrs: Mapping[str, Any] = field(default_factory=dict)
    prologue: Node | None = None
    residual: Value | None = None


@dataclass(frozen=True, slots=True)
class Fused:
    """ops, and for each cut its name, the op that follows it and its value; widths of the buffers."""

    ops: list[Op]
    cuts: dict[str, tuple[int, Value]]
    widths: list[int]
    result: Value


def fuse(graph: Graph) -> Fused:
    """The native form of a traced graph."""
    assert graph.result is not None
    readers = Counter(value.buffer for node in graph.nodes for value in node.inputs)
    barriers = {cut.node for cut in graph.cuts}
    ops: list[Op] = []
    op_of_node: list[int] = []
    pending: Node | None = None
    for index, node in enumerate(graph.nodes):
        op_of_node.append(len(ops))
        following = graph.nodes[index + 1] if index + 1 < len(graph.nodes) else None
        if _goes_into(node, following, readers) and index + 1 not in barriers:
            pending = node
            continue
        if node.kind == "add" and ops and _adds_last(node, ops[-1], readers):
            op_of_node[-1] = len(ops) - 1
            ops[-1] = replace(ops[-1], output=node.output, residual=node.inputs[0])
            continue
        ops.append(_op(node, pending))
        pending = None
    cuts = {cut.name: (op_of_node[cut.node], cut.value) for cut in graph.cuts}
    return _share_buffers(Fused(ops, cuts, graph.widths, graph.result))


def _goes_into(node: Node, following: Node | None, readers: Counter[int]) -> bool:
    """Is `node` a norm or gate that only the next node, a linear, reads?"""
    if following is None or following.kind != "linear" or following.inputs != (node.output,):
        return False
    whole_row = node.kind == "gated" or (node.kind == "rmsnorm" and node.attrs["groups"] == 1)
    return whole_row and readers[node.output.buffer] == 1


def _adds_last(node: Node, last: Op, readers: Counter[int]) -> bool:
    """Is `node` x + y in place, with y made by the last op and read by nobody else?

    A linear op without a prologue may read its input while it writes: then that must not be x.
    """
    x, y = node.inputs
    reads_x = last.prologue is None and any(value.buffer == x.buffer for value in last.inputs)
    return (
        node.output == x
        and not (last.kind == "linear" and reads_x)
        and last.output == y
        and last.residual is None
        and last.kind in ("linear", "rmsnorm")
        and last.attrs.get("groups", 1) == 1
        and readers[y.buffer] == 1
    )


def _op(node: Node, prologue: Node | None) -> Op:
    inputs = node.inputs if prologue is None else prologue.inputs
    return Op(
        node.kind, inputs, node.output, node.weights, node.vectors, node.attrs, prologue=prologue
    )


def _values(op: Op) -> tuple[Value, ...]:
    return (*op.inputs, op.output, *((op.residual,) if op.residual else ()))


def _share_buffers(fused: Fused) -> Fused:
    """Renames buffers so that one is used again when its value is dead and the width fits exactly."""
    last_use = {v.buffer: i for i, op in enumerate(fused.ops) for v in _values(op)}
    for _, value in fused.cuts.values():
        last_use.setdefault(value.buffer, 0)
    new_number: dict[int, int] = {}
    widths: list[int] = []
    free: dict[tuple[int, str], list[int]] = {}
    for i, op in enumerate(fused.ops):
        for value in _values(op):
            if value.buffer in new_number:
                continue
            key = (fused.widths[value.buffer], value.rows)
            if free.get(key) and value.buffer != fused.result.buffer:
                new_number[value.buffer] = free[key].pop()
            else:
                new_number[value.buffer] = len(widths)
                widths.append(key[0])
        for value in {v.buffer: v for v in _values(op)}.values():
            if last_use[value.buffer] == i and value.buffer != fused.result.buffer:
                key = (fused.widths[value.buffer], value.rows)
                free.setdefault(key, []).append(new_number[value.buffer])

    def renamed(value: Value) -> Value:
        return replace(value, buffer=new_number[value.buffer])

    ops = [
        replace(
            op,
            inputs=tuple(map(renamed, op.inputs)),
            output=renamed(op.output),
            residual=renamed(op.residual) if op.residual else None,
        )
        for op in fused.ops
    ]
    cuts = {name: (index, renamed(value)) for name, (index, value) in fused.cuts.items()}
    return Fused(ops, cuts, widths, renamed(fused.result))

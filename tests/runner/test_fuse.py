"""What the native plan makes of a graph."""

from __future__ import annotations

from plait.models.base import Graph
from plait.models.choose import model_for, trace
from plait.runner.fuse import fuse
from tests.synthetic import CONFIGS, checkpoint

SHAPES = {"table": (16, 8), "square": (8, 8), "norm": (8,)}


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in fuse(graph).ops]


def test_a_llama_layer_is_seven_ops() -> None:
    given = checkpoint(CONFIGS["llama"])
    model = model_for("safetensors", CONFIGS["llama"])
    ops = kinds(trace(model, {name: given.info(name).shape for name in given.names()}))
    layer = ["linear", "rope", "rope", "attention", "linear", "linear", "linear"]
    assert ops == ["embed", *layer, *layer, "wanted", "linear"]


def test_buffers_are_shared_between_layers() -> None:
    deep = {**CONFIGS["llama"], "num_hidden_layers": 6}
    widths = []
    for config in (CONFIGS["llama"], deep):
        given = checkpoint(config)
        graph = trace(
            model_for("safetensors", config), {n: given.info(n).shape for n in given.names()}
        )
        widths.append(fuse(graph).widths)
    assert widths[0] == widths[1]


def test_a_linear_op_does_not_write_over_the_rows_it_reads() -> None:
    graph = Graph(SHAPES)
    x = graph.embed("table")
    x = graph.add(x, graph.linear(x, "square")[0])
    graph.finish(graph.linear(graph.wanted(x), "square")[0])
    assert kinds(graph) == ["embed", "linear", "add", "wanted", "linear"]


def test_with_a_norm_between_it_may() -> None:
    graph = Graph(SHAPES)
    x = graph.embed("table")
    x = graph.add(x, graph.linear(graph.rmsnorm(x, "norm", eps=1e-5), "square")[0])
    graph.finish(graph.linear(graph.wanted(x), "square")[0])
    assert kinds(graph) == ["embed", "linear", "wanted", "linear"]


def test_a_value_that_is_read_twice_is_not_fused_away() -> None:
    graph = Graph(SHAPES)
    x = graph.embed("table")
    h = graph.rmsnorm(x, "norm", eps=1e-5)
    first = graph.linear(h, "square")[0]
    x = graph.add(first, graph.linear(h, "square")[0])
    graph.finish(graph.linear(graph.wanted(x), "square")[0])
    assert "rmsnorm" in kinds(graph)

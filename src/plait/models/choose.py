"""Which model file a checkpoint calls for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plait.core import registry
from plait.core.errors import FormatError
from plait.models.base import Graph, Model
from plait.models.config import from_gguf, from_hf


def model_for(kind: str, config: Mapping[str, Any]) -> Model:
    """kind: "gguf" (config is the metadata) or "safetensors" (config is config.json).

    A class that config.json names under `architectures` says more than `model_type`, which LLaDA's dense and
    sparse models share. Raises FormatError naming the architecture and those that are known.
    """
    key = "general.architecture" if kind == "gguf" else "model_type"
    architecture = str(config.get(key, ""))
    classes = config.get("architectures") if kind == "safetensors" else None
    candidates = [*map(str, classes if isinstance(classes, list) else ()), architecture]
    known_names = _names()
    name = next((known_names[each] for each in candidates if each in known_names), None)
    if name is None:
        known = ", ".join(sorted(known_names))
        raise FormatError(f"architecture {architecture[:80]!r} is not supported", f"known: {known}")
    parsed = from_gguf(config) if kind == "gguf" else from_hf(config)
    model = registry.load("models", name).Model(parsed)
    assert isinstance(model, Model)
    return model


def trace(model: Model, shapes: Mapping[str, tuple[int, ...]]) -> Graph:
    """Run a model's definition once. Raises FormatError when a tensor is missing or left over."""
    graph = Graph(_Shapes(shapes))
    model.build(graph)
    used = {name for node in graph.nodes for name in (*node.weights, *node.vectors) if name}
    used |= {n.attrs["rope"].factors for n in graph.nodes if n.kind == "rope"}
    missing = sorted(n for n in used if n and n not in shapes)
    if missing:
        raise FormatError(
            f"tensor {missing[0]} is missing ({len(missing)} in all)", "a damaged file?"
        )
    _check_vocabulary(model, graph, shapes)
    left = sorted(n for n in set(shapes) - used if not n.endswith("rotary_emb.inv_freq"))
    if left:
        raise FormatError(
            f"{len(left)} tensors have no place in this architecture, such as {left[0]}",
            "a variant of the model that Plait does not know",
        )
    return graph


def _check_vocabulary(model: Model, graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise FormatError for an embedding that has not a row for each token id."""
    declared = model.config.vocab_size
    for name in (node.weights[0] for node in graph.nodes if node.kind == "embed"):
        if shapes[name][0] != declared:
            raise FormatError(
                f"the model declares {declared} tokens (vocab_size), but {name} has {shapes[name][0]} rows",
                "a configuration or a tokenizer of another model",
            )


class _Shapes(dict[str, tuple[int, ...]]):
    def __missing__(self, name: str) -> tuple[int, ...]:
        raise FormatError(f"tensor {name} is missing", "a damaged file, or another architecture")


def _names() -> dict[str, str]:
    found = {}
    for name in registry.names("models"):
        for alias in (name, *registry.load("models", name).ALIASES):
            found[alias] = name
    return found

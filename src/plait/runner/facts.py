"""What a model file holds and what this machine offers, without loading anything."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.core.config import PAGE
from plait.kernels.plan import default_num_threads, runnable_isas
from plait.kvcache.pool import KVLayout
from plait.models.choose import model_for
from plait.runner.memory import available_bytes
from plait.weights import json_text
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint


@dataclass(frozen=True, slots=True)
class FormatShare:
    """How much of a model is stored in one weight format. parameters: number of weights."""

    tensors: int
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Everything `plait show` says of a model.

    formats: weight format -> its share, the largest first. kv_bytes_per_token: element type of the KV
    cache -> bytes that each token of context takes. experts: that a layer has, 0 for one without;
    experts_per_token: how many of them a token meets.
    """

    name: str
    kind: str
    architecture: str
    parameters: int
    file_bytes: int
    formats: dict[str, FormatShare]
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    experts_per_token: int
    vocab_size: int
    context_length: int
    sliding_window: int
    kv_bytes_per_token: dict[str, int]
    has_chat_template: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """processor: its own name. isas: kernel tables that it runs, the best last. threads: what a run uses by default.

    available_bytes: memory that can still be taken.
    """

    processor: str
    isas: tuple[str, ...]
    threads: int
    available_bytes: int


def machine() -> Machine:
    """The machine as the engine sees it now."""
    return Machine(processor(), tuple(runnable_isas()), default_num_threads(), available_bytes())


def processor() -> str:
    """The processor's own name, or its architecture where the kernel does not tell."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def model_facts(path: Path) -> ModelFacts:
    """Facts of the model at a local path. Raises UserError for what is no model that can be run."""
    with open_checkpoint(path) as checkpoint:
        model = model_for(checkpoint.kind, checkpoint.config)
        config, shape = model.config, model.cache_shape()
        experts, experts_per_token = model.experts()
        formats = _formats(checkpoint)
        per_token = {
            dtype: KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, dtype).page_bytes
            // PAGE
            for dtype in ("f16", "f32", "int8")
        }
        return ModelFacts(
            name=str(checkpoint.config.get("general.name") or path.name),
            kind=checkpoint.kind,
            architecture=config.architecture,
            parameters=sum(share.parameters for share in formats.values()),
            file_bytes=checkpoint.file_bytes,
            formats=formats,
            layers=config.layers,
            width=config.width,
            heads=config.heads,
            kv_heads=config.kv_heads,
            head_dim=config.head_dim,
            experts=experts,
            experts_per_token=experts_per_token,
            vocab_size=config.vocab_size,
            context_length=config.context_length,
            sliding_window=config.sliding_window,
            kv_bytes_per_token=per_token,
            has_chat_template=_has_chat_template(checkpoint.tokenizer_source),
        )


def _has_chat_template(source: Mapping[str, Any] | Path) -> bool:
    """source: what `Checkpoint.tokenizer_source` gives."""
    if not isinstance(source, Path):
        return "tokenizer.chat_template" in source
    config = source / "tokenizer_config.json"
    own_file = (source / "chat_template.jinja").exists()
    return own_file or (config.exists() and "chat_template" in json_text.read(config))


def _formats(checkpoint: Checkpoint) -> dict[str, FormatShare]:
    found: dict[str, FormatShare] = {}
    for info in checkpoint.tensors.values():
        old = found.get(info.format_name, FormatShare(0, 0, 0))
        found[info.format_name] = FormatShare(
            old.tensors + 1, old.parameters + math.prod(info.shape), old.bytes + info.nbytes
        )
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))

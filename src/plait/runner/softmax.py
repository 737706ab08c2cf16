"""Which form of softmax attention uses: the online one, or the one with a maximum known beforehand.

In the unified form (FlashDecoding++, arXiv:2311.01282 section 3) every query head of a layer weighs its scores against
a maximum of its own, so that parts of a row need not wait for each other. It is learned at load from one page of tokens
and part of the model from then on. A row whose sum leaves the range is computed again in the online form, which hangs on
its own scores alone (csrc/ops/plan_attention.cpp).

The two forms round differently, in the last bits. So which one is used may hang on the model and the machine, and never
on a batch: `plait bench attention` measures both, and what it found is kept below the cache folder and read at load.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from plait.core.config import VERSION
from plait.kernels.plan import runnable_isas
from plait.models.base import AttentionSpec
from plait.runner.facts import processor
from plait.weights.hub import cache_root

LEAST_GAIN = 1.01
"""How many times faster the unified form must have been; measurements are no surer than that."""


def key(kv: str, spec: AttentionSpec) -> str:
    """What a choice is made for: element type of the cache, width of a head, query heads per KV head."""
    return f"{kv} {spec.head_dim}x{spec.heads // spec.kv_heads}"


def is_unified(key: str, isa: str) -> bool:
    """Whether the unified form was measured to be faster by this machine and version; isa may be "auto"."""
    return _load(_file(isa)).get(key, 0.0) >= LEAST_GAIN


def save(key: str, isa: str, gain: float) -> None:
    """gain: how many times as fast as the online form the unified one was. A folder that cannot be written is no
    error: then the online form stays."""
    file = _file(isa)
    fields = {"machine": _machine(), "gain": _load(file) | {key: gain}}
    partial = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        partial.replace(file)


def _machine() -> str:
    return f"{processor()}, Plait {VERSION}"


def _file(isa: str) -> Path:
    table = isa if isa != "auto" else runnable_isas()[-1]
    return cache_root() / "softmax" / f"{table}.json"


def _load(file: Path) -> dict[str, float]:
    """What was saved on this machine; nothing if that cannot be read or is not what we write."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        found = {str(name): float(gain) for name, gain in fields["gain"].items()}
        return found if fields["machine"] == _machine() else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}

"""Plait: language-model inference for machines without a GPU.

`from plait import LLM, SamplingParams`; nothing heavy is imported before one of them is touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from plait.core.config import VERSION as __version__

if TYPE_CHECKING:
    from plait.core.params import SamplingParams
    from plait.llm import LLM, RequestOutput

__all__ = ["LLM", "RequestOutput", "SamplingParams", "__version__"]

_HOMES = {"LLM": "plait.llm", "RequestOutput": "plait.llm", "SamplingParams": "plait.core.params"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'plait' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)

"""Tokenizers of the real models, from the files that `plait pull` fetches."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from plait.text.tokenizer import Tokenizer
from plait.weights import hub
from plait.weights.gguf import GgufFile


@cache
def metadata(name: str) -> Mapping[str, Any]:
    """GGUF metadata of a model with a short name; downloads it the first time."""
    with GgufFile(hub.resolve(name)) as file:
        return dict(file.tokenizer_source)


@cache
def tokenizer(name: str) -> Tokenizer:
    return Tokenizer.from_gguf(metadata(name))

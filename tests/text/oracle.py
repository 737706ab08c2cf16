"""The oracle fixture: what independent tokenizers made of `strings.py`, as one checksum per string."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).with_name("oracle.npz")

FAMILIES = (
    "default",
    "gpt-2",
    "smollm",
    "llama-bpe",
    "dbrx",
    "qwen2",
    "qwen35",
    "llada-moe",
    "deepseek-v3",
)
"""One pre-tokenizer of every family, tried on a small vocabulary that the fixture holds."""

NUM_SMALL_STRINGS = 3_000


def checksum(ids: Iterable[int]) -> int:
    """32 bits of the BLAKE2 hash of token ids."""
    return _short(array("i", ids).tobytes())


def text_checksum(text: str) -> int:
    """32 bits of the BLAKE2 hash of a text."""
    return _short(text.encode())


def checksums(many: Iterable[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.array([checksum(ids) for ids in many], np.uint32)


def whole(texts: Iterable[str]) -> str:
    """One hash over many texts, to notice that they are not the ones the fixture was made from."""
    return hashlib.sha256(json.dumps(list(texts)).encode()).hexdigest()


@cache
def fixture() -> dict[str, Any]:
    with np.load(PATH, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def provenance() -> dict[str, Any]:
    return dict(json.loads(str(fixture()["provenance"])))


def _short(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")

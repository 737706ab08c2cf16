"""Small vocabularies, as GGUF metadata."""

from __future__ import annotations

from typing import Any

from hypothesis import settings

from plait.text.tokenizer import Tokenizer
from plait.text.vocabulary import Kind, byte_letters

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = (
    int(Kind[name])
    for name in ("NORMAL", "UNKNOWN", "CONTROL", "USER_DEFINED", "UNUSED", "BYTE")
)  # fmt: skip

repeatable = settings(derandomize=True, deadline=None, database=None)
"""For tests over random examples: the same ones every time."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def metadata(**fields: Any) -> dict[str, Any]:
    """Fields with their full names; None takes one out."""
    return {f"tokenizer.ggml.{name}": value for name, value in fields.items() if value is not None}


def byte_level(**changes: Any) -> dict[str, Any]:
    """All bytes, "he", "hell", "hello" and " hello", three control tokens, one user-defined, one unused."""
    letters = list(byte_letters().values())
    merges = ["h e", "l l", "he ll", "hell o", "Ġ hello"]
    merged = [merge.replace(" ", "") for merge in merges]
    extra = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool>", "[PAD]"]
    names = letters + merged + extra
    kinds = [NORMAL] * (len(names) - 5) + [CONTROL] * 3 + [USER, UNUSED]
    fields = {
        "model": "gpt2", "pre": "gpt-2", "tokens": names, "token_type": kinds, "merges": merges,
        "bos_token_id": names.index("<|im_start|>"), "eos_token_id": names.index("<|im_end|>"),
    }  # fmt: skip
    return metadata(**fields | changes)


def pieces(
    scored: dict[str, float], *, user: tuple[str, ...] = (), with_bytes: bool = True, **changes: Any
) -> dict[str, Any]:
    """<unk>, <s>, </s>, the 256 bytes, the scored pieces, user-defined pieces."""
    spelt = [f"<0x{byte:02X}>" for byte in range(256)] if with_bytes else []
    names = ["<unk>", "<s>", "</s>", *spelt, *scored, *user]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * len(spelt), *[NORMAL] * len(scored)]
    fields = {
        "model": "llama", "tokens": names, "token_type": kinds + [USER] * len(user),
        "scores": [0.0] * (3 + len(spelt)) + list(scored.values()) + [0.0] * len(user),
    }  # fmt: skip
    return metadata(**fields | changes)


def tokenizer(**changes: Any) -> Tokenizer:
    return Tokenizer.from_gguf(byte_level(**changes))

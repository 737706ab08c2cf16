"""An LLM over the fake model, with letters for tokens."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plait import llm
from plait.core.aids import Aids
from plait.core.config import EngineConfig
from plait.core.traits import Traits
from plait.engine.build import Built, assemble
from plait.kvcache.pool import Pool
from tests.fakes import CAUSAL_TRAITS, EOS, LAYOUT, MASK, VOCAB, FakeRunner

START = 6
NO_ENDS = replace(CAUSAL_TRAITS, eos_ids=frozenset())
"""The tokenizer alone knows how an answer ends."""
_LETTERS = iter(string.ascii_letters + "ĠĊ.,!?")
NAMES = [
    {START: "<|im_start|>", EOS: "<|im_end|>", MASK: "<|mask|>"}.get(i) or next(_LETTERS)
    for i in range(VOCAB)
]
TOKENIZER = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "default",
    "tokenizer.ggml.tokens": NAMES,
    "tokenizer.ggml.token_type": [3 if i in (START, EOS, MASK) else 1 for i in range(VOCAB)],
    "tokenizer.ggml.merges": [],
    "tokenizer.ggml.eos_token_id": EOS,
    "tokenizer.chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}",
}


def make_llm(
    monkeypatch: pytest.MonkeyPatch,
    traits: Traits = NO_ENDS,
    **settings: Any,
) -> llm.LLM:
    """The real facade, with the loading of a model replaced."""
    closed: list[bool] = []

    def build(
        config: EngineConfig,
        progress: Any,
        read_ends: Callable[[Any], Any],
        read_draft: Callable[[Any], Any],
        aids: Aids,
        lexicon: Callable[[], Any],
    ) -> Built:
        pool = Pool(LAYOUT, 64)
        full = replace(traits, eos_ids=traits.eos_ids | read_ends(TOKENIZER))
        engine = assemble(config, FakeRunner(pool, full), full, pool, aids=aids, lexicon=lexicon)
        return Built(engine, engine.traits, ("fake",), lambda: closed.append(True))

    monkeypatch.setattr(llm, "build", build)
    made = llm.LLM("fake", **settings)
    made.closed = closed  # type: ignore[attr-defined]
    return made

"""Llama and its kin: SmolLM2, Llama 2/3, Mistral, GEB-1.3B (arXiv:2302.13971, 2407.21783, 2406.09900)."""

from __future__ import annotations

from plait.core.traits import Traits
from plait.models import base
from plait.models.base import CacheShape, Graph, Rope, Value
from plait.models.parts import (
    Names,
    attention_block,
    cache_shape,
    feed_forward,
    head_weight,
    rope_of,
)

SUMMARY = "Llama 2/3, SmolLM2, Mistral, GEB: RMSNorm before each block, rotary embedding, SwiGLU"
ALIASES = ("mistral", "geb")


class Model(base.Model):
    def traits(self) -> Traits:
        c = self.config
        return Traits(c.vocab_size, c.context_length, eos_ids=c.eos_ids)

    def cache_shape(self) -> CacheShape:
        return cache_shape(self.config)

    def names(self) -> Names:
        return Names(self.config.source)

    def rope(self, graph: Graph) -> Rope:
        """GGUF stores llama's q and k rows permuted, so that rotated pairs are neighbours there."""
        factors = "rope_freqs.weight" if "rope_freqs.weight" in graph.shapes else None
        return rope_of(self.config, interleaved=self.config.source == "gguf", factors=factors)

    def build(self, graph: Graph) -> None:
        c, names, rope = self.config, self.names(), self.rope(graph)
        x = graph.embed(names.top("token_embd"))
        for i in range(c.layers):
            graph.cut(f"layer.{i}", x)
            h = graph.rmsnorm(x, names.layer(i, "attn_norm"), eps=c.norm_eps)
            h = attention_block(graph, c, names, i, h, rope, window=c.sliding_window)
            x = graph.add(x, h)
            h = graph.rmsnorm(x, names.layer(i, "ffn_norm"), eps=c.norm_eps)
            x = graph.add(x, self.feed_forward(graph, i, h))
        graph.cut("hidden", x)
        x = graph.rmsnorm(graph.wanted(x), names.top("output_norm"), eps=c.norm_eps)
        graph.finish(graph.linear(x, head_weight(graph, names))[0])

    def feed_forward(self, graph: Graph, index: int, h: Value) -> Value:
        """What a layer adds to x after attention; h: the normed rows."""
        return feed_forward(graph, self.names(), index, h, self.config.activation)

"""MindLLM-shaped decoders (arXiv:2310.15777): DeepNorm or RMSNorm, GeGLU, rotary embedding, untied head.

DeepNorm (arXiv:2203.00555) normalises after each residual sum, which it scales by alpha = (2 N)^(1/4).
"""

from __future__ import annotations

from plait.core.errors import FormatError
from plait.core.traits import Traits
from plait.models import base
from plait.models.base import CacheShape, Graph, Value
from plait.models.parts import (
    Names,
    attention_block,
    cache_shape,
    feed_forward,
    head_weight,
    rope_of,
)

SUMMARY = "MindLLM shapes: DeepNorm or RMSNorm, GeGLU, untied head"
ALIASES = ()


class Model(base.Model):
    def traits(self) -> Traits:
        c = self.config
        return Traits(c.vocab_size, c.context_length, eos_ids=c.eos_ids)

    def cache_shape(self) -> CacheShape:
        return cache_shape(self.config)

    def build(self, graph: Graph) -> None:
        c, names, rope = self.config, Names(self.config.source), rope_of(self.config)
        norm = str(c.extra.get("norm_type", "rmsnorm"))
        if norm not in ("rmsnorm", "deepnorm"):
            raise FormatError(f"norm_type {norm[:80]!r} is not known", "rmsnorm or deepnorm")
        deep = norm == "deepnorm"
        x = graph.embed(names.top("token_embd"))
        for i in range(c.layers):
            graph.cut(f"layer.{i}", x)
            first, second = names.layer(i, "attn_norm"), names.layer(i, "ffn_norm")
            h = x if deep else self._rms(graph, x, first)
            h = attention_block(graph, c, names, i, h, rope)
            x = self._deep(graph, x, h, first) if deep else graph.add(x, h)
            h = x if deep else self._rms(graph, x, second)
            h = feed_forward(graph, names, i, h, c.activation)
            x = self._deep(graph, x, h, second) if deep else graph.add(x, h)
        graph.cut("hidden", x)
        x = graph.wanted(x)
        x = x if deep else self._rms(graph, x, names.top("output_norm"))
        graph.finish(graph.linear(x, head_weight(graph, names))[0])

    def _rms(self, graph: Graph, x: Value, weight: str) -> Value:
        return graph.rmsnorm(x, weight, eps=self.config.norm_eps)

    def _deep(self, graph: Graph, x: Value, h: Value, weight: str) -> Value:
        bias = weight.removesuffix("weight") + "bias"
        total = graph.add(x, h, alpha=deepnorm_alpha(self.config.layers))
        named = bias if bias in graph.shapes else None
        return graph.layernorm(total, weight, named, eps=self.config.norm_eps)


def deepnorm_alpha(layers: int) -> float:
    """Residual scale of an N-layer decoder: (2 N)^(1/4)."""
    return float((2 * layers) ** 0.25)

"""Gemma 3, text (arXiv:2503.19786): norms before and after each block, local and global attention layers."""

from __future__ import annotations

import math

import numpy as np

from plait.core.traits import Traits
from plait.models import base
from plait.models.base import CacheShape, Graph, Value
from plait.models.config import Reader
from plait.models.parts import (
    Names,
    attention_block,
    cache_shape,
    feed_forward,
    head_weight,
    rope_of,
)

SUMMARY = "Gemma 3: four norms a layer, five sliding-window layers to one global, GeGLU"
ALIASES = ("gemma3_text",)

_RENAMED = (
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
)


class Model(base.Model):
    def traits(self) -> Traits:
        c = self.config
        return Traits(c.vocab_size, c.context_length, eos_ids=c.eos_ids)

    def cache_shape(self) -> CacheShape:
        return cache_shape(self.config)

    def build(self, graph: Graph) -> None:
        c, names = self.config, Names(self.config.source, _RENAMED)
        ropes = {
            "local": rope_of(c, theta=self._local_theta(), scaled=False),
            "global": rope_of(c),
        }
        # The reference implementation rounds the scale to bfloat16 only for bfloat16 weights.
        x = graph.embed(names.top("token_embd"), scale=float(np.float32(math.sqrt(c.width))))
        for i in range(c.layers):
            graph.cut(f"layer.{i}", x)
            is_global = (i + 1) % self._pattern() == 0
            h = attention_block(
                graph,
                c,
                names,
                i,
                self._norm(graph, x, names.layer(i, "attn_norm")),
                ropes["global" if is_global else "local"],
                norm_offset=self._offset,
                scale=self._query_scale(),
                window=0 if is_global else c.sliding_window,
            )
            x = graph.add(x, self._norm(graph, h, names.layer(i, "post_attention_norm")))
            h = self._norm(graph, x, names.layer(i, "ffn_norm"))
            h = feed_forward(graph, names, i, h, "gelu_tanh")
            x = graph.add(x, self._norm(graph, h, names.layer(i, "post_ffw_norm")))
        graph.cut("hidden", x)
        x = self._norm(graph, graph.wanted(x), names.top("output_norm"))
        graph.finish(graph.linear(x, head_weight(graph, names))[0])

    @property
    def _offset(self) -> float:
        """Hugging Face stores norm weights minus one; GGUF has the one folded in."""
        return 0.0 if self.config.source == "gguf" else 1.0

    def _norm(self, graph: Graph, x: Value, weight: str) -> Value:
        return graph.rmsnorm(x, weight, eps=self.config.norm_eps, offset=self._offset)

    def _pattern(self) -> int:
        reader = Reader(self.config.extra, "gemma3")
        keys = ("gemma3.attention.sliding_window_pattern", "sliding_window_pattern")
        return reader.integer(*keys, default=6, least=1)

    def _local_theta(self) -> float:
        reader = Reader(self.config.extra, "gemma3")
        keys = ("gemma3.rope.freq_base_swa", "rope_local_base_freq")
        return reader.positive(*keys, default=10000.0)

    def _query_scale(self) -> float:
        """GGUF has no key for it: the 27B model, alone in the family, divides by width / heads."""
        c = self.config
        is_27b = c.source == "gguf" and c.layers == 62
        reader = Reader(c.extra, "gemma3")
        default = c.width / c.heads if is_27b else float(c.head_dim)
        return 1.0 / math.sqrt(reader.positive("query_pre_attn_scalar", default=default))

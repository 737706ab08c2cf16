"""LLaDA2-mini and -flash (arXiv:2512.15745): block diffusion on a Ling 2.0 body.

Half of each head is rotated. After the first dense layers each has one expert that every row goes through and
256 of which a row chooses 8, in 4 of 8 groups, by sigmoid scores.
"""

from __future__ import annotations

from dataclasses import replace

from plait.core.traits import Traits
from plait.models import llama
from plait.models.base import Graph, Rope, Value
from plait.models.config import token_ids
from plait.models.diffusion import diffusion_traits, reader_of, trained_block
from plait.models.experts import Routing, expert_count
from plait.models.parts import Names, feed_forward, rope_of, sparse_feed_forward

SUMMARY = "LLaDA2: block diffusion with experts in groups, half rotary"
ALIASES = ("llada2_moe", "LLaDA2MoeModelLM")

_RENAMED = (
    ("token_embd", "model.word_embeddings"),
    ("attn_qkv", "attention.query_key_value"),
    ("attn_q_norm", "attention.query_layernorm"),
    ("attn_k_norm", "attention.key_layernorm"),
    ("attn_output", "attention.dense"),
)


class Model(llama.Model):
    """config.json need not name the block size, the mask token or what ends a text (`pad_token_id`)."""

    def traits(self) -> Traits:
        pattern = trained_block(self.config, "block_size", "block_length", default=32)
        traits = diffusion_traits(self.config, pattern, mask_token=156895)
        padding = self.config.extra.get("pad_token_id")
        ends = traits.eos_ids or token_ids([padding])
        return replace(traits, eos_ids=ends)

    def names(self) -> Names:
        return Names(self.config.source, _RENAMED)

    def rope(self, graph: Graph) -> Rope:
        share = reader_of(self.config).positive("partial_rotary_factor", default=0.5)
        return rope_of(self.config, share=share)

    def build(self, graph: Graph) -> None:
        reader_of(self.config).only({"norm_head": False, "score_function": "sigmoid"})
        super().build(graph)

    def experts(self) -> tuple[int, int]:
        reader = reader_of(self.config)
        used = reader.integer("num_experts_per_tok", default=8, least=1)
        return expert_count(reader, "num_experts"), used

    def feed_forward(self, graph: Graph, index: int, h: Value) -> Value:
        reader, names, activation = reader_of(self.config), self.names(), self.config.activation
        if index < reader.integer("first_k_dense_replace", default=1):
            return feed_forward(graph, names, index, h, activation)
        (count, _), routing = self.experts(), self._routing(graph, index)
        chosen = sparse_feed_forward(graph, names, index, h, routing, count, activation)
        if not reader.integer("num_shared_experts", default=1):
            return chosen
        return graph.add(chosen, feed_forward(graph, names, index, h, activation, part="_shexp"))

    def _routing(self, graph: Graph, index: int) -> Routing:
        reader = reader_of(self.config)
        bias = self.names().layer(index, "ffn_gate_inp", "expert_bias")
        return Routing(
            top_k=self.experts()[1],
            score="sigmoid",
            bias=bias if bias in graph.shapes else None,
            groups=reader.integer("n_group", default=8, least=1),
            top_groups=reader.integer("topk_group", default=4, least=1),
            normalize=reader.flag("norm_topk_prob", default=True),
            scale=reader.number("routed_scaling_factor", default=2.5),
        )

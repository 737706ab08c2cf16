"""LLaDA-MoE-7B-A1B (arXiv:2509.24389): masked diffusion on an OLMoE-like body, 8 of 64 experts a layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plait.core.traits import Traits
from plait.core.window import FULL
from plait.models import qwen2
from plait.models.base import Graph, Value
from plait.models.diffusion import diffusion_traits, reader_of
from plait.models.experts import Routing, expert_count
from plait.models.parts import sparse_feed_forward

SUMMARY = "LLaDA-MoE: masked diffusion with experts, full attention"
ALIASES = ("llada-moe", "lladamoe", "LLaDAMoEModel", "LLaDAMoEModelLM")

_EXPECTED: Mapping[str, Any] = {
    "moe_router_enable_expert_bias": False,
    "moe_router_score_function": "softmax",
    "partial_rotary_factor": 1,
    "routed_scaling_factor": 1,
    "shared_expert_intermediate_size": 0,
}
"""What the configuration can vary and no published LLaDA-MoE does."""


class Model(qwen2.Model):
    """config.json has the `model_type` of the dense models; its `architectures` tell them apart."""

    def traits(self) -> Traits:
        return diffusion_traits(self.config, FULL, mask_token=156895)

    def build(self, graph: Graph) -> None:
        reader_of(self.config).only({**_EXPECTED, "moe_layer_freq": [1] * self.config.layers})
        super().build(graph)

    def experts(self) -> tuple[int, int]:
        reader = reader_of(self.config)
        count = expert_count(reader, self._key("num_experts", "expert_count"))
        return count, reader.integer(self._key("num_experts_per_tok", "expert_used_count"), least=1)

    def feed_forward(self, graph: Graph, index: int, h: Value) -> Value:
        reader = reader_of(self.config)
        count, top_k = self.experts()
        key = self._key("norm_topk_prob", "expert_weights_norm")
        routing = Routing(top_k, normalize=reader.flag(key, default=False))
        activation = self.config.activation
        return sparse_feed_forward(graph, self.names(), index, h, routing, count, activation)

    def _key(self, hf: str, gguf: str) -> str:
        return hf if self.config.source == "safetensors" else f"{self.config.architecture}.{gguf}"

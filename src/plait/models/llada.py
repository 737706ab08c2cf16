"""LLaDA-8B and LLaDA-1.5 (arXiv:2502.09992, 2505.19223): Llama without the causal mask, OLMo's tensor names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from plait.core.traits import Traits
from plait.core.window import FULL
from plait.models import llama
from plait.models.base import Graph
from plait.models.config import Reader
from plait.models.diffusion import diffusion_traits
from plait.models.parts import Names

SUMMARY = "LLaDA-8B, LLaDA-1.5: masked diffusion on a Llama body, full attention"
ALIASES = ("LLaDAModelLM",)

_RENAMED = (
    ("token_embd", "model.transformer.wte"),
    ("output_norm", "model.transformer.ln_f"),
    ("output", "model.transformer.ff_out"),
    ("attn_norm", "attn_norm"),
    ("attn_q", "q_proj"),
    ("attn_k", "k_proj"),
    ("attn_v", "v_proj"),
    ("attn_output", "attn_out"),
    ("ffn_norm", "ff_norm"),
    ("ffn_gate", "ff_proj"),
    ("ffn_up", "up_proj"),
    ("ffn_down", "ff_out"),
)
_EXPECTED: Mapping[str, Any] = {
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "multi_query_attention": False,
    "rope": True,
    "scale_logits": False,
}
"""What OLMo's configuration can vary and no LLaDA does."""


class Model(llama.Model):
    def traits(self) -> Traits:
        return diffusion_traits(self.config, FULL, mask_token=126336)

    def names(self) -> Names:
        return Names(self.config.source, _RENAMED, "model.transformer.blocks")

    def build(self, graph: Graph) -> None:
        Reader(self.config.extra, "config.json").only(_EXPECTED)
        super().build(graph)

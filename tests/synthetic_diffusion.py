"""Configurations and tensors of diffusion families, small, as their published checkpoints lay them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Random = Callable[..., np.ndarray]

DREAM: dict[str, Any] = {
    "architectures": ["DreamModel"],
    "model_type": "Dream",
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "mask_token_id": 95,
    "pad_token_id": 1,
    "bos_token_id": 1,
    "eos_token_id": 1,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "vocab_size": 96,
}
FAST_DLLM: dict[str, Any] = {
    **DREAM,
    "architectures": ["Fast_dLLM_QwenForCausalLM"],
    "model_type": "Fast_dLLM_Qwen",
    "bd_size": 4,
    "tie_word_embeddings": True,
}
LLADA: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"],
    "model_type": "llada",
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 64,
    "embedding_size": 96,
    "eos_token_id": 1,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 95,
    "max_sequence_length": 2048,
    "mlp_hidden_size": 96,
    "mlp_ratio": 4,
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 2,
    "pad_token_id": 1,
    "rms_norm_eps": 1e-5,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "vocab_size": 96,
    "weight_tying": False,
}
LLADA_MOE: dict[str, Any] = {
    "architectures": ["LLaDAMoEModelLM"],
    "model_type": "llada",
    "dense_intermediate_size": 96,
    "eos_token_id": 1,
    "expert_intermediate_size": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "mask_token_id": 95,
    "max_position_embeddings": 2048,
    "moe_layer_freq": [1, 1],
    "moe_router_enable_expert_bias": False,
    "moe_router_score_function": "softmax",
    "norm_topk_prob": None,
    "num_attention_heads": 4,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 4,
    "pad_token_id": 1,
    "partial_rotary_factor": 1,
    "qk_layernorm": True,
    "rms_norm_eps": 1e-5,
    "rope_theta": 50000.0,
    "routed_scaling_factor": 1.0,
    "shared_expert_intermediate_size": None,
    "tie_word_embeddings": False,
    "vocab_size": 96,
}
LLADA2: dict[str, Any] = {
    "architectures": ["LLaDA2MoeModelLM"],
    "model_type": "llada2_moe",
    "block_size": 4,
    "first_k_dense_replace": 1,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 64,
    "intermediate_size": 96,
    "mask_token_id": 95,
    "max_position_embeddings": 2048,
    "moe_intermediate_size": 32,
    "n_group": 4,
    "norm_head": False,
    "norm_topk_prob": True,
    "num_attention_heads": 4,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "num_shared_experts": 1,
    "pad_token_id": 1,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-6,
    "rope_scaling": None,
    "rope_theta": 600000,
    "routed_scaling_factor": 2.5,
    "score_function": "sigmoid",
    "tie_word_embeddings": False,
    "topk_group": 2,
    "use_bias": False,
    "use_qk_norm": True,
    "use_qkv_bias": False,
    "vocab_size": 96,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "dream": DREAM,
    "fast-dllm": FAST_DLLM,
    "llada": LLADA,
    "llada-moe": LLADA_MOE,
    "llada2": LLADA2,
}


def family(config: Mapping[str, Any]) -> str | None:
    """The key of CONFIGS that a configuration belongs to."""
    classes = config.get("architectures")
    return next((name for name, own in CONFIGS.items() if own["architectures"] == classes), None)


def tensors(config: Mapping[str, Any], random: Random) -> dict[str, np.ndarray]:
    """Random tensors. random: (*shape, scale=) -> normally distributed values."""
    makers = {"llada": _llada, "llada-moe": _llada_moe, "llada2": _llada2}
    return _Maker(config, random, makers.get(family(config) or "", _qwen)).made


class _Maker:
    def __init__(
        self, config: Mapping[str, Any], random: Random, layout: Callable[..., None]
    ) -> None:
        self.config = config
        self.random = random
        self.made: dict[str, np.ndarray] = {}
        layout(self, config)

    def matrix(self, name: str, rows: int, columns: int, gain: float = 2.0) -> None:
        self.made[f"{name}.weight"] = self.random(rows, columns, scale=gain * columns**-0.5)

    def norm(self, name: str, width: int) -> None:
        self.made[f"{name}.weight"] = 1 + self.random(width, scale=0.1)

    def table(self, name: str, rows: int, width: int) -> None:
        self.made[f"{name}.weight"] = self.random(rows, width)

    def mlp(self, name: str, width: int, inner: int) -> None:
        for part in ("gate_proj", "up_proj"):
            self.matrix(f"{name}.{part}", inner, width)
        self.matrix(f"{name}.down_proj", width, inner)

    def attention(self, name: str, c: Mapping[str, Any]) -> None:
        width, d = c["hidden_size"], c["hidden_size"] // c["num_attention_heads"]
        rows = {"q_proj": c["num_attention_heads"] * d}
        rows |= dict.fromkeys(("k_proj", "v_proj"), c["num_key_value_heads"] * d)
        for part, count in rows.items():
            self.matrix(f"{name}.{part}", count, width)
        self.matrix(f"{name}.o_proj", width, rows["q_proj"])


def _qwen(make: _Maker, c: Mapping[str, Any]) -> None:
    """Dream and Fast-dLLM v2: the names of Qwen2."""
    width, vocab = c["hidden_size"], c["vocab_size"]
    make.table("model.embed_tokens", vocab, width)
    make.norm("model.norm", width)
    if not c["tie_word_embeddings"]:
        make.matrix("lm_head", vocab, width, 1.0)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        make.norm(f"{layer}.input_layernorm", width)
        make.norm(f"{layer}.post_attention_layernorm", width)
        make.attention(f"{layer}.self_attn", c)
        for part in ("q_proj", "k_proj", "v_proj"):
            rows = len(make.made[f"{layer}.self_attn.{part}.weight"])
            make.made[f"{layer}.self_attn.{part}.bias"] = make.random(rows, scale=0.5)
        make.mlp(f"{layer}.mlp", width, c["intermediate_size"])


def _llada(make: _Maker, c: Mapping[str, Any]) -> None:
    width, vocab, inner = c["d_model"], c["vocab_size"], c["mlp_hidden_size"]
    d = width // c["n_heads"]
    make.table("model.transformer.wte", vocab, width)
    make.norm("model.transformer.ln_f", width)
    make.matrix("model.transformer.ff_out", vocab, width, 1.0)
    for i in range(c["n_layers"]):
        layer = f"model.transformer.blocks.{i}"
        make.norm(f"{layer}.attn_norm", width)
        make.norm(f"{layer}.ff_norm", width)
        make.matrix(f"{layer}.q_proj", c["n_heads"] * d, width)
        make.matrix(f"{layer}.k_proj", c["n_kv_heads"] * d, width)
        make.matrix(f"{layer}.v_proj", c["n_kv_heads"] * d, width)
        make.matrix(f"{layer}.attn_out", width, c["n_heads"] * d)
        make.matrix(f"{layer}.ff_proj", inner, width)
        make.matrix(f"{layer}.up_proj", inner, width)
        make.matrix(f"{layer}.ff_out", width, inner)


def _llada_moe(make: _Maker, c: Mapping[str, Any]) -> None:
    width, vocab = c["hidden_size"], c["vocab_size"]
    make.table("model.embed_tokens", vocab, width)
    make.norm("model.norm", width)
    make.matrix("lm_head", vocab, width, 1.0)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        make.norm(f"{layer}.input_layernorm", width)
        make.norm(f"{layer}.post_attention_layernorm", width)
        make.attention(f"{layer}.self_attn", c)
        for part in ("q_norm", "k_norm"):
            make.norm(f"{layer}.self_attn.{part}", width // c["num_attention_heads"])
        make.matrix(f"{layer}.mlp.gate", c["num_experts"], width)
        for expert in range(c["num_experts"]):
            make.mlp(f"{layer}.mlp.experts.{expert}", width, c["expert_intermediate_size"])


def _llada2(make: _Maker, c: Mapping[str, Any]) -> None:
    width, vocab, d = c["hidden_size"], c["vocab_size"], c["head_dim"]
    heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
    make.table("model.word_embeddings", vocab, width)
    make.norm("model.norm", width)
    make.matrix("lm_head", vocab, width, 1.0)
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        make.norm(f"{layer}.input_layernorm", width)
        make.norm(f"{layer}.post_attention_layernorm", width)
        make.matrix(f"{layer}.attention.query_key_value", (heads + 2 * kv_heads) * d, width)
        make.matrix(f"{layer}.attention.dense", width, heads * d)
        make.norm(f"{layer}.attention.query_layernorm", d)
        make.norm(f"{layer}.attention.key_layernorm", d)
        if i < c["first_k_dense_replace"]:
            make.mlp(f"{layer}.mlp", width, c["intermediate_size"])
            continue
        make.matrix(f"{layer}.mlp.gate", c["num_experts"], width)
        make.made[f"{layer}.mlp.gate.expert_bias"] = make.random(c["num_experts"], scale=0.1)
        shared = c["num_shared_experts"] * c["moe_intermediate_size"]
        make.mlp(f"{layer}.mlp.shared_experts", width, shared)
        for expert in range(c["num_experts"]):
            make.mlp(f"{layer}.mlp.experts.{expert}", width, c["moe_intermediate_size"])

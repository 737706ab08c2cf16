"""Small random checkpoints with the tensor names and configs of real families."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from plait.core import registry
from tests import synthetic_diffusion

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 96,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "eos_token_id": 1,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": LLAMA,
    "llama-tied-mha": {**LLAMA, "num_key_value_heads": 4, "tie_word_embeddings": True},
    "llama3-rope": {
        **LLAMA,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "mistral": {**LLAMA, "model_type": "mistral", "sliding_window": 40},
    "qwen2": {**LLAMA, "model_type": "qwen2", "use_sliding_window": False},
    "qwen3": {**LLAMA, "model_type": "qwen3", "head_dim": 32},
    "gemma3": {
        **LLAMA,
        "model_type": "gemma3_text",
        "num_hidden_layers": 3,
        "sliding_window": 24,
        "sliding_window_pattern": 3,
        "rope_local_base_freq": 500.0,
        "query_pre_attn_scalar": 20,
        "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": True,
    },
    "mindllm-deepnorm": {
        **LLAMA,
        "model_type": "mindllm",
        "norm_type": "deepnorm",
        "hidden_act": "geglu",
    },
    "mindllm-rmsnorm": {
        **LLAMA,
        "model_type": "mindllm",
        "norm_type": "rmsnorm",
        "hidden_act": "geglu",
    },
    "sdar": {**LLAMA, "model_type": "sdar", "block_size": 4, "mask_token_id": 95},
    "trimode": {**LLAMA, "model_type": "trimode", "block_size": 4, "mask_token_id": 95},
    **synthetic_diffusion.CONFIGS,
}


def deepnorm_beta(layers: int) -> float:
    """Gain that DeepNorm initialises the value, output and feed-forward weights of a decoder with:
    (8 N)^(-1/4) (arXiv:2203.00555)."""
    return float((8 * layers) ** -0.25)


class MemoryCheckpoint:
    """Tensors in memory behind the face of weights.base.Checkpoint.

    matrices are stored in `matrix_format`; vectors, and what chooses experts, in float32 as llama.cpp does.
    """

    kind = "safetensors"

    def __init__(
        self, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], matrix_format: str
    ) -> None:
        self.config = config
        self._formats = {
            name: matrix_format
            if tensor.ndim == 2 and not name.endswith("mlp.gate.weight")
            else "f32"
            for name, tensor in tensors.items()
        }
        self._shapes = {name: tensor.shape for name, tensor in tensors.items()}
        self._raw = {
            name: self._format(name).quantize(tensor.reshape(tensor.shape[0], -1)).ravel()
            if tensor.ndim == 2
            else np.ascontiguousarray(tensor, np.float32).view(np.uint8)
            for name, tensor in tensors.items()
        }

    def _format(self, name: str) -> Any:
        return registry.load("quant", self._formats[name]).Format()

    def names(self) -> list[str]:
        return list(self._raw)

    def info(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            format_name=self._formats[name],
            shape=self._shapes[name],
            nbytes=self._raw[name].size,
        )

    def raw(self, name: str) -> np.ndarray:
        return self._raw[name]

    def release(self, name: str, begin: int = 0, end: int | None = None) -> None:
        """Nothing is mapped."""

    def dequantized(self, name: str) -> np.ndarray:
        return self._format(name).dequantize(self._raw[name], self._shapes[name])


def checkpoint(
    config: Mapping[str, Any], *, seed: int = 0, matrix_format: str = "f32"
) -> MemoryCheckpoint:
    """A random checkpoint of the family that config["model_type"] names."""
    generator = np.random.default_rng(seed)

    def random(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (generator.standard_normal(shape) * scale).astype(np.float32)

    if synthetic_diffusion.family(config):
        return MemoryCheckpoint(config, synthetic_diffusion.tensors(config, random), matrix_format)
    width, inner, vocab = (config[k] for k in ("hidden_size", "intermediate_size", "vocab_size"))
    head_dim = config["head_dim"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    tensors = {
        "model.embed_tokens.weight": random(vocab, width),
        "model.norm.weight": 1 + random(width, scale=0.1),
    }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = random(vocab, width, scale=width**-0.5)
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        shapes = {
            "self_attn.q_proj": (q, width),
            "self_attn.k_proj": (kv, width),
            "self_attn.v_proj": (kv, width),
            "self_attn.o_proj": (width, q),
            "mlp.gate_proj": (inner, width),
            "mlp.up_proj": (inner, width),
            "mlp.down_proj": (width, inner),
        }
        deep = config.get("norm_type") == "deepnorm"
        for name, shape in shapes.items():
            gained = deep and name not in ("self_attn.q_proj", "self_attn.k_proj")
            gain = deepnorm_beta(config["num_hidden_layers"]) if gained else 1.0
            tensors[f"{layer}{name}.weight"] = random(*shape, scale=2 * gain * shape[1] ** -0.5)
        norms = ["input_layernorm", "post_attention_layernorm"]
        family = config["model_type"]
        if family == "gemma3_text":
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for name in norms:
            tensors[f"{layer}{name}.weight"] = 1 + random(width, scale=0.1)
        if deep:
            for name in norms:
                tensors[f"{layer}{name}.bias"] = random(width, scale=0.1)
        if family in ("qwen3", "sdar", "gemma3_text"):
            for name in ("q_norm", "k_norm"):
                tensors[f"{layer}self_attn.{name}.weight"] = 1 + random(head_dim, scale=0.1)
        if family == "qwen2":
            for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
                tensors[f"{layer}self_attn.{name}.bias"] = random(rows, scale=0.5)
    if config.get("norm_type") == "deepnorm":
        del tensors["model.norm.weight"]
    return MemoryCheckpoint(config, tensors, matrix_format)

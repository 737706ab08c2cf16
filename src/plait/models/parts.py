"""Pieces that several models share: tensor names, rotary frequencies, the attention and MLP blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from plait.core.errors import FormatError
from plait.core.window import Floats
from plait.models.base import AttentionSpec, CacheShape, Graph, Rope, Value
from plait.models.config import ModelConfig
from plait.models.experts import Experts, Routing

_HF_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
}
_HF_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}


@dataclass(frozen=True, slots=True)
class Names:
    """Tensor names by GGUF's short words, for either kind of checkpoint.

    renamed: family-specific words -> Hugging Face names, of the top or inside a layer. layers: what the
    names inside a layer begin with there.
    """

    source: str
    renamed: tuple[tuple[str, str], ...] = ()
    layers: str = "model.layers"

    def top(self, word: str, part: str = "weight") -> str:
        return f"{word if self.source == 'gguf' else self._renamed(_HF_TOP, word)}.{part}"

    def layer(self, index: int, word: str, part: str = "weight") -> str:
        if self.source == "gguf":
            return f"blk.{index}.{word}.{part}"
        return f"{self.layers}.{index}.{self._renamed(_HF_NAMES, word)}.{part}"

    def experts(self, index: int, word: str, count: int) -> tuple[str, ...]:
        """One matrix per expert; in GGUF one tensor with all of them."""
        name = self.layer(index, word)
        return (name,) if self.source == "gguf" else tuple(map(name.format, range(count)))

    def _renamed(self, usual: dict[str, str], word: str) -> str:
        return (usual | dict(self.renamed))[word]


def head_weight(graph: Graph, names: Names) -> str:
    """The output projection, or the embedding table when the head is tied to it."""
    head = names.top("output")
    return head if head in graph.shapes else names.top("token_embd")


def rope_of(
    config: ModelConfig,
    *,
    theta: float | None = None,
    scaled: bool = True,
    interleaved: bool = False,
    factors: str | None = None,
    share: float = 1.0,
) -> Rope:
    """Inverse frequencies in float32 as transformers computes them, with the model's scaling rule.

    share: of the columns of a head that are rotated, the first ones. factors: name of a tensor that divides them (GGUF's rope_freqs.weight for Llama 3.1), if there is one.
    """
    columns = int(config.head_dim * share)
    if columns < 2 or columns > config.head_dim or columns % 2:
        raise FormatError(
            f"{columns} of the {config.head_dim} columns of a head are rotated",
            "an even number of them",
        )
    half = np.arange(0, columns, 2, dtype=np.int64).astype(np.float32) / columns
    inverse = (1.0 / (np.float32(theta or config.rope_theta) ** half)).astype(np.float32)
    scaling = config.rope_scaling
    if scaled and scaling.kind == "linear":
        inverse = inverse / np.float32(scaling.factor)
    if scaled and scaling.kind == "llama3":
        inverse = _llama3(inverse, config)
    return Rope(tuple(inverse.tolist()), interleaved, factors)


def _llama3(inverse: Floats, config: ModelConfig) -> Floats:
    """Llama 3.1: long waves are stretched by `factor`, short ones kept, those between blended."""
    rule = config.rope_scaling
    wavelength = 2 * math.pi / inverse
    low, high = rule.low_frequency_factor, rule.high_frequency_factor
    if high <= low:
        raise FormatError(
            "rope scaling llama3: high_freq_factor <= low_freq_factor", "e.g. 4 and 1"
        )
    smooth = (rule.original_context / wavelength - low) / (high - low)
    blend = np.clip(smooth, 0.0, 1.0)
    mixed = (1 - blend) * inverse / rule.factor + blend * inverse
    return np.asarray(mixed, np.float32)


def cache_shape(config: ModelConfig) -> CacheShape:
    return CacheShape(config.layers, config.kv_heads, config.head_dim)


def project(graph: Graph, names: Names, index: int, x: Value, *words: str) -> tuple[Value, ...]:
    """Linear maps of one layer on one input; a bias is used where the checkpoint has one."""
    biases = [names.layer(index, word, "bias") for word in words]
    present = tuple(bias if bias in graph.shapes else None for bias in biases)
    return graph.linear(x, *(names.layer(index, word) for word in words), biases=present)


def attention_block(
    graph: Graph,
    config: ModelConfig,
    names: Names,
    index: int,
    x: Value,
    rope: Rope,
    *,
    norm_offset: float = 0.0,
    scale: float | None = None,
    window: int = 0,
) -> Value:
    """Projections, a norm over each head of q and k where the checkpoint has one, rope, attention, output."""
    q, k, v = _query_key_value(graph, config, names, index, x)
    q_norm, k_norm = names.layer(index, "attn_q_norm"), names.layer(index, "attn_k_norm")
    if q_norm in graph.shapes:
        eps = config.norm_eps
        q = graph.rmsnorm(q, q_norm, eps=eps, offset=norm_offset, groups=config.heads)
        k = graph.rmsnorm(k, k_norm, eps=eps, offset=norm_offset, groups=config.kv_heads)
    q = graph.rope(q, rope, heads=config.heads)
    k = graph.rope(k, rope, heads=config.kv_heads)
    spec = AttentionSpec(
        layer=index,
        heads=config.heads,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        scale=config.head_dim**-0.5 if scale is None else scale,
        window=window,
    )
    return project(graph, names, index, graph.attention(q, k, v, spec), "attn_output")[0]


def _query_key_value(
    graph: Graph, config: ModelConfig, names: Names, index: int, x: Value
) -> tuple[Value, ...]:
    """Three matrices, or one with the rows of all of them."""
    if names.layer(index, "attn_qkv") not in graph.shapes:
        return project(graph, names, index, x, "attn_q", "attn_k", "attn_v")
    sizes = [count * config.head_dim for count in (config.heads, config.kv_heads, config.kv_heads)]
    joined = project(graph, names, index, x, "attn_qkv")[0]
    if joined.width != sum(sizes):
        raise FormatError(
            f"tensor {names.layer(index, 'attn_qkv')} has {joined.width} rows",
            f"{sum(sizes)} belong here",
        )
    ends = np.cumsum(sizes).tolist()
    return tuple(joined.columns(end - size, size) for end, size in zip(ends, sizes, strict=True))


def feed_forward(
    graph: Graph, names: Names, index: int, x: Value, activation: str, *, part: str = ""
) -> Value:
    """down(activation(gate(x)) * up(x)). part: "_shexp" for the expert that every row goes through."""
    gate, up = project(graph, names, index, x, f"ffn_gate{part}", f"ffn_up{part}")
    return project(graph, names, index, graph.gated(gate, up, activation), f"ffn_down{part}")[0]


def sparse_feed_forward(
    graph: Graph, names: Names, index: int, x: Value, routing: Routing, count: int, activation: str
) -> Value:
    """A router, and the weighted sum of the experts that it chooses for a row."""
    scores = project(graph, names, index, x, "ffn_gate_inp")[0]
    words = ("ffn_gate_exps", "ffn_up_exps", "ffn_down_exps")
    gate, up, down = (names.experts(index, word, count) for word in words)
    experts = Experts(gate, up, down, count, names.source == "gguf", activation)
    return graph.moe(x, scores, experts, routing)

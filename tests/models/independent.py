"""A second, straight-line implementation of the decoders, in float64, sharing no code with the package.

Written from the papers and from the definitions of Hugging Face's config.json: whole sequence at once, no
cache, no graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Array = np.ndarray
Config = Mapping[str, Any]


def logits(config: Config, get: Callable[[str], Array], ids: Array) -> Array:
    """[n, vocab] for token ids [n]; get(name) returns a tensor."""
    family = config["model_type"]
    deep = config.get("norm_type") == "deepnorm"
    gemma = family == "gemma3_text"
    plus = 1.0 if gemma else 0.0
    x = get("model.embed_tokens.weight")[ids].astype(np.float64)
    if gemma:
        x = x * math.sqrt(config["hidden_size"])

    def rms(h: Array, name: str) -> Array:
        return (
            h
            / np.sqrt(np.mean(h * h, -1, keepdims=True) + config["rms_norm_eps"])
            * (get(name) + plus)
        )

    def ln(h: Array, name: str) -> Array:
        h = h - h.mean(-1, keepdims=True)
        h = h / np.sqrt((h * h).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return h * get(name + ".weight") + get(name + ".bias")

    alpha = (2 * config["num_hidden_layers"]) ** 0.25
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        if deep:
            x = ln(alpha * x + attend(config, get, p, i, x, rms), p + "input_layernorm")
            x = ln(alpha * x + mlp(config, get, p, x), p + "post_attention_layernorm")
            continue
        h = attend(config, get, p, i, rms(x, p + "input_layernorm.weight"), rms)
        if gemma:
            x = x + rms(h, p + "post_attention_layernorm.weight")
            h = mlp(config, get, p, rms(x, p + "pre_feedforward_layernorm.weight"))
            x = x + rms(h, p + "post_feedforward_layernorm.weight")
        else:
            x = x + h
            x = x + mlp(config, get, p, rms(x, p + "post_attention_layernorm.weight"))
    if not deep:
        x = rms(x, "model.norm.weight")
    tied = config["tie_word_embeddings"]
    return x @ get("model.embed_tokens.weight" if tied else "lm_head.weight").T


def attend(
    config: Config, get: Callable[[str], Array], p: str, layer: int, x: Array, rms: Any
) -> Array:
    family, d = config["model_type"], config["head_dim"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]

    def project(name: str, count: int) -> Array:
        y = x @ get(f"{p}self_attn.{name}_proj.weight").T
        if family == "qwen2":
            y = y + get(f"{p}self_attn.{name}_proj.bias")
        y = y.reshape(len(x), count, d)
        normed = name != "v" and family in ("qwen3", "sdar", "gemma3_text")
        return rms(y, f"{p}self_attn.{name}_norm.weight") if normed else y

    local = family == "gemma3_text" and (layer + 1) % config["sliding_window_pattern"] != 0
    base = config["rope_local_base_freq"] if local else config["rope_theta"]
    q, k = (
        rotate(project("q", heads), config, base, scaled=not local),
        rotate(project("k", kv_heads), config, base, scaled=not local),
    )
    v = project("v", kv_heads)
    n = len(x)
    behind = np.arange(n)[:, None] - np.arange(n)[None, :]
    seen = behind >= 0
    if family == "sdar":
        b = config["block_size"]
        seen = np.arange(n)[:, None] // b >= np.arange(n)[None, :] // b
    if local or family == "mistral":
        seen &= behind < config["sliding_window"]
    scale = config.get("query_pre_attn_scalar", d) ** -0.5
    out = np.zeros((n, heads, d))
    for h in range(heads):
        g = h * kv_heads // heads
        s = np.where(seen, q[:, h] @ k[:, g].T * scale, -np.inf)
        w = np.exp(s - s.max(-1, keepdims=True))
        out[:, h] = w / w.sum(-1, keepdims=True) @ v[:, g]
    return out.reshape(n, -1) @ get(f"{p}self_attn.o_proj.weight").T


def rotate(x: Array, config: Config, base: float, *, scaled: bool) -> Array:
    d = x.shape[-1]
    out = np.empty_like(x)
    rule = config.get("rope_scaling") if scaled else None
    for pair in range(d // 2):
        frequency = base ** (-2.0 * pair / d)
        if rule:
            turns = rule["original_max_position_embeddings"] * frequency / (2 * math.pi)
            low, high = rule["low_freq_factor"], rule["high_freq_factor"]
            if turns < low:
                frequency /= rule["factor"]
            elif turns <= high:
                mix = (turns - low) / (high - low)
                frequency = (1 - mix) * frequency / rule["factor"] + mix * frequency
        angle = np.arange(len(x)) * frequency
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        a, b = x[..., pair], x[..., pair + d // 2]
        out[..., pair], out[..., pair + d // 2] = a * c - b * s, a * s + b * c
    return out


def mlp(config: Config, get: Callable[[str], Array], p: str, x: Array) -> Array:
    gate, up = (x @ get(f"{p}mlp.{name}_proj.weight").T for name in ("gate", "up"))
    act = config.get("hidden_activation") or config.get("hidden_act") or "silu"
    if act == "silu":
        gate = gate / (1 + np.exp(-gate))
    elif act == "geglu":
        gate = gate * 0.5 * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
    else:
        inner = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)
        gate = 0.5 * gate * (1 + np.tanh(inner))
    return (gate * up) @ get(f"{p}mlp.down_proj.weight").T

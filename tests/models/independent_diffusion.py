"""The diffusion families a second time, straight, in float64, sharing no code with the package.

Written from the papers and from what the published checkpoints contain: whole canvas at once, no cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.models.independent import rotate

Array = np.ndarray
Config = Mapping[str, Any]
Get = Callable[[str], Array]


@dataclass
class Shape:
    """What differs between the families; names are given for layer i."""

    heads: int
    kv_heads: int
    head_dim: int
    layers: int
    top: tuple[str, str, str]  # embedding, last norm, head
    norms: tuple[str, str]
    out: str
    block: int  # positions that see each other; 0 for all
    rotated: float = 1.0
    head_norms: tuple[str, str] | None = None


def shape_of(c: Config) -> Shape:
    kind = c["architectures"][0]
    usual = ("model.layers.{}.input_layernorm", "model.layers.{}.post_attention_layernorm")
    if kind == "LLaDAModelLM":
        return Shape(
            c["n_heads"],
            c["n_kv_heads"],
            c["d_model"] // c["n_heads"],
            c["n_layers"],
            tuple(f"model.transformer.{part}" for part in ("wte", "ln_f", "ff_out")),
            ("model.transformer.blocks.{}.attn_norm", "model.transformer.blocks.{}.ff_norm"),
            "model.transformer.blocks.{}.attn_out",
            0,
        )
    heads = (c["num_attention_heads"], c["num_key_value_heads"])
    if kind == "LLaDA2MoeModelLM":
        return Shape(
            *heads,
            c["head_dim"],
            c["num_hidden_layers"],
            ("model.word_embeddings", "model.norm", "lm_head"),
            usual,
            "model.layers.{}.attention.dense",
            c["block_size"],
            c["partial_rotary_factor"],
            (
                "model.layers.{}.attention.query_layernorm",
                "model.layers.{}.attention.key_layernorm",
            ),
        )
    shape = Shape(
        *heads,
        c["hidden_size"] // heads[0],
        c["num_hidden_layers"],
        ("model.embed_tokens", "model.norm", "lm_head"),
        usual,
        "model.layers.{}.self_attn.o_proj",
        c.get("bd_size", 0),
    )
    if c["tie_word_embeddings"]:
        shape.top = (*shape.top[:2], shape.top[0])
    if kind == "LLaDAMoEModelLM":
        shape.head_norms = tuple(f"model.layers.{{}}.self_attn.{part}_norm" for part in "qk")
    return shape


def logits(config: Config, get: Get, ids: Array) -> Array:
    """[n, vocab] for token ids [n]; get(name) returns a tensor."""
    shape = shape_of(config)
    embedding, norm, head = (f"{name}.weight" for name in shape.top)

    def rms(h: Array, name: str) -> Array:
        scale = np.sqrt(np.mean(h * h, -1, keepdims=True) + config["rms_norm_eps"])
        return h / scale * get(name)

    x = get(embedding)[ids].astype(np.float64)
    for i in range(shape.layers):
        first, second = (f"{name.format(i)}.weight" for name in shape.norms)
        x = x + attend(config, shape, get, i, rms(x, first), rms)
        x = x + feed_forward(config, get, i, rms(x, second))
    return rms(x, norm) @ get(head).T


def attend(c: Config, shape: Shape, get: Get, i: int, x: Array, rms: Any) -> Array:
    n, d = len(x), shape.head_dim
    q, k, v = (part.reshape(n, -1, d) for part in projections(c, shape, get, i, x))
    if shape.head_norms:
        q, k = (
            rms(y, f"{name.format(i)}.weight")
            for y, name in zip((q, k), shape.head_norms, strict=True)
        )
    turned = int(d * shape.rotated)
    for y in (q, k):
        y[..., :turned] = rotate(y[..., :turned], c, c["rope_theta"], scaled=False)
    seen = np.ones((n, n), bool)
    if shape.block:
        own = np.arange(n) // shape.block
        seen = own[:, None] >= own[None, :]
    out = np.zeros((n, shape.heads, d))
    for h in range(shape.heads):
        g = h // (shape.heads // shape.kv_heads)
        s = np.where(seen, q[:, h] @ k[:, g].T / np.sqrt(d), -np.inf)
        w = np.exp(s - s.max(-1, keepdims=True))
        out[:, h] = w / w.sum(-1, keepdims=True) @ v[:, g]
    return out.reshape(n, -1) @ get(f"{shape.out.format(i)}.weight").T


def projections(c: Config, shape: Shape, get: Get, i: int, x: Array) -> list[Array]:
    kind = c["architectures"][0]
    if kind == "LLaDA2MoeModelLM":
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        y = x @ get(f"model.layers.{i}.attention.query_key_value.weight").T
        return [y[:, :q], y[:, q : q + kv], y[:, q + kv :]]
    layer = "model.transformer.blocks" if kind == "LLaDAModelLM" else "model.layers"
    part = "" if kind == "LLaDAModelLM" else "self_attn."
    names = [f"{layer}.{i}.{part}{letter}_proj" for letter in "qkv"]
    has_bias = kind in ("DreamModel", "Fast_dLLM_QwenForCausalLM")
    return [x @ get(f"{n}.weight").T + (get(f"{n}.bias") if has_bias else 0) for n in names]


def feed_forward(c: Config, get: Get, i: int, x: Array) -> Array:
    kind, layer = c["architectures"][0], f"model.layers.{i}.mlp"
    if kind == "LLaDAModelLM":
        block = f"model.transformer.blocks.{i}"
        return swiglu(get, f"{block}.ff_proj", f"{block}.up_proj", f"{block}.ff_out", x)
    if kind == "LLaDAMoEModelLM":
        return sparse(get, layer, x, softmax_routes(c, get, layer, x))
    if kind == "LLaDA2MoeModelLM" and i >= c["first_k_dense_replace"]:
        routed = sparse(get, layer, x, grouped_routes(c, get, layer, x))
        return routed + mlp(get, f"{layer}.shared_experts", x)
    return mlp(get, layer, x)


def mlp(get: Get, name: str, x: Array) -> Array:
    return swiglu(get, f"{name}.gate_proj", f"{name}.up_proj", f"{name}.down_proj", x)


def swiglu(get: Get, gate: str, up: str, down: str, x: Array) -> Array:
    g = x @ get(f"{gate}.weight").T
    return (g / (1 + np.exp(-g)) * (x @ get(f"{up}.weight").T)) @ get(f"{down}.weight").T


Routes = list[dict[int, float]]
"""Of each row: expert -> weight."""


def sparse(get: Get, layer: str, x: Array, routes: Routes) -> Array:
    out = np.zeros_like(x)
    for row, route in enumerate(routes):
        for expert, weight in route.items():
            out[row] += weight * mlp(get, f"{layer}.experts.{expert}", x[row : row + 1])[0]
    return out


def softmax_routes(c: Config, get: Get, layer: str, x: Array) -> Routes:
    routes = []
    for row in x @ get(f"{layer}.gate.weight").T.astype(np.float64):
        p = np.exp(row - row.max())
        p = p / p.sum()
        best = sorted(range(len(p)), key=lambda e: -p[e])[: c["num_experts_per_tok"]]
        total = sum(p[e] for e in best) if c["norm_topk_prob"] else 1.0
        routes.append({e: p[e] / total for e in best})
    return routes


def grouped_routes(c: Config, get: Get, layer: str, x: Array) -> Routes:
    """Sigmoid scores; a bias steers the choice only; best groups by the sum of their two best."""
    bias, size = get(f"{layer}.gate.expert_bias"), c["num_experts"] // c["n_group"]
    routes = []
    for row in x @ get(f"{layer}.gate.weight").T.astype(np.float64):
        p = 1 / (1 + np.exp(-row))
        steered = p + bias
        worth = [sum(sorted(steered[g * size : (g + 1) * size])[-2:]) for g in range(c["n_group"])]
        groups = sorted(range(c["n_group"]), key=lambda g: -worth[g])[: c["topk_group"]]
        allowed = [e for e in range(len(p)) if e // size in groups]
        best = sorted(allowed, key=lambda e: -steered[e])[: c["num_experts_per_tok"]]
        total = sum(p[e] for e in best) if c["norm_topk_prob"] else 1.0
        routes.append({e: c["routed_scaling_factor"] * p[e] / total for e in best})
    return routes

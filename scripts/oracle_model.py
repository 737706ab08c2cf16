"""A GGUF file as a transformers model in float32: the part of the oracle that knows weights.

Nothing of Plait is imported, so that an error of ours cannot be in both places. Blocks are
dequantised by the `gguf` package, the forward pass is that of `transformers`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

# Gemma 3 files carry no key for these two: the published models use one global layer in six, and
# rotate the sliding layers with this base (Gemma 3 technical report, section 2).
GEMMA3_GLOBAL_EVERY = 6
GEMMA3_LOCAL_ROPE_BASE = 10_000.0

TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Gemma 3 has norms on both sides, so the word "post_attention" means another tensor there.
GEMMA3_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def build(path: Path) -> PreTrainedModel:
    """The model of a GGUF file (architecture llama, qwen2 or gemma3), float32, in eval mode.

    Raises ValueError for another architecture, for rope scaling, and when the tensors of the file
    and the parameters of the model are not exactly the same set.
    """
    reader = gguf.GGUFReader(path)
    metadata = {
        name: field.contents() for name, field in reader.fields.items() if len(field.data) < 64
    }
    shapes = {
        tensor.name: tuple(int(size) for size in reversed(tensor.shape))
        for tensor in reader.tensors
    }
    model = make_model(metadata, shapes)
    fill(model, reader, str(metadata["general.architecture"]), metadata)
    return model.eval()


def make_model(metadata: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> PreTrainedModel:
    """A model of the right shape with weights yet to be filled."""
    arch = metadata["general.architecture"]
    if any(".rope.scaling." in name for name in metadata) or "rope_freqs.weight" in shapes:
        raise ValueError("this script does not translate rope scaling")
    heads = int(metadata[f"{arch}.attention.head_count"])
    width = int(metadata[f"{arch}.embedding_length"])
    theta = float(metadata[f"{arch}.rope.freq_base"])
    common: dict[str, Any] = {
        "vocab_size": shapes["token_embd.weight"][0],
        "hidden_size": width,
        "intermediate_size": int(metadata[f"{arch}.feed_forward_length"]),
        "num_hidden_layers": int(metadata[f"{arch}.block_count"]),
        "num_attention_heads": heads,
        "num_key_value_heads": int(metadata[f"{arch}.attention.head_count_kv"]),
        "head_dim": int(metadata.get(f"{arch}.attention.key_length", width // heads)),
        "rms_norm_eps": float(metadata[f"{arch}.attention.layer_norm_rms_epsilon"]),
        "max_position_embeddings": int(metadata[f"{arch}.context_length"]),
        "tie_word_embeddings": "output.weight" not in shapes,
        "attn_implementation": "eager",
        "dtype": torch.float32,
    }
    plain_rope = {"rope_type": "default", "rope_theta": theta}
    match arch:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**common, rope_parameters=plain_rope))
        case "qwen2":
            return Qwen2ForCausalLM(Qwen2Config(**common, rope_parameters=plain_rope))
        case "gemma3":
            return Gemma3ForCausalLM(gemma3_config(common, metadata, theta))
    raise ValueError(f"no oracle for the architecture {arch!r}")


def gemma3_config(
    common: dict[str, Any], metadata: dict[str, Any], theta: float
) -> Gemma3TextConfig:
    """Gemma 3: sliding layers with their own rope base, every sixth layer global."""
    local = {"rope_type": "default", "rope_theta": GEMMA3_LOCAL_ROPE_BASE}
    layers = range(1, common["num_hidden_layers"] + 1)
    return Gemma3TextConfig(
        **common,
        # Queries are scaled by 1/sqrt(head_dim) in every published size but the 27B one.
        query_pre_attn_scalar=common["head_dim"],
        hidden_activation="gelu_pytorch_tanh",
        sliding_window=int(metadata["gemma3.attention.sliding_window"]),
        layer_types=[
            "sliding_attention" if layer % GEMMA3_GLOBAL_EVERY else "full_attention"
            for layer in layers
        ],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": theta},
            "sliding_attention": local,
        },
    )


@torch.no_grad()
def fill(
    model: PreTrainedModel, reader: gguf.GGUFReader, arch: str, metadata: dict[str, Any]
) -> None:
    """Copies every tensor into its parameter, one at a time to keep memory low."""
    parameters = dict(model.named_parameters())
    missing = set(parameters)
    for name, values in converted(reader, arch, metadata):
        if name not in missing:
            raise ValueError(f"the file has a tensor the model lacks, or has it twice: {name}")
        if tuple(parameters[name].shape) != values.shape:
            raise ValueError(f"{name}: {values.shape} instead of {tuple(parameters[name].shape)}")
        parameters[name].copy_(torch.from_numpy(values))
        missing.remove(name)
    if missing:
        raise ValueError(f"the file lacks {sorted(missing)}")


def converted(
    reader: gguf.GGUFReader, arch: str, metadata: dict[str, Any]
) -> Iterator[tuple[str, np.ndarray]]:
    """(name in transformers, float32 values) of every tensor."""
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if arch == "llama" and ".attn_q." in tensor.name:
            values = half_split(values, int(metadata["llama.attention.head_count"]))
        if arch == "llama" and ".attn_k." in tensor.name:
            values = half_split(values, int(metadata["llama.attention.head_count_kv"]))
        if arch == "gemma3" and tensor.name.endswith("norm.weight"):
            values = values - np.float32(1)  # transformers multiplies by 1 + w, GGUF stores the sum
        yield transformers_name(tensor.name, arch), values


def half_split(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows from GGUF's order of rotary pairs (neighbours) to that of transformers (two halves)."""
    pairs = weight.reshape(num_heads, weight.shape[0] // num_heads // 2, 2, weight.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def transformers_name(name: str, arch: str) -> str:
    """`blk.3.attn_q.bias` -> `model.layers.3.self_attn.q_proj.bias`."""
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    _, layer, part, kind = name.split(".")
    names = LAYER_NAMES | (GEMMA3_NORMS if arch == "gemma3" else {})
    return f"model.layers.{layer}.{names[part]}.{kind}"

"""From a run's folder to a checkpoint that Plait loads: weights (float16), configuration, tokenizer, curve, hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from train import picture
from train.body import Shape

Curve = list[dict[str, Any]]
FILES = ("model.safetensors", "config.json", "tokenizer.json", "curve.json")
"""That SHA256SUMS speaks of."""
LLADA = {
    "token_embd": "model.transformer.wte",
    "output_norm": "model.transformer.ln_f",
    "output": "model.transformer.ff_out",
    "layers": "model.transformer.blocks",
    "attn_q": "q_proj",
    "attn_k": "k_proj",
    "attn_v": "v_proj",
    "attn_output": "attn_out",
    "ffn_norm": "ff_norm",
    "ffn_gate": "ff_proj",
    "ffn_up": "up_proj",
    "ffn_down": "ff_out",
}
LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "layers": "model.layers",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def llada_config(shape: Shape, context: int) -> dict[str, Any]:
    return {
        "architectures": ["LLaDAModelLM"],
        "model_type": "llada",
        "activation_type": "silu",
        "block_type": "llama",
        "layer_norm_type": "rms",
        "rope": True,
        "d_model": shape.width,
        "n_heads": shape.heads,
        "n_kv_heads": shape.heads,
        "n_layers": shape.layers,
        "mlp_hidden_size": shape.feed_forward,
        "max_sequence_length": context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "vocab_size": shape.vocabulary,
        "embedding_size": shape.vocabulary,
        "weight_tying": False,
    }


def llama_config(shape: Shape, context: int) -> dict[str, Any]:
    return {
        "hidden_act": "silu",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "max_position_embeddings": context,
        "rms_norm_eps": shape.epsilon,
        "rope_theta": shape.theta,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": False,
    }


def renamed(name: str, names: dict[str, str]) -> str:
    return ".".join(names.get(part, part) for part in name.split("."))


def tokenizer(alphabet: str) -> dict[str, Any]:
    """A letter is a token; the first ends a text, the last is the mask. Byte-level BPE without a merge."""
    spelled = ["Ċ" if letter == "\n" else letter for letter in alphabet]
    level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **level},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **level},
        "model": {
            "type": "BPE",
            "unk_token": None,
            "vocab": {letter: token for token, letter in enumerate(spelled)},
            "merges": [],
        },
    }


def joined(curves: Iterable[Curve]) -> Curve:
    """The curves of runs that went on with each other's weights, as one: steps and seconds counted on."""
    found: Curve = []
    for curve in curves:
        steps, seconds = (found[-1]["step"], found[-1]["seconds"]) if found else (0, 0)
        found += [
            {**e, "step": e["step"] + steps, "seconds": e["seconds"] + seconds} for e in curve
        ]
    return found


def export(
    run: Path,
    folder: Path,
    alphabet: str,
    config: dict[str, Any],
    names: dict[str, str],
    before: Sequence[Path] = (),
) -> None:
    """run: the folder of a finished run; its running mean of the weights is what is kept. before: the folders of
    the runs that led to it, the first one first."""
    state = torch.load(run / "state.pt", weights_only=True)
    earlier = [torch.load(other / "state.pt", weights_only=True)["curve"] for other in before]
    curve = joined([*earlier, state["curve"]])
    folder.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {
        renamed(name, names): value.to(torch.float16).contiguous()
        for name, value in state["mean"].items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    ends = {"eos_token_id": 0, "mask_token_id": len(alphabet) - 1, "torch_dtype": "float16"}
    _write(folder / "config.json", {**config, **ends})
    _write(folder / "tokenizer.json", tokenizer(alphabet))
    _write(folder / "curve.json", curve)
    picture.draw(curve, folder.name, folder / "curve.png")
    hashes = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in FILES
    ]
    (folder / "SHA256SUMS").write_text("\n".join(hashes) + "\n")


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

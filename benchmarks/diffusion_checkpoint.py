"""A random checkpoint of LLaDA's shape, large enough to come from memory: bfloat16 safetensors with the official
tensor names, and the same weights in 4 bits (Q4_0) as a GGUF file.

As deep and as wide as fits the time that a measurement may take; the vocabulary, the size of a head and how much
wider the feed-forward part is are those of LLaDA-8B (arXiv:2502.09992). The weights are rounded to bfloat16 before
anybody sees them, so that whoever computes in float32 has the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from plait.quant import base as quant
from plait.quant.base import Bytes, Floats

LAYERS, WIDTH, HEADS, INNER, VOCABULARY = 24, 1024, 8, 3072, 126464
CONFIG: dict[str, Any] = {
    "architectures": ["LLaDAModelLM"],
    "model_type": "llada",
    "activation_type": "silu",
    "alibi": False,
    "attention_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": WIDTH,
    "embedding_size": VOCABULARY,
    "eos_token_id": 126081,
    "include_bias": False,
    "include_qkv_bias": False,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 126336,
    "max_sequence_length": 4096,
    "mlp_hidden_size": INNER,
    "n_heads": HEADS,
    "n_kv_heads": HEADS,
    "n_layers": LAYERS,
    "rms_norm_eps": 1e-5,
    "rope": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "vocab_size": VOCABULARY,
    "weight_tying": False,
}
BLOCK = {
    "q_proj": (WIDTH, WIDTH),
    "k_proj": (WIDTH, WIDTH),
    "v_proj": (WIDTH, WIDTH),
    "attn_out": (WIDTH, WIDTH),
    "ff_proj": (INNER, WIDTH),
    "up_proj": (INNER, WIDTH),
    "ff_out": (WIDTH, INNER),
    "attn_norm": (WIDTH,),
    "ff_norm": (WIDTH,),
}


def shapes() -> dict[str, tuple[int, ...]]:
    top = "model.transformer."
    names: dict[str, tuple[int, ...]] = {f"{top}wte.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        names |= {f"{top}blocks.{layer}.{key}.weight": shape for key, shape in BLOCK.items()}
    return names | {f"{top}ln_f.weight": (WIDTH,), f"{top}ff_out.weight": (VOCABULARY, WIDTH)}


def parameters() -> dict[str, int]:
    """How many there are: of the layers, and of the two matrices of the vocabulary."""
    body = LAYERS * sum(int(np.prod(shape)) for shape in BLOCK.values()) + WIDTH
    return {"layers": body, "vocabulary": 2 * VOCABULARY * WIDTH}


def tensors(seed: int) -> Iterator[tuple[str, Floats]]:
    """Name and values, float32 that bfloat16 can hold. Matrices keep the size of what they multiply."""
    for number, (name, shape) in enumerate(shapes().items()):
        values = np.random.default_rng((seed, number)).standard_normal(shape, np.float32)
        if len(shape) == 1:
            values = np.float32(1) + np.float32(0.1) * values
        elif "wte" not in name:
            values *= np.float32(shape[1] ** -0.5)
        rounded = quant.by_name("bf16").quantize(values.reshape(shape[0], -1))
        yield (
            name,
            (rounded.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(shape),
        )


def checkpoint(home: Path, seed: int = 0) -> tuple[Path, Path]:
    """The folder with safetensors and the GGUF file; written if they are not there."""
    folder, file = home / f"llada-random-{seed}", home / f"llada-random-{seed}-q4_0.gguf"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    if not (folder / "model.safetensors").exists():
        _write_safetensors(folder / "model.safetensors", seed)
    if not file.exists():
        _write_gguf(file, seed)
    return folder, file


def _write_safetensors(file: Path, seed: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes().items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    partial = file.with_suffix(".partial")
    with partial.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for _, values in tensors(seed):
            out.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
    partial.replace(file)


def _write_gguf(file: Path, seed: int) -> None:
    """As llama.cpp converts LLaDA, every matrix in Q4_0."""
    partial = file.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llada")
    writer.add_vocab_size(VOCABULARY)
    writer.add_context_length(CONFIG["max_sequence_length"])
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(CONFIG["rms_norm_eps"])
    writer.add_rope_freq_base(CONFIG["rope_theta"])
    writer.add_causal_attention(False)
    writer.add_diffusion_shift_logits(False)
    writer.add_mask_token_id(CONFIG["mask_token_id"])
    writer.add_eos_token_id(CONFIG["eos_token_id"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLADA, LAYERS)
    for name, values in tensors(seed):
        target = names.get_name(name, try_suffixes=(".weight",))
        assert target is not None, name
        if values.ndim == 1:
            writer.add_tensor(target, values)
            continue
        packed = _quantized(_neighbours(values) if name.endswith(PAIRED) else values)
        writer.add_tensor(target, packed, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(file)


PAIRED = ("q_proj.weight", "k_proj.weight")


def _neighbours(rows: Floats) -> Floats:
    """Rotated pairs, half a head apart, become neighbours, as llama.cpp stores LLaDA's q and k."""
    pairs = rows.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _quantized(values: Floats) -> Bytes:
    """A part of the rows at a time: quantising takes several times their memory."""
    rows = quant.by_name("q4_0")
    parts = np.array_split(values, max(1, values.size >> 23))
    return np.concatenate([rows.quantize(part) for part in parts])

"""Small valid checkpoints, written by other people's code, for tests to open and to break."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import save_file

from plait.quant import base as quant
from plait.quant.base import Bytes, Floats
from plait.weights.base import Checkpoint

VOCABULARY = ["<s>", "hello", "Ġworld", "日本", "🙂", ""]
METADATA: dict[str, Any] = {
    "test.u8": 7, "test.i64": -(2**40), "test.f32": 0.5, "test.yes": True, "test.no": False,
    "test.text": "grüß\nGott", "tokens": VOCABULARY, "scores": [0.0, -1.5, 2.25],
    "types": [1, 2, 3], "flags": [True, False, True],
}  # fmt: skip
TENSORS = {"token_embd.weight": ("q8_0", (6, 64)), "blk.0.attn_q.weight": ("q4_k", (2, 256)),
           "blk.0.attn_norm.weight": ("f32", (64,)), "experts": ("f16", (2, 3, 4))}  # fmt: skip


def random_weights(shape: tuple[int, ...]) -> Floats:
    """Standard normal float32, the same ones every time."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def stored(format_name: str, shape: tuple[int, ...]) -> Bytes:
    """The bytes of `random_weights(shape)` in a format."""
    rows = random_weights(shape).reshape(-1, shape[-1])
    return quant.by_name(format_name).quantize(rows).reshape(*shape[:-1], -1)


def write_gguf(path: Path, alignment: int | None = None, **more: int) -> Path:
    """A GGUF v3 file with `METADATA` (and `more` u16 values) and `TENSORS`."""
    writer = gguf.GGUFWriter(path, "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_uint8("test.u8", METADATA["test.u8"])
    writer.add_int64("test.i64", METADATA["test.i64"])
    writer.add_float32("test.f32", METADATA["test.f32"])
    writer.add_bool("test.yes", True)
    writer.add_bool("test.no", False)
    writer.add_string("test.text", METADATA["test.text"])
    for name in ("tokens", "scores", "types", "flags"):
        writer.add_array(name, METADATA[name])
    for key, value in more.items():
        writer.add_uint16(key.replace("_", "."), value)
    for name, (format_name, shape) in TENSORS.items():
        kind = gguf.GGMLQuantizationType(quant.by_name(format_name).ggml_type)
        writer.add_tensor(name, stored(format_name, shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_safetensors(folder: Path, shards: int = 1) -> Path:
    """A folder with config.json and float tensors, in one file or in several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "hidden_size": 8}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {f"layer.{index}.weight": random_weights((index + 2, 8)) for index in range(4)}
    tensors["half"] = random_weights((3, 8)).astype(np.float16)
    names = [
        f"model-{part + 1:05}-of-{shards:05}.safetensors" if shards > 1 else "model.safetensors"
        for part in range(shards)
    ]
    weight_map = {name: names[at % shards] for at, name in enumerate(tensors)}
    for file in names:
        content = {name: tensors[name] for name in tensors if weight_map[name] == file}
        save_file(content, folder / file, metadata={"format": "pt"})
    if shards > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def read_everything(checkpoint: Checkpoint) -> None:
    """Touch every byte of every tensor, which would crash if one were out of bounds."""
    for name in checkpoint.names():
        info = checkpoint.info(name)
        raw = checkpoint.raw(name)
        assert raw.size == info.nbytes
        assert checkpoint.dequantized(name).shape == info.shape
        checkpoint.release(name)
        assert int(raw.sum()) >= 0

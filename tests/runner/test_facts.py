"""What `plait show` says of a model, against files written by the gguf and safetensors packages."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from plait.core.errors import FormatError
from plait.quant import base as quant
from plait.runner.facts import FormatShare, machine, model_facts
from tests.synthetic import CONFIGS, LLAMA, checkpoint

TEMPLATE = "{{ messages[0].content }}"


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """Two layers of 64, 4 heads and 2 for keys and values, one matrix in Q8_0 and one in F16."""
    path = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_feed_forward_length(96)
    writer.add_context_length(2048)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_token_list(["a", "b", "c"])
    writer.add_chat_template(TEMPLATE)
    weights = np.zeros((3, 64), np.float32)
    packed = quant.by_name("q8_0").quantize(weights)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output.weight", weights.astype(np.float16))
    writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_described(gguf_file: Path) -> None:
    facts = model_facts(gguf_file)
    assert (facts.name, facts.kind, facts.architecture) == ("Tiny", "gguf", "llama")
    assert (facts.layers, facts.width, facts.heads, facts.kv_heads, facts.head_dim) == (
        *(2, 64, 4, 2),
        16,
    )
    assert (facts.context_length, facts.vocab_size) == (2048, 3)
    assert facts.parameters == 192 + 192 + 64
    assert facts.file_bytes == gguf_file.stat().st_size
    assert list(facts.formats.items()) == [
        ("f16", FormatShare(1, 192, 384)),
        ("f32", FormatShare(1, 64, 256)),
        ("q8_0", FormatShare(1, 192, 204)),
    ]
    # 2 layers, K and V, 2 heads of 16 values.
    assert facts.kv_bytes_per_token == {
        "f16": 2 * 2 * 2 * 16 * 2,
        "f32": 2 * 2 * 2 * 16 * 4,
        "int8": 2 * 2 * 2 * (16 + 4),
    }
    assert facts.has_chat_template


@pytest.mark.parametrize(
    ("extra", "has_template"),
    [
        ({}, False),
        ({"tokenizer_config.json": "{}"}, False),
        ({"tokenizer_config.json": json.dumps({"chat_template": TEMPLATE})}, True),
        ({"chat_template.jinja": TEMPLATE}, True),
    ],
)
def test_a_folder_is_described(tmp_path: Path, extra: dict[str, str], has_template: bool) -> None:
    stored = checkpoint(LLAMA)
    tensors = {name: stored.dequantized(name) for name in stored.names()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    for name, text in extra.items():
        (tmp_path / name).write_text(text)
    facts = model_facts(tmp_path)
    assert (facts.name, facts.kind) == (tmp_path.name, "safetensors")
    assert facts.parameters == sum(tensor.size for tensor in tensors.values())
    assert facts.formats["f32"].bytes == 4 * facts.parameters
    assert facts.has_chat_template is has_template


@pytest.mark.parametrize(("name", "experts"), [("llada-moe", (16, 4)), ("llada2", (16, 4))])
def test_experts_are_counted(tmp_path: Path, name: str, experts: tuple[int, int]) -> None:
    stored = checkpoint(CONFIGS[name])
    tensors = {one: stored.dequantized(one) for one in stored.names()}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIGS[name]))
    facts = model_facts(tmp_path)
    assert (facts.experts, facts.experts_per_token) == experts


def test_half_a_file_is_refused(tmp_path: Path, gguf_file: Path) -> None:
    data = gguf_file.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError):
        model_facts(tmp_path / "cut.gguf")


def test_the_machine_is_this_one() -> None:
    here = machine()
    assert here.isas[0] == "generic"
    assert 1 <= here.threads <= len(os.sched_getaffinity(0))
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < here.available_bytes <= total

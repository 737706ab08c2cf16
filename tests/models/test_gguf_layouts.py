"""Diffusion checkpoints as llama.cpp converts them, written with its own names, against the independent ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from plait.core.errors import FormatError
from plait.core.traits import Predicts
from plait.core.window import FULL
from plait.kernels.plan import Pool as Threads
from plait.kvcache.pool import KVLayout, Pool
from plait.models.base import Model
from plait.models.choose import model_for, trace
from plait.quant import base as quant
from plait.runner.native import NativeRunner
from plait.runner.reference import ReferenceRunner
from plait.weights.base import Checkpoint
from plait.weights.open import open_checkpoint
from tests.models import independent_diffusion
from tests.runner.test_executors import Bench, close, feed
from tests.synthetic import CONFIGS, checkpoint

ARCHITECTURES = {
    "dream": gguf.MODEL_ARCH.DREAM,
    "llada": gguf.MODEL_ARCH.LLADA,
    "llada-moe": gguf.MODEL_ARCH.LLADA_MOE,
}


def first(config: dict[str, Any], *keys: str) -> Any:
    return next(config[key] for key in keys if config.get(key) is not None)


def neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rotated pairs half a head apart become neighbours, as llama.cpp stores LLaDA's q and k."""
    head_dim = len(rows) // heads
    order = np.arange(head_dim).reshape(2, -1).T.ravel()
    return np.concatenate([part[order] for part in np.split(rows, heads)])


def converted(family: str) -> dict[str, np.ndarray]:
    """The synthetic checkpoint's tensors by GGUF's names."""
    config, source = CONFIGS[family], checkpoint(CONFIGS[family])
    layers = first(config, "num_hidden_layers", "n_layers")
    names = gguf.get_tensor_name_map(ARCHITECTURES[family], layers)
    tensors: dict[str, np.ndarray] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for name in source.names():
        tensor = source.dequantized(name)
        if family == "llada" and name.endswith(("q_proj.weight", "k_proj.weight")):
            tensor = neighbours(tensor, config["n_heads"])
        before, inside, after = name.partition(".experts.")
        whole = f"{before}.experts.{after.split('.', 1)[1]}" if inside else name
        target = names.get_name(whole, try_suffixes=(".weight", ".bias"))
        assert target is not None, name
        if inside:
            stacks.setdefault(target, []).append(tensor)
        else:
            tensors[target] = tensor
    return tensors | {name: np.stack(parts) for name, parts in stacks.items()}


def write(
    path: Path, family: str, *, matrix_format: str = "f32", changed: dict[str, Any] | None = None
) -> Path:
    """changed: tensors to put in place of others, None for those to leave out; and keys of the metadata."""
    changed = changed or {}
    config = CONFIGS[family]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[ARCHITECTURES[family]])
    heads = first(config, "num_attention_heads", "n_heads")
    width = first(config, "hidden_size", "d_model")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_context_length(first(config, "max_position_embeddings", "max_sequence_length"))
    writer.add_embedding_length(width)
    writer.add_block_count(first(config, "num_hidden_layers", "n_layers"))
    inner = ("intermediate_size", "mlp_hidden_size", "expert_intermediate_size")
    writer.add_feed_forward_length(first(config, *inner))
    writer.add_rope_dimension_count(width // heads)
    writer.add_head_count(heads)
    writer.add_head_count_kv(first(config, "num_key_value_heads", "n_kv_heads"))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_causal_attention(False)
    writer.add_diffusion_shift_logits(changed.get("shift", family == "dream"))
    writer.add_mask_token_id(config["mask_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    if family == "llada-moe":
        writer.add_expert_count(changed.get("experts", config["num_experts"]))
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["expert_intermediate_size"])
    for name, tensor in (converted(family) | changed).items():
        if not isinstance(tensor, np.ndarray):
            continue
        is_float = tensor.ndim == 1 or name.endswith("ffn_gate_inp.weight")
        stored = quant.by_name("f32" if is_float else matrix_format)
        rows = stored.quantize(
            np.ascontiguousarray(tensor.reshape(-1, tensor.shape[-1]), np.float32)
        )
        kind = gguf.GGMLQuantizationType(stored.ggml_type)
        shape = (*tensor.shape[:-1], -1)
        data = rows.reshape(shape)
        writer.add_tensor(
            name, data.view(np.float32) if stored.name == "f32" else data, raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def runners(given: Checkpoint, activations: str) -> tuple[Model, NativeRunner, ReferenceRunner]:
    model = model_for(given.kind, given.config)
    graph = trace(model, {name: given.info(name).shape for name in given.names()})
    shape = model.cache_shape()
    layout = KVLayout(shape.num_layers, shape.num_kv_heads, shape.head_dim, "f32")
    pools = Pool(layout, 8), Pool(layout, 8)
    native = NativeRunner(graph, given, pools[0], activations=activations, threads=Threads(2))
    return model, native, ReferenceRunner(graph, given, pools[1], activations=activations)


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_logits_equal_the_independent_ones(family: str, tmp_path: Path) -> None:
    config = CONFIGS[family]
    item = Bench(config).sequence(50, 1)
    item[1].pages[:] = [3, 1]
    window = feed(item, 0, 50, pattern=FULL)
    with open_checkpoint(write(tmp_path / "model.gguf", family)) as given:
        model, native, reference = runners(given, "f32")
        ours = native.forward([window])[0]
        close(reference.forward([window])[0], ours, 1e-3)
    source = checkpoint(config)
    theirs = independent_diffusion.logits(config, source.dequantized, item[0].tokens)
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), rtol=0)
    traits = model.traits()
    assert (traits.pattern, traits.mask_token, traits.eos_ids) == (FULL, 95, {1})
    assert traits.predicts is (Predicts.NEXT if family == "dream" else Predicts.SAME)


@pytest.mark.parametrize("matrix_format", ["q8_0", "q4_0"])
def test_a_stack_of_quantised_experts_is_taken_apart(matrix_format: str, tmp_path: Path) -> None:
    """The native executor packs each expert from its part of the bytes; NumPy dequantises the whole."""
    path = write(tmp_path / "model.gguf", "llada-moe", matrix_format=matrix_format)
    item = Bench(CONFIGS["llada-moe"]).sequence(30, 1)
    item[1].pages[:] = [2]
    with open_checkpoint(path) as given:
        _, native, reference = runners(given, "f32")
        window = feed(item, 0, 30, pattern=FULL)
        close(native.forward([window])[0], reference.forward([window])[0], 1e-3)


def test_a_dream_file_may_say_that_its_logits_are_not_shifted(tmp_path: Path) -> None:
    with open_checkpoint(write(tmp_path / "a.gguf", "dream", changed={"shift": False})) as given:
        assert model_for(given.kind, given.config).traits().predicts is Predicts.SAME


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"experts": 15}, "16 experts meet 15"),
        ({"experts": 2**31}, "expert_count"),
        ({"blk.1.ffn_up_exps.weight": np.zeros((15, 32, 64))}, "ffn_up_exps"),
        ({"blk.1.ffn_up_exps.weight": np.zeros((16, 32, 32))}, "ffn_up_exps"),
        ({"blk.1.ffn_up_exps.weight": np.zeros((512, 64))}, "ffn_up_exps"),
        ({"blk.1.ffn_up_exps.weight": None}, "ffn_up_exps.weight is missing"),
        ({"blk.1.ffn_gate_inp.weight": np.zeros((16, 32))}, "ffn_gate_inp"),
    ],
)
def test_damaged_files_are_refused(changed: dict[str, Any], match: str, tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", "llada-moe", changed=changed)
    with open_checkpoint(path) as given, pytest.raises(FormatError, match=match):
        runners(given, "f32")

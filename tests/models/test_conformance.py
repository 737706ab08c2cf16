"""Every family against an independent implementation, and what a damaged checkpoint is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plait.core import registry
from plait.core.errors import FormatError
from plait.models.choose import model_for, trace
from plait.models.mindllm import deepnorm_alpha
from tests import synthetic_diffusion
from tests.models import independent, independent_diffusion
from tests.runner.test_executors import Bench, feed
from tests.synthetic import CONFIGS, LLAMA, checkpoint, deepnorm_beta


def ours_and_theirs(config: dict[str, Any], length: int = 70) -> tuple[np.ndarray, np.ndarray]:
    bench = Bench(config)
    item = bench.sequence(length, 1)
    window = feed(item, 0, length, pattern=bench.model.traits().pattern)
    ours = bench.native.forward([window])[0]
    tensors = {n: bench.checkpoint.dequantized(n) for n in bench.checkpoint.names()}
    oracle = independent_diffusion if synthetic_diffusion.family(config) else independent
    theirs = oracle.logits(config, tensors.__getitem__, item[0].tokens)
    return ours, theirs


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_equal_an_independent_implementation(name: str) -> None:
    ours, theirs = ours_and_theirs(CONFIGS[name])
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max(), rtol=0)


def test_geb_shape_equals_an_independent_implementation() -> None:
    """GEB-1.3B: Llama with grouped queries and an untied head, under its own name."""
    ours, theirs = ours_and_theirs({**LLAMA, "model_type": "geb", "num_attention_heads": 8})
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["mindllm-deepnorm", "mindllm-rmsnorm"])
def test_mindllm_shape_equals_an_independent_implementation(name: str) -> None:
    ours, theirs = ours_and_theirs(CONFIGS[name])
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)


def test_deepnorm_constants_follow_from_the_depth() -> None:
    assert deepnorm_alpha(18) == pytest.approx(36**0.25)
    assert deepnorm_beta(18) == pytest.approx(144**-0.25)
    weights = checkpoint(CONFIGS["mindllm-deepnorm"])
    spread = weights.dequantized("model.layers.0.mlp.up_proj.weight").std()
    layers = CONFIGS["mindllm-deepnorm"]["num_hidden_layers"]
    assert spread == pytest.approx(2 * 64**-0.5 * (8 * layers) ** -0.25, rel=0.05)


def test_every_model_file_has_a_synthetic_checkpoint() -> None:
    models = [model_for("safetensors", config) for config in CONFIGS.values()]
    families = {type(model).__module__.rpartition(".")[2] for model in models}
    assert set(registry.names("models")) <= families


def test_unknown_architecture_names_the_known_ones() -> None:
    with pytest.raises(FormatError, match=r"'warp' is not supported\n.*llama") as caught:
        model_for("safetensors", {**LLAMA, "model_type": "warp"})
    assert "qwen2" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 3),
        ("hidden_size", -1),
        ("hidden_size", "wide"),
        ("rope_theta", float("nan")),
        ("rope_theta", -1.0),
        ("rope_theta", 1e300),
        ("rms_norm_eps", 10**400),
        ("max_position_embeddings", 0),
        ("sliding_window", 2**31),
        ("rope_scaling", {"rope_type": "linear", "factor": 0.0}),
        ("rope_scaling", {"rope_type": "linear", "factor": 10**400}),
        ("rope_scaling", {"rope_type": "mystery"}),
        ("hidden_act", "magic"),
        ("head_dim", 15),
    ],
)
def test_absurd_configurations_are_refused(field: str, value: Any) -> None:
    with pytest.raises(FormatError) as caught:
        model_for("safetensors", {**LLAMA, field: value})
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("field", ["query_pre_attn_scalar", "rope_local_base_freq"])
@pytest.mark.parametrize("value", [0, -1.0, 10**400])
def test_absurd_numbers_of_one_family_are_refused(field: str, value: Any) -> None:
    config = {**CONFIGS["gemma3"], field: value}
    given = checkpoint(CONFIGS["gemma3"])
    with pytest.raises(FormatError, match=field if field.startswith("query") else "freq_base"):
        trace(model_for("safetensors", config), {n: given.info(n).shape for n in given.names()})


@pytest.mark.parametrize(
    ("family", "field"), [("gemma3", "sliding_window_pattern"), ("sdar", "block_size")]
)
def test_a_period_of_nothing_is_refused(family: str, field: str) -> None:
    config = {**CONFIGS[family], field: 0}
    given = checkpoint(CONFIGS[family])
    model = model_for("safetensors", config)
    with pytest.raises(FormatError, match=field):
        assert not (model.traits(), trace(model, {n: given.info(n).shape for n in given.names()}))


@pytest.mark.parametrize(("layers", "scale"), [(61, 128**-0.5), (62, (5376 / 32) ** -0.5)])
def test_gemma_27b_alone_scales_queries_by_its_width(layers: int, scale: float) -> None:
    keys = {
        "block_count": layers,
        "embedding_length": 5376,
        "attention.head_count": 32,
        "attention.key_length": 128,
        "feed_forward_length": 21504,
        "vocab_size": 262208,
        "context_length": 131072,
    }
    metadata = {f"gemma3.{key}": value for key, value in keys.items()}
    model = model_for("gguf", {"general.architecture": "gemma3", **metadata})
    assert model._query_scale() == pytest.approx(scale, rel=1e-12)


@pytest.mark.parametrize("absurd", [-1, -(2**40), 2**70, "</s>", None])
def test_ends_that_are_no_token_ids_end_nothing(absurd: Any) -> None:
    config = {**LLAMA, "eos_token_id": [absurd, 5]}
    assert model_for("safetensors", config).traits().eos_ids == {5}


def test_missing_and_leftover_tensors_are_named() -> None:
    given = checkpoint(LLAMA)
    shapes = {name: given.info(name).shape for name in given.names()}
    model = model_for("safetensors", LLAMA)
    lacking = {n: s for n, s in shapes.items() if n != "model.norm.weight"}
    with pytest.raises(FormatError, match=r"model\.norm\.weight"):
        trace(model, lacking)
    with pytest.raises(FormatError, match="surprise"):
        trace(model, {**shapes, "surprise.weight": (3, 3)})


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("model.layers.0.self_attn.q_proj.weight", (60, 64)),
        ("model.layers.0.mlp.down_proj.weight", (64, 95)),
        ("model.norm.weight", (63,)),
        ("lm_head.weight", (96,)),
    ],
)
def test_tensors_that_do_not_fit_are_named(name: str, shape: tuple[int, ...]) -> None:
    given = checkpoint(LLAMA)
    shapes = {n: given.info(n).shape for n in given.names()}
    with pytest.raises(FormatError):
        trace(model_for("safetensors", LLAMA), {**shapes, name: shape})


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("declared", [95, 97])
def test_an_embedding_has_a_row_for_each_token(name: str, declared: int) -> None:
    stored = checkpoint(CONFIGS[name])
    shapes = {one: stored.info(one).shape for one in stored.names()}
    model = model_for("safetensors", {**CONFIGS[name], "vocab_size": declared})
    with pytest.raises(FormatError, match=rf"{declared} tokens .* has 96 rows"):
        trace(model, shapes)

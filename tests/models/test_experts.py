"""What a checkpoint with experts is told when they are missing, misshapen or absurdly many."""

from __future__ import annotations

from typing import Any

import pytest

from plait.core.errors import FormatError
from plait.models.choose import model_for, trace
from plait.models.experts import Experts, Routing
from tests.synthetic import CONFIGS, checkpoint

Shapes = dict[str, tuple[int, ...]]


def shapes_of(name: str) -> Shapes:
    given = checkpoint(CONFIGS[name])
    return {tensor: given.info(tensor).shape for tensor in given.names()}


def refused(name: str, match: str, changed: Shapes, **fields: Any) -> FormatError:
    """changed: shapes of tensors, () for those that are missing."""
    shapes = {n: s for n, s in {**shapes_of(name), **changed}.items() if s}
    with pytest.raises(FormatError, match=match) as caught:
        trace(model_for("safetensors", {**CONFIGS[name], **fields}), shapes)
    assert len(caught.value.message) < 200
    return caught.value


EXPERT = "model.layers.1.mlp.experts.7.up_proj.weight"


@pytest.mark.parametrize("family", ["llada-moe", "llada2"])
def test_tensors_of_experts_that_do_not_fit_are_named(family: str) -> None:
    for shape in ((), (31, 64), (32, 63), (32,), (2, 32, 64)):
        refused(family, r"layers\.1\.mlp\.experts\.7\.up_proj", {EXPERT: shape})
    down = EXPERT.replace("up_proj", "down_proj")
    refused(family, r"experts\.7\.down_proj", {down: (64, 16)})
    refused(family, "15 experts meet 16", {"model.layers.1.mlp.gate.weight": (15, 64)})
    refused(family, "missing", {"model.layers.1.mlp.gate.weight": ()})


def test_an_expert_too_many_has_no_place() -> None:
    surplus = EXPERT.replace("experts.7", "experts.16")
    refused("llada-moe", "no place", {surplus: (32, 64)})


def test_shared_experts_and_biases_that_do_not_fit_are_named() -> None:
    shared = "model.layers.1.mlp.shared_experts.up_proj.weight"
    refused("llada2", "rows of 32 and of 16 columns", {shared: (16, 64)})
    refused("llada2", "expert_bias", {"model.layers.1.mlp.gate.expert_bias": (15,)})


@pytest.mark.parametrize("family", ["llada-moe", "llada2"])
@pytest.mark.parametrize("value", [0, -1, 5000, 10**12, "many", 2.5, True, None])
def test_absurd_numbers_of_experts_are_refused(family: str, value: Any) -> None:
    refused(family, "num_experts", {}, num_experts=value)


@pytest.mark.parametrize("value", [0, -1, 17, 10**12, "all"])
def test_nobody_chooses_more_experts_than_there_are(value: Any) -> None:
    refused("llada-moe", "choose 17 of 16|num_experts_per_tok", {}, num_experts_per_tok=value)
    refused("llada2", "choose 17 of 16|num_experts_per_tok", {}, num_experts_per_tok=value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_group", 3),
        ("n_group", 16),
        ("n_group", 0),
        ("topk_group", 5),
        ("topk_group", 0),
        ("routed_scaling_factor", float("nan")),
        ("norm_topk_prob", "yes"),
        ("score_function", "softmax"),
        ("partial_rotary_factor", 1.5),
        ("partial_rotary_factor", 0.01),
        ("partial_rotary_factor", 0.1),
        ("norm_head", True),
        ("block_size", 0),
        ("mask_token_id", 96),
        ("first_k_dense_replace", -1),
    ],
)
def test_absurd_fields_of_llada2_are_refused(field: str, value: Any) -> None:
    def run() -> None:
        model = model_for("safetensors", {**CONFIGS["llada2"], field: value})
        model.traits()
        trace(model, shapes_of("llada2"))

    with pytest.raises(FormatError) as caught:
        run()
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("alibi", True),
        ("block_type", "sequential"),
        ("layer_norm_type", "low_precision"),
        ("input_emb_norm", True),
        ("activation_type", "gelu"),
        ("rope", False),
    ],
)
def test_variants_that_no_llada_has_are_refused(field: str, value: Any) -> None:
    refused("llada", field, {}, **{field: value})


def test_a_llada_moe_that_scores_otherwise_is_refused() -> None:
    refused("llada-moe", "score_function", {}, moe_router_score_function="sigmoid")
    refused("llada-moe", "moe_layer_freq", {}, moe_layer_freq=[0, 1])


def test_a_stack_of_experts_has_as_many_as_the_router() -> None:
    names = ("gate",), ("up",), ("down",)
    experts = Experts(*names, count=4, is_stacked=True, activation="silu")
    fitting = {"gate": (4, 32, 64), "up": (4, 32, 64), "down": (4, 64, 32)}
    assert experts.width(fitting, 64) == 64
    for name in fitting:
        for shape in ((3, *fitting[name][1:]), fitting[name][1:], (4, 32, 31)):
            with pytest.raises(FormatError, match=name):
                experts.width({**fitting, name: shape}, 64)


@pytest.mark.parametrize(
    "routing", [Routing(5), Routing(1, groups=3), Routing(1, groups=4), Routing(3, groups=2)]
)
def test_choices_that_cannot_be_made_are_refused(routing: Routing) -> None:
    with pytest.raises(FormatError, match="choose"):
        routing.check(4)


def test_the_class_tells_sparse_from_dense() -> None:
    """Both have the model_type llada."""
    assert CONFIGS["llada"]["model_type"] == CONFIGS["llada-moe"]["model_type"] == "llada"
    kinds = [type(model_for("safetensors", CONFIGS[n])).__module__ for n in ("llada", "llada-moe")]
    assert kinds == ["plait.models.llada", "plait.models.llada_moe"]


@pytest.mark.parametrize(
    ("family", "mask", "block", "predicts"),
    [
        ("dream", 151666, 0, "next"),
        ("fast-dllm", 151665, 32, "next"),
        ("llada", 126336, 0, "same"),
        ("llada-moe", 156895, 0, "same"),
        ("llada2", 156895, 32, "same"),
    ],
)
def test_traits_of_the_published_checkpoints(
    family: str, mask: int, block: int, predicts: str
) -> None:
    """Their configurations name neither the mask token nor, some of them, the block size."""
    silent = ("mask_token_id", "block_size", "bd_size")
    config = {k: v for k, v in CONFIGS[family].items() if k not in silent}
    traits = model_for("safetensors", {**config, "vocab_size": 160000}).traits()
    assert (traits.mask_token, traits.pattern.size, traits.predicts) == (mask, block, predicts)
    assert traits.eos_ids == {1}
    assert traits.context_length == 2048

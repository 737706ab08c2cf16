"""EngineConfig refuses what it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from plait.core.config import EngineConfig
from plait.core.errors import UserError


@pytest.mark.parametrize(
    ("field", "value", "way_out"),
    [
        ("activations", "int4", "int8, f32"),
        ("executor", "torch", "native, reference"),
        ("kv", "f8", "auto, f16, f32, int8"),
        ("threads", -1, "at least 0"),
        ("threads", True, "at least 0"),
        ("model", 3, "text"),
        ("cache", None, "text"),
        ("planner", 5, "text"),
        ("offline", "no", "true or false"),
        ("options", ["a=1"], "mapping"),
        ("threads", 1.5, "at least 0"),
        ("max_model_len", -1, "at least 0"),
        ("kv_memory", -1, "at least 0"),
        ("max_num_seqs", 0, "at least 1"),
        ("max_num_batched_tokens", -1, "at least 0"),
        ("max_step_stretch", 0.9, "at least 1"),
        ("max_step_stretch", "2", "at least 1"),
        ("max_queued_requests", -1, "at least 0"),
        ("max_queued_tokens", 1.5, "at least 0"),
        ("max_request_tokens", -1, "at least 0"),
        ("max_request_kv", True, "at least 0"),
        ("max_request_seconds", -0.1, "at least 0"),
        ("max_request_seconds", float("inf"), "at least 0"),
        ("max_request_seconds", float("nan"), "at least 0"),
        ("max_request_seconds", True, "at least 0"),
    ],
)
def test_a_bad_setting_is_refused_with_the_way_out(field: str, value: Any, way_out: str) -> None:
    with pytest.raises(UserError) as caught:
        EngineConfig(**{field: value})
    assert field in caught.value.message
    assert way_out in caught.value.hint


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="thread"):
        EngineConfig(thread=2)  # type: ignore[call-arg]


def test_two_configs_share_no_options() -> None:
    assert EngineConfig().options == {}
    assert EngineConfig().options is not EngineConfig().options

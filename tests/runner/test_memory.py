"""What fits: the numbers and the way out that a refusal gives."""

from __future__ import annotations

import pytest

from plait.core.config import PAGE
from plait.core.errors import CapacityError, UserError
from plait.kernels.plan import THREADS_PER_PROCESSOR, default_num_threads, num_threads
from plait.kvcache.pool import KVLayout
from plait.runner.memory import Fit, fit

LAYOUT = KVLayout(2, 1, 8, "f32")


def fitted(*, max_model_len: int = 0, kv_memory: int) -> Fit:
    return fit(
        LAYOUT,
        context_length=1024,
        max_model_len=max_model_len,
        kv_memory=kv_memory,
        max_num_seqs=4,
        available=1 << 30,
    )


def test_the_context_is_cut_to_what_the_memory_holds() -> None:
    assert fitted(kv_memory=3 * LAYOUT.page_bytes).max_model_len == 3 * PAGE


def test_the_length_that_a_refusal_names_fits() -> None:
    with pytest.raises(CapacityError, match="room for") as caught:
        fitted(max_model_len=1024, kv_memory=3 * LAYOUT.page_bytes)
    assert f"max_model_len={3 * PAGE} would fit" in caught.value.hint
    assert fitted(max_model_len=3 * PAGE, kv_memory=3 * LAYOUT.page_bytes).num_pages == 3


def test_no_length_is_named_where_none_fits() -> None:
    with pytest.raises(CapacityError, match="room for") as caught:
        fitted(kv_memory=LAYOUT.page_bytes - 1)
    assert "would fit" not in caught.value.hint
    assert f"{LAYOUT.page_bytes:,} bytes" in caught.value.hint


def test_threads_are_bounded_by_the_machine() -> None:
    own = default_num_threads()
    assert num_threads(0) == own
    most = THREADS_PER_PROCESSOR * own
    assert num_threads(most) == most
    with pytest.raises(UserError, match="far more than") as caught:
        num_threads(most + 1)
    assert f"at most {most}" in caught.value.hint

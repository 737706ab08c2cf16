"""What every weight format must do; a new file in the room is tested without touching this one."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from plait.core import registry
from plait.core.errors import FormatError, NotFoundError
from plait.quant import base
from plait.quant.base import Bytes, Floats

NAMES = registry.names("quant")


def ggml(weight_format: base.Format) -> gguf.GGMLQuantizationType:
    return gguf.GGMLQuantizationType(weight_format.ggml_type)


def oracle(weight_format: base.Format, raw: Bytes) -> Floats:
    """The gguf package's own decoder: raw uint8 [rows, row bytes] -> float32 [rows, cols]."""
    with np.errstate(invalid="ignore"):
        return gguf.quants.dequantize(raw, ggml(weight_format))


def random_bytes(weight_format: base.Format, rows: int, blocks: int, seed: int = 7) -> Bytes:
    """Every bit pattern, except that floats (weights or scales) are made finite.

    Clearing the top exponent bit of the little-endian halves does it for f16, bf16 and f32; in the
    quants the cleared bit is just a bit, so rows alternate between cleared and untouched blocks.
    """
    size = (rows, blocks, weight_format.block_bytes)
    raw = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    weights = weight_format.dequantize(raw, (rows, blocks * weight_format.block_size))
    bad = ~np.isfinite(weights).reshape(rows, blocks, -1).all(axis=-1)
    raw[bad] &= 0xBF
    return raw.reshape(rows, -1)


@pytest.mark.parametrize("name", NAMES)
def test_dequantize_equals_the_gguf_package_bit_for_bit(name: str) -> None:
    weight_format = base.by_name(name)
    raw = random_bytes(weight_format, rows=5, blocks=37)
    shape = (5, 37 * weight_format.block_size)
    mine, theirs = weight_format.dequantize(raw, shape), oracle(weight_format, raw)
    assert mine.dtype == np.float32
    assert mine.shape == shape
    assert np.isfinite(mine).mean() > 0.9
    np.testing.assert_array_equal(mine.view(np.uint32), theirs.view(np.uint32))


@pytest.mark.parametrize("name", NAMES)
def test_a_tensor_larger_than_one_chunk_is_decoded_whole(name: str) -> None:
    weight_format = base.by_name(name)
    blocks = 2 * base._CHUNK_WEIGHTS // weight_format.block_size + 3
    raw = random_bytes(weight_format, rows=1, blocks=blocks)
    mine = weight_format.dequantize(raw, (1, blocks * weight_format.block_size))
    np.testing.assert_array_equal(mine, oracle(weight_format, raw))


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_at_any_alignment_decode_without_a_crash(name: str) -> None:
    weight_format = base.by_name(name)
    size = weight_format.block_bytes * 64
    memory = np.random.default_rng(1).integers(0, 256, size + 1, dtype=np.uint8)
    weights = weight_format.dequantize(memory[1:], (64 * weight_format.block_size,))
    assert weights.size == 64 * weight_format.block_size


@pytest.mark.parametrize("name", NAMES)
def test_shapes_of_every_rank_only_change_the_shape(name: str) -> None:
    weight_format = base.by_name(name)
    raw = random_bytes(weight_format, rows=6, blocks=2)
    cols = 2 * weight_format.block_size
    flat = weight_format.dequantize(raw, (6 * cols,))
    np.testing.assert_array_equal(weight_format.dequantize(raw, (2, 3, cols)).ravel(), flat)


@pytest.mark.parametrize("name", NAMES)
def test_round_trip_error_is_what_the_bits_allow(name: str) -> None:
    weight_format = base.by_name(name)
    weights = np.random.default_rng(3).standard_normal((32, 1024)).astype(np.float32)
    back = weight_format.dequantize(weight_format.quantize(weights), weights.shape)
    error = float(np.sqrt(np.mean((weights - back) ** 2)))
    bits = min(8, 8 * weight_format.block_bytes // weight_format.block_size)
    assert error < 3 * 2.0**-bits


@pytest.mark.parametrize("name", NAMES)
def test_quantize_is_as_close_as_the_gguf_package(name: str) -> None:
    weight_format = base.by_name(name)
    weights = np.random.default_rng(4).standard_normal((16, 1024)).astype(np.float32)
    try:
        theirs = gguf.quants.quantize(weights, ggml(weight_format)).view(np.uint8)
    except NotImplementedError:
        return  # the package cannot write this format; the bound above holds for it
    mine = weight_format.quantize(weights)
    assert mine.shape == theirs.shape
    error = np.abs(weights - oracle(weight_format, mine)).mean()
    assert error <= 1.01 * np.abs(weights - oracle(weight_format, theirs)).mean()


@pytest.mark.parametrize("name", NAMES)
def test_representable_weights_come_back_exactly(name: str) -> None:
    weight_format = base.by_name(name)
    values = np.zeros((3, 512), dtype=np.float32)
    np.testing.assert_array_equal(
        weight_format.dequantize(weight_format.quantize(values), values.shape), values
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-5, 1.0, 1e4])
def test_no_weight_leaves_its_range_when_the_scale_is_extreme(name: str, scale: float) -> None:
    weight_format = base.by_name(name)
    weights = np.random.default_rng(5).uniform(-1, 1, (4, 512)).astype(np.float32)
    weights *= np.float32(scale)
    back = weight_format.dequantize(weight_format.quantize(weights), weights.shape)
    # A step below the smallest half rounds to it or to 0; the error stays within the weights'
    # range.
    assert float(np.abs(back - weights).max()) <= 2 * scale + 128 * 2.0**-24


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(name: str, poison: float) -> None:
    weight_format = base.by_name(name)
    weights = np.ones((1, 512), dtype=np.float32)
    weights[0, 100] = poison
    with pytest.raises(FormatError, match="not finite"):
        weight_format.quantize(weights)


@pytest.mark.parametrize("name", NAMES)
def test_weights_out_of_range_are_refused_or_kept(name: str) -> None:
    weight_format = base.by_name(name)
    weights = np.full((1, 512), np.finfo(np.float32).max, dtype=np.float32)
    try:
        back = weight_format.dequantize(weight_format.quantize(weights), weights.shape)
    except FormatError:
        return
    np.testing.assert_allclose(back, weights)


@pytest.mark.parametrize("name", NAMES)
def test_sizes_agree_with_the_gguf_package(name: str) -> None:
    weight_format = base.by_name(name)
    assert weight_format.name == name
    kind = ggml(weight_format)
    assert kind.name.lower() == name
    assert (weight_format.block_size, weight_format.block_bytes) == gguf.GGML_QUANT_SIZES[kind]
    assert base.by_ggml_type(weight_format.ggml_type) is weight_format
    assert weight_format.nbytes((3, 5, 1024)) == (
        15 * 1024 // weight_format.block_size * weight_format.block_bytes
    )


@pytest.mark.parametrize("name", NAMES)
def test_impossible_shapes_are_refused_in_words(name: str) -> None:
    weight_format = base.by_name(name)
    with pytest.raises(FormatError, match="shape"):
        weight_format.nbytes((2**40, 2**40))
    with pytest.raises(FormatError, match="shape"):
        weight_format.nbytes((-1, 256))
    assert weight_format.nbytes((2**64, 0)) == 0
    if weight_format.block_size > 1:
        with pytest.raises(FormatError, match=f"{weight_format.block_size + 1} weights") as caught:
            weight_format.nbytes((2, weight_format.block_size + 1))
        assert f"multiple of {weight_format.block_size}" in caught.value.hint


@pytest.mark.parametrize("name", NAMES)
def test_too_few_or_too_many_bytes_are_refused(name: str) -> None:
    weight_format = base.by_name(name)
    raw = np.zeros(weight_format.block_bytes * 3, dtype=np.uint8)
    for shape in ((2, weight_format.block_size), (4, weight_format.block_size)):
        with pytest.raises(FormatError, match=f"not a {name} tensor"):
            weight_format.dequantize(raw, shape)


def test_unread_types_are_named() -> None:
    with pytest.raises(FormatError, match="MXFP4") as caught:
        base.by_ggml_type(39)
    assert "q4_k" in caught.value.hint
    with pytest.raises(FormatError, match="type 4000000000"):
        base.by_ggml_type(4_000_000_000)


def test_unknown_names_get_a_guess() -> None:
    with pytest.raises(NotFoundError) as caught:
        base.by_name("q4_m")
    assert "did you mean" in caught.value.hint

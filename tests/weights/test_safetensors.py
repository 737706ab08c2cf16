"""The safetensors reader against the library's own files, and against files nobody should write."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from plait.core.errors import FormatError
from plait.quant import base as quant
from plait.weights import json_text
from plait.weights.safetensors import INDEX, SafetensorsCheckpoint
from tests.weights.files import random_weights, read_everything, write_safetensors


def image(header: bytes | dict[str, Any], data: bytes = b"") -> bytes:
    """A whole file put together by hand."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(shape: Any = (4,), offsets: Any = (0, 16), dtype: Any = "F32") -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def folder_with(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "model.safetensors").write_bytes(content)
    return tmp_path


@pytest.mark.parametrize("shards", [1, 3])
def test_tensors_equal_the_library(tmp_path: Path, shards: int) -> None:
    folder = write_safetensors(tmp_path, shards)
    expected: dict[str, Any] = {}
    for file in folder.glob("*.safetensors"):
        expected |= load_file(file)
    with SafetensorsCheckpoint(folder) as checkpoint:
        assert checkpoint.kind == "safetensors"
        assert checkpoint.config == {"model_type": "llama", "hidden_size": 8}
        assert checkpoint.tokenizer_source == folder
        assert checkpoint.file_bytes == sum(f.stat().st_size for f in folder.glob("*.safetensors"))
        assert set(checkpoint.names()) == set(expected)
        for name, tensor in expected.items():
            info = checkpoint.info(name)
            assert info.shape == tensor.shape
            assert info.format_name == {"float32": "f32", "float16": "f16"}[tensor.dtype.name]
            assert checkpoint.raw(name).tobytes() == tensor.tobytes()
            np.testing.assert_array_equal(checkpoint.dequantized(name), tensor.astype(np.float32))
        read_everything(checkpoint)


def test_bf16_is_read_without_torch(tmp_path: Path) -> None:
    weights = random_weights((3, 8))
    raw = quant.by_name("bf16").quantize(weights)
    content = image({"w": entry([3, 8], [0, raw.size], "BF16")}, raw.tobytes())
    with SafetensorsCheckpoint(folder_with(tmp_path, content)) as checkpoint:
        assert checkpoint.info("w").format_name == "bf16"
        np.testing.assert_allclose(checkpoint.dequantized("w"), weights, rtol=2**-8)
        upper = checkpoint.dequantized("w").view(np.uint32) & np.uint32(0xFFFF)
        assert not upper.any()


def test_one_file_is_opened_with_the_config_beside_it(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path)
    (folder / "model.safetensors").rename(folder / "weights.bin")
    with SafetensorsCheckpoint(folder / "weights.bin") as checkpoint:
        assert "half" in checkpoint.names()


def test_scalars_and_empty_tensors_are_allowed(tmp_path: Path) -> None:
    save_file(
        {"scalar": np.array(2.5, np.float32), "none": np.zeros((0, 4), np.float32)},
        tmp_path / "model.safetensors",
    )
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with SafetensorsCheckpoint(tmp_path) as checkpoint:
        assert checkpoint.dequantized("scalar").item() == 2.5
        assert checkpoint.dequantized("none").shape == (0, 4)
        read_everything(checkpoint)


DATA = bytes(16)
NESTED = b'{"a":' + b"[" * 100_000
REFUSED: dict[str, tuple[bytes, str]] = {
    "seven bytes": (bytes(7), "header ends after the file"),
    "length alone": (struct.pack("<Q", 1), "header ends after the file"),
    "length 2^64-1": (struct.pack("<Q", 2**64 - 1) + b"{}", "header ends after the file"),
    "length 2^60": (struct.pack("<Q", 2**60) + b"{}", "header ends after the file"),
    "no JSON": (image(b"{nope"), "not valid JSON"),
    "no object": (image(b"[1]"), "must hold a JSON object"),
    "not UTF-8": (image(b'{"\xff": 1}'), "not valid JSON"),
    "deep JSON": (image(NESTED), "not valid JSON"),
    "long number": (image(b'{"a": ' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "half a surrogate pair": (image(b'{"\\ud800": 1}'), "not valid JSON"),
    "name twice": (image(b'{"a": 1, "a": 2}'), "'a' appears twice"),
    "entry no object": (image({"a": 1}), "without exactly"),
    "entry incomplete": (image({"a": {"dtype": "F32", "shape": []}}), "without exactly"),
    "entry with more": (image({"a": entry() | {"x": 1}}, DATA), "without exactly"),
    "metadata": (image({"__metadata__": [1]}), "__metadata__"),
    "type": (image({"a": entry(dtype="I64")}, DATA), "of type 'I64'"),
    "type no word": (image({"a": entry(dtype=["F32"])}, DATA), "of type"),
    "shape no list": (image({"a": entry(4)}, DATA), "shape is no list"),
    "shape of words": (image({"a": entry(["4"])}, DATA), "shape is no list"),
    "shape of truths": (image({"a": entry([True, 4])}, DATA), "shape is no list"),
    "shape of fractions": (image({"a": entry([4.0])}, DATA), "shape is no list"),
    "shape negative": (image({"a": entry([-4])}, DATA), "shape is no list"),
    "shape too deep": (image({"a": entry([1] * 8 + [4])}, DATA), "at most 8 sizes"),
    "shape too large": (image({"a": entry([2**40, 2**40])}, DATA), "no tensor can have"),
    "offsets no list": (image({"a": entry(offsets=None)}, DATA), "no begin and end"),
    "one offset": (image({"a": entry(offsets=[0])}, DATA), "no begin and end"),
    "three offsets": (image({"a": entry(offsets=[0, 16, 16])}, DATA), "no begin and end"),
    "backwards": (image({"a": entry(offsets=[16, 0])}, DATA), "no begin and end"),
    "size differs": (image({"a": entry(offsets=[0, 12])}, DATA), "takes 16 bytes"),
    "past the end": (image({"a": entry(offsets=[16, 32])}, DATA), "ends after the file"),
    "far away": (image({"a": entry(offsets=[2**60, 2**60 + 16])}, DATA), "ends after the file"),
    "hole": (image({"a": entry(offsets=[16, 32])}, bytes(32)), "overlap or a gap"),
    "rest": (image({"a": entry()}, bytes(17)), "overlap or a gap"),
    "overlap": (
        image({"a": entry(offsets=[0, 16]), "b": entry(offsets=[8, 24])}, bytes(24)),
        "overlap or a gap",
    ),
    "same place": (image({"a": entry(), "b": entry()}, DATA), "overlap or a gap"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_file_may_hold_is_refused_in_one_line_and_little_memory(
    case: str, tmp_path: Path
) -> None:
    content, message = REFUSED[case]
    folder = folder_with(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message) as caught:
            SafetensorsCheckpoint(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert peak < 4_000_000


def test_a_header_of_nothing_but_structure_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    bomb = b'{"a":[' + b"[],[]," * 1_000_000 + b"[]]}"
    folder = folder_with(tmp_path, image(bomb))
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="too many parts"):
            SafetensorsCheckpoint(folder)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * len(bomb)


def test_a_header_beyond_its_limit_is_not_read(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, b"")
    with (folder / "model.safetensors").open("wb") as file:  # a sparse file, no real bytes
        file.write(struct.pack("<Q", 150_000_000) + b"{")
        file.truncate(200_000_000)
    with pytest.raises(FormatError, match="at most 100000000"):
        SafetensorsCheckpoint(folder)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    for length in range(0, len(content), 3):
        (folder / "model.safetensors").write_bytes(content[:length])
        with pytest.raises(FormatError):
            SafetensorsCheckpoint(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no config.json"),
        ("[]", "must hold a JSON object, not a list"),
        ("{", "not valid JSON"),
        ("", "is empty"),
        ('{"a": 1, "a": 1}', "appears twice"),
    ],
)
def test_config_json_must_be_there_and_an_object(
    tmp_path: Path, config: str | None, message: str
) -> None:
    folder = write_safetensors(tmp_path)
    (folder / "config.json").unlink()
    if config is not None:
        (folder / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(FormatError, match=message):
        SafetensorsCheckpoint(folder)


def test_a_huge_config_is_not_read(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path)
    with (folder / "config.json").open("wb") as file:
        file.truncate(json_text.MAX_CONFIG_BYTES + 1)
    with pytest.raises(FormatError, match="more than"):
        SafetensorsCheckpoint(folder)


@pytest.mark.parametrize(
    "shard",
    [
        "../model.safetensors",
        "/etc/passwd",
        "sub/m.safetensors",
        "..\\m.safetensors",
        "..",
        "",
        "m.py",
    ],
)
def test_an_index_cannot_point_elsewhere(tmp_path: Path, shard: str) -> None:
    folder = write_safetensors(tmp_path / "inner")
    write_safetensors(tmp_path)
    (folder / INDEX).write_text(json.dumps({"weight_map": {"half": shard}}), encoding="utf-8")
    with pytest.raises(FormatError, match="names the file"):
        SafetensorsCheckpoint(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "no weight_map"),
        ({"weight_map": []}, "no weight_map"),
        ({"weight_map": {}}, "no weight_map"),
        ({"weight_map": {"a": 1}}, "no file name"),
        ({"weight_map": {"a": "absent.safetensors"}}, "is missing"),
        ({"weight_map": {"a": "x" * 5000 + ".safetensors"}}, "is missing"),
        ({"weight_map": {"absent": "model.safetensors"}}, "lacks the tensor 'absent'"),
        ({"weight_map": {str(i): f"{i}.safetensors" for i in range(1001)}}, "names 1001 files"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, index: Any, message: str) -> None:
    folder = write_safetensors(tmp_path)
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(FormatError, match=message) as caught:
        SafetensorsCheckpoint(folder)
    assert len(caught.value.message) < 400


def test_only_what_the_index_lists_is_there(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path)
    index = {"weight_map": {"half": "model.safetensors"}}
    (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
    with SafetensorsCheckpoint(folder) as checkpoint:
        assert checkpoint.names() == ["half"]


def test_one_shard_alone_is_refused(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path, shards=3)
    with pytest.raises(FormatError, match="one part") as caught:
        SafetensorsCheckpoint(folder / "model-00001-of-00003.safetensors")
    assert "folder" in caught.value.hint


def test_several_files_without_an_index_are_listed(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path, shards=3)
    (folder / INDEX).unlink()
    with pytest.raises(FormatError, match="neither") as caught:
        SafetensorsCheckpoint(folder)
    assert "model-00002-of-00003.safetensors" in caught.value.hint

"""The GGUF reader against files of the gguf package, and files that nobody should write."""

from __future__ import annotations

import itertools
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from plait.core.errors import FormatError, NotFoundError
from plait.quant import base as quant
from plait.weights import gguf_values
from plait.weights.gguf import MAX_ITEMS, GgufFile
from tests.weights.files import METADATA, TENSORS, read_everything, stored, write_gguf

U8, U32, BOOL, STRING, ARRAY, U64 = 0, 4, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str | bytes, kind: int, payload: bytes) -> bytes:
    """One metadata entry."""
    return text(key) + struct.pack("<I", kind) + payload


def record(name: str, dims: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    """One row of the tensor table; dims innermost first, as stored."""
    head = text(name) + struct.pack("<I", len(dims))
    return head + struct.pack(f"<{len(dims)}QIQ", *dims, kind, offset)


def image(
    pairs: tuple[bytes, ...] = (),
    records: tuple[bytes, ...] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A whole file put together by hand."""
    num_tensors, num_pairs = counts or (len(records), len(pairs))
    head = b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_pairs)
    head += b"".join(pairs) + b"".join(records)
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[bytes], GgufFile]:
    counter = itertools.count()

    def write_and_open(content: bytes) -> GgufFile:
        path = tmp_path / f"{next(counter)}.gguf"
        path.write_bytes(content)
        return GgufFile(path)

    return write_and_open


def test_metadata_has_the_types_and_values_that_were_written(tmp_path: Path) -> None:
    with GgufFile(write_gguf(tmp_path / "m.gguf")) as file:
        assert {key: file.metadata[key] for key in METADATA} == METADATA
        assert file.metadata["general.architecture"] == "llama"
        for key, value in METADATA.items():
            assert type(file.metadata[key]) is type(value)
        assert file.config is file.metadata
        assert file.tokenizer_source is file.metadata


def test_metadata_and_layout_equal_the_gguf_package(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    theirs = gguf.GGUFReader(path)
    with GgufFile(path) as file:
        assert file.metadata == {
            key: field.contents()
            for key, field in theirs.fields.items()
            if not key.startswith("GGUF.")
        }
        assert file.names() == [tensor.name for tensor in theirs.tensors]
        for tensor in theirs.tensors:
            info = file.info(tensor.name)
            assert (info.offset, info.nbytes) == (tensor.data_offset, tensor.n_bytes)
            assert info.shape == tuple(reversed(tensor.shape.tolist()))


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
def test_tensors_come_back_as_they_were_stored(tmp_path: Path, alignment: int | None) -> None:
    path = write_gguf(tmp_path / "m.gguf", alignment=alignment)
    with GgufFile(path) as file:
        assert set(file.names()) == set(TENSORS)
        assert file.file_bytes == path.stat().st_size
        for name, (format_name, shape) in TENSORS.items():
            info = file.info(name)
            assert (info.format_name, info.shape) == (format_name, shape)
            content = stored(format_name, shape)
            assert file.raw(name).tobytes() == content.tobytes()
            expected = quant.by_name(format_name).dequantize(content, shape)
            np.testing.assert_array_equal(file.dequantized(name), expected)


def test_raw_is_a_read_only_view_that_survives_close_and_release(tmp_path: Path) -> None:
    file = GgufFile(write_gguf(tmp_path / "m.gguf"))
    views = {name: file.raw(name) for name in file.names()}
    contents = {name: view.tobytes() for name, view in views.items()}
    for name, view in views.items():
        assert not view.flags.owndata
        assert not view.flags.writeable
        file.release(name)
    file.close()
    assert {name: view.tobytes() for name, view in views.items()} == contents


def test_a_missing_tensor_is_named_with_its_neighbours(tmp_path: Path) -> None:
    with (
        GgufFile(write_gguf(tmp_path / "m.gguf")) as file,
        pytest.raises(FormatError, match=r"no tensor 'blk.0.attn_k.weight'") as caught,
    ):
        file.raw("blk.0.attn_k.weight")
    assert "blk.0.attn_q.weight" in caught.value.hint


def test_version_2_is_read(opened: Callable[[bytes], GgufFile]) -> None:
    file = opened(image((pair("a", U32, b"\1\0\0\0"),), (record("t", (2,)),), bytes(8), version=2))
    assert file.metadata == {"a": 1}
    assert file.dequantized("t").tolist() == [0, 0]


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    with GgufFile(path) as file:
        end = max(tensor.offset + tensor.nbytes for tensor in file.tensors.values())
    for length in range(end - 1, 0, -3):
        os.truncate(path, length)
        with pytest.raises(FormatError) as caught:
            GgufFile(path)
        assert "\n" not in caught.value.message


def test_text_that_is_not_utf8_is_replaced_in_values(opened: Callable[[bytes], GgufFile]) -> None:
    array = struct.pack("<IQ", STRING, 2) + text(b"a\xff") + text("b")
    file = opened(image((pair("k", STRING, text(b"\xc3\x28")), pair("l", ARRAY, array))))
    assert file.metadata == {"k": "\ufffd(", "l": ["a\ufffd", "b"]}


def test_arrays_may_nest_a_little(opened: Callable[[bytes], GgufFile]) -> None:
    inner = struct.pack("<IQ", U8, 2) + b"\1\2"
    outer = struct.pack("<IQ", ARRAY, 2) + inner + inner
    assert opened(image((pair("k", ARRAY, outer),))).metadata == {"k": [[1, 2], [1, 2]]}


HUGE = (2**64 - 1, 2**63, 2**60, 2**32)
ONE = (record("t", (4,)),)
DEEP = struct.pack("<IQ", ARRAY, 1) * 1000
REFUSED: dict[str, tuple[bytes, str]] = {
    "wrong magic": (b"GGUX" + bytes(100), "no GGUF file"),
    "version 1": (image(version=1), "version 1 is not supported"),
    "version 4": (image(version=4), "version 4 is not supported"),
    "big endian": (image(version=3 << 24), "big-endian GGUF"),
    "duplicate key": (image((pair("a", BOOL, b"\1"),) * 2), "'a' appears twice"),
    "duplicate tensor": (image((), (record("t", (4,)),) * 2, bytes(64)), "'t' appears twice"),
    "key not UTF-8": (image((pair(b"\xff", BOOL, b"\1"),)), "not UTF-8"),
    "tensor name not UTF-8": (image((), (text(b"\xff") + bytes(40),)), "not UTF-8"),
    "empty key": (image((pair("", BOOL, b"\1"),)), "length of 0"),
    "value type": (image((pair("a", 13, bytes(8)),)), "unknown type 13"),
    "element type": (image((pair("a", ARRAY, struct.pack("<IQ", 99, 1)),)), "unknown type 99"),
    "boolean of 2": (image((pair("a", BOOL, b"\2"),)), "neither 0 nor 1"),
    "deep array": (image((pair("a", ARRAY, DEEP),)), "nested deeper"),
    "no dimensions": (image((), (record("t", ()),), bytes(64)), "0 dimensions"),
    "five dimensions": (image((), (record("t", (1,) * 5),), bytes(64)), "5 dimensions"),
    "empty dimension": (image((), (record("t", (4, 0)),), bytes(64)), r"shape \[0, 4\]"),
    "product overflow": (image((), (record("t", (2**32,) * 4),), bytes(64)), "no tensor can have"),
    "row length": (image((), (record("t", (33,), 8),), bytes(64)), "multiple of 32|rows of 33"),
    "unread type": (
        image((), (record("t", (32,), 39),), bytes(64)),
        "'t': weights stored as MXFP4",
    ),
    "unknown type": (image((), (record("t", (32,), 2**31),), bytes(64)), "type 2147483648"),
    "misaligned": (image((), (record("t", (4,), 0, 4),), bytes(64)), "no multiple of 32"),
    "past the end": (image((), (record("t", (4,), 0, 64),), bytes(64)), "the file ends at"),
    "overlap": (
        image((), (record("t", (9,)), record("u", (4,), 0, 32)), bytes(64)),
        "'t' and 'u' overlap",
    ),
    "same place": (image((), (record("t", (4,)), record("u", (4,))), bytes(64)), "overlap"),
    "split model": (image((pair("split.count", U32, b"\2\0\0\0"),)), "one of '2' parts"),
    "array of arrays": (
        image((pair("a", ARRAY, struct.pack("<IQ", ARRAY, gguf_values.MAX_ELEMENTS)),)),
        "ends at byte",
    ),
}
for size in HUGE:
    length = struct.pack("<Q", size)
    REFUSED |= {
        f"key of {size}": (image(counts=(0, 1)) + length + bytes(64), "length of|ends at"),
        f"string of {size}": (image((pair("a", STRING, length + bytes(64)),)), "ends at byte"),
        f"{size} tensors": (image(counts=(size, 0)), f"claims {size} tensors"),
        f"{size} keys": (image(counts=(0, size)), f"and {size} metadata keys"),
        f"{size} elements": (
            image((pair("a", ARRAY, struct.pack("<IQ", U8, size)),)),
            f"'a' has {size} elements",
        ),
        f"{size} strings": (
            image((pair("a", ARRAY, struct.pack("<IQ", STRING, size)),)),
            f"'a' has {size} elements",
        ),
        f"string of {size} in an array": (
            image((pair("a", ARRAY, struct.pack("<IQ", STRING, 2) + length),)),
            "ends at byte",
        ),
        f"dimension of {size}": (
            image((), (record("t", (size,)),), bytes(64)),
            "no tensor can have|the file ends at",
        ),
        f"offset of {size}": (
            image((), (record("t", (4,), 0, size // 32 * 32),), bytes(64)),
            "the file ends at",
        ),
    }
for value, kind in ((0, U32), (3, U32), (48, U32), (2**31, U32), (2**63, U64)):
    payload = struct.pack("<I" if kind == U32 else "<Q", value)
    content = image((pair("general.alignment", kind, payload),), ONE, bytes(64))
    REFUSED[f"alignment of {value}"] = (content, "general.alignment is")
REFUSED["alignment of words"] = (
    image((pair("general.alignment", STRING, text("32")),)),
    "general.alignment is",
)


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_file_may_hold_is_refused_in_one_line_and_little_memory(
    case: str, opened: Callable[[bytes], GgufFile]
) -> None:
    content, message = REFUSED[case]
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match=message) as caught:
            opened(content)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300
    assert peak < 4_000_000


def test_counts_at_the_limit_are_looked_for(opened: Callable[[bytes], GgufFile]) -> None:
    with pytest.raises(FormatError, match="claims"):
        opened(image(counts=(MAX_ITEMS + 1, 0)))
    with pytest.raises(FormatError, match="ends at byte"):
        opened(image(counts=(MAX_ITEMS, 0))[:24])


def test_the_elements_of_all_arrays_count_together(
    opened: Callable[[bytes], GgufFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_values, "MAX_ELEMENTS", 5)
    array = struct.pack("<IQ", U8, 3) + b"\1\2\3"
    assert opened(image((pair("a", ARRAY, array),))).metadata == {"a": [1, 2, 3]}
    with pytest.raises(FormatError, match="'b' has 3 elements"):
        opened(image((pair("a", ARRAY, array), pair("b", ARRAY, array))))


def test_a_header_beyond_its_limit_is_refused(
    opened: Callable[[bytes], GgufFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_values, "MAX_HEADER_BYTES", 1 << 20)
    big: Any = image((pair("a", STRING, text(bytes(1 << 20))),))
    with pytest.raises(FormatError, match="longer than 1 MB"):
        opened(big)


def test_paths_that_are_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="is empty"):
        GgufFile(tmp_path / "empty")
    with pytest.raises(FormatError, match="is not a file"):
        GgufFile(tmp_path)
    with pytest.raises(NotFoundError, match="there is no file"):
        GgufFile(tmp_path / "absent")
    with pytest.raises(FormatError, match="cannot be read"):
        GgufFile("a\0b")


def test_everything_in_a_valid_file_can_be_read(tmp_path: Path) -> None:
    with GgufFile(write_gguf(tmp_path / "m.gguf")) as file:
        read_everything(file)

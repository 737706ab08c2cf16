"""Damaged files: either a checkpoint whose every tensor can be read, or an error in words."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plait.core.errors import UserError
from plait.weights.open import open_checkpoint
from tests.weights.files import read_everything, write_gguf, write_safetensors

BOUND = 16_000_000
"""Python memory, in bytes, that opening a file of a few kilobytes may take, whatever it claims."""

EDGE_VALUES = (
    0,
    1,
    2**7,
    2**8 - 1,
    2**16,
    2**31 - 1,
    2**32 - 1,
    2**53,
    2**60,
    2**63 - 1,
    2**64 - 1,
)
FUZZ = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with bits flipped, whole fields replaced, and pieces cut out or repeated."""
    image = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(image) - 1)))
        kind = draw(st.sampled_from(("flip", "field", "byte", "cut", "truncate", "repeat")))
        if kind == "flip" and image:
            image[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "field":
            width, value = draw(st.sampled_from((4, 8))), draw(st.sampled_from(EDGE_VALUES))
            image[at : at + width] = struct.pack("<Q", value)[:width]
        elif kind == "byte":
            image[at : at + 1] = draw(st.binary(min_size=1, max_size=3))
        elif kind == "cut":
            del image[at : at + draw(st.integers(1, 64))]
        elif kind == "truncate":
            del image[at:]
        else:
            image[at:at] = image[at : at + draw(st.integers(1, 64))]
    return bytes(image)


def open_and_read(path: Path) -> None:
    message = ""
    tracemalloc.start()
    try:
        with open_checkpoint(path) as checkpoint:
            read_everything(checkpoint)
    except UserError as error:
        message = error.message
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "\n" not in message
    assert peak < BOUND


@pytest.fixture(scope="module")
def gguf_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_safetensors(tmp_path_factory.mktemp("hf"), shards=2)


@FUZZ
@given(data=st.data())
def test_damaged_gguf_files(tmp_path: Path, gguf_content: bytes, data: st.DataObject) -> None:
    # Most of the file is tensors, where nothing can go wrong; damage the header more often.
    header = gguf_content[: data.draw(st.sampled_from((1000, len(gguf_content))))]
    image = data.draw(damaged(header)) + gguf_content[len(header) :]
    path = tmp_path / "m.gguf"
    path.write_bytes(image)
    open_and_read(path)


@FUZZ
@given(data=st.data())
def test_damaged_safetensors_folders(hf_folder: Path, data: st.DataObject) -> None:
    contents = {file: file.read_bytes() for file in sorted(hf_folder.iterdir())}
    files = data.draw(st.lists(st.sampled_from(list(contents)), min_size=1, unique=True))
    images = [data.draw(damaged(contents[file])) for file in files]  # all, before any is written
    for file, content in zip(files, images, strict=True):
        file.write_bytes(content)
    try:
        open_and_read(hf_folder)
    finally:
        for file in files:
            file.write_bytes(contents[file])


@FUZZ
@given(
    content=st.binary(max_size=200),
    magic=st.sampled_from((b"GGUF\3\0\0\0", b"\x20" + bytes(7) + b"{", b"")),
)
def test_files_of_noise(tmp_path: Path, content: bytes, magic: bytes) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    path = tmp_path / "noise"
    path.write_bytes(magic + content)
    open_and_read(path)

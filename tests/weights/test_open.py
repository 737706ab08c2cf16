"""`open_checkpoint` looks at what a file contains; `MappedFile` gives memory back."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from plait.core.errors import FormatError, NotFoundError
from plait.weights.mapped import MappedFile
from plait.weights.open import open_checkpoint
from tests.weights.files import write_gguf, write_safetensors


@pytest.mark.parametrize("name", ["model.gguf", "model.safetensors", "noextension"])
def test_the_name_of_a_gguf_file_does_not_matter(tmp_path: Path, name: str) -> None:
    with open_checkpoint(write_gguf(tmp_path / name)) as checkpoint:
        assert checkpoint.kind == "gguf"


@pytest.mark.parametrize("name", ["model.gguf", "weights"])
def test_the_name_of_a_safetensors_file_does_not_matter(tmp_path: Path, name: str) -> None:
    folder = write_safetensors(tmp_path)
    (folder / "model.safetensors").rename(folder / name)
    with open_checkpoint(folder / name) as checkpoint:
        assert checkpoint.kind == "safetensors"


def test_folders_of_either_kind_are_opened(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "hf", shards=2)
    (tmp_path / "gguf").mkdir()
    write_gguf(tmp_path / "gguf" / "m.gguf")
    for kind, folder in (("safetensors", "hf"), ("gguf", "gguf")):
        with open_checkpoint(str(tmp_path / folder)) as checkpoint:
            assert checkpoint.kind == kind


def test_a_config_beside_a_gguf_file_does_not_hide_it(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.kind == "gguf"


def test_a_folder_must_hold_one_model(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="0 GGUF files and no config"):
        open_checkpoint(tmp_path)
    write_gguf(tmp_path / "a.gguf")
    write_gguf(tmp_path / "b.gguf")
    with pytest.raises(FormatError, match="2 GGUF files") as caught:
        open_checkpoint(tmp_path)
    assert "a.gguf, b.gguf" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        (b"PK\x03\x04rest", "zip archive"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"tjgg....", "before GGUF"),
        (b"something else", r"neither a GGUF nor a safetensors file\n"),
    ],
)
def test_other_files_are_told_apart(tmp_path: Path, content: bytes, guess: str) -> None:
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(FormatError, match=guess) as caught:
        open_checkpoint(tmp_path / "model.gguf")
    assert ".gguf" in caught.value.hint


def test_a_missing_path_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no file"):
        open_checkpoint(tmp_path / "absent")


def resident_pages(file: MappedFile) -> int:
    """4 KiB pages of the mapping that are in this process's memory, as the kernel counts them."""
    start = file.data.__array_interface__["data"][0]
    sections = Path("/proc/self/smaps").read_text(encoding="utf-8").split("VmFlags")
    section = next(text for text in sections if f"\n{start:x}-" in text)
    return int(section.split("\nRss:")[1].split()[0]) // 4


def test_release_gives_whole_pages_back_and_nothing_else(tmp_path: Path) -> None:
    page = mmap.PAGESIZE
    path = tmp_path / "pages"
    path.write_bytes(np.random.default_rng(0).bytes(64 * page + 100))
    file = MappedFile(path)
    content = file.data.tobytes()
    everything = resident_pages(file)
    file.release(page + 1, 2 * page)  # holds one whole page
    assert resident_pages(file) == everything - page // 4096
    file.release(5, 10)  # holds none
    file.release(0, 0)
    assert resident_pages(file) == everything - page // 4096
    file.release(0, file.size)
    assert resident_pages(file) == 0
    assert file.data.tobytes() == content

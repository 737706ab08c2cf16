"""A corpus from files: tokenised once, within its bytes, the files that were changed last; what is no text is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from plait.core.config import EngineConfig
from plait.core.errors import UserError
from plait.engine import beside, corpus


class Letters:
    """A tokenizer of letters that counts its work."""

    special_ids = frozenset[int]()

    def __init__(self) -> None:
        self.encoded = 0

    def vocabulary(self) -> list[bytes]:
        return [bytes([byte]) for byte in range(128)]

    def encode(self, text: str, *, add_special: bool) -> list[int]:
        assert not add_special
        self.encoded += 1
        return [ord(letter) % 128 for letter in text]


def write(folder: Path, **files: str) -> None:
    for time, (name, text) in enumerate(files.items(), 1):
        path = folder / f"{name}.txt"
        path.write_text(text, encoding="utf-8")
        os.utime(path, (time, time))


def found(made: corpus.Corpus, text: str) -> int:
    return made.find([ord(letter) for letter in text], 1).order


def test_files_of_a_folder_are_tokenised_once(tmp_path: Path) -> None:
    folder, cache, letters = tmp_path / "texts", tmp_path / "cache", Letters()
    (folder / "deep" / ".hidden").mkdir(parents=True)
    write(folder, a="abc", b="xyz", empty="")
    write(folder / "deep", c="mno")
    write(folder / "deep" / ".hidden", d="rst")
    (folder / "picture").write_bytes(b"\xff\x00")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    np.save(folder / "ids.npy", np.array([1, 2, 3]))
    np.save(folder / "wrong.npy", np.array([1, 200, 3]))
    made, words = corpus.load(str(folder), letters, cache)
    assert [found(made, text) for text in ("abc", "xyz", "mno", "\1\2\3")] == [3] * 4
    assert found(made, "rst") == 0
    assert "12 tokens of 4 files" in words
    assert "2 files are no text" in words
    assert letters.encoded == 3
    again, _ = corpus.load(str(folder), letters, cache)
    assert letters.encoded == 3
    assert again._bytes == made._bytes
    for kept in (cache / "corpus").iterdir():
        kept.write_bytes(kept.read_bytes()[:-5])
    corpus.load(str(folder), letters, cache)
    assert letters.encoded == 6


def test_what_was_changed_last_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MOST_BYTES", 90)
    write(tmp_path, old="abc", middle="d" * 5, new="xyzxy")
    made, words = corpus.load(str(tmp_path), Letters(), tmp_path / "cache")
    assert found(made, "xyz") == 3
    assert found(made, "abc") == found(made, "d") == 0
    assert made.num_bytes <= 90
    assert "2 files are left out" in words


def test_a_large_file_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MOST_BYTES", 90)
    write(tmp_path, old="abc")
    (tmp_path / "model.gguf").write_bytes(b"\0" * 200)
    (tmp_path / "small.bin").write_bytes(b"\0" * 50)
    made, words = corpus.load(str(tmp_path), Letters(), tmp_path / "cache")
    assert found(made, "abc") == 3
    assert "1 files are left out" in words
    assert "1 files are no text" in words


def test_what_was_kept_and_is_damaged_is_made_anew(tmp_path: Path) -> None:
    write(tmp_path, a="abcab")
    cache = tmp_path / ".cache"
    corpus.load(str(tmp_path), Letters(), cache)
    (kept,) = (cache / "corpus").iterdir()
    tokens = np.load(kept)
    tokens[0] += 10_000_000
    np.save(kept, tokens)
    made, _ = corpus.load(str(tmp_path), Letters(), cache)
    assert found(made, "abc") == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe", "is no corpus"), (b"a\0b", "is no corpus"), (b"", "holds no text")],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "file.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=words):
        corpus.load(str(file), Letters(), tmp_path)


def test_what_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no corpus"):
        corpus.load(str(tmp_path / "missing"), Letters(), tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="holds no text"):
        corpus.load(str(tmp_path / "none"), Letters(), tmp_path)
    file = tmp_path / "objects.npy"
    np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="token ids below 128"):
        corpus.load(str(file), Letters(), tmp_path)
    file = tmp_path / "claims.npy"
    np.save(file, np.arange(8))
    file.write_bytes(file.read_bytes().replace(b"(8,), }" + b" " * 12, b"(9000000000000,), }"))
    assert b"9000000000000" in file.read_bytes()
    with pytest.raises(UserError, match="token ids below 128"):
        corpus.load(str(file), Letters(), tmp_path)
    file = tmp_path / "long.txt"
    file.write_text("abcdefghijk")
    monkeypatch.setattr(corpus, "MOST_BYTES", 40)
    with pytest.raises(UserError, match="at most 5 tokens"):
        corpus.load(str(file), Letters(), tmp_path)


def test_only_proposers_that_look_up_take_one() -> None:
    config = EngineConfig("x", corpus="somewhere", proposer="none")
    with pytest.raises(UserError, match="looks nothing up"):
        beside.corpus(config, Letters)
    with pytest.raises(UserError, match="tokenizer"):
        beside.corpus(EngineConfig("x", corpus="y", proposer="auto"), None)
    assert beside.corpus(EngineConfig("x"), None) == (None, ())

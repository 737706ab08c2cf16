"""The corpus of `lookahead`: text files to tokens in order, made once and kept below the cache folder."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from plait.core.config import VERSION
from plait.core.errors import UserError
from plait.core.window import Ints
from plait.grammar.base import Lexicon
from plait.proposers.corpus import TOKEN_BYTES, Corpus, gathered, sorted_places

MOST_BYTES = 64 << 20
"""Of memory for a corpus, and of text that is read for it."""
TOKENS = ".npy"
"""A file whose name ends so holds token ids instead of text."""


class Read(NamedTuple):
    """documents: contents of the files that are in, the newest first. left_out: files there was no room for.
    no_text: files that hold something else."""

    documents: list[bytes | Ints]
    left_out: int
    no_text: int


def load(where: str, lexicon: Lexicon, folder: Path) -> tuple[Corpus, str]:
    """The corpus of a file or of all files below a folder, and a line on it. folder: where it is kept.

    Where there is more than MOST_BYTES allow, the files that were changed last are in. Raises UserError.
    """
    path = Path(where).expanduser()
    read = _read(path, len(lexicon.vocabulary()))
    if not read.documents:
        raise UserError(f"the corpus {where} holds no text", "files in UTF-8, or token ids in .npy")
    kept = folder / "corpus" / f"{_digest(read.documents, lexicon)}.npy"
    made = _kept(kept, len(lexicon.vocabulary()))
    if made is None:
        made = _make(read.documents, lexicon)
        _keep(kept, made)
    tokens, places = made
    corpus = Corpus(tokens, places)
    documents = int((tokens < 0).sum())
    left_out = read.left_out + len(read.documents) - documents
    words = f"corpus: {len(corpus) - documents:,} tokens of {documents:,} files, {corpus.num_bytes / 1e6:.1f} MB"
    more = f"; {left_out:,} files are left out, for want of room" if left_out else ""
    other = f"; {read.no_text:,} files are no text" if read.no_text else ""
    return corpus, words + more + other


def _read(path: Path, vocab_size: int) -> Read:
    if not path.exists():
        raise UserError(f"there is no corpus {path}", "a file or a folder of text")
    if path.is_file():
        content = _content(path, vocab_size)
        if content is None:
            raise UserError(
                f"{path} is no corpus",
                f"text in UTF-8 or, in .npy, token ids below {vocab_size}; {MOST_BYTES >> 20} MB at most",
            )
        return Read([content] if len(content) else [], 0, 0)
    files = sorted(_files(path), key=lambda found: (-found[0], found[1]))
    documents: list[bytes | Ints] = []
    room, left_out, no_text = MOST_BYTES, 0, 0
    for place, (_, size, file) in enumerate(files):
        content = _content(file, vocab_size) if size <= MOST_BYTES else b""
        if content is None:
            no_text += 1
        elif size > MOST_BYTES:  # whatever it is
            left_out += 1
        elif size > room:
            return Read(documents, left_out + len(files) - place, no_text)
        elif len(content):
            documents.append(content)
            room -= size
    return Read(documents, left_out, no_text)


def _files(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """When it was changed, its size and its path, of every file; links are not followed."""
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                facts = path.stat()
                yield facts.st_mtime_ns, facts.st_size, path


def _content(file: Path, vocab_size: int) -> bytes | Ints | None:
    """What a file holds, None for what is no text and no token ids. Raises UserError for one that cannot be read."""
    try:
        if file.stat().st_size > MOST_BYTES:
            return None
        if file.suffix == TOKENS:
            return _ids(file, vocab_size)
        content = file.read_bytes()
        content.decode("utf-8")
    except UnicodeDecodeError:
        return None
    except OSError as error:
        raise UserError(f"the corpus cannot be read: {error}") from None
    return None if b"\0" in content else content


def _ids(file: Path, vocab_size: int) -> Ints | None:
    try:
        # Mapped, so that a header that claims more than the file holds is refused, and takes no memory.
        with warnings.catch_warnings(action="ignore"):
            ids = np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception:  # NumPy says it in many ways when a file is no array
        return None
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu":
        return None
    if len(ids) and not 0 <= ids.min() <= ids.max() < vocab_size:
        return None
    return ids.astype(np.int32)


def _digest(documents: list[bytes | Ints], lexicon: Lexicon) -> str:
    """Of all that a kept corpus depends on."""
    digest = hashlib.sha256(f"Plait {VERSION} {MOST_BYTES}".encode())
    for token in lexicon.vocabulary():
        digest.update(len(token).to_bytes(4, "little") + token)
    for document in documents:
        content = document if isinstance(document, bytes) else document.tobytes()
        digest.update(type(document).__name__.encode() + len(content).to_bytes(8, "little"))
        digest.update(content)
    return digest.hexdigest()[:32]


def _make(documents: list[bytes | Ints], lexicon: Lexicon) -> Ints:
    """Tokens and their order, int32 [2, n], of as many of the documents as there is room for, the first first."""
    room, inside = MOST_BYTES // TOKEN_BYTES, list[Ints]()
    for document in documents:
        ids = document if isinstance(document, np.ndarray) else _encoded(document, lexicon)
        if len(ids) < room:
            inside.append(ids)
            room -= len(ids) + 1
        elif inside:
            break
    if not inside:
        raise UserError(
            "the corpus is too large", f"files of at most {MOST_BYTES // TOKEN_BYTES:,} tokens"
        )
    tokens = gathered(inside)
    return np.stack([tokens, sorted_places(tokens)])


def _encoded(text: bytes, lexicon: Lexicon) -> Ints:
    return np.array(lexicon.encode(text.decode("utf-8"), add_special=False), np.int32)


def _kept(file: Path, vocab_size: int) -> Ints | None:
    """What was kept; None if there is nothing, or not what we write."""
    try:
        made = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if not isinstance(made, np.ndarray) or made.dtype != np.int32 or made.shape[:1] != (2,):
        return None
    count = made.shape[-1]
    fits = made.ndim == 2 and 0 < count <= MOST_BYTES // TOKEN_BYTES
    if not fits or not -1 <= made[0].min() <= made[0].max() < vocab_size:
        return None
    return made if 0 <= made[1].min() <= made[1].max() < count else None


def _keep(file: Path, made: Ints) -> None:
    """A folder that cannot be written is no error: then it is made anew each time."""
    partial = file.with_suffix(f".{os.getpid()}.npy")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        np.save(partial, made, allow_pickle=False)
        partial.replace(file)

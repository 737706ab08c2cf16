"""Open a checkpoint by what it contains; the file's name does not matter."""

from __future__ import annotations

from pathlib import Path

from plait.core.errors import FormatError
from plait.weights import gguf
from plait.weights.base import Checkpoint
from plait.weights.gguf import GgufFile
from plait.weights.mapped import MappedFile
from plait.weights.safetensors import SafetensorsCheckpoint

_LOOKALIKES = {
    b"PK\x03\x04": "a zip archive, perhaps PyTorch weights",
    b"\x80": "a Python pickle, perhaps PyTorch weights",
    b"version https://git-lfs": "a Git LFS pointer; the file itself was not downloaded",
    b"<": "a web page",
    b"ggjt": "a GGML file from before GGUF",
    b"tjgg": "a GGML file from before GGUF",
    b"GGLA": "a LoRA adapter from before GGUF",
}
"""First bytes -> what a file that is no checkpoint probably is."""


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Map a GGUF file, a .safetensors file, or a folder that holds one of them.

    Raises NotFoundError or FormatError; what it returns has been validated.
    """
    path = Path(path)
    if path.is_dir():
        return _open_folder(path)
    start = _first_bytes(path)
    if start.startswith(gguf.MAGIC):
        return GgufFile(path)
    if start[8:9] == b"{":
        return SafetensorsCheckpoint(path)
    kinds = [kind for magic, kind in _LOOKALIKES.items() if start.startswith(magic)]
    is_it = f"; it looks like {kinds[0]}" if kinds else ""
    raise FormatError(
        f"{path} is neither a GGUF nor a safetensors file{is_it}",
        "give a .gguf file, or a folder with config.json and .safetensors files",
    )


def _open_folder(folder: Path) -> Checkpoint:
    files = sorted(folder.glob("*.gguf"))
    has_config = (folder / "config.json").exists()
    if any(folder.glob("*.safetensors")) or (has_config and not files):
        return SafetensorsCheckpoint(folder)
    if len(files) == 1:
        return GgufFile(files[0])
    names = ", ".join(file.name for file in files[:20])
    raise FormatError(
        f"{folder} holds {len(files)} GGUF files and no config.json",
        f"give one of the files: {names}" if files else "give a folder with a model in it",
    )


def _first_bytes(path: Path) -> bytes:
    file = MappedFile(path)
    try:
        return file.data[:64].tobytes()
    finally:
        file.close()

"""GGUF files, versions 2 and 3: metadata and tensors in one file.

Layout: magic, u32 version, u64 tensor count, u64 metadata count, the metadata pairs, one record per
tensor (name, dimensions innermost first, type, offset), padding, the tensors. Source: the GGUF
specification in the ggml repository (docs/gguf.md). Every number is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plait.core.errors import FormatError
from plait.quant import base as quant
from plait.weights.base import Checkpoint, TensorInfo, refuse_overlaps, shown
from plait.weights.gguf_values import Cursor
from plait.weights.mapped import MappedFile

MAGIC = b"GGUF"
VERSIONS = (2, 3)
MAX_ITEMS = 1 << 17
"""Most tensors, and most metadata keys, of one file."""

MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 16
DEFAULT_ALIGNMENT = 32


class GgufFile(Checkpoint):
    """An open GGUF file. metadata: key -> int, float, bool, str, or list of them.

    Raises FormatError for everything that is not exactly as the format says.
    """

    kind = "gguf"

    def __init__(self, path: Path | str) -> None:
        file = MappedFile(Path(path))
        try:
            cursor = Cursor(file.data, file.path.name)
            num_tensors, num_keys = _read_counts(cursor)
            self.metadata = _read_metadata(cursor, num_keys)
            alignment = _alignment(self.metadata, cursor)
            records = [_Record(cursor) for _ in range(num_tensors)]
            self._start = -(-cursor.position // alignment) * alignment
            tensors = _place(records, cursor, file, self._start, alignment)
        except FormatError:
            file.close()
            raise
        super().__init__([file], tensors)

    @property
    def config(self) -> Mapping[str, Any]:
        return self.metadata

    @property
    def tokenizer_source(self) -> Mapping[str, Any]:
        return self.metadata

    def forget_tokenizer(self) -> None:
        """A large vocabulary takes tens of megabytes, as text here and as pages of the file."""
        for key in [key for key in self.metadata if key.startswith("tokenizer.")]:
            del self.metadata[key]
        self._files[0].release(0, self._start)


class _Record:
    """One row of the tensor table, as it is in the file."""

    def __init__(self, cursor: Cursor) -> None:
        self.name = cursor.identifier("a tensor name")
        num_dims = cursor.u32()
        if not 1 <= num_dims <= MAX_DIMS:
            raise cursor.error(f"tensor {shown(self.name)} has {num_dims} dimensions")
        self.shape = tuple(reversed([cursor.u64() for _ in range(num_dims)]))
        self.ggml_type = cursor.u32()
        self.offset = cursor.u64()


def _read_counts(cursor: Cursor) -> tuple[int, int]:
    if cursor.take(len(MAGIC)) != MAGIC:
        raise cursor.error("this is no GGUF file", "a GGUF file begins with the letters GGUF")
    version = cursor.u32()
    if version not in VERSIONS:
        is_swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
        kind = "big-endian GGUF" if is_swapped else f"GGUF version {version}"
        raise cursor.error(f"{kind} is not supported", "readable: little-endian versions 2 and 3")
    num_tensors, num_keys = cursor.u64(), cursor.u64()
    if max(num_tensors, num_keys) > MAX_ITEMS:
        raise cursor.error(
            f"it claims {num_tensors} tensors and {num_keys} metadata keys",
            f"at most {MAX_ITEMS} of each are read",
        )
    return num_tensors, num_keys


def _read_metadata(cursor: Cursor, num_keys: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(num_keys):
        key = cursor.identifier("a metadata key")
        if key in metadata:
            raise cursor.error(f"metadata key {shown(key)} appears twice")
        metadata[key] = cursor.value(key)
    parts = metadata.get("split.count", 1)
    if not (isinstance(parts, int) and parts <= 1):
        raise cursor.error(
            f"this is one of {shown(str(parts))} parts of a split model",
            "join them into one file first (llama-gguf-split --merge)",
        )
    return metadata


def _alignment(metadata: Mapping[str, Any], cursor: Cursor) -> int:
    found = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    is_whole = isinstance(found, int) and not isinstance(found, bool)
    if not (is_whole and 1 <= found <= MAX_ALIGNMENT and found.bit_count() == 1):
        raise cursor.error(
            f"general.alignment is {shown(str(found))}", f"a power of two up to {MAX_ALIGNMENT}"
        )
    return int(found)


def _place(
    records: list[_Record], cursor: Cursor, file: MappedFile, start: int, alignment: int
) -> dict[str, TensorInfo]:
    """Turn records into tensors known to lie inside the file, apart from each other."""
    tensors: dict[str, TensorInfo] = {}
    for record in records:
        if record.name in tensors:
            raise cursor.error(f"tensor {shown(record.name)} appears twice")
        tensors[record.name] = _tensor(record, cursor, file, start, alignment)
    refuse_overlaps(tensors.values(), cursor.where)
    return tensors


def _tensor(
    record: _Record, cursor: Cursor, file: MappedFile, start: int, alignment: int
) -> TensorInfo:
    label = f"tensor {shown(record.name)}"
    if 0 in record.shape:
        raise cursor.error(f"{label} has the shape {list(record.shape)}")
    try:
        weight_format = quant.by_ggml_type(record.ggml_type)
        size = weight_format.nbytes(record.shape)
    except FormatError as error:
        raise cursor.error(f"{label}: {error.message}", error.hint) from error
    if record.offset % alignment:
        raise cursor.error(f"{label} is at {record.offset}, no multiple of {alignment}")
    offset = start + record.offset
    if offset + size > file.size:
        raise cursor.error(
            f"{label} would end at byte {offset + size}, the file ends at {file.size}",
            "it is damaged or was not copied completely",
        )
    return TensorInfo(record.name, weight_format.name, record.shape, file, offset, size)

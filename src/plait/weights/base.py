"""What a checkpoint is to the rest of the engine, whatever file format it came in."""

from __future__ import annotations

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from plait.core.errors import FormatError
from plait.quant import base as quant
from plait.quant.base import Bytes, Floats
from plait.weights.mapped import MappedFile


@dataclass(frozen=True)
class TensorInfo:
    """One stored tensor.

    format_name: a sibling of `quant`. shape: row-major, a matrix is (out features, in features).
    file, offset, nbytes: where its bytes are; checked to lie inside the file.
    """

    name: str
    format_name: str
    shape: tuple[int, ...]
    file: MappedFile
    offset: int
    nbytes: int


class Checkpoint(ABC):
    """A model's stored weights and configuration; files stay mapped until `close`.

    Opening one validates everything (sizes, offsets, names) and reads no weights.
    """

    kind: Literal["gguf", "safetensors"]

    def __init__(self, files: Iterable[MappedFile], tensors: Mapping[str, TensorInfo]) -> None:
        self._files = tuple(files)
        self.tensors = tensors

    @property
    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """GGUF: the metadata. safetensors: config.json."""

    @property
    @abstractmethod
    def tokenizer_source(self) -> Mapping[str, Any] | Path:
        """GGUF: the metadata. safetensors: the folder where tokenizer.json and its kin may be."""

    @property
    def file_bytes(self) -> int:
        """Bytes of all the files together."""
        return sum(file.size for file in self._files)

    def names(self) -> list[str]:
        """Names of the tensors, in file order."""
        return list(self.tensors)

    def info(self, name: str) -> TensorInfo:
        """Raises FormatError, naming the nearest tensors, when there is none of this name."""
        if name in self.tensors:
            return self.tensors[name]
        near = difflib.get_close_matches(name, self.tensors, n=3)
        raise FormatError(
            f"the model file has no tensor {name!r}", f"nearest: {', '.join(near)}" if near else ""
        )

    def raw(self, name: str) -> Bytes:
        """The stored bytes, uint8 [nbytes], a read-only view of the mapped file."""
        info = self.info(name)
        return info.file.view(info.offset, info.nbytes)

    def release(self, name: str, begin: int = 0, end: int | None = None) -> None:
        """Give back the memory that reading bytes [begin, end) of this tensor took.

        They can be read again at any time. end: None for all that the tensor has.
        """
        info = self.info(name)
        last = info.nbytes if end is None else end
        assert 0 <= begin <= last <= info.nbytes
        info.file.release(info.offset + begin, last - begin)

    def dequantized(self, name: str) -> Floats:
        """The weights as float32, in the tensor's shape."""
        info = self.info(name)
        return quant.by_name(info.format_name).dequantize(self.raw(name), info.shape)

    @abstractmethod
    def forget_tokenizer(self) -> None:
        """Give back the memory that `tokenizer_source` takes; it is of no use from then on."""

    def close(self) -> None:
        """Unmap the files; arrays handed out by `raw` stay valid."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def shown(name: str) -> str:
    """A name from a file, fit for a one-line message whatever it contains."""
    return repr(name if len(name) <= 80 else f"{name[:77]}...")


def refuse_overlaps(tensors: Iterable[TensorInfo], where: str) -> None:
    """Raise FormatError if two tensors of one file share bytes."""
    previous: TensorInfo | None = None
    for tensor in sorted(tensors, key=lambda each: (each.offset, each.nbytes)):
        if previous is not None and tensor.offset < previous.offset + previous.nbytes:
            names = f"{shown(previous.name)} and {shown(tensor.name)}"
            raise FormatError(f"{where}: tensors {names} overlap")
        previous = tensor

"""Typed values of a GGUF header, read from the mapped file with every length checked first.

Layout (GGUF specification, versions 2 and 3, little endian): a string is a u64 length and UTF-8
bytes; an array is a u32 element type, a u64 count and the elements; an element may itself be an
array.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from plait.core.errors import FormatError
from plait.kernels.header import read_strings
from plait.quant.base import Bytes
from plait.weights.base import shown

MAX_HEADER_BYTES = 256 << 20
MAX_ELEMENTS = 1 << 23
"""Array elements in all the metadata; the largest vocabularies with their merges need a sixth."""

MAX_NESTING = 3
MAX_KEY_BYTES = 65_535

_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "<u1", 10: "<u8",
    11: "<i8", 12: "<f8",
}  # fmt: skip
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")


class Cursor:
    """Reads a header front to back. `where` names the file in messages."""

    def __init__(self, data: Bytes, where: str) -> None:
        self.where = where
        self.position = 0
        self._end = min(data.size, MAX_HEADER_BYTES)
        self._bytes = data[: self._end]
        self._data = data.data
        self._elements = MAX_ELEMENTS

    def error(self, problem: str, hint: str = "") -> FormatError:
        """A FormatError that names the file."""
        return FormatError(f"{self.where}: {problem}", hint)

    def skip(self, size: int) -> int:
        """Skip `size` bytes; returns where they start. FormatError if the header ends before."""
        start = self.position
        if size > self._end - start:
            raise self._truncated()
        self.position = start + size
        return start

    def _truncated(self) -> FormatError:
        if self._end == MAX_HEADER_BYTES:
            return self.error(f"its header is longer than {MAX_HEADER_BYTES >> 20} MB")
        return self.error(
            f"the file ends at byte {self._end}, in the middle of its header",
            "it is damaged or was not copied completely",
        )

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        start = self.skip(size)
        return bytes(self._data[start : start + size])

    def u32(self) -> int:
        """The next four bytes, unsigned."""
        return int(_U32.unpack_from(self._data, self.skip(4))[0])

    def u64(self) -> int:
        """The next eight bytes, unsigned."""
        return int(_U64.unpack_from(self._data, self.skip(8))[0])

    def identifier(self, what: str) -> str:
        """A key or tensor name: strict UTF-8 of bounded length."""
        length = self.u64()
        if not 0 < length <= MAX_KEY_BYTES:
            raise self.error(f"{what} has a length of {length} bytes")
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8") from error

    def value(self, key: str) -> Any:
        """The typed value of `key`: int, float, bool, str, or a list of them."""
        return self._value(self.u32(), key, 0)

    def _value(self, kind: int, key: str, depth: int) -> Any:
        if kind == _ARRAY:
            return self._array(key, depth + 1)
        if kind == _STRING:
            return self._strings(1)[0]
        return self._numbers(kind, 1, key)[0]

    def _array(self, key: str, depth: int) -> list[Any]:
        if depth > MAX_NESTING:
            raise self.error(f"{shown(key)} is nested deeper than {MAX_NESTING} arrays")
        kind, count = self.u32(), self.u64()
        if count > self._elements:
            raise self.error(f"{shown(key)} has {count} elements, more than fit any model")
        self._elements -= count
        if kind == _STRING:
            return self._strings(count)
        if kind == _ARRAY:
            return [self._array(key, depth + 1) for _ in range(count)]
        return self._numbers(kind, count, key)

    def _numbers(self, kind: int, count: int, key: str) -> list[Any]:
        if kind not in _NUMBERS:
            raise self.error(f"{shown(key)} has a value of unknown type {kind}")
        dtype = np.dtype(_NUMBERS[kind])
        start = self.skip(count * dtype.itemsize)
        found = np.frombuffer(self._data, dtype, count, start)
        if kind != _BOOL:
            return list(found.tolist())
        if found.size and found.max() > 1:
            raise self.error(f"{shown(key)} has a boolean that is neither 0 nor 1")
        return list(found.astype(bool).tolist())

    def _strings(self, count: int) -> list[str]:
        """Text in metadata may be anything: bytes that are not UTF-8 become U+FFFD."""
        found, self.position = read_strings(self._bytes, self.position, count)
        if len(found) < count:
            raise self._truncated()
        return found

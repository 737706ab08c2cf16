"""A file mapped into memory, read-only: nothing is read before it is touched."""

from __future__ import annotations

import mmap
import os
import stat
from pathlib import Path

import numpy as np

from plait.core.errors import FormatError, NotFoundError
from plait.quant.base import Bytes


class MappedFile:
    """path: the file. size: its bytes when it was opened. data: all of them, uint8 [size], no copy.

    Raises NotFoundError, or FormatError when it is no readable, non-empty, regular file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Asked before opening: opening a named pipe would wait for a writer.
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise FormatError(f"{path} is not a file")
            with path.open("rb") as file:
                self.size = os.fstat(file.fileno()).st_size
                if self.size == 0:
                    raise FormatError(f"{path} is empty")
                self._mapping = mmap.mmap(file.fileno(), self.size, access=mmap.ACCESS_READ)
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no file {path}") from error
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            raise FormatError(f"{path} cannot be read: {error}") from error
        self.data: Bytes = np.frombuffer(self._mapping, dtype=np.uint8)

    def view(self, offset: int, size: int) -> Bytes:
        """uint8 [size] from byte `offset` on, no copy. The caller has checked both."""
        assert 0 <= offset <= offset + size <= self.size
        return self.data[offset : offset + size]

    def release(self, offset: int, size: int) -> None:
        """Give back the memory of the pages wholly in this range; they can be read again."""
        page = mmap.PAGESIZE
        start = -(-offset // page) * page
        end = self.size if offset + size == self.size else (offset + size) // page * page
        if start < end:
            self._mapping.madvise(mmap.MADV_DONTNEED, start, end - start)

    def close(self) -> None:
        """Unmap now, or when the last array that still shows a part of it is gone."""
        self.data = np.empty(0, dtype=np.uint8)
        try:
            self._mapping.close()
        except BufferError:  # views are alive; the mapping goes with the last of them
            return

"""Reading the strings in a model file's header, hundreds of thousands of them at every start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from plait import _C


def read_strings(data: NDArray[np.uint8], position: int, count: int) -> tuple[list[str], int]:
    """Strings from byte `position` of uint8 [size] on, and where the last of them ends.

    Each is a length, u64 little endian, and so many bytes of UTF-8; bytes that are none become U+FFFD.
    Fewer than `count` when the data ends before.
    """
    return _C.read_strings(data, position, count)

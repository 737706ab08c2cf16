"""`plait` with a model that fails for one kind of request: the one whose seed is FAULT.

Run as a module, with the arguments of `plait`.
"""

from __future__ import annotations

from collections.abc import Sequence as Listing
from typing import Any

from plait.__main__ import main
from plait.core.step import StepInput
from plait.runner.native import NativeRunner

FAULT = 666

forward = NativeRunner.forward


def failing(self: NativeRunner, inputs: Listing[StepInput]) -> list[Any]:
    if any(one.sequence.params.seed == FAULT for one in inputs):
        raise RuntimeError("a fault that a test put here")
    return forward(self, inputs)


if __name__ == "__main__":
    NativeRunner.forward = failing  # type: ignore[method-assign]
    main()

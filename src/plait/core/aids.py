"""What an engine has for its decoders besides logits: who can read and write text, and another model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from plait.core.sequence import Sequence
from plait.core.window import Floats


class Amateur(Protocol):
    """Another model of the same vocabulary that reads along."""

    def logits(self, seq: Sequence) -> Floats:
        """Behind the end of the canvas, float32 [vocab_size]. Raises CapacityError for one that it cannot hold."""
        ...


class Texts(Protocol):
    """Who knows the model's tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt. Raises UserError for one that is too long."""
        ...

    def rewrite(self, ids: list[int], change: Callable[[str], str]) -> list[int]:
        """Token ids of what `change` makes of the text of a prompt; the same ids where it changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Aids:
    """amateur: the model that was loaded beside the engine's own, by the name that it was asked for. Each may be
    missing."""

    texts: Texts | None = None
    amateur: Amateur | None = None
    amateur_name: str = ""


NO_AIDS = Aids()

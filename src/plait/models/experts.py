"""Mixtures of experts: where their weights are and how a row chooses among them (arXiv:1701.06538)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from plait.core.errors import FormatError
from plait.models.config import Reader

MOST_EXPERTS = 4096

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Experts:
    """The matrices of a layer's `count` experts, of which each is down(activation(gate x) * up x).

    gate, up, down: tensor names; one tensor [count, rows, columns] each where is_stacked (GGUF), else
    `count` matrices.
    """

    gate: tuple[str, ...]
    up: tuple[str, ...]
    down: tuple[str, ...]
    count: int
    is_stacked: bool
    activation: str

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.gate, *self.up, *self.down)

    def width(self, shapes: Shapes, columns: int) -> int:
        """Columns of the result for an input of `columns`. Raises FormatError for tensors that do not fit."""
        inner, width = self._shape(shapes, self.gate[0])[0], self._shape(shapes, self.down[0])[0]
        wanted = {self.gate: (inner, columns), self.up: (inner, columns), self.down: (width, inner)}
        for names, shape in wanted.items():
            for name in names:
                if self._shape(shapes, name) != shape:
                    raise _misfit(shapes, name, f"experts of {list(shape)}")
        return width

    def _shape(self, shapes: Shapes, name: str) -> tuple[int, ...]:
        """Of one expert."""
        shape = shapes[name]
        if self.is_stacked and (len(shape) != 3 or shape[0] != self.count):
            raise _misfit(shapes, name, f"{self.count} matrices")
        if not self.is_stacked and len(shape) != 2:
            raise _misfit(shapes, name, "a matrix")
        return shape[-2:]


@dataclass(frozen=True, slots=True)
class Routing:
    """How a row chooses `top_k` experts by its scores, and what each of them counts.

    score: "softmax" over all experts, or "sigmoid" of each. bias: name of a vector that is added for the choice
    alone (arXiv:2408.15664). groups: the experts lie in so many equal groups, and only the `top_groups` take
    part whose two best add up to most (arXiv:2412.19437). normalize: the weights of the chosen are divided by
    their sum. scale: then all are multiplied by it.
    """

    top_k: int
    score: str = "softmax"
    bias: str | None = None
    groups: int = 1
    top_groups: int = 1
    normalize: bool = False
    scale: float = 1.0

    def check(self, count: int) -> None:
        """Raise FormatError unless `top_k` of `count` experts can be chosen."""
        size = count // self.groups
        fits = count % self.groups == 0 and self.top_groups <= self.groups
        if not fits or self.top_k > size * self.top_groups or (self.groups > 1 and size < 2):
            groups = f" in {self.top_groups} of {self.groups} groups" if self.groups > 1 else ""
            raise FormatError(
                f"a row cannot choose {self.top_k} of {count} experts{groups}",
                "a damaged configuration",
            )


def expert_count(reader: Reader, *keys: str) -> int:
    """How many experts a layer has. Raises FormatError for a number that no model has."""
    return reader.integer(*keys, least=1, most=MOST_EXPERTS)


def _misfit(shapes: Shapes, name: str, wanted: str) -> FormatError:
    return FormatError(f"tensor {name} has shape {list(shapes[name])}", f"{wanted} belong here")

"""Medusa's heads (arXiv:2401.10774): further heads on the last hidden state, each for a token further ahead.

The file is safetensors with the names of the published heads, with or without "medusa_head." before them: of head k

    {k}.{i}.linear.weight, {k}.{i}.linear.bias    residual block i: x + silu(weight x + bias), [width, width], [width]
    {k}.{n}.weight                                behind its n blocks: logits [vocabulary, width]

The last may be missing in all heads: then the model's own head gives the logits.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from plait.core.errors import FormatError
from plait.core.sequence import Sequence
from plait.core.window import Floats
from plait.runner.drafter import NEW, best
from plait.runner.watched import Watched
from plait.weights.safetensors import read_tensors

MOST_HEADS = 16
PREFIX = "medusa_head."
NAME = re.compile(r"(\d+)\.(\d+)\.(linear\.weight|linear\.bias|weight)")


class Head(NamedTuple):
    """blocks: weight and bias of each. out: float32 [vocabulary, width], None for the model's own."""

    blocks: list[tuple[Floats, Floats]]
    out: Floats | None


class Heads:
    """Guesses for what follows the last token of a canvas. seconds: what a guessed token takes, a mean in which the
    latest count most."""

    def __init__(self, runner: Watched, heads: list[Head]) -> None:
        self._runner = runner
        self._heads = heads
        self.seconds = 0.0

    def levels(self, seq: Sequence, depth: int, breadth: int) -> list[list[tuple[int, float]]]:
        """For each of the next tokens, at most `depth`, the likeliest `breadth` with their probabilities, best first.
        Nothing where the last forward of the request did not compute its last token."""
        state = self._runner.state(seq)
        if state is None:
            return []
        begin = time.perf_counter()
        heads = self._heads[:depth]
        moved = np.stack([_moved(head, state) for head in heads])
        own = [head.out is None for head in heads]
        rows = self._runner.head(moved) if all(own) else _products(heads, moved)
        found = [best(row, breadth) for row in rows]
        took = (time.perf_counter() - begin) / len(found)
        self.seconds += (took - self.seconds) * (NEW if self.seconds else 1.0)
        return found


def load(path: Path, runner: Watched, vocabulary: int) -> Heads:
    """Raises FormatError, NotFoundError for a file that holds no heads for a model of this width and vocabulary."""
    width = runner.width
    tensors = {name.removeprefix(PREFIX): values for name, values in read_tensors(path).items()}
    parts: dict[int, dict[int, dict[str, Floats]]] = {}
    for name, values in tensors.items():
        found = NAME.fullmatch(name)
        if not found:
            _refuse(
                path,
                f"the tensor {name[:64]!r} belongs to no head",
                "names such as 0.0.linear.weight",
            )
        head, layer = int(found[1]), int(found[2])
        parts.setdefault(head, {}).setdefault(layer, {})[found[3]] = values
    if sorted(parts) != list(range(len(parts))) or not 0 < len(parts) <= MOST_HEADS:
        numbers = ", ".join(map(str, sorted(parts)[:20])) or "none"
        _refuse(path, f"its heads are numbered {numbers}", f"0 to at most {MOST_HEADS - 1}")
    heads = [_head(path, number, parts[number], width, vocabulary) for number in sorted(parts)]
    if len({head.out is None for head in heads}) > 1:
        _refuse(path, "some of its heads have logits of their own and some do not", "all or none")
    return Heads(runner, heads)


def _head(
    path: Path, number: int, layers: dict[int, dict[str, Floats]], width: int, vocabulary: int
) -> Head:
    blocks: list[tuple[Floats, Floats]] = []
    out: Floats | None = None
    for layer in sorted(layers):
        own = layers[layer]
        where = f"layer {layer} of head {number}"
        if layer != len(blocks) or out is not None:
            _refuse(path, f"{where} does not follow the one before it", "layers without a gap")
        if set(own) == {"weight"}:
            out = _shaped(path, where, own["weight"], (vocabulary, width))
        elif set(own) == {"linear.weight", "linear.bias"}:
            weight = _shaped(path, where, own["linear.weight"], (width, width))
            blocks.append((weight, _shaped(path, where, own["linear.bias"], (width,))))
        else:
            _refuse(
                path,
                f"{where} has {', '.join(sorted(own))}",
                "linear.weight and linear.bias, or weight",
            )
    return Head(blocks, out)


def _shaped(path: Path, where: str, values: Floats, shape: tuple[int, ...]) -> Floats:
    if values.shape != shape:
        _refuse(
            path,
            f"{where} has the shape {list(values.shape)}, not {list(shape)}",
            "heads that were trained for this model",
        )
    if not np.isfinite(values).all():
        _refuse(path, f"{where} holds values that are no numbers", "")
    return values


def _refuse(path: Path, problem: str, hint: str) -> NoReturn:
    raise FormatError(f"{path}: {problem}", hint)


def _moved(head: Head, state: Floats) -> Floats:
    moved = state
    for weight, bias in head.blocks:
        inner = weight @ moved + bias
        moved = moved + inner / (1 + np.exp(-np.clip(inner, -80, None)))
    return moved


def _products(heads: list[Head], moved: Floats) -> list[Floats]:
    return [head.out @ row for head, row in zip(heads, moved, strict=True) if head.out is not None]

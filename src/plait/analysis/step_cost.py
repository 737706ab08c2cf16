"""What one engine step costs on this machine, as measured by `plait bench step`: T(tokens, context).

A step that feeds `num_tokens` positions and wants `num_logits` rows of logits is taken to cost

    chunk(num_tokens, context) + head(num_logits)

chunk: measured over prompt chunks of one request, which want no logits. head: what a row of logits and the
choice of a token add, measured over requests that decode. Between the measured points it is interpolated in
straight lines, beyond them the last line goes on. Kept per machine below the cache folder.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a cost holds for: model by name, processor, kernel table, number of threads, kind of activations,
    element type of the K/V cache, and the version of Plait, whose kernels change."""

    model: str
    processor: str
    isa: str
    threads: int
    activations: str
    kv: str
    version: str

    @property
    def file_name(self) -> str:
        """One for every setup but the processor and the version, which are checked when it is read."""
        name = "".join(c if c.isalnum() or c in ".-" else "_" for c in self.model)
        return f"{name}-{self.isa}-{self.threads}-{self.activations}-{self.kv}.json"


@dataclass(frozen=True, slots=True)
class StepCost:
    """contexts, tokens, logits: measured points, ascending. chunk_seconds: [contexts][tokens].

    head_seconds: [logits], what that many rows of logits add.
    """

    setup: Setup
    contexts: Sequence[int]
    tokens: Sequence[int]
    chunk_seconds: Sequence[Sequence[float]]
    logits: Sequence[int]
    head_seconds: Sequence[float]

    def predict(self, num_tokens: int, context: int, num_logits: int = 1) -> float:
        """Seconds of a step that feeds num_tokens >= 1 positions behind `context` tokens."""
        by_context = [_line(num_tokens, self.tokens, row) for row in self.chunk_seconds]
        chunk = _line(context, self.contexts, by_context)
        return chunk + _line(num_logits, (0, *self.logits), (0.0, *self.head_seconds))

    def save(self, folder: Path) -> Path:
        """Write it below the cache folder; returns the file."""
        file = _file(self.setup, folder)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        partial.replace(file)
        return file

    @classmethod
    def load(cls, setup: Setup, folder: Path) -> StepCost | None:
        """What was saved for this setup; None if nothing was, or on another machine or by another version.

        A damaged file counts as none, with a warning in the log.
        """
        file = _file(setup, folder)
        try:
            fields = json.loads(file.read_text(encoding="utf-8"))
            cost = cls(**{**fields, "setup": Setup(**fields["setup"])})
            cost.check()
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.warning("%s is not used (%s); `plait bench step` writes it again", file, error)
            return None
        return cost if cost.setup == setup else None

    def check(self) -> None:
        """Raise ValueError or TypeError unless points ascend and each has its seconds."""
        for points in (self.contexts, self.tokens, self.logits):
            if [*points] != sorted({int(point) for point in points}):
                raise ValueError("points that do not ascend")
        rows = [*self.chunk_seconds, self.head_seconds]
        if not self.contexts or not self.tokens or len(rows) != len(self.contexts) + 1:
            raise ValueError("points are missing")
        for row, points in zip(
            rows, [*[self.tokens] * len(self.contexts), self.logits], strict=True
        ):
            if len(row) != len(points) or not all(0 <= seconds < inf for seconds in row):
                raise ValueError("a point without its seconds")


def _file(setup: Setup, folder: Path) -> Path:
    return folder / "step_cost" / setup.file_name


def _line(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """ys at x along straight lines; before the first point and with one point alone, its value."""
    if len(xs) == 1 or x <= xs[0]:
        return ys[0]
    after = next((i for i, value in enumerate(xs) if value >= x), len(xs) - 1)
    (x0, x1), (y0, y1) = xs[after - 1 : after + 1], ys[after - 1 : after + 1]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)

"""What is measured: every workload by name, and what of it depends on the model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Work:
    """kind: "prefill" (seconds to the first token of `context` new random tokens) or "decode" (seconds of
    `steps` greedy steps of `batch` requests). context: tokens behind which it happens; for decoding the mean
    over the rounds, since the contexts are filled once and grow. shared: one prefix for the whole batch."""

    kind: str
    context: int
    batch: int = 1
    steps: int = 1
    shared: bool = False

    @property
    def tokens(self) -> int:
        """That one round computes or generates, over the whole batch."""
        return self.context if self.kind == "prefill" else self.batch * self.steps


WORKLOADS = {
    "decode-1": Work("decode", context=128, steps=24),
    "prefill-512": Work("prefill", context=512),
    "prefill-2048": Work("prefill", context=2048),
    "decode-8": Work("decode", context=512, batch=8, steps=12),
    "decode-32": Work("decode", context=128, batch=32, steps=6),
    "shared-16": Work("decode", context=2048, batch=16, steps=8, shared=True),
    "decode-long": Work("decode", context=8192, steps=12),
}
GOALS = {
    model: dict(zip(WORKLOADS, zip(floors, stretches, strict=True), strict=True))
    for model, floors, stretches in (
        ("smollm2-135m", (1.7, 1.8, 1.5, 2.5, 2.1, 3, 2), (2.4, 2.7, 2.1, 4, 3.5, 5, 3)),
        ("qwen2.5-coder-0.5b", (1.4, 2, 2, 2.2, 2.5, 3, 2), (1.7, 3, 3, 3.5, 4, 5, 3)),
        ("gemma3-270m", (1.35, 2, 1.8, 2, 2, 2.5, 1.3), (1.7, 3.5, 3, 3.5, 3.5, 4, 1.7)),
        (
            "qwen2.5-coder-1.5b",
            (1.2, 1.6, 1.6, 2.8, 1.9, 2.5, 1.3),
            (1.45, 2.2, 2.2, 4, 2.8, 4, 1.7),
        ),
    )
}
"""Model -> workload -> the least that Plait should have of the best peer's speed, and what it could have."""
LONGEST = {"gemma3-270m": 4096, "qwen2.5-coder-1.5b": 4096}
"""Models whose longest context is less than that of the workload, to bound the time it takes to fill."""
MARGIN = 16
"""Tokens of context that nobody uses: first tokens, and requests that start ahead of the others."""


def order(name: str, model: str, rounds: int) -> dict[str, Any]:
    """What a worker is told of a workload: its fields, `fill` (tokens put in before the first round) and
    `capacity` (context that a sequence needs in all)."""
    work = WORKLOADS[name]
    limit = LONGEST.get(model, 8192)
    grown = 0 if work.kind == "prefill" else work.steps * (rounds + 1)
    ahead = MARGIN + work.batch
    context = min(work.context, limit)
    fill = max(16, min(context - grown // 2, limit - grown - ahead))
    if work.kind == "prefill":
        fill = context
    return {
        **asdict(work),
        "context": context,
        "fill": fill,
        "capacity": min(limit, fill + grown + ahead),
    }

"""Muon in float32 (Keller Jordan, 2024): momentum made orthogonal by Newton-Schulz, for the matrices of the layers.

torch.optim.Muon iterates in bfloat16, which a processor without instructions for it computes ten times slower.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of the published iteration: singular values end between about 0.7 and 1.2."""
STEPS = 5
LIKE_ADAM = 0.2
"""Root mean square of an update, so that AdamW's rate and decay serve here too (arXiv:2502.16982)."""


class Muon(torch.optim.Optimizer):
    """For parameters [rows, columns] alone."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update; a closure is not called."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for alike in by_shape.values():
                self._update(alike, group)
        return None

    def _update(self, alike: list[Tensor], group: dict[str, Any]) -> None:
        """Parameters of one shape, whose iterations are one batch of products."""
        directions = [self._direction(parameter, group["momentum"]) for parameter in alike]
        updates = orthogonal(torch.stack(directions))
        size = LIKE_ADAM * max(alike[0].shape) ** 0.5
        for parameter, update in zip(alike, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update, alpha=-group["lr"] * size)

    def _direction(self, parameter: Tensor, momentum: float) -> Tensor:
        """Nesterov's."""
        assert parameter.grad is not None
        state = self.state[parameter]
        if "mean" not in state:
            state["mean"] = torch.zeros_like(parameter)
        mean: Tensor = state["mean"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(mean, momentum)


def orthogonal(batch: Tensor) -> Tensor:
    """float32 [n, rows, columns] -> the same singular vectors, all singular values near 1."""
    tall = batch.shape[1] > batch.shape[2]
    x = batch.transpose(1, 2) if tall else batch
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = QUINTIC
    for _ in range(STEPS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.transpose(1, 2) if tall else x

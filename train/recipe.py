"""The loop: AdamW (Muon for the layers' matrices where asked), warm-up - constant - decay, a running mean of the weights, checkpoints it goes on from.

Every step draws its batch from a generator seeded by (seed, step), so a run that was stopped goes on with the same
bits as one that was not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.body import Body, Shape
from train.muon import Muon

Loss = Callable[[Body, np.random.Generator], tuple[Tensor, str]]
"""(model, generator of this step) -> (loss, what kind of batch it was)."""


@dataclass(frozen=True)
class Recipe:
    """decay: share of the steps, at the end, over which the rate falls to zero. mean: of the running mean.
    muon: for the matrices of the layers, in place of AdamW. start: gives the new model its weights; parameters that
    it freezes are neither trained nor kept."""

    shape: Shape
    loss: Loss
    steps: int
    rate: float = 2e-3
    warm_up: int = 100
    decay: float = 0.3
    mean: float = 0.998
    seed: int = 1
    every: int = 100
    muon: bool = False
    start: Callable[[Body], None] | None = None

    def rate_at(self, step: int) -> float:
        left = (self.steps - step) / (self.decay * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warm_up, left)


class Run:
    """A training run with its folder: `state.pt` is what it goes on from, `curve.json` the losses."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder = recipe, folder
        self.model = Body(recipe.shape)
        if recipe.start:
            recipe.start(self.model)
        self.optimizers = optimizers(self.model, recipe)
        self.mean = {name: value.clone() for name, value in self.trained().items()}
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.pt").exists():
            self._load()

    def trained(self) -> dict[str, Tensor]:
        return {
            name: value.detach()
            for name, value in self.model.named_parameters()
            if value.requires_grad
        }

    def train(self, until: int | None = None) -> None:
        """To the recipe's end, or to a step before it."""
        end = self.recipe.steps if until is None else min(until, self.recipe.steps)
        losses: dict[str, list[float]] = {}
        began = time.perf_counter()
        while self.step < end:
            kind, loss = self._one_step()
            losses.setdefault(kind, []).append(loss)
            self.step += 1
            if self.step % self.recipe.every == 0 or self.step == end:
                now = time.perf_counter()
                self.seconds, began = self.seconds + now - began, now
                self._note(losses)
                losses = {}

    def _one_step(self) -> tuple[str, float]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate_at(self.step)
        loss, kind = self.recipe.loss(
            self.model, np.random.default_rng((self.recipe.seed, self.step))
        )
        self.model.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        weight = min(self.recipe.mean, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.trained().items():
                self.mean[name].lerp_(value, 1 - weight)
        return kind, float(loss.detach())

    def _note(self, losses: dict[str, list[float]]) -> None:
        means = {kind: round(float(np.mean(found)), 5) for kind, found in sorted(losses.items())}
        self.curve.append({"step": self.step, "seconds": round(self.seconds), "loss": means})
        print(self.step, f"{self.seconds:.0f} s", means, flush=True)
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
            "model": self.trained(),
            "mean": self.mean,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        partial = self.folder / "state.partial"
        torch.save(state, partial)
        partial.replace(self.folder / "state.pt")
        (self.folder / "curve.json").write_text(json.dumps(self.curve, indent=1) + "\n")

    def _load(self) -> None:
        state = torch.load(self.folder / "state.pt", weights_only=True)
        self.model.load_state_dict(state["model"], strict=self.recipe.start is None)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.mean, self.curve = state["mean"], state["curve"]
        self.step, self.seconds = state["step"], state["seconds"]


def continued(model: Body, *, run: Path) -> None:
    """Gives a new model what another run ended with, rounded as its checkpoint is. run: that one's folder."""
    mean = torch.load(run / "state.pt", weights_only=True)["mean"]
    model.load_state_dict({name: value.half().float() for name, value in mean.items()})


def optimizers(model: Body, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.layers.parameters() if p.ndim == 2] if recipe.muon else []
    chosen = {id(parameter) for parameter in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    adam = torch.optim.AdamW(others, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.01)
    return [adam, Muon(matrices, lr=recipe.rate)] if matrices else [adam]

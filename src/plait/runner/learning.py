"""What a plan learns of its model at load, from one page of tokens. It is part of the model from then on, and depends on
no request."""

from __future__ import annotations

from collections.abc import Callable

from plait.core.step import StepInput
from plait.core.window import Floats
from plait.kernels.plan import Plan
from plait.kvcache.pool import Pool
from plait.runner import center, fine
from plait.runner.fuse import Fused

Forward = Callable[[list[StepInput]], object]


def learn(
    plan: Plan,
    fused: Fused,
    kv: Pool,
    forward: Forward,
    vector: Callable[[str], Floats],
    *,
    fine_blocks: bool,
    centers: bool,
    unified: bool,
) -> None:
    """Every linear op's fine blocks (fine.py), how keys are centred (center.py) and the maxima of softmax (softmax.py).

    forward: runs the plan over inputs in pages of `kv`. vector: of the checkpoint.
    """
    if fine_blocks or centers:
        page = _watch(plan, fused, kv, forward)
        for index, op in enumerate(fused.ops):
            if energy := plan.energy(index):
                is_head = op.output.buffer == fused.result.buffer
                plan.refine(index, fine.choose(energy, is_head=is_head).tolist())
        if centers:
            learned = center.learn(fused.ops, kv.data, page, vector)
            for index, (mean, scale) in learned.items():
                plan.center_keys(index, mean.ravel().tolist(), scale.ravel().tolist())
    if unified:  # the scores of centred keys are others
        _watch(plan, fused, kv, forward)
        for index, op in enumerate(fused.ops):
            if op.kind == "attention":
                plan.unify(index, plan.maxima(index))


def _watch(plan: Plan, fused: Fused, kv: Pool, forward: Forward) -> int:
    """Run one page of tokens while the plan watches; returns the page, which is free again and still holds them."""
    page = kv.allocate()
    assert page is not None
    plan.watch(True)
    forward([fine.probe(page, fused.result.width)])
    plan.watch(False)
    kv.release(page)
    return page

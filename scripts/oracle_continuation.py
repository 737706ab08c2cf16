"""Greedy continuations of a transformers model in float32.

`continue_one` goes token by token, or takes a guess and checks it in one forward: the outcome is
the same chain of best tokens, in a fraction of the time when weights are larger than caches.
`guess_together` makes such guesses for many prompts, reading the weights once a step for all.
"""

from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

NUM_GREEDY = 128


class Continuation(NamedTuple):
    """What happened at every step: ids int64 [G, 2] (best, second), logits float32 [G, 2]."""

    ids: torch.Tensor
    logits: torch.Tensor


def continue_one(
    model: PreTrainedModel,
    cache: DynamicCache,
    row: torch.Tensor,
    guess: Continuation | None = None,
) -> Continuation:
    """128 greedy tokens after a cached prompt whose last logits are `row` (float32 [vocabulary]).

    Every recorded row comes from a forward in which the tokens before it are the recorded ones.
    """
    steps = [torch.topk(row, 2)]
    while len(steps) < NUM_GREEDY:
        chosen = [int(step.indices[0]) for step in steps]
        fed = chosen[-1:]
        if guess is not None and guess.ids[: len(chosen), 0].tolist() == chosen:
            fed = guess.ids[len(chosen) - 1 : NUM_GREEDY - 1, 0].tolist()
        logits = model(torch.tensor([fed]), past_key_values=cache).logits[0]
        for used, row in enumerate(logits, start=1):
            steps.append(torch.topk(row, 2))
            if used < len(fed) and int(steps[-1].indices[0]) != fed[used]:
                cache.crop(used - len(fed))
                break
    return Continuation(
        torch.stack([step.indices for step in steps]), torch.stack([step.values for step in steps])
    )


def guess_together(
    model: PreTrainedModel, caches: list[DynamicCache], first_ids: list[int]
) -> list[Continuation]:
    """Continues several cached prompts in one batch, padded on the left; leaves the caches alone.

    The first step is known already (`first_ids`), its logits are given as NaN. Only for models
    without a sliding window.
    """
    lengths = torch.tensor([cache.get_seq_length() for cache in caches])
    longest = int(lengths.max())
    batch = padded(model, caches, longest)
    mask = (torch.arange(longest) >= longest - lengths[:, None]).long()
    ids, logits = (
        [torch.tensor(first_ids)[:, None].expand(-1, 2)],
        [torch.full((len(caches), 2), torch.nan)],
    )
    for step in range(NUM_GREEDY - 1):
        mask = torch.cat([mask, torch.ones(len(caches), 1, dtype=mask.dtype)], dim=1)
        out = model(
            ids[-1][:, :1],
            attention_mask=mask,
            position_ids=(lengths + step)[:, None],
            past_key_values=batch,
        )
        best = torch.topk(out.logits[:, -1], 2)
        ids.append(best.indices)
        logits.append(best.values)
    all_ids, all_logits = torch.stack(ids, dim=1), torch.stack(logits, dim=1)
    return [Continuation(*pair) for pair in zip(all_ids, all_logits, strict=True)]


def padded(model: PreTrainedModel, caches: list[DynamicCache], longest: int) -> DynamicCache:
    """One cache of all the prompts, zeros before the shorter ones."""
    batch = DynamicCache(config=model.config)
    for index in range(model.config.num_hidden_layers):
        layers = [cache.layers[index] for cache in caches]
        keys, values = (
            torch.cat(
                [torch.nn.functional.pad(one, (0, 0, longest - one.shape[2], 0)) for one in tensors]
            )
            for tensors in ([layer.keys for layer in layers], [layer.values for layer in layers])
        )
        batch.update(keys, values, index)
    return batch

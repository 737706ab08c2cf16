"""What a request can ever need, against what there is."""

from __future__ import annotations

from plait.core.errors import CapacityError, UserError
from plait.iteration.base import Request
from plait.kvcache.base import Cache


def too_little(cache: Cache, upto: int) -> CapacityError:
    """For a request alone that needs slots [0, upto)."""
    message = (
        f"the request needs {upto} slots of KV cache, and only {cache.num_free_slots} are free"
    )
    return CapacityError(message, "raise kv_memory")


def check(request: Request, cache: Cache, max_num_batched_tokens: int) -> None:
    """Raise UserError for a request that could never run with this cache and this budget of positions."""
    span = request.span
    if span > cache.num_slots:
        raise CapacityError(
            f"the request may need {span} slots of KV cache, but there are {cache.num_slots}",
            "ask for fewer tokens, or raise kv_memory",
        )
    if max_num_batched_tokens < len(request.streams):
        raise UserError(
            "two streams need two positions of a step", "raise max_num_batched_tokens to 2 at least"
        )
    if request.planner.needs_slots and not cache.keeps:
        raise UserError(
            "the planner goes on from what earlier steps computed, and this cache keeps nothing",
            "use the cache 'paged' or 'auto', or the planner's defaults (reuse=none, merge=true)",
        )
    if request.planner.is_whole and span > max_num_batched_tokens:
        raise CapacityError(
            f"the model sees its whole canvas at once: the request may feed {span} positions, but a step "
            f"feeds at most {max_num_batched_tokens}",
            "ask for fewer tokens, or raise max_num_batched_tokens",
        )
    if not cache.keeps and span > max_num_batched_tokens:
        raise CapacityError(
            f"this cache computes the whole canvas in every step: the request may reach {span} "
            f"positions, but a step feeds at most {max_num_batched_tokens}",
            "ask for fewer tokens, raise max_num_batched_tokens, or use the cache 'paged'",
        )

"""How much KV cache fits this machine, explained in words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plait.core.config import PAGE
from plait.core.errors import CapacityError, UserError
from plait.kvcache.pool import KVLayout
from plait.models.config import ModelConfig

_SHARE = 0.6
"""Of what is free after the weights: the rest is for activations, the page cache and everybody else."""


_STEP_SHARE = 0.2
"""Of the same, for the rows of one step."""


@dataclass(frozen=True, slots=True)
class Fit:
    """num_pages: pages of PAGE slots. max_model_len: longest canvas. words: what was decided, a line each."""

    num_pages: int
    max_model_len: int
    words: tuple[str, ...]


def available_bytes() -> int:
    """Memory that can still be taken: MemAvailable, or less where a cgroup says so."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    limits = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ]
    for limit, used in limits:
        if Path(limit).exists() and (text := Path(limit).read_text().strip()) != "max":
            free = min(free, max(0, int(text) - int(Path(used).read_text())))
    return free


def fit(
    layout: KVLayout,
    *,
    context_length: int,
    max_model_len: int,
    kv_memory: int,
    max_num_seqs: int,
    available: int,
) -> Fit:
    """Chooses what the user left at 0; refuses what cannot be had.

    context_length: what the model was made for. max_model_len, kv_memory (bytes): as the user asked, 0
    for unset. available: bytes free for the cache. Raises CapacityError or UserError with the numbers.
    """
    if max_model_len > context_length:
        raise UserError(
            f"max_model_len={max_model_len} is more than the model's context of {context_length}",
            f"at most {context_length}",
        )
    budget = kv_memory or int(available * _SHARE)
    length = max_model_len or context_length
    slot_bytes = layout.page_bytes // PAGE
    most_slots = budget // layout.page_bytes * PAGE
    if most_slots < min(length, PAGE) or (max_model_len and most_slots < max_model_len):
        fitting = f"max_model_len={most_slots} would fit, or " if most_slots else ""
        raise CapacityError(
            f"the KV cache for {length} tokens takes {_size(_pages(length) * layout.page_bytes)}, "
            f"there is room for {_size(budget)}",
            f"{fitting}give more with kv_memory ({layout.page_bytes:,} bytes hold {PAGE} tokens)",
        )
    words = []
    if length > most_slots:
        words.append(f"context cut from {length} to {most_slots} tokens: that is what memory holds")
        length = most_slots
    num_pages = min(budget // layout.page_bytes, _pages(length) * max_num_seqs)
    slots = num_pages * PAGE
    words.append(
        f"KV cache: {slots:,} tokens in {_size(num_pages * layout.page_bytes)} "
        f"({slot_bytes:,} bytes a token); {slots / length:.1f} requests of {length:,} tokens at once"
    )
    return Fit(num_pages, length, tuple(words))


def most_positions(config: ModelConfig, available: int) -> int:
    """Positions that one step may feed if all of its rows want logits and that is not to take more than a fifth of
    `available` bytes. A row: float32 logits, and about so many values of the layers that live together."""
    values = config.vocab_size + 8 * config.width + 4 * config.feed_forward
    return int(available * _STEP_SHARE) // (4 * values)


def _pages(slots: int) -> int:
    return -(-slots // PAGE)


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"

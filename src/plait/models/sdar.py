"""SDAR (arXiv:2510.06303): a Qwen3 body that fills blocks bidirectionally and is causal across them."""

from __future__ import annotations

from plait.core.traits import Predicts, Traits
from plait.core.window import block
from plait.models import qwen3
from plait.models.config import Reader

SUMMARY = "SDAR: block diffusion on a Qwen3 body"
ALIASES = ()


class Model(qwen3.Model):
    """config.json: `block_size` positions are decided together; `mask_token_id` marks the undecided."""

    def traits(self) -> Traits:
        c, reader = self.config, Reader(self.config.extra, "config.json")
        return Traits(
            c.vocab_size,
            c.context_length,
            predicts=Predicts.SAME,
            pattern=block(reader.integer("block_size", "block_length", default=4, least=1)),
            mask_token=reader.integer("mask_token_id", default=151669, most=c.vocab_size - 1),
            eos_ids=c.eos_ids,
        )

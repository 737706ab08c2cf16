"""SDAR (arXiv:2510.06303): a Qwen3 body that fills blocks bidirectionally and is causal across them."""

from __future__ import annotations

from plait.core.traits import Traits
from plait.models import qwen3
from plait.models.diffusion import diffusion_traits, trained_block

SUMMARY = "SDAR: block diffusion on a Qwen3 body"
ALIASES = ()


class Model(qwen3.Model):
    """config.json: `block_size` positions are decided together; `mask_token_id` marks the undecided."""

    def traits(self) -> Traits:
        pattern = trained_block(self.config, "block_size", "block_length", default=4)
        return diffusion_traits(self.config, pattern, mask_token=151669)

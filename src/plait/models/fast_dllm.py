"""Fast-dLLM v2 (arXiv:2509.26328): Qwen2.5 adapted to blocks, bidirectional inside and causal across them.

The shift of the autoregressive model stays: the logits of a position decide the one after it, so those of a
block's last position decide the first of the next.
"""

from __future__ import annotations

from plait.core.traits import Predicts, Traits
from plait.models import qwen2
from plait.models.diffusion import diffusion_traits, trained_block

SUMMARY = "Fast-dLLM v2: block diffusion on a Qwen2.5 body, shifted logits"
ALIASES = ("Fast_dLLM_Qwen",)


class Model(qwen2.Model):
    """config.json: `bd_size` positions are decided together."""

    def traits(self) -> Traits:
        pattern = trained_block(self.config, "bd_size", "block_size", default=32)
        return diffusion_traits(self.config, pattern, mask_token=151665, predicts=Predicts.NEXT)

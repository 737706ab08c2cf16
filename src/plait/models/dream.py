"""Dream (arXiv:2508.15487): a Qwen2 body without the causal mask; logits still decide the next position."""

from __future__ import annotations

from plait.core.traits import Traits
from plait.core.window import FULL
from plait.models import qwen2
from plait.models.diffusion import diffusion_traits, shifted

SUMMARY = "Dream: masked diffusion on a Qwen2 body, full attention, shifted logits"
ALIASES = ("Dream",)


class Model(qwen2.Model):
    def traits(self) -> Traits:
        return diffusion_traits(self.config, FULL, mask_token=151666, predicts=shifted(self.config))

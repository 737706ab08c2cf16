"""One set of weights on a Llama body that was trained in three modes: next token, blocks, whole canvases
(arXiv:2503.09573 trains blocks, arXiv:2502.09992 canvases; `train/trimode.py` all three)."""

from __future__ import annotations

from dataclasses import replace

from plait.core.traits import Mode, Predicts, Traits
from plait.core.window import CAUSAL, FULL
from plait.models import llama
from plait.models.diffusion import diffusion_traits, trained_block

SUMMARY = "trimode: one set of weights for next-token, block and canvas decoding, on a Llama body"
ALIASES = ()


class Model(llama.Model):
    """config.json: `block_size`, `mask_token_id`. The planner that is asked for chooses the mode."""

    def traits(self) -> Traits:
        block = trained_block(self.config, "block_size", default=4)
        traits = diffusion_traits(
            self.config, CAUSAL, mask_token=self.config.vocab_size - 1, predicts=Predicts.NEXT
        )
        return replace(traits, modes=(Mode(Predicts.SAME, block), Mode(Predicts.SAME, FULL)))

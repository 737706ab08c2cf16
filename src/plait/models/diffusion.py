"""What diffusion families share: traits, read from either kind of checkpoint."""

from __future__ import annotations

from plait.core.errors import FormatError
from plait.core.traits import Predicts, Traits
from plait.core.window import Pattern, block
from plait.models.config import ModelConfig, Reader


def diffusion_traits(
    config: ModelConfig, pattern: Pattern, *, mask_token: int, predicts: Predicts = Predicts.SAME
) -> Traits:
    """mask_token: of the family's published checkpoints, for a configuration that names none.

    Raises FormatError for a mask token outside the vocabulary.
    """
    key = {"gguf": "tokenizer.ggml.mask_token_id", "safetensors": "mask_token_id"}[config.source]
    most = config.vocab_size - 1
    if config.extra.get(key) is None and mask_token > most:
        raise FormatError(
            f"the model names no mask token, and the family's own, {mask_token}, is none of its {most + 1} tokens",
            f"give its configuration a {key}",
        )
    return Traits(
        config.vocab_size,
        config.context_length,
        predicts=predicts,
        pattern=pattern,
        mask_token=reader_of(config).integer(key, default=mask_token, most=most),
        eos_ids=config.eos_ids,
    )


def trained_block(config: ModelConfig, *keys: str, default: int) -> Pattern:
    """The blocks a model was trained with: the first of these keys that the configuration has."""
    return block(reader_of(config).integer(*keys, default=default, least=1))


def shifted(config: ModelConfig) -> Predicts:
    """For families whose logits decide the next position, unless a GGUF file says otherwise."""
    is_shifted = reader_of(config).flag("diffusion.shift_logits", default=True)
    return Predicts.NEXT if is_shifted else Predicts.SAME


def reader_of(config: ModelConfig) -> Reader:
    """Of what only some families have."""
    return Reader(config.extra, "GGUF metadata" if config.source == "gguf" else "config.json")

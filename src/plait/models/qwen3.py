"""Qwen3, dense (arXiv:2505.09388): Llama with a norm over each head of q and k and its own head size."""

from __future__ import annotations

from plait.models import qwen2

SUMMARY = "Qwen3 (dense): Llama with a norm over each head of q and k"
ALIASES = ()


class Model(qwen2.Model):
    """The q/k norms are in the checkpoint, which is what switches them on."""

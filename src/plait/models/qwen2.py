"""Qwen2 and Qwen2.5 (arXiv:2407.10671): Llama with biases on q, k and v, pairs half a head apart."""

from __future__ import annotations

from plait.models import llama
from plait.models.base import Graph, Rope
from plait.models.parts import rope_of

SUMMARY = "Qwen2 and Qwen2.5: Llama with biases on q, k and v"
ALIASES = ()


class Model(llama.Model):
    def rope(self, graph: Graph) -> Rope:
        return rope_of(self.config)

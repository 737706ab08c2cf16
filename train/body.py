"""A Llama body in torch whose attention mask is an argument, so that one set of weights runs causally, in blocks and
over a whole canvas. The mathematics are those of plait.models.llama; tests compare the two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """feed_forward: width inside of the SwiGLU. theta: base of the rotary embedding."""

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    theta: float = 10000.0
    epsilon: float = 1e-5


class Norm(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon) * self.weight


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width, inside = shape.width, shape.feed_forward
        self.heads = shape.heads
        self.attn_norm, self.ffn_norm = Norm(shape), Norm(shape)
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.ffn_gate, self.ffn_up = (nn.Linear(width, inside, bias=False) for _ in range(2))
        self.ffn_down = nn.Linear(inside, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        h = self.attn_norm(x)
        q, k, v = (self.split(f(h)) for f in (self.attn_q, self.attn_k, self.attn_v))
        h = functional.scaled_dot_product_attention(
            rotate(q, turn), rotate(k, turn), v, attn_mask=mask
        )
        x = x + self.attn_output(h.transpose(1, 2).flatten(2))
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))

    def split(self, x: Tensor) -> Tensor:
        """[batch, rows, width] -> [batch, heads, rows, width of a head]."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape)
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """tokens: ids [batch, rows]. positions: int64 [rows]. mask: bool [batch or 1, 1, rows, rows], True where the
        row sees the column. -> logits float32 [batch, rows, vocabulary]."""
        half = self.shape.width // self.shape.heads // 2
        rates = self.shape.theta ** (-torch.arange(half) / half)
        angles = positions[:, None].float() * rates
        turn = (torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1))
        x = self.token_embd(tokens)
        for layer in self.layers:
            x = layer(x, turn, mask)
        logits: Tensor = self.output(self.output_norm(x))
        return logits


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding, halves paired (arXiv:2104.09864 in the layout of Hugging Face)."""
    low, high = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-high, low], -1) * turn[1]

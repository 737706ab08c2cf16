"""A Llama body in torch whose attention mask is an argument, so that one set of weights runs causally, in blocks and
over a whole canvas. The mathematics are those of plait.models.llama; tests compare the two."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """feed_forward: width inside of the SwiGLU. theta: base of the rotary embedding. kv_heads: 0 for as many as heads.
    tied: the embedding is the head. mask: an id that has an embedding of its own, apart from the table; -1 for none."""

    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 384
    theta: float = 10000.0
    epsilon: float = 1e-5
    kv_heads: int = 0
    tied: bool = False
    mask: int = -1


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
        self.heads, self.kv_heads = shape.heads, shape.kv_heads or shape.heads
        narrow = width // shape.heads * self.kv_heads
        self.attn_norm, self.ffn_norm = Norm(shape), Norm(shape)
        self.attn_q, self.attn_k, self.attn_v, self.attn_output = (
            nn.Linear(width, wide, bias=False) for wide in (width, narrow, narrow, width)
        )
        self.ffn_gate, self.ffn_up = (nn.Linear(width, inside, bias=False) for _ in range(2))
        self.ffn_down = nn.Linear(inside, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        h = self.attn_norm(x)
        q = split(self.attn_q(h), self.heads)
        k, v = (split(f(h), self.kv_heads) for f in (self.attn_k, self.attn_v))
        h = functional.scaled_dot_product_attention(
            rotate(q, turn),
            rotate(k, turn),
            v,
            attn_mask=mask,
            enable_gqa=self.kv_heads != self.heads,
        )
        x = x + self.attn_output(h.transpose(1, 2).flatten(2))
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))


def split(x: Tensor, heads: int) -> Tensor:
    """[batch, rows, width] -> [batch, heads, rows, width of a head]."""
    found: Tensor = x.view(*x.shape[:-1], heads, -1).transpose(1, 2)
    return found


class Body(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape)
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        if shape.tied:
            self.output.weight = self.token_embd.weight
        if shape.mask >= 0:
            self.mask_embd = nn.Parameter(torch.zeros(shape.width))
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """tokens: ids [batch, rows]. positions: int64 [rows]. mask: bool [batch or 1, 1, rows, rows], True where the
        row sees the column. -> logits float32 [batch, rows, vocabulary]."""
        logits: Tensor = self.output(self.states(tokens, positions, mask))
        return logits

    def states(self, tokens: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        """What the head is given, for who wants the logits of some rows: [batch, rows, width]."""
        half = self.shape.width // self.shape.heads // 2
        rates = self.shape.theta ** (-torch.arange(half) / half)
        angles = positions[:, None].float() * rates
        turn = (torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1))
        x = self.token_embd(tokens)
        if self.shape.mask >= 0:
            x = torch.where((tokens == self.shape.mask)[..., None], self.mask_embd, x)
        for layer in self.layers:
            x = layer(x, turn, mask)
        states: Tensor = self.output_norm(x)
        return states


def rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding, halves paired (arXiv:2104.09864 in the layout of Hugging Face)."""
    low, high = x.chunk(2, -1)
    return x * turn[0] + torch.cat([-high, low], -1) * turn[1]

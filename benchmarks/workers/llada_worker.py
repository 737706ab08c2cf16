"""LLaDA in PyTorch, as a masked diffusion user has it today: LLaDA's own sampler, and Fast-dLLM's with prefix and
dual cache, written anew from their papers and published code (arXiv:2502.09992, 2505.22618).

What they compute is kept, also where it is more than is needed: every forward gives the logits of all positions
that it feeds, and confidence is a softmax in float64 over all of them. A fixed number of steps per block.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from protocol import canvas_prompt, serve
from safetensors.torch import load_file

Pairs = list[tuple[torch.Tensor, torch.Tensor]]


class Llada:
    """The mask predictor: Llama's layers, attention in both directions."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.heads, self.layers = config["n_heads"], config["n_layers"]
        self.eps = config["rms_norm_eps"]
        self.mask_token = config["mask_token_id"]
        stored = load_file(folder / "model.safetensors")
        self.weights = {name: value.to(dtype) for name, value in stored.items()}
        half = torch.arange(0, config["d_model"] // self.heads, 2, dtype=torch.float32)
        inverse = config["rope_theta"] ** -(half / (config["d_model"] // self.heads))
        angles = torch.outer(torch.arange(config["max_sequence_length"]).float(), inverse)
        angles = torch.cat((angles, angles), dim=-1)
        self.sin, self.cos = angles.sin(), angles.cos()

    def forward(
        self, tokens: torch.Tensor, start: int, past: Pairs | None, end: int | None
    ) -> tuple[torch.Tensor, Pairs]:
        """Logits [len, vocabulary] of the tokens [len] at the positions from start on, and what every layer knows.

        past: of every layer, keys and values [1, heads, positions, size]. end: those of [start, end) are replaced
        in it; None: it ends at start, and what is new is put behind it.
        """
        x = F.embedding(tokens, self._of("wte"))
        known: Pairs = []
        for layer in range(self.layers):
            x = x + self._attend(x, layer, start, past[layer] if past else None, end, known)
            h = self._norm(x, f"blocks.{layer}.ff_norm")
            gate = F.silu(F.linear(h, self._of(f"blocks.{layer}.ff_proj")))
            up = F.linear(h, self._of(f"blocks.{layer}.up_proj"))
            x = x + F.linear(gate * up, self._of(f"blocks.{layer}.ff_out"))
        return F.linear(self._norm(x, "ln_f"), self._of("ff_out")), known

    def _attend(
        self,
        x: torch.Tensor,
        layer: int,
        start: int,
        past: tuple[torch.Tensor, torch.Tensor] | None,
        end: int | None,
        known: Pairs,
    ) -> torch.Tensor:
        h = self._norm(x, f"blocks.{layer}.attn_norm")
        q, k, v = (
            F.linear(h, self._of(f"blocks.{layer}.{name}_proj"))
            .view(1, len(x), self.heads, -1)
            .transpose(1, 2)
            for name in "qkv"
        )
        q, k = self._rotate(q, start), self._rotate(k, start)
        if past is not None and end is not None:
            past[0][:, :, start:end] = k
            past[1][:, :, start:end] = v
            k, v = past
        elif past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        known.append((k, v))
        out = F.scaled_dot_product_attention(q, k, v)
        return F.linear(
            out.transpose(1, 2).reshape(len(x), -1), self._of(f"blocks.{layer}.attn_out")
        )

    def _rotate(self, x: torch.Tensor, start: int) -> torch.Tensor:
        sin, cos = (table[start : start + x.shape[2]] for table in (self.sin, self.cos))
        wide = x.float()
        first, second = wide.chunk(2, dim=-1)
        return (wide * cos + torch.cat((-second, first), dim=-1) * sin).to(x.dtype)

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self._of(name), self.eps)

    def _of(self, name: str) -> torch.Tensor:
        return self.weights[f"model.transformer.{name}.weight"]


def surest(
    logits: torch.Tensor, is_open: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens [len] that the logits propose, and which `count` of the open positions are the surest."""
    proposed = logits.argmax(dim=-1)
    shares = F.softmax(logits.to(torch.float64), dim=-1)
    confidence = shares.gather(-1, proposed.unsqueeze(-1)).squeeze(-1)
    confidence = torch.where(is_open, confidence, -torch.inf)
    return proposed, confidence.topk(count).indices


class Sampler:
    """Fills a canvas block by block; fed: positions of every forward."""

    def __init__(self, model: Any, setting: dict[str, Any]) -> None:
        self.model, self.setting = model, setting
        self.fed: list[int] = []

    def answer(self, prompt: list[int]) -> list[int]:
        work, mask = self.setting, self.model.mask_token
        x = torch.tensor(prompt + [mask] * work["answer"])
        self.fed = []
        for start in range(len(prompt), len(x), work["block"]):
            end = start + work["block"]
            share, extra = divmod(work["block"], work["steps"])
            counts = [share + (step < extra) for step in range(work["steps"])]
            if work["reuse"] == "none":
                for count in counts:
                    self._step(x, 0, len(x), end, count, None, None)
            else:
                self._reusing(x, start, end, counts)
        return list(x[len(prompt) :].tolist())

    def _reusing(self, x: torch.Tensor, start: int, end: int, counts: list[int]) -> None:
        """Fast-dLLM: everything in the first step of a block, then what lies from its start on (prefix cache), or
        the block alone (dual cache)."""
        past = self._step(x, 0, len(x), end, counts[0], None, None)
        if self.setting["reuse"] == "dual":
            for count in counts[1:]:
                self._step(x, start, end, end, count, past, end)
            return
        past = [(k[:, :, :start], v[:, :, :start]) for k, v in past]
        for count in counts[1:]:
            self._step(x, start, len(x), end, count, past, None)

    def _step(
        self,
        x: torch.Tensor,
        first: int,
        last: int,
        block_end: int,
        count: int,
        past: Pairs | None,
        replaced: int | None,
    ) -> Pairs:
        fed = x[first:last]
        logits, known = self.model.forward(fed, first, past, replaced)
        is_open = fed == self.model.mask_token
        is_open[block_end - first :] = False
        proposed, chosen = surest(logits, is_open, count)
        fed[chosen] = proposed[chosen]
        self.fed.append(len(fed))
        return known


class Torch:
    def __init__(self, setting: dict[str, Any]) -> None:
        torch.set_num_threads(setting["threads"])
        self.setting = setting
        model = Llada(Path(setting["folder"]), getattr(torch, setting["dtype"]))
        if setting["compile"]:
            model.forward = torch.compile(model.forward, dynamic=False)
        self.sampler = Sampler(model, setting)
        self.about = {
            "version": torch.__version__,
            "capability": torch.backends.cpu.get_cpu_capability(),
            "dtype": setting["dtype"],
            "compile": setting["compile"],
        }
        self.found: dict[str, Any] = {}

    def prepare(self) -> None:
        """A step of every shape."""
        short = {**self.setting, "answer": self.setting["block"]}
        with torch.inference_mode():
            if self.setting["compile"]:
                self.sampler.answer(canvas_prompt(self.setting, 1))
            Sampler(self.sampler.model, {**short, "steps": 2}).answer(
                canvas_prompt(self.setting, 1)
            )

    def round(self, seed: int) -> float:
        prompt = canvas_prompt(self.setting, seed)
        with torch.inference_mode():
            began = time.perf_counter()
            tokens = self.sampler.answer(prompt)
            seconds = time.perf_counter() - began
        self.found = {"tokens": tokens, "fed": self.sampler.fed}
        return seconds


serve(Torch)

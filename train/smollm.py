"""SmolLM2's GGUF file as a torch body, and back as a checkpoint of blocks that Plait reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from plait.models.config import ModelConfig, from_gguf
from plait.weights.gguf import GgufFile
from plait.weights.hub import resolve
from train import export
from train.body import Body, Shape

NAME = "smollm2-135m"
BLOCK = 4
MASK = "<empty_output>"
"""A token that the vocabulary reserves for notebooks, and no text has."""
NORMS = ("attn_norm.weight", "ffn_norm.weight")


class Source:
    """The file: shape, weights by the body's names, vocabulary."""

    def __init__(self) -> None:
        self.file = GgufFile(resolve(NAME))
        self.config: ModelConfig = from_gguf(self.file.metadata)
        self.vocabulary: list[str] = list(self.file.metadata["tokenizer.ggml.tokens"])
        self.mask = self.vocabulary.index(MASK)
        c = self.config
        self.shape = Shape(
            c.vocab_size,
            c.width,
            c.layers,
            c.heads,
            c.feed_forward,
            c.rope_theta,
            c.norm_eps,
            kv_heads=c.kv_heads,
            tied=True,
            mask=self.mask,
        )

    def fill(self, body: Body) -> None:
        """All weights, frozen but those of attention and the mask's embedding, which begins as the table has it."""
        tensors = {name: self.read(name) for name in body.state_dict() if name != "mask_embd"}
        tensors["mask_embd"] = tensors["token_embd.weight"][self.mask].clone()
        body.load_state_dict(tensors)
        for name, parameter in body.named_parameters():
            is_attention = parameter.ndim == 2 and ".attn_" in name
            parameter.requires_grad_(is_attention or name == "mask_embd")

    def read(self, name: str) -> Tensor:
        """By the body's name. GGUF's q and k rows have rotated pairs side by side; here they lie half a head apart."""
        stored = "token_embd.weight" if name == "output.weight" else name.replace("layers.", "blk.")
        weights = np.array(self.file.dequantized(stored), np.float32)
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            pairs = weights.reshape(-1, self.config.head_dim // 2, 2, weights.shape[1])
            weights = pairs.swapaxes(1, 2).reshape(weights.shape)
        return torch.from_numpy(np.ascontiguousarray(weights))

    def write(self, body: Body, folder: Path) -> None:
        """As Fast-dLLM v2's layout: a Qwen2 body whose biases are 0 is a Llama body."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            export.renamed(name, export.LLAMA): value.half().contiguous()
            for name, value in body.state_dict().items()
            if name not in ("mask_embd", "output.weight")
        }
        weights["model.embed_tokens.weight"][self.mask] = body.mask_embd.detach().half()
        for name in [
            name
            for name in weights
            if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
        ]:
            weights[name.replace(".weight", ".bias")] = torch.zeros(len(weights[name])).half()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        config = export.llama_config(self.shape, self.config.context_length)
        config |= {
            "architectures": ["Fast_dLLM_Qwen"],
            "model_type": "Fast_dLLM_Qwen",
            "num_key_value_heads": self.config.kv_heads,
            "tie_word_embeddings": True,
            "bd_size": BLOCK,
            "mask_token_id": self.mask,
            "eos_token_id": sorted(self.config.eos_ids),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        (folder / "tokenizer.json").write_text(json.dumps(self.tokenizer()))

    def tokenizer(self) -> dict[str, Any]:
        merges = self.file.metadata["tokenizer.ggml.merges"]
        found = export.tokenizer("")
        ids = {token: number for number, token in enumerate(self.vocabulary)}
        found["model"] |= {"vocab": ids, "merges": list(merges)}
        digits = {"type": "Digits", "individual_digits": True}
        steps = [digits, found["pre_tokenizer"]]
        found["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        return found

"""A GGUF file as the Hugging Face folder that vLLM reads: the weights dequantised to float32, and the tokenizer.

    python vllm_checkpoint.py FILE      # in vLLM's environment; prints the folder

The folder is kept below the peer's own environment.
"""

from __future__ import annotations

import sys
from pathlib import Path


def converted(path: Path) -> Path:
    """The folder, made on first use."""
    folder = Path(sys.prefix) / "checkpoints" / path.parent.name
    if not (folder / "config.json").exists():
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32
        )
        # The weights are plain numbers by now, but the model still says where they came from.
        model.hf_quantizer = None
        del model.config.quantization_config
        model.save_pretrained(folder)
    if not (folder / "tokenizer.json").exists():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    print(converted(Path(sys.argv[1])))

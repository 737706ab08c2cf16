"""vLLM for CPUs, free and held to a JSON schema by its structured output: a worker of structured_peers.py.

On the GGUF file's weights dequantised to float32 (vllm_checkpoint.py).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "4"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from grammar_protocol import serve
from vllm_checkpoint import converted


class Vllm:
    def __init__(self, asked: dict[str, Any]) -> None:
        model = str(converted(Path(asked["model"])))
        import vllm
        from vllm.sampling_params import StructuredOutputsParams

        self._engine = vllm.LLM(
            model, dtype="float32", max_model_len=1024, enable_prefix_caching=False
        ).llm_engine
        free = {"temperature": 0.0, "max_tokens": asked["tokens"], "ignore_eos": True}
        schema = json.loads(asked["schema"])
        self._prompts = asked["prompts"]
        self._free = vllm.SamplingParams(**free)
        self._held = vllm.SamplingParams(
            **free, structured_outputs=StructuredOutputsParams(json=schema)
        )
        self._count = 0
        self.about = {"version": vllm.__version__, "weights": "float32, dequantised"}

    def run(self, is_held: bool) -> float:
        """Seconds per token of each request, the first left out."""
        params = self._held if is_held else self._free
        names = []
        for prompt in self._prompts:
            self._count += 1
            names.append(str(self._count))
            self._engine.add_request(names[-1], prompt, params.clone())
        begun: dict[str, float] = {}
        lengths = dict.fromkeys(names, 0)
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                lengths[output.request_id] = len(output.outputs[0].token_ids)
                begun.setdefault(output.request_id, time.perf_counter())
        end = time.perf_counter()
        shortest = min(lengths.values())
        return (end - max(begun.values())) / (shortest - 1)


serve(Vllm)

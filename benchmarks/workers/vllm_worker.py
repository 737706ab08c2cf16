"""vLLM for CPUs, in this process, one step at a time; on the GGUF file's weights dequantised to float32."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "4"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

from protocol import random_tokens, serve
from vllm_checkpoint import converted


class Vllm:
    def __init__(self, setting: dict[str, Any]) -> None:
        model = str(converted(Path(setting["model"])))
        import vllm

        self.work = setting["work"]
        self.params = vllm.SamplingParams(
            temperature=0.0,
            max_tokens=self.work["capacity"] - self.work["fill"],
            ignore_eos=True,
            detokenize=False,
        )
        self.engine = vllm.LLM(
            model,
            dtype="float32",
            skip_tokenizer_init=True,
            max_model_len=self.work["capacity"],
            max_num_seqs=max(32, self.work["batch"]),
            enable_prefix_caching=self.work["shared"],
        ).llm_engine
        self.count = 0
        self.about = {"version": vllm.__version__, "weights": "float32, dequantised"}

    def prepare(self) -> None:
        if self.work["kind"] == "prefill":
            self._prefill(random_tokens(64, 1))
            return
        batch, fill, shared = self.work["batch"], self.work["fill"], self.work["shared"]
        for i in range(batch):
            self._add(random_tokens(fill, 0 if shared else i))
            if i == 0:
                self._until_started(1)
        self._until_started(batch)

    def round(self, seed: int) -> float:
        if self.work["kind"] == "prefill":
            return self._prefill(random_tokens(self.work["context"], seed))
        began = time.perf_counter()
        for _ in range(self.work["steps"]):
            if len(self.engine.step()) != self.work["batch"]:
                raise RuntimeError("a step left a request out")
        return time.perf_counter() - began

    def _prefill(self, tokens: list[int]) -> float:
        began = time.perf_counter()
        self._add(tokens)
        self._until_started(1)
        seconds = time.perf_counter() - began
        self.engine.abort_request([str(self.count)])
        return seconds

    def _add(self, tokens: list[int]) -> None:
        self.count += 1
        self.engine.add_request(str(self.count), {"prompt_token_ids": tokens}, self.params)

    def _until_started(self, batch: int) -> None:
        while len(self.engine.step()) < batch:
            pass


serve(Vllm)

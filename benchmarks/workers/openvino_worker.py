"""OpenVINO GenAI: its continuous batching, which reads the GGUF file itself, one step at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import openvino
import openvino_genai
from protocol import random_tokens, serve

CACHES = {
    "auto": {},
    "f16": {"KV_CACHE_PRECISION": "f16"},
    "int8": {"KV_CACHE_PRECISION": "u8"},
}


class OpenVino:
    def __init__(self, setting: dict[str, Any]) -> None:
        self.work = setting["work"]
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_batched_tokens = 2048
        scheduler.max_num_seqs = max(32, self.work["batch"])
        scheduler.enable_prefix_caching = self.work["shared"]
        properties = {"INFERENCE_NUM_THREADS": setting["threads"], **CACHES[setting["kv"]]}
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            setting["model"], scheduler, "CPU", properties
        )
        self.count = 0
        self.about = {
            "version": openvino_genai.__version__,
            "openvino": openvino.__version__,
            "prefix_caching": self.work["shared"],
        }

    def prepare(self) -> None:
        if self.work["kind"] == "prefill":
            self._prefill(random_tokens(64, 1))
            return
        batch, fill, shared = self.work["batch"], self.work["fill"], self.work["shared"]
        handles = []
        for i in range(batch):
            handles.append(self._add(random_tokens(fill, 0 if shared else i)))
            if i == 0 or not shared:
                self._until_started(handles[-1:])
        self._until_started(handles)
        self.handles = handles
        self.pipeline.step()
        for handle in handles:
            self._read(handle)

    def round(self, seed: int) -> float:
        if self.work["kind"] == "prefill":
            return self._prefill(random_tokens(self.work["context"], seed))
        began = time.perf_counter()
        for _ in range(self.work["steps"]):
            self.pipeline.step()
        seconds = time.perf_counter() - began
        for handle in self.handles:
            found = self._read(handle)
            if found < self.work["steps"]:
                raise RuntimeError(f"{found} tokens in {self.work['steps']} steps")
        return seconds

    def _read(self, handle: Any) -> int:
        """Tokens that have come since the last time."""
        found = 0
        while handle.can_read():
            found += sum(len(one.generated_ids) for one in handle.read().values())
        return found

    def _prefill(self, tokens: list[int]) -> float:
        began = time.perf_counter()
        handle = self._add(tokens)
        self._until_started([handle])
        seconds = time.perf_counter() - began
        handle.stop()
        self.pipeline.step()
        return seconds

    def _add(self, tokens: list[int]) -> Any:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = self.work["capacity"]
        config.ignore_eos, config.do_sample = True, False
        self.count += 1
        ids = openvino.Tensor(np.array([tokens], np.int64))
        return self.pipeline.add_request(self.count, ids, config)

    def _until_started(self, handles: list[Any]) -> None:
        while not all(handle.can_read() for handle in handles):
            self.pipeline.step()


serve(OpenVino)

"""llama.cpp through the low-level calls of llama-cpp-python, in the setting that suits each workload best.

Independent requests have a stream of the KV cache each (not unified), so that none looks over the cells of
the others; their contexts are one prompt, computed once and copied, which costs the same to read. A shared
prefix lies in one unified cache, its cells belonging to all sequences. One llama_decode per step; the greedy
choice is an argmax by NumPy.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import llama_cpp as lib
import numpy as np
from protocol import random_tokens, serve

logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)


class Llama:
    def __init__(self, setting: dict[str, Any]) -> None:
        self.work = setting["work"]
        lib.llama_backend_init()
        self.model = lib.llama_model_load_from_file(
            setting["model"].encode(), lib.llama_model_default_params()
        )
        if not self.model:
            raise RuntimeError("the file was not loaded")
        self.vocab_size = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.model))
        self.context = lib.llama_init_from_model(self.model, self._parameters(setting))
        if not self.context:
            raise RuntimeError("no context was made")
        self.memory = lib.llama_get_memory(self.context)
        self.batch = lib.llama_batch_init(2048, 0, 1)
        self.about = {
            "version": lib.__version__,
            "system": lib.llama_print_system_info().decode(),
            "flash_attention": setting["flash"],
            "kv_unified": self.work["shared"],
        }

    def _parameters(self, setting: dict[str, Any]) -> Any:
        batch, capacity = self.work["batch"], self.work["capacity"]
        grown = capacity - self.work["fill"]
        shared = self.work["fill"] + batch * grown
        cells = shared if self.work["shared"] else batch * (-(-capacity // 256) * 256)
        params = lib.llama_context_default_params()
        params.n_ctx = -(-cells // 256) * 256
        params.n_batch, params.n_ubatch, params.n_seq_max = 2048, 512, batch
        params.n_threads = params.n_threads_batch = setting["threads"]
        params.flash_attn_type = 1 if setting["flash"] else 0
        params.kv_unified = self.work["shared"]
        params.swa_full = False
        params.no_perf = True
        return params

    def prepare(self) -> None:
        if self.work["kind"] == "prefill":
            self._feed(random_tokens(64, 1))
            return
        self._feed(random_tokens(self.work["fill"], 0))
        batch = self.work["batch"]
        for sequence in range(1, batch):
            lib.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        self.position = self.work["fill"]
        self.tokens = random_tokens(batch, 2)
        self._step()

    def round(self, seed: int) -> float:
        if self.work["kind"] == "prefill":
            tokens = random_tokens(self.work["context"], seed)
            lib.llama_memory_clear(self.memory, False)
            began = time.perf_counter()
            self._feed(tokens)
        else:
            began = time.perf_counter()
            for _ in range(self.work["steps"]):
                self._step()
        return time.perf_counter() - began

    def _feed(self, tokens: list[int]) -> None:
        """The prompt of sequence 0; only the last row of logits is wanted."""
        for start in range(0, len(tokens), 2048):
            part = tokens[start : start + 2048]
            for i, token in enumerate(part):
                self._put(i, token, start + i, 0, start + i == len(tokens) - 1)
            self._decode(len(part))
        self._greedy(len(part) - 1)

    def _step(self) -> None:
        """One token of every sequence."""
        for i, token in enumerate(self.tokens):
            self._put(i, token, self.position, i, True)
        self._decode(len(self.tokens))
        self.tokens = [self._greedy(i) for i in range(len(self.tokens))]
        self.position += 1

    def _put(self, i: int, token: int, position: int, sequence: int, logits: bool) -> None:
        batch = self.batch
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, position, 1
        batch.seq_id[i][0], batch.logits[i] = sequence, logits

    def _decode(self, count: int) -> None:
        self.batch.n_tokens = count
        code = lib.llama_decode(self.context, self.batch)
        if code != 0:
            raise RuntimeError(f"llama_decode gave {code}")

    def _greedy(self, row: int) -> int:
        logits = lib.llama_get_logits_ith(self.context, row)
        return int(np.argmax(np.ctypeslib.as_array(logits, (self.vocab_size,))))


serve(Llama)

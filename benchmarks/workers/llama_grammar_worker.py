"""llama.cpp, free and held to a JSON schema by its own grammars, alone: a worker of structured_peers.py."""

from __future__ import annotations

import time
from typing import Any

import llama_cpp as lib
from grammar_protocol import serve


class Llama:
    def __init__(self, asked: dict[str, Any]) -> None:
        self._llama = lib.Llama(
            asked["model"], n_ctx=1024, n_threads=asked["threads"], verbose=False, flash_attn=False
        )
        self._asked = asked
        begin = time.perf_counter()
        self._grammar = lib.LlamaGrammar.from_json_schema(asked["schema"], verbose=False)
        compiling = time.perf_counter() - begin
        self.about = {"version": lib.__version__, "compiling_ms": round(1e3 * compiling, 2)}

    def run(self, is_held: bool) -> float:
        """Seconds per token, the first left out."""
        self._llama.reset()
        pieces = self._llama.create_completion(
            self._asked["prompts"][0],
            max_tokens=self._asked["tokens"],
            temperature=0.0,
            grammar=self._grammar if is_held else None,
            stream=True,
        )
        times = [time.perf_counter() for _ in pieces]
        return (times[-1] - times[0]) / (len(times) - 1)


serve(Llama)

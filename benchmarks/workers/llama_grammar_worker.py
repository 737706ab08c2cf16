"""A token of llama.cpp, free and held to a JSON schema by its own grammars: run by benchmarks/structured.py.

One JSON object on standard input (model, threads, prompt, schema, tokens, seconds), one on standard output.
"""

from __future__ import annotations

import json
import sys
import time
from statistics import median
from typing import Any

import llama_cpp as lib


def seconds_per_token(llama: lib.Llama, asked: dict[str, Any], grammar: Any) -> float:
    """Greedy; the first token left out."""
    llama.reset()
    times = []
    pieces = llama.create_completion(
        asked["prompt"],
        max_tokens=asked["tokens"],
        temperature=0.0,
        grammar=grammar,
        stream=True,
    )
    for _ in pieces:
        times.append(time.perf_counter())
    return (times[-1] - times[0]) / (len(times) - 1)


def main() -> None:
    asked = json.load(sys.stdin)
    llama = lib.Llama(
        asked["model"], n_ctx=1024, n_threads=asked["threads"], verbose=False, flash_attn=False
    )
    begin = time.perf_counter()
    schema = json.dumps(asked["schema"])
    grammar = lib.LlamaGrammar.from_json_schema(schema, verbose=False)
    compiling = time.perf_counter() - begin
    free, held = [], []
    end = time.perf_counter() + asked["seconds"]
    while time.perf_counter() < end or len(free) < 3:
        free.append(seconds_per_token(llama, asked, None))
        held.append(seconds_per_token(llama, asked, grammar))
    found = {
        "version": lib.__version__,
        "runs": len(free),
        "free_ms": round(1e3 * median(free), 3),
        "document_ms": round(1e3 * median(held), 3),
        "overhead_percent": round(100 * (median(held) / median(free) - 1), 1),
        "compiling_ms": round(1e3 * compiling, 2),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

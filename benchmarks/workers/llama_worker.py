"""llama.cpp through llama-cpp-python: prefill and forced decoding of random tokens, timed."""

from __future__ import annotations

import json
import random
import resource
import sys
import time

import llama_cpp

setting = json.loads(sys.argv[1])
llama = llama_cpp.Llama(
    setting["model"],
    n_ctx=setting["context"],
    n_batch=512,
    n_threads=setting["threads"],
    n_threads_batch=setting["threads"],
    flash_attn=setting["flash"],
    verbose=False,
)


def reply(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


reply(version=llama_cpp.__version__, system=llama_cpp.llama_print_system_info().decode())
for line in sys.stdin:
    order = json.loads(line)
    if order.get("memory"):
        reply(peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        continue
    generator = random.Random(order["seed"])
    tokens = [generator.randrange(1000, 40000) for _ in range(order["prompt"] + order["decode"])]
    llama.reset()
    began = time.perf_counter()
    llama.eval(tokens[: order["prompt"]])
    prefilled = time.perf_counter()
    llama.reset()
    llama.eval(tokens[: order["start"]])
    decoding = time.perf_counter()
    for token in tokens[order["prompt"] :]:
        llama.eval([token])
    reply(prefill_seconds=prefilled - began, decode_seconds=time.perf_counter() - decoding)

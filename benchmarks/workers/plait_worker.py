"""Plait through its offline API: prefill and greedy decoding after random tokens, timed by its metrics."""

from __future__ import annotations

import json
import random
import resource
import sys

from plait import LLM, SamplingParams, __version__
from plait.kernels.plan import runnable_isas

setting = json.loads(sys.argv[1])
llm = LLM(setting["model"], threads=setting["threads"], max_model_len=setting["context"])


def reply(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def run(tokens: list[int], count: int) -> tuple[float, float]:
    """(seconds to the first token, seconds for the `count` tokens after it)."""
    params = SamplingParams(temperature=0.0, max_tokens=count + 1, ignore_eos=True)
    metrics = llm.generate([{"prompt_token_ids": tokens}], params)[0].metrics
    first = metrics.first_token_time - metrics.arrival_time
    return first, metrics.finished_time - metrics.first_token_time


reply(version=__version__, isa=runnable_isas()[-1])
for line in sys.stdin:
    order = json.loads(line)
    if order.get("memory"):
        reply(peak_rss=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        continue
    generator = random.Random(order["seed"])
    tokens = [generator.randrange(1000, 40000) for _ in range(order["prompt"])]
    prefill, _ = run(tokens, 1)
    _, decode = run(tokens[: order["start"]], order["decode"])
    reply(prefill_seconds=prefill, decode_seconds=decode)

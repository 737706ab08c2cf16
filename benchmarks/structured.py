"""What structured output costs: masks alone, and a token of an answer that has to fit against one that has not.

    .venv/bin/python benchmarks/structured.py [MODEL] [--seconds N]

Masks: every place of documents that fit (schemas with and without whitespace, an expression, a grammar), through
`State.fill`, each grammar compiled anew. Tokens: the same answer twice, free and held to a grammar that every text
fits, so that both compute the same; the difference is what masks cost, and, where free rows need few of their logits, that
constrained ones need them all. Runs alternate; medians of all of them.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import Any

import numpy as np

from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.grammar.llguidance import Compiler
from plait.llm import LLM

ANYTHING = StructuredOutputs(regex=r"(.|\n)*")
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "code": {"pattern": "^[0-9]{5}$"}},
            "required": ["street", "code"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": False,
}
DOCUMENT: dict[str, Any] = {
    "name": "Zoë O'Neil 日本",
    "age": 41,
    "tags": ["red", "blue"],
    "address": {"street": 'Main "Street" 5\nback', "code": "01234"},
}
COMPACT = json.dumps(DOCUMENT, ensure_ascii=False, separators=(",", ":"))
CASES = [
    (StructuredOutputs(json=PERSON), json.dumps(DOCUMENT, ensure_ascii=False)),
    (StructuredOutputs(json=PERSON), json.dumps(DOCUMENT, ensure_ascii=False, indent=2)),
    (StructuredOutputs(json=PERSON, disable_any_whitespace=True), COMPACT),
    (StructuredOutputs(json_object=True), COMPACT),
    (StructuredOutputs(regex=r"[A-Z][a-z]+( [a-z]+)*, [0-9]{4}\."), "Once upon a time, 1984."),
    (
        StructuredOutputs(grammar='start: s\ns: t ("+" t)*\nt: /[0-9]+/ | "(" s ")"'),
        "(1+2)+((33)+4)",
    ),
]


def mask_seconds(llm: LLM, rounds: int) -> tuple[list[float], list[float]]:
    """Times of masks, and of compiling each grammar."""
    own, traits = llm.tokenizer, llm.traits
    fills, compilations = [], []
    for _ in range(rounds):
        made = Compiler(lambda: own, traits.eos_ids, traits.vocab_size)
        made.compile(ANYTHING)
        mask = np.empty(made.num_words, np.uint32)
        for asked, text in CASES:
            begin = time.perf_counter()
            state = made.compile(asked)
            compilations.append(time.perf_counter() - begin)
            for token in own.encode(text, add_special=False):
                begin = time.perf_counter()
                state.fill(mask)
                fills.append(time.perf_counter() - begin)
                if not state.advance(token):
                    break
    return fills, compilations


def token_seconds(llm: LLM, batch: int, params: SamplingParams) -> float:
    """Seconds between the tokens of an answer, the first left out; the median of the batch."""
    outputs = llm.generate([f"Story number {i}: once upon a time" for i in range(batch)], params)
    times = []
    for output in outputs:
        metrics = output.metrics
        assert metrics.finished_time is not None
        assert metrics.first_token_time is not None
        count = len(output.outputs[0].token_ids)
        times.append((metrics.finished_time - metrics.first_token_time) / (count - 1))
    return median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--seconds", type=float, default=40.0, help="for the tokens")
    parser.add_argument("--batch", type=int, default=1)
    given = parser.parse_args()
    with LLM(given.model, max_model_len=1024, enable_prefix_caching=False) as llm:
        fills, compilations = mask_seconds(llm, 5)
        print(
            f"masks: {len(fills)}, median {1e6 * median(fills):.0f} us, "
            f"p99 {1e6 * float(np.quantile(fills, 0.99)):.0f} us, most {1e6 * max(fills):.0f} us; "
            f"compiling: median {1e3 * median(compilations):.1f} ms, most {1e3 * max(compilations):.1f} ms"
        )
        for name, fields in {
            "greedy": {"temperature": 0.0},
            "temperature 0.7, top_p 0.95": {"temperature": 0.7, "top_p": 0.95, "seed": 1},
        }.items():
            ways = [
                SamplingParams(
                    max_tokens=96, logit_bias={2: -100.0, 0: -100.0}, **fields
                ),  # no end
                SamplingParams(max_tokens=96, ignore_eos=True, **fields),
                SamplingParams(
                    max_tokens=96,
                    logit_bias={2: -100.0, 0: -100.0},
                    structured_outputs=ANYTHING,
                    **fields,
                ),
            ]
            times: list[list[float]] = [[], [], []]
            end = time.perf_counter() + given.seconds / 2
            while time.perf_counter() < end or len(times[0]) < 3:
                for way, own in zip(ways, times, strict=True):
                    own.append(token_seconds(llm, given.batch, way))
            full, free, held = (1e3 * median(own) for own in times)
            print(
                f"{name}, batch {given.batch}: free {free:.3f} ms, free with all logits {full:.3f} ms, "
                f"constrained {held:.3f} ms: {100 * (held / free - 1):+.1f}%, "
                f"{100 * (held / full - 1):+.1f}% with all logits (medians of {len(times[0])} runs)"
            )


if __name__ == "__main__":
    main()

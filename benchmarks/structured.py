"""What structured output costs: masks alone, a schema that is new, and a token that has to fit against one that has not.

    .venv/bin/python benchmarks/structured.py [MODEL] [--seconds N] [--batch N] [--only masks|first|tokens]

Masks: every place of documents that fit (schemas with and without whitespace, an expression, a grammar), through
`State.fill`, each grammar compiled anew. First: from a request to its first token, of every schema of the tests, each
asked for the first time, against the same prompt without one. Tokens: the same answer twice, free and held to a grammar
that every text fits, so that both compute the same; and documents of a schema, per token and per forward. Runs
alternate, another one first each time; medians of all of them, quartiles of the ratios, and, since other work on a machine
only makes runs slower, the ratio of the times that a fifth of the runs keep below. What was measured goes to
benchmarks/results/structured-MODEL.json, in place of what was measured there of the same name.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.grammar.llguidance import Compiler
from plait.llm import LLM

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from tests.engine.schemas import SCHEMAS  # noqa: E402  (the tests' schemas need the path above)

ANYTHING = StructuredOutputs(regex=r"(.|\n)*\x00")  # no model ends that
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


def keep(model: str, name: str, found: dict[str, Any]) -> None:
    """Into the model's file of results, and onto the screen."""
    path = HERE / "results" / f"structured-{model}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**known, name: found}, indent=1) + "\n")
    print(f"{name}: {json.dumps(found)}", flush=True)


def shares(times: list[float], factor: float) -> dict[str, float]:
    marks = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "most": 1.0}
    return {name: round(factor * float(np.quantile(times, q)), 2) for name, q in marks.items()}


def first_token_seconds(llm: LLM) -> tuple[list[float], list[float]]:
    """From a request to its first token, with schemas that were never asked for, and free."""
    held, free = [], []
    for schema in ({"type": "object"}, *SCHEMAS):  # the first also builds the tokenizer's trie
        wanted = StructuredOutputs(json={**schema, "title": "of the benchmark"})
        for structured, own in ((None, free), (wanted, held)):
            params = SamplingParams(max_tokens=1, temperature=0, structured_outputs=structured)
            begin = time.perf_counter()
            llm.generate(["Once upon a time there was a"], params)
            own.append(time.perf_counter() - begin)
    return held, free


def token_seconds(llm: LLM, batch: int, params: SamplingParams) -> tuple[float, float]:
    """Seconds between the tokens of an answer and between its forwards, the first left out; medians of the batch."""
    outputs = llm.generate([f"Story number {i}: once upon a time" for i in range(batch)], params)
    tokens, forwards = [], []
    for output in outputs:
        metrics = output.metrics
        assert metrics.finished_time is not None
        assert metrics.first_token_time is not None
        seconds = metrics.finished_time - metrics.first_token_time
        tokens.append(seconds / (len(output.outputs[0].token_ids) - 1))
        forwards.append(seconds / max(1, metrics.num_forwards - 1))
    return median(tokens), median(forwards)


KINDS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 0.7, "top_p": 0.95, "seed": 1},
}
LENGTH = 96


def compare(llm: LLM, batch: int, fields: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Milliseconds per token: free, held to a grammar that every text fits, and of documents."""
    ways = {
        "free": SamplingParams(max_tokens=LENGTH, ignore_eos=True, **fields),
        "held": SamplingParams(max_tokens=LENGTH, structured_outputs=ANYTHING, **fields),
        "document": SamplingParams(
            max_tokens=LENGTH,
            structured_outputs=StructuredOutputs(json=LISTS, disable_any_whitespace=True),
            **fields,
        ),
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["free"]) < 3:
        turn = len(times["free"]) % len(ways)
        for name in [*ways][turn:] + [*ways][:turn]:
            times[name].append(token_seconds(llm, batch, ways[name]))
    found: dict[str, Any] = {
        "runs": len(times["free"]),
        "overhead_percent": {},
        "overhead_of_fast_runs_percent": {},
    }
    for name, own in times.items():
        token, forward = (median(column) for column in zip(*own, strict=True))
        found[f"{name}_ms"] = round(1e3 * token, 3)
        found[f"{name}_forward_ms"] = round(1e3 * forward, 3)
    found["head"] = dict(llm.counters)
    for name in ("held", "document"):
        for place, what in enumerate(("", "_forward")):
            pairs = zip(times[name], times["free"], strict=True)
            ratios = [100 * (own[place] / free[place] - 1) for own, free in pairs]
            quarters = [round(float(np.quantile(ratios, q)), 1) for q in (0.25, 0.5, 0.75)]
            found["overhead_percent"][name + what] = quarters
            fast, fast_free = (
                float(np.quantile([one[place] for one in times[way]], 0.2))
                for way in (name, "free")
            )
            found["overhead_of_fast_runs_percent"][name + what] = round(
                100 * (fast / fast_free - 1), 1
            )
    return found


LISTS: dict[str, Any] = {
    "type": "array",
    "minItems": 40,
    "items": {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 30}, "age": {"type": "integer"}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
}
"""Longer than any answer of the benchmark."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--seconds", type=float, default=40.0, help="for the tokens")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--only", choices=("masks", "first", "tokens"))
    given = parser.parse_args()
    with LLM(given.model, max_model_len=1024, enable_prefix_caching=False, proposer="none") as llm:
        if given.only in (None, "masks"):
            fills, compilations = mask_seconds(llm, 5)
            found = {"masks": len(fills), "us": shares(fills, 1e6)}
            keep(given.model, "masks", {**found, "compiling_ms": shares(compilations, 1e3)})
        if given.only in (None, "first"):
            held, free = first_token_seconds(llm)
            more = [a - b for a, b in zip(held[1:], free[1:], strict=True)]
            found = {"schemas": len(more), "added_ms": shares(more, 1e3)}
            keep(given.model, "first token", {**found, "first_of_all_ms": round(1e3 * held[0], 1)})
        for name, fields in KINDS.items() if given.only in (None, "tokens") else ():
            found = compare(llm, given.batch, fields, given.seconds / len(KINDS))
            keep(given.model, f"{name}, batch {given.batch}", found)


if __name__ == "__main__":
    main()

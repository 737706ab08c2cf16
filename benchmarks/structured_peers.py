"""A token of a JSON document that has to fit its schema, beside peers: rounds that alternate, medians, ratios.

    .venv/bin/python benchmarks/structured_peers.py [MODEL] [--peers llama.cpp vllm] [--batch N] [--rounds N]

Every engine answers the same prompts greedily, in turn free and held to the same schema, whose documents are longer than
the answers. llama.cpp's bindings answer one prompt at a time, so that it is left out of batches; vLLM computes the same
weights in float32. A peer that does not run says so in the record, benchmarks/results/structured-MODEL.json ("peers,
batch N"). With a batch, vLLM's answers begin at different times and are timed from where all have begun.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from engines import NotAvailableError, peer_python
from structured import LENGTH, LISTS, keep, token_seconds

from plait.core.params import SamplingParams
from plait.core.structured import StructuredOutputs
from plait.engine import facts
from plait.llm import LLM
from plait.weights import hub

HERE = Path(__file__).resolve().parent
WORKERS = {"llama.cpp": "llama_grammar_worker.py", "vllm": "vllm_grammar_worker.py"}
SCHEMA = json.dumps(LISTS)


def prompts(batch: int) -> list[str]:
    return [f"Story number {i}: once upon a time" for i in range(batch)]


class Peer:
    """A worker that has loaded the model. Raises NotAvailableError."""

    def __init__(self, name: str, model: str, batch: int, home: Path) -> None:
        python = peer_python(name, home)
        self.process = subprocess.Popen(
            [python, str(HERE / "workers" / WORKERS[name])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        asked = {"model": str(hub.resolve(model)), "threads": os.cpu_count(), "schema": SCHEMA}
        self.about = self.ask(json.dumps({**asked, "prompts": prompts(batch), "tokens": LENGTH}))

    def ask(self, line: str) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        told = self.process.stdout.readline()
        if not told:
            raise NotAvailableError(f"its worker ended with {self.process.wait()}")
        return json.loads(told)

    def seconds(self, is_held: bool) -> float:
        return float(self.ask("held" if is_held else "free"))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Plait:
    """This engine; without whitespace, as a compact schema is asked for, and with."""

    about: dict[str, Any] = {}

    def __init__(self, llm: LLM, batch: int) -> None:
        self._llm, self._batch = llm, batch

    def seconds(self, is_held: bool) -> float:
        structured = StructuredOutputs(json=LISTS) if is_held else None
        params = SamplingParams(
            max_tokens=LENGTH, temperature=0, ignore_eos=not is_held, structured_outputs=structured
        )
        return token_seconds(self._llm, self._batch, params)[0]


def measure(engines: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Milliseconds per token of each engine, free and held, and what Plait gains over it."""
    times: dict[tuple[str, bool], list[float]] = {}
    for number in range(rounds + 1):
        for name, engine in engines.items():
            for is_held in (False, True):
                seconds = engine.seconds(is_held)
                if number:  # the first warms up
                    times.setdefault((name, is_held), []).append(1e3 * seconds)
    found: dict[str, Any] = {}
    for name, engine in engines.items():
        free, held = median(times[name, False]), median(times[name, True])
        found[name] = {
            **engine.about,
            "free_ms": round(free, 3),
            "document_ms": round(held, 3),
            "overhead_percent": round(100 * (held / free - 1), 1),
            "document_ratio": round(held / median(times["plait", True]), 2),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--peers", nargs="*", choices=list(WORKERS), default=list(WORKERS))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    given = parser.parse_args()
    missing: dict[str, Any] = {}
    with ExitStack() as stack:
        llm = stack.enter_context(
            LLM(given.model, max_model_len=1024, enable_prefix_caching=False, proposer="none")
        )
        engines: dict[str, Any] = {"plait": Plait(llm, given.batch)}
        for name in given.peers:
            if name == "llama.cpp" and given.batch > 1:
                missing[name] = {"error": "its bindings answer one prompt at a time"}
                continue
            try:
                peer = Peer(name, given.model, given.batch, given.home)
            except NotAvailableError as error:
                missing[name] = {"error": str(error)}
                continue
            stack.callback(peer.close)
            engines[name] = peer
        load = os.getloadavg()[0]
        found = {**measure(engines, given.rounds), **missing}
    own = facts.machine()
    told = {"rounds": given.rounds, "processor": own.processor, "isa": own.isas[-1], "load": load}
    keep(given.model, f"peers, batch {given.batch}", {**told, **found})


if __name__ == "__main__":
    main()

"""Drafting with a second model, beside llama.cpp's own: rounds in turns, medians, ratios, JSON.

    python benchmarks/speculative_peers.py qwen2.5-coder-1.5b qwen2.5-coder-0.5b --prompts HumanEval.jsonl.gz

Both engines are servers with the same two files, threads and slots; each answers the same prompts greedily, end tokens
ignored, with and without drafts. What is timed is a whole request of --tokens tokens whose prompt was sent once before,
so that both hold it. llama.cpp drafts as it does by itself, with longer drafts where its draft model is sure, and from
runs of the text. Plait decides by itself (`auto`).

The record, benchmarks/results/speculative-peers-MODEL.json, is written after every round and gone on with; --minutes
ends a piece. A kind of prompts and a batch that were measured before with other settings are refused (--fresh).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from engines import NotAvailableError
from peers import machine
from servers import Server, Setting

from plait.analysis.sources import fingerprint
from plait.analysis.speculation_prompts import TEXTS, filled, read
from plait.weights import hub

HERE = Path(__file__).resolve().parent
PAUSE = 0.5
"""Seconds between two servers: the threads of the last one go to sleep."""
PATIENCE = 600.0


@dataclass(frozen=True)
class Way:
    """server, options: with which it is started; "{draft}" is the file of the draft model. fields: of its requests."""

    server: str
    options: tuple[str, ...] = ()
    fields: dict[str, str] = field(default_factory=dict)


DRAFT = (
    "--spec-type",
    "draft-simple",
    "--model-draft",
    "{draft}",
    "--spec-draft-threads",
    "{threads}",
)
OWN = ("--proposer", "auto:{draft}")
WAYS = {
    "plait": Way("plait", OWN, {"proposer": "none"}),
    "plait auto": Way("plait", OWN, {"proposer": "auto"}),
    "llama.cpp": Way("llama.cpp"),
    "llama.cpp draft": Way("llama.cpp", DRAFT),
    "llama.cpp draft 8": Way(
        "llama.cpp", (*DRAFT, "--spec-draft-n-max", "8", "--spec-draft-p-min", "0.75")
    ),
    "llama.cpp runs": Way("llama.cpp", ("--spec-type", "ngram-simple")),
}


def ask(url: str, fields: dict[str, Any]) -> dict[str, Any]:
    """One completion, whole."""
    request = urllib.request.Request(
        f"{url}/v1/completions",
        json.dumps(fields).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return dict(json.load(answer))


def timed(url: str, way: Way, prompts: list[str], tokens: int) -> dict[str, Any]:
    """The prompts at once: seconds until the last answer, and what was drafted. Raises RuntimeError for an answer of
    another length."""
    each = [
        {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, **way.fields}
        for prompt in prompts
    ]
    with ThreadPoolExecutor(len(prompts)) as pool:
        began = time.perf_counter()
        answers = list(pool.map(lambda fields: ask(url, fields), each))
        seconds = time.perf_counter() - began
    lengths = {answer["usage"]["completion_tokens"] for answer in answers}
    if lengths != {tokens}:
        raise RuntimeError(f"answers of {lengths} tokens, not {tokens}")
    times = [answer.get("timings", {}) for answer in answers]
    return {
        "seconds": seconds,
        "drafted": sum(one.get("draft_n") or 0 for one in times),
        "accepted": sum(one.get("draft_n_accepted") or 0 for one in times),
        "texts": [answer["choices"][0]["text"] for answer in answers],
    }


class Table:
    """rows: "KIND, batch N" -> prompts' number and round -> way -> [seconds, drafted, accepted, same text as without]."""

    def __init__(self, path: Path, about: dict[str, Any], *, fresh: bool) -> None:
        known = {} if fresh or not path.exists() else json.loads(path.read_text("utf-8"))
        if known and known["about"] != about:
            differs = [name for name in about if known["about"].get(name) != about[name]]
            sys.exit(f"{path} was made with other {', '.join(differs)}: --fresh begins anew")
        self.path, self.about = path, about
        self.rows: dict[str, dict[str, Any]] = known.get("rows", {})
        self.loads: list[list[float]] = known.get("load_averages", [])
        self.missing: dict[str, str] = {}

    def write(self) -> None:
        told = {
            "about": self.about,
            "load_averages": self.loads,
            "not_available": self.missing,
            "ways": {kind: summary(rows, self.about["tokens"]) for kind, rows in self.rows.items()},
            "rows": self.rows,
        }
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        part.replace(self.path)


def summary(rows: dict[str, Any], tokens: int) -> dict[str, Any]:
    """Of each way: milliseconds per token and request (the median), and how many times as fast Plait's own choice is,
    the median over the rounds, in each of which both were measured."""
    ways = list(next(iter(rows.values())))
    found = {}
    for way in ways:
        own = [row[way] for row in rows.values()]
        pairs = [row[way][0] / row["plait auto"][0] for row in rows.values() if "plait auto" in row]
        seconds, drafted, accepted, same = zip(*own, strict=True)
        found[way] = {
            "rounds": len(own),
            "ms_per_token": round(1e3 * median(seconds) / tokens, 2),
            "plait_auto_is_faster": round(median(pairs), 3) if pairs else None,
            "accepted_of_drafted": [sum(accepted), sum(drafted)],
            "same_as_without": f"{sum(same)} of {len(same)}",
        }
    return found


def measure(
    table: Table,
    servers: dict[str, Server],
    kind: str,
    prompts: list[str],
    given: argparse.Namespace,
    key: str,
) -> None:
    """One round of a group of prompts, every way in turn, another one first each time."""
    names = list(servers)
    place = sum(len(rows) for rows in table.rows.values()) % len(names)
    found = {}
    for name in names[place:] + names[:place]:
        time.sleep(PAUSE)
        way = WAYS[name]
        timed(servers[name].url, way, prompts, 2)  # the prompt is read
        found[name] = timed(servers[name].url, way, prompts, given.tokens)
    rows = table.rows.setdefault(kind, {})
    rows[key] = {
        name: [
            round(found[name]["seconds"], 4),
            found[name]["drafted"],
            found[name]["accepted"],
            found[name]["texts"] == found.get(WAYS[name].server, found[name])["texts"],
        ]
        for name in names
    }
    table.loads.append([round(one, 2) for one in os.getloadavg()[:1]])
    table.write()


def start(given: argparse.Namespace, table: Table, stack: ExitStack) -> dict[str, Server]:
    """Way -> its server; ways that differ in their requests alone share one."""
    setting = Setting(
        given.model,
        hub.resolve(given.model),
        max(given.batch),
        given.context,
        given.threads,
        given.home,
    )
    own: dict[tuple[str, tuple[str, ...]], Server] = {}
    servers = {}
    for name in given.ways:
        way = WAYS[name]
        draft = given.draft if way.server == "plait" else str(hub.resolve(given.draft))
        options = tuple(one.format(draft=draft, threads=given.threads) for one in way.options)
        try:
            if (way.server, options) not in own:
                own[way.server, options] = server = Server(way.server, setting, PATIENCE, options)
                stack.callback(server.close)
            servers[name] = own[way.server, options]
        except NotAvailableError as error:
            table.missing[name] = str(error)
            print(f"{name}: {error}", file=sys.stderr)
    return servers


def run(given: argparse.Namespace, table: Table) -> None:
    kinds = {name: list(TEXTS[name]) for name in given.only if name in TEXTS}
    if given.prompts:
        kinds |= {name: list(texts) for name, texts in read(given.prompts, given.items).items()}
    until = time.monotonic() + 60 * given.minutes if given.minutes else float("inf")
    with ExitStack() as stack:
        servers = start(given, table, stack)
        longest = 0.0
        for turn in range(given.rounds if servers else 0):
            for batch in given.batch:
                for name, texts in kinds.items():
                    prompts, kind = filled(texts, batch), f"{name}, batch {batch}"
                    for group in range(0, len(prompts) - batch + 1, batch):
                        key = f"{group}, round {turn}"
                        if key in table.rows.get(kind, {}):
                            continue
                        began = time.monotonic()
                        if began + longest > until:
                            print("time is up; the same command goes on from here")
                            return
                        measure(table, servers, kind, prompts[group : group + batch], given, key)
                        longest = max(longest, time.monotonic() - began)
                        print(
                            f"{kind}, prompts {key}: {time.monotonic() - began:.0f} s", flush=True
                        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("draft")
    parser.add_argument(
        "--prompts", type=Path, help='JSON lines with a "prompt" each: one more kind'
    )
    parser.add_argument("--items", type=int, default=4, help="prompts of that file, evenly spread")
    parser.add_argument("--only", nargs="*", choices=list(TEXTS), default=["code", "copy"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--context", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--home", type=Path, default=Path.home() / ".cache/plait/peers")
    parser.add_argument("--fresh", action="store_true", help="begin the record anew")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    about = {
        "model": given.model,
        "draft": given.draft,
        "tokens": given.tokens,
        "threads": given.threads,
        "ways": given.ways,
        "items": given.items,
        "code": fingerprint(),
        "machine": machine(),
    }
    path = given.out or HERE / "results" / f"speculative-peers-{given.model}.json"
    table = Table(path, about, fresh=given.fresh)
    run(given, table)
    for kind, rows in table.rows.items():
        for way, own in summary(rows, given.tokens).items():
            print(f"{kind:20} {way:18} {json.dumps(own)}")


if __name__ == "__main__":
    main()

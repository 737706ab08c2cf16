"""A worker's side of the pipe: one JSON line in, one out. Only the standard library: it runs in the
environment of every peer."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol


class Worker(Protocol):
    """One engine with one workload. about: versions and the like.

    It may have `found`, a dict: what the last round found besides its seconds.
    """

    about: dict[str, Any]

    def prepare(self) -> None:
        """Fill the contexts, or warm up for prefill."""

    def round(self, seed: int) -> float:
        """Seconds of one round."""


def random_tokens(count: int, seed: int) -> list[int]:
    """The same ids for every engine; ids below 1000 may be control tokens."""
    generator = random.Random(seed)
    return [generator.randrange(1000, 40000) for _ in range(count)]


def canvas_prompt(setting: dict[str, Any], seed: int) -> list[int]:
    """The prompt of a canvas, as long as the setting says."""
    return random_tokens(setting["prompt"], seed)


def serve(make: Callable[[dict[str, Any]], Worker]) -> None:
    """Build the worker from the setting on the command line and answer until the pipe closes.

    Whatever the engine prints to stdout goes to stderr: the answers have it to themselves.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def reply(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    try:
        worker = make(json.loads(sys.argv[1]))
        worker.prepare()
    except Exception as error:  # the record says why a peer could not run
        reply(error=f"{type(error).__name__}: {error}"[:600])
        return
    reply(about=worker.about)
    for line in sys.stdin:
        seconds = worker.round(json.loads(line)["seed"])
        reply(seconds=seconds, peak_rss=peak_rss(), **getattr(worker, "found", {}))


def peak_rss(pid: str = "self") -> int:
    """Most resident bytes so far, of a process and of its children that live; what they share counts twice."""
    folder = Path("/proc") / pid
    try:
        own = int((folder / "status").read_text().split("VmHWM:")[1].split()[0]) * 1024
        children = {
            child for file in folder.glob("task/*/children") for child in file.read_text().split()
        }
    except (OSError, IndexError):  # it has ended meanwhile
        return 0
    return own + sum(map(peak_rss, children))

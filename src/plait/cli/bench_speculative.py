"""`plait bench speculative`: what drafting gains on code, copied text, chat and random prompts."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from plait.cli.bench_record import Out, Record
from plait.cli.flags import ENGINE
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import fetch
from plait.core.config import EngineConfig
from plait.core.errors import UserError

if TYPE_CHECKING:
    from plait.analysis.speculation import Gain, Workload
    from plait.text.tokenizer import Tokenizer

CODE = (
    'def is_prime(n):\n    """Return True if n is a prime number."""\n',
    "class Stack:\n    def __init__(self):\n        self.items = []\n\n    def push(self, item):\n",
    'import csv\n\ndef read_rows(path):\n    """Yield the rows of a CSV file as dictionaries."""\n',
)
FACTS = (
    "The library opens at nine on weekdays and at ten on Saturdays; on Sundays it stays closed. "
    "Members may borrow up to six books for four weeks and renew each of them twice, unless "
    "somebody else has asked for it. Who brings a book back late pays twenty cents a day. "
)
COPY = tuple(
    f"{FACTS}{more}\n\nThe same text again, word for word:\n\n"
    for more in ("", FACTS[:90], "Note: ")
)
CHAT = (
    "Explain to a child why the sky is blue.\n\n",
    "Give me three reasons to learn a second language.\n\n",
    "Write a short letter to a friend about a trip to the mountains.\n\n",
)
TEXTS = {"code": CODE, "copy": COPY, "chat": CHAT}
RANDOM_LENGTH = 64
HEAD = (
    "prompts    proposer   tok/forward drafted/tok speed-up expected  draft  "
    "ms: median    p99  right by place"
)


@takes(engine=ENGINE)
def speculative(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate for each prompt.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option(help="A kind of prompts to measure. May be repeated.", show_default="all"),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(help='JSON lines with a "prompt" each, plain or .gz: one more kind.'),
    ] = None,
    items: Annotated[int, typer.Option(min=1, help="Of that file, so many, evenly spread.")] = 10,
    plot: Annotated[Path | None, typer.Option(help="Draw the speed-ups as SVG.")] = None,
    out: Out = None,
) -> None:
    """Measure drafting beside plain decoding, in turns, in the same engine. End tokens are ignored.

    --proposer says which: lookahead, draft:MODEL, or auto; auto:MODEL compares all three. Code, text to copy, chat
    and the file's prompts are answered greedily; "random" and "trap" are what no proposer can guess, the second so
    that it always seems to know. Every answer is compared with that of plain decoding.
    """
    engine = replace(engine, model=model or default_model())
    if engine.proposer == "none":
        engine = replace(engine, proposer="auto")
    extra = _read(prompts, items) if prompts else {}
    kinds = _chosen(only, extra)
    record = Record("speculative", engine.model, out)
    if plot is not None:
        plot.touch()
    fetch(engine.model, offline=engine.offline)
    from plait.analysis.speculation import measure
    from plait.llm import LLM

    gains: list[Gain] = []
    print(f"{engine.model}, {batch} at once, {tokens} tokens, {rounds} rounds\n{HEAD}")
    with closing(LLM(**asdict(engine))) as llm:
        names = _names(engine.proposer)
        for workload in _workloads(llm.tokenizer, llm.vocab_size, extra, kinds, batch):
            job = lambda owner, own=workload: measure(  # noqa: E731
                owner, own, names, tokens=tokens, batch=batch, rounds=rounds
            )
            found = llm.worker.call(job).result()
            gains += found
            _print(found)
    if plot is not None:
        plot.write_text(_picture(gains, names, engine.model), encoding="utf-8")
    settings = {"tokens": tokens, "rounds": rounds, "batch": batch}
    record.close(gains=[gain.record() for gain in gains], **settings, engine=asdict(engine))
    if not all(gain.is_equal for gain in gains):
        raise UserError(
            "an answer is not that of plain decoding", "this is a bug: please report it"
        )


def _print(gains: Sequence[Gain]) -> None:
    for gain in gains:
        places = " ".join(f"{share:.0%}" for share in gain.accepted[:8])
        print(
            f"{gain.workload:10} {gain.proposer:10} {gain.tokens_per_forward:11.2f} "
            f"{gain.drafted_per_token:11.2f} {gain.speedup:7.2f}x {gain.expected_gain:7.2f}x "
            f"{gain.draft_share:6.1%} {1e3 * gain.draft_median:11.3f} {1e3 * gain.draft_p99:6.2f}  {places}",
            flush=True,
        )


def _picture(gains: Sequence[Gain], names: Sequence[str], model: str) -> str:
    from plait.analysis.plot import picture

    kinds = list(dict.fromkeys(gain.workload for gain in gains))
    curves = {
        name: [
            (kinds.index(gain.workload) + 1.0, gain.speedup)
            for gain in gains
            if gain.proposer == name
        ]
        for name in names
    }
    places = ", ".join(f"{place} {kind}" for place, kind in enumerate(kinds, 1))
    return picture(curves, title=model, x=places, y="speed-up over plain decoding")


def _names(proposer: str) -> list[str]:
    name, _, model = proposer.partition(":")
    return ["lookahead", *(["draft"] if model else []), "auto"] if name == "auto" else [name]


def _chosen(only: Sequence[str] | None, extra: Mapping[str, Sequence[str]]) -> list[str]:
    known = [*TEXTS, *extra, "random", "trap"]
    for name in only or ():
        if name not in known:
            raise UserError(f"no prompts called {name!r}", f"one of: {', '.join(known)}")
    return [name for name in known if not only or name in only]


def _read(file: Path, items: int) -> dict[str, tuple[str, ...]]:
    """The name of a file -> prompts of it. Raises UserError."""
    opener = gzip.open if file.suffix == ".gz" else open
    prompts: list[str] = []
    try:
        with opener(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    prompts.append(_prompt(line, f"{file}, line {number}"))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if not prompts:
        raise UserError(f"{file} holds no prompt", 'JSON lines with a "prompt" each')
    step = max(1, len(prompts) // items)
    return {file.name.partition(".")[0].lower(): tuple(prompts[::step][:items])}


def _prompt(line: str, where: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, RecursionError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str) or not prompt:
        raise UserError(f"{where} has no prompt", 'an object with a text "prompt"')
    return prompt


def _filled(prompts: Sequence[str], batch: int) -> list[str]:
    """At least a batch of prompts: where there are fewer, some again, with a number before them."""
    more = range(len(prompts), batch)
    return [*prompts, *(f"{place}\n{prompts[place % len(prompts)]}" for place in more)]


def _workloads(
    tokenizer: Tokenizer,
    vocab_size: int,
    extra: Mapping[str, Sequence[str]],
    kinds: Sequence[str],
    batch: int,
) -> list[Workload]:
    import numpy as np

    from plait.analysis.speculation import Workload, random_workload, trap_workload

    texts = [
        Workload(
            name,
            tuple(np.array(tokenizer.encode(text), np.int32) for text in _filled(prompts, batch)),
        )
        for name, prompts in {**TEXTS, **extra}.items()
    ]
    count = max(len(CHAT), batch)
    hopeless = [make(vocab_size, count, RANDOM_LENGTH) for make in (random_workload, trap_workload)]
    return [workload for workload in (*texts, *hopeless) if workload.name in kinds]

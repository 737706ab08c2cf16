"""`plait bench speculative`: what drafting gains on code, copied text, chat and random prompts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, replace
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
    from plait.analysis.speculation import Workload
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
RANDOM_LENGTH = 64


@takes(engine=ENGINE)
def speculative(
    model: Annotated[str | None, typer.Argument(show_default=False)] = None,
    *,
    engine: EngineConfig,
    tokens: Annotated[int, typer.Option(min=2, help="Tokens to generate for each prompt.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 1,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are shown.")] = 3,
    out: Out = None,
) -> None:
    """Measure drafting beside plain decoding, in turns, in the same engine. Greedy, end tokens ignored.

    --proposer says which: lookahead, draft:MODEL, or auto; auto:MODEL compares all three.
    """
    engine = replace(engine, model=model or default_model())
    if engine.proposer == "none":
        engine = replace(engine, proposer="auto")
    fetch(engine.model, offline=engine.offline)
    from plait.analysis.speculation import measure
    from plait.llm import LLM

    record = Record("speculative", engine.model, out)
    gains = []
    with closing(LLM(**asdict(engine))) as llm:
        names = _names(engine.proposer)
        for workload in _workloads(llm.tokenizer, llm.vocab_size):
            job = lambda owner, own=workload: measure(  # noqa: E731
                owner, own, names, tokens=tokens, batch=batch, rounds=rounds
            )
            gains += llm.worker.call(job).result()
    print(f"{engine.model}, {batch} at once, {tokens} tokens, {rounds} rounds")
    print("prompts   proposer    tok/forward  drafted/tok  speed-up  accepted by place")
    for gain in gains:
        places = " ".join(f"{share:.0%}" for share in gain.accepted[:8])
        row = f"{gain.tokens_per_forward:11.2f} {gain.drafted_per_token:12.2f} {gain.speedup:8.2f}x"
        print(f"{gain.workload:9} {gain.proposer:10} {row}  {places}")
    record.close(gains=[gain.record() for gain in gains], engine=asdict(engine))
    if not all(gain.is_equal for gain in gains):
        raise UserError(
            "an answer is not that of plain decoding", "this is a bug: please report it"
        )


def _names(proposer: str) -> list[str]:
    name, _, model = proposer.partition(":")
    return ["lookahead", *(["draft"] if model else []), "auto"] if name == "auto" else [name]


def _workloads(tokenizer: Tokenizer, vocab_size: int) -> list[Workload]:
    import numpy as np

    from plait.analysis.speculation import Workload, random_workload

    kinds = {"code": CODE, "copy": COPY, "chat": CHAT}
    texts = [
        Workload(name, tuple(np.array(tokenizer.encode(text), np.int32) for text in prompts))
        for name, prompts in kinds.items()
    ]
    return [*texts, random_workload(vocab_size, len(CHAT), RANDOM_LENGTH)]

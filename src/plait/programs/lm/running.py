"""Programs run here: one, or many at once whose requests share the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from plait.core.errors import UserError
from plait.llm import LLM
from plait.programs.lm.asking import Asking, together
from plait.programs.lm.decoders import Decoder
from plait.programs.lm.ledger import Ledger
from plait.programs.lm.prompt import Prompt

Program = Callable[..., Awaitable[Any]]
"""An async function whose first parameter is a Prompt."""
Result = TypeVar("Result")

AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Run:
    """value: what the program returned. text: its prompt at the end. ledger: what it cost."""

    value: Any
    text: str
    ledger: Ledger = field(default_factory=Ledger)


def run(
    llm: LLM,
    program: Program,
    *args: Any,
    decoder: Decoder | None = None,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
    **named: Any,
) -> Run:
    """Run a program to its end. args, named: what it is called with, behind its prompt.

    decoder: for holes that name none; None for argmax. seed: of everything that is drawn; the same seed gives the same
    answer, whatever else runs. choices: for every request, as for `LLM.generate`. What the program raises is raised;
    what it had asked for then ends.
    """
    return _wait(
        run_async(llm, program, *args, decoder=decoder, seed=seed, choices=choices, **named)
    )


def run_many(
    llm: LLM,
    program: Program,
    items: Sequence[Sequence[Any]],
    *,
    decoder: Decoder | None = None,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
    at_once: int = AT_ONCE,
) -> list[Run]:
    """Run a program on each of these lists of arguments, so many at once; the results in their order, each what it
    would be alone. The first that raises ends the others."""
    if type(at_once) is not int or at_once < 1:
        raise UserError(f"at_once={at_once!r} is out of range", "1 or more")

    async def everything() -> list[Run]:
        places = asyncio.Semaphore(at_once)

        async def one(args: Sequence[Any]) -> Run:
            async with places:
                return await run_async(
                    llm, program, *args, decoder=decoder, seed=seed, choices=choices
                )

        return await together([one(args) for args in items])

    return _wait(everything())


async def run_async(
    llm: LLM,
    program: Program,
    *args: Any,
    decoder: Decoder | None = None,
    seed: int = 0,
    choices: Mapping[str, Any] | None = None,
    **named: Any,
) -> Run:
    """As `run`, within a running event loop."""
    if not asyncio.iscoroutinefunction(program):
        raise UserError(f"{program!r} is no program", "an async function: async def main(p): ...")
    ledger = Ledger()
    prompt = Prompt(Asking(llm, ledger, dict(choices or {})), decoder, seed)
    value = await program(prompt, *args, **named)
    return Run(value, prompt.text, ledger)


def _wait(call: Coroutine[Any, Any, Result]) -> Result:
    if not _has_loop():
        return asyncio.run(call)
    call.close()
    raise UserError("an event loop runs here already", "await run_async(...)")


def _has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True

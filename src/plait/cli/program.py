"""`plait program`: run a program of a language model that lies in a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plait.cli.flags import ENGINE
from plait.cli.names import default_model
from plait.cli.options import takes
from plait.cli.session import Session
from plait.cli.terminal import Answer, note
from plait.core.config import EngineConfig

if TYPE_CHECKING:
    from plait.programs.lm.running import Run


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(program)


@takes(engine=ENGINE)
def program(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False)],
    args: Annotated[list[str] | None, typer.Argument(metavar="[ARGS]", show_default=False)] = None,
    *,
    engine: EngineConfig,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Which one; else PLAIT_MODEL or smollm2-135m.")
    ] = "",
    seed: Annotated[int, typer.Option("--seed", help="Of everything that is drawn.")] = 0,
    text: Annotated[bool, typer.Option("--text", help="Print the prompt at the end too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print result, text and ledger.")] = False,
) -> None:
    """Run `async def main(p, ...)` of a Python file, with p for a prompt (docs/programs.md).

    ARGS are given in order or as name=value, and read as the types that main names. The result goes to stdout, what
    it cost to stderr.

    plait program examples/chain_of_thought.py "Is the sea salty?" --model qwen2.5-coder-0.5b
    """
    from plait.programs.lm.script import explained, load  # loads the model's parts

    script = load(file)
    given = script.arguments(args or [])
    session = Session(replace(engine, model=model or default_model()))
    from plait.programs.lm.running import run

    try:
        done = run(session.llm, script.program, seed=seed, **given)
    except Exception as error:
        raise explained(error, file) from error
    _print(done, text=text, as_json=as_json)


def _print(done: Run, *, text: bool, as_json: bool) -> None:
    ledger = done.ledger.record()
    if as_json:
        record = {"result": done.value, "text": done.text, "ledger": ledger}
        print(json.dumps(record, default=_plain, ensure_ascii=False))
        return
    shown = Answer()
    if text:
        shown.write(f"{done.text}\n\n")
    shown.write(_told(done.value))
    shown.close()
    note(", ".join(f"{count} {name.replace('_', ' ')}" for name, count in ledger.items()))


def _told(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """What JSON has no form for."""
    from dataclasses import asdict, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)

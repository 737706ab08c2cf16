"""The `plait` command: its subcommands, and what errors look like from outside.

Nothing heavy is imported here or at the top of a command's file: numpy and the native module are loaded by
the first command that runs a model.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from plait import __version__
from plait.cli import (
    bench,
    chat,
    ideal,
    models,
    papers,
    program,
    run,
    serve,
    show,
    tune,
    vote,
)
from plait.cli.terminal import complain
from plait.core.errors import UserError

BROKEN_PIPE = 141
"""128 + SIGPIPE: what a shell shows for a program whose reader went away."""


class Plait(TyperGroup):
    """The group of all commands. `plait "some text"` is `plait run "some text"`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let --debug stand anywhere, and a first argument with a space in it mean `run`."""
        options, rest = (
            args[: args.index("--")] if "--" in args else args,
            args[args.index("--") :] if "--" in args else [],
        )
        args = [one for one in options if one != "--debug"] + rest
        if args and " " in args[0]:
            args = ["run", *args]
        debug = "--debug" in options
        with _explaining(debug):  # the help is written here, and a disk may be full
            return super().parse_args(ctx, ["--debug", *args] if debug else args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; what goes wrong becomes one or two lines and an exit code."""
        with _explaining(ctx.params["debug"]):
            return super().invoke(ctx)


@contextmanager
def _explaining(debug: bool) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        _forget_stdout()
        raise typer.Exit(BROKEN_PIPE) from None
    except (UserError, OSError) as error:
        if debug:
            raise
        raise typer.Exit(_explained(error)) from None
    except KeyboardInterrupt:
        print(file=sys.stderr)
        raise typer.Exit(130) from None


def _explained(error: UserError | OSError) -> int:
    """Say what went wrong; returns the exit code. An OSError is the machine's way to refuse."""
    if isinstance(error, UserError):
        complain(str(error))
        return error.exit_code
    if error.filename is None:  # a stream, most likely stdout
        _forget_stdout()
    where = "" if error.filename is None else f": {error.filename}"
    complain(f"{error.strerror or error}{where}")
    return 1


def _forget_stdout() -> None:
    """The interpreter flushes stdout once more at exit; that must not complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    cls=Plait,
    name="plait",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"plait {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run language models on the machine you have.

    plait run "Why is the sky blue?"        answer once, with the default model

    cat notes.txt | plait run -s "Sum up"   a prompt from a pipe

    plait chat                              talk
    """
    if not debug:  # what the engine's log has to say is in the one line that the user gets
        logging.getLogger("plait").addHandler(logging.NullHandler())


run.register(app)
chat.register(app)
vote.register(app)
program.register(app)
serve.register(app)
models.register(app)
show.register(app)
bench.register(app)
ideal.register(app)
tune.register(app)
papers.register(app)

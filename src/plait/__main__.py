"""`python -m plait` and the `plait` command."""

from __future__ import annotations

import os
import sys


def main() -> None:
    _settle_streams()
    try:
        from plait.cli.main import app

        app()
    except KeyboardInterrupt:  # before the command line was there to take it
        raise SystemExit(130) from None


def _settle_streams() -> None:
    """A closed stderr swallows what is said; a closed stdout is an error; no letter is one."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  it stays open until the end
    if sys.stdout is None:
        raise SystemExit("plait: stdout is closed")
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


if __name__ == "__main__":
    main()

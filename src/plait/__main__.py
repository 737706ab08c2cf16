"""`python -m plait` and the `plait` command."""

from __future__ import annotations


def main() -> None:
    try:
        from plait.cli.main import app

        app()
    except KeyboardInterrupt:  # before the command line was there to take it
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()

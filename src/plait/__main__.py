"""`python -m plait` and the `plait` command."""

from __future__ import annotations


def main() -> None:
    from plait.cli.main import app

    app()


if __name__ == "__main__":
    main()

"""`import plait` and `plait --help` answer at once: nothing heavy is loaded before it is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"plait._C", "numpy", "tokenizers", "jinja2", "huggingface_hub", "pydantic", "asyncio"}

HELP = """
import sys, plait.__main__
sys.argv = ["plait", *{arguments!r}]
try:
    plait.__main__.main()
except SystemExit as end:
    assert not end.code, end.code
"""

REFUSED = HELP.replace("not end.code, end.code", "end.code")
"""The same for a command that ends with an error."""


def loaded(program: str) -> set[str]:
    """Modules in memory after a program has run in a fresh interpreter."""
    report = f"{program}\nimport sys, json\nprint(json.dumps(list(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True, timeout=60
    )
    return set(json.loads(done.stderr.splitlines()[-1]))


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import plait") & HEAVY == set()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["serve", "--help"], ["papers"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    modules = loaded(HELP.format(arguments=arguments))
    assert "plait.cli.main" in modules
    assert modules & HEAVY == set()


def test_a_command_that_runs_loads_no_pictures_of_tables_and_checkers() -> None:
    """Up to the model: what the command line itself takes is paid before every answer."""
    modules = loaded(REFUSED.format(arguments=["run", "no/such/model", "hello"]))
    assert "plait.weights.hub" in modules
    assert modules & (HEAVY | {"rich"}) == set()


def test_the_engine_loads_nothing_that_only_a_server_needs() -> None:
    modules = loaded("import plait.llm")
    assert "plait.engine.worker" in modules
    assert modules & {"asyncio", "pydantic", "rich", "numpy.ma"} == set()


def test_the_check_sees_a_heavy_import() -> None:
    assert "numpy" in loaded("import plait.core.sequence") & HEAVY


def test_the_public_names_are_there() -> None:
    program = "import plait; assert plait.SamplingParams(seed=1).seed == 1"
    assert loaded(program) & HEAVY == set()

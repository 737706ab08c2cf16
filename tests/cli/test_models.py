"""`pull`, `ls`, `rm`, `show`, `papers`: without a network and without a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from plait.cli.main import app
from plait.weights import catalogue, hub


def plait(*arguments: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, list(arguments), input=stdin)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty model cache."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def downloaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A small model in the cache; its bytes do not matter here."""
    entry, *others = hub.known()
    entry = replace(entry, size=2_500_000)
    monkeypatch.setattr(catalogue, "ENTRIES", (entry, *others))
    (home / entry.name).mkdir()
    (home / entry.name / entry.file).write_bytes(b"x" * 2_500_000)
    return entry.name


def test_an_empty_cache_lists_nothing() -> None:
    result = plait("ls")
    assert (result.exit_code, result.stdout.splitlines()) == (0, ["NAME       SIZE  MODIFIED"])


def test_ls_lists_what_is_here(downloaded: str) -> None:
    name, size, unit, *modified = plait("ls").stdout.splitlines()[1].split()
    assert (name, size, unit, modified) == (downloaded, "2.5", "MB", ["just", "now"])


def test_ls_all_lists_what_could_be_here(downloaded: str) -> None:
    lines = plait("ls", "--all").stdout.splitlines()[1:]
    assert {line.split()[0] for line in lines} == {entry.name for entry in hub.known()}
    assert sum("not downloaded" in line for line in lines) == len(hub.known()) - 1


def test_ls_json(downloaded: str, home: Path) -> None:
    (row,) = json.loads(plait("ls", "--json").stdout)
    assert (row["name"], row["bytes"]) == (downloaded, 2_500_000)
    assert Path(row["path"]).is_relative_to(home)


def test_rm_asks_first(downloaded: str) -> None:
    refused = plait("rm", downloaded, stdin="n\n")
    assert f"delete {downloaded} (2.5 MB)?" in refused.stderr
    assert downloaded in plait("ls").stdout
    assert plait("rm", downloaded, stdin="y\n").stdout.endswith(": 2.5 MB freed\n")
    assert downloaded not in plait("ls").stdout


def test_rm_yes_does_not_ask(downloaded: str) -> None:
    result = plait("rm", "--yes", downloaded)
    assert (result.exit_code, result.stderr) == (0, "")


def test_rm_without_an_answer_deletes_nothing(downloaded: str) -> None:
    assert plait("rm", downloaded, stdin="").exit_code == 1
    assert downloaded in plait("ls").stdout


@pytest.mark.parametrize(
    "arguments",
    [["rm", "smollm2-135"], ["pull", "smollm2-135"], ["show", "smollm2-135"], ["rm", "../x"]],
    ids=" ".join,
)
def test_an_unknown_model_is_one_line_and_a_way_out(arguments: list[str]) -> None:
    result = plait(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) <= 2
    assert arguments[1] in result.stderr


def test_offline_downloads_nothing() -> None:
    result = plait("show", hub.known()[0].name, "--offline")
    assert result.exit_code == 2
    assert "plait pull" in result.stderr


def test_pull_prints_where_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(name: str, *, offline: bool, progress: object) -> Path:
        assert not offline
        progress(5, 10, "part 1")  # type: ignore[operator]
        return home / name

    monkeypatch.setattr(hub, "resolve", resolve)
    result = plait("pull", "a", "b")
    assert result.stdout == f"{home / 'a'}\n{home / 'b'}\n"
    assert result.stderr == "downloading a: 10 bytes\ndownloading b: 10 bytes\n"


def test_papers_in_both_forms() -> None:
    rows = json.loads(plait("papers", "--json").stdout)
    assert [row["number"] for row in rows] == list(range(1, 88))
    lines = plait("papers").stdout.splitlines()
    assert len(lines) == 88
    for row, line in zip(rows, lines, strict=False):
        assert row["name"] in line
        assert row["state"] in line

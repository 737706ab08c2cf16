"""Siblings are found by their file, without importing any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait import kvcache
from plait.core import registry
from plait.core.errors import NotFoundError


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A room of two siblings, a contract, and a file that explodes when imported."""
    folder = tmp_path / "things"
    folder.mkdir()
    (folder / "base.py").write_text('"""No sibling: it has no SUMMARY."""\n')
    (folder / "zeta.py").write_text('SUMMARY = "the last one"\n')
    (folder / "alpha.py").write_text('SUMMARY = "the first one"\nraise RuntimeError("imported")\n')
    monkeypatch.setattr(registry, "_ROOT", tmp_path)
    return "things"


def test_names_are_sorted_and_nothing_is_imported(room: str) -> None:
    assert registry.names(room) == ["alpha", "zeta"]
    assert registry.summaries(room) == {"alpha": "the first one", "zeta": "the last one"}


def test_an_unknown_name_gets_the_nearest(room: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        registry.load(room, "alfa")
    assert "no things called 'alfa'" in caught.value.message
    assert "did you mean 'alpha'?" in caught.value.hint
    assert "alpha, zeta" in caught.value.hint


def test_a_name_is_not_a_path(room: str) -> None:
    for name in ("../things/zeta", "base", "zeta.py", ""):
        with pytest.raises(NotFoundError):
            registry.load(room, name)


def test_loading_a_sibling_imports_it() -> None:
    module = registry.load("kvcache", "none")
    assert module.__name__ == "plait.kvcache.none"
    assert registry.summaries("kvcache")["none"] == module.SUMMARY


def test_an_error_inside_a_sibling_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "kvcache"
    folder.mkdir()
    (folder / "broken.py").write_text('SUMMARY = "broken"\nimport does_not_exist\n')
    monkeypatch.setattr(registry, "_ROOT", tmp_path)
    monkeypatch.setattr(kvcache, "__path__", [str(folder)])
    with pytest.raises(ModuleNotFoundError, match="does_not_exist"):
        registry.load("kvcache", "broken")

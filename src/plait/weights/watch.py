"""Progress of a download that somebody else's code performs: watch its folder grow."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# (bytes done, bytes in total, what is going on); may be called from a helper thread.
Progress = Callable[[int, int, str], None]

_PERIOD_SECONDS = 0.1


def total_size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(_sizes(folder))


def largest_size(folder: Path) -> int:
    """Bytes of the largest file below `folder`; pip has its wheel there twice for a moment."""
    return max(_sizes(folder), default=0)


@contextmanager
def growth(
    folder: Path, report: Callable[[int], None], measure: Callable[[Path], int] = total_size
) -> Iterator[None]:
    """While the body runs, call `report(measure(folder))` ten times a second.

    Works with every version of every downloader, which their own progress output does not.
    """
    done = threading.Event()

    def poll() -> None:
        while not done.wait(_PERIOD_SECONDS):
            report(measure(folder))

    watcher = threading.Thread(target=poll, name="plait-download-progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _sizes(folder: Path) -> Iterator[int]:
    """Bytes of each file below `folder`; files that vanish meanwhile are left out."""
    for parent, _, files in os.walk(folder):
        for file in files:
            try:
                yield os.stat(os.path.join(parent, file), follow_symlinks=False).st_size
            except FileNotFoundError:
                continue

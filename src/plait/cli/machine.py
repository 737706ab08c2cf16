"""The machine a command runs on, as plain data."""

from __future__ import annotations

import os
import platform
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, kernel tables, threads and memory (bytes) of this machine."""
    from plait.engine import facts

    engine = facts.machine()
    return {
        "processor": engine.processor,
        "architecture": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": engine.threads,
        "isas": list(engine.isas),
        "isa": engine.isas[-1],
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "memory_available": engine.available_bytes,
        "system": f"{platform.system()} {platform.release()}",
    }

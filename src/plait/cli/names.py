"""Which model a command means, and which words are the prompt."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from plait.core.config import EngineConfig
from plait.core.errors import NotFoundError

FILES = (".gguf", ".safetensors")
CONTENTS = (*FILES, "config.json")
MAX_PATH = 4096


def default_model() -> str:
    """The model of PLAIT_MODEL, else the engine's default."""
    return os.environ.get("PLAIT_MODEL") or EngineConfig().model


def split(first: str | None, second: str | None) -> tuple[str, str | None]:
    """(model, prompt or None) for `run [MODEL] [PROMPT]`.

    One word alone is the model when it names one, else the prompt; a word that only just misses the
    name of a model is taken for a typing error. Raises NotFoundError then.
    """
    if first is None:
        return default_model(), None
    if second is not None:
        return first, second
    if is_model(first):
        return first, None
    near = difflib.get_close_matches(first, known(), n=1, cutoff=0.8)
    if near:
        raise NotFoundError(
            f"no model called {first!r}",
            f"did you mean {near[0]!r}? for a prompt: plait run {default_model()} {first!r}",
        )
    return default_model(), first


def is_model(text: str) -> bool:
    """Whether a word names a model: a short name, hf:owner/name, a model file or a folder with one."""
    if text.lower() in known() or text.startswith("hf:") or text.endswith(FILES):
        return True
    if not text or "\0" in text or len(text) > MAX_PATH:
        return False
    folder = Path(text).expanduser()
    return folder.is_dir() and any(file.name.endswith(CONTENTS) for file in folder.iterdir())


def known() -> list[str]:
    """Short names that can be given instead of a path."""
    from plait.weights import hub

    return hub.short_names()

"""docs/serving.md lists every flag of `plait serve` as the command has it."""

from __future__ import annotations

import importlib.util
from dataclasses import fields
from pathlib import Path

from plait.core.config import EngineConfig
from plait.server.settings import ServerConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "serving.md"


def test_the_table_is_that_of_the_command() -> None:
    spec = importlib.util.spec_from_file_location("flags_page", ROOT / "scripts" / "flags.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = PAGE.read_text(encoding="utf-8")
    assert module.page(written) == written, "make docs"


def test_no_setting_is_without_a_flag() -> None:
    written = PAGE.read_text(encoding="utf-8")
    for field in (*fields(ServerConfig), *fields(EngineConfig)):
        assert f"`PLAIT_{field.name.upper()}`" in written or field.name == "model"

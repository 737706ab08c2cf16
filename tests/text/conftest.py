"""The same examples every time: a failure is the change's, not the dice's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

PROFILE = "text"
settings.register_profile(PROFILE, derandomize=True, deadline=None, database=None)


@pytest.fixture(autouse=True, scope="package")
def _same_examples() -> Iterator[None]:
    """Only for this folder."""
    before = settings.get_current_profile_name()
    settings.load_profile(PROFILE)
    yield
    settings.load_profile(before)

"""Settings that all tests share."""

from __future__ import annotations

import pytest
from hypothesis import settings

# A busy machine is no bug: no deadline. The same examples every time: a red test stays red.
settings.register_profile("crore", deadline=None, derandomize=True)
settings.load_profile("crore")


@pytest.fixture(autouse=True)
def _nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans of tests do not depend on what was measured of the machine they run on."""
    monkeypatch.setattr("crore.catalog.load.find_calibration", lambda: None)

"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is no bug: no deadline. The same examples every time: a red test stays red.
settings.register_profile("crore", deadline=None, derandomize=True)
settings.load_profile("crore")

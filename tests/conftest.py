"""Settings and small fixtures for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("glt", max_examples=40, deadline=None, derandomize=True, database=None)
settings.load_profile("glt")

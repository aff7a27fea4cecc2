"""A real browser."""

from headless_chromium import browser  # noqa: F401 (a fixture)

"""Ours against the plain way, measured on one machine in one run: what ``scripts/benchmark.py`` calls."""

import pdan_plugin  # noqa: F401  (mends the toolbox so that it imports)

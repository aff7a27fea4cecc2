"""Ours against the plain way, measured on one machine in one run: what ``scripts/benchmark.py`` calls."""

"""The benchmarks of ``scripts/benchmark.py``: this project against a reference, on one machine in one run."""

import pdan_plugin  # noqa: F401  (repairs the toolbox so that it imports)

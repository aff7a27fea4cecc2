"""The checks of `scripts/gpu_acceptance.py`, one subject a module."""

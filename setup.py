"""The package is described in pyproject.toml; this file is here because the toolbox's users expect it."""

from setuptools import setup

setup()

"""Every example in a docstring of the package gives what stands below it."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import pdan_plugin

PACKAGE = Path(pdan_plugin.__file__).parent
MODULES = sorted(
    '.'.join(path.relative_to(PACKAGE.parent).with_suffix('').parts)
    for path in PACKAGE.rglob('*.py')
    if '>>> ' in path.read_text(encoding='utf-8')
)


@pytest.mark.parametrize('name', MODULES)
def test_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted
    assert results.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize('room', ['archs', 'data', 'losses', 'metrics'])
def test_public_rooms_have_examples(room: str) -> None:
    assert any(name.startswith(f'pdan_plugin.{room}.') for name in MODULES)

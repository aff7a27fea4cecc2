"""What setup.py says of Pythons and packages, and who repeats it."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]


@pytest.fixture
def described(monkeypatch):
    """What setup.py hands to setuptools; nothing is built."""
    said = {}
    monkeypatch.setattr(setuptools, 'setup', said.update)
    monkeypatch.chdir(ROOT)
    said['PYTHONS'] = runpy.run_path('setup.py')['PYTHONS']
    return said


def requirements(described):
    extras = [each for extra in described['extras_require'].values() for each in extra]
    return [Requirement(each) for each in [*described['install_requires'], *extras]]


def test_the_oldest_packages_are_the_lower_bounds(described):
    """`test.sh --pythons` tries tests/oldest.txt: a bound that it does not hold would be a promise nobody tries."""
    bounds = {}
    for requirement in requirements(described):
        lowest = {Version(each.version) for each in requirement.specifier if each.operator in ('>=', '==')}
        assert len(lowest) == 1, f'{requirement}: one lower bound is needed'
        bounds.setdefault(requirement.name, set()).update(lowest)
    lines = [line for line in (ROOT / 'tests/oldest.txt').read_text().splitlines() if not line.startswith('#')]
    pinned = [re.fullmatch(r'([\w-]+)==([\w.]+)', line) for line in lines]
    assert all(pinned), lines
    assert {match[1]: {Version(match[2])} for match in pinned} == bounds
    assert len(lines) == len(bounds)


def test_an_upper_bound_has_its_reason_beside_it(described):
    bounded = [each for each in requirements(described) if any(one.operator in ('<', '==') for one in each.specifier)]
    assert bounded
    for requirement in bounded:
        line = next(line for line in (ROOT / 'setup.py').read_text().splitlines() if f"'{requirement.name}" in line)
        assert '  # ' in line, line


def test_supported_pythons_are_said_once(described):
    pythons, allowed = described['PYTHONS'], SpecifierSet(described['python_requires'])
    older = [f'3.{minor}' for minor in range(6, int(pythons[0].partition('.')[2]))]
    assert [version for version in [*older, *pythons] if f'{version}.5' in allowed] == pythons
    for version in pythons:
        assert f'Programming Language :: Python :: {version}' in described['classifiers']
    script = 'source scripts/pythons.sh; supported_pythons'
    told = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.split() == pythons

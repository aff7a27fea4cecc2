"""What pyproject.toml says of Pythons and packages, and who repeats it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]


@pytest.fixture
def described():
    """The section `project`."""
    return tomllib.loads((ROOT / 'pyproject.toml').read_text(encoding='utf-8'))['project']


def requirements(described):
    extras = [each for extra in described['optional-dependencies'].values() for each in extra]
    found = [Requirement(each) for each in [*described['dependencies'], *extras]]
    return [each for each in found if each.name != described['name']]  # an extra that contains others


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
    lines = (ROOT / 'pyproject.toml').read_text(encoding='utf-8').splitlines()
    for requirement in bounded:
        line = next(line for line in lines if f"'{requirement.name}" in line)
        assert '  # ' in line, line


def test_supported_pythons_are_said_once(described):
    languages = [each.rpartition(' :: ') for each in described['classifiers']]
    pythons = [version for language, _, version in languages if language == 'Programming Language :: Python']
    allowed = SpecifierSet(described['requires-python'])
    older = [f'3.{minor}' for minor in range(6, int(pythons[0].partition('.')[2]))]
    assert [version for version in [*older, *pythons] if f'{version}.5' in allowed] == pythons
    script = 'source scripts/pythons.sh; supported_pythons'
    told = subprocess.run(['bash', '-c', script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert told.split() == pythons

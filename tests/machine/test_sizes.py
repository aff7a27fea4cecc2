"""Sizes in words."""

import pytest

from pdan_plugin.machine.sizes import disk_in_words, memory_in_words


@pytest.mark.parametrize(
    ('size', 'text'),
    [(400_000, '0.4 MiB'), (512 << 20, '512 MiB'), (1 << 30, '1.0 GiB'), (3435973837, '3.2 GiB')],
)
def test_of_memory(size, text):
    assert memory_in_words(size) == text


@pytest.mark.parametrize(
    ('size', 'text'), [(40_000, '0.0 MB'), (99_000_000, '99.0 MB'), (120_000_000, '0.1 GB'), (2.34e12, '2340.0 GB')]
)
def test_of_files_and_disks(size, text):
    assert disk_in_words(size) == text

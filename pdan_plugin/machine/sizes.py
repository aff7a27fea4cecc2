"""Sizes in words: of memory in powers of 1024, of files and disks in powers of 1000, as systems report them."""

from __future__ import annotations


def memory_in_words(size: float) -> str:
    """Bytes of memory as '3.2 GiB', '512 MiB' or '0.4 MiB'."""
    if size >= 2**30:
        return f'{size / 2**30:.1f} GiB'
    return f'{size / 2**20:.{0 if size >= 10 * 2**20 else 1}f} MiB'


def disk_in_words(size: float) -> str:
    """Bytes of files as '1.2 GB' or '3.5 MB'."""
    return f'{size / 1e9:.1f} GB' if size >= 1e8 else f'{size / 1e6:.1f} MB'

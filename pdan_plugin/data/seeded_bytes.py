"""Random bytes that hang on nothing but a seed and numbers."""

from __future__ import annotations

import hashlib


def seeded_bytes(size: int, *numbers: int, purpose: str = '') -> bytes:
    """Bytes drawn from numbers, such as seed, epoch, repeat and index: the same on every machine and in every process.

    Args:
        size: How many bytes, 1 to 64.
        numbers: What they are drawn from, in this order.
        purpose: Draws of different purposes are independent; at most 16 bytes.

    >>> seeded_bytes(4, 0, 2, 0, 7).hex()
    'cb04dd05'
    """
    words = ' '.join(map(str, numbers)).encode()
    return hashlib.blake2b(words, digest_size=size, person=purpose.encode()).digest()

"""SHA-256 digests in hexadecimal, of bytes, files, and values as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

_PART = 1 << 20  # bytes read at a time


def digest_of(*parts: bytes | memoryview) -> str:
    """The digest of the concatenated parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def file_digest(path: str | os.PathLike[str]) -> str:
    """The digest of a file's content.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(_PART):
            digest.update(part)
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """The digest of a value as JSON. The order of keys does not matter."""
    return digest_of(json.dumps(value, sort_keys=True).encode())

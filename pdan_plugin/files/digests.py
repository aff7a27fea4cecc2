"""SHA-256 digests, in hexadecimal: of bytes, of files, and of values as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

_PART = 1 << 20  # bytes read at a time


def digest_of(*parts: bytes | memoryview) -> str:
    """The digest of parts of bytes, one after the other."""
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
    """The digest of a value as JSON, whatever the order of its keys."""
    return digest_of(json.dumps(value, sort_keys=True).encode())

"""Bytes with their source, so that an error can name the file."""

from __future__ import annotations


class SourcedBytes(bytes):
    """Bytes with their source: a path, or a key and its store."""

    source: str

    def __new__(cls, content: bytes, source: str) -> SourcedBytes:
        sourced = super().__new__(cls, content)
        sourced.source = source
        return sourced

    def __reduce__(self) -> tuple[type[SourcedBytes], tuple[bytes, str]]:
        return SourcedBytes, (bytes(self), self.source)

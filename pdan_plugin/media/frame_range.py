"""A part of a video, in numbers of frames. This module imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameRange:
    """The frames from ``start`` up to but without ``stop``, counted from 0; without ``stop`` up to the end."""

    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return f'{self.start or ""}:{"" if self.stop is None else self.stop}'

"""Writes the three stores of a set together. A sample is the sharp frame, the small blurred and the small sharp frame.

A kill can come between the writes to two stores, or between the renames that finish them. A sample is therefore done
only if all three stores have it, and a store that is already renamed is not written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from pdan_plugin.data.frame_codec import bmp_bytes, encode_picture, picture_checksum
from pdan_plugin.data.frame_store_writer import FrameStoreWriter, bytes_on_disk, partial_path, read_checksums
from pdan_plugin.data.reds_layout import BLUR_BICUBIC, KINDS, SCALE, SHARP, SHARP_BICUBIC, Kind, store_name
from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.bicubic import downsample_uint8

Shape = tuple[int, int, int]

# A PNG's size relative to the uncompressed frame; photographs take about half, noisy ones more.
_PNG_SHARE = 0.6


@dataclass(frozen=True)
class Encoded:
    """An encoded picture, with the shape and the checksum of its pixels."""

    data: bytes
    shape: Shape
    checksum: str

    @classmethod
    def picture(cls, image: np.ndarray, codec: str) -> Encoded:
        """Encode an (h, w, 3) uint8 RGB frame."""
        height, width, channels = image.shape
        return cls(encode_picture(image, codec), (height, width, channels), picture_checksum(image))


@dataclass(frozen=True)
class Sample:
    """The three pictures of one frame that training reads."""

    key: str
    pictures: dict[Kind, Encoded]

    @classmethod
    def of(cls, key: str, sharp: np.ndarray, blurred: np.ndarray, codec: str) -> Sample:
        """Make a sample from the sharp and the blurred frame: (h, w, 3) uint8 RGB, h and w multiples of 4."""
        images = {
            SHARP: sharp,
            BLUR_BICUBIC: downsample_uint8(blurred, SCALE),
            SHARP_BICUBIC: downsample_uint8(sharp, SCALE),
        }
        return cls(key, {kind: Encoded.picture(images[kind], codec) for kind in KINDS})


class SampleStores:
    """Writes the three stores of a split under TARGET; use it in a ``with`` statement and call `finish` at the end.

    Raises:
        RequestError: As `FrameStoreWriter`.
    """

    def __init__(self, target: Path, split: str, *, codec: str, origin: str) -> None:
        self._writers: dict[Kind, FrameStoreWriter] = {}
        self._keys: dict[Kind, set[str]] = {}
        try:
            for kind, path in store_paths(target, split).items():
                if path.exists():  # finished before a kill
                    self._keys[kind] = set(read_checksums(path))
                else:
                    self._writers[kind] = FrameStoreWriter(path, codec=codec, origin=origin)
                    self._keys[kind] = set(self._writers[kind].done)
        except BaseException:
            self.close()
            raise

    @property
    def done(self) -> set[str]:
        """Keys of the samples that all three stores have."""
        return set.intersection(*self._keys.values())

    @property
    def begun(self) -> set[str]:
        """Keys that any of the stores has."""
        return set.union(*self._keys.values())

    def add(self, sample: Sample) -> None:
        """Store a sample, in those of the three stores that lack it."""
        for kind, writer in self._writers.items():
            if sample.key not in self._keys[kind]:
                picture = sample.pictures[kind]
                writer.add_encoded(sample.key, picture.data, picture.shape, picture.checksum)
                self._keys[kind].add(sample.key)

    def commit(self) -> None:
        """Write everything added so far to disk, safe from a kill."""
        for writer in self._writers.values():
            writer.commit()

    def finish(self, expected: set[str]) -> None:
        """Put the stores in their places.

        Raises:
            RequestError: A store does not hold exactly the expected frames; nothing is put in place.
        """
        for kind, keys in self._keys.items():
            if keys != expected:
                raise RequestError(
                    f'{kind.folder}: the store holds {len(keys - expected)} frames too many and '
                    f'{len(expected - keys)} too few; remove the stores and start again'
                )
        for writer in self._writers.values():
            writer.finish()

    def close(self) -> None:
        """Commit and close; unfinished stores stay for the next call. Does nothing after `finish`."""
        with ExitStack() as closing:  # a store that cannot commit must not keep the others open
            for writer in self._writers.values():
                closing.callback(writer.close)

    def __enter__(self) -> SampleStores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def store_paths(target: Path, split: str) -> dict[Kind, Path]:
    """The paths of a split's three stores."""
    return {kind: target / store_name(split, kind) for kind in KINDS}


def keys_there(target: Path, split: str) -> set[str]:
    """Keys of the samples that all three stores have, finished or not. Opens nothing for writing."""
    stores = [path if path.exists() else partial_path(path) for path in store_paths(target, split).values()]
    return set.intersection(*(set(read_checksums(store)) for store in stores))


def room_needed(shapes: Iterable[Shape], codec: str) -> int:
    """Bytes on disk of samples whose sharp frames have these shapes; an estimate for PNG."""
    total = 0
    for height, width, _ in shapes:
        small = _value_bytes(height // SCALE, width // SCALE, codec)
        total += bytes_on_disk(_value_bytes(height, width, codec)) + 2 * bytes_on_disk(small)
    return total


def _value_bytes(height: int, width: int, codec: str) -> int:
    raw = bmp_bytes(height, width)
    return raw if codec == 'bmp' else int(_PNG_SHARE * raw)

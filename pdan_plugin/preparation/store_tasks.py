"""What each store has to hold, and how its values are made from the frames of REDS's folders or zips."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pdan_plugin.data.frame_codec import PictureError, bmp_bytes, decode_picture, picture_checksum
from pdan_plugin.data.frame_store_writer import bytes_on_disk
from pdan_plugin.data.reds_layout import SCALE, SHARP
from pdan_plugin.errors import RequestError
from pdan_plugin.preparation.reds_survey import FoundSet, Shape
from pdan_plugin.preparation.sample_stores import Encoded
from pdan_plugin.preparation.sub_images import SubImages
from pdan_plugin.synthesis.bicubic import downsample_uint8

Place = tuple[str, int, int]  # suffix of the frame's key, top, left


@dataclass
class StoreTask:
    """One store to make, of whole frames or sub-images; if ``derived``, from the sharp set made smaller."""

    store: Path
    found: FoundSet
    codec: str
    derived: bool = False
    sub_images: SubImages | None = None
    _places: dict[Shape, list[Place]] = field(default_factory=dict)

    @property
    def frames(self) -> list[str]:
        """Keys of the source frames; a frame may become several values."""
        return self.found.keys

    @property
    def origin(self) -> str:
        made = f', bicubic 1/{SCALE}' if self.derived else ''
        cut = f', sub-images {self.sub_images.size} {self.sub_images.step}' if self.sub_images else ''
        return f'{self.found.name} in {os.path.realpath(self.found.frames.path)}{made}{cut}'

    @property
    def keeps_source_pngs(self) -> bool:
        """Whether a PNG store holds the source's own files."""
        return not self.derived and self.sub_images is None

    def check(self) -> None:
        """Check that sub-images fit into every frame.

        Raises:
            RequestError: A frame is too small.
        """
        for frame in self.frames:
            self._places_in(frame)

    def shapes(self) -> dict[str, Shape]:
        """Shape of every value, by key."""
        return {key: self._value_shape(frame) for frame in self.frames for key in self.keys_of(frame)}

    def keys_of(self, frame: str) -> list[str]:
        """Keys of the values made from a frame."""
        return [frame + suffix for suffix, _, _ in self._places_in(frame)]

    def pixels(self, frame: str) -> dict[str, np.ndarray]:
        """The pixels of a frame's values, (h, w, 3) uint8 RGB, by key.

        Raises:
            RequestError: The source is damaged.
        """
        image = self.found.frames.read(frame)
        return self._cut(frame, self._derive(image))

    def values(self, frame: str) -> dict[str, Encoded]:
        """The values to write for a frame, by key.

        A source PNG is decoded, to check that it is whole, and then copied unchanged.

        Raises:
            RequestError: The source is damaged, or has changed since the survey.
        """
        data = self.found.frames.read_bytes(frame)
        try:
            image = decode_picture(data)
        except PictureError as error:
            raise RequestError(f'{self.found.frames.name_of(frame)}: {error}') from error
        if image.shape != self.found.shapes[frame]:
            raise RequestError(f'{self.found.frames.name_of(frame)}: changed while it was read')
        if self.codec == 'png' and self.keeps_source_pngs:
            return {frame: Encoded(data, self.found.shapes[frame], picture_checksum(image))}
        return {key: Encoded.picture(part, self.codec) for key, part in self._cut(frame, self._derive(image)).items()}

    def bytes_to_write(self, frame: str, codec: str) -> int:
        """Bytes on disk of the frame's values: exact for BMP and the source's own PNG, an estimate for a new PNG."""
        height, width, _ = self._value_shape(frame)
        places = self._places_in(frame)
        if codec == 'bmp':
            return len(places) * bytes_on_disk(bmp_bytes(height, width))
        full_height, full_width, _ = self.found.shapes[frame]
        share = height * width / (full_height * full_width)
        if self.derived:
            share *= 1.5  # small pictures have more detail per pixel; measured on REDS-sized frames of photographs
        return len(places) * bytes_on_disk(int(share * self.found.frames.size_of(frame)))

    def _derive(self, image: np.ndarray) -> np.ndarray:
        if not self.derived:
            return image
        return downsample_uint8(image, SCALE)

    def _cut(self, frame: str, image: np.ndarray) -> dict[str, np.ndarray]:
        height, width, _ = self._value_shape(frame)
        return {
            frame + suffix: image[top : top + height, left : left + width]
            for suffix, top, left in self._places_in(frame)
        }

    def _frame_shape(self, frame: str) -> Shape:
        height, width, channels = self.found.shapes[frame]
        return (height // SCALE, width // SCALE, channels) if self.derived else (height, width, channels)

    def _value_shape(self, frame: str) -> Shape:
        if self.sub_images is None:
            return self._frame_shape(frame)
        side = self.sub_images.size // self._shrink
        return (side, side, 3)

    @property
    def _shrink(self) -> int:
        return 1 if self.found.kind is SHARP and not self.derived else SCALE

    def _places_in(self, frame: str) -> list[Place]:
        if self.sub_images is None:
            return [('', 0, 0)]
        shape = self._frame_shape(frame)
        if shape not in self._places:
            self._places[shape] = self.sub_images.places(shape[0], shape[1], self._shrink)
        return self._places[shape]

"""Cuts frames into smaller pictures, for PNG stores: reading a crop then decodes a tenth of the frame.

Places and names are those of the toolbox's ``scripts/data_preparation/extract_subimages.py`` with ``thresh_size`` 0: a
grid from the top left corner. If the grid leaves pixels at the right or the bottom, one more sub-image ends at the
frame's edge. They are numbered row by row from ``_s001``.
"""

from __future__ import annotations

from dataclasses import dataclass

from pdan_plugin.data.reds_layout import SCALE
from pdan_plugin.errors import RequestError


@dataclass(frozen=True)
class SubImages:
    """Squares of ``size`` HR pixels every ``step`` HR pixels; usual values are 480 and 240.

    Attributes:
        scale: HR size divided by LR size.

    Raises:
        RequestError: A value is not a multiple of the scale, so the LR frames cannot be cut alike; or the squares leave
            gaps.
    """

    size: int
    step: int
    scale: int = SCALE

    def __post_init__(self) -> None:
        for name, value in (('SIZE', self.size), ('STEP', self.step)):
            if value < self.scale or value % self.scale:
                raise RequestError(
                    f'sub-images: {name} must be a multiple of {self.scale}, so that the small frames can be cut '
                    f'alike, got {value}'
                )
        if self.step > self.size:
            raise RequestError(f'sub-images: STEP {self.step} is above SIZE {self.size}, which would leave gaps')

    def places(self, height: int, width: int, shrink: int = 1) -> list[tuple[str, int, int]]:
        """(suffix, top, left) of each sub-image of a frame ``shrink`` times smaller than the HR frame.

        Raises:
            RequestError: The frame is smaller than a sub-image.
        """
        size, step = self.size // shrink, self.step // shrink
        if min(height, width) < size:
            raise RequestError(
                f'sub-images of {self.size}x{self.size} do not fit into frames of {width * shrink}x{height * shrink}'
            )
        corners = [(top, left) for top in _starts(height, size, step) for left in _starts(width, size, step)]
        return [(f'_s{number:03d}', top, left) for number, (top, left) in enumerate(corners, 1)]


def _starts(side: int, size: int, step: int) -> list[int]:
    starts = list(range(0, side - size + 1, step))
    if starts[-1] + size < side:
        starts.append(side - size)
    return starts

"""The size of a result: by its input's size, or in pixels. This module imports nothing slow."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from pdan_plugin.errors import RequestError

_SQUARE = Fraction(1)


@dataclass(frozen=True)
class ResultSize:
    """What was asked for: either ``scale``, or ``width`` and ``height``, or one of these two.

    Attributes:
        scale: Height and width of the result, divided by those of the input.
        width, height: Pixels. If only one is given, the other follows from the shape of the input.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None

    def of(self, height: int, width: int, *, even: bool = False) -> tuple[int, int]:
        """(height, width) of the result of an upright input (height, width).

        Args:
            even: Whether a side that follows from the input is rounded to an even number, as videos need it.
        """
        step = 2 if even else 1

        def nearest(value: float) -> int:
            return max(step, step * int(value / step + 0.5))

        if self.scale is not None:
            return nearest(height * self.scale), nearest(width * self.scale)
        if self.width is None:
            assert self.height is not None
            return self.height, nearest(self.height * width / height)
        if self.height is None:
            return nearest(self.width * height / width), self.width
        return self.height, self.width

    def refuse_smaller(self, name: object, height: int, width: int) -> None:
        """Raises a RequestError if the result of an input would have fewer rows or columns than the input."""
        rows, columns = self.of(height, width)
        if rows < height or columns < width:
            raise RequestError(
                f'{self}: {name} has {width}x{height} pixels, and its result would have {columns}x{rows}: a restored '
                'picture is not smaller than its input. Give a larger size, or make the input smaller first.'
            )

    def refuse_odd(self, name: object) -> None:
        """Raises a RequestError if a side that was given in pixels is odd, which a video cannot have."""
        if any(side is not None and side % 2 for side in (self.width, self.height)):
            raise RequestError(f'{self}: {name} is a video, and videos need an even width and height.')

    def pixel_aspect(self, height: int, width: int, aspect: Fraction) -> Fraction:
        """Width of a pixel of the result divided by its height, for an input whose pixels have ``aspect``.

        A video of other pixels than squares keeps the shape in which it is shown, also at a size that is given exactly.
        """
        if aspect == 1 or self.width is None or self.height is None:
            return aspect
        return (aspect * width * self.height / (height * self.width)).limit_denominator(1000)

    def notes(self, height: int, width: int, scale: int, aspect: Fraction = _SQUARE) -> list[str]:
        """What the user should know about the result of an input, by a network of ``scale``.

        Args:
            aspect: Width of the input's pixels divided by their height.
        """
        rows, columns = self.of(height, width)
        notes = []
        if self.width is not None and self.height is not None and aspect == 1:
            off = abs(columns * height - rows * width)  # by less than a pixel is rounding
            if off >= max(height, width):
                notes.append(f'stretched from {width}x{height} to the shape of {columns}x{rows}')
        if rows > height * scale or columns > width * scale:
            notes.append(
                f'{columns}x{rows} is more than the {width * scale}x{height * scale} of the network, and was enlarged '
                'by Lanczos from there'
            )
        return notes

    def __str__(self) -> str:
        """As on the command line."""
        if self.scale is not None:
            return f'--scale {self.scale:g}'
        return f'--size {self.pixels}'

    @property
    def pixels(self) -> str:
        """``1920x1080``, ``1920x`` or ``x1080``."""
        return f'{self.width or ""}x{self.height or ""}'

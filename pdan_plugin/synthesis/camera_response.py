"""Camera response: from the grey levels a camera writes to the light it collected, and back.

Averaging frames blurs them as a long exposure would only where numbers are proportional to light. REDS's authors
therefore undo the response, average, and apply it again; these are the two directions, as a 256-entry table a channel.
"""

import cv2
import numpy as np

from pdan_plugin.errors import RequestError

LEVELS = 256


class Response:
    """A monotonic table from grey level to light, for each of three channels.

    Args:
        name: What a record or a message calls it.
        table: (256, 3), strictly increasing down each column; light in any unit, REDS's being [0, 1].

    Raises:
        RequestError: The table has another shape, is not finite, or does not increase.
    """

    def __init__(self, name: str, table: np.ndarray) -> None:
        table = np.asarray(table, dtype=np.float64)
        if table.shape != (LEVELS, 3):
            raise RequestError(f'Camera response {name}: a table of shape (256, 3) is expected, not {table.shape}.')
        if not np.isfinite(table).all() or not (np.diff(table, axis=0) > 0).all():
            raise RequestError(f'Camera response {name}: light must be finite and must grow with every grey level.')
        self.name = name
        self.table = table
        self._lookup = np.ascontiguousarray(table[None].astype(np.float32))

    def to_linear(self, image: np.ndarray) -> np.ndarray:
        """Light behind an image.

        Args:
            image: uint8 (h, w, 3), channels in the table's order.

        Returns:
            float32 (h, w, 3), in the table's unit.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'uint8 (h, w, 3) expected, got {image.dtype} {image.shape}')
        return cv2.LUT(image, self._lookup)

    def from_linear(self, light: np.ndarray) -> np.ndarray:
        """The image a camera would write: the inverse of :meth:`to_linear`, interpolated between levels and rounded.

        Args:
            light: float (h, w, 3), in the table's unit. Beyond the table's ends the sensor saturates at 0 and 255.

        Returns:
            uint8 (h, w, 3).
        """
        if light.ndim != 3 or light.shape[2] != 3:
            raise ValueError(f'(h, w, 3) expected, got {light.shape}')
        levels = np.arange(LEVELS)
        image = np.empty(light.shape, np.uint8)
        for channel in range(3):
            level = np.interp(light[..., channel], self.table[:, channel], levels)
            image[..., channel] = np.rint(level)
        return image


def _srgb(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


_CURVES = {
    'linear': lambda encoded: encoded,
    'srgb': _srgb,  # IEC 61966-2-1
    'gamma': lambda encoded: encoded**2.2,
}
RESPONSES = tuple(_CURVES)


def response(name: str) -> Response:
    """A named response, the same for all channels: ``linear``, ``srgb`` (IEC 61966-2-1) or ``gamma`` (2.2).

    Raises:
        RequestError: There is no response of that name.
    """
    if name not in _CURVES:
        raise RequestError(f'Camera response {name!r} is not known; choose one of {", ".join(RESPONSES)}.')
    curve = _CURVES[name](np.linspace(0, 1, LEVELS))
    return Response(name, np.repeat(curve[:, None], 3, axis=1))

"""Camera response: converts a camera's grey levels to light, and back.

An average of frames equals a long exposure only if values are proportional to light. REDS's authors therefore invert
the response, average, and apply it again. The response is a table of 256 entries for each channel.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.errors import RequestError

LEVELS = 256
LAST_TRUSTED = 250  # REDS's authors extrapolate a calibrated table above this level

_CHANNELS = ('red', 'green', 'blue')
_MOST_POOLED = 8  # neighbouring levels that may be corrected together
_LEAST_GROWTH = 5e-4  # least relative growth of light from one level to the next
_BRIGHTEST = np.finfo(np.float32).max
_MANTISSA_BITS = range(8, 16)  # bins of the inverse: 2**8 to 2**15 for each doubling of light
_FORMS = (
    'a .npy file of shape (256,) or (256, 1) for all channels, (256, 3) in RGB order, or (256, 1, 3) in BGR order as '
    "OpenCV's calibration gives it and REDS's crf.npy holds it, in linear light"
)


class Response:
    """A monotonic table from grey level to light, for each of three channels.

    Args:
        name: The name in records and messages.
        table: (256, 3), strictly increasing down each column, not negative; light in any unit.
        note: Corrections made to the table before, for the user; empty if there were none. Records hold this text, so
            another wording would make an unfinished synthesis look like a different one.

    Raises:
        RequestError: The table has another shape, is not finite, is negative or does not increase.
    """

    def __init__(self, name: str, table: np.ndarray, note: str = '') -> None:
        table = np.asarray(table, dtype=np.float64)
        if table.shape != (LEVELS, 3):
            raise RequestError(f'Camera response {name}: a table of shape (256, 3) is expected, not {table.shape}.')
        if not np.isfinite(table).all() or not (np.diff(table, axis=0) > 0).all():
            raise RequestError(f'Camera response {name}: light must be finite and must grow with every grey level.')
        if table[0].min() < 0:
            raise RequestError(
                f'Camera response {name}: light must not be negative, but level 0 has {table[0].min():.4g}. Convert a '
                'table of log light first: numpy.exp(table).'
            )
        self.name = name
        self.table = table
        self.note = note
        self._lookup = np.ascontiguousarray(table[None].astype(np.float32))
        self._inverse = [_Inverse(name, channel, column) for channel, column in zip(_CHANNELS, table.T, strict=True)]

    def to_linear(self, image: np.ndarray) -> np.ndarray:
        """The light that an image shows.

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
        light = np.asarray(light, np.float32)
        return cv2.merge(
            [inverse.levels(cv2.extractChannel(light, number)) for number, inverse in enumerate(self._inverse)]
        )


class _Inverse:
    """Converts light to the level, for one channel.

    A light gets level k if it lies between two midpoints: that of the light of levels k - 1 and k, and that of levels k
    and k + 1. The two midpoints are found in a table of narrow bins with at most one midpoint each. The upper bits of a
    positive float32 are the bin's number, so bins are about even in the logarithm of light. The result is that of a
    search through 256 levels, over ten times faster.
    """

    def __init__(self, name: str, channel: str, table: np.ndarray) -> None:
        middles = ((table[:-1] + table[1:]) / 2).astype(np.float32)
        for bits in _MANTISSA_BITS:
            self._shift = 23 - bits
            bins = middles.view(np.int32) >> self._shift
            close = np.flatnonzero(np.diff(bins) == 0)
            if len(close) == 0:
                break
        else:
            raise RequestError(
                f'Camera response {name}: the light of the {channel} levels {close[0]} to {close[0] + 2} differs by '
                'less than one part in 20,000; light cannot be converted back to such levels.'
            )
        self._first = bins[0]
        starts = (np.arange(bins[0], bins[-1] + 2, dtype=np.int32) << self._shift).view(np.float32)
        self._below = np.searchsorted(middles, starts, side='left').astype(np.uint8)
        self._middle = np.append(middles, np.float32(np.inf))[self._below]

    def levels(self, light: np.ndarray) -> np.ndarray:
        """float32 light of any shape to uint8 levels."""
        light = np.minimum(light, _BRIGHTEST)  # infinite light must stay below the infinite midpoint at the end
        number = np.ascontiguousarray(light).view(np.int32) >> self._shift  # negative for a negative float
        number -= self._first
        np.clip(number, 0, len(self._below) - 1, out=number)
        levels = self._below.take(number)
        levels += light >= self._middle.take(number)
        return levels


def _srgb(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


_CURVES = {
    'linear': lambda encoded: encoded,
    'srgb': _srgb,  # IEC 61966-2-1
    'gamma': lambda encoded: encoded**2.2,
}
RESPONSES = tuple(_CURVES)


def response(name: str) -> Response:
    """A response by name, the same for all channels, or from a file.

    Names are ``linear``, ``srgb`` (IEC 61966-2-1) and ``gamma`` (2.2). A file is a ``.npy`` table of linear light: of
    shape (256,) or (256, 1) for all channels; (256, 3) in RGB order; or (256, 1, 3) in BGR order, as OpenCV's
    calibrations return it and REDS's authors publish it for their camera (``crf.npy``). In the (256, 1, 3) form the
    levels above 250 are extrapolated with the slope at 250, as on REDS's page. Levels that do not grow are corrected by
    `made_monotonic`. ``Response.note`` describes both changes.

    Raises:
        RequestError: No such name or file, another form, or a table that cannot be corrected.
    """
    if name in _CURVES:
        curve = _CURVES[name](np.linspace(0, 1, LEVELS))
        return Response(name, np.repeat(curve[:, None], 3, axis=1))
    path = Path(name)
    if not path.is_file():
        missing = 'there is no such file' if path.suffix else 'is not known'
        raise RequestError(
            f'Camera response {name!r} {missing}; choose one of {", ".join(RESPONSES)}, or give the path of {_FORMS}.'
        )
    try:
        table = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        # NumPy takes any other file for pickled objects, and advises to run what they hold
        reason = 'it has another format, or holds Python objects' if 'pickle' in str(error) else error
        raise RequestError(
            f'Camera response {name}: not a readable .npy file ({reason}); expected {_FORMS}.'
        ) from error
    if not isinstance(table, np.ndarray) or table.dtype.kind not in 'fiu':
        raise RequestError(f'Camera response {name}: does not hold one table of numbers; expected {_FORMS}.')
    if table.shape == (LEVELS, 1, 3):
        return calibrated(name, table[:, 0, ::-1])
    if table.shape in ((LEVELS,), (LEVELS, 1)):
        table = np.repeat(table.reshape(LEVELS, 1), 3, axis=1)
    if table.shape != (LEVELS, 3):
        raise RequestError(f'Camera response {name}: a table of shape {table.shape}; expected {_FORMS}.')
    return _corrected(name, table)


def calibrated(name: str, table: np.ndarray) -> Response:
    """The response of a table that was calibrated from an exposure series; its upper end is not reliable.

    The levels above 250 are extrapolated with the slope between levels 249 and 251, as REDS's authors do.

    Args:
        table: (256, 3) linear light, RGB.

    Raises:
        RequestError: As `made_monotonic`.
    """
    table = np.array(table, np.float64)
    slope = (table[LAST_TRUSTED + 1] - table[LAST_TRUSTED - 1]) / 2
    table[LAST_TRUSTED + 1 :] = table[LAST_TRUSTED] + slope * np.arange(1, LEVELS - LAST_TRUSTED)[:, None]
    return _corrected(name, table, f'levels above {LAST_TRUSTED} are continued by the slope there')


def _corrected(name: str, table: np.ndarray, note: str = '') -> Response:
    """The response of a table, corrected only if it is rejected: a table corrected before does not change again."""
    try:
        return Response(name, table, note)
    except RequestError:
        table, changed = made_monotonic(name, table)
        return Response(name, table, '; '.join(filter(None, (note, changed))))


def made_monotonic(name: str, table: np.ndarray) -> tuple[np.ndarray, str]:
    """A table whose light grows with every level, and a note about the changes.

    If light does not grow by at least one part in 2,000, neighbouring levels are grouped until the groups' means grow
    (isotonic regression). Light is then interpolated linearly between the groups' middles; at the table's ends, from
    the first or to the last level. A level that grows keeps its light if its neighbours grow too.

    Args:
        table: (256, 3) linear light.

    Returns:
        The table, float64 (256, 3), and a note for the user; the note is empty if nothing was changed.

    Raises:
        RequestError: A number is not finite, or more than 8 neighbouring levels would have to be grouped.
    """
    table = np.array(table, np.float64)
    notes = []
    for column, channel in enumerate(_CHANNELS):
        light = table[:, column]
        wrong = np.flatnonzero(~np.isfinite(light))
        if len(wrong):
            raise RequestError(f'Camera response {name}: the light of the {channel} level {wrong[0]} is not a number.')
        groups = _growing_groups(light)
        joined = [(first, last) for first, last, _ in groups if last > first]
        if not joined:
            continue
        first, last = max(joined, key=lambda group: group[1] - group[0])
        if last - first >= _MOST_POOLED:
            raise RequestError(
                f'Camera response {name}: the light of the {channel} levels {first} to {last} does not grow; only up '
                f'to {_MOST_POOLED} neighbouring levels can be corrected. Use a table without this flat or falling '
                'part, or calibrate from more pictures (basicsr calibrate-response).'
            )
        places = [(first + last) / 2 for first, last, _ in groups]
        places[0], places[-1] = 0, LEVELS - 1
        table[:, column] = np.interp(np.arange(LEVELS), places, [mean for _, _, mean in groups])
        notes.append(f'{channel} {", ".join(f"{first}-{last}" for first, last in joined)}')
    return table, f'levels that did not grow are drawn straight ({"; ".join(notes)})' if notes else ''


def _growing_groups(light: np.ndarray) -> list[tuple[int, int, float]]:
    """First level, last level and mean light of the groups of isotonic regression (pool adjacent violators)."""
    groups: list[tuple[int, int, float]] = []
    for level, value in enumerate(light.tolist()):
        first, mean = level, value
        while groups and mean <= groups[-1][2] * (1 + _LEAST_GROWTH):
            before, _, other = groups.pop()
            mean = ((level - first + 1) * mean + (first - before) * other) / (level - before + 1)
            first = before
        groups.append((first, level, mean))
    return groups

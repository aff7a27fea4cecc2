"""Calibrates a camera's response from pictures of one scene at several exposures, by OpenCV's Robertson method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.camera_response import LAST_TRUSTED, LEVELS, Response, calibrated

_PIXELS = 1 << 19  # pixels used of a picture: more change the curve by less than the pictures' noise
_LONGEST_UNSEEN = 7  # consecutive levels that may be interpolated
_UNIT_LEVEL = 128  # the level whose light is 1
_EXIF, _EXPOSURE_TIME, _F_NUMBER, _ISO = 0x8769, 33434, 33437, 34855


def calibrate_response(
    images: Sequence[np.ndarray], exposure_seconds: Sequence[float], *, name: str = 'calibrated'
) -> Response:
    """The response of a camera, from pictures of a motionless scene taken by a motionless camera.

    The pictures must show the same scene pixel for pixel. Only the exposure time may differ (same aperture, sensitivity
    and white balance). Together they should show every level: five to nine pictures, each exposed at most twice as long
    as the one before, the shortest without white areas and the longest without black areas. Pictures of more than half
    a megapixel are subsampled evenly. Light is 1 at level 128, as in OpenCV.

    The curve is as good as the pictures. Lossless pictures give it to within 3 grey levels. JPEG at quality 95 with
    halved colour makes it wavy and bends its bright end by about twelve levels. The two ends are always the least
    certain, because few pixels show these levels.

    Args:
        images: uint8 (h, w, 3) RGB, all of one size.
        exposure_seconds: The exposure time of each.

    Raises:
        RequestError: Fewer than two pictures or two different exposures, sizes that differ, a longer exposure that is
            not brighter, levels that no picture shows, or a curve too noisy to be corrected (`made_monotonic`).
    """
    seconds = np.asarray(exposure_seconds, np.float64)
    _check(images, seconds)
    height, width = images[0].shape[:2]
    stride = max(1, int(np.ceil(np.sqrt(height * width / _PIXELS))))
    thinned = [np.ascontiguousarray(image[::stride, ::stride, ::-1]) for image in images]
    _check_brightness(thinned, seconds)
    # Only the ratios of the times matter; values near 1 keep float32 precise.
    times = (seconds / np.exp(np.log(seconds).mean())).astype(np.float32)
    fitted = cv2.createCalibrateRobertson().process(thinned, times)
    table = np.asarray(fitted, np.float64).reshape(LEVELS, 3)[:, ::-1]
    seen = sum(
        np.stack([np.bincount(image[..., 2 - channel].ravel(), minlength=LEVELS) for channel in range(3)], axis=1)
        for image in thinned
    )
    table, note = _filled(name, table, np.asarray(seen) > 0)
    found = calibrated(name, table)
    return Response(name, found.table, f'{note}; {found.note}' if note else found.note)


def exposures_of(files: Sequence[str | Path]) -> list[float]:
    """Exposure times in seconds, from the pictures' EXIF records.

    Raises:
        RequestError: A picture has no exposure time, or aperture or sensitivity differ between pictures.
    """
    from PIL import Image

    seconds: list[float] = []
    others: dict[str, dict[str, Path]] = {'aperture': {}, 'ISO sensitivity': {}}
    for file in map(Path, files):
        try:
            with Image.open(file) as image:
                record = image.getexif().get_ifd(_EXIF)
        except OSError as error:
            raise RequestError(f'{file}: cannot be read as a picture ({error})') from error
        if not record.get(_EXPOSURE_TIME):
            raise RequestError(
                f'{file}: its EXIF record has no exposure time; give the times of all pictures in their order, such as '
                '--exposures 1/60 1/30 1/15'
            )
        seconds.append(float(record[_EXPOSURE_TIME]))
        for what, tag in (('aperture', _F_NUMBER), ('ISO sensitivity', _ISO)):
            if tag in record:
                others[what].setdefault(str(record[tag]), file)
    for what, values in others.items():
        if len(values) > 1:
            listed = ', '.join(f'{value} in {file}' for value, file in values.items())
            raise RequestError(f'the {what} differs between the pictures ({listed}): only the exposure time may differ')
    return seconds


def _check(images: Sequence[np.ndarray], seconds: np.ndarray) -> None:
    if len(images) != len(seconds):
        raise RequestError(f'{len(images)} pictures but {len(seconds)} exposure times; give one for each picture')
    if len(images) < 2 or len(np.unique(seconds)) < 2:
        raise RequestError(
            f'{len(images)} pictures with {len(np.unique(seconds))} different exposure times: at least two different '
            'ones are needed (five to nine are recommended, each at most twice as long as the one before)'
        )
    if not np.isfinite(seconds).all() or seconds.min() <= 0:
        raise RequestError(f'exposure times must be above 0 seconds, got {", ".join(f"{one:g}" for one in seconds)}')
    for number, image in enumerate(images):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise RequestError(f'picture {number + 1} is {image.dtype} {image.shape}, expected 8-bit RGB')
        if image.shape != images[0].shape:
            raise RequestError(
                f'picture {number + 1} is {image.shape[1]}x{image.shape[0]}, the first one '
                f'{images[0].shape[1]}x{images[0].shape[0]}: the pictures must show the same scene pixel by pixel'
            )


def _check_brightness(images: Sequence[np.ndarray], seconds: np.ndarray) -> None:
    order = np.argsort(seconds, kind='stable')
    means = [float(images[number].mean()) for number in order]
    for place in range(1, len(order)):
        shorter, longer = order[place - 1], order[place]
        if seconds[longer] > seconds[shorter] and means[place] <= means[place - 1]:
            raise RequestError(
                f'picture {longer + 1} was exposed for {seconds[longer]:g} s but is not brighter (mean '
                f'{means[place]:.1f}) than picture {shorter + 1} with {seconds[shorter]:g} s (mean '
                f'{means[place - 1]:.1f}); check that the times are in the order of the pictures'
            )


def _filled(name: str, table: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, str]:
    """The table and a note; short runs of levels that no picture shows are interpolated linearly.

    Levels above the last trusted one and its neighbour need no picture: they are extrapolated in any case.
    """
    table = table.copy()
    notes = []
    for column, channel in enumerate(('red', 'green', 'blue')):
        known = np.flatnonzero(seen[:, column])
        edges = np.concatenate([[-1], known[known <= LAST_TRUSTED + 1], known[known > LAST_TRUSTED + 1][:1]])
        if len(known) == 0 or known[-1] <= LAST_TRUSTED:
            edges = np.append(edges, LEVELS)
        longest = int(np.diff(edges).argmax())
        first, last = int(edges[longest]) + 1, int(edges[longest + 1]) - 1
        if not seen[_UNIT_LEVEL, column]:  # OpenCV divides by its light
            first = last = _UNIT_LEVEL
        elif last - first < _LONGEST_UNSEEN and last < LEVELS - 1:
            missing = int((~seen[: LAST_TRUSTED + 2, column]).sum())
            table[:, column] = np.interp(np.arange(LEVELS), known, table[known, column])
            if missing:
                notes.append(f'{missing} {channel} levels that no picture shows are interpolated')
            continue
        raise RequestError(
            f'Camera response {name}: no picture shows the {channel} levels {first} to {last}; take pictures with more '
            'exposure times, of a scene from black to white.'
        )
    return table, '; '.join(notes)

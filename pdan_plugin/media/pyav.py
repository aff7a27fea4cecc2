"""PyAV 14.1 to 19: the only module that handles the differences between its releases.

It checks for features, never for version numbers.

========  ======================================================================================
release   change
========  ======================================================================================
14.4      frames have a ``duration``
17        frames have ``color_primaries`` and ``color_trc``; conversions fail on reserved values of them (fixed in 18).
          A conversion always uses the given matrix and range; before, only if those of source and target differ
18        conversions accept BT.2020 by name; all releases accept its number, except 17, which uses the frame's tag
19        ``av.open`` has no ``metadata_errors``: text that is not UTF-8 is always read and written byte for byte.
          Rational numbers are ``av.AVRational``, and 0 instead of None if unknown
========  ======================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pdan_plugin.errors import RequestError

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

_UNSPECIFIED = 2  # in ITU-T H.273
_BT709, _BT601, _BT2020 = 1, 5, 9  # swscale's numbers for matrices
_FULL_RANGE = 2
# bicubic, accurate rounding, full chroma interpolation: without these every picture becomes a grey level darker
_EXACT = 0x4 | 0x40000 | 0x2000 | 0x4000


def import_av() -> Any:
    """Imports PyAV.

    Raises:
        RequestError: PyAV is not installed or older than 14.1.
    """
    try:
        import av
    except ImportError as error:
        raise RequestError(
            f"videos need PyAV, which cannot be loaded ({error}): pip install av (or 'pdan-plugin[video]')"
        ) from error
    if not hasattr(av.VideoFrame, 'rotation'):
        raise RequestError(f'videos need PyAV 14.1 or newer; installed is {av.__version__}: pip install --upgrade av')
    return av


def open_container(file: Any, mode: str = 'r', **arguments: Any) -> Any:
    """Like ``av.open``, but reads and writes tags that are not UTF-8 byte for byte.

    Args:
        file: A path, or an open binary file.
        mode: ``'r'`` or ``'w'``.
        arguments: Further arguments of ``av.open``.

    Returns:
        An ``InputContainer`` or an ``OutputContainer``; the caller closes it.

    Raises:
        av.FFmpegError: The file cannot be opened.
    """
    av = import_av()
    if hasattr(
        av.container.Container, 'metadata_errors'
    ):  # a class attribute, because the signature of a built-in function cannot be read
        arguments['metadata_errors'] = 'surrogateescape'
    return av.open(file, mode, **arguments)


def primaries_and_transfer(frame: VideoFrame, coding: VideoCodecContext) -> tuple[int, int]:
    """H.273's numbers for a frame's colour primaries and transfer function; 2 if unspecified.

    Args:
        frame: A decoded frame.
        coding: The decoder of ``frame``, which has the numbers if the frame has no attributes for them.
    """
    holder: Any = frame if hasattr(frame, 'color_primaries') else coding
    return int(holder.color_primaries), int(holder.color_trc)


def set_primaries_and_transfer(frame: VideoFrame, primaries: int, transfer: int) -> None:
    """Sets the numbers of a frame; if frames have no such attributes, the encoder's values apply."""
    if hasattr(frame, 'color_primaries'):
        frame.color_primaries, frame.color_trc = primaries, transfer


def frame_duration(frame: VideoFrame) -> int:
    """The duration in ticks of the frame's time base; 0 if unknown."""
    return getattr(frame, 'duration', 0) or 0


def set_frame_duration(frame: VideoFrame, ticks: int) -> None:
    """Sets the duration of a frame; if frames have no duration, the time of the next frame ends it."""
    if hasattr(frame, 'duration'):
        frame.duration = ticks


def to_rgb(frame: VideoFrame, packed: str, matrix: int, color_range: int) -> VideoFrame:
    """Converts a frame to full-range RGB; its primaries and transfer function do not change.

    Args:
        frame: A decoded frame, which does not change.
        packed: The pixel format to convert to, such as ``'rgb24'`` or ``'rgb48le'``.
        matrix: swscale's number for the matrix of ``frame``.
        color_range: The range of ``frame``: 1 for 16..235, 2 for 0..255.
    """
    return _converted(frame, packed, (matrix, _rgb_side(frame, matrix)), (color_range, _FULL_RANGE))


def from_rgb(frame: VideoFrame, pixel_format: str, matrix: int, color_range: int) -> VideoFrame:
    """The reverse of :func:`to_rgb`: ``matrix`` and ``color_range`` are those of the result."""
    return _converted(frame, pixel_format, (_rgb_side(frame, matrix), matrix), (_FULL_RANGE, color_range))


def _rgb_side(frame: VideoFrame, matrix: int) -> int:
    """The matrix argument for the RGB side of a conversion, which has no effect on RGB.

    Before PyAV 17 the matrices and ranges reach swscale only if those of source and target differ.
    """
    if hasattr(frame, 'color_primaries'):
        return matrix
    return _BT709 if matrix != _BT709 else _BT601


def _converted(
    frame: VideoFrame, pixel_format: str, matrices: tuple[int, int], color_ranges: tuple[int, int]
) -> VideoFrame:
    names = [name for name in ('colorspace', 'color_primaries', 'color_trc') if hasattr(frame, name)]
    kept = {name: getattr(frame, name) for name in names}
    if _BT2020 in matrices:
        frame.colorspace = _BT2020  # PyAV 17 ignores the argument and uses this
    set_primaries_and_transfer(frame, _UNSPECIFIED, _UNSPECIFIED)
    try:
        return frame.reformat(
            format=pixel_format,
            src_colorspace=matrices[0],
            dst_colorspace=matrices[1],
            src_color_range=color_ranges[0],
            dst_color_range=color_ranges[1],
            interpolation=_EXACT,
        )
    finally:
        for name, value in kept.items():
            setattr(frame, name, value)

"""PyAV 14.1 to 19: the only module that handles the differences between its releases.

It checks for features, never for version numbers.

========  ======================================================================================
release   change
========  ======================================================================================
14.4      frames have a ``duration``
16        containers have ``chapters``, results ``add_attachment``. A template without a decoder raises a ValueError;
          before, the process crashes
17        frames have ``color_primaries`` and ``color_trc``; conversions fail on reserved values of them (fixed in 18).
          A conversion always uses the given matrix and range; before, only if those of source and target differ
18        conversions accept BT.2020 by name; all releases accept its number, except 17, which uses the frame's tag
19        ``av.open`` has no ``metadata_errors``: text that is not UTF-8 is always read and written byte for byte.
          Rational numbers are ``av.AVRational``, and 0 instead of None if unknown. Packets of a stream that begins in
          mid-file are skipped; before, they raise an IndexError
========  ======================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdan_plugin.errors import RequestError

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

_UNSPECIFIED = 2  # in ITU-T H.273
_BT709, _BT601, _BT2020 = 1, 5, 9  # swscale's numbers for matrices
_FULL_RANGE = 2
_TIMES_MAY_JUMP = 0x200  # FFmpeg's AVFMT_TS_DISCONT
_PACKETS_BETWEEN_LOOKS = 32  # for new streams, about half a second of a video with sound
_A_STREAM = re.compile(r'^ +Stream #(\d+:\d+)', re.MULTILINE)
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
        file: A path, or an open binary file. A path may look like an address, such as ``12:30.mp4``.
        mode: ``'r'`` or ``'w'``.
        arguments: Further arguments of ``av.open``.

    Returns:
        An ``InputContainer`` or an ``OutputContainer``; the caller closes it.

    Raises:
        av.FFmpegError: The file cannot be opened.
    """
    av = import_av()
    if isinstance(file, (str, Path)):  # FFmpeg reads the text before a colon as a protocol, unless it has a slash
        file = str(Path(file).absolute() if ':' in str(file) else file)
    if hasattr(
        av.container.Container, 'metadata_errors'
    ):  # a class attribute, because the signature of a built-in function cannot be read
        arguments['metadata_errors'] = 'surrogateescape'
    return av.open(file, mode, **arguments)


def packets_of(container: InputContainer, streams: list[Any], on_new_stream: Callable[[], None]) -> Iterator[Packet]:
    """The packets of some streams, in the order of the file.

    Where a stream begins in mid-file, as in a transport stream whose programme changes, reading goes on without it.
    Older releases of PyAV raise an IndexError there; newer ones skip its packets, and only FFmpeg's description of the
    file lists it.

    Args:
        on_new_stream: Called there, at most `_PACKETS_BETWEEN_LOOKS` packets later.
    """
    announced, has_begun = _streams_described(container), False
    while True:
        try:
            for number, packet in enumerate(container.demux(streams)):
                is_look = not has_begun and number % _PACKETS_BETWEEN_LOOKS == 0
                if is_look and _streams_described(container) > announced:
                    has_begun = True
                    on_new_stream()
                yield packet
        except IndexError:
            has_begun = True
            on_new_stream()
        else:
            if not has_begun and _streams_described(container) > announced:
                on_new_stream()
            return


def _streams_described(container: InputContainer) -> int:
    """The number of streams that FFmpeg knows by now; PyAV's is that of the header."""
    return len(set(_A_STREAM.findall(_description(container))))


def _description(container: InputContainer) -> str:
    """FFmpeg's description of an open file in some lines of text, 0.3 ms."""
    logging = import_av().logging
    level = logging.get_level()
    logging.set_level(logging.INFO)  # the description passes through FFmpeg's log
    try:
        described: str = container.dumps_format()  # type: ignore[attr-defined]
        return described
    finally:
        logging.set_level(level)


def exact(number: Any) -> Fraction:
    """A rational number of PyAV, such as a time base; its type differs between releases."""
    return Fraction(number)


def times_may_jump(container: InputContainer) -> bool:
    """Whether times of this file format may jump, as those of a transport stream do."""
    flags: Any = container.format.flags
    return bool(int(flags) & _TIMES_MAY_JUMP)


def disposition_of(stream: Stream) -> int:
    """FFmpeg's bits for what a stream is for, such as default, forced or comment."""
    value: Any = stream.disposition
    return int(getattr(value, 'value', value))


def set_disposition(stream: Stream, bits: int) -> None:
    """Sets FFmpeg's bits of a stream of a result."""
    stream.disposition = bits  # type: ignore[assignment]


def chapters_of(container: InputContainer) -> list[dict[str, Any]] | None:
    """The chapters: ``id``, ``start`` and ``end`` in ticks of ``time_base``, ``metadata``.

    None if there are chapters, but PyAV is too old to read them.
    """
    if hasattr(container, 'chapters'):
        return [{**chapter, 'time_base': exact(chapter['time_base'] or 1)} for chapter in container.chapters()]
    return None if '\n  Chapters:\n' in _description(container) else []


def set_chapters(container: OutputContainer, chapters: list[dict[str, Any]]) -> None:
    """Sets the chapters of a result, before its header is written."""
    container.set_chapters(chapters)  # type: ignore[arg-type]


def attach_file(container: OutputContainer, attachment: Any) -> bool:
    """Adds an attached file of a source to a result; False if PyAV is too old."""
    if not hasattr(container, 'add_attachment'):
        return False
    container.add_attachment(attachment.name or 'attachment', attachment.mimetype or '', attachment.data)
    return True


def side_data_of(frame: VideoFrame, name: str) -> bytes | None:
    """A frame's side data of FFmpeg's type ``name``, such as ``'DISPLAYMATRIX'``; None if it has none."""
    try:
        data: Any = frame.side_data.get(name)  # type: ignore[call-overload]
    except KeyError:  # a type that this release does not know
        return None
    return None if data is None else bytes(data)


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

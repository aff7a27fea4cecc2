"""Prepares the frames of a video for a network: upright RGB, and what a result cannot hold of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pdan_plugin.media.deinterlacing import TimedFrame
from pdan_plugin.media.hdr_metadata import what_frame_loses
from pdan_plugin.media.pyav import to_rgb
from pdan_plugin.media.video_frames import FrameReader
from pdan_plugin.media.video_part import VideoPart
from pdan_plugin.media.video_source import SourceVideo, VideoFileError, upright_rgb

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame

_BT709, _FULL_RANGE = 1, 2


@dataclass
class DecodedFrame:
    """A frame of the source, ready for the network.

    Attributes:
        item: Its time, and the frame; without one if it is missing.
        pixels: (h, w, 3), upright; None for a missing frame.
        lost: What the result cannot hold of it.
        is_transparent: Whether it is not opaque.
        error: Why it cannot be part of the result; nothing follows.
    """

    item: TimedFrame
    pixels: NDArray[Any] | None = None
    lost: set[str] = field(default_factory=set)
    is_transparent: bool = False
    error: VideoFileError | None = None


def decoded_frames(reader: FrameReader, video: SourceVideo, part: VideoPart | None) -> Iterator[Packet | DecodedFrame]:
    """Yields the packets to copy and the frames of a part, or of the whole video, in the order of the file.

    The last frame may be one with an error.
    """
    for item in reader if part is None else part.items(reader):
        if not isinstance(item, TimedFrame):
            yield item
        elif item.frame is None:
            yield DecodedFrame(item)
        else:
            try:
                pixels = upright_rgb(item.frame, video, video.packed)
            except VideoFileError as error:
                yield DecodedFrame(item, error=error)
                return
            is_transparent = video.may_be_transparent and not _is_opaque(item.frame)
            yield DecodedFrame(item, pixels, what_frame_loses(item.frame), is_transparent)


def _is_opaque(frame: VideoFrame) -> bool:
    deep = any(each.is_alpha and each.bits > 8 for each in frame.format.components)
    # alpha is the same for any matrix
    alpha = to_rgb(frame, 'rgba64le' if deep else 'rgba', _BT709, _FULL_RANGE).to_ndarray()[..., 3]
    # the highest value of fewer bits may be scaled to less than the maximum
    return bool(alpha.min() >= (65535 - 256 if deep else 255))

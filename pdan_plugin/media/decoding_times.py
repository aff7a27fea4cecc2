"""Times of frames in the order of display, from those of their packets in the order of the file."""

from __future__ import annotations

import re
from bisect import insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_ONE_TIME = ('avi', 'asf', 'mpegvideo')  # FFmpeg's names of formats whose packets have one time
_ONE_TIME_IF_EQUAL = 'mxf'  # whose times of display are in an index, if it has them
_WAIT_FOR_SEVERAL = ('h264', 'hevc')  # codecs that may wait for more than one packet before they return a frame
_PACKED = re.compile(rb'DivX\d+(?:Build|b)\d+p')  # in MPEG-4: two frames in one packet, and a packet without a frame


@dataclass
class DecodingTimes:
    """The times of packets in files that do not say when a frame is shown.

    FFmpeg computes times of display from them. They are late by the frames for which the decoder waits, and wrong for
    H.264 and H.265, and where a packet holds two frames (DivX and XviD with B-frames), whatever the format. Here the
    first frame is shown when its stream begins, and the others, in the order of display, at the distances of the
    packets.

    Attributes:
        are_used: Whether the stream has reordered frames, and no times of display.
    """

    format_name: str
    stream: VideoStream
    are_used: bool = False
    _times: list[int] = field(default_factory=list)  # of the packets so far, sorted
    _late: int = 0  # ticks from the first packet to the beginning of the stream
    _first_key: int | None = None  # the first packet that can be decoded by itself
    _delay: int | None = None  # of the decoder, in packets
    _place: int = -1  # of the packet with which the last frame came

    def add(self, packet: Packet) -> int | None:
        """Takes the next packet in the order of the file; returns its time, which may be that of another frame."""
        self._place = len(self._times)
        if self._place == 0:
            self._begin(packet)
        time = packet.pts if self.format_name not in _ONE_TIME or packet.dts is None else packet.dts
        if time is None:
            return None
        if self.format_name in _ONE_TIME:
            self.are_used = self.are_used or packet.pts != packet.dts
        if self._first_key is None and packet.is_keyframe:
            self._first_key = self._place
        insort(self._times, time)
        return time + self._late if self.are_used else packet.pts

    def of(self, frame: VideoFrame, *, is_held: bool) -> int | None:
        """The time of the next frame; None if unknown.

        Args:
            is_held: Whether the decoder still held it at the end. If not, it came with the last packet.
        """
        self._place += is_held
        if self._delay is None:
            coding = self.stream.codec_context
            measured = max(0, self._place - (self._first_key or 0))  # too much if the first frame is damaged
            self._delay = measured if coding.name in _WAIT_FOR_SEVERAL else min(measured, int(coding.has_b_frames))
        if not self.are_used:
            return frame.pts
        place = self._place - self._delay
        return self._times[place] + self._late if 0 <= place < len(self._times) else None

    def _begin(self, packet: Packet) -> None:
        coding = self.stream.codec_context
        if self.format_name in _ONE_TIME:
            self.are_used = bool(coding.has_b_frames)
            if packet.dts is not None and self.stream.start_time is not None:
                self._late = self.stream.start_time - packet.dts
        elif self.format_name == _ONE_TIME_IF_EQUAL:
            self.are_used = bool(coding.has_b_frames) and packet.pts == packet.dts
        elif coding.name == 'mpeg4':
            self.are_used = any(_PACKED.search(each) for each in (coding.extradata or b'', bytes(packet)))

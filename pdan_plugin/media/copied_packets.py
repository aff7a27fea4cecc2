"""Copies sound and subtitles into the result of a video, packet by packet."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from pdan_plugin.media.pyav import exact
from pdan_plugin.media.video_containers import Rehearsal

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream


class CopiedPackets:
    """The copied streams of a result.

    Args:
        output: The result; its header is not written yet.
        suffix: Its ending.
        streams: The streams of the source to copy.
        start: The time in the source, in seconds, at which the result starts.

    Attributes:
        streams: Index of a stream of the source -> its copy.
        refused: Index of a stream of the source -> times of packets that the result cannot hold.
    """

    def __init__(self, output: OutputContainer, suffix: str, streams: list[Stream], start: Fraction) -> None:
        self._output, self._start = output, start
        self.streams = {each.index: output.add_stream_from_template(each) for each in streams}
        self.refused: dict[int, list[Fraction]] = {}
        # the limit of times of decoding: mp4 wants each later than the last, subtitles and Matroska not earlier
        self._steps = {each.index: int(suffix == '.mp4' and each.type == 'audio') for each in streams}
        self._copied_up_to: dict[int, int] = {}  # time of decoding of the last packet, in ticks of the copy
        self._rehearsals = {each.index: Rehearsal(suffix, each) for each in streams}

    def add(self, packet: Any) -> None:
        """Writes a packet, or leaves it out if the result cannot hold it. The result's header is written."""
        index = packet.stream.index
        copy = self.streams[index]
        base, copied_base = exact(packet.time_base), exact(copy.time_base or packet.time_base)

        def ticks(time: int | None) -> int | None:
            return None if time is None else round((time * base - self._start) / copied_base)

        shown, decoded = ticks(packet.pts), ticks(packet.dts)
        at = packet.pts if packet.pts is not None else packet.dts or 0
        if decoded is not None:  # the sound of recordings that were joined overlaps a little
            decoded = max(decoded, self._copied_up_to.get(index, decoded) + self._steps[index])
            shown = None if shown is None else max(shown, decoded)
            self._copied_up_to[index] = decoded
        duration = round((packet.duration or 0) * base / copied_base)
        packet.time_base, packet.pts, packet.dts, packet.duration = copied_base, shown, decoded, duration
        if self._rehearsals[index].takes(packet):
            packet.stream = copy
            self._output.mux(packet)
        else:
            self.refused.setdefault(index, []).append(at * base)

    def close(self) -> None:
        for rehearsal in self._rehearsals.values():
            rehearsal.close()

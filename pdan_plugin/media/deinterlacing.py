"""Makes progressive frames of interlaced ones, with FFmpeg's bwdif filter."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pdan_plugin.media.pyav import import_av

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


@dataclass(frozen=True)
class TimedFrame:
    """A frame shown at ``time``, in ticks of its stream; ``frame`` is None if it could not be decoded."""

    time: int
    duration: int
    frame: VideoFrame | None


@dataclass
class Deinterlacer:
    """Makes one progressive frame of each interlaced frame, and returns progressive frames as they are.

    The field order is that of each frame's flag; the new frame shows what the first field shows. From the first
    interlaced frame on, frames are returned one frame later, because the filter compares with the next one.

    Attributes:
        interlaced: Number of interlaced frames so far.
    """

    interlaced: int = 0
    _graph: Any = None
    _form: tuple[Any, ...] = ()
    _waiting: deque[TimedFrame] = field(default_factory=deque)

    def add(self, item: TimedFrame) -> Iterator[TimedFrame]:
        """Takes a frame, and yields those that are ready, in order."""
        frame = item.frame
        if frame is not None:
            self.interlaced += frame.interlaced_frame
            form = (frame.width, frame.height, frame.format.name)
            if self._graph is not None and form != self._form:
                yield from self.finish()
            if self._graph is None and frame.interlaced_frame:
                self._graph, self._form = _filter(frame), form
        if self._graph is None:
            yield item
            return
        self._waiting.append(item)
        if frame is not None:
            frame.pts = None  # the times stay beside it
            self._graph.push(frame)
            yield from self._ready()

    def finish(self) -> Iterator[TimedFrame]:
        """Yields the remaining frames."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None
        while self._waiting:
            yield self._waiting.popleft()

    def _ready(self) -> Iterator[TimedFrame]:
        av = import_av()
        while True:
            try:
                made = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            while self._waiting[0].frame is None:
                yield self._waiting.popleft()
            item = self._waiting.popleft()
            assert item.frame is not None
            made.colorspace, made.color_range = item.frame.colorspace, item.frame.color_range
            yield replace(item, frame=made)


def _filter(frame: VideoFrame) -> Any:
    av = import_av()
    graph = av.filter.Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    bwdif, sink = graph.add('bwdif', 'mode=send_frame:parity=auto:deint=interlaced'), graph.add('buffersink')
    source.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph

"""Encodes restored pictures as the video stream of a result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pdan_plugin.media.pyav import from_rgb, import_av, set_frame_duration, set_primaries_and_transfer
from pdan_plugin.media.resampling import resampled
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import VideoCoding
from pdan_plugin.media.video_source import MATRICES, SourceVideo, VideoFileError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_BT709 = 1
_LARGEST = 139264  # blocks of 16x16 in a frame: the limit of level 6.2 of H.264 and H.265


class EncodedPictures:
    """The pictures of a result: of the wanted size, in 4:2:0, with the colours and the times of the source.

    Args:
        output: The result; its header is not written yet.
        video: The source.
        scale: Of the network.
        size: The size of the result; None for the network's.
        coding: The encoder and its quality.

    Attributes:
        stream: In the result.
        notes: Messages for the user.

    Raises:
        VideoFileError: Frames would be larger than a video can hold.
    """

    def __init__(
        self, output: OutputContainer, video: SourceVideo, scale: int, size: ResultSize | None, coding: VideoCoding
    ) -> None:
        self._output, self._video = output, video
        self._matrix = video.matrix if video.matrix in MATRICES else _BT709
        self._pixel_format = 'yuv420p10le' if video.bits > 8 else 'yuv420p'
        self.notes: list[str] = []
        self.stream = self._added_stream(scale, size, coding)

    def encodable(self, restored: NDArray[Any]) -> VideoFrame:
        """A restored picture (scale * h, scale * w, 3) as a frame for :meth:`encode`, which takes it several times."""
        video = self._video
        pixels = _even(resampled(restored, self._size))
        result = import_av().VideoFrame.from_ndarray(pixels, format=video.packed)
        result = from_rgb(result, self._pixel_format, MATRICES[self._matrix], video.color_range)
        result.colorspace, result.color_range = self._matrix, video.color_range
        set_primaries_and_transfer(result, video.primaries, video.transfer)
        return result

    def encode(self, frame: VideoFrame, time: int, duration: int) -> None:
        """Writes a frame at a time of the result, both in ticks of the source."""
        frame.time_base = self._video.time_base
        frame.pts = time
        set_frame_duration(frame, duration)
        frame.pict_type = 0  # let the encoder choose
        self._output.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Writes what the encoder still holds."""
        self._output.mux(self.stream.encode(None))

    def _added_stream(self, scale: int, size: ResultSize | None, coding: VideoCoding) -> VideoStream:
        source_size, aspect = self._video.upright_size, self._video.pixel_aspect
        height, width = (each * scale for each in source_size)
        if size is not None:
            height, width = size.of(*source_size, even=True)
            self.notes += size.notes(*source_size, scale, aspect)
            aspect = size.pixel_aspect(*source_size, aspect)
        self._size = height, width
        if height % 2 or width % 2:
            self.notes.append(f'{width}x{height} is odd, but 4:2:0 needs even sizes: a line was repeated at the border')
        height, width = height + height % 2, width + width % 2
        if -(-height // 16) * -(-width // 16) > _LARGEST:
            raise VideoFileError(
                f'frames would be {width}x{height}, more than a video can hold ({_LARGEST * 256:,} pixels); '
                'extract the frames as pictures and restore the folder'
            )
        encoder = coding.encoder(
            is_deep=self._video.bits > 8,
            mastering_display=self._video.mastering_display,
            content_light=self._video.content_light,
        )
        added: Any = self._output.add_stream(encoder.name, rate=self._video.rate, options=encoder.options)
        stream: VideoStream = added
        context = stream.codec_context
        context.width, context.height = width, height
        context.thread_type = 'FRAME'  # PyAV's own is slices of a frame: worse pictures of the same size, and slower
        context.pix_fmt = self._pixel_format
        context.time_base = stream.time_base = self._video.time_base
        context.sample_aspect_ratio = aspect
        context.colorspace, context.color_range = self._matrix, self._video.color_range
        context.color_primaries, context.color_trc = self._video.primaries, self._video.transfer
        if encoder.tag is not None:
            context.codec_tag = encoder.tag
        self.notes += encoder.notes
        return stream


def _even(pixels: NDArray[Any]) -> NDArray[Any]:
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode='edge')
    return np.ascontiguousarray(pixels)

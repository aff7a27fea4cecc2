"""Restores videos frame by frame; times and sound are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray

from pdan_plugin.files.whole_files import written_whole
from pdan_plugin.machine.algorithm_search import searching_algorithms
from pdan_plugin.machine.memory import free_memory
from pdan_plugin.machine.overlap import ReadAhead, WriteBehind
from pdan_plugin.media.decoded_frames import DecodedFrame, decoded_frames
from pdan_plugin.media.encoded_pictures import EncodedPictures
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.picture_restorer import PictureRestorer
from pdan_plugin.media.pyav import import_av, open_container
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import VideoCoding
from pdan_plugin.media.video_containers import copied_streams
from pdan_plugin.media.video_frames import FrameReader
from pdan_plugin.media.video_part import find_part
from pdan_plugin.media.video_source import (
    SourceVideo,
    VideoFileError,
    VideoHeader,
    open_video,
    picture_stream,
    read_video_header,
)
from pdan_plugin.media.video_writer import VideoOutcome, VideoWriter

if TYPE_CHECKING:
    from av.packet import Packet

_AHEAD, _BEHIND = 4, 3  # frames read before, and waiting behind, the network
_SHARE, _MOST_BYTES = 8, 2**31  # frames behind the network take at most this part of the free memory


def restore_video(
    restorer: PictureRestorer,
    source: Path,
    target: Path,
    on_frame: Callable[[int, int], None] | None = None,
    on_tile: Callable[[int, int], None] | None = None,
    *,
    header: VideoHeader | None = None,
    size: ResultSize | None = None,
    coding: VideoCoding | None = None,
    frames: FrameRange | None = None,
    most_bytes: int | None = None,
) -> VideoOutcome:
    """Restores a video into ``target``, .mp4 or .mkv, which appears when it is complete.

    Pictures become H.264 in 4:2:0, or H.265 if they have more than 8 bits, or what ``coding`` names. Frames have
    exactly the times of the source, except that they continue where those of the source jump. The pixels are turned
    upright; interlaced frames are deinterlaced. Sound, subtitles, chapters, tags and attached files are copied, as far
    as the result can hold them. The last good frame replaces a frame that cannot be decoded, so that sound and picture
    stay in sync. If the size of the pictures changes, the result ends there.

    Args:
        on_frame: Called with (frames written, frames in total or 0 if unknown), in the thread that writes.
        on_tile: As in :meth:`PictureRestorer.restore_picture`.
        header: The source's header, if it was read already; it is read again if the file has changed since.
        size: The size of the result; None for the network's.
        coding: The encoder and its quality; None for the defaults.
        frames: The part of the video, with its sound; None for all of it.
        most_bytes: What results that wait to be written may take; None for a part of the free memory.

    Raises:
        VideoFileError: The video cannot be restored.
        OSError: The source cannot be read, or the result cannot be written.
    """
    av = import_av()
    if header is None or not header.is_of(source):
        header = read_video_header(source)
    if header.video is None:
        raise VideoFileError(str(header.problem))
    video, suffix = header.video, target.suffix.lower()
    part = None if frames is None else find_part(source, video, header.refused[suffix], frames)
    try:
        with written_whole(target) as unfinished:
            with (
                open_video(source) as container,
                open_container(str(unfinished), 'w', options=_muxing(suffix)) as output,
            ):
                left_out = {stream.index for stream in header.refused[suffix]}
                kept = [stream for stream in copied_streams(container) if stream.index not in left_out]
                reader = FrameReader(container, picture_stream(container), kept, video.rate)
                pictures = EncodedPictures(output, video, restorer.scale, size, coding or VideoCoding())
                writer = VideoWriter(reader, video, output, pictures, header.refused, suffix, part)
                total = video.frames if part is None else part.frames

                def write(frame: DecodedFrame, restored: Callable[[], NDArray[Any]] | None) -> None:
                    if writer.add(frame, restored) and on_frame is not None:
                        on_frame(writer.outcome.frames, total)

                behind = _frames_behind(video, restorer.scale, most_bytes)
                _restore_frames(
                    decoded_frames(reader, video, part), restorer, on_tile, behind, write, writer.packets.add
                )
                outcome = writer.finish()
            outcome.notes += writer.carried.lost_in(unfinished)
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, f'cannot be written: {error.strerror}', str(target)) from error
        raise VideoFileError(f'cannot be written as {target.suffix}: {error}') from error
    return outcome


def _restore_frames(
    frames: Iterator[Packet | DecodedFrame],
    restorer: PictureRestorer,
    on_tile: Callable[[int, int], None] | None,
    most_behind: int,
    write: Callable[[DecodedFrame, Callable[[], NDArray[Any]] | None], None],
    copy: Callable[[Packet], None],
) -> None:
    """Restores and copies up to the end, or up to a frame that cannot be part of the result.

    Three threads: one reads ahead, this one begins frames on the network, and one waits for them and writes them.
    """
    with (
        searching_algorithms(True),  # all frames have one size
        ReadAhead(frames, _AHEAD) as items,
        WriteBehind(most_behind) as behind,
    ):
        for item in items:
            if not isinstance(item, DecodedFrame):
                behind.add(partial(copy, item))
            elif item.pixels is None:
                behind.add(partial(write, item, None))
            else:
                group = _group_from(item, items, restorer.pictures_at_once(*item.pixels.shape[:2]))
                pixels = [each.pixels for each in group if each.pixels is not None]
                for frame, restored in zip(group, restorer.begin_pictures(pixels, on_tile), strict=True):
                    behind.add(partial(write, frame, restored))


def _group_from(first: DecodedFrame, items: ReadAhead[Packet | DecodedFrame], most: int) -> list[DecodedFrame]:
    """A frame, with those after it that are ready: at most ``most``, which the network may get at the same time."""
    group = [first]

    def fits(item: Packet | DecodedFrame) -> bool:
        return isinstance(item, DecodedFrame) and item.pixels is not None

    while len(group) < most and (another := items.take_ready(fits)) is not None:
        assert isinstance(another, DecodedFrame)
        group.append(another)
    return group


def _frames_behind(video: SourceVideo, scale: int, most_bytes: int | None) -> int:
    """The number of results that may wait to be written, by the memory that they take in float32 and rounded."""
    if most_bytes is None:
        most_bytes = min(_MOST_BYTES, free_memory(torch.device('cpu')) // _SHARE)
    height, width = (side * scale for side in video.upright_size)
    return max(0, min(_BEHIND, most_bytes // (height * width * 3 * 6) - 1))


def _muxing(suffix: str) -> dict[str, str]:
    return {'movflags': '+faststart'} if suffix == '.mp4' else {}  # it can play during the download

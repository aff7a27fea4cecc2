"""The Python interface: `from pdan_plugin import Restorer, load_network, networks`.

It prints nothing, and what it reports is in :attr:`Restorer.notes`. Errors are ``pdan_plugin.errors.RequestError`` (a
ValueError) and ``WorkError`` (a RuntimeError).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.devices import choose_device
from pdan_plugin.machine.precision import choose_precision, slowness
from pdan_plugin.media.decoded_frames import DecodedFrame, decoded_frames
from pdan_plugin.media.deinterlacing import TimedFrame
from pdan_plugin.media.picture import AnimatedPictureError
from pdan_plugin.media.picture_files import Picture, PictureFileError, is_picture_file, read_picture
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.transparency import colour_to_restore, restore_layers
from pdan_plugin.media.video_contents import is_video_file
from pdan_plugin.media.video_frames import FrameReader, early_end, unread_part
from pdan_plugin.media.video_source import SourceVideo, VideoFileError, open_video, picture_stream, read_video_header
from pdan_plugin.restoration.jobs import make_plan
from pdan_plugin.restoration.one_file import restore_job
from pdan_plugin.restoration.picture_kinds import OnProgress, restore_array, restore_image, restore_tensor
from pdan_plugin.restoration.restorer import Restorer as Engine
from pdan_plugin.restoration.result_checks import check_results
from pdan_plugin.weights.packaged_weights import DEFAULT, packaged_weights
from pdan_plugin.weights.trained_network import load_recorded_network, load_trained_network, network_record

__all__ = ['RestoredFile', 'RestoredFrame', 'Restorer', 'load_network', 'networks']

Kind = TypeVar('Kind', NDArray[Any], Image.Image, Tensor)


@dataclass(frozen=True)
class RestoredFile:
    """A result of :meth:`Restorer.restore_file`.

    Attributes:
        path: The file that was written.
        notes: What the result does not hold, and what was converted.
    """

    path: Path
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RestoredFrame:
    """A restored frame of a video.

    Attributes:
        pixels: (h, w, 3) RGB, upright; uint8, or uint16 for a video of more than 8 bits.
        seconds: When it is shown, from the start of the video.
        duration: How long it is shown, in seconds; 0 if the file does not say it.
        is_repeated: The frame could not be decoded; ``pixels`` are those of the last good frame.
    """

    pixels: NDArray[Any]
    seconds: float
    duration: float
    is_repeated: bool = False


class Restorer:
    """Restores pictures and videos with a trained network.

    >>> import numpy as np
    >>> from pdan_plugin import Restorer
    >>> restorer = Restorer('pdan_small', device='cpu')
    >>> restorer.scale
    4
    >>> restorer(np.zeros((12, 10, 3), np.uint8)).shape
    (48, 40, 3)

    A restorer may be called from several threads; it restores one picture at a time.

    Args:
        weights: A name of :func:`networks`, a weights file (see :func:`load_network`), or a network that maps
            (1, c, h, w) in [0, 1] to a picture of the same size or larger. The network is copied.
        device: 'auto', or a name of torch, such as 'cpu' or 'cuda:1'.
        precision: 'fp32', 'bf16' or 'fp16'; 'auto' for bf16 where the device computes in it, else fp32.
        option_file: The option file of the training, for weights that are not recognised.
        param_key: Which weights of a file with several.
        tile: The largest side of a tile in pixels; 'auto' for the whole picture if memory allows; None for whole
            pictures.
        overlap: Pixels that tiles share; None to measure what the network needs.
        memory: For ``tile='auto'``, the most bytes to use; None for four fifths of the free memory.
        self_ensemble: Whether to average the eight flips and rotations: a little better, eight times the time.
        local_pooling: Side of a window, in pixels, whose mean replaces means over the whole picture; None for these.
        compiled: Whether to use torch.compile.
        cuda_graphs: Whether to record the network's operations for sizes that come again, and to replay them together,
            on an NVIDIA GPU. A recording whose result differs is not used.

    Attributes:
        scale: Height and width of a result, divided by those of the picture.
        channels: Channels of the network's pictures, 3 or 1.
        device: The chosen device.
        precision: The chosen precision.
        options: The type and the arguments of the network; empty if it was given as a network.

    Raises:
        RequestError: The weights, the device or an argument cannot be used; the message says what to do.
    """

    def __init__(
        self,
        weights: str | PathLike[str] | nn.Module = DEFAULT,
        device: str | torch.device = 'auto',
        precision: Literal['auto', 'fp32', 'bf16', 'fp16'] = 'auto',
        *,
        option_file: str | PathLike[str] | None = None,
        param_key: str | None = None,
        tile: int | Literal['auto'] | None = 'auto',
        overlap: int | None = None,
        memory: int | None = None,
        self_ensemble: bool = False,
        local_pooling: int | None = None,
        compiled: bool = False,
        cuda_graphs: bool = True,
    ) -> None:
        self.device = choose_device(str(device))
        self.precision = choose_precision(precision, self.device)
        self.options: dict[str, Any] = {}
        self._notes: list[str] = []
        if isinstance(weights, nn.Module):
            if option_file is not None or param_key is not None:
                raise RequestError('option_file and param_key are for a weights file; leave them out for a network')
            network = weights
        elif isinstance(weights, (str, PathLike)):
            network, record = load_recorded_network(weights, option_file, param_key=param_key)
            self.options = record.options
            self._notes += record.notes
        else:
            raise RequestError(f'expected a name, a weights file or a network, got {type(weights).__name__}')
        if slow := slowness(self.device, self.precision):
            self._notes.append(slow)
        self._engine = Engine(
            network,
            self.device,
            precision=self.precision,
            compiled=compiled,
            tile=tile,
            overlap=overlap,
            memory=memory,
            self_ensemble=self_ensemble,
            local_pooling=local_pooling,
            cuda_graphs=cuda_graphs,
        )
        self.scale, self.channels = self._engine.scale, self._engine.channels
        self._one_at_a_time = threading.RLock()  # a callback may use this restorer, too

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            'a Restorer holds a network and its device, and is neither copied nor sent to another process; make one in '
            'each process. Several threads may share one'
        )

    def __repr__(self) -> str:
        name = self.options.get('type', 'network')
        return f'<Restorer: {name}, {self.scale}x, {self.device}, {self.precision}>'

    @property
    def notes(self) -> tuple[str, ...]:
        """Messages so far: what was recognised and assumed about the weights, tiles, possible seams, slowness."""
        return (*self._notes, *self._engine.notes)

    def __call__(self, picture: Kind, on_progress: OnProgress | None = None) -> Kind:
        """Restores a picture; the result is of the same kind, ``scale`` times as high and as wide.

        - A NumPy array (h, w, 3) in RGB, (h, w) or (h, w, 1) in grey, or (h, w, 4) with alpha; uint8, uint16, or floats
          in [0, 1]. OpenCV reads pictures in BGR: give ``picture[..., ::-1]``.
        - A PIL image, grey or RGB, with or without alpha, or of 16-bit grey. The profile, EXIF and resolution are kept.
        - A tensor (b, c, h, w) of floats in [0, 1]; the result is on the same device, without gradients.

        Results are clipped. Alpha is enlarged separately, as by `basicsr restore`.

        Args:
            on_progress: Called with (tiles done, tiles in total). An exception that it raises stops the work.

        Raises:
            RequestError: The picture is of another kind, shape or type, has values outside of [0, 1], or the memory
                does not suffice.
            WorkError: Out of memory with the smallest tile.
        """
        with self._one_at_a_time:
            if isinstance(picture, Tensor):
                return restore_tensor(self._engine, picture, on_progress)
            if isinstance(picture, np.ndarray):
                return restore_array(self._engine, picture, on_progress)
            if isinstance(picture, Image.Image):
                return restore_image(self._engine, picture, on_progress)
        hint = '; restore_file(source, target) takes a path' if isinstance(picture, (str, PathLike)) else ''
        raise RequestError(f'expected a NumPy array, a PIL image or a tensor, got {type(picture).__name__}{hint}')

    def restore_file(
        self,
        source: str | PathLike[str],
        target: str | PathLike[str],
        *,
        overwrite: bool = False,
        on_progress: OnProgress | None = None,
    ) -> RestoredFile:
        """Restores a picture or a video into a file, as `basicsr restore` does: with its metadata, sound and times.

        Args:
            target: A file, whose ending is the format; or a folder, in which a picture becomes a PNG and a video .mp4
                (or .mkv).
            overwrite: Whether an existing file is replaced.
            on_progress: Called with (tiles done, tiles in total), for a video with (frames done, frames in total or 0
                if unknown). An exception that it raises stops the work; no half-written file is left.

        Raises:
            RequestError: The source cannot be read, the target exists or cannot hold the result; nothing is written.
            WorkError: A part of a video could not be read. The result has the rest, and the message says what is
                missing.
            OSError: A file cannot be read or written.
        """
        source, target = Path(source), Path(target)
        if source.is_dir():
            raise RequestError(f'{source} is a folder; restore its files one by one, or use `basicsr restore`')
        if self.channels != 3:
            raise RequestError(f'the network takes {self.channels} channels; pictures and videos in files have 3')
        plan = make_plan(source, target)
        check_results(plan, ResultSettings())
        (job,) = plan.jobs
        if job.target.exists() and not overwrite:
            raise RequestError(f'{job.target} exists already; give another target, or overwrite=True')
        with self._one_at_a_time:
            try:
                outcome = restore_job(self._engine, job, on_progress)
            except (PictureFileError, VideoFileError) as error:
                raise RequestError(f'{source}: {error}') from error
        if outcome.problems:
            raise WorkError(f'{job.target} is incomplete: {"; ".join(outcome.problems)}')
        return RestoredFile(job.target, outcome.notes)

    def restore_frames(
        self, source: str | PathLike[str], on_progress: OnProgress | None = None
    ) -> Iterator[RestoredFrame]:
        """Yields the restored frames of a video in the order of time. One frame is in memory at a time.

        Frames are progressive and upright. A frame that cannot be decoded is a repetition of the last good one. A
        picture that is not animated is one frame, read as `restore_file` reads it, without its transparency.

        Args:
            on_progress: Called with (frames done, frames in total or 0 if unknown).

        Raises:
            RequestError: The file cannot be read as a video, nor as a picture.
            WorkError: After the last good frame, if the file ends early, the size of its pictures changes, or another
                recording follows that is not read.
        """
        path = Path(source)
        if self.channels != 3:
            raise RequestError(f'the network takes {self.channels} channels; videos have 3')
        try:
            if not path.is_file():
                raise VideoFileError('no such video')
            if (picture := _still_picture(path)) is not None:
                return self._one_frame(picture, on_progress)
            video = read_video_header(path)
        except (PictureFileError, VideoFileError) as error:
            raise RequestError(f'{path}: {error}') from error
        if video.video is None:
            raise RequestError(f'{path}: {video.problem}')
        return self._frames(path, video.video, on_progress)

    def _one_frame(self, picture: Picture, on_progress: OnProgress | None) -> Iterator[RestoredFrame]:
        opaque = replace(picture, colour=colour_to_restore(picture), alpha=None)
        with self._one_at_a_time:
            pixels = restore_layers(self._engine, opaque).colour
        if on_progress is not None:
            on_progress(1, 1)
        yield RestoredFrame(pixels, 0.0, 0.0)

    def _frames(self, path: Path, video: SourceVideo, on_progress: OnProgress | None) -> Iterator[RestoredFrame]:
        good: NDArray[Any] | None = None
        waiting: list[TimedFrame] = []  # that could not be decoded, before the first good one
        done = 0
        with open_video(path) as container:
            start = (container.start_time or 0) / 1_000_000
            reader = FrameReader(container, picture_stream(container), [], video.rate)
            for decoded in decoded_frames(reader, video, None):
                if not isinstance(decoded, DecodedFrame):
                    continue
                if decoded.error is not None:
                    raise WorkError(f'{path}: {decoded.error}') from decoded.error
                if decoded.pixels is not None:
                    with self._one_at_a_time:
                        good = self._engine.restore_picture(decoded.pixels)
                item, is_repeated = decoded.item, decoded.pixels is None
                if good is None:
                    waiting.append(item)
                    continue
                for each in (*waiting, item):
                    done += 1
                    if on_progress is not None:
                        on_progress(done, max(done, video.frames) if video.frames else 0)
                    yield RestoredFrame(
                        good,
                        float(each.time * video.time_base) - start,
                        float(each.duration * video.time_base),
                        is_repeated or each is not item,
                    )
                waiting.clear()
            if good is None:
                raise WorkError(f'{path}: has no frame that can be decoded')
            if reason := early_end(reader, video) or unread_part(reader):
                raise WorkError(f'{path}: {reason}')


def _still_picture(path: Path) -> Picture | None:
    """The picture in a file; None for a video, an animation, or what is neither.

    FFmpeg reads pictures too, but neither turns them upright nor reports that they are damaged.

    Raises:
        PictureFileError, OSError: See :func:`~pdan_plugin.media.picture_files.read_picture`.
    """
    if is_video_file(path) or not is_picture_file(path):
        return None
    try:
        return read_picture(path)
    except AnimatedPictureError:
        return None


def load_network(
    weights: str | PathLike[str] = DEFAULT,
    device: str | torch.device = 'cpu',
    *,
    option_file: str | PathLike[str] | None = None,
    param_key: str | None = None,
) -> nn.Module:
    """A trained network in eval mode: batches (b, c, h, w) in [0, 1] -> (b, c, scale * h, scale * w), not clipped.

    Args:
        weights: A name of :func:`networks`; a file with a description of its network (safetensors of `basicsr export`);
            a file in an experiment folder, beside its option file; or bare weights of PDAN, DRN, RCAN, EDSR,
            SRVGGNetCompact, RRDBNet or SwinIR, which are recognised by their tensors. With spandrel installed, weights
            of over forty more families.
        device: 'auto', or a name of torch.
        option_file: The option file of the training, for all other weights.
        param_key: Which weights of a file with several.

    Raises:
        RequestError: The file cannot be read, or its network is not recognised or cannot be built.

    >>> from pdan_plugin import load_network
    >>> network = load_network('pdan_small')
    >>> tuple(network(torch.rand(1, 3, 12, 10)).shape)
    (1, 3, 48, 40)
    """
    if not isinstance(weights, (str, PathLike)):
        raise RequestError(f'expected a name or a weights file, got {type(weights).__name__}')
    return load_trained_network(weights, option_file, choose_device(str(device)), param_key=param_key)


def networks() -> dict[str, dict[str, Any]]:
    """The networks whose weights come with this package: name -> type and arguments.

    >>> from pdan_plugin import networks
    >>> networks()['pdan_small']['type']
    'PDAN'
    """
    return {name: dict(network_record(file).options) for name, file in packaged_weights().items()}

"""Scoring pictures and writing them while the network restores the next one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import get_root_logger, imwrite
from numpy.typing import NDArray
from torch import Tensor

from pdan_plugin.errors import RequestError, WorkError

# why an image has no value, and what to do
_OF_NETWORK = (
    'the network computes',
    'so it has no result; with val.precision: fp16 use bf16 or fp32, which have a larger range, else its weights are '
    'damaged',
)
_OF_TRUTH = ('its ground truth has', 'so it has no score; expected values from 0 to 1: create or copy its file again')


class BackgroundScoring:
    """Scores images in threads. An error in a thread is raised in the calling thread, with the image's name.

    OpenCV and numpy do the work and release the GIL, so the restoring thread can run. This is a context manager: on
    exit it waits for the images under way; after an error it cancels those not yet started.

    Args:
        threads: Number of images scored at once. With 0, `add` scores in the calling thread.
        metrics_opt: ``val.metrics``: the options of each metric, with its ``type``.
        in_turns: Whether nothing is scored between two calls of `add`, because the caller measures time there. Then
            images wait until there is one for each thread, and `add` scores all of them.
        passes_over: Whether an image with values that are not finite is scored as nan and not written, with a line in
            the log, instead of ending the run.
    """

    def __init__(
        self,
        threads: int,
        metrics_opt: Mapping[str, Mapping[str, Any]],
        *,
        in_turns: bool = False,
        passes_over: bool = False,
    ) -> None:
        self._metrics_opt, self._passes_over = metrics_opt, passes_over
        self._waiting: list[Callable[[], None]] | None = [] if in_turns else None
        self._threads = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix='scoring') if threads else None
        self._pending: deque[tuple[int, str, Future[dict[str, float]]]] = deque()
        self._scores: dict[int, dict[str, float]] = {}

    def __enter__(self) -> BackgroundScoring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=error is not None)

    def add(self, index: int, name: str, output: Tensor, gt: Tensor | None, path: str | None) -> None:
        """Queues an image. Waits while more than ``threads`` images are queued, in turns for all of them.

        Args:
            index: Position in the data set; the key in `scores`.
            name: Name of the image in errors.
            output: The network's output, (1, 1 or 3, h, w) RGB, [0, 1], on any device.
            gt: Ground truth, (1, 1 or 3, h, w) RGB, [0, 1], on the CPU. Do not change it while scoring runs.
            path: The picture file to write; None writes none.

        Raises:
            RequestError, WorkError, RuntimeError: An earlier image could not be scored or written, or this one or its
                ground truth has values that are not finite.
        """
        if not math.isfinite(float(output.sum(dtype=torch.float32))):
            self._scores[index] = self._without_value(name, _OF_NETWORK)
            return
        if gt is not None and not np.isfinite(gt.numpy().sum(dtype=np.float32)):
            self._scores[index] = self._without_value(name, _OF_TRUTH)
            return
        picture = shown_as_bytes(output)
        if self._executor is None:
            self._scores[index] = _named(name, self._score, picture, gt, path)
            return
        submit = partial(self._submit, self._executor, index, name, picture, gt, path)
        if self._waiting is None:
            while len(self._pending) > self._threads:
                self._take_oldest()
            submit()
            return
        self._waiting.append(submit)
        if len(self._waiting) >= self._threads:
            self._take_turn()

    def scores(self) -> dict[int, dict[str, float]]:
        """Waits for all images and returns their scores by index.

        Raises:
            RequestError, WorkError, RuntimeError: An image could not be scored or written.
        """
        self._take_turn()
        return self._scores

    def _without_value(self, name: str, why: tuple[str, str]) -> dict[str, float]:
        """The scores of an image whose NaNs would be shown as black, and scored as that."""
        text = f'{name}: {why[0]} values that are not finite (NaN or infinite)'
        if not self._passes_over:
            raise WorkError(f'{text}, {why[1]}')
        get_root_logger().warning(f'{text}; scored as nan, and not written.')
        return dict.fromkeys(self._metrics_opt, math.nan)

    def _submit(self, executor: ThreadPoolExecutor, index: int, name: str, *arguments: Any) -> None:
        self._pending.append((index, name, executor.submit(self._score, *arguments)))

    def _take_turn(self) -> None:
        """Scores what waits, and waits for all."""
        for submit in self._waiting or ():
            submit()
        if self._waiting:
            self._waiting.clear()
        while self._pending:
            self._take_oldest()

    def _take_oldest(self) -> None:
        index, name, future = self._pending.popleft()
        self._scores[index] = _named(name, future.result)

    def _score(self, picture: NDArray[np.uint8], gt: Tensor | None, path: str | None) -> dict[str, float]:
        images = {'img': _bgr(picture)}
        if gt is not None:
            images['img2'] = _bgr(_shown(gt.numpy()))
        if path is not None:
            imwrite(images['img'], path)
        return {metric: float(calculate_metric(images, dict(opt))) for metric, opt in self._metrics_opt.items()}


def shown_as_bytes(batch: Tensor) -> NDArray[np.uint8]:
    """(1, c, h, w) float, clamped to [0, 1] -> (c, h, w) uint8, rounded as in the toolbox's ``tensor2img``.

    Conversion runs on the batch's device, so only a quarter of the bytes are copied to the CPU.
    """
    return batch[0].detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def _shown(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    # numpy, not torch: torch would start a thread pool for each calling thread
    return np.rint(batch[0].clip(0, 1) * np.float32(255)).astype(np.uint8)


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(c, h, w) RGB -> (h, w, 3) BGR, or (h, w) for one channel: the layout of the toolbox's metrics and `imwrite`."""
    return picture[0] if len(picture) == 1 else np.ascontiguousarray(picture[::-1].transpose(1, 2, 0))


def _named(name: str, work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    try:
        return work(*arguments)
    except RequestError as error:
        raise RequestError(f'{name}: {error}') from error
    except OSError as error:
        raise WorkError(f'{name}: its picture cannot be written: {error}') from error
    except Exception as error:
        raise RuntimeError(f'{name}: it cannot be scored: {type(error).__name__}: {error}') from error

"""Scoring pictures and writing them while the network restores the next one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import numpy as np
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import imwrite
from numpy.typing import NDArray
from torch import Tensor

from pdan_plugin.errors import RequestError, WorkError


class BackgroundScoring:
    """Scores images in threads, a few at a time; what goes wrong there is raised here, with the image's name.

    Comparing and packing pictures is OpenCV's and numpy's work, which leaves Python to the thread that restores. A
    context manager: its end waits for what was begun, and after an error begins nothing more.

    Args:
        threads: How many images are scored at once; with 0 `add` itself scores.
        metrics_opt: ``val.metrics``: each metric's options, with its ``type``.
    """

    def __init__(self, threads: int, metrics_opt: Mapping[str, Mapping[str, Any]]) -> None:
        self._metrics_opt = metrics_opt
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
        """Takes an image; waits while as many as there are threads, and one more, are not done.

        Args:
            index: Its place in the data set, under which `scores` has it.
            name: What to call it where something goes wrong.
            output: What the network made of it, (1, 1 or 3, h, w) RGB, [0, 1]; of any device.
            gt: What it should have made, (1, 1 or 3, h, w) RGB, [0, 1], on the CPU; not changed meanwhile.
            path: The picture file to write, or None for none.

        Raises:
            RequestError, WorkError, RuntimeError: An image before could not be scored or written.
        """
        picture = shown_as_bytes(output)
        if self._executor is None:
            self._scores[index] = _named(name, self._score, picture, gt, path)
            return
        while len(self._pending) > self._threads:
            self._take_oldest()
        self._pending.append((index, name, self._executor.submit(self._score, picture, gt, path)))

    def scores(self) -> dict[int, dict[str, float]]:
        """Every image's scores by its index, when all are done.

        Raises:
            RequestError, WorkError, RuntimeError: One could not be scored or written.
        """
        while self._pending:
            self._take_oldest()
        return self._scores

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
    """(1, c, h, w), [0, 1] and beyond -> (c, h, w) uint8, as the toolbox's ``tensor2img`` rounds, made on the batch's
    device: a quarter of the bytes leave it."""
    return batch[0].detach().float().clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()


def _shown(batch: NDArray[np.float32]) -> NDArray[np.uint8]:
    # no torch here: each thread that calls it gets a team of threads of its own
    return np.rint(batch[0].clip(0, 1) * np.float32(255)).astype(np.uint8)


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(c, h, w) RGB -> (h, w, 3) BGR, or (h, w) of one channel: as the toolbox's metrics and `imwrite` take it."""
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

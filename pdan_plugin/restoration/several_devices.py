"""Shares pictures over several devices, each with its own copy of the network."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from numpy.typing import NDArray

from pdan_plugin.media.picture_restorer import PictureRestorer


class SeveralDevices:
    """Restores each picture on the device that is free next. A context manager.

    Each result is that of its device alone, so it does not depend on the number of devices of one kind.

    Args:
        restorers: One for each device, of the same network and settings.

    Attributes:
        scale: Height and width of the result, divided by those of the input.
    """

    def __init__(self, restorers: Sequence[PictureRestorer]) -> None:
        self._first, self.scale = restorers[0], restorers[0].scale
        self._free: SimpleQueue[PictureRestorer] = SimpleQueue()
        for restorer in restorers:
            self._free.put(restorer)
        self._room = threading.Semaphore(2 * len(restorers))  # one under way and one that waits for each device
        self._threads = ThreadPoolExecutor(len(restorers), thread_name_prefix='device')

    def __enter__(self) -> SeveralDevices:
        return self

    def __exit__(self, *of_error: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def restore_picture(self, picture: NDArray[Any], on_tile: Callable[[int, int], None] | None = None) -> NDArray[Any]:
        """See :meth:`~pdan_plugin.restoration.restorer.Restorer.restore_picture`."""
        return self.begin_picture(picture, on_tile)()

    def begin_picture(
        self, picture: NDArray[Any], on_tile: Callable[[int, int], None] | None = None
    ) -> Callable[[], NDArray[Any]]:
        """See :meth:`begin_pictures`."""
        return self.begin_pictures([picture], on_tile)[0]

    def pictures_at_once(self, height: int, width: int) -> int:
        """As many as the first device takes."""
        return self._first.pictures_at_once(height, width)

    def begin_pictures(
        self, pictures: Sequence[NDArray[Any]], on_tile: Callable[[int, int], None] | None = None
    ) -> list[Callable[[], NDArray[Any]]]:
        """Gives pictures to the next free device; waits while two such batches for each device are not done.

        The returned functions wait for the results. They raise what the device's restorer raised.

        Args:
            on_tile: Not called: several pictures are under way.
        """
        self._room.acquire()
        try:
            begun = self._threads.submit(self._begin, pictures)
        except BaseException:
            self._room.release()
            raise
        begun.add_done_callback(lambda _: self._room.release())

        def result_of(number: int) -> Callable[[], NDArray[Any]]:
            return lambda: begun.result()[number]()

        return [result_of(number) for number in range(len(pictures))]

    def _begin(self, pictures: Sequence[NDArray[Any]]) -> list[Callable[[], NDArray[Any]]]:
        restorer = self._free.get()
        try:
            return restorer.begin_pictures(pictures)
        finally:
            self._free.put(restorer)

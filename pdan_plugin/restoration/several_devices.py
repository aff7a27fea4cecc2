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
        self.scale = restorers[0].scale
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
        """Gives a picture to the next free device; waits while two for each device are not done.

        The returned function waits for the result. It raises what the device's restorer raised.

        Args:
            on_tile: Not called: several pictures are under way.
        """
        self._room.acquire()
        try:
            begun = self._threads.submit(self._begin, picture)
        except BaseException:
            self._room.release()
            raise
        begun.add_done_callback(lambda _: self._room.release())
        return lambda: begun.result()()

    def _begin(self, picture: NDArray[Any]) -> Callable[[], NDArray[Any]]:
        restorer = self._free.get()
        try:
            return restorer.begin_picture(picture)
        finally:
            self._free.put(restorer)

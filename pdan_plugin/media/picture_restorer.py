"""The interface that media needs to restore pictures; `pdan_plugin.restoration.restorer.Restorer` implements it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray


class PictureRestorer(Protocol):
    """Restores one picture at a time.

    Attributes:
        scale: Height and width of the result, divided by those of the input.
    """

    scale: int

    def restore_picture(self, picture: NDArray[Any], on_tile: Callable[[int, int], None] | None = None) -> NDArray[Any]:
        """(h, w, 3) uint8 or uint16 -> (scale * h, scale * w, 3) of the same type."""
        ...

    def begin_picture(
        self, picture: NDArray[Any], on_tile: Callable[[int, int], None] | None = None
    ) -> Callable[[], NDArray[Any]]:
        """Like `restore_picture`, but returns a function that waits for the result and returns it.

        The function is called once, in any thread. Its caller may begin the next picture before.
        """
        ...

    def pictures_at_once(self, height: int, width: int) -> int:
        """How many pictures (h, w) `begin_pictures` should get at once."""
        ...

    def begin_pictures(
        self, pictures: Sequence[NDArray[Any]], on_tile: Callable[[int, int], None] | None = None
    ) -> list[Callable[[], NDArray[Any]]]:
        """`begin_picture` for several pictures of one shape and type."""
        ...

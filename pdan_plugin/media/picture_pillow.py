"""Opens pictures by Pillow: without its limit on the number of pixels, and with the same errors for every format."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import torch
from PIL import Image

from pdan_plugin.files.other_contents import HEAD, what_else
from pdan_plugin.machine.memory import free_memory
from pdan_plugin.machine.sizes import memory_in_words
from pdan_plugin.media.picture import PictureFileError

_BYTES_PER_PIXEL = 24  # while a picture of 16 bits is decoded: the decoder's pixels, and those in order
_limit = threading.Lock()


@contextmanager
def opened_by_pillow(file: BinaryIO, formats: list[str] | None = None) -> Iterator[Image.Image]:
    """Opens a picture, detected by its content; the header alone is read. The memory is the limit on its size.

    All errors of Pillow about the content are converted, also those in the block.

    Args:
        file: At its start.
        formats: Pillow's names of formats to try; this Pillow need not know all of them. None for all that it knows.

    Raises:
        PictureFileError: The file is not a picture, or it is truncated or damaged.
        OSError: The file cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about odd metadata
        try:
            if formats is not None:  # an older Pillow raises a KeyError for AVIF or QOI, and tries no further format
                Image.init()
                formats = [name for name in formats if name in Image.OPEN]
            with _limit:  # a setting of the whole process
                limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
                try:
                    image = Image.open(file, formats=formats)
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
            with image:
                yield image
        except (PictureFileError, MemoryError):
            raise
        except Image.UnidentifiedImageError as error:
            file.seek(0)
            what = what_else(file.read(HEAD)) or 'not one, or its format is unknown'
            raise PictureFileError(f'cannot be decoded as a picture: it is {what}') from error
        except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise PictureFileError(f'cannot be decoded; it is truncated or damaged: {error}') from error
        except Exception as error:  # Pillow's decoders raise struct.error, zlib.error and their own
            raise PictureFileError(f'cannot be decoded: {type(error).__name__}: {error}') from error


def refuse_what_memory_cannot_hold(height: int, width: int) -> None:
    """Raises a PictureFileError if a picture of this size cannot be decoded in the free memory."""
    needed, free = _BYTES_PER_PIXEL * math.prod((height, width)), free_memory(torch.device('cpu'))
    if needed > free:
        raise PictureFileError(
            f'has {width}x{height} pixels, which need {memory_in_words(needed)} to decode, and '
            f'{memory_in_words(free)} are free; cut it into parts'
        )

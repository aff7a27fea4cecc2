"""Images in and out: errors name unreadable images, a tensor that is shown does not change, any name can be written."""

from __future__ import annotations

import functools
import os
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils import img_util

from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace


@fix(
    where='utils/img_util.py:129',
    upstream='#254',
    symptom="a corrupt image: AttributeError: 'NoneType' object has no attribute 'astype', no file named",
    behaves=lambda: _names_what_it_cannot_read(),
)
def unreadable_images_are_named() -> None:
    """An empty or undecodable image raises RequestError with its file, or its key and LMDB store."""
    published = img_util.imfrombytes

    @functools.wraps(published)
    def imfrombytes(content: bytes, flag: str = 'color', float32: bool = False) -> np.ndarray:
        source = getattr(content, 'source', 'an image given as bytes')
        if len(content) == 0:
            raise RequestError(f'{source}: empty (0 bytes), expected an image; create or copy the file again')
        try:
            image = published(content, flag, False)
        except cv2.error as error:
            raise RequestError(f'{source}: cannot be decoded ({error.err}); create or copy the file again') from error
        if image is None:
            raise RequestError(
                f'{source}: not an image OpenCV can decode ({len(content)} bytes, beginning {bytes(content[:8])!r}); '
                'create or copy the file again, or remove it from the data set'
            )
        # same arithmetic as the published function, without decoding twice
        return image.astype(np.float32) / 255.0 if float32 else image

    replace(img_util, 'imfrombytes', imfrombytes)


@probe
def _names_what_it_cannot_read() -> bool:
    try:
        img_util.imfrombytes(b'not an image')
        return False
    except RequestError:
        return True


@fix(
    where='utils/img_util.py:66,107',
    upstream='none',
    symptom="on a CPU, tensor2img clamps the network's output in place, so later metrics and losses are computed on it",
    behaves=lambda: _leaves_the_tensor(),
)
def shown_tensors_stay_as_they_are() -> None:
    """`tensor2img` and `tensor2img_fast` get a copy: they clamp in place, on a CPU in the caller's memory."""
    for name in ('tensor2img', 'tensor2img_fast'):
        replace(img_util, name, _on_a_copy(getattr(img_util, name)))


@probe
def _leaves_the_tensor() -> bool:
    bright = torch.full((1, 3, 2, 2), 2.0)
    img_util.tensor2img(bright)
    return bool(bright.max() == 2)


def _on_a_copy(published: Any) -> Any:
    @functools.wraps(published)
    def shown(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(tensor, list):
            tensor = [each.clone() if torch.is_tensor(each) else each for each in tensor]
        elif torch.is_tensor(tensor):
            tensor = tensor.clone()
        return published(tensor, *args, **kwargs)

    return shown


@fix(
    where='utils/img_util.py:151',
    upstream='none',
    symptom='OpenCV crashes (segmentation fault) for a name that is not UTF-8; a killed run leaves half an image',
)
def images_are_written_under_any_name() -> None:
    """`imwrite` encodes in memory and writes the whole file. Not probed: a probe would end the process."""

    def imwrite(
        img: np.ndarray, file_path: str | os.PathLike[str], params: Any = None, auto_mkdir: bool = True
    ) -> None:
        folder, name = os.path.split(os.path.abspath(file_path))
        if not auto_mkdir and not os.path.isdir(folder):
            raise OSError(f'{file_path}: its folder does not exist.')
        encoded, content = cv2.imencode(os.path.splitext(name)[1], img, params or [])
        if not encoded:
            raise OSError(f'{file_path}: Failed in writing images.')
        write_whole(file_path, content.tobytes())

    replace(img_util, 'imwrite', imwrite)

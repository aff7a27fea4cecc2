"""Images that cannot be read, and tensors that are only looked at."""

import os

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils import FileClient, imfrombytes, img_util, imwrite, tensor2img

from pdan_plugin.errors import RequestError


@pytest.mark.parametrize('content', [b'', b'<html>404</html>', None])
def test_an_unreadable_file_is_named(stock, tmp_path, content):
    path = tmp_path / 'frame.png'
    if content is None:
        whole = cv2.imencode('.png', np.zeros((64, 64, 3), np.uint8))[1].tobytes()
        content = whole[:20]
    path.write_bytes(content)

    def read():
        return img_util.imfrombytes(FileClient('disk').get(path), float32=True)

    with stock(), pytest.raises((AttributeError, cv2.error)) as published:
        read()
    assert 'frame.png' not in str(published.value)
    with pytest.raises(RequestError, match=str(path)):
        read()


def test_readable_images_are_as_before(stock, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    content = cv2.imencode('.png', picture)[1].tobytes()
    for flag in ('color', 'grayscale', 'unchanged'):
        for float32 in (False, True):
            with stock():
                published = img_util.imfrombytes(content, flag, float32)
            mended = imfrombytes(content, flag, float32)
            assert mended.dtype == published.dtype
            np.testing.assert_array_equal(mended, published)


def test_showing_a_tensor_does_not_change_it(stock):
    tensor = torch.linspace(-1, 2, 48).reshape(1, 3, 4, 4)
    with stock():
        clamped = tensor.clone()
        published = img_util.tensor2img(clamped)
        assert clamped.min() == 0
        assert clamped.max() == 1
    shown = tensor.clone()
    np.testing.assert_array_equal(tensor2img(shown), published)
    np.testing.assert_array_equal(tensor2img([shown, shown])[1], published)
    img_util.tensor2img_fast(shown)
    assert torch.equal(shown, tensor)
    with pytest.raises(TypeError):
        tensor2img('no tensor')


def test_an_image_is_written_under_a_name_that_is_not_utf_8(stock, tmp_path):
    """The published function ends the process there (OpenCV 5), so it is not called here."""
    path = os.path.join(tmp_path, 'new', os.fsdecode(b'caf\xe9.png'))
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    imwrite(image, path)
    with open(path, 'rb') as file:
        np.testing.assert_array_equal(imfrombytes(file.read()), image)
    with pytest.raises(OSError, match='folder does not exist'):
        imwrite(image, str(tmp_path / 'absent/a.png'), auto_mkdir=False)
    with stock():
        assert img_util.imwrite is not imwrite

"""The weights in the package, on degraded photographs: better than bicubic on what people have."""

import cv2
import numpy as np
import pytest
from basicsr.utils.matlab_functions import imresize
from skimage import data

from pdan_plugin import Restorer

PICTURES = {'astronaut': data.astronaut()[:384, 64:448], 'coffee': data.coffee()[:384, 100:484], 'cat': data.cat()}


def low_resolution(picture, blur, noise, quality, seed):
    """The picture after a straight motion of `blur` pixels, 4x smaller, with noise, as a JPEG (0: none)."""
    picture = picture.astype(np.float32)
    if blur:
        picture = cv2.filter2D(picture, -1, np.full((1, blur), 1 / blur), borderType=cv2.BORDER_REFLECT)
    small = imresize(picture / 255, 0.25) * 255
    small = small + np.random.default_rng(seed).normal(0, noise, small.shape)
    small = np.clip(small, 0, 255).round().astype(np.uint8)
    if quality:
        written = cv2.imencode('.jpg', small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        small = cv2.imdecode(written, cv2.IMREAD_COLOR)[..., ::-1]
    return np.ascontiguousarray(small)


def psnr(picture, truth):
    return 10 * np.log10(255**2 / np.mean((picture.astype(np.float64) - truth) ** 2))


@pytest.fixture(scope='module')
def restorer():
    return Restorer('pdan_small', device='cpu', precision='fp32')


@pytest.mark.parametrize(
    ('blur', 'noise', 'quality'),
    [(0, 0, 0), (0, 0, 75), (0, 4, 0), (0, 4, 75), (12, 0, 0), (12, 0, 75), (12, 4, 85)],
    ids=['sharp', 'jpeg', 'noise', 'noise, jpeg', 'blur', 'blur, jpeg', 'blur, noise, jpeg'],
)
def test_each_picture_is_better_than_bicubic(restorer, blur, noise, quality):
    for seed, (name, picture) in enumerate(PICTURES.items()):
        truth = picture[: picture.shape[0] // 4 * 4, : picture.shape[1] // 4 * 4]
        small = low_resolution(truth, blur, noise, quality, seed)
        bicubic = cv2.resize(small, truth.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        gain = psnr(restorer(small), truth) - psnr(bicubic, truth)
        print(f'{name}: {gain:+.2f} dB')
        assert gain > 0.1, name

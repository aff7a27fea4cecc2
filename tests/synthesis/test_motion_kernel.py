"""motion_kernel: an LR picture blurred by it is the LR picture of the blurred HR picture."""

import cv2
import numpy as np
import pytest
from basicsr.utils.matlab_functions import imresize
from skimage import data

from pdan_plugin.synthesis.motion_kernel import motion_kernel


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    inside = (slice(8, -8), slice(8, -8))
    return float(10 * np.log10(255**2 / np.mean((a[inside] - b[inside]) ** 2)))


def hr_kernel(length: float, direction: float, bend: float) -> np.ndarray:
    """The same path drawn in HR pixels, 4 times as long, by counting points."""
    turned = direction + bend * (np.linspace(0, 1, 20_000) - 0.5)
    x, y = (np.cumsum(part) * 4 * length / 20_000 for part in (np.cos(turned), np.sin(turned)))
    reach = int(2 * length) + 3
    kernel = np.zeros((2 * reach + 1,) * 2)
    places = [np.rint(each - (each.max() + each.min()) / 2).astype(int) + reach for each in (y, x)]
    np.add.at(kernel, tuple(places), 1 / 20_000)
    return kernel


@pytest.mark.parametrize(
    ('length', 'direction', 'bend'), [(3, 0, 0), (3, 0.7, 0), (2, 1.2, 0.5), (5, 2, 1), (1, 3, -1)]
)
@pytest.mark.parametrize('photograph', ['astronaut', 'coffee'])
def test_it_is_the_blur_of_the_hr_picture(photograph: str, length: float, direction: float, bend: float) -> None:
    picture = getattr(data, photograph)()[:400, :400].astype(np.float64)
    blurred = cv2.filter2D(picture, -1, hr_kernel(length, direction, bend))
    wanted, sharp = (imresize(each / 255, 1 / 4) * 255 for each in (blurred, picture))
    ours = cv2.filter2D(sharp, -1, motion_kernel(length, direction, bend))
    assert psnr(ours, wanted) > 38
    assert psnr(ours, wanted) > psnr(sharp, wanted) + 4
    if abs(bend) * length > 1:
        other = cv2.filter2D(sharp, -1, motion_kernel(length, direction, -bend))
        assert psnr(ours, wanted) > psnr(other, wanted)


@pytest.mark.parametrize('length', [0.05, 1, 7.3, 32])
def test_an_even_picture_stays_and_so_does_the_place(length: float) -> None:
    kernel = motion_kernel(length, 0.4, 0)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.shape[0] == kernel.shape[1]
    assert kernel.shape[0] % 2 == 1
    places = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum(axis=0) @ places == pytest.approx(0, abs=1e-3)
    assert kernel.sum(axis=1) @ places == pytest.approx(0, abs=1e-3)

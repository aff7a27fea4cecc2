"""MATLAB's bicubic, held against the toolbox's own port."""

import math

import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import imresize as toolbox_imresize
from skimage import data

from pdan_plugin.synthesis.bicubic import downsample_uint8, imresize


@pytest.fixture
def photo() -> torch.Tensor:
    return torch.from_numpy(data.coffee()).permute(2, 0, 1).to(torch.float32) / 255


class TestImresize:
    @pytest.mark.parametrize('scale', [1 / 4, 1 / 2, 1 / 3, 4, 2, 3, 0.7, 1.5])
    @pytest.mark.parametrize('size', [(48, 64), (41, 59), (43, 38), (64, 65)])
    def test_equals_the_toolbox_port_everywhere(self, photo: torch.Tensor, scale: float, size: tuple[int, int]) -> None:
        image = photo[:, 100 : 100 + size[0], 200 : 200 + size[1]]
        ours, theirs = imresize(image, scale), toolbox_imresize(image, scale)
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)

    def test_equals_the_port_on_a_whole_photograph(self, photo: torch.Tensor) -> None:
        torch.testing.assert_close(imresize(photo, 1 / 4), toolbox_imresize(photo, 1 / 4), rtol=0, atol=1e-6)

    def test_keeps_batch_dimensions_and_dtype(self, photo: torch.Tensor) -> None:
        image = photo[:, :40, :60].double()
        stack = torch.stack([image, image.flip(-1)]).unsqueeze(1)
        small = imresize(stack, 1 / 4)
        assert small.shape == (2, 1, 3, 10, 15)
        assert small.dtype == torch.float64
        torch.testing.assert_close(small[0, 0], imresize(image, 1 / 4), rtol=0, atol=0)
        torch.testing.assert_close(small[1, 0], small[0, 0].flip(-1), rtol=0, atol=1e-12)
        assert imresize(image.bfloat16(), 4).dtype == torch.bfloat16

    def test_a_gradient_passes(self) -> None:
        image = torch.rand(2, 9, 8, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: imresize(x, 1 / 4), image)

    @pytest.mark.parametrize('size', [(1, 1), (2, 3), (5, 1)])
    def test_an_image_smaller_than_the_kernel_keeps_its_constant(self, size: tuple[int, int]) -> None:
        small = imresize(torch.full(size, 0.3, dtype=torch.float64), 1 / 4)
        assert small.shape == (math.ceil(size[0] / 4), math.ceil(size[1] / 4))
        torch.testing.assert_close(small, torch.full_like(small, 0.3))

    @pytest.mark.parametrize(
        ('image', 'scale', 'message'),
        [
            (torch.rand(3, 4, 4), 0, 'scale'),
            (torch.rand(4), 2, r'shape \(4,\)'),
            (torch.rand(3, 0, 4), 2, r'\(3, 0, 4\)'),
            (torch.zeros(3, 4, 4, dtype=torch.uint8), 2, 'downsample_uint8'),
        ],
    )
    def test_wrong_arguments_are_named(self, image: torch.Tensor, scale: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            imresize(image, scale)


class TestDownsampleUint8:
    @pytest.mark.parametrize('factor', [2, 3, 4])
    def test_is_the_port_clipped_and_rounded(self, factor: int) -> None:
        frame = data.astronaut()[:251, :403]
        port = toolbox_imresize(torch.from_numpy(frame).permute(2, 0, 1).to(torch.float32), 1 / factor)
        port = port.clamp(0, 255).permute(1, 2, 0).numpy()
        ours = downsample_uint8(frame, factor)
        assert ours.dtype == np.uint8
        assert ours.shape == port.shape
        assert np.abs(ours - port).max() <= 0.5 + 1e-3

    @pytest.mark.parametrize('factor', [2, 3, 4])
    def test_a_crop_with_a_margin_gives_the_bytes_of_the_whole(self, factor: int) -> None:
        # A picture of few levels has many exact halves; were the sums not exact, rounding could go either way.
        frame = (data.chelsea()[:288, :432] // 64 * 64).astype(np.uint8)
        whole = downsample_uint8(frame, factor)
        rows, columns = slice(10, 30), slice(7, 40)
        margin = slice((10 - 2) * factor, (30 + 2) * factor), slice((7 - 2) * factor, (40 + 2) * factor)
        np.testing.assert_array_equal(downsample_uint8(frame[margin], factor)[2:-2, 2:-2], whole[rows, columns])

    def test_wrong_arguments_are_named(self) -> None:
        with pytest.raises(ValueError, match='float64'):
            downsample_uint8(np.zeros((8, 8, 3)), 4)
        with pytest.raises(ValueError, match='factor'):
            downsample_uint8(np.zeros((8, 8, 3), np.uint8), 0)

"""Bicubic as a network: the toolbox's port of MATLAB's imresize, whatever the precision around it."""

import pytest
import torch
from basicsr.utils.matlab_functions import imresize
from skimage import data

from pdan_plugin.archs.bicubic_arch import Bicubic


@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('size', [(45, 80), (33, 17), (3, 2)])
def test_enlarges_as_the_toolbox_port_of_matlab(size, precision):
    photo = torch.from_numpy(data.coffee()).permute(2, 0, 1).float() / 255
    pictures = torch.stack([photo[:, 100 : 100 + size[0], 200 : 200 + size[1]], photo[:, : size[0], : size[1]]])
    with torch.autocast('cpu', dtype=precision, enabled=precision is not torch.float32):
        result = Bicubic(upscale=4)(pictures)
    expected = torch.stack([imresize(picture, 4) for picture in pictures])
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


def test_a_size_between_pixels_is_refused():
    with pytest.raises(ValueError, match=r'upscale.*2\.5'):
        Bicubic(upscale=2.5)  # pyright: ignore[reportArgumentType]

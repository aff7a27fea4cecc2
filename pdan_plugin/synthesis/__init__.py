"""Makes blurred low-resolution frames, as REDS's authors did with MATLAB and a 120 fps camera."""

from pdan_plugin.synthesis.bicubic import downsample_uint8, imresize

__all__ = ['downsample_uint8', 'imresize']

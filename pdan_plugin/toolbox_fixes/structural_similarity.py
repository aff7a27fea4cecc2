"""The toolbox's SSIM, replaced by this package's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from basicsr.metrics import psnr_ssim
from basicsr.utils.registry import METRIC_REGISTRY, Registry
from numpy.typing import NDArray

from pdan_plugin.metrics.structural_similarity import calculate_ssim
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped

_SIDE = 11


class _Entries:
    """A registry's objects as attributes, so that `replace` can set and restore them."""

    def __init__(self, registry: Registry) -> None:
        self.__dict__ = registry._obj_map


@fix(
    where='metrics/psnr_ssim.py:84,168',
    upstream='none',
    symptom='SSIM of a 1280x720 picture takes 0.45 s: filters with an 11x11 window, not with a row and a column of 11',
    behaves=lambda: _is_separable(),
)
def ssim_filters_rows_and_columns() -> None:
    """A faster `calculate_ssim` with the same value: it filters by row and column, in several threads."""
    replace(_Entries(METRIC_REGISTRY), 'calculate_ssim', calculate_ssim)


@probe
def _is_separable() -> bool:
    """Whether all filter kernels are a row or a column."""
    sizes: list[tuple[int, ...]] = []

    def filter2d(picture: NDArray, depth: int, kernel: NDArray, *args: Any, **kwargs: Any) -> NDArray:
        sizes.append(kernel.shape)
        return cv2.filter2D(picture, depth, kernel, *args, **kwargs)

    watched = SimpleNamespace(**{**vars(cv2), 'filter2D': filter2d})
    picture = np.zeros((_SIDE, _SIDE, 1), np.uint8)
    with swapped(psnr_ssim, cv2=watched):
        psnr_ssim.calculate_ssim(picture, picture, 0)
    return all(1 in size for size in sizes)

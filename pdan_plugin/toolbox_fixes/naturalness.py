"""The toolbox's NIQE for pictures that have no value."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any

import numpy as np
from basicsr.metrics import niqe as niqe_module
from numpy.typing import NDArray

from pdan_plugin.machine.cores import let_forked_processes_compute
from pdan_plugin.metrics.noted_once import note_once
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace


@fix(
    where='metrics/niqe.py:102,137,140',
    upstream='none',
    symptom='NIQE of a picture below 96x192, or of one that is flat, ends the validation: SVD did not converge',
    behaves=lambda: _scores_a_single_block(),
)
def niqe_without_a_value_is_nan() -> None:
    """NIQE compares a covariance, for which it needs two blocks of 96x96 pixels that are not flat."""
    published = niqe_module.niqe

    @functools.wraps(published)
    def niqe(
        img: NDArray[Any],
        mu_pris_param: NDArray[Any],
        cov_pris_param: NDArray[Any],
        gaussian_window: NDArray[Any],
        block_size_h: int = 96,
        block_size_w: int = 96,
    ) -> float:
        height, width = img.shape if img.ndim == 2 else (1, img.size)  # one row or column comes without its axis
        let_forked_processes_compute()  # it makes the picture smaller with torch
        block = f'{block_size_w}x{block_size_h}'
        if (height // block_size_h) * (width // block_size_w) < 2:
            note_once(f'NIQE: a picture of {width}x{height} pixels has less than two blocks of {block}; scored as nan')
            return math.nan
        try:
            return published(img, mu_pris_param, cov_pris_param, gaussian_window, block_size_h, block_size_w)
        except np.linalg.LinAlgError:
            note_once(f'NIQE: a picture has less than two blocks of {block} that are not flat; scored as nan')
            return math.nan

    replace(niqe_module, 'niqe', niqe)


@probe
def _scores_a_single_block() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of NumPy, about a covariance of one sample
        niqe_module.niqe(np.zeros((16, 16)), np.zeros((1, 36)), np.eye(36), np.ones((7, 7)) / 49, 16, 16)
    return True

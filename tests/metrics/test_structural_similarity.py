"""SSIM is the published toolbox's to a billionth for all its options; SSIM and PSNR are scikit-image's."""

import json
import logging
import math
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_metric, psnr_ssim
from child_processes import PYTHON_PATH
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

import pdan_plugin.metrics.structural_similarity as fixed
from pdan_plugin.metrics import noted_once


@pytest.fixture(scope='module')
def pair():
    """A photograph and a blurred copy with noise, (h, w, 3) uint8; no side a multiple of a piece."""
    picture = np.ascontiguousarray(data.astronaut()[:231, :301])
    noise = np.random.default_rng(0).normal(0, 5, picture.shape)
    return picture, np.clip(cv2.GaussianBlur(picture, (0, 0), 1.2) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize('kind', [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize(
    'options',
    [
        {'crop_border': 0},
        {'crop_border': 4},
        {'crop_border': 0, 'test_y_channel': True},
        {'crop_border': 3, 'input_order': 'CHW'},
        {'crop_border': 3, 'input_order': 'CHW', 'test_y_channel': True, 'better': 'higher'},
    ],
)
def test_the_published_value(pair, stock, kind, options):
    pair = [each.astype(kind) for each in pair]
    if options.get('input_order') == 'CHW':
        pair = [each.transpose(2, 0, 1) for each in pair]
    with stock():
        expected = psnr_ssim.calculate_ssim(*pair, **options)
    assert fixed.calculate_ssim(*pair, **options) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('channels', [None, 1, 2, 4])
@pytest.mark.parametrize('size', [(11, 11), (12, 150), (75, 11), (64 + 10, 128 + 10)])
def test_sizes_and_channels(pair, stock, size, channels):
    rows, columns = size
    if channels is None:
        pair = [each[:rows, :columns, 0] for each in pair]
    else:
        pair = [np.concatenate([each, each[..., :1]], axis=2)[:rows, :columns, :channels] for each in pair]
    with stock():
        expected = psnr_ssim.calculate_ssim(*pair, crop_border=0)
    assert fixed.calculate_ssim(*pair, crop_border=0) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize('levels', [(0, 255), (128, 129), (255, 255)])
def test_flat_pictures(stock, levels):
    """Where variances are rounding alone."""
    pair = [np.full((40, 50, 3), level, np.uint8) for level in levels]
    with stock():
        expected = psnr_ssim.calculate_ssim(*pair, crop_border=0)
    assert fixed.calculate_ssim(*pair, crop_border=0) == pytest.approx(expected, abs=1e-9)


def test_scikit_image_agrees(pair):
    """On colour frames as REDS's scores are made: all channels together, no border left out but where no window fits.

    scikit-image filters to the edge, over a mirrored border, and then leaves out the same five pixels of the map.
    """
    expected = structural_similarity(
        *pair, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2
    )
    assert fixed.calculate_ssim(*pair, crop_border=0) == pytest.approx(expected, abs=1e-9)
    images = dict(zip(('img', 'img2'), pair, strict=True))
    psnr = calculate_metric(images, {'type': 'calculate_psnr', 'crop_border': 0})
    assert psnr == pytest.approx(peak_signal_noise_ratio(*pair, data_range=255), abs=1e-9)


def test_what_cannot_be_compared_is_refused(pair):
    with pytest.raises(AssertionError, match='different'):
        fixed.calculate_ssim(pair[0], pair[1][1:], crop_border=0)
    with pytest.raises(ValueError, match='input_order'):
        fixed.calculate_ssim(*pair, crop_border=0, input_order='WHC')


def ssim_by_definition(pair, side):
    """The formula of Wang et al. for all windows of a side that lie inside, by plain sums."""
    weights = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / np.outer(weights, weights).sum()
    windows = [np.lib.stride_tricks.sliding_window_view(each.astype(float), (side, side), axis=(0, 1)) for each in pair]
    first, second = [(each * weights).sum((-1, -2)) for each in windows]
    squares = [(each**2 * weights).sum((-1, -2)) for each in windows]
    mixed = (windows[0] * windows[1] * weights).sum((-1, -2)) - first * second
    variances = squares[0] - first**2 + squares[1] - second**2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = (2 * first * second + c1) * (2 * mixed + c2) / ((first**2 + second**2 + c1) * (variances + c2))
    return float(index.mean())


@pytest.mark.parametrize(
    ('size', 'side'),
    [((11, 11), 11), ((10, 10), 9), ((9, 40), 9), ((120, 8), 7), ((7, 300), 7), ((2, 2), 1), ((3, 5), 3), ((1, 1), 1)],
)
@pytest.mark.parametrize('options', [{}, {'crop_border': 4}, {'test_y_channel': True}])
def test_a_picture_smaller_than_the_window_has_a_smaller_window(pair, size, side, options):
    border = options.get('crop_border', 0)
    small = [np.ascontiguousarray(each[: size[0] + 2 * border, : size[1] + 2 * border]) for each in pair]
    score = fixed.calculate_ssim(*small, **{'crop_border': 0, **options})
    inner = [each[border : each.shape[0] - border, border : each.shape[1] - border] for each in small]
    if options.get('test_y_channel'):
        inner = [psnr_ssim.to_y_channel(each) for each in inner]
    assert isinstance(score, float)
    assert score == pytest.approx(ssim_by_definition(inner, side), abs=1e-9)
    assert fixed.calculate_ssim(small[0], small[0], **{'crop_border': 0, **options}) == pytest.approx(1)


def test_a_score_that_is_not_comparable_is_reported_once(pair, caplog):
    noted_once.forget_notes()
    small = [each[:8, :20] for each in pair]
    with caplog.at_level(logging.WARNING, logger='basicsr'):
        logging.getLogger('basicsr').addHandler(caplog.handler)
        try:
            fixed.calculate_ssim(*small, crop_border=0)
            fixed.calculate_ssim(*small, crop_border=0)
            nothing = fixed.calculate_ssim(*small, crop_border=4)
        finally:
            logging.getLogger('basicsr').removeHandler(caplog.handler)
    assert math.isnan(nothing)
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        'SSIM: windows of 7x7 pixels for pictures of 20x8 after the crop, which windows of 11x11 do not fit',
        'SSIM: crop_border 4 leaves nothing of a picture of 20x8; scored as nan',
    ]


FORKED = """
import json, multiprocessing.pool, numpy as np, pdan_plugin
from pdan_plugin.metrics.structural_similarity import calculate_ssim as registered
pair = np.random.default_rng(0).integers(0, 256, (2, 400, 300, 3), dtype=np.uint8)

def score(_):
    return registered(*pair, crop_border=0)

def score_in_threads_too(_):
    return [score(_), *multiprocessing.pool.ThreadPool(2).map(score, range(2))]

if __name__ == '__main__':
    here = score(0)
    with multiprocessing.get_context('fork').Pool(2) as pool:
        print(json.dumps([here, *pool.map(score, range(3)), *pool.map(score_in_threads_too, range(2))]))
"""


@pytest.mark.skipif(not hasattr(os, 'fork'), reason='this system forks no processes')
def test_a_process_forked_after_a_score_computes_the_same():
    """The parent's threads are not in the child; a pool that was made before the fork would wait for them."""
    printed = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', FORKED], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, 'PYTHONPATH': PYTHON_PATH},
    ).stdout  # fmt: skip
    scores = json.loads(printed)
    flat = [each for score in scores for each in (score if isinstance(score, list) else [score])]
    assert len(flat) == 10
    assert len(set(flat)) == 1

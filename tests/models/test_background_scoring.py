"""Scores made in the background are those of the toolbox, and what goes wrong there is told with the image's name."""

import logging
import math
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils import tensor2img
from basicsr.utils.registry import METRIC_REGISTRY

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.models.background_scoring import BackgroundScoring

METRICS = {'psnr': {'type': 'calculate_psnr', 'crop_border': 2}, 'ssim': {'type': 'calculate_ssim', 'crop_border': 0}}


def batches(number, channels=3):
    generator = torch.Generator().manual_seed(number)
    gt = torch.rand(1, channels, 24, 30, generator=generator)
    return gt + 0.3 * torch.randn(gt.shape, generator=generator), gt  # beyond [0, 1] on both sides


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('threads', [0, 1, 3])
def test_the_scores_and_pictures_are_the_toolboxs(tmp_path, threads, channels):
    with BackgroundScoring(threads, METRICS) as scoring:
        for index in range(6):
            scoring.add(index, str(index), *batches(index, channels), str(tmp_path / f'{index}.png'))
        scores = scoring.scores()
    assert list(scores) == list(range(6))
    for index, found in scores.items():
        images = dict(zip(('img', 'img2'), (tensor2img(each) for each in batches(index, channels)), strict=True))
        assert found == {metric: calculate_metric(images, opt) for metric, opt in METRICS.items()}
        written = cv2.imread(str(tmp_path / f'{index}.png'), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, images['img'])


@pytest.mark.parametrize('threads', [0, 2])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_an_image_without_values_has_no_score(tmp_path, caplog, threads, value):
    """Shown as bytes it would be black, and its score one of a black picture. The others keep theirs."""
    output, gt = batches(1)
    output[0, 1, 3, 4] = value
    logging.getLogger('basicsr').addHandler(caplog.handler)
    try:
        with BackgroundScoring(threads, METRICS, passes_over=True) as scoring:
            scoring.add(0, 'clip_1', output, gt, str(tmp_path / '0.png'))
            scoring.add(1, 'clip_2', *batches(2), str(tmp_path / '1.png'))
            scores = scoring.scores()
    finally:
        logging.getLogger('basicsr').removeHandler(caplog.handler)
    assert all(math.isnan(score) for score in scores[0].values())
    assert list(scores[0]) == list(METRICS)
    assert all(math.isfinite(score) for score in scores[1].values())
    assert [path.name for path in tmp_path.iterdir()] == ['1.png']
    (record,) = caplog.records
    assert record.getMessage().startswith('clip_1: the network computes values that are not finite')

    with (
        BackgroundScoring(threads, METRICS) as scoring,
        pytest.raises(WorkError, match=r'clip_1: the network computes values.*val\.precision: fp16 use bf16'),
    ):
        scoring.add(0, 'clip_1', output, gt, None)


@pytest.mark.parametrize('threads', [0, 2])
def test_a_ground_truth_without_values_gives_no_score(threads):
    """It was compared as black."""
    output, gt = batches(1)
    gt[0, 0, 1, 2] = float('nan')
    with BackgroundScoring(threads, METRICS, passes_over=True) as scoring:
        scoring.add(0, 'clip_1', output, gt, None)
        assert all(math.isnan(score) for score in scoring.scores()[0].values())
    with (
        BackgroundScoring(threads, METRICS) as scoring,
        pytest.raises(WorkError, match=r'clip_1: its ground truth has values that are not finite.* from 0 to 1'),
    ):
        scoring.add(0, 'clip_1', output, gt, None)


@pytest.fixture
def metric(monkeypatch):
    """metric(function): a registered metric, for the test's duration."""

    def register(function):
        monkeypatch.setitem(METRIC_REGISTRY._obj_map, 'probe', function)
        return {'probe': {'type': 'probe'}}

    return register


@pytest.mark.parametrize(
    ('error', 'expected'), [(RequestError('too small'), RequestError), (KeyError('sigma'), RuntimeError)]
)
def test_an_error_names_the_image(metric, error, expected):
    def fails_on_the_second(img, **kwargs):
        if img.max() > 0:
            raise error
        return 1.0

    with BackgroundScoring(2, metric(fails_on_the_second)) as scoring:
        scoring.add(0, 'clip_1', torch.zeros(1, 3, 8, 8), None, None)
        scoring.add(1, 'clip_2', torch.ones(1, 3, 8, 8), None, None)
        with pytest.raises(expected, match='clip_2'):
            scoring.scores()


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with BackgroundScoring(1, {}) as scoring:
        scoring.add(0, 'clip_1', torch.zeros(1, 3, 8, 8), None, str(tmp_path / 'file/picture.png'))
        with pytest.raises(WorkError, match='clip_1'):
            scoring.scores()


def test_few_images_wait_and_the_one_that_restores_does_not(metric):
    """Scoring goes on beside the caller, who waits only where too many would pile up."""
    may_go_on, begun = threading.Event(), threading.Semaphore(0)

    def waits(**kwargs):
        begun.release()
        assert may_go_on.wait(60)
        return 1.0

    taken = []
    with BackgroundScoring(1, metric(waits)) as scoring:

        def restore():
            for index in range(5):
                scoring.add(index, str(index), torch.zeros(1, 3, 8, 8), None, None)
                taken.append(index)

        restoring = threading.Thread(target=restore)
        restoring.start()
        assert begun.acquire(timeout=60)
        restoring.join(1)
        assert len(taken) <= 2
        may_go_on.set()
        restoring.join(60)
        assert scoring.scores() == {index: {'probe': 1.0} for index in range(5)}


def test_in_turns_nothing_is_scored_between_two_calls(metric):
    between, scored_at_once = threading.Event(), threading.Barrier(3)

    def probe(img, **kwargs):
        assert not between.is_set()
        scored_at_once.wait(10)  # broken unless all images of a turn are scored at the same time
        return float(img.max())

    with BackgroundScoring(3, metric(probe), in_turns=True) as scoring:
        for index in range(6):
            between.clear()
            scoring.add(index, str(index), torch.full((1, 3, 4, 4), index / 255), None, None)
            between.set()
            time.sleep(0.005)
        between.clear()
        assert scoring.scores() == {index: {'probe': float(index)} for index in range(6)}


def test_in_turns_the_last_images_are_scored_and_an_error_names_its_image(metric):
    def probe(img, **kwargs):
        if img.max() == 4:
            raise RequestError('too dark')
        return float(img.max())

    with BackgroundScoring(3, metric(probe), in_turns=True) as scoring:
        for index in range(5):
            scoring.add(index, f'picture {index}', torch.full((1, 3, 4, 4), index / 255), None, None)
        with pytest.raises(RequestError, match='picture 4: too dark'):
            scoring.scores()

"""Scores made in the background are those of the toolbox, and what goes wrong there is told with the image's name."""

import threading

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

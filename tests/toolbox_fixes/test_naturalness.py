"""NIQE of pictures without a value is nan, with the reason in the log; all others have the published value."""

import logging
import math

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_metric
from skimage.data import astronaut

from pdan_plugin.metrics import noted_once

pytestmark = pytest.mark.filterwarnings('ignore::RuntimeWarning')  # of NumPy, about a covariance of no samples


def score(picture, **options):
    return calculate_metric({'img': picture}, {'type': 'calculate_niqe', 'crop_border': 0, **options})


@pytest.fixture
def log(caplog):
    noted_once.forget_notes()
    logging.getLogger('basicsr').addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING, logger='basicsr'):
        yield caplog
    logging.getLogger('basicsr').removeHandler(caplog.handler)


@pytest.mark.parametrize(
    ('size', 'options', 'told'),
    [
        ((95, 400), {}, '400x95 pixels has less than two blocks of 96x96'),
        ((191, 191), {}, '191x191 pixels has less'),
        ((200, 96), {'crop_border': 5}, '86x190 pixels has less'),
        ((1, 1), {}, '1x1 pixels has less'),
        ((1, 300), {}, '300x1 pixels has less'),
        ((200, 200), {'crop_border': 100}, '0x0 pixels has less'),
    ],
)
def test_a_picture_of_less_than_two_blocks_has_no_value(log, size, options, told):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    for _ in range(2):
        assert math.isnan(score(picture, **options))
    (record,) = log.records
    assert told in record.getMessage()
    assert record.getMessage().endswith('; scored as nan')


@pytest.mark.parametrize('level', [0, 128])
def test_a_flat_picture_has_no_value(log, level):
    """As a network makes it at the start of a training."""
    assert math.isnan(score(np.full((200, 200, 3), level, np.uint8)))
    assert [each.getMessage() for each in log.records] == [
        'NIQE: a picture has less than two blocks of 96x96 that are not flat; scored as nan'
    ]


@pytest.mark.parametrize(('size', 'options'), [((192, 96), {}), ((96, 200), {'convert_to': 'gray'}), ((230, 210), {})])
def test_other_pictures_have_the_published_value(stock, log, size, options):
    picture = np.ascontiguousarray(cv2.GaussianBlur(astronaut(), (0, 0), 1.0)[: size[0], 100 : 100 + size[1], ::-1])
    with stock():
        published = score(picture, **options)
    assert math.isfinite(published)
    assert score(picture, **options) == published
    assert not log.records

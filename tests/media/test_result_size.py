"""The size that a result gets, and sizes that are refused."""

from fractions import Fraction

import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.media.result_size import ResultSize


@pytest.mark.parametrize(
    ('asked', 'expected'),
    [
        ({'scale': 2}, (360, 640)),
        ({'scale': 1}, (180, 320)),
        ({'scale': 1.37}, (247, 438)),  # 246.6 and 438.4
        ({'width': 1920}, (1080, 1920)),
        ({'height': 1080}, (1080, 1920)),
        ({'width': 500}, (281, 500)),  # 281.25
        ({'width': 1920, 'height': 800}, (800, 1920)),
    ],
)
def test_the_size_of_a_result(asked, expected):
    assert ResultSize(**asked).of(180, 320) == expected


def test_sides_that_follow_are_even_for_a_video():
    assert ResultSize(width=500).of(180, 320, even=True) == (282, 500)
    assert ResultSize(scale=1).of(63, 99, even=True) == (64, 100)  # never smaller than the input
    with pytest.raises(RequestError, match=r'--size 501x: a\.mp4 is a video'):
        ResultSize(width=501).refuse_odd('a.mp4')
    ResultSize(width=500).refuse_odd('a.mp4')
    ResultSize(scale=1.5).refuse_odd('a.mp4')


def test_half_a_pixel_rounds_up_and_a_thin_picture_keeps_a_pixel():
    assert ResultSize(scale=1.5).of(3, 1) == (5, 2)
    assert ResultSize(width=1000).of(1, 4000) == (1, 1000)


@pytest.mark.parametrize('asked', [{'width': 319}, {'height': 179}, {'width': 1920, 'height': 179}])
def test_a_size_smaller_than_the_input_is_refused_by_its_name(asked):
    with pytest.raises(RequestError, match=r'--size .*: a\.png has 320x180 pixels.*not smaller'):
        ResultSize(**asked).refuse_smaller('a.png', 180, 320)
    ResultSize(width=320).refuse_smaller('a.png', 180, 320)


def test_what_is_said_about_a_size():
    assert ResultSize(width=640, height=360).notes(180, 320, 4) == []
    assert ResultSize(width=641, height=360).notes(180, 320, 4) == []  # rounding
    assert 'stretched from 320x180' in ResultSize(width=640, height=480).notes(180, 320, 4)[0]
    assert 'more than the 1280x720 of the network' in ResultSize(scale=5).notes(180, 320, 4)[0]
    assert ResultSize(scale=4).notes(180, 320, 4) == []


def test_pixels_that_are_no_squares_keep_what_is_shown():
    pal = Fraction(64, 45)  # 720x576 shown as 16:9
    assert ResultSize(width=1920, height=1080).pixel_aspect(576, 720, pal) == 1
    assert ResultSize(width=1440, height=1152).pixel_aspect(576, 720, pal) == pal
    assert ResultSize(width=1440).pixel_aspect(576, 720, pal) == pal
    assert ResultSize(width=640, height=640).pixel_aspect(180, 320, Fraction(1)) == 1

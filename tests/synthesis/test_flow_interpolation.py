"""Frames made by optical flow, against the true ones of moving photographs; and mended motion against the true one."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.flow_interpolation import FlowInterpolation
from pdan_plugin.synthesis.flow_repair import repaired
from pdan_plugin.synthesis.frame_interpolation import interpolator
from pdan_plugin.synthesis.moving_scene import Layer, MotionPath, MovingScene
from pdan_plugin.synthesis.photographs import skimage_photographs

SIZE = (320, 200)
PHOTOGRAPHS = {each.path.stem: each for part in skimage_photographs() for each in part}


def photograph(name, top, left, height, width):
    """A part of a photograph, three times as large."""
    part = PHOTOGRAPHS[name].read()[top : top + height, left : left + width]
    return cv2.resize(part, None, fx=3, fy=3, interpolation=cv2.INTER_LANCZOS4)


def pan(speed, name='motorcycle_left'):
    image = photograph(name, 100, 100, SIZE[1] + 60, SIZE[0] + 60)
    path = MotionPath.steady([SIZE[0] / 2, SIZE[1] / 2, 0, 0], [*speed, 0, 0])
    return Layer(image, (image.shape[1] / 2, image.shape[0] / 2), path)


def with_a_cut_out(behind, in_front):
    """A round piece of one photograph over another, both moving; pixels from one frame to the next."""
    image = photograph('astronaut', 45, 175, 110, 110)
    mask = np.zeros(image.shape[:2], np.uint8)
    cv2.circle(mask, (165, 165), 150, 255, -1, cv2.LINE_AA)
    path = MotionPath.steady([SIZE[0] / 2, SIZE[1] / 2, 0, 0], [*in_front, 0, 0])
    return MovingScene(SIZE, [pan(behind), Layer(image, (165, 165), path, mask)])


def average(first, second):
    return np.rint((first.astype(float) + second) / 2).astype(np.uint8)


def psnr(one, other):
    return 10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean())


@pytest.fixture(scope='module')
def flow():
    return interpolator('flow')


@pytest.fixture(scope='module')
def pair():
    scene = with_a_cut_out((4.3, -1.2), (-9.4, 3.1))
    return scene.render(0), scene.render(1)


class TestTruth:
    @pytest.mark.parametrize('speed', [(0.6, 0.3), (3.4, -1.7), (-11.3, 6.9)])
    def test_a_moved_photograph(self, flow, speed):
        scene = MovingScene(SIZE, [pan(speed)])
        first, truth, second = (scene.render(time) for time in (0, 0.5, 1))
        [made] = flow.between(first, second, 2)
        inside = (slice(16, -16), slice(16, -16))  # what comes in or goes out is seen only once
        assert psnr(made[inside], truth[inside]) > 38
        assert psnr(made, truth) > psnr(average(first, second), truth) + (1.5 if speed[0] == 0.6 else 15)

    @pytest.mark.parametrize(('behind', 'in_front'), [((4.3, -1.2), (-9.4, 3.1)), ((-6, 2), (6, 0))])
    def test_an_object_in_front_covers_and_uncovers(self, flow, behind, in_front):
        scene = with_a_cut_out(behind, in_front)
        first, second = scene.render(0), scene.render(1)
        made = list(flow.between(first, second, 8))
        for number in (1, 4, 7):
            truth = scene.render(number / 8)
            assert psnr(made[number - 1], truth) > 29
        assert psnr(made[3], scene.render(0.5)) > psnr(average(first, second), scene.render(0.5)) + 10

    def test_frames_leave_the_first_and_reach_the_second_evenly(self, flow, pair):
        frames = [pair[0], *flow.between(*pair, 16), pair[1]]
        steps = [np.abs(one.astype(int) - other).mean() for one, other in pairwise(frames)]
        assert max(steps) < 1.6 * np.median(steps)

    def test_light_is_neither_lost_nor_won(self, flow):
        scene = MovingScene(SIZE, [pan((2.3, 1.1), 'gravel')])
        inside = (slice(8, -8), slice(8, -8))
        for number, made in enumerate(flow.between(scene.render(0), scene.render(1), 4), 1):
            assert made[inside].mean() == pytest.approx(scene.render(number / 4)[inside].mean(), abs=0.12)


class TestExactness:
    def test_what_rests_stays_as_it_is(self, flow):
        first = with_a_cut_out((0, 0), (0, 0)).render(0)
        second = first.copy()
        second[90:110, 150:170] = 255
        for made in flow.between(first, second, 4):
            assert np.array_equal(made[:, :100], first[:, :100])
            assert np.array_equal(made[:, -100:], first[:, -100:])
        assert all(np.array_equal(made, first) for made in flow.between(first, first, 16))

    def test_the_same_frames_give_the_same_bytes_whatever_came_before(self, pair):
        once = list(FlowInterpolation().between(*pair, 3))
        other = FlowInterpolation()
        list(other.between(pair[0][:40, :50], pair[1][:40, :50], 2))
        threads = cv2.getNumThreads()
        try:
            cv2.setNumThreads(2)
            again = list(other.between(*pair, 3))
            assert cv2.getNumThreads() == 2
        finally:
            cv2.setNumThreads(threads)
        assert [frame.tobytes() for frame in once] == [frame.tobytes() for frame in again]

    def test_a_moment_does_not_depend_on_the_others(self, flow, pair):
        assert np.array_equal(list(flow.between(*pair, 16))[11], list(flow.between(*pair, 4))[2])


@pytest.mark.parametrize('size', [(1, 1), (1, 40), (7, 5), (16, 16), (17, 200), (200, 16), (33, 31), (95, 61)])
def test_any_size(flow, pair, size):
    first, second = (frame[: size[0], : size[1]] for frame in pair)
    made = list(flow.between(first, second, 16))
    assert [(frame.shape, frame.dtype) for frame in made] == [((*size, 3), np.uint8)] * 15


def test_frames_are_made_one_at_a_time(flow, pair):
    frames = flow.between(*pair, 10**9)
    assert next(frames).shape == next(frames).shape == (SIZE[1], SIZE[0], 3)
    assert list(flow.between(*pair, 1)) == []


def test_what_are_no_two_frames_is_refused(flow, pair):
    for first, second in ((pair[0], pair[1][:-1]), (pair[0][..., 0], pair[1][..., 0]), (pair[0] / 255, pair[1] / 255)):
        with pytest.raises(ValueError, match='of one size expected'):
            next(flow.between(first, second, 2))
    wide = np.zeros((16, 16384, 3), np.uint8)
    with pytest.raises(RequestError, match='not 16384x16'):
        next(flow.between(wide, wide + np.uint8(1), 2))


def test_the_record_can_be_written(flow):
    assert set(flow.settings) == {'flow', 'opencv'}


def test_repair_gives_a_background_its_own_motion_back():
    """A square in front, moving right; the flows move a strip of the resting background around it along with it."""
    rng = np.random.default_rng(0)
    behind, front = (cv2.GaussianBlur(rng.integers(0, 256, (90, 90, 4), np.uint8), (0, 0), 1) for _ in range(2))
    pictures, motions, truths = [], [], []
    for left, direction in ((30, 1), (36, -1)):
        picture, motion, truth = behind.copy(), np.zeros((90, 90), np.float32), np.zeros((90, 90), np.float32)
        picture[30:60, left : left + 30] = front[:30, :30]
        truth[30:60, left : left + 30] = 6 * direction
        motion[26:64, left - 4 : left + 34] = 6 * direction
        pictures.append(picture)
        motions.append((motion, np.zeros_like(motion)))
        truths.append(truth)
    mended = repaired(*motions, *pictures)
    for wrong, right, truth in zip(motions, mended, truths, strict=True):
        assert np.count_nonzero(np.abs(right[0] - truth) > 0.5) < 0.2 * np.count_nonzero(wrong[0] != truth)
        assert not right[1].any()

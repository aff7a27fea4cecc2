"""The average of an exposure: in light, streamed, and equal to the box filter it stands for."""

from typing import ClassVar

import cv2
import numpy as np
import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.camera_response import RESPONSES, response
from pdan_plugin.synthesis.motion_blur import SubframeWindow, WindowAverage, average_subframes, exposure_times
from pdan_plugin.synthesis.moving_scene import Layer, MotionPath, MovingScene


def test_black_and_white_average_to_half_the_light():
    frames = [np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)]
    assert average_subframes(frames, response('linear')).item(0) == 128
    assert average_subframes(frames, response('srgb')).item(0) == 188


@pytest.mark.parametrize('name', RESPONSES)
def test_a_scene_at_rest_stays_as_it_is(name):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    assert np.array_equal(average_subframes([image] * 65, response(name)), image)


def test_subframes_are_never_held_all_together():
    alive = {'now': 0, 'most': 0}

    class Frame(np.ndarray):
        def __del__(self):
            alive['now'] -= 1

    def frames():
        for level in range(40):
            alive['now'] += 1
            alive['most'] = max(alive['most'], alive['now'])
            frame = np.full((8, 8, 3), level, np.uint8).view(Frame)
            yield frame
            del frame

    average_subframes(frames(), response('linear'))
    assert alive['most'] <= 2


def test_no_subframes_and_unequal_ones_are_refused():
    with pytest.raises(ValueError, match='at least one'):
        average_subframes([], response('linear'))
    with pytest.raises(ValueError, match='sub-frame 1 is'):
        average_subframes([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], response('linear'))


def test_exposure_times_are_centred_and_even():
    times = exposure_times(7, 65, 0.8)
    assert times[32] == 7
    assert np.diff(times) == pytest.approx(0.8 / 65)
    assert times[0] - 0.4 / 65 == pytest.approx(7 - 0.4)
    with pytest.raises(ValueError, match='odd'):
        exposure_times(7, 64)


@pytest.mark.parametrize('name', ['linear', 'srgb'])
@pytest.mark.parametrize('speed', [3.75, 11.25])
def test_a_pan_of_known_speed_is_its_box_blur(name, speed):
    """A texture moving at ``speed`` pixels a frame for 0.8 of a frame is filtered by a box of 0.8 * speed pixels."""
    camera = response(name)
    rng = np.random.default_rng(1)
    smooth = cv2.GaussianBlur(rng.uniform(0, 255, (96, 240, 3)).astype(np.float32), (0, 0), 2.5)
    texture = np.clip((smooth - 127) * 5 + 127, 0, 255).astype(np.uint8)
    path = MotionPath.steady([79.5, 31.5, 0, 0], drift=[speed, 0, 0, 0])
    scene = MovingScene((160, 64), [Layer(texture, (119.5, 47.5), path, density=1.0)])
    blurred = average_subframes((scene.render(time) for time in exposure_times(0, 65)), camera)

    # The box, integrated exactly over a texture that is linear between its pixels.
    light = camera.to_linear(texture)[16:80].astype(np.float64)
    integral = np.cumsum(np.pad((light[:, 1:] + light[:, :-1]) / 2, ((0, 0), (1, 0), (0, 0))), axis=1)

    def integral_to(x):
        pixel = np.floor(x).astype(int)
        part = (x - pixel)[:, None]
        here, next_one = light[:, pixel], light[:, pixel + 1]
        return integral[:, pixel] + here * part + (next_one - here) * part**2 / 2

    centres, half = np.arange(160) + 40, 0.4 * speed
    expected = (integral_to(centres + half) - integral_to(centres - half)) / (2 * half)
    error = blurred.astype(float) - camera.from_linear(expected)
    assert np.abs(error).max() <= 2
    unblurred = texture[16:80, 40:200].astype(float) - camera.from_linear(expected)
    assert error.std() < 0.75
    assert unblurred.std() > 2  # without any blur the error would be this large


class Crossfade:
    """An interpolator that can be checked by hand, and counts the pairs it was asked for."""

    name = 'crossfade'
    settings: ClassVar = {}

    def __init__(self):
        self.pairs = 0

    def between(self, first, second, count):
        self.pairs += 1
        for number in range(1, count):
            yield cv2.addWeighted(first, 1 - number / count, second, number / count, 0)


def clip_of_noise(count):
    rng = np.random.default_rng(3)
    return dict(enumerate(rng.integers(0, 256, (count, 8, 12, 3), dtype=np.uint8)))


def every_subframe(frames, factor):
    subframes = []
    for number in range(len(frames) - 1):
        subframes += [frames[number], *Crossfade().between(frames[number], frames[number + 1], factor)]
    return [*subframes, frames[len(frames) - 1]]


@pytest.mark.parametrize(('factor', 'length', 'reach'), [(16, 65, 2), (4, 9, 1), (4, 15, 2), (8, 5, 1), (1, 5, 2)])
def test_a_window_is_the_average_of_its_subframes(factor, length, reach):
    window, frames = SubframeWindow(factor, length), clip_of_noise(7)
    assert (window.reach, window.frames) == (reach, 2 * reach + 1)
    subframes, camera = every_subframe(frames, factor), response('srgb')
    blurred = WindowAverage(window, Crossfade(), camera).blurred(3, frames)
    middle = 3 * factor
    chosen = subframes[middle - length // 2 : middle + length // 2 + 1]
    assert len(chosen) == length
    assert np.array_equal(blurred, average_subframes(chosen, camera))


def test_shared_intervals_are_made_once_and_change_nothing():
    window, frames, camera, method = SubframeWindow(4, 15), clip_of_noise(9), response('gamma'), Crossfade()
    average = WindowAverage(window, method, camera)
    together = [average.blurred(centre, frames) for centre in range(2, 7)]
    assert method.pairs == 8
    for centre, blurred in enumerate(together, 2):
        assert np.array_equal(blurred, WindowAverage(window, Crossfade(), camera).blurred(centre, frames))


def test_windows_that_have_no_middle_are_refused():
    for factor, length in ((0, 65), (16, 64), (16, 1)):
        with pytest.raises(RequestError):
            SubframeWindow(factor, length)

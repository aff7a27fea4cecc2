"""The average of an exposure: in light, streamed, and equal to the box filter it stands for."""

import cv2
import numpy as np
import pytest

from pdan_plugin.synthesis.camera_response import RESPONSES, response
from pdan_plugin.synthesis.motion_blur import average_subframes, exposure_times
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

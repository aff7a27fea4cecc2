"""Scene cuts between photographs are seen; pans, turns, passing objects and flashes are none."""

import itertools

import cv2
import numpy as np
import pytest
from skimage import data

from pdan_plugin.synthesis.moving_scene import Layer, MotionPath, MovingScene
from pdan_plugin.synthesis.scene_cuts import CUT_THRESHOLD, is_cut, scene_change

SIZE = (240, 160)
PHOTOS = {
    'astronaut': data.astronaut(),
    'coffee': data.coffee(),
    'cat': data.chelsea(),
    'camera': cv2.cvtColor(data.camera(), cv2.COLOR_GRAY2RGB),
    'brick': cv2.cvtColor(data.brick(), cv2.COLOR_GRAY2RGB),
}


def window(name: str, left: int = 20, top: int = 30) -> np.ndarray:
    return PHOTOS[name][top : top + SIZE[1], left : left + SIZE[0]]


def test_a_change_of_photograph_is_a_cut():
    for one, other in itertools.permutations(PHOTOS, 2):
        assert is_cut(window(one), window(other)), (one, other)


def test_so_is_a_cut_within_one_place_and_one_to_black():
    assert is_cut(window('astronaut', left=0, top=0), window('astronaut', left=270, top=350))
    assert is_cut(window('coffee'), np.zeros_like(window('coffee')))


@pytest.mark.parametrize('share', [0.03, 0.1, 0.2])
def test_a_pan_is_none_however_fast(share):
    step = int(share * SIZE[0])
    for name in PHOTOS:
        change = scene_change(window(name), window(name, left=20 + step, top=30 + step // 4))
        assert change < CUT_THRESHOLD / 2, name


def test_a_turning_camera_behind_a_passing_object_is_none():
    photo, other = PHOTOS['astronaut'], PHOTOS['coffee']
    camera = MotionPath.steady([120, 80, 0, 0], [9, 3, 0.03, 0.02])
    passing = MotionPath.steady([40, 90, 0, 0], [25, 0, 0, 0])
    mask = np.full((60, 60), 255, np.uint8)
    layers = [
        Layer(photo, (256.0, 256.0), camera, density=1.0),
        Layer(np.ascontiguousarray(other[200:260, 200:260]), (29.5, 29.5), passing, mask, density=1.0),
    ]
    frames = [MovingScene(SIZE, layers).render(time) for time in range(-3, 5)]
    assert max(map(scene_change, frames, frames[1:])) < CUT_THRESHOLD * 0.8


def test_a_flash_is_none_and_a_repeated_frame_is_nothing():
    frame = window('cat')
    lit = np.clip(frame * 1.4 + 20, 0, 255).astype(np.uint8)
    assert not is_cut(frame, lit)
    assert scene_change(frame, frame) < 0.01
    assert scene_change(np.zeros_like(frame), np.zeros_like(frame)) == 0


def test_frames_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match='one size'):
        scene_change(window('cat'), window('cat')[:-1])

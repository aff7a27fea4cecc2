"""Shares of a set of clips, and what their pictures are."""

from dataclasses import replace

import numpy as np
import pytest
from skimage import data

from pdan_plugin.synthesis.moving_scene import random_scene, softened, still_picture
from pdan_plugin.synthesis.scene_conditions import BRIGHT_GAINS, DARK_GAINS, Shares, relit


@pytest.mark.parametrize('seed', [(0, 1), (5, 2)])
def test_any_run_of_clips_holds_the_shares(seed: tuple[int, ...]) -> None:
    shares = Shares(stills=0.4, still_camera=0.2, sharp=0.6, dark=0.15, bright=0.1)
    clips = [shares.of_clip(number, seed) for number in range(300)]
    for start in (0, 100, 200):
        some = clips[start : start + 100]
        moving = [clip for clip in some if not clip.stills]
        assert sum(clip.stills for clip in some) == pytest.approx(40, abs=3)
        assert sum(clip.still_camera for clip in moving) == pytest.approx(0.2 * len(moving), abs=4)
        assert sum(clip.sharp for clip in moving) == pytest.approx(0.6 * len(moving), abs=4)
        assert sum(clip.gain < 1 for clip in some) == pytest.approx(15, abs=3)
        assert sum(clip.gain > 1 for clip in some) == pytest.approx(10, abs=3)
    assert all(DARK_GAINS[0] <= clip.gain <= DARK_GAINS[1] for clip in clips if clip.gain < 1)
    assert all(BRIGHT_GAINS[0] <= clip.gain <= BRIGHT_GAINS[1] for clip in clips if clip.gain > 1)
    assert len({clip.gain for clip in clips}) > 50
    # the kinds are independent: dark stills come as often as their shares say
    assert sum(clip.stills and clip.gain < 1 for clip in clips) == pytest.approx(300 * 0.4 * 0.15, abs=7)


def test_soft_stills_are_a_share_of_the_stills_and_change_no_other_clip() -> None:
    sharp, soft = (Shares(stills=0.4, sharp=0.6, dark=0.2, soft_stills=share) for share in (0.0, 0.5))
    pairs = [(sharp.of_clip(number, (5, 2)), soft.of_clip(number, (5, 2))) for number in range(300)]
    assert all(replace(after, soft_stills=False) == before for before, after in pairs)
    assert sum(after.soft_stills for _, after in pairs) == pytest.approx(60, abs=4)
    assert all(after.stills for _, after in pairs if after.soft_stills)
    assert 'soft_stills' not in sharp.record()  # records from before it existed stay valid
    assert soft.record()['soft_stills'] == 0.5


def test_a_soft_still_loses_detail_and_keeps_its_light() -> None:
    photo, rng = data.astronaut(), np.random.default_rng(0)
    soft = [softened(photo, rng, 1.25, 8) for _ in range(40)]
    detail = np.array([np.abs(np.diff(each.astype(int), axis=1)).mean() for each in (photo, *soft)])
    assert (detail[1:] < detail[0] + 0.01).all()
    in_focus = [softened(photo, rng, 1.25, 0) for _ in range(40)]
    assert (
        detail.min() < 0.45 * detail[0] < np.abs(np.diff(np.stack(in_focus).astype(int), axis=2)).mean((1, 2, 3)).min()
    )
    assert all(each.mean() == pytest.approx(photo.mean(), abs=0.5) for each in soft)
    assert np.array_equal(softened(photo, rng, 0.0, 0.0), photo)


def test_without_shares_every_clip_is_as_it_was() -> None:
    assert {Shares().of_clip(number, (0,)) for number in range(20)} == {Shares().of_clip(0, (0,))}
    assert Shares().of_clip(0, (0,)).gain == 1


@pytest.mark.parametrize('wrong', [{'stills': 1.1}, {'dark': -0.1}, {'dark': 0.6, 'bright': 0.6}])
def test_wrong_shares_are_rejected(wrong: dict) -> None:
    with pytest.raises(ValueError, match='share'):
        Shares(**wrong)


def test_a_still_picture_is_the_photograph_s_own_pixels() -> None:
    photo = data.astronaut()
    picture = still_picture(photo, (512, 512), np.random.default_rng(0))
    assert np.array_equal(picture, photo)
    part = still_picture(photo, (128, 96), np.random.default_rng(1))
    assert part.shape == (96, 128, 3)
    with pytest.raises(ValueError, match='too small'):
        still_picture(photo, (600, 400), np.random.default_rng(0))


def test_a_resting_camera_s_background_is_sharp_and_never_moves() -> None:
    photo = data.astronaut()
    scene = random_scene(photo, [], (128, 96), 4, np.random.default_rng(3), still_camera=True)
    frames = [scene.render(time) for time in (0.0, 0.4, 2.7)]
    expected = still_picture(photo, (128, 96), np.random.default_rng(3))
    assert all(np.abs(frame.astype(int) - expected).max() <= 1 for frame in frames)
    assert scene.longest_step(np.linspace(0, 3, 7)) == pytest.approx(0, abs=1e-9)


def test_things_move_in_front_of_a_resting_camera() -> None:
    photos = [data.astronaut(), data.coffee()]
    scene = random_scene(photos[0], photos[1:], (256, 192), 4, np.random.default_rng(3), still_camera=True)
    assert scene.longest_step(np.linspace(0, 3, 7)) > 0.1


@pytest.mark.parametrize('gain', [0.2, 1.0, 2.0])
def test_light_is_multiplied_in_linear_light(gain: float) -> None:
    levels = np.arange(256, dtype=np.uint8)
    picture = np.repeat(levels[None, :, None], 3, axis=2)

    def to_linear(level: np.ndarray) -> np.ndarray:
        value = level / 255
        return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)

    light = np.minimum(to_linear(levels) * gain, 1)
    expected = 255 * np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(relit(picture, gain, 'srgb')[0, :, 1] - expected).max() <= 0.51

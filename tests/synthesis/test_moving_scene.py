"""Scenes made of photographs: where things are, how they cover one another, and that no border ever shows."""

import cv2
import numpy as np
import pytest

from pdan_plugin.synthesis.motion_blur import exposure_times
from pdan_plugin.synthesis.moving_scene import (
    Layer,
    MotionPath,
    MovingScene,
    defocused,
    least_picture_size,
    random_scene,
)


def textured(height, width, seed=0):
    noise = np.random.default_rng(seed).uniform(0, 255, (height, width, 3)).astype(np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 2) - 127) * 5 + 127, 0, 255).astype(np.uint8)


class TestLayer:
    def test_a_whole_pixel_shift_copies_the_picture(self):
        image = textured(60, 80)
        layer = Layer(image, (40.0, 30.0), MotionPath.steady([20, 16, 0, 0], drift=[3, -2, 0, 0]), density=1.0)
        assert np.array_equal(MovingScene((40, 32), [layer]).render(2), image[18:50, 14:54])

    def test_turning_by_a_right_angle_is_rot90(self):
        image = textured(41, 41)
        layer = Layer(image, (20.0, 20.0), MotionPath.steady([20, 20, -np.pi / 2, 0]), density=1.0)
        turned = MovingScene((41, 41), [layer]).render(0)
        assert np.abs(turned.astype(int) - np.rot90(image)).max() <= 1

    def test_zoom_enlarges_about_the_anchor(self):
        ramp = np.arange(200, dtype=np.uint8)[None, :, None].repeat(20, 0).repeat(3, 2)
        layer = Layer(np.ascontiguousarray(ramp), (100.0, 10.0), MotionPath.steady([50, 5, 0, np.log(2)]), density=1.0)
        row = MovingScene((101, 10), [layer]).render(0)[5, :, 0].astype(float)
        assert np.abs(row - (100 + (np.arange(101) - 50) / 2)).max() <= 0.51

    def test_a_mask_mixes_picture_and_what_lies_behind(self):
        back = Layer(np.full((20, 20, 3), 100, np.uint8), (9.5, 9.5), MotionPath.steady([9.5, 9.5, 0, 0]), density=1.0)
        mask = np.zeros((7, 7), np.uint8)
        mask[2:5, 2:5], mask[3, 3] = 128, 255
        front = Layer(np.full((7, 7, 3), 200, np.uint8), (3, 3), MotionPath.steady([1, 18, 0, 0]), mask, density=1.0)
        picture = MovingScene((20, 20), [back, front]).render(0)[..., 0]
        assert picture[18, 1] == 200
        assert picture[18, 2] == 150
        assert (picture == 100).sum() == 20 * 20 - 9

    def test_an_object_outside_the_frame_changes_nothing(self):
        back = Layer(textured(20, 20), (9.5, 9.5), MotionPath.steady([9.5, 9.5, 0, 0]), density=1.0)
        front = Layer(textured(7, 7), (3, 3), MotionPath.steady([50, 5, 0, 0]), np.full((7, 7), 255, np.uint8), 1.0)
        assert np.array_equal(MovingScene((20, 20), [back, front]).render(0), MovingScene((20, 20), [back]).render(0))


class TestLongestStep:
    def test_it_is_the_speed_of_a_pan(self):
        layer = Layer(
            textured(60, 80), (40.0, 30.0), MotionPath.steady([20, 16, 0, 0], drift=[3, 4, 0, 0]), density=1.0
        )
        assert MovingScene((40, 32), [layer]).longest_step(np.array([0.0, 0.5, 1.0])) == pytest.approx(2.5)

    def test_a_fast_object_counts_though_the_camera_rests(self):
        back = Layer(textured(20, 20), (9.5, 9.5), MotionPath.steady([9.5, 9.5, 0, 0]), density=1.0)
        path = MotionPath.steady([5, 5, 0, 0], drift=[12, 0, 0, 0])
        front = Layer(textured(7, 7), (3, 3), path, np.full((7, 7), 255, np.uint8), 1.0)
        assert MovingScene((20, 20), [back, front]).longest_step(np.array([0.0, 1.0])) == pytest.approx(12)


class TestRandomScene:
    SIZE = (96, 64)

    def scene(self, seed, picture=(160, 210), frames=6, **blurs):
        background, piece = textured(*picture, seed=1), textured(90, 120, seed=2)
        return random_scene(background, [piece, piece], self.SIZE, frames, np.random.default_rng(seed), **blurs)

    def test_the_seed_decides_everything(self):
        first, again, other = (self.scene(seed).render(2.25) for seed in (5, 5, 6))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)

    def test_softness_blurs_the_same_scene_by_another_amount_each_clip(self):
        detail = []
        for seed in range(4):
            sharp, soft = (self.scene(seed, softness=most).render(2.25).astype(float) for most in (0.0, 2.0))
            detail.append(np.abs(np.diff(soft, axis=1)).mean() / np.abs(np.diff(sharp, axis=1)).mean())
            coarse = cv2.GaussianBlur(sharp, (0, 0), 4), cv2.GaussianBlur(soft, (0, 0), 4)
            assert np.abs(coarse[0] - coarse[1])[8:-8, 8:-8].mean() < 3  # nothing stands elsewhere
        assert max(detail) <= 1
        assert max(detail) > 1.3 * min(detail)

    def test_some_layers_are_out_of_focus_and_stand_where_they_stood(self):
        contrasts = []
        for seed in range(12):
            sharp, mixed = self.scene(seed), self.scene(seed, defocus=6.0)
            assert np.array_equal(sharp.layers[0].path(np.arange(6)), mixed.layers[0].path(np.arange(6)))
            for number, (before, after) in enumerate(zip(sharp.layers, mixed.layers, strict=True)):
                behind = [] if number == 0 else [sharp.layers[0]]
                alone = [MovingScene(self.SIZE, [*behind, layer]) for layer in (before, after)]
                frames = [scene.render(2.25).astype(float) for scene in alone]
                contrasts.append(np.abs(after.image.astype(float) - cv2.blur(after.image, (9, 9))).mean())
                contrasts[-1] /= np.abs(before.image.astype(float) - cv2.blur(before.image, (9, 9))).mean()
                coarse = [cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames]
                assert np.abs(coarse[0] - coarse[1])[16:-16, 16:-16].mean() < 4
        out_of_focus = np.mean(np.array(contrasts) < 0.9)
        assert 0.15 < out_of_focus < 0.6
        assert np.mean(np.array(contrasts) == 1) > 0.4  # the others are untouched

    def test_the_outline_of_an_object_out_of_focus_is_a_disk_wide(self):
        mask = np.zeros((80, 80), np.uint8)
        mask[:, 40:] = 255
        layer = Layer(np.full((80, 80, 3), 200, np.uint8), (40.0, 40.0), MotionPath.steady([0, 0, 0, 0]), mask)
        blurred = defocused(layer, 5.0)
        row = blurred.mask[blurred.mask.shape[0] // 2].astype(float)
        edge = int(blurred.anchor[0])  # where the mask begins
        assert row[edge - 7] == 0
        assert row[edge + 6] == 255
        assert row[edge - 1] < 127.5 < row[edge]
        assert (row[edge - 4 : edge + 4] > 0).all()
        assert (np.diff(row[edge - 6 : edge + 6]) >= 0).all()
        assert (blurred.image == 200).all()

    @pytest.mark.parametrize('picture', [(82, 116), (160, 210), (900, 1300)])
    def test_the_camera_never_leaves_the_photograph(self, picture):
        assert least_picture_size(self.SIZE) == (116, 81)
        for seed in range(12):
            scene = self.scene(seed, picture)
            background = scene.layers[0]
            height, width = background.image.shape[:2]
            corners = np.array([[0, 0], [95, 0], [0, 63], [95, 63]])
            for matrix in background.frame_to_image(np.linspace(-0.4, 5.4, 60)):
                x, y = (corners @ matrix[:, :2].T + matrix[:, 2]).T
                assert x.min() >= 0
                assert y.min() >= 0
                assert x.max() <= width - 1
                assert y.max() <= height - 1

    def test_a_photograph_is_never_read_coarser_than_its_pixels(self):
        # Otherwise fine detail would alias: an image pixel must not be skipped from one frame pixel to the next.
        for seed in range(12):
            background = self.scene(seed).layers[0]
            scales = np.linalg.norm(background.frame_to_image(np.linspace(-0.4, 5.4, 30))[:, :, 0], axis=1)
            assert scales.max() <= background.density * 1.001

    def test_the_camera_is_sometimes_almost_still_and_sometimes_fast(self):
        moved = []
        for seed in range(30):
            camera = MovingScene(self.SIZE, self.scene(seed).layers[:1])
            moved += [camera.longest_step(np.array([time - 0.4, time + 0.4])) for time in (0, 2, 4)]
        low, middle, high = np.quantile(np.array(moved) / self.SIZE[0], [0.1, 0.5, 0.9])
        assert low < 0.006
        assert 0.006 < middle < 0.03
        assert high > 0.02

    def test_blur_differs_within_a_frame(self):
        scene = self.scene(3)
        times = exposure_times(2, 17)
        alone = [MovingScene(self.SIZE, [layer]).longest_step(times) for layer in scene.layers]
        assert max(alone) > 1.5 * min(alone)

    def test_a_photograph_without_room_to_move_is_refused(self):
        with pytest.raises(ValueError, match='100x70 is too small for frames of 96x64'):
            self.scene(0, picture=(70, 100))

"""Degradation of LR pictures: the right strength, on lq alone, the same however the samples are read."""

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import imresize as toolbox_imresize
from PIL import Image
from skimage import data
from torch.utils.data import DataLoader

from pdan_plugin.data.degradation import DegradationDraws, LQDegradation, resampling_filter
from pdan_plugin.data.epochs import SampleIndex
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.errors import RequestError

EVERYTHING = {
    'motion_blur': [1, 6],
    'motion_prob': 0.4,
    'resize': ['area', 'bilinear'],
    'resize_prob': 0.5,
    'noise_sigma': [1, 10],
    'noise_prob': 0.5,
    'poisson': True,
    'jpeg_quality': [40, 95],
    'jpeg_prob': 0.7,
}


def degradation(**options: object) -> LQDegradation:
    return LQDegradation(options, 'data set small', 4)


def draws_of(model: LQDegradation, count: int) -> list[DegradationDraws]:
    return [model.draw(seed=0, epoch=0, repeat=0, index=index) for index in range(count)]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b) ** 2)))


class TestDraws:
    def test_each_degradation_has_its_probability_and_range(self) -> None:
        draws = draws_of(degradation(**EVERYTHING), 4000)
        noisy = [one.noise_sigma for one in draws if one.noise_sigma > 0]
        qualities = [one.jpeg_quality for one in draws if one.jpeg_quality is not None]
        assert len(noisy) / 4000 == pytest.approx(0.5, abs=0.03)
        assert len(qualities) / 4000 == pytest.approx(0.7, abs=0.03)
        assert sum(one.resampling != 'bicubic' for one in draws) / 4000 == pytest.approx(0.5, abs=0.03)
        motions = np.array([one.motion for one in draws if one.motion is not None])
        assert len(motions) / 4000 == pytest.approx(0.4, abs=0.03)
        for values, least, most in zip(motions.T, (1, 0, -np.pi / 2), (6, np.pi, np.pi / 2), strict=True):
            assert least <= values.min() < least + 0.05 * (most - least)
            assert most - 0.05 * (most - least) < values.max() <= most
        assert np.median(np.abs(motions[:, 2])) < 0.3
        assert min(noisy) >= 1
        assert max(noisy) <= 10
        assert set(qualities) == set(range(40, 96))
        assert {one.jpeg_offset for one in draws} == {(row, column) for row in range(16) for column in range(16)}
        assert sum(one.noise_follows_signal for one in draws) / 4000 == pytest.approx(0.5, abs=0.03)

    def test_turning_one_off_leaves_the_others_as_they_were(self) -> None:
        everything = draws_of(degradation(**EVERYTHING), 50)
        without_noise = draws_of(degradation(jpeg_quality=[40, 95], jpeg_prob=0.7), 50)
        motion_alone = draws_of(degradation(motion_blur=[1, 6], motion_prob=0.4), 50)
        assert [one.motion for one in everything] == [one.motion for one in motion_alone]
        assert all(one.motion is None for one in without_noise)
        assert [one.jpeg_quality for one in everything] == [one.jpeg_quality for one in without_noise]
        assert all(one.noise_sigma == 0 for one in without_noise)

    def test_seed_epoch_repeat_and_index_each_change_them(self) -> None:
        model = degradation(**EVERYTHING)
        places = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
        seeds = {model.draw(seed=a, epoch=b, repeat=c, index=d).noise_seed for a, b, c, d in places}
        assert len(seeds) == len(places)


class TestPixels:
    @pytest.mark.parametrize('size', [(48, 48), (37, 51), (1, 3)])
    def test_motion_blurs_along_its_direction(self, size: tuple[int, int]) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        model = degradation(motion_blur=4)
        for draws in draws_of(model, 4):
            assert draws.motion is not None
            assert draws.motion[0] == 4
            blurred = model.apply(picture, replace(draws, motion=(4, 0, 0))).astype(float)
            assert blurred.shape == picture.shape
            if min(size) > 16:
                before, after = (_roughness_along_rows(each) for each in (picture.astype(float), blurred))
                assert after < 0.75 * before

    def test_motion_of_no_length_is_the_picture(self) -> None:
        picture = np.ascontiguousarray(data.astronaut()[:40, :40])
        model = degradation(motion_blur=0)
        assert np.array_equal(model.apply(picture, draws_of(model, 1)[0]), picture)

    def test_noise_has_the_drawn_deviation(self) -> None:
        grey = np.full((200, 200, 3), 127, np.uint8)
        model = degradation(noise_sigma=6)
        (draws,) = draws_of(model, 1)
        assert draws.noise_sigma == 6
        noise = model.apply(grey, draws).astype(float) - 127
        assert noise.std() == pytest.approx(6, rel=0.02)
        assert noise.mean() == pytest.approx(0, abs=0.1)
        assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02

    def test_signal_dependent_noise_has_a_variance_proportional_to_the_level(self) -> None:
        model = degradation(noise_sigma=5, poisson=True)
        draws = next(one for one in draws_of(model, 50) if one.noise_follows_signal)
        for level in (30, 127, 220):
            picture = np.full((200, 200, 3), level, np.uint8)
            deviation = (model.apply(picture, draws).astype(float) - level).std()
            assert deviation == pytest.approx(5 * np.sqrt(level / 127.5), rel=0.04)

    @pytest.mark.parametrize('size', [(32, 32), (37, 51), (16, 16), (1, 3)])
    def test_jpeg_is_that_of_the_same_quality_elsewhere_in_the_grid(self, size: tuple[int, int]) -> None:
        picture = np.ascontiguousarray(data.astronaut()[100 : 100 + size[0], 150 : 150 + size[1]])
        model = degradation(jpeg_quality=60)
        for draws in draws_of(model, 6):
            compressed = model.apply(picture, draws)
            assert compressed.shape == picture.shape
            assert compressed.dtype == np.uint8
            # the same by Pillow, an independent writer: as far from the original, and no colour changes places
            top, left = draws.jpeg_offset
            padded = np.pad(picture, ((top, 16), (left, 16), (0, 0)), mode='edge')
            held = _through_pillow(padded, 60, full_colour=draws.jpeg_full_colour)[top:, left:][: size[0], : size[1]]
            if min(size) >= 16:
                assert psnr(compressed, picture) == pytest.approx(psnr(held, picture), abs=0.7)
                assert psnr(compressed, held) > psnr(compressed, picture)

    def test_the_grid_offset_moves_the_blocks(self) -> None:
        ramp = np.repeat(np.repeat(np.arange(96, dtype=np.uint8)[None, :, None] * 2, 96, axis=0), 3, axis=2)
        model = degradation(jpeg_quality=1)
        for draws in draws_of(model, 8):
            columns = model.apply(ramp, draws).astype(int)[48, :, 1]
            steps = np.flatnonzero(np.abs(np.diff(columns)) > 4)
            assert len(steps)
            assert set((steps + 1 + draws.jpeg_offset[1]) % 8) == {0}

    @pytest.mark.parametrize(('resampling', 'least_gain'), [('area', 0.8), ('bilinear', 10)])
    @pytest.mark.parametrize('photograph', ['astronaut', 'coffee', 'chelsea'])
    def test_resampling_comes_near_to_what_it_stands_for(
        self, resampling: str, least_gain: float, photograph: str
    ) -> None:
        """Against the true mean over 4x4 and Pillow's antialiased bilinear; what remains is aliasing."""
        picture = getattr(data, photograph)()
        height, width = (side // 4 * 4 for side in picture.shape[:2])
        picture = np.ascontiguousarray(picture[:height, :width])
        bicubic = np.clip(toolbox_imresize(picture / 255, 1 / 4) * 255, 0, 255).round().astype(np.uint8)
        true = {
            'area': picture.reshape(height // 4, 4, width // 4, 4, 3).mean(axis=(1, 3)),
            'bilinear': np.asarray(
                Image.fromarray(picture).resize((width // 4, height // 4), Image.Resampling.BILINEAR)
            ),
        }[resampling]
        model = degradation(resize=[resampling])
        ours = model.apply(bicubic, draws_of(model, 1)[0])
        assert psnr(ours, true) > psnr(bicubic, true) + least_gain

    @pytest.mark.parametrize('resampling', ['area', 'bilinear'])
    @pytest.mark.parametrize('scale', [2, 3, 4, 8])
    def test_resampling_leaves_an_even_picture_alone(self, resampling: str, scale: int) -> None:
        assert resampling_filter(resampling, scale).sum() == pytest.approx(1, abs=1e-6)


class TestDataSet:
    def test_lq_alone_changes(self, small_reds) -> None:
        clean = REDSPairedDataset(small_reds.options(with_sharp=True))
        dirty = REDSPairedDataset(small_reds.options(with_sharp=True, degradation={'noise_sigma': [4, 8]}))
        for index in range(6):
            ours, theirs = dirty[index], clean[index]
            assert torch.equal(ours['gt'], theirs['gt'])
            assert torch.equal(ours['lq_sharp'], theirs['lq_sharp'])
            assert 2 < (ours['lq'] - theirs['lq']).std() * 255 < 10

    @pytest.mark.parametrize('workers', [1, 2])
    def test_the_number_of_workers_does_not_matter(self, small_reds, workers: int) -> None:
        dataset = REDSPairedDataset(small_reds.options(degradation=EVERYTHING))
        order = [SampleIndex(index, 3, index % 2) for index in (5, 0, 23, 11)]
        alone = [dataset[index]['lq'] for index in order]
        loader = DataLoader(dataset, batch_size=2, sampler=order, num_workers=workers, multiprocessing_context='fork')
        assert torch.equal(torch.cat([batch['lq'] for batch in loader]), torch.stack(alone))

    def test_a_validation_set_has_fixed_draws(self, small_reds) -> None:
        options = small_reds.options(phase='val', degradation={'noise_sigma': 5, 'jpeg_quality': [50, 90]})
        dataset = REDSPairedDataset(options)
        first = dataset[3]['lq']
        assert torch.equal(first, dataset[SampleIndex(3, 7, 1)]['lq'])
        assert not torch.equal(first, REDSPairedDataset(small_reds.options(phase='val'))[3]['lq'])

    def test_null_is_no_degradation(self, small_reds) -> None:
        clean = REDSPairedDataset(small_reds.options())
        assert torch.equal(REDSPairedDataset(small_reds.options(degradation=None))[0]['lq'], clean[0]['lq'])

    @pytest.mark.parametrize(
        ('section', 'message'),
        [
            ({}, 'degrades nothing'),
            ({'jpeg_prob': 0.5, 'noise_sigma': 3}, 'jpeg_prob without jpeg_quality'),
            ({'motion_prob': 0.5, 'noise_sigma': 3}, 'motion_prob without motion_blur'),
            ({'motion_blur': [3, 40]}, r'motion_blur: found \[3, 40\]; expected LR pixels from 0 to 32'),
            ({'noise_sigma': 3, 'noise_prob': 1.5}, 'noise_prob: found 1.5; expected a number from 0 to 1'),
            ({'jpeg_quality': [95, 40]}, r'jpeg_quality: found \[95, 40\]; expected a JPEG quality from 1 to 100'),
            ({'jpeg_quality': 0}, 'jpeg_quality: found 0; expected a JPEG quality from 1 to 100'),
            ({'noise_sigma': [0, 300]}, 'noise_sigma: .* expected grey levels from 0 to 255'),
            ([], r'expected a section of keys, found \[\]'),
            ({'resize': ['nearest']}, "expected 'bicubic', 'area' or 'bilinear'"),
            ({'jpeg_qualty': 40}, "unknown key; did you mean 'jpeg_quality'"),
        ],
    )
    def test_a_wrong_section_names_the_key(self, small_reds, section: dict, message: str) -> None:
        with pytest.raises(RequestError, match=f"data set 'small': degradation.*{message}"):
            REDSPairedDataset(small_reds.options(degradation=section))


def _roughness_along_rows(picture: np.ndarray) -> float:
    along, across = (np.abs(np.diff(picture, axis=axis)).mean() for axis in (1, 0))
    return float(along / across)


def _through_pillow(picture: np.ndarray, quality: int, *, full_colour: bool) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(picture).save(file, 'JPEG', quality=quality, subsampling=0 if full_colour else 2)
    return np.asarray(Image.open(file))


def test_a_given_picture_is_not_changed() -> None:
    picture = np.ascontiguousarray(data.astronaut()[:40, :40])
    before = picture.copy()
    model = degradation(**EVERYTHING | {'motion_prob': 1.0, 'noise_prob': 1.0, 'jpeg_prob': 1.0, 'resize_prob': 1.0})
    for draws in draws_of(model, 4):
        assert not np.array_equal(model.apply(picture, draws), picture)
    assert np.array_equal(picture, before)


def test_there_is_no_other_resampling_at_scale_1():
    with pytest.raises(RequestError, match='set small: degradation: resize: at scale 1 no picture was made smaller'):
        LQDegradation({'resize': ['bicubic', 'area']}, 'set small', 1)
    picture = np.full((16, 16, 3), 135, np.uint8)
    degradation = LQDegradation({'resize': ['bicubic']}, 'set small', 1)
    assert (degradation.apply(picture, degradation.draw(seed=0, epoch=0, repeat=0, index=0)) == 135).all()

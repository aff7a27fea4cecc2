"""Samples: the right pixels, aligned in all three pictures, and the same whatever the number of workers."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from basicsr.utils.matlab_functions import imresize as toolbox_imresize
from torch.utils.data import DataLoader

from pdan_plugin.data.augmentation import draw
from pdan_plugin.data.epochs import SampleIndex
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.errors import RequestError

KINDS = ('lq', 'gt', 'lq_sharp')


def as_bytes(sample: torch.Tensor) -> np.ndarray:
    return (sample.numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)


class TestPixels:
    @pytest.mark.parametrize('backend_codec', [('lmdb', 'bmp'), ('lmdb', 'png'), ('disk', '')])
    @pytest.mark.parametrize('with_sharp', [True, False])
    def test_a_training_sample_is_the_turned_crop_of_the_frame(
        self, small_reds, backend_codec, with_sharp: bool
    ) -> None:
        """Every turn occurs, and all three pictures are cropped and turned alike, at the frame's borders too."""
        dataset = REDSPairedDataset(small_reds.options(*backend_codec, with_sharp=with_sharp, gt_size=80))
        turns, places = set(), set()
        for index in range(len(dataset)):
            for epoch in range(4):
                sample = dataset[SampleIndex(index, epoch, 0)]
                key = '/'.join(sample['gt_path'].split('/')[-2:])
                draws = draw(
                    seed=7,
                    epoch=epoch,
                    repeat=0,
                    index=index,
                    places=(5, 16),
                    use_hflip=True,
                    use_rot=True,
                    use_brightness=False,
                )
                whole = {'gt': small_reds.sharp[key], 'lq': small_reds.blurred[key], 'lq_sharp': small_reds.small[key]}
                for kind in KINDS:
                    unit = 4 if kind == 'gt' else 1
                    expected = whole[kind][draws.top * unit :, draws.left * unit :][: 20 * unit, : 20 * unit]
                    expected = expected[:, ::-1] if draws.hflip else expected
                    expected = expected[::-1] if draws.vflip else expected
                    expected = expected.transpose(1, 0, 2) if draws.transpose else expected
                    np.testing.assert_array_equal(as_bytes(sample[kind]), expected)
                turns.add((draws.hflip, draws.vflip, draws.transpose))
                places.add((draws.top, draws.left))
        assert len(turns) == 8
        assert {0, 4} <= {top for top, _ in places}
        assert {0, 15} <= {left for _, left in places}

    @pytest.mark.parametrize('backend', ['lmdb', 'disk'])
    def test_validation_gives_whole_frames(self, small_reds, backend: str) -> None:
        dataset = REDSPairedDataset(small_reds.options(backend, phase='val'))
        sample = dataset[20]
        key = '007/00000008'
        assert sample['gt_path'].endswith(f'/{key}')
        assert sample['lq_path'].endswith(f'/{key}')
        assert {kind: tuple(sample[kind].shape) for kind in KINDS} == {
            'lq': (3, 24, 35),
            'gt': (3, 96, 140),
            'lq_sharp': (3, 24, 35),
        }
        assert all(sample[kind].dtype == torch.float32 for kind in KINDS)
        np.testing.assert_array_equal(
            sample['gt'].numpy(), small_reds.sharp[key].transpose(2, 0, 1).astype(np.float32) / 255
        )
        matlab = toolbox_imresize(sample['gt'], 1 / 4).clamp(0, 1)
        assert (sample['lq_sharp'] - matlab).abs().max() <= 0.5 / 255 + 1e-5

    def test_brightness_is_one_gain_on_all_three_clipped_at_white(self, small_reds) -> None:
        dim = REDSPairedDataset(small_reds.options(with_sharp=True))
        bright = REDSPairedDataset(small_reds.options(with_sharp=True, use_brightness=True))
        gains = []
        for index in range(len(dim)):
            before, after = dim[index], bright[index]
            gain = draw(
                seed=7,
                epoch=0,
                repeat=0,
                index=index,
                places=(17, 28),
                use_hflip=True,
                use_rot=True,
                use_brightness=True,
            ).brightness
            gains.append(gain)
            for kind in KINDS:
                torch.testing.assert_close(after[kind], (before[kind] * gain).clamp(max=1))
        assert gains.count(1.0) not in (0, len(gains))
        assert 0.8 <= min(gains) < 1 < max(gains) <= 1.2

    def test_val300_takes_every_tenth_frame(self, small_reds) -> None:
        dataset = REDSPairedDataset(small_reds.options(phase='val', frames='val300'))
        assert [dataset[index]['gt_path'][-12:] for index in range(len(dataset))] == ['000/00000009', '007/00000009']

    def test_the_toolbox_builds_it_by_name(self, small_reds) -> None:
        dataset = build_dataset(small_reds.options(type='REDSPairedDataset'))
        assert isinstance(dataset, REDSPairedDataset)
        assert len(dataset) == 24

    def test_two_sources_are_read_as_one(self, small_reds) -> None:
        options = small_reds.options()
        sources = [small_reds.options(codec=codec, with_sharp=codec == 'png') for codec in ('bmp', 'png')]
        roots = ('dataroot_gt', 'dataroot_lq', 'dataroot_lq_sharp')
        for name in roots:
            options.pop(name, None)
        options['sources'] = [{name: source[name] for name in roots if name in source} for source in sources]
        dataset = REDSPairedDataset(options | {'phase': 'val'})
        assert len(dataset) == 48
        samples = [dataset[index] for index in range(48)]
        assert len({sample['gt_path'] for sample in samples}) == 48
        for first, second in zip(samples[:24], samples[24:], strict=True):
            assert first['gt_path'][-12:] == second['gt_path'][-12:]
            for kind in KINDS:
                assert torch.equal(first[kind], second[kind])

    def test_a_source_may_have_a_storage_of_its_own(self, small_reds) -> None:
        roots = ('dataroot_gt', 'dataroot_lq')
        store, folder = (
            {name: options[name] for name in roots} for options in (small_reds.options(), small_reds.options('disk'))
        )
        options = {name: value for name, value in small_reds.options().items() if not name.startswith('dataroot')}
        sources = [store, folder | {'io_backend': {'type': 'disk'}}]
        dataset = REDSPairedDataset(options | {'phase': 'val', 'sources': sources})
        assert len(dataset) == 48
        for number in range(24):
            first, second = dataset[number], dataset[24 + number]
            assert first['gt_path'] != second['gt_path']
            for kind in KINDS:
                assert torch.equal(first[kind], second[kind])
        for io_backend, message in (({'type': 'zip'}, "got type 'zip'"), ('disk', "got 'disk'")):
            with pytest.raises(RequestError, match=message):
                REDSPairedDataset(options | {'sources': [store, folder | {'io_backend': io_backend}]})


class TestPlainFolders:
    def folders(self, small_reds, root: Path) -> dict:
        for name, frames in (('gt', small_reds.sharp), ('lq', small_reds.blurred)):
            (root / name).mkdir()
            for number, image in enumerate(list(frames.values())[:5]):
                cv2.imwrite(str(root / name / f'flower_{number}.png'), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return small_reds.options('disk') | {'dataroot_gt': f'{root}/gt', 'dataroot_lq': f'{root}/lq'}

    def test_pictures_need_no_clips(self, small_reds, tmp_path: Path) -> None:
        options = self.folders(small_reds, tmp_path)
        dataset = REDSPairedDataset(options | {'phase': 'val'})
        assert len(dataset) == 5
        sample = dataset[3]
        assert sample['lq_path'] == f'{tmp_path}/lq/flower_3'
        np.testing.assert_array_equal(as_bytes(sample['lq']), list(small_reds.blurred.values())[3])
        crop = REDSPairedDataset(options | {'degradation': {'noise_sigma': 5}})[0]
        assert tuple(crop['lq'].shape) == (3, 8, 8)

    def test_pictures_of_other_endings_are_reported(self, small_reds, tmp_path: Path, caplog) -> None:
        options = self.folders(small_reds, tmp_path)
        for name in ('gt', 'lq'):
            (tmp_path / name / 'flower_1.png').rename(tmp_path / name / 'flower_1.PNG')
            (tmp_path / name / 'flower_5.jpg').write_bytes(b'x')
        with caplog.at_level('WARNING', 'basicsr'):
            assert len(REDSPairedDataset(options | {'phase': 'val'})) == 4
        for name in ('gt', 'lq'):
            line = f'{tmp_path}/{name}: left out, because only names that end in .png are read'
            (found,) = (text for text in caplog.messages if text.startswith(line))
            assert found.endswith('): flower_1.PNG, flower_5.jpg')

    def test_pictures_beside_clips_are_refused(self, small_reds, tmp_path: Path) -> None:
        options = self.folders(small_reds, tmp_path)
        (tmp_path / 'gt' / '000').mkdir()
        (tmp_path / 'gt' / '000' / '00000000.png').write_bytes((tmp_path / 'gt' / 'flower_0.png').read_bytes())
        with pytest.raises(RequestError, match=r'pictures \(flower_.*\.png\) beside folders of pictures \(000/0'):
            REDSPairedDataset(options)


class TestDraws:
    @pytest.mark.parametrize('context', ['fork', 'spawn'])
    def test_the_number_of_workers_does_not_matter(self, small_reds, context: str) -> None:
        dataset = REDSPairedDataset(small_reds.options(use_brightness=True))
        order = [SampleIndex(index, 3, index % 2) for index in (5, 0, 23, 11, 5, 17, 8, 2)]
        dataset[0]  # the store is open in this process before any worker starts

        def batches(workers: int) -> list[dict]:
            return list(
                DataLoader(
                    dataset,
                    batch_size=2,
                    sampler=order,
                    num_workers=workers,
                    multiprocessing_context=context if workers else None,
                )
            )

        alone = batches(0)
        for workers in (1, 2) if context == 'fork' else (1,):
            for ours, theirs in zip(alone, batches(workers), strict=True):
                assert ours['gt_path'] == theirs['gt_path']
                for kind in KINDS:
                    assert torch.equal(ours[kind], theirs[kind])

    def test_a_subclass_s_samples_are_what_a_loader_gives(self, small_reds) -> None:
        class Dark(REDSPairedDataset):
            def __getitem__(self, index: int) -> dict:
                return super().__getitem__(index) | {'lq': torch.zeros(1)}

        dataset = Dark(small_reds.options())
        assert not dataset.draws_from_sample_index
        batch = next(iter(DataLoader(dataset, batch_size=3)))
        assert not batch['lq'].any()
        assert batch['gt'].any()

    def test_epoch_repeat_and_seed_each_change_them(self, small_reds) -> None:
        dataset = REDSPairedDataset(small_reds.options())
        other_seed = REDSPairedDataset(small_reds.options(manual_seed=8))
        base = [dataset[SampleIndex(index, 0, 0)]['gt'] for index in range(6)]
        again = [dataset[index]['gt'] for index in range(6)]
        assert all(torch.equal(a, b) for a, b in zip(base, again, strict=True))
        for others in (
            [dataset[SampleIndex(index, 1, 0)]['gt'] for index in range(6)],
            [dataset[SampleIndex(index, 0, 1)]['gt'] for index in range(6)],
            [other_seed[index]['gt'] for index in range(6)],
        ):
            assert not any(torch.equal(a, b) for a, b in zip(base, others, strict=True))


class TestRefusals:
    def test_missing_data_names_the_command(self, small_reds) -> None:
        options = small_reds.options() | {'dataroot_gt': 'datasets/REDS/train_sharp.lmdb'}
        command = (
            r'dataroot_gt datasets/REDS/train_sharp\.lmdb does not exist.*basicsr prepare-reds SOURCE datasets/REDS`'
        )
        with pytest.raises(RequestError, match=command):
            REDSPairedDataset(options)

    @pytest.mark.parametrize(
        ('change', 'message'),
        [
            ({'gt_size': 30}, 'gt_size 30 is not a multiple of the scale 4'),
            ({'gt_size': 100}, r'gt_size 100 is larger than frame 000/00000000 of .*sharp\.lmdb \(140x96\)'),
            ({'gt_size': None}, 'needs gt_size'),
            ({'scale': 2}, 'frame 000/00000000 is 140x96 in .* and 35x24 in .* at scale 2 the first must be 70x48'),
            ({'frames': 'val30'}, "'all' or 'val300', got 'val30'"),
            ({'io_backend': {'type': 'disk'}}, 'is an LMDB store; set io_backend'),
            ({'io_backend': {'type': 'memcached'}}, "got type 'memcached'"),
            ({'dataroot_lq': None}, 'dataroot_lq is missing'),
            ({'sources': [{}]}, 'not both'),
        ],
    )
    def test_wrong_options_are_named(self, small_reds, change: dict, message: str) -> None:
        with pytest.raises(RequestError, match=message):
            REDSPairedDataset(small_reds.options() | change)

    def test_a_folder_under_lmdb_is_named(self, small_reds) -> None:
        with pytest.raises(RequestError, match='train_sharp is not an LMDB store'):
            REDSPairedDataset(small_reds.options('disk') | {'io_backend': {'type': 'lmdb'}})

    def test_frames_without_partner_are_listed(self, small_reds, tmp_path: Path) -> None:
        for key in list(small_reds.sharp)[:20]:
            for name, frames in (('gt', small_reds.sharp), ('lq', small_reds.blurred)):
                if name == 'lq' and key.endswith('5'):
                    continue
                file = tmp_path / name / f'{key}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), frames[key])
        options = small_reds.options('disk') | {'dataroot_gt': f'{tmp_path}/gt', 'dataroot_lq': f'{tmp_path}/lq'}
        with pytest.raises(RequestError, match=r'gt has frames that .*lq lacks: 000/00000005, 007/00000005$'):
            REDSPairedDataset(options)

    def test_a_damaged_file_is_named(self, small_reds, tmp_path: Path) -> None:
        for name, frames in (('gt', small_reds.sharp), ('lq', small_reds.blurred)):
            (tmp_path / name / '000').mkdir(parents=True)
            cv2.imwrite(f'{tmp_path}/{name}/000/00000000.png', frames['000/00000000'])
        damaged = tmp_path / 'gt' / '000' / '00000000.png'
        damaged.write_bytes(damaged.read_bytes()[:-40])
        options = small_reds.options('disk') | {'dataroot_gt': f'{tmp_path}/gt', 'dataroot_lq': f'{tmp_path}/lq'}
        with pytest.raises(RequestError, match=r'gt/000/00000000\.png: is a truncated PNG'):
            REDSPairedDataset(options)[0]

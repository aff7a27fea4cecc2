"""scripts/prepare_reds.py on REDS-shaped trees: what it makes, what it prints, and that a kill costs nothing."""

import random
import shlex
import shutil
import zipfile
from pathlib import Path

import cv2
import lmdb
import numpy as np
import prepare_kills
import pytest
from basicsr.data.paired_image_dataset import PairedImageDataset
from reds_tree import contents, make_reds, stored, zip_reds

from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import read_checksums
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.option_schema.option_file import load_option_file
from pdan_plugin.option_schema.shipped_options import find_option_file


def picture(file: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)


class TestWhatItMakes:
    @pytest.mark.parametrize('codec', ['bmp', 'png'])
    def test_folders_become_stores_that_train(self, tmp_path: Path, prepare, codec: str) -> None:
        make_reds(tmp_path / 'REDS')
        make_reds(tmp_path / 'REDS', split='val', clips=1)
        status, said = prepare(tmp_path / 'REDS', tmp_path / 'out', '--codec', codec, '--verify')
        assert status == 0
        names = [
            f'{split}_{kind}.lmdb'
            for split in ('train', 'val')
            for kind in ('sharp', 'blur_bicubic_x4', 'sharp_bicubic_x4')
        ]
        assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == sorted(names)
        store = FrameStore(tmp_path / 'out' / 'train_blur_bicubic_x4.lmdb')
        folder = tmp_path / 'REDS' / 'train' / 'train_blur_bicubic' / 'X4'
        assert len(store.keys) == 24
        for key in store.keys:
            np.testing.assert_array_equal(store.read(key), picture(folder / f'{key}.png'))
        assert "train: 24 frames in 2 clips, 0.1% of REDS's 24000 (sizes unlike REDS's 1280x720: 92x64)" in said
        assert 'verified: every frame of 6 stores has the pixels its source had when it was stored' in said
        assert '\nNext: basicsr check -opt pdan_phase1\n' in said
        (line,) = [each for each in said.splitlines() if each.startswith('It reads datasets/REDS. ')]
        overrides = shlex.split(line.partition('--force_yml')[2])
        options = load_option_file(find_option_file('pdan_phase1'), overrides).options['datasets']
        for split in ('train', 'val'):
            assert options[split]['dataroot_gt'] == str(tmp_path / 'out' / f'{split}_sharp.lmdb')
            assert options[split]['dataroot_lq'] == str(tmp_path / 'out' / f'{split}_blur_bicubic_x4.lmdb')
        assert options['train']['dataroot_lq_sharp'] == str(tmp_path / 'out' / 'train_sharp_bicubic_x4.lmdb')
        dataset = REDSPairedDataset(
            {
                'name': 'prepared',
                'phase': 'train',
                'scale': 4,
                'gt_size': 32,
                'io_backend': {'type': 'lmdb'},
                'dataroot_gt': str(tmp_path / 'out' / 'train_sharp.lmdb'),
                'dataroot_lq': str(tmp_path / 'out' / 'train_blur_bicubic_x4.lmdb'),
                'dataroot_lq_sharp': str(tmp_path / 'out' / 'train_sharp_bicubic_x4.lmdb'),
            }
        )
        assert tuple(dataset[3]['gt'].shape) == (3, 32, 32)

    def test_zips_are_read_in_place_and_give_the_same(self, tmp_path: Path, prepare) -> None:
        make_reds(tmp_path / 'REDS')
        archives = zip_reds(tmp_path / 'REDS', tmp_path / 'zips', compression=zipfile.ZIP_DEFLATED)
        before = sorted(path.name for path in archives.iterdir())
        assert prepare(tmp_path / 'REDS', tmp_path / 'a')[0] == 0
        assert prepare(archives, tmp_path / 'b', '--verify', '--workers', 3)[0] == 0
        assert sorted(path.name for path in archives.iterdir()) == before
        for store in (tmp_path / 'a').iterdir():
            assert stored(store) == stored(tmp_path / 'b' / store.name)

    def test_from_zip_passes_over_folders(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        status, said = prepare(root, tmp_path / 'out', '--from-zip')
        assert status == 2
        assert 'expected train_sharp.zip, train_blur_bicubic.zip' in said
        status, said = prepare(root, tmp_path / 'out', '--from-zip', '--splits', 'train')
        assert status == 2
        assert 'nothing of train here (expected train_sharp.zip and train_blur_bicubic.zip)' in said
        zip_reds(root, root)
        (root / 'train_sharp.zip').rename(tmp_path / 'kept.zip')
        status, said = prepare(root, tmp_path / 'out', '--from-zip')
        assert status == 2
        assert 'its partner train_sharp is not; put train_sharp.zip there' in said
        (tmp_path / 'kept.zip').rename(root / 'train_sharp.zip')
        (root / 'train' / 'train_sharp' / '000' / '00000001.png').write_bytes(b'what the zip holds counts')
        status, said = prepare(root, tmp_path / 'out', '--from-zip')
        assert status == 0, said
        assert len(FrameStore(tmp_path / 'out' / 'train_sharp.lmdb').keys) == 3

    @pytest.mark.parametrize('part', ['', 'train', '..'])
    def test_source_may_be_a_level_off(self, tmp_path: Path, prepare, part: str) -> None:
        root = make_reds(tmp_path / 'above' / 'REDS', clips=1, frames=3)
        status, said = prepare((root / part).resolve(), tmp_path / 'out', '--splits', 'train')
        assert status == 0, said
        assert len(FrameStore(tmp_path / 'out' / 'train_sharp.lmdb').keys) == 3

    def test_without_sharp_bicubic_it_says_what_happens_or_makes_it(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        official = tmp_path / 'official'
        shutil.move(root / 'train' / 'train_sharp_bicubic', official)
        status, said = prepare(root, tmp_path / 'out')
        assert status == 0
        assert 'no train_sharp_bicubic here; REDSPairedDataset then makes lq_sharp' in said
        assert not (tmp_path / 'out' / 'train_sharp_bicubic_x4.lmdb').exists()
        status, said = prepare(root, tmp_path / 'out', '--make-sharp-bicubic', '--verify')
        assert status == 0
        assert said.count('already complete, kept') == 2
        made = FrameStore(tmp_path / 'out' / 'train_sharp_bicubic_x4.lmdb')
        for key in made.keys:
            np.testing.assert_array_equal(made.read(key), picture(official / 'X4' / f'{key}.png'))

    def test_val300_needs_no_other_frames(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', split='val', clips=1, frames=30)
        for file in root.rglob('*.png'):
            if int(file.stem) % 10 != 9:
                file.unlink()
        status, said = prepare(root, tmp_path / 'out', '--splits', 'val300')
        assert status == 0, said
        assert FrameStore(tmp_path / 'out' / 'val300_sharp.lmdb').keys == [
            '000/00000009',
            '000/00000019',
            '000/00000029',
        ]


class TestSubImages:
    SIZE, STEP = 32, 24
    # Of 64x92: a grid of 24, and one more at the right and at the bottom edge.
    CORNERS = tuple((top, left) for top in (0, 24, 32) for left in (0, 24, 48, 60))

    @pytest.fixture
    def made(self, tmp_path: Path, prepare) -> Path:
        root = make_reds(tmp_path / 'REDS', clips=2, frames=3)
        make_reds(root, split='val', clips=1, frames=2)
        status, said = prepare(
            root, tmp_path / 'out', '--sub-images', self.SIZE, self.STEP, '--codec', 'png', '--verify'
        )
        assert status == 0, said
        return tmp_path

    def test_train_is_cut_as_the_toolbox_cuts_and_val_is_not(self, made: Path) -> None:
        names = ('sharp', 'blur_bicubic_x4', 'sharp_bicubic_x4')
        expected = [f'train_{name}_sub.lmdb' for name in names] + [f'val_{name}.lmdb' for name in names]
        assert sorted(path.name for path in (made / 'out').iterdir()) == sorted(expected)
        train = made / 'REDS' / 'train'
        sharp = FrameStore(made / 'out' / 'train_sharp_sub.lmdb')
        small = FrameStore(made / 'out' / 'train_blur_bicubic_x4_sub.lmdb')
        assert len(sharp.keys) == len(small.keys) == 2 * 3 * 12
        for frame in ('000/00000000', '001/00000002'):
            whole = picture(train / 'train_sharp' / f'{frame}.png')
            quarter = picture(train / 'train_blur_bicubic' / 'X4' / f'{frame}.png')
            for number, (top, left) in enumerate(self.CORNERS, 1):
                key = f'{frame}_s{number:03d}'
                np.testing.assert_array_equal(sharp.read(key), whole[top : top + 32, left : left + 32])
                part = quarter[top // 4 : top // 4 + 8, left // 4 : left // 4 + 8]
                np.testing.assert_array_equal(small.read(key), part)

    def test_both_data_sets_train_from_them(self, made: Path) -> None:
        options = {
            'name': 'cut',
            'phase': 'train',
            'scale': 4,
            'gt_size': 16,
            'use_hflip': True,
            'use_rot': True,
            'io_backend': {'type': 'lmdb'},
            'dataroot_gt': str(made / 'out' / 'train_sharp_sub.lmdb'),
            'dataroot_lq': str(made / 'out' / 'train_blur_bicubic_x4_sub.lmdb'),
        }
        for dataset in (REDSPairedDataset(dict(options)), PairedImageDataset(dict(options))):
            assert len(dataset) == 72
            assert tuple(dataset[50]['gt'].shape) == (3, 16, 16)
            assert tuple(dataset[50]['lq'].shape) == (3, 4, 4)

    def test_a_missing_sharp_bicubic_is_made_before_it_is_cut(self, made: Path, prepare) -> None:
        shutil.rmtree(made / 'REDS' / 'train' / 'train_sharp_bicubic')
        words = ('--sub-images', self.SIZE, self.STEP, '--splits', 'train', '--make-sharp-bicubic')
        assert prepare(made / 'REDS', made / 'again', *words, '--codec', 'png')[0] == 0
        name = 'train_sharp_bicubic_x4_sub.lmdb'
        assert contents(made / 'again' / name) == contents(made / 'out' / name)

    @pytest.mark.parametrize(
        ('words', 'told'),
        [
            ((30, 24), 'SIZE must be a multiple of 4'),
            ((32, 0), 'STEP must be a multiple of 4'),
            ((32, 40), 'STEP 40 is above SIZE 32'),
            ((68, 24), 'sub-images of 68x68 do not fit into frames of 92x64'),
            ((32, 24, '--splits', 'val'), 'from the train split only, not from val'),
        ],
    )
    def test_what_cannot_be_cut_is_told(self, tmp_path: Path, prepare, words: tuple, told: str) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=2)
        status, said = prepare(root, tmp_path / 'out', '--sub-images', *words)
        assert status == 2
        assert told in said
        assert not (tmp_path / 'out').exists()


class TestInterruption:
    def test_kills_cost_nothing(self, tmp_path: Path, prepare) -> None:
        source = make_reds(tmp_path / 'REDS', clips=2, frames=60)
        assert prepare(source, tmp_path / 'whole')[0] == 0
        target, draw = tmp_path / 'killed', random.Random(0)
        for moment in ('write', 'finish'):
            assert prepare_kills.kill(source, target, moment, draw), 'it finished before it could be killed'
        status, said = prepare(source, target, '--verify')
        assert status == 0, said
        assert 'train_sharp.lmdb: already complete, kept' in said or 'frames are there already' in said
        assert prepare_kills.differences(tmp_path / 'whole', target) == []

    def test_a_disk_that_fills_up_keeps_what_was_written(
        self, tmp_path: Path, prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resource = pytest.importorskip('resource')
        source = make_reds(tmp_path / 'REDS', clips=1, frames=40)
        assert prepare(source, tmp_path / 'whole')[0] == 0
        monkeypatch.setattr('pdan_plugin.data.frame_store_writer._BATCH_BYTES', 1 << 16)
        target = tmp_path / 'full'
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))  # a longer file meets what a full disk answers
        try:
            status, said = prepare(source, target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert status == 1, said
        assert 'the disk is full or fails' in said
        assert not list(target.glob('*.lmdb'))
        kept = len(read_checksums(target / 'train_sharp.lmdb.partial'))
        assert 0 < kept < 40
        status, said = prepare(source, target, '--verify')
        assert status == 0
        assert f'({kept} frames are there already)' in said
        assert prepare_kills.differences(tmp_path / 'whole', target) == []


class TestVerification:
    def test_a_store_that_changed_is_named(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        assert prepare(root, tmp_path / 'out')[0] == 0
        with lmdb.open(str(tmp_path / 'out' / 'train_sharp.lmdb')) as store, store.begin(write=True) as transaction:
            value = bytearray(transaction.get(b'000/00000001'))
            value[5000] ^= 1
            transaction.put(b'000/00000001', bytes(value))
            transaction.put(b'000/00000002', bytes(value[:7000]))
        status, said = prepare(root, tmp_path / 'out', '--verify')
        assert status == 1
        assert "frame '000/00000001' has changed since it was stored" in said
        assert "frame '000/00000002' is a truncated BMP" in said
        assert '2 frames failed verification' in said

    def test_the_source_is_decoded_once_and_that_is_said(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        assert prepare(root, tmp_path / 'out')[0] == 0
        file = root / 'train' / 'train_sharp' / '000' / '00000001.png'
        cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
        status, said = prepare(root, tmp_path / 'out', '--verify')
        assert status == 0
        assert 'The sources were not decoded again' in said

    def test_a_store_without_checksums_is_compared_with_its_source(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        assert prepare(root, tmp_path / 'out')[0] == 0
        (tmp_path / 'out' / 'train_sharp.lmdb' / 'checksums.txt').unlink()
        status, said = prepare(root, tmp_path / 'out', '--verify')
        assert status == 0
        assert 'train_sharp.lmdb: 3 frames have no stored checksum; they are compared with their source' in said
        file = root / 'train' / 'train_sharp' / '000' / '00000001.png'
        cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
        status, said = prepare(root, tmp_path / 'out', '--verify')
        assert status == 1
        assert "frame '000/00000001' differs from" in said
        assert said.count('differs from') == 1


class TestWhatItSays:
    def test_clips_of_another_length_are_named(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=3, frames=8)
        for file in root.rglob('001/*7.png'):
            file.unlink()
        status, said = prepare(root, tmp_path / 'out', '--splits', 'train')
        assert status == 0
        assert "clips of 8 frames, REDS's have 100; of another length than 8 frames: 001 has 7" in said

    def test_sizes_in_both_codecs_before_and_the_speed_after(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=40)
        said = {codec: prepare(root, tmp_path / codec, '--codec', codec)[1] for codec in ('bmp', 'png')}
        assert 'train_sharp.lmdb: 40 frames, 0.8 MB to write as bmp (png: 0.' in said['bmp']
        assert 'to write as png (bmp: 0.8 MB)' in said['png']
        assert 'train_sharp.lmdb: 40 frames in ' in said['bmp']
        assert ' a second' in said['bmp']
        for codec in said:
            size = (tmp_path / codec / 'train_sharp.lmdb' / 'data.mdb').stat().st_size
            told = said[codec].split('train_sharp.lmdb: 40 frames, ')[1].split(' MB')[0]
            assert float(told) == pytest.approx(size / 1e6, rel=0.1, abs=0.06)

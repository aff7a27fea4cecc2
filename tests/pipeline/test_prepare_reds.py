"""scripts/prepare_reds.py on REDS-shaped trees: what it makes, what it refuses, and that a kill costs nothing."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.frame_store_writer import partial_path, read_checksums
from pdan_plugin.data.reds_paired_dataset import REDSPairedDataset
from pdan_plugin.synthesis.bicubic import downsample_uint8

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'scripts' / 'prepare_reds.py'
SETS = (('sharp', ''), ('blur_bicubic', 'X4'), ('sharp_bicubic', 'X4'))


def make_reds(
    root: Path, *, split: str = 'train', clips: int = 2, frames: int = 12, height: int = 64, width: int = 92
) -> Path:
    """A part of REDS in REDS's own folders, of windows that wander over photographs."""
    photos = [data.astronaut(), data.coffee(), data.chelsea()]
    for clip in range(clips):
        for frame in range(frames):
            window = photos[clip % 3][10 + frame % 50 :, 30 + 3 * frame % 100 :][:height, :width]
            sharp = cv2.cvtColor(window, cv2.COLOR_RGB2BGR)
            pictures = (sharp, downsample_uint8(cv2.blur(sharp, (7, 3)), 4), downsample_uint8(sharp, 4))
            for (name, inner), picture in zip(SETS, pictures, strict=True):
                file = root / split / f'{split}_{name}' / inner / f'{clip:03d}' / f'{frame:08d}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), picture)
    return root


def zip_reds(root: Path, target: Path, *, split: str = 'train') -> Path:
    """The same as the official zips, with the folders the official ones hold."""
    target.mkdir()
    for name, _ in SETS:
        with zipfile.ZipFile(target / f'{split}_{name}.zip', 'w') as archive:
            for file in sorted((root / split / f'{split}_{name}').rglob('*')):
                archive.write(file, file.relative_to(root))
    return target


def picture(file: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)


def contents(store: Path) -> dict[str, bytes]:
    read = FrameStore(store)
    return {key: read.read(key).tobytes() for key in read.keys}


@pytest.fixture
def prepare(capsys: pytest.CaptureFixture):
    """The script's main, in this process: arguments in, (exit status, all it printed) out."""
    spec = importlib.util.spec_from_file_location('prepare_reds', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: object) -> tuple[int, str]:
        status = module.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


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
        assert 'verified: every frame of 6 stores equals its source' in said
        assert '\nNext: basicsr check -opt options/pdan_phase1.yml\n' in said
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
        archives = zip_reds(tmp_path / 'REDS', tmp_path / 'zips')
        before = sorted(path.name for path in archives.iterdir())
        assert prepare(tmp_path / 'REDS', tmp_path / 'a')[0] == 0
        assert prepare(archives, tmp_path / 'b', '--verify', '--workers', 3)[0] == 0
        assert sorted(path.name for path in archives.iterdir()) == before
        for store in (tmp_path / 'a').iterdir():
            assert contents(store) == contents(tmp_path / 'b' / store.name)

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
        assert said.count('complete already, kept') == 2
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


class TestInterruption:
    def test_a_kill_in_the_middle_costs_nothing(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=3, frames=60)
        assert prepare(root, tmp_path / 'whole')[0] == 0
        # One worker and a commit every few frames: what a set 1000 times larger does between two kills.
        child = (
            'import sys, pdan_plugin.data.frame_store_writer as writer\n'
            'from pdan_plugin.data.store_preparation import prepare_reds\n'
            'writer._BATCH_BYTES = 1 << 15\n'
            'prepare_reds(sys.argv[1], sys.argv[2], workers=1)\n'
        )
        target = tmp_path / 'killed'
        kills = [('train_sharp.lmdb', 30), ('train_blur_bicubic_x4.lmdb', 40)]
        for name, frames in kills:
            process = subprocess.Popen(
                [sys.executable, '-c', child, str(root), str(target)],
                env=os.environ | {'PYTHONPATH': str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            partial = partial_path(target / name)
            while process.poll() is None and len(read_checksums(partial)) < frames:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL, 'it finished before it could be killed'
            assert len(read_checksums(partial)) >= frames
            assert not (target / name).exists()
        kept = len(read_checksums(partial))
        status, said = prepare(root, target, '--verify')
        assert status == 0, said
        assert 'train_sharp.lmdb: complete already, kept' in said
        assert f'({kept} frames are there already)' in said
        assert sorted(path.name for path in target.iterdir()) == sorted(
            path.name for path in (tmp_path / 'whole').iterdir()
        )
        for store in (tmp_path / 'whole').iterdir():
            assert contents(store) == contents(target / store.name)
            for name in ('meta_info.txt', 'checksums.txt'):
                assert (store / name).read_text() == (target / store.name / name).read_text()

    def test_a_changed_store_does_not_verify(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        assert prepare(root, tmp_path / 'out')[0] == 0
        file = root / 'train' / 'train_sharp' / '000' / '00000001.png'
        cv2.imwrite(str(file), 255 - cv2.imread(str(file)))
        status, said = prepare(root, tmp_path / 'out', '--verify')
        assert status == 1
        assert "frame '000/00000001' differs from" in said
        assert said.count('differs from') == 1


class TestRefusals:
    def refused(self, prepare, source: Path, target: Path, *options: str) -> str:
        """What it says; it must exit 2 and leave no store in place."""
        status, said = prepare(source, target, *options)
        assert status == 2, said
        assert not list(target.glob('*.lmdb')), said
        return said

    def test_every_wrong_frame_is_named_before_anything_is_written(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=3)
        sharp, blurred = root / 'train' / 'train_sharp', root / 'train' / 'train_blur_bicubic' / 'X4'
        for file in (sharp / '000' / '00000004.png', blurred / '001' / '00000011.png'):
            file.unlink()
        (sharp / '002' / 'cover.png').write_bytes(b'')
        said = self.refused(prepare, root, tmp_path / 'out')
        assert 'train_sharp: 000/00000004.png is missing, but later frames of the clip are there' in said
        assert 'train_blur_bicubic: 001/00000011.png is missing, but train_sharp has it' in said
        assert 'cover.png: not a frame' in said
        assert not (tmp_path / 'out').exists()

    def test_every_wrong_size_is_named_before_anything_is_written(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS')
        sharp, blurred = root / 'train' / 'train_sharp', root / 'train' / 'train_blur_bicubic' / 'X4'
        cv2.imwrite(str(sharp / '000' / '00000002.png'), np.zeros((64, 88, 3), np.uint8))
        cv2.imwrite(str(blurred / '001' / '00000003.png'), np.zeros((17, 23, 3), np.uint8))
        cv2.imwrite(str(blurred / '001' / '00000005.png'), np.zeros((16, 23), np.uint8))
        said = self.refused(prepare, root, tmp_path / 'out')
        assert '000/00000002.png: 88x64, expected 92x64 like the rest of its clip' in said
        assert '001/00000003.png: 23x17, expected 23x16, a quarter of the sharp 92x64' in said
        assert '001/00000005.png: is 8-bit grey, expected 8-bit RGB' in said
        assert not (tmp_path / 'out').exists()

    def test_sides_that_no_quarter_fits_are_named(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=2, height=66)
        said = self.refused(prepare, root, tmp_path / 'out')
        assert 'clip 000 is 92x66, expected sides that are multiples of 4' in said

    def test_damaged_frames_are_named_and_mending_them_is_enough(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS')
        damaged = [root / 'train' / 'train_sharp' / clip / '00000003.png' for clip in ('000', '001')]
        whole = [file.read_bytes() for file in damaged]
        damaged[0].write_bytes(whole[0][:2000])
        damaged[1].write_bytes(whole[1][:2000] + b'\0' + whole[1][2001:])
        status, said = prepare(root, tmp_path / 'out')
        assert status == 2
        assert '000/00000003.png: is a truncated PNG' in said
        assert '001/00000003.png: is a damaged PNG' in said
        assert not (tmp_path / 'out' / 'train_sharp.lmdb').exists()
        for file, content in zip(damaged, whole, strict=True):
            file.write_bytes(content)
        status, said = prepare(root, tmp_path / 'out', '--verify')
        assert status == 0
        assert '(22 frames are there already)' in said

    def test_too_little_room_is_told_with_sizes(self, tmp_path: Path, prepare, monkeypatch: pytest.MonkeyPatch) -> None:
        root = make_reds(tmp_path / 'REDS')
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: usage._replace(free=300_000))
        said = self.refused(prepare, root, tmp_path / 'out')
        assert 'the stores need 0.7 MB, but only 0.3 MB are free' in said
        assert '--codec png' in said
        assert not (tmp_path / 'out').exists()

    def test_a_set_without_its_partner_is_named(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=2)
        shutil.rmtree(root / 'train' / 'train_blur_bicubic')
        assert 'train_sharp is here but its partner train_blur_bicubic is not' in self.refused(
            prepare, root, tmp_path / 'a'
        )

    def test_wrong_places_are_named(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=2)
        assert 'nowhere: no such folder' in self.refused(prepare, tmp_path / 'nowhere', tmp_path / 'a')
        (tmp_path / 'empty').mkdir()
        assert 'nothing of REDS here' in self.refused(prepare, tmp_path / 'empty', tmp_path / 'a')
        assert 'nothing of val here' in self.refused(prepare, root, tmp_path / 'a', '--splits', 'val')
        shutil.copytree(root / 'train' / 'train_sharp', root / 'copy' / 'train_sharp')
        assert 'train_sharp lies in 2 places' in self.refused(prepare, root, tmp_path / 'a')

    def test_an_unreadable_zip_is_named(self, tmp_path: Path, prepare) -> None:
        archives = zip_reds(make_reds(tmp_path / 'REDS', clips=1, frames=4), tmp_path / 'zips')
        file = archives / 'train_sharp.zip'
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        assert 'train_sharp.zip: not a readable zip' in self.refused(prepare, archives, tmp_path / 'a')
        file.write_bytes(whole[:5000] + bytes(50) + whole[5050:])
        status, said = prepare(archives, tmp_path / 'b')
        assert status == 2
        assert 'train_sharp.zip: train/train_sharp/000/' in said
        assert not (tmp_path / 'b' / 'train_sharp.lmdb').exists()

    def test_a_store_of_other_frames_is_not_touched(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=4)
        assert prepare(root, tmp_path / 'out')[0] == 0
        before = contents(tmp_path / 'out' / 'train_sharp.lmdb')
        make_reds(tmp_path / 'REDS', clips=2, frames=4)
        status, said = prepare(root, tmp_path / 'out')
        assert status == 2
        assert 'holds 4 frames as bmp' in said
        assert 'would give 8 as bmp' in said
        assert contents(tmp_path / 'out' / 'train_sharp.lmdb') == before

"""What scripts/prepare_reds.py refuses before it writes anything, and what it leaves as it was."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from reds_tree import contents, make_reds, zip_reds


class TestRefusals:
    def refused(self, prepare, source: Path, target: Path, *options: str) -> str:
        """What it says; it must exit 2 and leave no store in place."""
        status, said = prepare(source, target, *options)
        assert status == 2, said
        assert not list(target.glob('*.lmdb')), said
        return said

    def test_everything_wrong_is_named_at_once_before_anything_is_written(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=3)
        sharp, blurred = root / 'train' / 'train_sharp', root / 'train' / 'train_blur_bicubic' / 'X4'
        for file in (sharp / '000' / '00000004.png', blurred / '001' / '00000011.png'):
            file.unlink()
        (sharp / '002' / 'cover.png').write_bytes(b'')
        (sharp / '001' / '00000007.png').write_bytes(b'no picture')
        cv2.imwrite(str(blurred / '002' / '00000003.png'), np.zeros((17, 23, 3), np.uint8))
        (make_reds(root, split='val', clips=1) / 'val' / 'val_sharp' / '000' / '00000005.png').unlink()
        said = self.refused(prepare, root, tmp_path / 'out')
        assert 'train_sharp: 000/00000004.png is missing, but later frames of the clip are there' in said
        assert 'train_blur_bicubic: 001/00000011.png is missing, but train_sharp has it' in said
        assert 'cover.png: not a frame' in said
        assert '001/00000007.png: is not a PNG or BMP picture' in said
        assert '002/00000003.png: 23x17, expected 23x16' in said
        assert 'val_sharp: 000/00000005.png is missing, but later frames of the clip are there' in said
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
        assert 'or choose --codec png (about' in said
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
        assert 'train_sharp is in 2 places' in self.refused(prepare, root, tmp_path / 'a')

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

    def test_an_encrypted_zip_and_one_with_a_damaged_directory_are_named(self, tmp_path: Path, prepare) -> None:
        archives = zip_reds(make_reds(tmp_path / 'REDS', clips=1, frames=4), tmp_path / 'zips')
        file = archives / 'train_sharp.zip'
        whole = file.read_bytes()
        entry = whole.rindex(b'PK\x01\x02')  # the last member in the zip's directory
        local = whole.rindex(b'PK\x03\x04')
        encrypted = bytearray(whole)
        encrypted[entry + 8] |= 1
        encrypted[local + 6] |= 1
        file.write_bytes(encrypted)
        said = self.refused(prepare, archives, tmp_path / 'a')
        assert '000/00000003.png: cannot be read' in said
        assert 'encrypted' in said
        damaged = bytearray(whole)
        damaged[entry + 6] = 255  # the version needed to extract
        file.write_bytes(damaged)
        assert 'train_sharp.zip: not a readable zip' in self.refused(prepare, archives, tmp_path / 'a')

    def test_a_number_that_is_none_or_comes_twice_is_named(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=4)
        folder = root / 'train' / 'train_sharp' / '000'
        shutil.copy(folder / '00000001.png', folder / '1.png')
        shutil.copy(folder / '00000001.png', folder / '².png')
        said = self.refused(prepare, root, tmp_path / 'a')
        assert 'train_sharp: 000/00000001.png and 000/1.png have the same number' in said
        assert '².png: not a frame' in said

    def test_folders_that_cannot_be_listed_are_passed_over(
        self, tmp_path: Path, prepare, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=3)
        (root / 'lost+found').mkdir(0)
        closed = {root / 'lost+found'}
        real = Path.iterdir

        def iterdir(folder: Path):
            if folder in closed:  # as for all users but root, who may run the tests
                raise PermissionError(13, 'Permission denied', str(folder))
            yield from real(folder)

        monkeypatch.setattr(Path, 'iterdir', iterdir)
        assert prepare(root, tmp_path / 'out')[0] == 0
        closed.add(root)
        assert f'{root}: cannot be listed (Permission denied)' in self.refused(prepare, root, tmp_path / 'b')

    def test_a_store_of_other_frames_is_not_touched(self, tmp_path: Path, prepare) -> None:
        root = make_reds(tmp_path / 'REDS', clips=1, frames=4)
        assert prepare(root, tmp_path / 'out')[0] == 0
        before = contents(tmp_path / 'out' / 'train_sharp.lmdb')
        smaller = make_reds(tmp_path / 'smaller', clips=1, frames=4, height=60)
        status, said = prepare(smaller, tmp_path / 'out')
        assert status == 2
        assert 'train_sharp.lmdb: does not hold the frames of' in said
        assert '000/00000003 are missing or of another size' in said
        make_reds(tmp_path / 'REDS', clips=2, frames=4)
        status, said = prepare(root, tmp_path / 'out')
        assert status == 2
        assert 'holds 4 frames as bmp' in said
        assert 'would give 8 as bmp' in said
        assert contents(tmp_path / 'out' / 'train_sharp.lmdb') == before

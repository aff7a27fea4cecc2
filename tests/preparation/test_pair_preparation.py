"""Own pictures become pairs: which, how they are computed, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from pdan_plugin.errors import RequestError
from pdan_plugin.preparation.pair_preparation import DONE, RECORD, prepare_pairs
from pdan_plugin.preparation.pair_survey import held_out
from pdan_plugin.synthesis.bicubic import downsample_uint8

PHOTO = astronaut()


def crop(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.ascontiguousarray(PHOTO[8 * number : 8 * number + height, 100 : 100 + width])


def save(path: Path, picture: np.ndarray, **further) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path, **further)
    return path


def read(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None, path
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    return picture[..., ::-1]


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six pictures of several formats, sizes and depths, in two folders."""
    folder = tmp_path / 'photos'
    save(folder / 'a.png', crop(0))
    save(folder / 'b.JPG', crop(1), quality=95)
    save(folder / 'more/c.webp', crop(2), lossless=True)
    save(folder / 'more/d.png', crop(3, 51, 67)[..., 0])
    cv2.imwrite(str(folder / 'e.tif'), crop(4).astype(np.uint16)[..., ::-1] * 257)
    save(folder / 'f.png', np.dstack([crop(5), np.full((48, 64), 128, np.uint8)]))
    (folder / 'notes.txt').write_text('no picture')
    (folder / '.hidden.png').write_bytes(b'x')
    return folder


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: read(path).shape[:2] for path in sorted(folder.iterdir())}


class TestComputed:
    def test_gt_is_kept_and_lq_is_matlab_s_bicubic(self, photos, tmp_path):
        lines: list[str] = []
        target = prepare_pairs(photos, tmp_path / 'out', say=lines.append)
        names = sorted(path.name for path in target.glob('*/gt/*.png'))
        assert names == ['a.png', 'b.png', 'e.png', 'f.png', 'more_c.png', 'more_d.png']
        for split in ('train', 'val'):
            assert sorted(sizes(target / split / 'gt')) == sorted(sizes(target / split / 'lq'))
            for path in (target / split / 'gt').iterdir():
                gt, lq = read(path), read(target / split / 'lq' / path.name)
                np.testing.assert_array_equal(lq, downsample_uint8(np.ascontiguousarray(gt), 4))
        expected = {'a.png': crop(0), 'more_c.png': crop(2), 'e.png': crop(4), 'f.png': crop(5)}
        for name, picture in expected.items():
            np.testing.assert_array_equal(read(next(target.glob(f'*/gt/{name}'))), picture)
        grey = read(next(target.glob('*/gt/more_d.png')))
        np.testing.assert_array_equal(grey, np.repeat(crop(3, 51, 67)[:48, :64, :1], 3, axis=2))
        text = '\n'.join(lines)
        assert f'{target / "train"}: 5 pairs, scale 4' in text
        assert f'{target / "val"}: 1 pair, scale 4' in text
        assert '1 of 6 pairs: GT was cut to a multiple of 4' in text
        assert '1 of 6 pairs: 16 bits were rounded to 8' in text
        assert '1 of 6 pairs: transparency was left out' in text

    @pytest.mark.parametrize('scale', [2, 3])
    def test_other_scales(self, photos, tmp_path, scale):
        target = prepare_pairs(photos, tmp_path / 'out', scale=scale, validation=2)
        assert len(list((target / 'val' / 'gt').iterdir())) == 2
        for path in target.glob('*/gt/*.png'):
            height, width = read(path).shape[:2]
            assert read(path.parents[1] / 'lq' / path.name).shape[:2] == (height // scale, width // scale)

    def test_a_turned_photograph_is_stored_upright(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112] = 6
        save(tmp_path / 'in/a.jpg', crop(0), exif=exif)
        save(tmp_path / 'in/b.jpg', crop(1))
        target = prepare_pairs(tmp_path / 'in', tmp_path / 'out')
        assert {read(path).shape[:2] for path in target.glob('*/gt/*.png')} == {(64, 48), (48, 64)}

    def test_sub_images_of_gt_and_lq_lie_over_each_other(self, tmp_path):
        for number in range(3):
            save(tmp_path / f'in/{number}.png', crop(number, 80, 72))
        save(tmp_path / 'in/small.png', crop(3, 24, 40))
        target = prepare_pairs(tmp_path / 'in', tmp_path / 'out', sub_images=(32, 24), validation=1)
        assert set(sizes(target / 'val' / 'gt').values()) == {(80, 72)}
        train = sizes(target / 'train' / 'gt')
        assert train.pop('small.png') == (24, 40)
        assert len(train) == 2 * 3 * 3
        assert set(train.values()) == {(32, 32)}
        whole = downsample_uint8(crop(0, 80, 72), 4)
        np.testing.assert_array_equal(read(target / 'train/lq/0_s005.png'), whole[6:14, 6:14])
        np.testing.assert_array_equal(read(target / 'train/gt/0_s005.png'), crop(0, 80, 72)[24:56, 24:56])


class TestTwoFolders:
    def write(self, folder: Path, template: str = '{}', scale: int = 4, count: int = 4) -> None:
        for number in range(count):
            save(folder / f'gt/{number:02d}.png', crop(number))
            small = np.ascontiguousarray(crop(number)[::scale, ::scale])
            save(folder / f'lq/{template.format(f"{number:02d}")}.bmp', small)

    def test_both_are_kept(self, tmp_path):
        self.write(tmp_path)
        target = prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq')
        for path in target.glob('*/lq/*.png'):
            number = int(path.stem)
            np.testing.assert_array_equal(read(path), crop(number)[::4, ::4])
            np.testing.assert_array_equal(read(path.parents[1] / 'gt' / path.name), crop(number))

    def test_names_by_a_template_which_an_error_suggests(self, tmp_path):
        self.write(tmp_path, '{}x4')
        with pytest.raises(
            RequestError, match=r"8 pictures have no partner; the names fit with --filename-tmpl '{}x4'"
        ):
            prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq')
        assert not (tmp_path / 'out').exists()
        target = prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq', filename_tmpl='{}x4')
        assert sizes(target / 'train' / 'lq').keys() == sizes(target / 'train' / 'gt').keys()

    def test_equal_sizes_at_scale_1(self, tmp_path):
        self.write(tmp_path, scale=1)
        target = prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq', scale=1)
        assert sizes(target / 'val' / 'lq') == sizes(target / 'val' / 'gt')

    def test_pairs_that_differ_by_less_than_the_scale_are_cut_to_fit(self, tmp_path):
        for number in range(2):
            save(tmp_path / f'gt/{number}.png', crop(number, 51, 67))
        save(tmp_path / 'lq/0.png', crop(0, 13, 17))  # MATLAB rounds up,
        save(tmp_path / 'lq/1.png', crop(1, 12, 16))  # others down
        target = prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq')
        assert {read(path).shape[:2] for path in target.glob('*/gt/*.png')} == {(48, 64)}
        assert {read(path).shape[:2] for path in target.glob('*/lq/*.png')} == {(12, 16)}

    def test_wrong_sizes_are_listed_with_the_scale_that_fits(self, tmp_path):
        self.write(tmp_path, scale=2)
        with pytest.raises(RequestError) as refused:
            prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq')
        text = str(refused.value)
        assert '4 of 4 pairs cannot be used' in text
        assert (
            f'{tmp_path / "gt/00.png"} is 64x48 and {tmp_path / "lq/00.bmp"} is 32x24; at scale 4 expected 16x12'
            in text
        )
        assert 'or --scale 2' in text

    def test_a_picture_without_partner_is_named_either_way(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / 'lq/03.bmp').rename(tmp_path / 'lq/09.bmp')
        with pytest.raises(
            RequestError, match=r'2 pictures have no partner:(?s:.)*03\.png: expected(?s:.)*09\.bmp: no GT'
        ):
            prepare_pairs(tmp_path / 'gt', tmp_path / 'out', lq=tmp_path / 'lq')


class TestAgain:
    def test_an_interrupted_call_is_continued(self, photos, tmp_path):
        target = prepare_pairs(photos, tmp_path / 'out', workers=1)
        expected = {path.name: path.read_bytes() for path in target.glob('*/*/*.png')}
        log = (target / DONE).read_text().splitlines()
        next(target.glob(f'*/gt/{json.loads(log[3])["name"]}.png')).unlink()  # killed between LQ and GT,
        (target / DONE).write_text('\n'.join(log[:3]) + '\n' + log[3][:20])  # and while a line was written
        lines: list[str] = []
        prepare_pairs(photos, target, workers=1, say=lines.append)
        assert 'finished already: 3 pairs' in lines
        assert {path.name: path.read_bytes() for path in target.glob('*/*/*.png')} == expected
        prepare_pairs(photos, target, say=lines.append)
        assert 'finished already: 6 pairs' in lines

    def test_a_second_call_writes_nothing_and_keeps_its_notes(self, photos, tmp_path):
        first: list[str] = []
        again: list[str] = []
        target = prepare_pairs(photos, tmp_path / 'out', say=first.append)
        times = {path: path.stat().st_mtime_ns for path in target.rglob('*.png')}
        prepare_pairs(photos, target, say=again.append)
        assert times == {path: path.stat().st_mtime_ns for path in target.rglob('*.png')}
        assert again == ['finished already: 6 pairs', *first]

    def test_a_replaced_source_is_read_again(self, photos, tmp_path):
        target = prepare_pairs(photos, tmp_path / 'out')
        save(photos / 'a.png', crop(9))
        prepare_pairs(photos, target)
        np.testing.assert_array_equal(read(next(target.glob('*/gt/a.png'))), crop(9))

    def test_the_parts_of_a_replaced_source_go(self, tmp_path):
        for number in range(2):
            save(tmp_path / f'in/{number}.png', crop(number, 64, 64))
        target = prepare_pairs(tmp_path / 'in', tmp_path / 'out', sub_images=(32, 32), validation=1)
        assert len(sizes(target / 'train' / 'gt')) == 4
        save(tmp_path / 'in/0.png', crop(5, 40, 24))
        prepare_pairs(tmp_path / 'in', target, sub_images=(32, 32), validation=1)
        assert sizes(target / 'train' / 'gt') == {'0.png': (40, 24)}
        assert sizes(target / 'train' / 'lq') == {'0.png': (10, 6)}

    def test_parts_of_a_picture_that_was_not_finished_go(self, tmp_path):
        for number in range(2):
            save(tmp_path / f'in/{number}.png', crop(number, 64, 64))
        target = prepare_pairs(tmp_path / 'in', tmp_path / 'out', sub_images=(32, 32), validation=1)
        (target / DONE).write_text('')  # killed after the parts of 0.png and before its line
        save(tmp_path / 'in/0.png', crop(5, 40, 24))
        prepare_pairs(tmp_path / 'in', target, sub_images=(32, 32), validation=1)
        assert sizes(target / 'train' / 'gt') == {'0.png': (40, 24)}
        assert sizes(target / 'train' / 'lq') == {'0.png': (10, 6)}

    def test_a_source_that_comes_back_with_its_old_time_is_written_again(self, photos, tmp_path):
        target = prepare_pairs(photos, tmp_path / 'out')
        expected = {path: path.read_bytes() for path in target.rglob('*.png')}
        (photos / 'a.png').rename(tmp_path / 'kept.png')
        (photos / 'a.png').write_bytes((tmp_path / 'kept.png').read_bytes()[:300])
        for _ in range(2):
            with pytest.raises(RequestError, match='1 of 6 pairs cannot be used'):
                prepare_pairs(photos, target)
        (tmp_path / 'kept.png').replace(photos / 'a.png')
        prepare_pairs(photos, target)
        assert {path: path.read_bytes() for path in target.rglob('*.png')} == expected

    @pytest.mark.parametrize('kind', ['gt', 'lq'])
    def test_a_deleted_result_is_written_again_and_a_stranger_is_named(self, photos, tmp_path, kind):
        first: list[str] = []
        lines: list[str] = []
        target = prepare_pairs(photos, tmp_path / 'out', say=first.append)
        expected = {path: path.read_bytes() for path in target.rglob('*.png')}
        (target / 'train' / kind / 'a.png').unlink()
        stranger = target / 'train' / kind / 'stranger.png'
        stranger.write_bytes(b'x')
        prepare_pairs(photos, target, say=lines.append)
        assert lines == [
            'finished already: 5 pairs',
            *first,
            f'Remove these files, which belong to no pair: {stranger}',
        ]
        stranger.unlink()
        assert {path: path.read_bytes() for path in target.rglob('*.png')} == expected

    def test_a_target_of_which_only_the_record_was_written_is_continued(self, photos, tmp_path):
        target = prepare_pairs(photos, tmp_path / 'out')
        expected = {path: path.read_bytes() for path in target.rglob('*.png')}
        (target / DONE).unlink()
        for folder in ('train', 'val'):
            shutil.rmtree(target / folder)
        prepare_pairs(photos, target)
        assert {path: path.read_bytes() for path in target.rglob('*.png')} == expected

    @pytest.mark.parametrize('changed', [{'scale': 2}, {'validation': 3}, {'sub_images': (32, 32)}])
    def test_another_request_is_refused_and_changes_nothing(self, photos, tmp_path, changed):
        target = prepare_pairs(photos, tmp_path / 'out')
        before = {path: path.read_bytes() for path in target.rglob('*') if path.is_file()}
        with pytest.raises(RequestError, match=f'was made by another request: {next(iter(changed))}'):
            prepare_pairs(photos, target, **changed)
        assert before == {path: path.read_bytes() for path in target.rglob('*') if path.is_file()}

    def test_a_folder_with_other_files_is_refused(self, photos, tmp_path):
        (tmp_path / 'out').mkdir()
        (tmp_path / 'out/mine.png').write_bytes(b'x')
        with pytest.raises(RequestError, match='exists and is not from this command'):
            prepare_pairs(photos, tmp_path / 'out')
        assert [path.name for path in (tmp_path / 'out').iterdir()] == ['mine.png']


class TestRefused:
    def test_damaged_pictures_are_listed_and_the_others_written(self, photos, tmp_path):
        (photos / 'a.png').write_bytes((photos / 'a.png').read_bytes()[:200])
        (photos / 'more/c.webp').write_bytes(b'')
        with pytest.raises(RequestError) as refused:
            prepare_pairs(photos, tmp_path / 'out')
        assert '2 of 6 pairs cannot be used' in str(refused.value)
        assert str(photos / 'a.png') in str(refused.value)
        assert str(photos / 'more/c.webp') in str(refused.value)
        save(photos / 'a.png', crop(0))
        save(photos / 'more/c.webp', crop(2))
        target = prepare_pairs(photos, tmp_path / 'out')
        assert len(list(target.glob('*/gt/*.png'))) == 6

    @pytest.mark.parametrize(
        ('further', 'text'),
        [
            ({'scale': 1}, 'expected 2 or more; 1 only with --lq'),
            ({'validation': 6}, 'there are 6 pairs; expected at most 5'),
            ({'sub_images': (30, 20)}, 'SIZE must be a multiple of 4'),
            ({'filename_tmpl': 'x4'}, "expected one {} in it, such as '{}x4'"),
            ({'lq': 'nowhere'}, 'LQ nowhere: does not exist; expected a folder of pictures'),
        ],
    )
    def test_a_wrong_request_writes_nothing(self, photos, tmp_path, further, text):
        with pytest.raises(RequestError) as refused:
            prepare_pairs(photos, tmp_path / 'out', **further)
        assert text in str(refused.value)
        assert not (tmp_path / 'out').exists()

    def test_folders(self, photos, tmp_path):
        with pytest.raises(RequestError, match='is a file; expected a folder'):
            prepare_pairs(photos / 'a.png', tmp_path / 'out')
        save(tmp_path / 'one/a.png', crop(0))
        with pytest.raises(RequestError, match='found 1 pictures; expected at least two'):
            prepare_pairs(tmp_path / 'one', tmp_path / 'out')
        with pytest.raises(RequestError, match='lies in'):
            prepare_pairs(photos, photos / 'out')

    def test_folders_below(self, photos, tmp_path):
        (tmp_path / 'elsewhere').mkdir()
        (photos / 'a.png').rename(tmp_path / 'elsewhere/a.png')
        (photos / 'linked').symlink_to(tmp_path / 'elsewhere')
        target = prepare_pairs(photos, tmp_path / 'out')
        assert len(list(target.glob('*/gt/linked_a.png'))) == 1
        (photos / 'more/up').symlink_to(photos)
        with pytest.raises(RequestError, match='more/up: this link leads to a folder that it lies in'):
            prepare_pairs(photos, tmp_path / 'other')

    def test_names_that_become_equal(self, photos, tmp_path):
        save(photos / 'more_c.png', crop(0))
        with pytest.raises(RequestError, match=r'prepared names would be equal(?s:.)*more_c'):
            prepare_pairs(photos, tmp_path / 'out')
        save(photos / 'a.bmp', crop(0))
        with pytest.raises(RequestError, match='differ only in their ending'):
            prepare_pairs(photos, tmp_path / 'out')

    def test_names_of_parts(self, photos, tmp_path):
        save(photos / 'a_s001.png', crop(0))
        assert prepare_pairs(photos, tmp_path / 'whole')
        with pytest.raises(RequestError, match=r'another picture.s parts; rename them:\n  a_s001'):
            prepare_pairs(photos, tmp_path / 'cut', sub_images=(32, 32))

    def test_a_picture_smaller_than_the_scale(self, photos, tmp_path):
        save(photos / 'tiny.png', crop(0, 3, 9))
        with pytest.raises(RequestError, match=r'tiny\.png: 9x3 pixels; at scale 4 it needs 4x4 or more'):
            prepare_pairs(photos, tmp_path / 'out')


def test_the_record_names_what_is_held_out(photos, tmp_path):
    target = prepare_pairs(photos, tmp_path / 'out', validation=2)
    record = json.loads((target / RECORD).read_text())
    assert record['validation'] == sorted(path.stem for path in (target / 'val' / 'gt').iterdir())
    assert record['scale'] == 4


def test_no_pair_is_held_out_if_other_pictures_validate(photos, tmp_path):
    target = prepare_pairs(photos, tmp_path / 'out', validation=0)
    assert not (target / 'val').exists()
    assert len(list((target / 'train' / 'gt').iterdir())) == 6
    assert prepare_pairs(photos, tmp_path / 'out', validation=0) == target
    save(tmp_path / 'one/a.png', crop(0))
    assert len(list((prepare_pairs(tmp_path / 'one', tmp_path / 'lone', validation=0) / 'train' / 'gt').iterdir())) == 1


def test_pictures_of_other_endings_are_found_by_their_content(tmp_path):
    names = ['a.png', 'b.tga', 'c.jp2', 'd', 'e.gif']
    for number, name in enumerate(names):
        form = {'d': 'PNG'}.get(name)
        save(tmp_path / 'photos' / name, crop(number), format=form)
    (tmp_path / 'photos' / 'notes.txt').write_text('no picture')
    prepare_pairs(tmp_path / 'photos', tmp_path / 'out', validation=1)
    made = {path.stem for phase in ('train', 'val') for path in (tmp_path / 'out' / phase / 'gt').iterdir()}
    assert made == {'a', 'b', 'c', 'd', 'e'}
    assert np.array_equal(read(next((tmp_path / 'out').glob('*/gt/b.png'))), crop(1))


def test_held_out_pairs_are_spread():
    names = [f'{number:03d}' for number in range(200)]
    assert held_out(names, None) == names[5::10]
    assert held_out(names, 1) == ['100']
    assert len(held_out([f'{number:05d}' for number in range(5000)], None)) == 100
    assert held_out(['a', 'b'], None) == ['b']

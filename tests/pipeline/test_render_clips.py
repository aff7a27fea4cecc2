"""scripts/render_clips.py, from photographs to REDS's folders."""

import json
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from warm_processes import run_python

from pdan_plugin.data.frame_sources import FrameFolder
from pdan_plugin.data.reds_layout import KINDS, find_set
from pdan_plugin.files.whole_files import unfinished_path
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.synthesis.clip_rendering import RECORD

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'render_clips.py'
SMALL = ['--clips', '2', '--val-clips', '1', '--frames', '3', '--val-frames', '2', '--size', '64x48', '--workers', '1']


def render(*words):
    return runpy.run_path(str(SCRIPT))['main']([str(word) for word in words])


def read(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*.png')}


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Five photographs, each of one colour of its own, so that a rendered frame tells where it comes from."""
    folder = tmp_path_factory.mktemp('photos')
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 40, (90, 120, 3))
        cv2.imwrite(str(folder / f'{number}.png'), (noise + 50 * number).astype(np.uint8))
    return folder


@pytest.fixture(scope='module')
def rendered(photos, tmp_path_factory):
    target = tmp_path_factory.mktemp('rendered')
    assert render(photos, target, *SMALL) == 0
    return target


def test_the_folders_are_reds_own(rendered):
    expected = {'train': ['000', '001'], 'val': ['000']}
    for split, clips in expected.items():
        frames = 3 if split == 'train' else 2
        for kind in KINDS:
            place = find_set(rendered, split, kind)
            assert place is not None
            source = FrameFolder(place.path)
            assert source.keys == [f'{clip}/{number:08d}' for clip in clips for number in range(frames)]
            assert source.shape(source.keys[0]) == ((12, 16, 3) if kind.inner else (48, 64, 3))


def test_low_resolution_frames_are_the_sharp_ones_and_the_blurred_ones_four_times_smaller(rendered):
    train = rendered / 'train'
    name = '001/00000001.png'
    sharp = read(train / 'train_sharp' / name)
    small_sharp = read(train / 'train_sharp_bicubic' / 'X4' / name)
    small_blurred = read(train / 'train_blur_bicubic' / 'X4' / name)
    assert np.array_equal(small_sharp, downsample_uint8(sharp, 4))
    assert not np.array_equal(small_blurred, small_sharp)
    assert abs(small_blurred.mean() - small_sharp.mean()) < 4  # another exposure of the same scene


def test_any_number_of_workers_gives_the_same_bytes(photos, rendered, tmp_path):
    environment = {'PYTHONPATH': str(SCRIPT.parents[1])}
    words = [SCRIPT, photos, tmp_path / 'two', *SMALL[:-1], '2']
    done = run_python(*words, cwd=SCRIPT.parents[1], environment=environment)
    assert done.returncode == 0, done.stderr
    assert 'basicsr prepare-reds' in done.stdout
    assert contents(tmp_path / 'two') == contents(rendered)


def test_another_seed_gives_other_clips(photos, rendered, tmp_path):
    assert render(photos, tmp_path / 'other', *SMALL, '--seed', 1) == 0
    name = 'train/train_sharp/000/00000000.png'
    assert contents(tmp_path / 'other')[name] != contents(rendered)[name]


def test_begun_again_it_renders_only_what_is_not_whole(photos, rendered, tmp_path, capsys):
    target = tmp_path / 'again'
    shutil.copytree(rendered, target)
    whole = target / 'train/train_sharp/000/00000000.png'
    before = whole.stat().st_mtime_ns
    (target / 'train/train_blur_bicubic/X4/001/00000002.png').unlink()  # half a clip
    shutil.rmtree(target / 'val/val_sharp')  # killed before the last of the three folders was in place
    half = unfinished_path(target / 'val/val_sharp/000')
    half.mkdir(parents=True)
    (half / '00000000.png').write_bytes(b'half a pict')
    assert render(photos, target, *SMALL) == 0
    assert '1 of 3 clips are there' in capsys.readouterr().out
    assert contents(target) == contents(rendered)
    assert whole.stat().st_mtime_ns == before
    assert not half.exists()


def test_more_clips_are_added_to_those_that_are_there(photos, rendered, tmp_path):
    target = tmp_path / 'more'
    shutil.copytree(rendered, target)
    assert render(photos, target, *SMALL, '--clips', 3) == 0
    assert contents(target).items() > contents(rendered).items()
    assert (target / 'train/train_sharp/002/00000002.png').exists()


def test_training_and_validation_share_no_photograph(rendered):
    used = json.loads((rendered / 'rendered_clips.json').read_text())['photographs']
    assert len(used['train']) == 4
    assert len(used['val']) == 1
    assert not set(used['train']) & set(used['val'])
    # The pictures say the same: a photograph of this test holds the levels 50 n to 50 n + 40, overshoot aside.
    held_out = int(next(iter(used['val'].values())).split('.')[0])
    for path in (rendered / 'val/val_sharp').rglob('*.png'):
        assert read(path).mean() == pytest.approx(50 * held_out + 20, abs=6)
    for path in (rendered / 'train/train_sharp').rglob('*.png'):
        levels = cv2.blur(read(path), (7, 7))[4:-4, 4:-4]
        assert (np.abs(levels.astype(float) - (50 * held_out + 20)).max(axis=2) < 3).mean() < 0.05


class TestRefusals:
    def refused(self, capsys, *words):
        assert render(*words) == 2
        return capsys.readouterr().err

    def test_other_settings_in_the_same_folder(self, photos, rendered, capsys):
        before = contents(rendered)
        message = self.refused(capsys, photos, rendered, *SMALL, '--seed', 7)
        assert 'seed 0 (now 7)' in message
        assert 'softness 0.0 (now 1.25)' in self.refused(capsys, photos, rendered, *SMALL, '--softness', 1.25)
        assert 'defocus 0.0 (now 8.0)' in self.refused(capsys, photos, rendered, *SMALL, '--defocus', 8)
        assert contents(rendered) == before

    def test_a_folder_of_something_else(self, photos, tmp_path, capsys):
        (tmp_path / 'thesis.txt').write_text('precious')
        assert 'not empty' in self.refused(capsys, photos, tmp_path, *SMALL)

    @pytest.mark.parametrize('content', ['{"seed": ', '[]'])
    def test_a_record_that_cannot_be_read(self, photos, tmp_path, capsys, content):
        (tmp_path / 'clips').mkdir()
        record = tmp_path / 'clips' / RECORD
        record.write_text(content)
        assert f'{record} cannot be read' in self.refused(capsys, photos, tmp_path / 'clips', *SMALL)
        assert [path.read_text() for path in (tmp_path / 'clips').iterdir()] == [content]

    def test_no_photographs(self, tmp_path, capsys):
        assert 'no such folder' in self.refused(capsys, tmp_path / 'nowhere', tmp_path / 'target', *SMALL)
        (tmp_path / 'empty').mkdir()
        assert 'holds no photographs' in self.refused(capsys, tmp_path / 'empty', tmp_path / 'target', *SMALL)

    def test_every_bad_photograph_is_named(self, photos, tmp_path, capsys):
        folder = tmp_path / 'mixed'
        shutil.copytree(photos, folder)
        (folder / 'broken.jpg').write_bytes(b'not a picture')
        cv2.imwrite(str(folder / 'tiny.png'), np.zeros((50, 70, 3), np.uint8))
        message = self.refused(capsys, folder, tmp_path / 'target', *SMALL)
        assert 'broken.jpg' in message
        assert 'tiny.png is 70x50' in message
        assert not (tmp_path / 'target').exists()

    def test_the_same_photograph_twice(self, photos, tmp_path, capsys):
        folder = tmp_path / 'twice'
        shutil.copytree(photos, folder)
        shutil.copy(folder / '0.png', folder / 'copy.png')
        assert 'are the same file' in self.refused(capsys, folder, tmp_path / 'target', *SMALL)

    def test_one_photograph_cannot_be_held_out(self, photos, tmp_path, capsys):
        folder = tmp_path / 'one'
        folder.mkdir()
        shutil.copy(photos / '0.png', folder)
        assert '--val-clips 0' in self.refused(capsys, folder, tmp_path / 'target', *SMALL)
        assert render(folder, tmp_path / 'target', *SMALL, '--val-clips', 0) == 0

    def test_a_full_disk(self, photos, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(shutil, 'disk_usage', lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**3))
        assert 'are free' in self.refused(capsys, photos, tmp_path / 'target', *SMALL)
        assert not contents(tmp_path / 'target')

    @pytest.mark.parametrize('size', ['66x48', '16x16', 'large'])
    def test_a_size_that_does_not_divide_by_four(self, photos, tmp_path, size):
        with pytest.raises(SystemExit) as stop:
            render(photos, tmp_path / 'target', '--size', size)
        assert stop.value.code == 2


def test_scikit_images_own_photographs(tmp_path):
    assert render('skimage', tmp_path / 'clips', *SMALL) == 0
    used = json.loads((tmp_path / 'clips' / 'rendered_clips.json').read_text())['photographs']
    names = {split: sorted(photos.values()) for split, photos in used.items()}
    assert {'motorcycle_left.png', 'motorcycle_right.png'} <= set(names['train'])
    assert names['val'] == ['astronaut.png', 'coffee.png']


def test_stills_are_sharp_and_other_clips_are_not(photos, tmp_path):
    target = tmp_path / 'stills'
    assert render(photos, target, *SMALL, '--clips', 4, '--val-clips', 0, '--stills', 1, '--softness', 2) == 0
    for name in ('000/00000000.png', '003/00000002.png'):
        small = [read(target / 'train' / f'train_{kind}' / 'X4' / name) for kind in ('blur_bicubic', 'sharp_bicubic')]
        assert np.array_equal(*small)
    frames = [read(target / f'train/train_sharp/000/{number:08d}.png') for number in range(3)]
    assert not np.array_equal(frames[0], frames[1])
    assert json.loads((target / RECORD).read_text())['shares']['stills'] == 1
    # other shares are other pictures, which the record keeps apart
    assert render(photos, target, *SMALL, '--clips', 4, '--val-clips', 0, '--softness', 2) == 2


@pytest.mark.parametrize('wrong', [['--stills', '1.2'], ['--sharp', 'much']])
def test_wrong_shares_are_reported(photos, tmp_path, wrong, capsys):
    with pytest.raises(SystemExit, match='2'):
        render(photos, tmp_path / 'none', *SMALL, *wrong)
    assert wrong[0] in capsys.readouterr().err
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize(
    ('words', 'text'),
    [
        (['--soft-stills', '1', '--softness', '2'], '--soft-stills has no effect without --stills'),
        (['--sharp', '0.5'], 'no effect without --softness or --defocus'),
    ],
)
def test_shares_without_effect_are_reported(photos, tmp_path, words, text, capsys):
    assert render(photos, tmp_path / 'clips', *SMALL, '--clips', 1, '--val-clips', 0, *words) == 0
    assert text in capsys.readouterr().err


def test_shares_that_are_above_one_together_are_reported(photos, tmp_path, capsys):
    assert render(photos, tmp_path / 'none', *SMALL, '--dark', '0.7', '--bright', '0.7') == 2
    assert '--dark 0.7 and --bright 0.7 are above 1 together' in capsys.readouterr().err
    assert not (tmp_path / 'none').exists()


def test_validation_alone_takes_all_photographs(photos, tmp_path):
    target = tmp_path / 'val'
    assert render(photos, target, *SMALL, '--clips', 0, '--val-clips', 5) == 0
    assert len(json.loads((target / RECORD).read_text())['photographs']['val']) == 5

"""The sheet and its numbers, from real stores and folders."""

import json
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.utils.matlab_functions import imresize as toolbox_imresize

from pdan_plugin.data.frame_store_writer import FrameStoreWriter
from pdan_plugin.report.picture_sheet import enlarge, evenly_spread, textured_place
from pdan_plugin.synthesis.bicubic import downsample_uint8

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'picture_sheet.py'
KEYS = ['000/00000000', '000/00000001', '003/00000000']


def sheet(*words):
    return runpy.run_path(str(SCRIPT))['main']([str(word) for word in words])


def read(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


@pytest.fixture
def frames():
    """Key -> ground truth (48, 64, 3) RGB, red above green above blue so that swapped channels would show."""
    rng = np.random.default_rng(0)
    pictures = {}
    for key in KEYS:
        noise = cv2.GaussianBlur(rng.uniform(0, 255, (48, 64, 3)).astype(np.float32), (0, 0), 1.5)
        pictures[key] = np.clip((noise - 127) * 2 + [190, 120, 60], 0, 255).astype(np.uint8)
    return pictures


@pytest.fixture
def folders(frames, tmp_path):
    """lr, gt, and two results: one grey level off the truth, and 40 off."""
    for key, gt in frames.items():
        write(tmp_path / 'gt' / f'{key}.png', gt)
        write(tmp_path / 'lr' / f'{key}.png', downsample_uint8(gt, 4))
        for name, fault in (('good', 1), ('bad', 40)):
            write(
                tmp_path / name / f'{key.replace("/", "_")}.png',
                np.where(gt < 128, gt + fault, gt - fault).astype(np.uint8),
            )
    return tmp_path


def sources(folder):
    return ['--lr', folder / 'lr', '--gt', folder / 'gt', '-o', folder / 'out' / 'sheet.png']


def test_numbers_are_the_toolboxs_own(folders, frames, capsys):
    good, bad = f'good={folders / "good"}', f'bad={folders / "bad"}'
    assert sheet(*sources(folders), '--results', bad, good, '--json') == 0
    scores = json.loads((folders / 'out' / 'sheet.json').read_text())
    bicubic = []
    for key, gt in frames.items():
        lr = read(folders / 'lr' / f'{key}.png')
        up = np.rint(np.clip(toolbox_imresize(lr / 255.0, 4), 0, 1) * 255)
        bicubic.append((calculate_psnr(up, gt, 0), calculate_ssim(up, gt, 0)))
        assert scores['psnr']['bicubic'][key] == pytest.approx(bicubic[-1][0], abs=1e-3)
    assert scores['frames'] == 3
    assert scores['mean']['bicubic']['psnr'] == pytest.approx(np.mean(bicubic, axis=0)[0], abs=1e-3)
    assert scores['mean']['bicubic']['ssim'] == pytest.approx(np.mean(bicubic, axis=0)[1], abs=1e-4)
    assert scores['mean']['good']['psnr'] == pytest.approx(20 * np.log10(255), abs=1e-6)
    assert scores['mean']['bad']['gain_db'] == pytest.approx(
        20 * np.log10(255 / 40) - scores['mean']['bicubic']['psnr'], abs=1e-6
    )
    printed = capsys.readouterr().out
    assert f'{scores["mean"]["good"]["gain_db"]:+.2f} dB' in printed
    assert 'mean over 3 frames' in printed


def test_a_store_and_a_folder_give_the_same_sheet(folders, frames):
    for kind in ('lr', 'gt'):
        with FrameStoreWriter(folders / f'{kind}.lmdb') as store:
            for key in KEYS:
                store.add(key, read(folders / kind / f'{key}.png'))
            store.finish()
    good = f'good={folders / "good"}'
    assert sheet(*sources(folders), '--results', good) == 0
    assert (
        sheet('--lr', folders / 'lr.lmdb', '--gt', folders / 'gt.lmdb', '-o', folders / 'store.png', '--results', good)
        == 0
    )
    assert (folders / 'store.png').read_bytes() == (folders / 'out' / 'sheet.png').read_bytes()


def test_the_sheet_has_a_row_a_frame_and_a_column_a_picture(folders, frames):
    good = f'good={folders / "good"}'
    assert sheet(*sources(folders), '--results', good, '--frames', KEYS[2], KEYS[0]) == 0
    picture = read(folders / 'out' / 'sheet.png')
    assert picture.shape[1] == 4 * 328  # LR, bicubic, good, GT
    top = 26
    for column, wanted in ((0, None), (3, frames[KEYS[2]])):
        whole = picture[top : top + 240, 328 * column : 328 * column + 320]
        if wanted is None:
            wanted = downsample_uint8(frames[KEYS[2]], 4)
        shown = whole[2 :: 320 // wanted.shape[1], 2 :: 320 // wanted.shape[1]]
        same = (shown == wanted).all(axis=2).mean()
        assert same > 0.7  # all but the drawn rectangle
    row = (picture.shape[0] - top) // 2
    second = picture[top + row : top + row + 240, 984 : 984 + 320][2::5, 2::5]
    assert (second == frames[KEYS[0]]).all(axis=2).mean() > 0.7


@pytest.mark.parametrize(('last', 'status'), [('good', 0), ('bad', 1)])
def test_the_gain_asked_for_decides_the_exit_status(folders, last, status):
    first = 'bad' if last == 'good' else 'good'
    results = [f'{name}={folders / name}' for name in (first, last)]
    assert sheet(*sources(folders), '--results', *results, '--require-gain', 0.3) == status
    assert (folders / 'out' / 'sheet.png').exists()


def test_the_detail_shown_is_where_the_contours_are():
    image = np.full((192, 320, 3), 90, np.uint8)
    image[100:140, 200:270] = np.random.default_rng(0).integers(0, 255, (40, 70, 3))
    left, top, width, height = textured_place(image)
    assert left <= 200
    assert left + width >= 270
    assert top <= 100
    assert top + height >= 140


def test_frames_are_spread_over_all():
    assert evenly_spread('abcdefghi', 3) == ['a', 'e', 'i']
    assert evenly_spread('ab', 6) == ['a', 'b']


def test_enlarging_a_flat_picture_keeps_its_level():
    assert (enlarge(np.full((5, 7, 3), 201, np.uint8), 4) == np.full((20, 28, 3), 201)).all()


class TestRefusals:
    def refused(self, capsys, *words):
        assert sheet(*words) == 2
        return capsys.readouterr().err

    def test_missing_frames_are_named(self, folders, capsys):
        (folders / 'good' / '003_00000000.png').unlink()
        message = self.refused(capsys, *sources(folders), '--results', f'good={folders / "good"}')
        assert '1 of 3 frames are missing: 003_00000000' in message
        (folders / 'lr' / '000' / '00000001.png').unlink()
        assert '000/00000001' in self.refused(capsys, *sources(folders))
        assert not (folders / 'out').exists()

    def test_frames_without_a_truth(self, folders, capsys):
        shutil.rmtree(folders / 'gt' / '003')
        message = self.refused(capsys, *sources(folders))
        assert 'gt (ground truth' in message
        assert '003/00000000' in message

    def test_missing_sources(self, folders, capsys):
        assert 'nowhere' in self.refused(capsys, '--lr', folders / 'nowhere', '--gt', folders / 'gt', '-o', 'a.png')
        assert 'nowhere.lmdb' in self.refused(
            capsys, '--lr', folders / 'nowhere.lmdb', '--gt', folders / 'gt', '-o', 'a.png'
        )
        assert 'save_img' in self.refused(capsys, *sources(folders), '--results', f'x={folders / "nowhere"}')

    def test_a_result_of_another_size(self, folders, capsys):
        write(folders / 'good' / '000_00000001.png', np.zeros((24, 32, 3), np.uint8))
        message = self.refused(capsys, *sources(folders), '--results', f'good={folders / "good"}')
        assert '000_00000001.png is 32x24' in message

    def test_a_frame_that_is_not_there(self, folders, capsys):
        assert '009/00000000' in self.refused(capsys, *sources(folders), '--frames', '009/00000000')

    def test_a_gain_without_a_result(self, folders, capsys):
        assert '--require-gain needs a result' in self.refused(capsys, *sources(folders), '--require-gain', 0.3)

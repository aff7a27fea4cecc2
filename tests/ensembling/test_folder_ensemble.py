"""scripts/ensemble.py on real folders: what is matched, what is written, what is said before anything is."""

import csv
import json
import os
import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim

from pdan_plugin.data.frame_store_writer import FrameStoreWriter
from pdan_plugin.ensembling.patch_ensemble import patch_weights, plain_mean, weighted_mean
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'ensemble.py'
NAMES = ['000_00000000', '000_00000001', '003_00000000']
MODELS = ('one', 'two', 'three')


def ensemble(*words):
    return runpy.run_path(str(SCRIPT))['main']([str(word) for word in words])


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def truth():
    """Name -> (45, 62, 3); the channels differ, so that swapped ones would show."""
    rng = np.random.default_rng(0)
    pictures = {}
    for name in NAMES:
        smooth = cv2.GaussianBlur(rng.uniform(0, 255, (45, 62, 3)).astype(np.float32), (0, 0), 1.2)
        pictures[name] = np.clip((smooth - 127) * 2 + [190, 120, 60], 0, 255).astype(np.uint8)
    return pictures


@pytest.fixture
def results(truth, tmp_path):
    """Model -> name -> picture; `one` and `two` lie as basicsr test leaves them, `three` in a plain folder."""
    rng = np.random.default_rng(1)
    pictures = {model: {} for model in MODELS}
    for model in MODELS:
        folder = tmp_path / model if model == 'three' else tmp_path / 'results' / model / 'visualization' / 'held-out'
        for name, picture in truth.items():
            noisy = np.clip(picture + rng.normal(0, 12, picture.shape), 0, 255).astype(np.uint8)
            pictures[model][name] = noisy
            write(folder / f'{name}.png', noisy)
    return pictures


@pytest.fixture
def folders(results, tmp_path):
    return [tmp_path / 'results' / 'one', tmp_path / 'results' / 'two', tmp_path / 'three']


@pytest.fixture
def out(tmp_path):
    return tmp_path / 'merged'


def merged_by_hand(pictures, blend, sharpness='tenengrad', grid=4):
    return weighted_mean(pictures, patch_weights(pictures, FOCUS_FUNCTIONS[sharpness], grid), blend=blend)


@pytest.mark.parametrize(
    ('words', 'by_hand'),
    [
        ([], lambda pictures: merged_by_hand(pictures, False)),
        (['--blend'], lambda pictures: merged_by_hand(pictures, True)),
        (['--blend', '--sharpness', 'smd2', '--grid', '3'], lambda pictures: merged_by_hand(pictures, True, 'smd2', 3)),
        (['--mean'], plain_mean),
    ],
)
def test_pictures_are_merged_by_name(folders, results, out, words, by_hand):
    assert ensemble(*folders, '-o', out, *words) == 0
    assert {path.name for path in out.iterdir()} == {f'{name}.png' for name in NAMES} | {'ensemble.json'}
    for name in NAMES:
        np.testing.assert_array_equal(read(out / f'{name}.png'), by_hand([results[model][name] for model in MODELS]))


@pytest.mark.parametrize('kind', ['store', 'clips', 'folder'])
def test_scores_are_the_toolboxs_own(folders, results, truth, out, tmp_path, capsys, kind):
    place = tmp_path / ('gt.lmdb' if kind == 'store' else 'gt')
    extra = {'009_00000000': truth[NAMES[0]]}  # ground truth may have more
    if kind == 'store':
        with FrameStoreWriter(place) as writer:
            for name, picture in {**truth, **extra}.items():
                writer.add(name.replace('_', '/'), picture)
            writer.finish()
    for name, picture in {} if kind == 'store' else {**truth, **extra}.items():
        write(place / f'{name.replace("_", "/") if kind == "clips" else name}.png', picture)
    assert ensemble(*folders, '-o', out, '--gt', place) == 0
    with open(out / 'scores.csv', newline='') as file:
        rows = {row['image']: row for row in csv.DictReader(file)}
    assert list(rows) == NAMES
    means = {}
    for name in NAMES:
        pictures = {model: results[model][name] for model in MODELS}
        group = list(pictures.values())
        pictures |= {
            'mean': plain_mean(group),
            'patches': merged_by_hand(group, False),
            'blended': merged_by_hand(group, True),
        }
        for method, picture in pictures.items():
            psnr = calculate_psnr(picture, truth[name], crop_border=0)
            assert float(rows[name][f'{method}_psnr']) == pytest.approx(psnr, abs=1e-6)
            ssim = calculate_ssim(picture, truth[name], crop_border=0)
            assert float(rows[name][f'{method}_ssim']) == pytest.approx(ssim, abs=1e-6)
            means.setdefault(method, []).append(psnr)
    printed = capsys.readouterr().out
    assert f'{np.mean(means["blended"]):.3f}' in next(line for line in printed.splitlines() if 'blended' in line)
    best = max(np.mean(means[model]) for model in MODELS)
    gain = next(line for line in printed.splitlines() if line.startswith('plain mean'))
    assert gain.endswith(f'{np.mean(means["mean"]) - best:+.3f} dB')
    assert np.mean(means['mean']) > best + 2  # independent noise: three pictures' mean has a third of it


def test_every_mismatch_is_told_at_once_and_nothing_is_written(folders, truth, results, out, tmp_path, capsys):
    (folders[0] / 'visualization' / 'held-out' / f'{NAMES[0]}.png').unlink()
    write(folders[2] / 'only_here.png', truth[NAMES[0]])
    write(folders[2] / f'{NAMES[1]}.png', truth[NAMES[1]][:40])
    (folders[2] / f'{NAMES[2]}.png').write_text('no picture')
    write(tmp_path / 'gt' / f'{NAMES[1]}.png', truth[NAMES[1]])
    write(tmp_path / 'gt' / f'{NAMES[2]}.png', truth[NAMES[2]])
    assert ensemble(*folders, '-o', out, '--gt', tmp_path / 'gt') == 2
    told = capsys.readouterr().err
    one, two = (folder / 'visualization' / 'held-out' for folder in folders[:2])
    assert f'{one} lacks pictures that others have (2 of 4): {NAMES[0]}, only_here' in told
    assert f'{two} lacks pictures that others have (1 of 4): only_here' in told
    assert f'{NAMES[1]}: one 62x45, two 62x45, three 62x40, ground truth 62x45' in told
    assert f'{folders[2] / NAMES[2]}.png: is not a PNG' in told
    assert f'{tmp_path / "gt"} (ground truth) lacks pictures (2 of 4): {NAMES[0]}, only_here' in told
    assert not out.exists()


def test_a_damaged_picture_does_not_stop_the_others(folders, results, out, capsys):
    damaged = folders[2] / f'{NAMES[1]}.png'
    damaged.write_bytes(damaged.read_bytes()[:-200])  # its header is right, so that it shows only when it is read
    assert ensemble(*folders, '-o', out) == 1
    captured = capsys.readouterr()
    assert f'{damaged}: is a truncated PNG' in captured.err
    assert '2 of 3 pictures' in captured.out
    assert {path.stem for path in out.glob('*.png')} == {NAMES[0], NAMES[2]}
    write(damaged, results['three'][NAMES[1]])
    assert ensemble(*folders, '-o', out) == 0
    assert {path.stem for path in out.glob('*.png')} == set(NAMES)


def test_called_again_it_does_what_is_left(folders, truth, results, out, tmp_path, monkeypatch, capsys):
    for name, picture in truth.items():
        write(tmp_path / 'gt' / f'{name}.png', picture)
    words = [*folders, '-o', out, '--gt', tmp_path / 'gt']
    real = cv2.imencode
    calls = []

    def interrupted_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(cv2, 'imencode', interrupted_at_the_second)
    assert ensemble(*words) == 130
    assert {path.name for path in out.iterdir()} == {f'{NAMES[0]}.png', 'ensemble.json', 'scores.csv'}
    first = (out / f'{NAMES[0]}.png').stat().st_mtime_ns
    assert ensemble(*words) == 0
    assert (out / f'{NAMES[0]}.png').stat().st_mtime_ns == first
    whole = contents(out)
    monkeypatch.setattr(cv2, 'imencode', lambda *_: pytest.fail('everything is there'))
    capsys.readouterr()
    assert ensemble(*words) == 0
    assert 'mean over 3 pictures' in capsys.readouterr().out
    monkeypatch.undo()
    assert contents(out) == whole

    # a model's picture made anew is merged anew, and only that one
    changed = folders[2] / f'{NAMES[1]}.png'
    write(changed, 255 - results['three'][NAMES[1]])
    later = (out / f'{NAMES[1]}.png').stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later))
    assert ensemble(*words) == 0
    differing = {name for name, data in contents(out).items() if data != whole[name]}
    assert differing == {f'{NAMES[1]}.png', 'scores.csv'}


def test_scores_against_another_truth_are_not_kept(folders, truth, out, tmp_path, capsys):
    for name, picture in truth.items():
        write(tmp_path / 'gt' / f'{name}.png', picture)
        write(tmp_path / 'older' / f'{name}.png', 255 - picture)
        os.utime(tmp_path / 'older' / f'{name}.png', ns=(1, 1))
    assert ensemble(*folders, '-o', out) == 0  # scores can be asked for afterwards
    assert ensemble(*folders, '-o', out, '--gt', tmp_path / 'gt') == 0
    good = capsys.readouterr().out.splitlines()[-6:]
    assert ensemble(*folders, '-o', out, '--gt', tmp_path / 'older') == 0
    assert capsys.readouterr().out.splitlines()[-6:-4] != good[:2]
    row = next(csv.DictReader((out / 'scores.csv').read_text().splitlines()))
    assert float(row['one_psnr']) < 12


def test_a_folder_in_use_is_left_alone(folders, out, capsys, tmp_path):
    assert ensemble(*folders, '-o', out) == 0
    whole = contents(out)
    assert ensemble(*folders, '-o', out, '--blend') == 2
    assert 'merge differ' in capsys.readouterr().err
    assert ensemble(*folders[:2], '-o', out) == 2
    assert contents(out) == whole
    models = contents(folders[2])
    assert ensemble(*folders, '-o', folders[2]) == 2
    assert 'already holds pictures' in capsys.readouterr().err
    assert contents(folders[2]) == models
    (tmp_path / 'file').write_text('x')
    assert ensemble(*folders, '-o', tmp_path / 'file') == 2
    assert ensemble(*folders, '-o', tmp_path / 'file' / 'inside') == 2
    assert (tmp_path / 'file').read_text() == 'x'


def test_requests_that_make_no_sense_are_told(folders, truth, out, tmp_path, capsys):
    def told(*words):
        assert ensemble(*words, '-o', out) == 2
        assert not out.exists()
        return capsys.readouterr().err

    assert 'two models' in told(folders[0])
    assert 'given twice' in told(folders[0], folders[0] / 'visualization' / 'held-out')
    assert 'no such folder' in told(folders[0], tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    assert 'no PNGs in it' in told(folders[0], tmp_path / 'empty')
    assert '--mean uses no weights' in told(*folders, '--mean', '--grid', '2')
    write(folders[0] / 'visualization' / 'other set' / 'a.png', truth[NAMES[0]])
    message = told(*folders)
    assert 'holds 2 data sets (held-out, other set)' in message
    for name in NAMES:
        for model in ('a', 'b', 'gt'):
            write(tmp_path / model / f'{name}.png', truth[name][:8])
    assert '11x11 window of SSIM' in told(tmp_path / 'a', tmp_path / 'b', '--gt', tmp_path / 'gt')
    assert ensemble(tmp_path / 'a', tmp_path / 'b', '-o', out) == 0


def test_a_runs_suffix_is_no_part_of_a_name(folders, results, out):
    """basicsr test with val.suffix calls its pictures NAME_SUFFIX.png, and says so in its record."""
    place = folders[0] / 'visualization' / 'held-out'
    for name in NAMES:
        (place / f'{name}.png').rename(place / f'{name}_x8.png')
    (folders[0] / 'test.json').write_text(json.dumps({'datasets': {'held-out': {'suffix': 'x8'}}}))
    (folders[1] / 'test.json').write_text(json.dumps({'datasets': {'held-out': {'suffix': None}}}))
    assert ensemble(*folders, '-o', out) == 0
    assert {path.stem for path in out.glob('*.png')} == set(NAMES)


def test_models_of_one_name_and_models_called_mean_stay_apart(truth, out, tmp_path, monkeypatch):
    for model in ('a/net', 'b/net', 'mean', 'gt'):
        for name, picture in truth.items():
            write(tmp_path / model / f'{name}.png', picture)
    words = [tmp_path / 'a' / 'net', tmp_path / 'b' / 'net', tmp_path / 'mean']
    monkeypatch.chdir(tmp_path)
    assert ensemble(words[0], words[1], 'mean', '-o', out, '--gt', tmp_path / 'gt') == 0
    columns = next(csv.reader((out / 'scores.csv').read_text().splitlines()))[1::2]
    assert columns == [f'{word}_psnr' for word in words] + ['mean_psnr', 'patches_psnr', 'blended_psnr']

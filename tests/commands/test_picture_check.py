"""Every picture of a data set is looked at before a run: stray files, what is no picture, sizes that do not match."""

import os
import shutil
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset, data_util
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from child_processes import PYTHON_PATH
from PIL import Image
from small_run import changed, dataset, train_options, write_options, write_pictures
from warm_processes import run_python

from pdan_plugin.commands.data_check import check_data
from pdan_plugin.commands.worker_failures import worker_failure
from pdan_plugin.data.training_pictures import picture_size
from pdan_plugin.errors import RequestError

STRAY = {
    'Thumbs.db': b'\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1' + bytes(600),
    'desktop.ini': b'[.ShellClassInfo]\r\n',
    '.DS_Store': b'\0\0\0\1Bud1' + bytes(90),
    '._000.png': b'\0\5\x16\7' + bytes(90),
    'readme.txt': b'pictures of a cat',
    'checksums': b'0' * 32,
    'empty': b'',
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options(phase='train', **further):
    values = dataset(phase=phase, scale=4, **further)
    if phase == 'train':
        values |= {'gt_size': 32, 'use_hflip': False, 'use_rot': False}
        values |= {'num_worker_per_gpu': 0, 'batch_size_per_gpu': 2}
    return values


def check(values):
    return check_data(values, 'datasets.x', 4, 'my.yml')


def refusal(values):
    with pytest.raises(RequestError) as refused:
        check(values)
    return str(refused.value)


def leave_stray_files(*folders):
    for place in folders:
        for name, content in STRAY.items():
            (place / name).write_bytes(content)
        (place / '@eaDir' / '000.png').mkdir(parents=True)
        (place / '@eaDir' / '000.png' / 'SYNOPHOTO_THUMB_M.jpg').write_bytes(b'\xff\xd8')
        (place / '__MACOSX').mkdir()
        (place / '__MACOSX' / '._000.png').write_bytes(b'\0\5\x16\7')


def paths(values):
    return [pair['lq_path'] if isinstance(pair, dict) else str(pair) for pair in build_dataset(values).paths]


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_stray_files_are_left_out_of_pairs(folder, capfd, phase):
    expected = paths(options(phase))
    leave_stray_files(folder / 'gt', folder / 'lq')
    assert paths(options(phase)) == expected == [f'lq/{number:03d}.png' for number in range(6)]
    assert check(options(phase)).samples == 6
    first = build_dataset(options('val'))[0]['lq']
    levels = cv2.imread('lq/000.png')[..., ::-1].astype(np.float32) / 255
    assert torch.equal(first, torch.from_numpy(levels).permute(2, 0, 1))


def test_stray_files_beside_folders_of_clips(folder):
    """The folder holds no picture itself; Thumbs.db is no reason to read it without its clips."""
    for name in ('gt', 'lq'):
        clips = folder / f'{name}_clips'
        shutil.copytree(folder / name, clips / '000')
        shutil.copytree(folder / name, clips / '001')
        leave_stray_files(clips, clips / '000')
    values = options('val') | {'dataroot_gt': 'gt_clips', 'dataroot_lq': 'lq_clips'}
    assert paths(values) == [f'lq_clips/{clip}/{number:03d}.png' for clip in ('000', '001') for number in range(6)]
    reds = values | {'type': 'REDSPairedDataset'}
    assert check(reds).samples == 12
    assert [build_dataset(reds)[index]['lq_path'] for index in (0, 11)] == ['lq_clips/000/000', 'lq_clips/001/005']


def test_stray_files_in_the_other_lists(folder):
    leave_stray_files(folder / 'lq', folder / 'gt')
    single = {'name': 'x', 'type': 'SingleImageDataset', 'dataroot_lq': 'lq', 'io_backend': {'type': 'disk'},
              'phase': 'test', 'scale': 4}  # fmt: skip
    assert paths(single) == [f'lq/{number:03d}.png' for number in range(6)]
    assert sorted(data_util.paths_from_folder('gt')) == [f'gt/{number:03d}.png' for number in range(6)]
    for name in ('gt', 'lq'):
        (folder / 'clips' / name).mkdir(parents=True)
        (folder / name).rename(folder / 'clips' / name / '000')
        leave_stray_files(folder / 'clips' / name)
    video = {'name': 'REDS4', 'type': 'VideoTestDataset', 'dataroot_gt': 'clips/gt', 'dataroot_lq': 'clips/lq',
             'io_backend': {'type': 'disk'}, 'cache_data': False, 'num_frame': 3, 'padding': 'replicate',
             'phase': 'val', 'scale': 4}  # fmt: skip
    assert check(video).samples == 6
    assert build_dataset(video)[0]['gt'].shape == (3, 96, 128)


def test_what_is_left_out_is_reported(folder):
    leave_stray_files(folder / 'gt', folder / 'lq')
    write_options(folder, {**train_options(), 'num_gpu': 0})
    for verb in ('check', 'train'):
        finished = run_python('-m', 'pdan_plugin', verb, '-opt', 'small.yml', cwd=folder)
        assert finished.returncode == 0, finished.stderr
        said = finished.stdout + finished.stderr
        for name in ('gt', 'lq'):
            assert f'{name}: left out, because they are no pictures: Thumbs.db, checksums, desktop.ini, empty' in said


def test_a_picture_without_a_known_ending_is_one(folder):
    for name in ('gt', 'lq'):
        (folder / name / '000.png').rename(folder / name / '000.dib')
        cv2.imwrite(str(folder / name / '001.ppm'), cv2.imread(str(folder / name / '001.png')))
        (folder / name / '001.png').unlink()
    assert sorted(paths(options('val')))[:2] == ['lq/000.dib', 'lq/001.ppm']
    assert check(options('val')).samples == 6


NO_PICTURES = {
    'zero bytes': (lambda place: place.write_bytes(b''), 'empty (0 bytes)'),
    'text': (lambda place: place.write_text('I am a text, named as a picture'), 'not an image'),
    'a broken link': (lambda place: (place.unlink(), place.symlink_to('nowhere')), 'cannot be read'),
    'half a header': (lambda place: place.write_bytes(place.read_bytes()[:12]), 'not an image'),
}


@pytest.mark.parametrize('form', NO_PICTURES)
@pytest.mark.parametrize('name', ['gt', 'lq'])
@pytest.mark.parametrize('kind', ['PairedImageDataset', 'REDSPairedDataset'])
def test_a_file_that_is_no_picture_is_named_whichever_it_is(folder, form, name, kind):
    spoil, told = NO_PICTURES[form]
    spoil(folder / name / '004.png')
    text = refusal(options(type=kind))
    assert text.startswith('my.yml: datasets.x: ')
    assert f'{name}/004.png' in text
    assert told in text or kind == 'REDSPairedDataset'


@pytest.mark.parametrize('size', [(24, 25), (25, 24), (24, 31), (23, 32), (48, 64), (96, 128), (1, 1)])
@pytest.mark.parametrize('kind', ['PairedImageDataset', 'REDSPairedDataset'])
def test_a_pair_of_other_sizes_is_named_whichever_it_is(folder, size, kind):
    cv2.imwrite('lq/003.png', np.zeros((*size, 3), np.uint8))
    text = refusal(options(type=kind))
    assert text.startswith('my.yml: datasets.x: ')
    assert '003' in text
    assert f'{size[1]}x{size[0]}' in text
    assert f'{4 * size[1]}x{4 * size[0]}' in text


def test_all_of_them_are_listed(folder):
    cv2.imwrite('lq/003.png', np.zeros((24, 25, 3), np.uint8))
    (folder / 'gt/005.png').write_bytes(b'')
    lines = refusal(options()).splitlines()
    assert lines[0] == 'my.yml: datasets.x: 2 pictures cannot be used; replace or remove them:'
    assert lines[1:] == [
        'lq/003.png: 25x24, but gt/003.png: 128x96; expected 100x96 at scale: 4',
        'gt/005.png: empty (0 bytes), expected an image; create or copy the file again',
    ]


def test_a_pipe_is_named_and_not_waited_for(folder):
    (folder / 'gt/003.png').unlink()
    os.mkfifo(folder / 'gt/003.png')
    # what waits for a reader gives it something, so that a check that reads the pipe fails instead of hanging
    threading.Thread(target=(folder / 'gt/003.png').write_bytes, args=(b'no picture',), daemon=True).start()
    assert 'gt/003.png: is a pipe, a socket or a device, expected a picture' in refusal(options())


def test_a_picture_smaller_than_a_crop_is_named(folder):
    cv2.imwrite('lq/002.png', np.zeros((6, 32, 3), np.uint8))
    cv2.imwrite('gt/002.png', np.zeros((24, 128, 3), np.uint8))
    assert 'gt/002.png: 128x24, smaller than gt_size: 32' in refusal(options())
    assert check(options('val')).samples == 6


def test_validation_crops_what_ground_truth_has_beyond(folder):
    """As the data set does for benchmarks; but a ground truth that is too small would end the validation."""
    cv2.imwrite('gt/004.png', np.zeros((99, 131, 3), np.uint8))
    assert check(options('val')).samples == 6
    assert build_dataset(options('val'))[4]['gt'].shape == (3, 96, 128)
    cv2.imwrite('gt/004.png', np.zeros((95, 131, 3), np.uint8))
    assert 'lq/004.png: 32x24, but gt/004.png: 131x95' in refusal(options('val'))


def test_stores_are_checked_by_their_lists(folder):
    for name in ('gt', 'lq'):
        names = [f'{number:03d}.png' for number in range(6)]
        keys = [name.removesuffix('.png') for name in names]
        if name == 'lq':
            cv2.imwrite('lq/005.png', np.zeros((24, 33, 3), np.uint8))
        make_lmdb_from_imgs(str(folder / name), f'{name}.lmdb', names, keys, compress_level=1)
        (folder / f'{name}.lmdb' / 'a folder').mkdir()
        (folder / f'{name}.lmdb' / 'Thumbs.db').write_bytes(STRAY['Thumbs.db'])
    stores = {'dataroot_gt': 'gt.lmdb', 'dataroot_lq': 'lq.lmdb', 'io_backend': {'type': 'lmdb'}}
    assert '005: 33x24, but 005: 128x96; expected 132x96 at scale: 4' in refusal(options(**stores))
    assert '005' in refusal(options(type='REDSPairedDataset', **stores))
    disk = options() | {'dataroot_gt': 'gt.lmdb', 'dataroot_lq': 'lq.lmdb'}
    assert 'is an LMDB store; set io_backend: {type: lmdb}' in refusal(disk)
    (folder / 'lq.lmdb' / 'meta_info.txt').unlink()
    (folder / 'lq.lmdb' / 'meta_info.txt').mkdir()
    for kind in ('PairedImageDataset', 'REDSPairedDataset'):
        assert 'no meta_info.txt' in refusal(options(type=kind, **stores))


def test_stores_and_clips_in_one_folder(folder):
    """The files of a store in the same folder as clips are no pictures."""
    for name in ('gt', 'lq'):
        shutil.copytree(folder / name, folder / 'both' / name / '000')
        (folder / 'both' / name / 'old.lmdb').mkdir()
        for file in ('data.mdb', 'lock.mdb', 'meta_info.txt'):
            (folder / 'both' / name / 'old.lmdb' / file).write_bytes(bytes(8))
    for kind in ('PairedImageDataset', 'REDSPairedDataset'):
        both = options(type=kind) | {'dataroot_gt': 'both/gt', 'dataroot_lq': 'both/lq'}
        assert check(both).samples == 6


def test_sizes_are_those_that_are_decoded(folder):
    picture = np.zeros((20, 30, 3), np.uint8)
    for name in ('a.png', 'a.jpg', 'a.bmp', 'a.webp', 'a.tif', 'a.ppm'):
        cv2.imwrite(name, picture)
        assert picture_size(name) == (20, 30)
    turned = Image.fromarray(picture)
    exif = turned.getexif()
    exif[274] = 6  # to be turned by a quarter
    for name in ('turned.jpg', 'turned.png'):
        turned.save(name, exif=exif)
        assert picture_size(name) == cv2.imread(name).shape[:2]
    assert picture_size('turned.jpg') == (30, 20)


def test_a_pair_that_changed_after_the_check_is_named_in_the_run(folder):
    pairs = build_dataset(options())
    cv2.imwrite('lq/003.png', np.zeros((24, 25, 3), np.uint8))
    with pytest.raises(RequestError, match=r'gt/003\.png: Scale mismatches. GT \(96, 128\).*LQ \(24, 25\)'):
        pairs[3]


CAUSES = {
    'Caught RuntimeError in DataLoader worker process 0.\n...\nRuntimeError: unable to allocate shared memory(shm) for '
    'file </torch_1_2_1>: No space left on device (28)': 'shared memory',
    'DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that your workers are out of '
    'shared memory.': 'shared memory',
    'Caught RuntimeError in DataLoader worker process 1.\nRuntimeError: unable to write to file </torch_9>': 'shared',
    'Caught RuntimeError in DataLoader worker process 1.\nOSError: [Errno 24] Too many open files': 'ulimit -n',
    'DataLoader worker (pid 7) is killed by signal: Killed. ': 'memory runs out',
}


@pytest.mark.parametrize('text', CAUSES)
def test_what_torch_says_of_workers_is_explained(text):
    failure = str(worker_failure(RuntimeError(text)))
    assert CAUSES[text] in failure
    assert 'datasets.train.num_worker_per_gpu' in failure
    assert '\n' not in failure


def test_the_signal_that_ended_a_worker_is_found_behind_torchs_error():
    signal = RuntimeError('DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...')
    with pytest.raises(RuntimeError) as raised:
        raise RuntimeError('DataLoader worker (pid(s) 7) exited unexpectedly') from signal
    assert 'the shared memory, through which workers pass batches, is full' in str(worker_failure(raised.value))


def test_other_errors_of_a_run_stay():
    assert worker_failure(RuntimeError('shared memory of a kernel is too small')) is None
    assert worker_failure(RuntimeError('Caught RuntimeError in DataLoader worker process 0.\na bug')) is None


def test_a_small_shared_memory_ends_the_run_with_the_cause_and_the_option(folder):
    values = changed({**train_options(), 'num_gpu': 0}, 'datasets.train.gt_size', 96)
    values['datasets']['train'] |= {'num_worker_per_gpu': 2, 'batch_size_per_gpu': 32, 'dataset_enlarge_ratio': 40}
    write_options(folder, values)
    command = f'mount -t tmpfs -o size=1m tmpfs /dev/shm && "{sys.executable}" -m pdan_plugin train -opt small.yml'
    if subprocess.run(['unshare', '-m', 'sh', '-c', command.split(' && ')[0]], capture_output=True).returncode:
        pytest.skip('this process may not mount')
    finished = subprocess.run(
        ['unshare', '-m', 'sh', '-c', command], capture_output=True, text=True, timeout=600,
        env={**os.environ, 'PYTHONPATH': PYTHON_PATH, 'OMP_NUM_THREADS': '1'},
    )  # fmt: skip
    assert finished.returncode == 1
    # torch's handler of the signal prints a line of each worker, also later, and a NUL
    said = next(line for line in finished.stderr.replace('\0', '').splitlines() if line.startswith('basicsr train:'))
    assert said.startswith('basicsr train: a data loader worker failed: the shared memory')
    assert '/dev/shm has 1.0 MiB' in said
    assert 'Lower datasets.train.num_worker_per_gpu' in said
    assert 'Traceback' not in finished.stderr

"""The commands of the README on a small REDS: prepare, check, the three phases, resume, two workers, test, restore."""

import os
import re
import signal
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from skimage import data
from warm_processes import WarmPython, run_python

from pdan_plugin.synthesis.bicubic import downsample_uint8

ROOT = Path(__file__).parents[2]
SMALL_NETWORK = [f'network_g:{key}' for key in ('num_feat=16', 'num_group=2', 'num_block=1', 'fuse_levels=2')]
# Phase 1's own file with its sizes reduced, and nothing else.
SMALL = [
    *SMALL_NETWORK, 'datasets:train:gt_size=32', 'datasets:train:batch_size_per_gpu=2',
    'datasets:train:num_worker_per_gpu=1', 'datasets:train:pin_memory=false', 'datasets:train:dataset_enlarge_ratio=1',
    'train:total_iter=6', 'val:val_freq=3', 'logger:print_freq=1', 'logger:save_checkpoint_freq=3',
]  # fmt: skip


def run(folder, *arguments, status=0):
    """Runs python with the arguments in the folder; its output, once the exit status is the expected one."""
    done = run_python(*arguments, cwd=folder)
    assert done.returncode == status, f'status {done.returncode}\n{done.stdout}\n{done.stderr}'
    return done.stdout + done.stderr


def basicsr(folder, *arguments, status=0):
    return run(folder, '-m', 'pdan_plugin', *arguments, status=status)


@pytest.fixture(scope='module')
def reds(tmp_path_factory):
    """A working folder with options/, REDS's folders (2 clips of 10 frames a split) and the stores made of them."""
    folder = tmp_path_factory.mktemp('work')
    (folder / 'options').symlink_to(ROOT / 'options')
    photo = np.ascontiguousarray(data.astronaut()[..., ::-1])
    for split, top in (('train', 0), ('val', 200)):
        for clip in range(2):
            for frame in range(10):
                steps = [photo[top + 3 * clip :, 60 * clip + 4 * frame + s :][:64, :96] for s in range(4)]
                blurred = np.mean(steps, axis=0).round().astype(np.uint8)
                for kind, picture in (
                    ('sharp', steps[2]),
                    ('blur_bicubic/X4', downsample_uint8(blurred, 4)),
                    ('sharp_bicubic/X4', downsample_uint8(np.ascontiguousarray(steps[2]), 4)),
                ):
                    path = folder / f'REDS/{split}/{split}_{kind}/{clip:03d}/{frame:08d}.png'
                    path.parent.mkdir(parents=True, exist_ok=True)
                    cv2.imwrite(str(path), picture)
    run(folder, ROOT / 'scripts/prepare_reds.py', 'REDS', 'datasets/REDS')
    return folder


@pytest.fixture(scope='module')
def trained(reds):
    """The working folder after phase 1."""
    basicsr(reds, 'train', '-opt', 'options/pdan_phase1.yml', '--force_yml', *SMALL)
    return reds


def weights(folder, run_name, iteration='latest'):
    path = folder / f'experiments/{run_name}/models/net_g_{iteration}.pth'
    return torch.load(path, weights_only=True)


def test_check_tells_and_trains_nothing(reds):
    said = basicsr(reds, 'check', '-opt', 'options/pdan_phase1.yml', '--force_yml', 'datasets:train:gt_size=32',
                   'name=only_checked')  # fmt: skip
    assert '64,983,566 parameters' in said
    assert not (reds / 'experiments/only_checked').exists()


def test_phase_one_trains_and_is_logged(trained):
    log = next((trained / 'experiments/pdan_phase1').glob('train_*.log')).read_text()
    assert len(re.findall(r'l_pix: .* l_deblur: ', log)) == 6
    assert re.search(r'# psnr: \d+\.\d+\tBest: .* @ 6 iter', log)
    saved = weights(trained, 'pdan_phase1')
    assert set(saved) == {'params', 'params_ema'}


def test_phases_two_and_three_start_from_the_phase_before(trained):
    (trained / 'datasets/synthesised').mkdir(exist_ok=True)
    for store in (trained / 'datasets/REDS').glob('train_*.lmdb'):
        (trained / 'datasets/synthesised' / store.name).symlink_to(store)
    for phase in (2, 3):
        # A learning rate of zero leaves the weights as they came.
        said = basicsr(trained, 'train', '-opt', f'options/pdan_phase{phase}.yml', '--force_yml', *SMALL,
                       'train:optim_g:lr=0', 'train:total_iter=1')  # fmt: skip
        before, after = weights(trained, f'pdan_phase{phase - 1}'), weights(trained, f'pdan_phase{phase}')
        for name, value in before['params_ema'].items():
            torch.testing.assert_close(after['params'][name], value, rtol=0, atol=0)
        assert f'Number of train images: {20 if phase == 2 else 40}' in said


def test_auto_resume_goes_on_where_the_run_was(trained):
    basicsr(trained, 'train', '-opt', 'options/pdan_phase1.yml', '--auto_resume', '--force_yml', *SMALL,
            'name=resumed', 'train:total_iter=3')  # fmt: skip
    said = basicsr(trained, 'train', '-opt', 'options/pdan_phase1.yml', '--auto_resume', '--force_yml', *SMALL,
                   'name=resumed')  # fmt: skip
    assert 'Resuming training from epoch: 0, iter: 3.' in said
    assert [int(number) for number in re.findall(r', iter: +(\d+), lr', said)] == [4, 5, 6]
    assert (trained / 'experiments/resumed/models/net_g_6.pth').exists()
    assert not list((trained / 'experiments').glob('resumed_archived*'))


@pytest.mark.long  # with small networks: test_main.py, test_sharded_validation.py
def test_two_workers_train_and_validate_together(trained):
    said = basicsr(trained, 'train', '-opt', 'options/pdan_phase1.yml', '--nproc', '2', '--force_yml', *SMALL,
                   'name=two_workers')  # fmt: skip
    assert 'Ranks: 2' in said
    assert said.count('Validation REDS-val300') == 2  # at iterations 3 and 6, told by one rank
    assert (trained / 'experiments/two_workers/models/net_g_latest.pth').exists()


def test_test_scores_and_names_pictures_by_clip_and_frame(trained):
    said = basicsr(trained, 'test', '-opt', 'options/test/pdan_reds_val.yml', '--force_yml', *SMALL_NETWORK,
                   'path:pretrain_network_g=experiments/pdan_phase1/models/net_g_latest.pth')  # fmt: skip
    assert re.search(r'# psnr: \d+', said)
    pictures = sorted((trained / 'results/pdan_reds_val/visualization/REDS-val300').iterdir())
    assert [path.name for path in pictures] == ['000_00000009.png', '001_00000009.png']
    assert cv2.imread(str(pictures[0])).shape == (64, 96, 3)


def test_restore_finds_the_network_of_the_weights(trained):
    picture = trained / 'REDS/val/val_blur_bicubic/X4/000/00000000.png'
    basicsr(trained, 'restore', picture, '-o', 'restored', '-w', 'experiments/pdan_phase1/models/net_g_latest.pth')
    assert cv2.imread(str(trained / 'restored/00000000.png')).shape == (64, 96, 3)


@pytest.mark.long  # with a small network: test_kills.py
def test_killed_while_saving_the_last_whole_checkpoint_is_resumed(trained):
    """SIGKILL at moments spread over a run that saves at every iteration, until one hits a save half done."""
    options = [*SMALL, 'name=killed', 'train:total_iter=200', 'logger:save_checkpoint_freq=1', 'val:val_freq=1000']
    command = ['-m', 'pdan_plugin', 'train', '-opt', 'options/pdan_phase1.yml', '--auto_resume']
    command += ['--force_yml', *options]
    models = trained / 'experiments/killed/models'
    with open(os.devnull, 'wb') as nowhere:
        process = WarmPython(*command, cwd=trained, stdout=nowhere.fileno())
    deadline = time.monotonic() + 600
    while not any(models.glob('.*')) or len(list(models.glob('net_g_*.pth'))) < 3:  # a file being written is hidden
        assert process.poll() is None, 'the run ended before it could be killed'
        assert time.monotonic() < deadline
        time.sleep(0.0002)
    process.send_signal(signal.SIGKILL)
    process.wait()

    states = trained / 'experiments/killed/training_states'
    newest = max(int(path.stem) for path in states.glob('*.state'))
    for path in [*models.glob('*.pth'), *states.glob('*.state')]:
        torch.load(path, weights_only=True)  # every file that has its name is whole
    last = newest + 2
    said = basicsr(trained, 'train', '-opt', 'options/pdan_phase1.yml', '--auto_resume', '--force_yml', *options,
                   f'train:total_iter={last}')  # fmt: skip
    assert f'iter: {newest}.' in said
    assert (models / f'net_g_{last}.pth').exists()
    assert not list(models.glob('.*'))  # what the kill left is cleared away

"""The three commands for own pictures: prepare-pairs, train, restore; with this project's network and a stock one."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut
from warm_processes import run_python

from pdan_plugin.commands.main import main
from pdan_plugin.option_schema.option_file import load_option_file
from pdan_plugin.option_schema.shipped_options import find_option_file

ROOT = Path(__file__).parents[2]
# own_pairs.yml with its sizes reduced, and nothing else
SMALL = [
    'datasets:train:gt_size=32', 'datasets:train:batch_size_per_gpu=2', 'datasets:train:num_worker_per_gpu=0',
    'datasets:train:dataset_enlarge_ratio=1', 'train:total_iter=2', 'val:val_freq=2', 'logger:print_freq=1',
    'logger:save_checkpoint_freq=2', 'logger:use_tb_logger=false', 'num_gpu=0',
]  # fmt: skip
NETWORKS = {
    'gt alone': ['network_g:num_feat=16', 'network_g:num_group=2', 'network_g:num_block=1', 'network_g:fuse_levels=2'],
    'gt and lq': ['network_g={type: EDSR, num_in_ch: 3, num_out_ch: 3, num_feat: 8, num_block: 1, upscale: 4}'],
}


def basicsr(folder: Path, *words: str, status: int = 0) -> str:
    done = run_python('-m', 'pdan_plugin', *words, cwd=folder)
    assert done.returncode == status, f'status {done.returncode}\n{done.stdout}\n{done.stderr}'
    return done.stdout + done.stderr


@pytest.mark.parametrize('given', NETWORKS)
def test_from_a_folder_of_pictures_to_a_restored_one(tmp_path, given):
    (tmp_path / 'options').symlink_to(ROOT / 'options')
    photo = astronaut()
    for name in ('gt', 'lq'):
        (tmp_path / name).mkdir()
    for number in range(4):
        picture = Image.fromarray(photo[40 * number : 40 * number + 64, 150:246])
        picture.save(tmp_path / f'gt/{number}.jpg', quality=95)
        picture.resize((24, 16), Image.Resampling.BOX).save(tmp_path / f'lq/{number}.png')
    further = ['--lq', 'lq'] if given == 'gt and lq' else []

    said = basicsr(tmp_path, 'prepare-pairs', 'gt', 'datasets/own_pairs', *further)
    assert 'train: 3 pairs, scale 4' in said
    said = basicsr(tmp_path, 'train', '-opt', 'options/own_pairs.yml', '--force_yml', *SMALL, *NETWORKS[given])
    weights = 'experiments/own_pairs/models/net_g_latest.pth'
    assert (tmp_path / weights).is_file()
    assert 'own-held-out' in said
    basicsr(tmp_path, 'restore', 'lq/0.png', '-o', 'out', '-w', weights)
    restored = np.asarray(Image.open(next((tmp_path / 'out').glob('*.png'))))
    assert restored.shape == (64, 96, 3)


def test_a_wrong_folder_is_a_wrong_request(tmp_path):
    said = basicsr(tmp_path, 'prepare-pairs', 'nowhere', 'out', status=2)
    assert 'GT nowhere: does not exist; expected a folder of pictures' in said
    assert 'Traceback' not in said


@pytest.mark.parametrize('target', ['datasets/own_pairs', 'other place'])
def test_the_next_command_reads_what_was_made(tmp_path, monkeypatch, capsys, target):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'gt').mkdir()
    for number in range(2):
        Image.fromarray(astronaut()[:64, 64 * number : 64 * number + 64]).save(tmp_path / f'gt/{number}.png')
    assert main(['prepare-pairs', 'gt', target]) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith('Next: ')]
    command, what, option, name, *overrides = shlex.split(line.removeprefix('Next: '))
    assert (command, what, option) == ('basicsr', 'check', '-opt')
    options = load_option_file(find_option_file(name), overrides[1:]).options
    for phase, count in (('train', 1), ('val', 1)):
        for kind in ('gt', 'lq'):
            folder = tmp_path / options['datasets'][phase][f'dataroot_{kind}']
            assert folder == tmp_path / target / phase / kind
            assert len(list(folder.iterdir())) == count


@pytest.mark.parametrize(
    ('words', 'changes'),
    [
        (
            ['--scale', '3'],
            """\
            scale: 3
            network_g: a network that enlarges 3 times
            datasets: train: dataroot_gt: pairs/train/gt
            datasets: train: dataroot_lq: pairs/train/lq
            datasets: val: dataroot_gt: pairs/val/gt
            datasets: val: dataroot_lq: pairs/val/lq""",
        ),
        (
            ['--validation', '0'],
            """\
            datasets: train: dataroot_gt: pairs/train/gt
            datasets: train: dataroot_lq: pairs/train/lq
            datasets: val: your validation set""",
        ),
    ],
)
def test_what_the_option_file_does_not_fit_must_be_changed(tmp_path, monkeypatch, capsys, words, changes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'gt').mkdir()
    for number in range(2):
        Image.fromarray(astronaut()[:48, 48 * number : 48 * number + 48]).save(tmp_path / f'gt/{number}.png')
    assert main(['prepare-pairs', 'gt', 'pairs', *words]) == 0
    told = capsys.readouterr().out
    _, _, last = told.partition('Next: basicsr options own_pairs > my.yml, and change in my.yml\n')
    assert [line.strip() for line in last.splitlines()] == [line.strip() for line in changes.splitlines()]

"""Validation shared by several ranks gives the numbers, names and pictures one rank gives."""

import os

import pytest
import torch
import torch.distributed as distributed
from basicsr.models import build_model
from torch.utils.data import DataLoader, Dataset

from pdan_plugin.toolbox_fixes.spawned_workers import SpawnedWorkerContext


class Frames(Dataset):
    """Five frames of noise, two clips."""

    opt = {'name': 'held-out', 'dataroot_lq': 'datasets/lq.lmdb'}  # noqa: RUF012 (the toolbox's own form)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        gt = torch.rand(3, 24, 24, generator=generator)
        return {'lq': gt[:, ::4, ::4].contiguous(), 'gt': gt, 'lq_path': f'{index // 3:03d}/{index:08d}'}


def validate(opt):
    torch.manual_seed(0)
    model = build_model(opt)
    loader = DataLoader(Frames(), batch_size=1)
    (model.dist_validation if opt['dist'] else model.nondist_validation)(loader, 'x', None, True)
    return model.metric_results


def rank(number, world_size, store, opt, answers):
    distributed.init_process_group('gloo', init_method=f'file://{store}', rank=number, world_size=world_size)
    answers.put(validate(opt | {'dist': True, 'rank': number, 'world_size': world_size}))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.parametrize('world_size', [2, 3])
def test_any_number_of_ranks_gives_the_same(model_opt, tmp_path, world_size):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 0}
    alone = validate(opt)
    pictures = tmp_path / 'visualization/held-out'
    expected = {path.name: path.read_bytes() for path in pictures.iterdir()}
    assert sorted(expected) == [f'{index // 3:03d}_{index:08d}.png' for index in range(5)]
    for path in pictures.iterdir():
        path.unlink()

    context = SpawnedWorkerContext()
    answers = context.SimpleQueue()
    ranks = [
        context.Process(target=rank, args=(number, world_size, tmp_path / 'store', opt, answers))
        for number in range(world_size)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0] * world_size
    results = [answers.get() for _ in ranks]
    assert results == [alone] * world_size  # to the last bit
    assert {path.name: path.read_bytes() for path in pictures.iterdir()} == expected


def test_the_toolboxs_suffix_is_kept(model_opt, tmp_path):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['suffix'] = 'x4'
    validate(opt)
    assert os.path.exists(tmp_path / 'visualization/held-out/000_00000000_x4.png')

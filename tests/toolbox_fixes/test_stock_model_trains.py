"""The toolbox's own model, network and data set, from option file to checkpoint, on a CPU."""

import re

import pytest
import torch


def _log(folder):
    return sorted(folder.glob('train_*.log'))[-1].read_text()


def _iterations(log):
    return [int(number) for number in re.findall(r', iter:\s+(\d+), lr', log)]


def test_trains_then_resumes_in_another_process(tmp_path, sr_options, train_here, train):
    """6 iterations are 6 (not the 3 whole batches of the toolbox's epoch count), and 4 more follow on resume."""
    train_here(sr_options())
    experiment = tmp_path / 'experiments' / 'small'
    assert _iterations(_log(experiment)) == [1, 2, 3, 4, 5, 6]
    assert {path.name for path in (experiment / 'models').iterdir()} == {
        'net_g_3.pth', 'net_g_6.pth', 'net_g_latest.pth',
    }  # fmt: skip

    flags = ('-opt', sr_options(), '--auto_resume', '--force_yml', 'train:total_iter=10')
    resumed = train(*flags)
    assert resumed.returncode == 0, resumed.stderr
    assert _iterations(resumed.stderr) == [7, 8, 9, 10]
    assert 'Resuming training from epoch: 2, iter: 6.' in resumed.stderr
    assert not list(tmp_path.glob('experiments/*_archived_*'))
    saved = torch.load(experiment / 'models' / 'net_g_9.pth', weights_only=True)
    assert set(saved) == {'params', 'params_ema'}


@pytest.mark.long  # two ranks of `basicsr train`: tests/commands/test_several_workers.py
def test_two_ranks_over_gloo(tmp_path, sr_options, train):
    """torchrun is joined without --launcher, an option file that says nccl included; one rank writes."""
    options = sr_options(datasets__train__batch_size_per_gpu=1, datasets__train__num_worker_per_gpu=1)
    done = train(
        '-opt', options,
        launcher=('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node', '2'),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = _log(tmp_path / 'experiments' / 'small')
    assert 'Ranks: 2' in log
    assert _iterations(log) == [1, 2, 3, 4, 5, 6]
    assert log.count('Validation whole') == 1
    assert (tmp_path / 'experiments' / 'small' / 'models' / 'net_g_latest.pth').is_file()

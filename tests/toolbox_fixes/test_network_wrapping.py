"""Running averages, validation's iteration, and networks in a process group without CUDA."""

import contextlib
import multiprocessing
import os
import time

import pytest
import torch
import torch.distributed as dist
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util
from free_port import free_port
from torch import nn

from pdan_plugin.toolbox_fixes import stock_toolbox


@pytest.fixture
def group(tmp_path):
    """A process group of one, over gloo."""
    os.environ['GLOO_SOCKET_IFNAME'] = 'lo'
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    yield
    dist.destroy_process_group()
    del os.environ['GLOO_SOCKET_IFNAME']


def test_networks_are_wrapped_on_a_cpu(stock, group, monkeypatch):
    model = BaseModel({'num_gpu': 0, 'is_train': True, 'dist': True, 'find_unused_parameters': True})
    with stock(), pytest.raises((AssertionError, RuntimeError, ValueError)):
        model.model_to_device(nn.Linear(2, 2))
    net = model.model_to_device(nn.Linear(2, 2))
    net(torch.ones(1, 2)).sum().backward()
    assert isinstance(net, nn.parallel.DistributedDataParallel)
    assert net.find_unused_parameters
    model.opt['dist'] = False
    assert isinstance(model.model_to_device(nn.Linear(2, 2)), nn.Linear)


def _averaged(decay):
    model = BaseModel({'num_gpu': 0, 'is_train': True})
    torch.manual_seed(1)
    model.net_g, model.net_g_ema = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    model.net_g(torch.rand(8, 2))
    model.model_ema(decay)
    return model


def test_the_average_has_the_buffers_of_the_network(stock):
    with stock():
        model = _averaged(0.5)
        assert model.net_g_ema[1].num_batches_tracked == 0
        published = [parameter.clone() for parameter in model.net_g_ema.parameters()]
    model = _averaged(0.5)
    assert all(map(torch.equal, model.net_g_ema.parameters(), published))
    for name, buffer in model.net_g_ema.named_buffers():
        assert torch.equal(buffer, dict(model.net_g.named_buffers())[name])
        assert buffer is not dict(model.net_g.named_buffers())[name]


def test_the_last_validation_is_at_the_last_iteration(stock):
    seen = []

    class Model(BaseModel):
        def nondist_validation(self, dataloader, current_iter, tb_logger, save_img):
            seen.append(current_iter)

    model = Model({'num_gpu': 0, 'is_train': True, 'dist': False, 'train': {'total_iter': 6.0}})
    with stock():
        model.validation(None, 7, None)
    for iteration in (3, 6, 7):
        model.validation(None, iteration, None)
    model.is_train = model.opt['is_train'] = False
    model.validation(None, 'name of the test', None)
    assert seen == [7, 3, 6, 6, 'name of the test']


def _validate_as(rank, report):
    """One of two ranks, whose collectives may take 4 seconds and whose first validates for 6."""
    os.environ |= {'RANK': str(rank), 'LOCAL_RANK': str(rank)}
    dist_util.init_dist('pytorch', timeout=4)

    class Model(BaseModel):
        def dist_validation(self, dataloader, current_iter, tb_logger, save_img):
            if rank == 0:
                time.sleep(6)

    model = Model({'num_gpu': 0, 'is_train': True, 'dist': True, 'train': {'total_iter': 6}})
    for toolbox in (contextlib.nullcontext, stock_toolbox):
        with toolbox():
            model.validation(None, 1, None)
        try:
            dist.all_reduce(torch.ones(1))
            report.put(f'rank {rank}, {toolbox.__name__}: together')
        except RuntimeError:
            report.put(f'rank {rank}, {toolbox.__name__}: timed out')


def test_the_other_ranks_wait_for_validation_without_a_time_limit(monkeypatch):
    """The ranks are forked, with everything imported already."""
    for name, value in {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': free_port(), 'WORLD_SIZE': 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    forked = multiprocessing.get_context('fork')
    report = forked.SimpleQueue()
    ranks = [forked.Process(target=_validate_as, args=(rank, report), daemon=True) for rank in range(2)]
    for each in ranks:
        each.start()
    for each in ranks:
        each.join(timeout=600)
    said = set()
    while not report.empty():
        said.add(report.get())
    assert said >= {f'rank {rank}, nullcontext: together' for rank in range(2)}
    assert 'rank 1, stock_toolbox: timed out' in said

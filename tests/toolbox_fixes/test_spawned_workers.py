"""A stock data set in workers that start in a fresh interpreter, and whose signals workers heed."""

import multiprocessing
import signal
import subprocess
import sys
from multiprocessing import forkserver

import pytest
from basicsr import data
from basicsr.data.data_sampler import EnlargedSampler


@pytest.fixture
def loader(picture_pairs, monkeypatch):
    """make(start method) -> a loader of one batch and one worker, as built in a process of that start method.

    The workers' main module is pytest's, which does not import the package: they owe it to their process class alone.
    """
    gt, lq = picture_pairs(('a.png', 'b.png'))
    dataset = data.build_dataset({
        'type': 'PairedImageDataset', 'name': 'crops', 'dataroot_gt': str(gt), 'dataroot_lq': str(lq), 'scale': 4,
        'io_backend': {'type': 'disk'}, 'phase': 'train', 'gt_size': 32, 'use_hflip': True, 'use_rot': True,
    })  # fmt: skip

    def make(method):
        monkeypatch.setattr(multiprocessing, 'get_start_method', lambda *args, **kwargs: method)
        return data.build_dataloader(
            dataset, {'phase': 'train', 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 1},
            num_gpu=0, sampler=EnlargedSampler(dataset, 1, 0), seed=1,
        )  # fmt: skip

    own = forkserver.ForkServer()  # that of the warm processes has imported the package
    monkeypatch.setattr(forkserver, 'connect_to_new_process', own.connect_to_new_process)
    yield make
    own._stop()


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_workers_read_a_stock_data_set(loader, method):
    (batch,) = loader(method)
    assert batch['gt'].shape == (2, 3, 32, 32)


def test_stock_workers_die_of_the_import(loader, stock, capfd):
    with stock():
        published = loader('spawn')
        assert published.multiprocessing_context is None
        published.multiprocessing_context = 'spawn'
        with pytest.raises(RuntimeError, match='DataLoader worker'):
            next(iter(published))
    assert 'torchvision.transforms.functional_tensor' in capfd.readouterr().err


@pytest.mark.parametrize(
    'method',
    ['fork', 'spawn', pytest.param('forkserver', marks=pytest.mark.long)],  # that its workers read: the test above
)
def test_a_worker_ends_by_its_parent_s_signal_and_by_no_other(loader, method):
    iterator = iter(loader(method))
    worker = iterator._workers[0]
    next(iterator)  # it runs, and waits for more
    for number in (signal.SIGINT, signal.SIGTERM):  # as a terminal or slurm sends them
        subprocess.run([sys.executable, '-c', f'import os; os.kill({worker.pid}, {int(number)})'], check=True)
    worker.join(timeout=0.5)
    assert worker.is_alive()
    worker.terminate()
    worker.join(timeout=30)
    assert worker.exitcode == 0


def test_a_worker_does_not_outlive_a_killed_parent(tmp_path):
    script = """
import sys, time, pdan_plugin, torch
from basicsr import data
loader = data.build_dataloader(
    torch.arange(9), {'phase': 'train', 'batch_size_per_gpu': 1, 'num_worker_per_gpu': 1}, num_gpu=0, seed=1
)
batches = iter(loader)
next(batches)
print('reads', flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == 'reads\n'
    parent.kill()
    parent.wait()
    assert parent.stdout.read() == ''  # ends when the worker, which holds it too, has ended

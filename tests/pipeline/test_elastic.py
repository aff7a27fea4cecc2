"""Workers that die under torchrun, and come back."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from free_port import free_port
from small_run import equal, train_options, write_options, write_pictures

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def torchrun():
    """start(folder, *words, workers=2) -> torchrun with workers of `basicsr train`, output and errors in one pipe."""
    started = []

    def start(folder, *words, workers=2):
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get('PYTHONPATH')])])
        process = subprocess.Popen(
            [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', str(workers), *words,
             '-m', 'pdan_plugin', 'train', '-opt', 'small.yml'],
            cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, 'PYTHONPATH': path, 'OMP_NUM_THREADS': '1'},
        )  # fmt: skip
        watchdog = threading.Timer(1200, process.terminate)
        watchdog.start()
        started.append((process, watchdog))
        return process

    yield start
    for process, watchdog in started:
        watchdog.cancel()
        process.terminate()  # it ends its workers
        process.wait()
        process.stdout.close()


def _write_run(folder):
    folder.mkdir()
    write_pictures(folder)
    options = train_options() | {'model_type': 'RestorationModel'}
    options['datasets']['train'] |= {'num_worker_per_gpu': 1, 'batch_size_per_gpu': 1}
    options['train']['total_iter'] = 70
    options['train']['scheduler']['milestones'] = [30]
    options['val']['val_freq'] = 40
    options['logger'] |= {'save_checkpoint_freq': 20, 'print_freq': 1}
    write_options(folder, options)
    return folder


def _worker(process, rank):
    """The process id of a rank: a child of torchrun that was told so."""
    for pid in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split():
        if f'\0RANK={rank}\0' in Path(f'/proc/{pid}/environ').read_text():
            return int(pid)
    raise AssertionError(f'no rank {rank}')


def _kill_after(process, rank, iteration, told):
    """SIGKILL to a rank once the log tells of the iteration; what was read until then goes into `told`."""
    for line in process.stdout:
        told.append(line)
        if f'iter:{iteration:8,d}, lr' in line:
            os.kill(_worker(process, rank), signal.SIGKILL)
            return
    pytest.fail(''.join(told))


@pytest.mark.long  # of a run of one rank: test_kills.py
@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='finds the workers by /proc')
def test_killed_workers_come_back_and_end_with_the_uninterrupted_run_s_weights(tmp_path, torchrun):
    """Rank 1 dies before anything is saved, rank 0 after iteration 20 is."""
    whole, killed = _write_run(tmp_path / 'whole'), _write_run(tmp_path / 'killed')
    process = torchrun(whole, '--standalone')
    output, _ = process.communicate()
    assert process.returncode == 0, output[-3000:]

    process, told = torchrun(killed, '--standalone', '--max-restarts', '3'), []
    for rank, iteration in ((1, 3), (0, 25)):
        _kill_after(process, rank, iteration, told)
    output = ''.join(told) + process.communicate()[0]
    assert process.returncode == 0, output[-3000:]
    assert 'Restart 1 by torchrun: resuming after iteration 0.' in output
    assert 'Restart 2 by torchrun: resuming after iteration 20.' in output
    assert 'Resuming training from epoch: 6, iter: 20.' in output

    for name in ('models/net_g_latest.pth', 'models/net_g_40.pth', 'training_states/60.state'):
        found, expected = (torch.load(run / 'experiments/small' / name, weights_only=True) for run in (killed, whole))
        assert equal(found, expected), name
    histories = [(run / 'experiments/small/history.jsonl').read_bytes() for run in (killed, whole)]
    assert histories[0] == histories[1]


@pytest.mark.long  # the same on two machines
@pytest.mark.skipif(not Path('/proc/self/task').is_dir(), reason='finds the workers by /proc')
def test_a_worker_killed_on_one_machine_comes_back_with_those_of_the_others(tmp_path, torchrun):
    """Two torchruns as of two machines: that of the survivor counts no restart."""
    folder = _write_run(tmp_path / 'run')
    meeting = f'localhost:{free_port()}'
    words = ['--nnodes', '2', '--max-restarts', '1', '--rdzv_backend', 'c10d', '--rdzv_endpoint', meeting]
    machines = [torchrun(folder, *words, workers=1) for _ in range(2)]
    outputs = [[], []]

    def read(number):
        outputs[number].extend(machines[number].stdout)

    readers = [threading.Thread(target=read, args=(number,)) for number in (0, 1)]
    for reader in readers:
        reader.start()
    state = folder / 'experiments/small/training_states/20.state'
    while not state.exists() and all(each.poll() is None for each in machines):
        time.sleep(0.05)
    for machine in machines:
        with contextlib.suppress(AssertionError):  # it has the other rank
            os.kill(_worker(machine, 1), signal.SIGKILL)
    for each in [*machines, *readers]:
        each.wait(1200) if isinstance(each, subprocess.Popen) else each.join()
    text = ''.join(outputs[0] + outputs[1])
    assert [each.returncode for each in machines] == [0, 0], text[-3000:]
    assert re.search(r'Restart 1 by torchrun: resuming after iteration [246]0\.', text)
    assert [each.name for each in (tmp_path / 'run/experiments').iterdir()] == ['small']  # none set aside

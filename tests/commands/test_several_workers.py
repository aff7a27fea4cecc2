"""A run of several workers on one machine: what is reported, how it ends, and that no worker is left."""

import fcntl
import os
import signal
import subprocess
import sys
import threading

import pytest
from child_processes import PYTHON_PATH, hear_requests
from small_run import changed, command, train_options, working_folder, write_options


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    return working_folder(tmp_path, monkeypatch)


UNREAD = {'print_network': True, 'save_img': False}


@pytest.mark.long  # two more runs of two workers
def test_workers_do_not_repeat_the_warnings(folder):
    write_options(folder, {**train_options(), **UNREAD, 'dist_params': {'backend': 'gloo', 'nodes': 2}})
    done = command(folder, 'train', '-opt', 'small.yml', '--nproc', '2')
    assert done.returncode == 0, done.stderr
    for key in ('print_network', 'save_img', 'dist_params.nodes'):
        assert done.stderr.count(f'warning: small.yml: {key}: ') == 1


# says so from every worker, in its own words, when all but the process itself has ended
THREADS_AT_THE_END = """
import atexit, os
import gloo_threads
def tell():
    print(f'threads of gloo at the end: {gloo_threads.left_at_the_end()}', flush=True)
if 'RANK' in os.environ:
    atexit.register(tell)
"""


@pytest.mark.long  # two workers: the stopped runs below; the failure of one: tests/processes/test_process_group.py
def test_workers_of_one_machine_train_and_hand_their_failure_on(folder):
    (folder / 'threads_at_the_end.py').write_text(THREADS_AT_THE_END)
    write_options(folder, train_options() | {'plugins': ['threads_at_the_end']})
    words = ['train', '-opt', 'small.yml', '--nproc', '2']
    done = command(folder, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('threads of gloo at the end: 0') == 2
    assert (folder / 'experiments/small/models/net_g_2.pth').is_file()
    assert 'Next, with an option file that names the test data' in done.stdout
    assert '# CMD: basicsr train -opt small.yml --nproc 2\n' in (folder / 'experiments/small/small.yml').read_text()
    broken = folder / 'lq' / '005.png'
    broken.write_bytes(broken.read_bytes()[:33])  # its header is whole, which is what is read before a run
    done = command(folder, *words, '--auto_resume', '--force_yml', 'train:total_iter=100')
    assert done.returncode == 1
    assert 'Resuming training from epoch' in done.stdout + done.stderr
    assert '005.png' in done.stderr


@pytest.mark.parametrize(
    ('number', 'status'),
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),  # the way of SIGTERM; one process: test_faults.py
        (signal.SIGTERM, 143),
        (signal.SIGKILL, -9),
    ],
)
def test_a_stopped_run_is_saved_and_leaves_no_worker(folder, number, status):
    """Neither does one whose launcher is killed; what it was given to hold is held until the workers have ended."""
    options = changed(train_options(), 'train.total_iter', 1_000_000)
    options['train']['scheduler']['milestones'] = [500_000]
    options['logger']['save_checkpoint_freq'] = options['val']['val_freq'] = 1_000_000
    options['plugins'] = ['threads_at_the_end']
    (folder / 'threads_at_the_end.py').write_text(THREADS_AT_THE_END)
    write_options(folder, options)
    path = os.pathsep.join([PYTHON_PATH, *filter(None, [os.environ.get('PYTHONPATH')])])
    given = os.open(folder / 'lock', os.O_CREAT | os.O_RDWR)
    fcntl.flock(given, fcntl.LOCK_EX)
    process = subprocess.Popen(
        [sys.executable, '-m', 'pdan_plugin', 'train', '-opt', 'small.yml', '--nproc', '2'],
        cwd=folder,
        pass_fds=[given],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, 'PYTHONPATH': path},
        start_new_session=True,
        preexec_fn=hear_requests,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(600, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        for line in process.stdout:
            if '[epoch:' in line:
                break
        os.close(given)
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()
            with open(folder / 'lock') as lock, pytest.raises(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rest = process.stdout.read()  # ends when the last process that holds it has ended
        assert process.wait(60) == status
        with open(folder / 'lock') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert list((folder / 'experiments/small/training_states').glob('*.state')), rest
        assert rest.count('threads of gloo at the end: 0') == 2, rest
    finally:
        watchdog.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)

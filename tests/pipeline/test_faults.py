"""What befalls a run from outside: a signal, a full disk, a folder that may not be written. Nothing saved is lost."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from child_processes import hear_requests
from small_run import equal, train_options, write_options, write_pictures
from warm_processes import WarmPython, run_python

from pdan_plugin.training import interruption

REPOSITORY = Path(__file__).parents[2]
STATES = 'experiments/small/training_states'
MODELS = 'experiments/small/models'
_MAY_IGNORE_PERMISSIONS = 1 << 1  # capabilities(7)
_CAPABILITIES_VERSION_3 = 0x20080522  # capset(2)


def _as_a_user():
    """In a child before its work: permissions count for root too."""
    library = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    assert library.capget(header, held) == 0
    held[0] &= ~_MAY_IGNORE_PERMISSIONS  # in effect
    assert library.capset(header, held) == 0


@pytest.fixture
def command():
    """start(folder, *words) -> the process of `basicsr train`, in a process group of its own."""
    started = []

    def start(folder, *words):
        words = ['-m', 'pdan_plugin', 'train', '-opt', 'small.yml', *words]
        process = WarmPython(*words, cwd=folder, environment={'PYTHONPATH': str(REPOSITORY)}, before=_as_a_user)
        watchdog = threading.Timer(600, process.kill)
        watchdog.start()
        started.append((process, watchdog))
        return process

    yield start
    for process, watchdog in started:
        watchdog.cancel()
        process.kill()
        process.communicate()


def _write_run(folder, **further):
    """Pictures and options of a stock model and data set, read by two workers."""
    folder.mkdir(exist_ok=True)
    write_pictures(folder)
    options = train_options()
    options['datasets']['train']['num_worker_per_gpu'] = 2
    options['train']['total_iter'] = further.get('iterations', 120)
    options['train']['scheduler']['milestones'] = [60]
    options['val']['val_freq'] = 10**9
    options['logger'] |= {'save_checkpoint_freq': 50, 'print_freq': further.get('print_freq', 1)}
    write_options(folder, options)
    return folder


def _until_iteration(process, number):
    """Reads the process's output up to the iteration's line of the log."""
    for line in process.stdout:
        if f'iter:{number:8,d}, lr' in line:
            return
    pytest.fail('the run ended before')


def _until_saved(folder, process):
    """Waits for a training state; the folder's newest."""
    while not list((folder / STATES).glob('*.state')):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    return max((folder / STATES).glob('*.state'), key=lambda path: int(path.stem))


def _all_there_is(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob('*') if 'tb_logger' not in path.parts}


def _load(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    folder = _write_run(tmp_path_factory.mktemp('uninterrupted'))
    run_python('-m', 'pdan_plugin', 'train', '-opt', 'small.yml', cwd=folder).check_returncode()
    return folder


@pytest.mark.parametrize(
    ('number', 'status'),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),  # SIGINT: test_a_second_request below
    ],
)
def test_a_stopped_run_goes_on_as_if_it_never_was(tmp_path, command, uninterrupted, number, status):
    """The signal goes to the data loader's workers too, as slurm and a terminal send it."""
    folder = _write_run(tmp_path / 'run')
    process = command(folder)
    _until_iteration(process, 7)
    os.killpg(process.pid, number)
    output = process.stdout.read()
    assert process.wait(60) == status
    assert 'saving at the end of this iteration; again to stop at once' in output
    assert 'Traceback' not in output
    (state,) = (folder / STATES).iterdir()
    assert f'the state after iteration {state.stem} is {state}' in output
    assert 'Resume with: basicsr train -opt small.yml --auto_resume' in output
    assert [path.name for path in (folder / MODELS).iterdir()] == [f'net_g_{state.stem}.pth']

    resumed = command(folder, '--auto_resume')
    resumed.communicate(timeout=600)
    assert resumed.returncode == 0
    for name in (f'{MODELS}/net_g_latest.pth', f'{MODELS}/net_g_100.pth', f'{STATES}/100.state'):
        assert equal(_load(folder / name), _load(uninterrupted / name)), name


def test_a_full_disk_ends_the_run_with_the_reason(tmp_path, command):
    folder = _write_run(tmp_path / 'run', iterations=10**6, print_freq=10**6)
    (folder / 'experiments').mkdir()
    mounted = not subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', folder / 'experiments'], capture_output=True
    ).returncode
    try:
        process = command(folder)
        _until_saved(folder, process)
        if mounted:
            _fill(folder / 'experiments' / 'filler')
        else:  # who may not mount limits the size of files
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1000, 1000))
        output = process.communicate(timeout=600)[0]
        assert process.returncode == 1
        said = output.strip().splitlines()[-1]
        assert said.startswith('basicsr train: failed while running: OSError: cannot save')
        assert ('No space left on device' if mounted else 'File too large') in said
        (folder / 'experiments' / 'filler').unlink(missing_ok=True)
        assert not [path for path in (folder / 'experiments').rglob('*') if path.name.endswith('.partial')]

        state = _until_saved(folder, process)
        total = int(state.stem) + 3
        output, _ = command(
            folder, '--auto_resume', '--force_yml', f'train:total_iter={total}', 'logger:print_freq=1'
        ).communicate(timeout=600)
        assert f'iter: {state.stem}.' in output
        assert f'iter:{total:8,d}, lr' in output
        assert (folder / MODELS / 'net_g_latest.pth').is_file()
    finally:
        if mounted:
            subprocess.run(['umount', '-l', folder / 'experiments'], check=True)


def _fill(path):
    with path.open('wb', buffering=0) as file:
        for size in (4096, 1):
            try:
                while file.write(b'0' * size):
                    pass
            except OSError:
                pass


def test_a_folder_made_read_only_ends_the_run_with_the_reason(tmp_path, command):
    folder = _write_run(tmp_path / 'run', iterations=10**6, print_freq=10**6)
    process = command(folder)
    _until_saved(folder, process)
    (folder / MODELS).chmod(0o555)
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 1
    assert 'OSError: cannot save' in output.strip().splitlines()[-1]
    assert 'Permission denied' in output.strip().splitlines()[-1]
    (folder / MODELS).chmod(0o755)
    state = _until_saved(folder, process)
    assert _load(state)['iter'] == int(state.stem)
    assert set(_load(folder / MODELS / f'net_g_{state.stem}.pth')) == {'params', 'params_ema'}


@pytest.mark.parametrize('place', ['.', 'experiments', 'experiments/small'])
def test_a_run_that_may_not_write_does_not_start(tmp_path, command, place):
    folder = _write_run(tmp_path / 'run')
    (folder / 'experiments' / 'small').mkdir(parents=True)
    words = []
    if place == 'experiments/small':  # a run to go on with; anew, its folder would be renamed
        finished = command(folder, '--force_yml', 'train:total_iter=1', 'logger:save_checkpoint_freq=1')
        finished.communicate(timeout=600)
        assert finished.returncode == 0
        words = ['--auto_resume']
    elif place == '.':
        (folder / 'experiments' / 'small').rmdir()
        (folder / 'experiments').rmdir()
    before = _all_there_is(folder)
    (folder / place).chmod(0o555)
    process = command(folder, *words)
    output = process.communicate(timeout=600)[0]
    (folder / place).chmod(0o755)
    assert process.returncode == 2
    said = output.strip().splitlines()[-1]
    assert 'cannot be written: Permission denied' in said
    assert said.startswith(f'basicsr: {folder / "experiments"}')
    assert 'Traceback' not in output
    assert _all_there_is(folder) == before


def test_a_second_request_ends_the_process_whatever_it_is_in(tmp_path):
    """The main thread is in C code that nothing interrupts, as in a collective whose other ranks are gone."""
    script = """
import hashlib
from pdan_plugin.training import interruption
with interruption.listening():
    interruption.training_begins()
    print('trains', flush=True)
    hashlib.pbkdf2_hmac('sha256', b'', b'', 2_000_000_000)
"""
    process = subprocess.Popen(
        [sys.executable, '-c', script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {'PYTHONPATH': str(REPOSITORY)}, preexec_fn=hear_requests,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == 'trains\n'
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)  # at once, so no second request
        process.stderr.readline()
        assert 'again to stop at once' in process.stderr.readline()
        time.sleep(interruption.ONE_REQUEST_SECONDS + 1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert 'stopped at once' in process.stderr.read()
    finally:
        process.kill()
        process.communicate()

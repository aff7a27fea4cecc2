"""Tables from real commands: stopped at any moment and gone on with, each run done once, failures told."""

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision
import yaml
from child_processes import hear_requests
from reds_tree import make_reds
from warm_processes import WarmPython

from comparison import runs
from comparison.plan import plan_rows, plan_runs
from comparison.records import read_record
from comparison.reproduction import reproduce
from comparison.rows import SMALL
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.option_schema.option_file import read_option_file

pytestmark = pytest.mark.long  # real trainings, one after the other; plan, data, rows and tables: the files beside it

ROOT = Path(__file__).parents[3]
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}


@pytest.fixture(scope='module', autouse=True)
def _warm_commands():
    """The commands of comparisons in this process are warm processes; those of a script are new Pythons."""

    def start(command, *, cwd, env, stdout, pass_fds, **_):
        return WarmPython(*command[1:], cwd=cwd, environment=env, stdout=stdout.fileno(), held=pass_fds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, 'subprocess', SimpleNamespace(Popen=start, DEVNULL=None, STDOUT=None))
        yield


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """A working folder: pictures, and option files of all rows, each with a network of a few thousand parameters."""
    folder = tmp_path_factory.mktemp('tables')
    make_reds(folder, frames=4)
    sharp, blurred = folder / 'train/train_sharp', folder / 'train/train_blur_bicubic/X4'
    data = {'type': 'REDSPairedDataset', 'dataroot_gt': str(sharp), 'dataroot_lq': str(blurred)}
    data['io_backend'] = {'type': 'disk'}
    for number, row in enumerate(SMALL.rows):
        opt = read_option_file(ROOT / 'options' / row.file)
        scored = {'name': 'held-out', **data}
        if 'train' in opt:
            own = {'gt_size': 32, 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 0, 'dataset_enlarge_ratio': 9}
            opt['datasets'] = {'train': {'name': 'crops', **data, **own}, 'val': scored}
            opt['model_type'] = 'RestorationModel'
            opt['network_g'] = EDSR | {'num_block': number}
            opt['train'] = {
                key: value for key, value in opt['train'].items() if key not in ('dual_opt', 'optim_dual', 'deblur_opt')
            }
            opt['train']['pixel_opt'] = {'type': 'L1Loss'}
            if row.name == 'rsca':
                opt['train'] |= {'max_skipped_steps': 1}
                opt['train']['optim_g']['lr'] = 1e30
            opt['logger'] |= {'save_checkpoint_freq': 5, 'print_freq': 5}
        else:
            opt['datasets'] = {'test': scored}
        path = folder / 'options' / row.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(opt))
    return folder


def asked(work, **further):
    """Calls the work of the script in this process; what it said."""
    said = []
    words = {'rows': ['bicubic', 'edsr'], 'seeds': [0, 1], 'iterations': 60, 'options': work / 'options'} | further
    reproduce(work / 'out', say=said.append, **words)
    return '\n'.join(said)


def run_name(work, row, seed):
    """Of a row's run, as its option file is now."""
    return plan_rows(SMALL.rows, work / 'options', 60)[row].run_name(seed)


def content(folder):
    """Every file's bytes, but for the tables' and the lock's."""
    files = [path for path in folder.rglob('*') if path.is_file() and path.parent != folder]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope='module')
def finished(work):
    """Killed in a training, the way a power cut would, and gone on with."""
    command = [sys.executable, ROOT / 'scripts/reproduce_tables.py', '--rows', 'bicubic', 'edsr', '--seeds', '0', '1',
               '--iterations', '60', '--output', 'out', '--options', 'options']  # fmt: skip
    script = subprocess.Popen(command, cwd=work, stdout=subprocess.PIPE, text=True)
    states = work / 'out/experiments' / run_name(work, 'edsr', 0) / 'training_states'
    deadline = time.monotonic() + 300
    while not list(states.glob('*.state')):
        assert script.poll() is None, script.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.002)
    training = int((work / 'out/.lock').read_text())
    os.kill(training, signal.SIGSTOP)
    script.kill()
    script.wait()
    before = content(work / 'out')
    with pytest.raises(RequestError, match=f'uses this folder.*{training}'):
        asked(work)  # the training lives on
    assert content(work / 'out') == before
    os.kill(training, signal.SIGKILL)
    bicubic = work / 'out/runs' / f'{run_name(work, "bicubic", 0)}.json'
    scored = bicubic.read_bytes()
    for _ in range(500):  # until the system has taken the process away, and its lock
        try:
            said = asked(work)
        except RequestError as error:
            if 'uses this folder' not in str(error):
                raise
            time.sleep(0.02)
        else:
            break
    assert bicubic.read_bytes() == scored
    return said


def test_a_precision_that_slows_this_processor_is_told_before_hours_go_by(work, tmp_path, monkeypatch):
    """A mock, because the processor at hand may have the instructions."""
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda _: 9.0)
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    said = []

    def say(text):
        said.append(text)
        if text.startswith('[1/1]'):
            raise KeyboardInterrupt

    for precision in (None, 'fp32'):
        with pytest.raises(KeyboardInterrupt):
            reproduce(tmp_path, rows=['edsr'], seeds=[0], options=work / 'options', precision=precision, say=say)
    notes = [text for text in said if 'is slow' in text]
    assert len(notes) == 1
    assert 'precision bf16' in notes[0]
    assert '--precision fp32' in notes[0]


def test_goes_on_in_the_middle_of_the_run_that_was_killed(work, finished):
    name = run_name(work, 'edsr', 0)
    assert f'[1/3] bicubic ({run_name(work, "bicubic", 0)}): done before' in finished
    assert f'[2/3] edsr ({name}), ' in finished
    log = (work / f'out/logs/{name}.log').read_text()
    assert log.count('Resuming training from epoch') == 1
    first, other = (read_record(work / 'out', run_name(work, 'edsr', seed)) for seed in (0, 1))
    assert [len(record['attempts']) for record in (first, other)] == [2, 1]
    assert all(each['seconds'] is not None for each in first['attempts'])
    assert first['test']['mean']['psnr'] != other['test']['mean']['psnr']


def test_the_tables_are_of_the_tests_of_the_averaged_weights(work, finished):
    scored = read_option_file(work / f'out/options/{run_name(work, "edsr", 0)}_test.yml')
    assert scored['path']['param_key_g'] == 'params_ema'
    rows = [line for line in (work / 'out/tables.md').read_text().splitlines() if line.startswith('| EDSR |')]
    values = [read_record(work / 'out', run_name(work, 'edsr', seed))['test']['mean']['psnr'] for seed in (0, 1)]
    assert f'| {sum(values) / 2:.3f} ± {abs(values[0] - values[1]) / 2**0.5:.3f} |' in rows[0]
    clips = [path.name for path in (work / 'train/train_sharp').iterdir()]
    assert f'|  | {" | ".join(sorted(clips))} |' in (work / 'out/tables.md').read_text()


def test_what_is_done_is_not_done_again(work, finished):
    before = content(work / 'out')
    assert asked(work).count('done before') == 3
    assert content(work / 'out') == before


def test_changed_options_are_another_run_and_the_first_is_back_when_they_are(work, finished):
    before, path, name = content(work / 'out'), work / 'options/baselines/small/edsr.yml', run_name(work, 'edsr', 0)
    table = (work / 'out/tables.md').read_bytes()
    text = path.read_text()
    path.write_text(text.replace('lr: 0.0004', 'lr: 0.0005'))
    try:
        said = asked(work, seeds=[0])
        assert f'changed since {name}: these runs are kept' in said
        other = run_name(work, 'edsr', 0)
        assert other != name
        assert f'Left out, as no row is trained or scored so now: {name}' in said
    finally:
        path.write_text(text)
    after = content(work / 'out')
    assert {key: after[key] for key in before} == before
    assert any(other in key for key in after)
    assert 'changed since' not in asked(work)
    table_after = (work / 'out/tables.md').read_text()
    assert table_after.replace(f'Left out, as no row is trained or scored so now: {other}.', '').split() == (
        table.decode().split()
    )


def test_pictures_and_workers_are_part_of_what_decides_a_run(work):
    planned = plan_rows(SMALL.rows, work / 'options')
    path = next((work / 'train/train_sharp').rglob('*.png'))
    picture = path.read_bytes()
    path.write_bytes(picture + b'another')
    try:
        others = plan_rows(SMALL.rows, work / 'options')
    finally:
        path.write_bytes(picture)
    assert not {row.run for row in planned.values()} & {row.run for row in others.values()}
    two = plan_rows(SMALL.rows, work / 'options', workers=2)
    assert two['bicubic'].run == planned['bicubic'].run  # nothing is trained
    assert two['edsr'].run != planned['edsr'].run
    assert (planned['edsr'].batch, two['edsr'].batch) == (2, 4)


def test_a_damaged_record_is_told_before_anything_is_done_and_removing_it_scores_again(work, finished):
    path = work / 'out/runs' / f'{run_name(work, "edsr", 1)}.json'
    record = path.read_bytes()
    path.write_bytes(record[:50])
    before = content(work / 'out')
    with pytest.raises(RequestError, match=rf'{path.name} cannot be read.*remove it'):
        asked(work, rows=['rcan'], seeds=[7])  # not even the row that was asked for
    assert content(work / 'out') == before
    path.unlink()
    asked(work)
    assert read_record(work / 'out', path.stem)['test']['mean'] == json.loads(record)['test']['mean']


@pytest.mark.long
def test_pictures_that_are_gone_cost_the_sheet_and_not_the_tables(work, finished):
    rows = ['bicubic', *SMALL.sheet]
    budget = {'rows': rows, 'seeds': [0], 'iterations': 5}
    assert 'sheet.png' in asked(work, **budget)
    planned = plan_rows(SMALL.rows, work / 'options', 5)
    shutil.rmtree(work / 'out/results' / planned['swinir'].run_name(0))
    said = asked(work, **budget)
    assert '## Comparison' in said
    assert 'Sheet: none; ' in said
    assert '--score-again' in said.partition('Sheet: none; ')[2]


def test_a_run_that_fails_is_told_and_the_others_stay_as_they_are(work, finished):
    before = content(work / 'out')
    said = []
    with pytest.raises(WorkError, match='1 of 3 runs failed: rsca '):
        reproduce(work / 'out', say=said.append, rows=['bicubic', 'edsr', 'rsca'], seeds=[0], iterations=60,
                  options=work / 'options')  # fmt: skip
    told = next(text for text in said if 'failed after' in text)
    assert f'{run_name(work, "rsca", 0)}.log' in told
    assert 'not finite' in told.partition('last lines')[2]
    after = content(work / 'out')
    assert {name: after[name] for name in before} == before


def test_scores_stay_until_there_are_new_ones(work, finished):
    name = run_name(work, 'edsr', 0)
    weights, record = work / f'out/experiments/{name}/models/net_g_latest.pth', work / f'out/runs/{name}.json'
    before, kept = record.read_bytes(), weights.read_bytes()
    again = {'rows': ['edsr'], 'seeds': [0], 'score_again': True}
    weights.unlink()
    with pytest.raises(RequestError, match=r'net_g_latest\.pth is missing'):
        asked(work, **again)
    assert record.read_bytes() == before
    weights.write_bytes(b'damaged')
    with pytest.raises(WorkError, match='1 of 1 runs failed'):
        asked(work, **again)
    assert read_record(work / 'out', name)['test'] == json.loads(before)['test']
    weights.write_bytes(kept)
    assert 'done before' not in asked(work, rows=['edsr'], seeds=[0])  # what was asked for is still to do
    assert 'done before' in asked(work, rows=['edsr'], seeds=[0])
    assert read_record(work / 'out', name)['test']['mean'] == json.loads(before)['test']['mean']


def test_lpips_of_weights_that_are_named(work, finished, tmp_path):
    torch.manual_seed(0)
    torch.save(torchvision.models.alexnet(weights=None).state_dict(), tmp_path / 'alex.pth')
    name, before = run_name(work, 'bicubic', 0), content(work / 'out')
    with pytest.raises(RequestError, match=r'at nowhere\.pth, and there is no such file'):
        asked(work, rows=['bicubic'], lpips_weights='nowhere.pth')
    assert content(work / 'out') == before
    said = asked(work, rows=['bicubic'], score_again=True, lpips_weights=str(tmp_path / 'alex.pth'))
    assert 'LPIPS was not computed in every run' in said
    mean = read_record(work / 'out', name)['test']['mean']
    assert mean.pop('lpips') > 0
    assert mean == json.loads(before[f'runs/{name}.json'])['test']['mean']


@pytest.fixture
def endless(work):
    """start(output, *words, **how) -> the script, once its training has saved a state; both end with the test."""
    started = []

    def start(output, *words, preexec_fn=hear_requests, **how):
        command = [sys.executable, ROOT / 'scripts/reproduce_tables.py', '--rows', 'edsr', '--seeds', '0',
                   '--iterations', '100000', '--output', output, '--options', 'options', *words]  # fmt: skip
        script = subprocess.Popen(command, cwd=work, preexec_fn=preexec_fn, **how)
        started.append((script, work / output))
        deadline = time.monotonic() + 300
        while not list((work / output).glob('experiments/*/training_states/*.state')):
            assert script.poll() is None, script.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return script

    yield start
    for script, folder in started:
        script.kill()
        script.wait()
        for process in _at_work_in(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@pytest.mark.long  # the launcher's way to hand requests on: tests/commands/test_main.py
def test_stopped_twice_no_worker_is_left_and_its_state_goes_on(work, endless):
    """With workers of its own, the launcher hands both requests on."""
    script = endless('stopped', '--nproc', '1', stdout=subprocess.PIPE, text=True)
    launcher = int((work / 'stopped/.lock').read_text())
    workers = set(_at_work_in(work / 'stopped')) - {launcher}
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # however fast it saves, the second request finds it there
    script.send_signal(signal.SIGINT)
    time.sleep(2.5)  # nearer than that it would be the same request
    script.send_signal(signal.SIGINT)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    said, _ = script.communicate(timeout=600)
    assert script.returncode == 130
    assert 'continues from here' in said
    assert not _at_work_in(work / 'stopped')


@pytest.mark.long  # the way of Ctrl-C, in the test above
def test_a_closed_terminal_saves_and_leaves_no_worker(work, endless):
    """It takes no more words, and the training must hear of it all the same."""

    def in_a_terminal():
        hear_requests()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    terminal, side = pty.openpty()
    script = endless('closed', stdin=side, stdout=side, stderr=side, start_new_session=True, preexec_fn=in_a_terminal)
    os.close(side)
    os.close(terminal)
    script.wait(600)
    assert not _at_work_in(work / 'closed')
    (log,) = (work / 'closed/logs').glob('*.log')
    assert 'stopped; the state after iteration' in log.read_text()


@pytest.mark.long  # of any network: test_sharded_validation.py
def test_bicubic_is_scored_by_several_workers(work, finished, tmp_path):
    reproduce(tmp_path, rows=['bicubic'], seeds=[0], options=work / 'options', nproc=2, say=lambda _: None)
    alone = read_record(work / 'out', run_name(work, 'bicubic', 0))
    shared = read_record(tmp_path, run_name(work, 'bicubic', 0))
    assert alone is not None
    assert shared is not None
    for metric in ('psnr', 'ssim'):  # another test adds LPIPS
        assert shared['test']['mean'][metric] == pytest.approx(alone['test']['mean'][metric])


def _at_work_in(folder):
    """Processes whose working folder it is, or one in it."""
    return [int(link.parent.name) for link in Path('/proc').glob('[0-9]*/cwd') if _points_into(link, folder)]


def _points_into(link, folder):
    try:
        return os.readlink(link).startswith(str(folder))
    except OSError:  # gone, or another user's
        return False


def test_called_from_another_folder_it_tells_where_the_options_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=r'options/baselines/small does not exist.*--options FOLDER'):
        reproduce(tmp_path / 'tables')
    assert not list(tmp_path.iterdir())


def test_unknown_rows_and_seeds_given_twice_are_refused(work):
    with pytest.raises(RequestError, match="'edrs'; did you mean 'edsr'"):
        asked(work, rows=['edrs'])
    for seeds in ([1, 1], [-1], []):
        with pytest.raises(RequestError, match='different seeds'):
            asked(work, seeds=seeds)
    with pytest.raises(RequestError, match='--again'):
        asked(work, again=['pdan'])
    with pytest.raises(RequestError, match='--nproc 0: expected 1'):
        asked(work, seeds=[5], nproc=0)


def test_rows_with_the_same_options_are_one_run():
    """As they are shipped: RCAN-wide and the base, PDAN and the last row."""
    planned = plan_rows(SMALL.rows, ROOT / 'options')
    planned_runs = plan_runs(planned, SMALL.rows, [3, 4], {})
    names = [run.name for run in planned_runs]
    assert len(names) == 1 + 2 * 9
    assert planned['hpem'].run == planned['pdan'].run
    assert planned['base'].run == planned['rcan_wide'].run
    assert planned_runs[-2].rows == ('rsca',)
    assert {run.rows for run in planned_runs} >= {('pdan', 'hpem'), ('rcan_wide', 'base')}
    seeds = [run.seed for run in planned_runs]
    assert seeds == sorted(seeds)  # all rows of a seed, then the next

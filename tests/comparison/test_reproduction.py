"""Tables from real commands: stopped at any moment and gone on with, each run done once, failures told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from reds_tree import make_reds

from pdan_plugin.comparison.plan import plan_rows, plan_runs
from pdan_plugin.comparison.records import read_record
from pdan_plugin.comparison.reproduction import reproduce
from pdan_plugin.comparison.rows import SMALL
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.option_file import read_option_file

ROOT = Path(__file__).parents[2]
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}


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
    states = work / 'out/experiments/edsr_seed0/training_states'
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
    with pytest.raises(RequestError, match=f'is at work there.*{training}'):
        asked(work)  # the training lives on
    assert content(work / 'out') == before
    os.kill(training, signal.SIGKILL)
    bicubic = (work / 'out/runs/bicubic.json').read_bytes()
    for _ in range(500):  # until the system has taken the process away, and its lock
        try:
            said = asked(work)
        except RequestError as error:
            if 'is at work' not in str(error):
                raise
            time.sleep(0.02)
        else:
            break
    assert (work / 'out/runs/bicubic.json').read_bytes() == bicubic
    return said


def test_goes_on_in_the_middle_of_the_run_that_was_killed(work, finished):
    assert '[1/3] bicubic: done before' in finished
    assert '[2/3] edsr_seed0' in finished
    log = (work / 'out/logs/edsr_seed0.log').read_text()
    assert log.count('Resuming training from epoch') == 1
    first, other = (read_record(work / 'out', f'edsr_seed{seed}') for seed in (0, 1))
    assert [len(record['attempts']) for record in (first, other)] == [2, 1]
    assert all(each['seconds'] is not None for each in first['attempts'])
    assert first['test']['mean']['psnr'] != other['test']['mean']['psnr']


def test_the_tables_are_of_the_tests_of_the_averaged_weights(work, finished):
    scored = read_option_file(work / 'out/options/edsr_seed0_test.yml')
    assert scored['path']['param_key_g'] == 'params_ema'
    rows = [line for line in (work / 'out/tables.md').read_text().splitlines() if line.startswith('| EDSR |')]
    values = [read_record(work / 'out', f'edsr_seed{seed}')['test']['mean']['psnr'] for seed in (0, 1)]
    assert f'| {sum(values) / 2:.3f} ± {abs(values[0] - values[1]) / 2**0.5:.3f} |' in rows[0]
    clips = [path.name for path in (work / 'train/train_sharp').iterdir()]
    assert f'|  | {" | ".join(sorted(clips))} |' in (work / 'out/tables.md').read_text()


def test_what_is_done_is_not_done_again(work, finished):
    before = content(work / 'out')
    assert asked(work).count('done before') == 3
    assert content(work / 'out') == before


def test_a_row_whose_options_changed_is_refused_and_nothing_touched(work, finished):
    before, path = content(work / 'out'), work / 'options/baselines/small/edsr.yml'
    text = path.read_text()
    path.write_text(text.replace('lr: 0.0004', 'lr: 0.0005'))
    try:
        with pytest.raises(RequestError, match=r'(?s)edsr_seed0, edsr_seed1.*--again edsr$'):
            asked(work)
    finally:
        path.write_text(text)
    with pytest.raises(RequestError, match='have changed'):
        asked(work, iterations=61)
    assert content(work / 'out') == before


def test_a_row_whose_pictures_changed_is_refused_and_nothing_touched(work, finished):
    before, path = content(work / 'out'), next((work / 'train/train_sharp').rglob('*.png'))
    picture = path.read_bytes()
    path.write_bytes(picture + b'another')
    try:
        with pytest.raises(RequestError, match=r'(?s)pictures have changed.*--again bicubic edsr$'):
            asked(work)
    finally:
        path.write_bytes(picture)
    assert content(work / 'out') == before


def test_a_run_that_fails_is_told_and_the_others_stay_as_they_are(work, finished):
    before = content(work / 'out')
    said = []
    with pytest.raises(WorkError, match='1 of 3 runs failed: rsca_seed0'):
        reproduce(work / 'out', say=said.append, rows=['bicubic', 'edsr', 'rsca'], seeds=[0], iterations=60,
                  options=work / 'options')  # fmt: skip
    told = next(text for text in said if 'failed after' in text)
    assert 'rsca_seed0.log' in told
    assert 'not finite' in told.partition('last lines')[2]
    after = content(work / 'out')
    assert {name: after[name] for name in before} == before


def test_unknown_rows_and_seeds_given_twice_are_refused(work):
    with pytest.raises(RequestError, match="'edrs'; did you mean 'edsr'"):
        asked(work, rows=['edrs'])
    with pytest.raises(RequestError, match='each once'):
        asked(work, seeds=[1, 1])
    with pytest.raises(RequestError, match='--again'):
        asked(work, again=['pdan'])
    with pytest.raises(RequestError, match='--nproc 0: expected 1'):
        asked(work, seeds=[5], nproc=0)


def test_rows_with_the_same_options_are_one_run():
    """As they are shipped: RCAN-wide and the base, PDAN and the last row."""
    planned = plan_rows(SMALL.rows, ROOT / 'options', None)
    runs = plan_runs(list(planned.values()), [3, 4], lpips=False)
    names = [run.name for run in runs]
    assert len(names) == 1 + 2 * 9
    assert planned['hpem'].run == 'pdan'
    assert planned['base'].run == 'rcan_wide'
    seeds = [run.seed for run in runs]
    assert seeds == sorted(seeds)  # all rows of a seed, then the next

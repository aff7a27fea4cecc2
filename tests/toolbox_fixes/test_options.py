"""From the command line to options."""

import argparse
import random
import sys

import pytest
import torch
import yaml
from basicsr.utils import options as toolbox_options

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.option_file import read_option_file
from pdan_plugin.weights.packaged_weights import DEFAULT, packaged_weights


@pytest.fixture
def parse(tmp_path, monkeypatch, sr_options):
    """parse(*flags, is_train=True, **changes of the option file) -> (opt, args)."""

    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'SLURM_PROCID', 'SLURM_NTASKS'):
        monkeypatch.delenv(name, raising=False)

    def run(*flags, is_train=True, **changes):
        monkeypatch.setattr(sys, 'argv', ['train', '-opt', str(sr_options(**changes)), *flags])
        return toolbox_options.parse_options(str(tmp_path / 'root'), is_train=is_train)

    return run


def test_options_are_as_published_where_nothing_was_wrong(stock, parse):
    with stock():
        published, _ = parse('--auto_resume', num_gpu=0)
    opt, args = parse('--auto_resume', num_gpu=0)
    assert opt['datasets']['train'].pop('manual_seed') == 3
    assert opt['val'].pop('suffix') is None
    assert opt == yaml.safe_load(yaml.safe_dump(_plain(published)))
    assert isinstance(args, argparse.Namespace)
    assert args.auto_resume


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def test_yaml_floats_and_overrides_are_numbers(stock, parse):
    with stock():
        assert parse('--force_yml', 'train:optim_g:lr=1e-4')[0]['train']['optim_g']['lr'] == '1e-4'
    assert parse('--force_yml', 'train:optim_g:lr=1e-4')[0]['train']['optim_g']['lr'] == 1e-4


def test_whole_numbers_are_integers_for_the_toolbox_s_own_command_too(parse):
    opt, _ = parse('--force_yml', 'train:total_iter=1e1', manual_seed=1e1, datasets__train__batch_size_per_gpu=2.0)
    numbers = opt['manual_seed'], opt['train']['total_iter'], opt['datasets']['train']['batch_size_per_gpu']
    assert [(number, type(number)) for number in numbers] == [(10, int), (10, int), (2, int)]


def test_packaged_weights_have_their_name_for_the_toolbox_s_own_command_too(parse):
    opt, _ = parse('--force_yml', f'path:pretrain_network_g={DEFAULT}')
    assert opt['path']['pretrain_network_g'] == str(packaged_weights()[DEFAULT])


def test_a_seed_given_as_override_is_the_seed(stock, parse):
    def draw():
        opt, _ = parse('--force_yml', 'manual_seed=11')
        return opt['manual_seed'], random.random(), torch.rand(1).item()

    with stock():
        published = draw()
    torch.manual_seed(11)
    expected = 11, random.Random(11).random(), torch.rand(1).item()
    assert draw() == expected
    assert published != expected


def test_overrides_are_not_run(stock, parse, tmp_path):
    made = tmp_path / 'made'
    entry = f'train:total_iter=[open({str(made)!r}, "w").close()]'
    with stock():
        parse('--force_yml', entry)
    assert made.exists()
    made.unlink()
    with pytest.raises(RequestError):
        parse('--force_yml', entry)
    assert not made.exists()


@pytest.mark.parametrize('flags', ['--local-rank=1', '--local-rank 1', '--local_rank=1', '--local_rank 1'])
def test_every_launchers_local_rank_is_understood(stock, parse, flags, monkeypatch):
    flags = flags.split()
    monkeypatch.setenv('LOCAL_RANK', '1')
    if '-rank' in flags[0]:
        with stock(), pytest.raises(SystemExit):
            parse(*flags)
    assert parse(*flags)[1].local_rank == 1


def test_devices_that_are_not_here_are_refused_before_anything_else(parse, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RequestError, match=r'num_gpu: 1: this machine has 0 CUDA devices; write `num_gpu: auto`'):
        parse(num_gpu=1)
    with pytest.raises(RequestError, match=r"num_gpu: 'all': expected a number"):
        parse(num_gpu='all')
    assert parse(num_gpu='auto')[0]['num_gpu'] == 0
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert parse(num_gpu='auto')[0]['num_gpu'] == 2
    with pytest.raises(RequestError, match='num_gpu: 4: this machine has 2'):
        parse(num_gpu=4)


def test_home_is_expanded_in_every_data_root(parse, monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    sources = [{'dataroot_gt': '~/a', 'dataroot_lq': '/b'}]
    opt, _ = parse(datasets__train__dataroot_lq_sharp='~/sharp', datasets__train__sources=sources)
    train = opt['datasets']['train']
    assert train['dataroot_lq_sharp'] == '/home/someone/sharp'
    assert train['sources'] == [{'dataroot_gt': '/home/someone/a', 'dataroot_lq': '/b'}]


@pytest.mark.parametrize(
    ('environment', 'launcher'),
    [
        ({}, None),
        ({'RANK': '0', 'WORLD_SIZE': '2'}, None),
        ({'RANK': '0', 'WORLD_SIZE': '2', 'MASTER_ADDR': 'localhost'}, 'pytorch'),
        ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '1'}, None),
        ({'SLURM_PROCID': '1', 'SLURM_NTASKS': '4'}, 'slurm'),
        ({'SLURM_PROCID': '0', 'SLURM_NTASKS': '4', 'SLURM_STEP_NUM_TASKS': '1'}, None),
    ],
)
def test_the_group_a_process_was_started_in_is_joined(parse, monkeypatch, environment, launcher):
    joined = []
    monkeypatch.setattr(toolbox_options, 'init_dist', lambda launcher, **given: joined.append((launcher, given)))
    for name in ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_STEP_NUM_TASKS'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    opt, _ = parse(dist_params__timeout=5)
    assert opt['dist'] is (launcher is not None)
    assert joined == ([(launcher, {'backend': 'gloo', 'port': 29500, 'timeout': 5})] if launcher else [])


def test_kept_options_are_those_that_ran(stock, parse, tmp_path, monkeypatch):
    flags = ('--force_yml', 'train:total_iter=7', 'train:optim_g:lr=2e-5')
    kept = tmp_path / 'kept' / 'small.yml'
    kept.parent.mkdir()
    with stock():
        toolbox_options.copy_opt_file(parse(*flags)[1].opt, str(kept.parent))
        assert yaml.safe_load(kept.read_text())['train']['total_iter'] == 6
    opt, args = parse(*flags)
    toolbox_options.copy_opt_file(args.opt, str(kept.parent))
    again = read_option_file(kept)
    assert again['train'] == opt['train']
    assert '#   train:total_iter=7\n' in kept.read_text()

    (tmp_path / 'mine.yml').write_text("extends: small.yml\nname: '1e-4'\ntrain: {total_iter: 8}\n")
    monkeypatch.setattr(sys, 'argv', ['train', '-opt', str(tmp_path / 'mine.yml'), *flags[:1], 'train:optim_g:lr=3e-5'])
    opt, args = toolbox_options.parse_options(str(tmp_path / 'root'))
    assert not {'extends', 'without'} & opt.keys()
    toolbox_options.copy_opt_file(args.opt, str(kept.parent))
    (tmp_path / 'small.yml').rename(tmp_path / 'base_is_gone.yml')
    kept_alone = kept.with_name('mine.yml')
    again = read_option_file(kept_alone)
    assert (again['name'], again['train']) == ('1e-4', opt['train'])
    assert again['train']['total_iter'] == 8
    lines = kept_alone.read_text().splitlines()
    start = lines.index('# merged from these files, each over the one above it:')
    assert lines[start + 1 : start + 5] == [
        f'#   {tmp_path / "small.yml"}', f'#   {tmp_path / "mine.yml"}', '# and then with --force_yml:',
        '#   train:optim_g:lr=3e-5',
    ]  # fmt: skip
    (tmp_path / 'base_is_gone.yml').rename(tmp_path / 'small.yml')

    _, args = parse(manual_seed=None)
    toolbox_options.copy_opt_file(args.opt, str(kept.parent))
    assert kept.read_text().endswith((tmp_path / 'small.yml').read_text())
    assert 'manual_seed was not given; this run drew ' in kept.read_text()


def test_what_every_option_file_has(parse, monkeypatch, tmp_path):
    path = tmp_path / 'bare.yml'
    path.write_text('name: bare\nnum_gpu: 0\n')
    monkeypatch.setattr(sys, 'argv', ['train', '-opt', str(path)])
    with pytest.raises(RequestError, match=r'bare\.yml: datasets: missing'):
        toolbox_options.parse_options(str(tmp_path))

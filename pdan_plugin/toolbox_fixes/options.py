"""From the command line and the option file to the options the pipelines run with."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shlex
import sys
import time
from os import path as osp
from typing import Any

import torch
from basicsr.utils import options as toolbox_options
from basicsr.utils.dist_util import get_dist_info, master_only

from pdan_plugin.errors import RequestError, refusing_unwritable
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.option_schema.option_file import load_option_file, read_option_file
from pdan_plugin.processes.launch import launcher_in_environment
from pdan_plugin.processes.process_group import from_rank_zero
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


class OptionPath(str):
    """The path of an option file, with what was laid over it: `copy_opt_file` is handed nothing else."""

    overrides: tuple[str, ...] = ()
    drawn_seed: int | None = None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument('-opt', type=OptionPath, required=True, help='option file (YAML)')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='who starts the ranks')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest whole training state')
    parser.add_argument('--debug', action='store_true', help='short intervals, no tensorboard, its own folder')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=None, help='set by older launchers')
    parser.add_argument('--force_yml', nargs='+', default=None, help='overrides, for example train:ema_decay=0.999')
    return parser


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """The toolbox's `parse_options`: options complete, process group joined, seeds set.

    Differences from the published one: the option file and `--force_yml` are read by `option_file` (nothing is
    evaluated, overrides come before seeding), the process group is joined under torchrun or srun without being told,
    every rank has rank 0's seed, the train data set is told the seed, and what cannot run on this machine is an error.

    Args:
        root_path: experiments/ and results/ are made in it.
        is_train: Options for the trainer, or for the tester.

    Raises:
        RequestError: The option file or an override cannot be read, or asks for devices that are not here.
    """
    args = _parser().parse_args()
    args.opt.overrides = tuple(args.force_yml or ())
    opt = read_option_file(args.opt, args.opt.overrides)
    for key in ('name', 'num_gpu', 'datasets'):
        if key not in opt:
            raise RequestError(f'{args.opt}: {key}: is missing; every option file has it')

    if args.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    launcher = args.launcher if args.launcher != 'none' else launcher_in_environment()
    opt['dist'] = launcher is not None
    opt['num_gpu'] = device_count(opt['num_gpu'], opt['dist'], args.opt)
    if launcher is not None:
        dist_params = dict(opt.get('dist_params') or {})
        if opt['num_gpu'] == 0:
            dist_params['backend'] = 'gloo'
        toolbox_options.init_dist(launcher, **dist_params)
    opt['rank'], opt['world_size'] = get_dist_info()

    if opt.get('manual_seed') is None:
        opt['manual_seed'] = args.opt.drawn_seed = from_rank_zero(lambda: random.randint(1, 10000))
    toolbox_options.set_random_seed(opt['manual_seed'] + opt['rank'])

    opt['auto_resume'] = args.auto_resume
    opt['is_train'] = is_train
    if args.debug and not opt['name'].startswith('debug'):
        opt['name'] = 'debug_' + opt['name']
    complete_datasets(opt)
    _complete_paths(opt, root_path)
    if opt.get('val') is not None:
        opt['val'].setdefault('suffix', None)
    if is_train and 'debug' in opt['name']:
        if opt.get('val') is not None:
            opt['val']['val_freq'] = 8
        opt['logger']['print_freq'] = 1
        opt['logger']['save_checkpoint_freq'] = 8
    return opt, args


def device_count(num_gpu: Any, dist: bool, path: str) -> int:
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpu == 'auto':
        return present
    if not isinstance(num_gpu, int) or isinstance(num_gpu, bool) or num_gpu < 0:
        raise RequestError(f"{path}: num_gpu: {num_gpu!r}: expected a number of devices, or 'auto'")
    # with several ranks num_gpu tells the devices of all machines, so more than are here is no contradiction
    if num_gpu > 0 and (present == 0 or (num_gpu > present and not dist)):
        raise RequestError(
            f'{path}: num_gpu: {num_gpu}: this machine has {present} CUDA devices; write `num_gpu: auto` '
            '(on the command line: --force_yml num_gpu=auto) to use what is here, the CPU included'
        )
    return num_gpu


def complete_datasets(opt: dict[str, Any]) -> None:
    for name, dataset in opt['datasets'].items():
        dataset['phase'] = name.split('_')[0]
        if 'scale' in opt:
            dataset['scale'] = opt['scale']
        if dataset['phase'] == 'train':
            dataset['manual_seed'] = opt['manual_seed']
        sources = dataset.get('sources')
        for source in [dataset, *(sources if isinstance(sources, list) else [])]:
            if not isinstance(source, dict):
                continue  # the data set says what is wrong with it
            for key, value in source.items():
                if key.startswith('dataroot') and isinstance(value, str):
                    source[key] = osp.expanduser(value)


def _complete_paths(opt: dict[str, Any], root_path: str) -> None:
    paths = opt['path'] = opt.get('path') or {}
    for key, value in paths.items():
        if isinstance(value, str) and ('resume_state' in key or 'pretrain_network' in key):
            paths[key] = osp.expanduser(value)
    if opt['is_train']:
        root = paths['experiments_root'] = osp.join(root_path, 'experiments', opt['name'])
        paths['models'] = osp.join(root, 'models')
        paths['training_states'] = osp.join(root, 'training_states')
    else:
        root = paths['results_root'] = osp.join(root_path, 'results', opt['name'])
    paths['log'] = root
    paths['visualization'] = osp.join(root, 'visualization')


@master_only
def copy_opt_file(opt_file: str, experiments_root: str) -> None:
    """Leaves in the experiment's folder an option file that, run again, is the same run.

    A plain file is kept as written. A file that extends others, or has overrides, is kept as its merged options, which
    need no other file; the comment at the top says what they were merged from. It also gives a seed that was drawn.

    Raises:
        RequestError: It cannot be written; an earlier one is as it was.
    """
    overrides = getattr(opt_file, 'overrides', ())
    header = [f'GENERATE TIME: {time.asctime()}', f'CMD: {shlex.join(sys.argv)}']
    if getattr(opt_file, 'drawn_seed', None) is not None:
        header.append(f'manual_seed was not given; this run drew {getattr(opt_file, "drawn_seed")}')  # noqa: B009
    read = load_option_file(opt_file, overrides)
    header += read.provenance()
    path = osp.join(experiments_root, osp.basename(opt_file))
    with refusing_unwritable(path):
        write_whole(path, ''.join(f'# {" ".join(line.splitlines())}\n' for line in header) + f'\n{read.text}')


@fix(
    where='utils/options.py:81-167',
    upstream='none',
    symptom='`lr: 1e-3` is a TypeError; --local-rank is refused; --force_yml is evaluated, and too late for the seed',
    behaves=lambda: _reads_by_safe_rules(),
)
def options_read_by_safe_rules() -> None:
    """Replaces `parse_options` as a whole: its defects sit in one function."""
    replace(toolbox_options, 'parse_options', parse_options)


@fix(
    where='utils/options.py:175',
    upstream='none',
    symptom='the option file kept with an experiment lacks the overrides it was run with',
)
def kept_options_are_those_run() -> None:
    """Replaces `copy_opt_file`. Not probed: it would have to write a file."""
    replace(toolbox_options, 'copy_opt_file', copy_opt_file)


@probe
def _reads_by_safe_rules() -> bool:
    """Runs `parse_options` on a pipe, by its name under /dev/fd; a system without that is taken to need the fix."""
    reading, writing = os.pipe()
    try:
        os.write(writing, b'{name: probe, num_gpu: 0, manual_seed: 1, lr: 1e-3, datasets: {}, path: {}, logger: {}}')
        os.close(writing)
        overrides = ['--force_yml', 'manual_seed=2', 'probe=[1+1]']
        argv = ['probe', '-opt', f'/dev/fd/{reading}', '--local-rank', '0', *overrides]
        seeds: list[int] = []
        with (
            swapped(toolbox_options, set_random_seed=seeds.append, init_dist=lambda *args, **kwargs: None),
            swapped(sys, argv=argv),
            swapped(os, environ={}),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            opt, _ = toolbox_options.parse_options(os.devnull)
        return seeds == [2] and opt['lr'] == 1e-3 and opt['probe'] == ['1+1']
    except SystemExit:
        return False
    finally:
        os.close(reading)

"""The toolbox's `parse_options` and `copy_opt_file`, by which its pipelines get their options and keep a copy of them.

The pipelines take no options; they call `parse_options`, which reads the command line. A command that has read and
checked options hands them over for the duration of the pipeline, and `parse_options` takes those. Where no command has,
as under the toolbox's own ``python basicsr/train.py -opt FILE``, it reads the command line as published.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import shlex
import sys
from collections.abc import Iterator
from os import path as osp
from pathlib import Path
from typing import Any

from basicsr.utils import options as toolbox_options
from basicsr.utils.dist_util import get_dist_info, master_only

from pdan_plugin.errors import refusing_unwritable
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.machine.devices import device_count
from pdan_plugin.option_schema.completion import complete_options, group_parameters, require_what_every_file_has
from pdan_plugin.option_schema.option_file import OptionFile
from pdan_plugin.option_schema.run_request import RunRequest, read_request
from pdan_plugin.processes.launchers import LAUNCHERS, launcher_in_environment
from pdan_plugin.processes.process_group import from_rank_zero
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped

_handed: RunRequest | None = None


@contextlib.contextmanager
def handed_over(request: RunRequest) -> Iterator[None]:
    """The toolbox's pipelines started within the block run with the options of this request, the very object."""
    global _handed
    before, _handed = _handed, request
    try:
        yield
    finally:
        _handed = before


class RequestPath(str):
    """The path of an option file with the request it belongs to: `copy_opt_file` gets nothing else."""

    request: RunRequest


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """The toolbox's `parse_options`: options complete, process group joined, seeds set.

    The options are those that a command has handed over, else those of the command line. Differences from the published
    function: the file and ``--force_yml`` are read by `load_option_file` (nothing is evaluated, overrides come before
    seeding), the process group of torchrun or srun is joined without a flag, every rank has rank 0's seed, the train
    data set has the seed in its options, and what cannot run on this machine is an error.

    Args:
        root_path: experiments/ and results/ are made in it.
        is_train: Options for the trainer, or for the tester.

    Raises:
        RequestError: The option file or an override cannot be read, or asks for devices that are not here.
    """
    request = _handed or _read_command_line()
    opt = request.options
    require_what_every_file_has(opt, request.path)
    if request.local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(request.local_rank))
    launcher = request.launcher if request.launcher not in (None, 'none') else launcher_in_environment()
    opt['dist'] = launcher is not None
    opt['num_gpu'] = device_count(opt['num_gpu'], opt['dist'], request.path)
    if launcher is not None:
        toolbox_options.init_dist(launcher, **group_parameters(opt))
    opt['rank'], opt['world_size'] = get_dist_info()
    if opt.get('manual_seed') is None:
        opt['manual_seed'] = request.drawn_seed = from_rank_zero(lambda: random.randint(1, 10000))
    toolbox_options.set_random_seed(opt['manual_seed'] + opt['rank'])
    complete_options(opt, root_path, is_train=is_train, auto_resume=request.auto_resume, debug=request.debug)
    return opt, _as_arguments(request)


def _read_command_line() -> RunRequest:
    """The request of the toolbox's own command line, ``python basicsr/train.py -opt FILE ...``."""
    parser = argparse.ArgumentParser()
    parser.add_argument('-opt', required=True, help='option file (YAML)')
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='who starts the ranks')
    parser.add_argument('--auto_resume', action='store_true', help='go on from the newest whole training state')
    parser.add_argument('--debug', action='store_true', help='short intervals, no tensorboard, its own folder')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=None, help='set by older launchers')
    parser.add_argument('--force_yml', nargs='+', default=[], help='overrides, for example train:ema_decay=0.999')
    arguments = parser.parse_args()
    return read_request(
        arguments.opt,
        arguments.force_yml,
        command=shlex.join(sys.argv),
        launcher=arguments.launcher,
        local_rank=arguments.local_rank,
        auto_resume=arguments.auto_resume,
        debug=arguments.debug,
    )


def _as_arguments(request: RunRequest) -> argparse.Namespace:
    """The arguments as the published parser gives them."""
    path = RequestPath(request.path)
    path.request = request
    return argparse.Namespace(
        opt=path,
        launcher=request.launcher or 'none',
        auto_resume=request.auto_resume,
        debug=request.debug,
        local_rank=request.local_rank,
        force_yml=list(request.file.overrides) or None,
    )


@master_only
def copy_opt_file(opt_file: str, experiments_root: str) -> None:
    """Leaves in the experiment's folder an option file that, run again, is the same run: `RunRequest.kept_file`.

    Raises:
        RequestError: It cannot be written; an earlier one is as it was.
    """
    request = opt_file.request if isinstance(opt_file, RequestPath) else None
    request = request or read_request(opt_file, command=shlex.join(sys.argv))
    path = osp.join(experiments_root, osp.basename(opt_file))
    with refusing_unwritable(path):
        write_whole(path, request.kept_file())


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
    """Runs `parse_options` on options that are handed over, and on a pipe.

    The pipe goes by its name under /dev/fd; a system without that is taken to need the fix.
    """
    reading, writing = os.pipe()
    try:
        os.write(writing, b'{name: probe, num_gpu: 0, manual_seed: 1, lr: 1e-3, datasets: {}, path: {}, logger: {}}')
        os.close(writing)
        overrides = ['--force_yml', 'manual_seed=2', 'probe=[1+1]']
        argv = ['probe', '-opt', f'/dev/fd/{reading}', '--local-rank', '0', *overrides]
        handed = {'name': 'handed', 'num_gpu': 0, 'manual_seed': 3, 'datasets': {}, 'path': {}, 'logger': {}}
        seeds: list[int] = []
        with (
            swapped(toolbox_options, set_random_seed=seeds.append, init_dist=lambda *args, **kwargs: None),
            swapped(sys, argv=argv),
            swapped(os, environ={}),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            opt, _ = toolbox_options.parse_options(os.devnull)
            with handed_over(RunRequest(OptionFile(Path('probe'), handed, (), (), ''), '')):
                taken, _ = toolbox_options.parse_options(os.devnull)
        return seeds == [2, 3] and opt['lr'] == 1e-3 and opt['probe'] == ['1+1'] and taken is handed
    except SystemExit:
        return False
    finally:
        os.close(reading)

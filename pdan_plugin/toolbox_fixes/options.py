"""The toolbox's `parse_options` and `copy_opt_file`, with which its pipelines get their options and save a copy.

The pipelines take no options as arguments; they call `parse_options`, which reads the command line. A command of this
package has already read and checked the options. It passes them with `handed_over`, and `parse_options` returns them.
Without such a command, as in the toolbox's ``python basicsr/train.py -opt FILE``, it reads the command line.
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
from pdan_plugin.option_schema.whole_numbers import write_whole_numbers
from pdan_plugin.processes.launchers import LAUNCHERS, launcher_in_environment
from pdan_plugin.processes.process_group import from_rank_zero
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped
from pdan_plugin.weights.packaged_weights import resolve_packaged_weights

_handed: RunRequest | None = None


@contextlib.contextmanager
def handed_over(request: RunRequest) -> Iterator[None]:
    """Inside the block, the toolbox's pipelines run with this request's options (the same object, not a copy)."""
    global _handed
    before, _handed = _handed, request
    try:
        yield
    finally:
        _handed = before


class RequestPath(str):
    """The path of an option file with its request attached, because `copy_opt_file` gets only the path."""

    request: RunRequest


def parse_options(root_path: str, is_train: bool = True) -> tuple[dict[str, Any], argparse.Namespace]:
    """Replaces the toolbox's `parse_options`: completes the options, joins the process group, sets the seeds.

    The options come from `handed_over`, else from the command line. Differences from the published function: the file
    and ``--force_yml`` are read by `load_option_file` (no evaluation of code, overrides before seeding), the process
    group of torchrun or srun is joined without a flag, every rank uses rank 0's seed, the train data set has the seed
    in its options, and options that cannot run on this machine are an error.

    Args:
        root_path: Folder in which experiments/ and results/ are created.
        is_train: Options for the trainer if true, else for the tester.

    Raises:
        RequestError: The option file or an override cannot be read, or needs devices that this machine lacks.
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
    parser.add_argument('--auto_resume', action='store_true', help='resume from the newest complete training state')
    parser.add_argument('--debug', action='store_true', help='short intervals, no tensorboard, its own folder')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=None, help='set by older launchers')
    parser.add_argument('--force_yml', nargs='+', default=[], help='overrides, for example train:ema_decay=0.999')
    arguments = parser.parse_args()
    request = read_request(
        arguments.opt,
        arguments.force_yml,
        command=shlex.join(sys.argv),
        launcher=arguments.launcher,
        local_rank=arguments.local_rank,
        auto_resume=arguments.auto_resume,
        debug=arguments.debug,
    )
    write_whole_numbers(request.options)
    resolve_packaged_weights(request.options)
    return request


def _as_arguments(request: RunRequest) -> argparse.Namespace:
    """The request in the form of the published parser's arguments."""
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
    """Saves an option file that reproduces the run in the experiment's folder: `RunRequest.kept_file`.

    Raises:
        RequestError: It cannot be written; an earlier file is unchanged.
    """
    request = opt_file.request if isinstance(opt_file, RequestPath) else None
    request = request or read_request(opt_file, command=shlex.join(sys.argv))
    path = osp.join(experiments_root, osp.basename(opt_file))
    with refusing_unwritable(path):
        write_whole(path, request.kept_file())


@fix(
    where='utils/options.py:81-167',
    upstream='none',
    symptom='`lr: 1e-3` is a TypeError; --local-rank is rejected; --force_yml runs code, and after the seed is set',
    behaves=lambda: _reads_by_safe_rules(),
)
def options_read_by_safe_rules() -> None:
    """Replaces all of `parse_options`: the defects are all in this function."""
    replace(toolbox_options, 'parse_options', parse_options)


@fix(
    where='utils/options.py:175',
    upstream='none',
    symptom="the option file saved with an experiment lacks the run's overrides",
)
def kept_options_are_those_run() -> None:
    """Replaces `copy_opt_file`. Not probed: a probe would have to write a file."""
    replace(toolbox_options, 'copy_opt_file', copy_opt_file)


@probe
def _reads_by_safe_rules() -> bool:
    """Runs `parse_options` on handed-over options, and on an option file that is a pipe.

    The pipe is opened as /dev/fd/N; on a system without /dev/fd the fix counts as needed.
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

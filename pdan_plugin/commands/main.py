"""The ``basicsr`` command: arguments, one call into the room that does the work, and its exit status.

0: done. 1: failed while running. 2: the request was wrong, and what to change is said. 130, 143: stopped by Ctrl-C or
SIGTERM; a training run has saved its state.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basicsr.test import test_pipeline
from basicsr.train import train_pipeline

from pdan_plugin import __version__, restoration
from pdan_plugin.commands import plugin_table, preflight, run_report
from pdan_plugin.commands.restore_arguments import add_restore_arguments
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.option_file import load_option_file
from pdan_plugin.plugins import load_plugins
from pdan_plugin.processes import launch
from pdan_plugin.processes.command_start import WRONG_REQUEST, print_refusal, started_as_module, started_as_script
from pdan_plugin.processes.process_group import leave_process_group, restarts
from pdan_plugin.report.page import write_report
from pdan_plugin.report.test_run import RECORD
from pdan_plugin.report.training_curves import draw_curves
from pdan_plugin.toolbox_fixes import other_basicsr_commands
from pdan_plugin.training.history import FILE_NAME
from pdan_plugin.training.interruption import RunStopped

FAILED, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status. Mistakes in the arguments themselves end the process with 2."""
    arguments = _parser().parse_args(argv)
    try:
        _refuse_ambiguous_command()
        return arguments.run(arguments)
    except RequestError as error:
        print_refusal(RequestError(_without_worker_traceback(str(error))))
        return WRONG_REQUEST
    except WorkError as error:
        print(f'basicsr {arguments.command}: {error}', file=sys.stderr, flush=True)
        return FAILED
    except KeyboardInterrupt:
        print(f'basicsr {arguments.command}: interrupted', file=sys.stderr, flush=True)
        return INTERRUPTED
    except Exception as error:
        traceback.print_exc()
        print(
            f'basicsr {arguments.command}: failed while running: {type(error).__name__}: {error}',
            file=sys.stderr,
            flush=True,
        )
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='basicsr', description='BasicSR with its plugins: train, test and use networks that restore pictures.'
    )
    parser.add_argument('--version', action='version', version=f'pdan-plugin {__version__}')
    commands = parser.add_subparsers(dest='command', required=True, metavar='COMMAND')

    train = _add(commands, 'train', _train, 'train a network as an option file says')
    _add_option_file(train)
    _add_run_arguments(train)
    test = _add(commands, 'test', _test, 'test a trained network as an option file says')
    _add_option_file(test)
    _add_run_arguments(test)

    check = _add(commands, 'check', _check, 'check options and data, tell sizes, train nothing')
    _add_option_file(check)
    check.add_argument('--nproc', type=int, default=1, metavar='N', help='workers the run will have (default: 1)')

    restore = _add(commands, 'restore', _restore, 'restore a picture, a video, or a folder of them')
    add_restore_arguments(restore)

    _add(commands, 'plugins', _plugins, 'list what is registered, and what was mended in the toolbox')
    return parser


def _add(commands: Any, name: str, run: Any, purpose: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=purpose, description=purpose.capitalize() + '.', allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_option_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('-opt', dest='option_file', required=True, metavar='FILE', help='the option file (YAML)')
    parser.add_argument(
        '--force_yml',
        nargs='+',
        default=[],
        metavar='KEY:SUB=VALUE',
        help='options to set over the file, such as train:total_iter=1000',
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--launcher', choices=launch.LAUNCHERS, help='who started the processes (default: found out)')
    parser.add_argument('--auto_resume', action='store_true', help="go on from the run's last saved state")
    parser.add_argument('--debug', action='store_true', help='a short run that logs and validates often')
    parser.add_argument('--local_rank', '--local-rank', type=int, help='set by launchers')
    parser.add_argument('--nproc', type=int, metavar='N', help='start N workers on this machine')


def _train(arguments: argparse.Namespace) -> int:
    return _run_pipeline(arguments, is_train=True)


def _test(arguments: argparse.Namespace) -> int:
    return _run_pipeline(arguments, is_train=False)


def _run_pipeline(arguments: argparse.Namespace, *, is_train: bool) -> int:
    """The toolbox's trainer or tester on checked options, in this process or in ``--nproc`` workers."""
    group = launch.find_group(arguments.launcher) if arguments.nproc is None else launch.Group('none', 0, 1)
    world_size = arguments.nproc or group.world_size
    try:
        opt = _checked_options(arguments.option_file, arguments.force_yml, is_train=is_train)
        if arguments.nproc is not None:
            backend = (opt.get('dist_params') or {}).get('backend') or 'nccl'
            launch.check_worker_count(arguments.nproc, arguments.launcher, backend)
        preflight.check_run(
            opt,
            arguments.option_file,
            is_train=is_train,
            world_size=world_size,
            distributed=arguments.nproc is not None or group.launcher != 'none',
            auto_resume=arguments.auto_resume or restarts() > 0,
            debug=arguments.debug,
        )
    except RequestError:
        # the ranks of a machine find the same, and the first of them says it; another machine may lack its data
        if group.rank != 0 and os.environ.get('LOCAL_RANK', '0') != '0':
            return WRONG_REQUEST
        raise
    flags = _toolbox_flags(arguments)
    if arguments.nproc is not None:
        words = [arguments.command, *flags, '--launcher', 'pytorch']
        status = launch.run_workers(arguments.nproc, words, saves_when_stopped=is_train)
        if status > 128 and not is_train:
            print(f'basicsr {arguments.command}: interrupted', file=sys.stderr, flush=True)
        return status
    stated = [*flags, '--launcher', group.launcher]
    if arguments.local_rank is not None:
        stated += ['--local_rank', str(arguments.local_rank)]
    command_line = sys.argv
    # the toolbox reads its arguments from here, and writes them into the run's copy of the option file
    sys.argv = [f'basicsr {arguments.command}', *stated]
    stopped = None
    try:
        (train_pipeline if is_train else test_pipeline)(os.getcwd())
    except RunStopped as error:
        stopped = error.with_traceback(None)  # which would keep the networks, and they the process group
    finally:
        sys.argv = command_line
        if is_train and group.rank == 0:
            _draw_curves(opt, debug=arguments.debug)
    if stopped is not None and stopped.iteration is None:
        return _tell_stop(stopped, arguments, group)  # the other ranks may be anywhere
    leave_process_group()
    if stopped is not None:
        return _tell_stop(stopped, arguments, group)
    if group.rank == 0:
        print(_what_next(opt, is_train=is_train, debug=arguments.debug), flush=True)
        if not is_train:
            _write_report(Path('results', preflight.run_name(opt, debug=arguments.debug)))
    return 0


def _tell_stop(stopped: RunStopped, arguments: argparse.Namespace, group: launch.Group) -> int:
    """Says what was saved and how to go on; the exit status, which is the launcher's to give where that asked."""
    if group.rank == 0:
        flags = _toolbox_flags(arguments)
        words = ['basicsr', 'train', *flags, *(() if arguments.auto_resume else ('--auto_resume',))]
        words += ['--nproc', str(group.world_size)] if stopped.by_launcher else []
        print(f'basicsr train: {stopped}', file=sys.stderr)
        if stopped.state is not None:
            print(f'Go on with: {shlex.join(words)}', file=sys.stderr, flush=True)
    return 0 if stopped.by_launcher else 128 + stopped.signal


def _toolbox_flags(arguments: argparse.Namespace) -> list[str]:
    flags = ['-opt', arguments.option_file]
    flags += ['--auto_resume'] if arguments.auto_resume else []
    flags += ['--debug'] if arguments.debug else []
    return [*flags, '--force_yml', *arguments.force_yml] if arguments.force_yml else flags


def _checked_options(path: str, overrides: Sequence[str], *, is_train: bool | None = None) -> dict[str, Any]:
    """The options of a file, its plugins loaded and every word checked; ``is_train=None`` goes by what is in it."""
    read = load_option_file(path, overrides)
    opt = read.options
    names = opt.get('plugins')
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RequestError(
            f'{read.place("plugins")}: plugins: found {names!r}; expected a list of names, such as '
            '[pdan, my_project.archs]'
        )
    load_plugins(names)
    check_options(opt, path, is_train=preflight.is_training(opt) if is_train is None else is_train, place=read.place)
    return opt


def _draw_curves(opt: dict[str, Any], *, debug: bool) -> None:
    """The run as a picture beside its checkpoints, however it ended."""
    folder = Path('experiments', preflight.run_name(opt, debug=debug))
    metrics = (opt.get('val') or {}).get('metrics') or {}
    lower = [name for name, section in metrics.items() if section.get('better') == 'lower']
    try:
        if draw_curves(folder / FILE_NAME, folder / 'curves.png', lower_is_better=lower):
            print(f'Curves: {folder / "curves.png"}', flush=True)
    except (OSError, RequestError) as error:  # the run's own end is what matters
        print(f'basicsr train: no curves: {error}', file=sys.stderr, flush=True)


def _write_report(folder: Path) -> None:
    """The test as a page to look at; a model that leaves no record of its test, such as the toolbox's, has none."""
    if not (folder / RECORD).is_file():
        return
    try:
        print(f'Report: {write_report([folder])}', flush=True)
    except (OSError, RequestError, WorkError) as error:  # the scores are there
        print(f'basicsr test: no report: {error}', file=sys.stderr, flush=True)


def _what_next(opt: dict[str, Any], *, is_train: bool, debug: bool) -> str:
    name = preflight.run_name(opt, debug=debug)
    if is_train:
        averaged = ' path:param_key_g=params_ema' if opt['train'].get('ema_decay') else ''
        weights = f'experiments/{name}/models/net_g_latest.pth'
        option = shlex.quote(f'path:pretrain_network_g={weights}')
        return (
            f'Trained weights: {weights}\n'
            f'Next, with an option file that names the test data:\n'
            f'  basicsr test -opt FILE --force_yml {option}{averaged}\n'
            f'or on pictures of your own:\n'
            f'  basicsr restore INPUT -o OUTPUT -w {shlex.quote(weights)}'
        )
    pictures = f'Pictures: results/{name}/visualization/\n' if opt['val']['save_img'] else ''
    return f'{pictures}Scores: results/{name}/'


def _check(arguments: argparse.Namespace) -> int:
    opt = _checked_options(arguments.option_file, arguments.force_yml)
    if arguments.nproc < 1:
        raise RequestError(f'--nproc {arguments.nproc}: expected 1 worker or more')
    missing = preflight.missing_weights(opt, arguments.option_file)
    print(
        run_report.report(
            opt,
            arguments.option_file,
            world_size=arguments.nproc,
            overrides=arguments.force_yml,
            without=tuple(missing),
        ),
        flush=True,
    )
    if missing:  # of an earlier phase, perhaps: all else can be checked before it is trained
        raise RequestError('all else is in order, but ' + '\n'.join(missing.values()))
    return 0


def _restore(arguments: argparse.Namespace) -> int:
    load_plugins(None)
    return restoration.restore_path(
        arguments.input,
        arguments.output,
        arguments.weights,
        arguments.option_file,
        precision=arguments.precision,
        compiled=arguments.compile,
        tile=arguments.tile,
        overlap=arguments.overlap,
        memory=arguments.memory,
        self_ensemble=arguments.self_ensemble,
        device=arguments.device,
        overwrite=arguments.overwrite,
    )


def _plugins(_arguments: argparse.Namespace) -> int:
    print(plugin_table.describe(load_plugins(None)), flush=True)
    return 0


def _refuse_ambiguous_command() -> None:
    """Two packages may both have written a script ``basicsr``; the later one won, and no one can tell which.

    Raises:
        RequestError: This process is that script.
    """
    if os.environ.get('RANK', '0') != '0':
        return
    others = other_basicsr_commands()
    advice = '`python -m pdan_plugin` is always this one'
    if others and started_as_script():
        raise RequestError(
            f'{", ".join(others)} also installs a command basicsr, so which of them `basicsr` starts '
            f'depends on what was installed last; {advice}, or uninstall the other'
        )
    if others:
        print(f'basicsr: warning: {", ".join(others)} also installs a command basicsr; {advice}', file=sys.stderr)
    found = shutil.which('basicsr')
    if started_as_module() and found and not _is_of_this_environment(Path(found)):
        print(
            f'basicsr: warning: the command basicsr on PATH is {found}, of another environment than this Python '
            f'({sys.executable}); {advice}',
            file=sys.stderr,
        )


def _is_of_this_environment(script: Path) -> bool:
    folders = {Path(sysconfig.get_path('scripts')), Path(sys.executable).parent}
    return script.resolve().parent in {folder.resolve() for folder in folders}


def _without_worker_traceback(text: str) -> str:
    """The message alone, where torch's data loader has wrapped it in the worker's traceback."""
    return text.rpartition(f'{RequestError.__name__}: ')[2].strip() if text.startswith('Caught RequestError') else text

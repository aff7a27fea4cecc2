"""The end of a run: writes curves and a report, and prints the next command."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.commands.option_arguments import toolbox_flags
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.models.scores_record import RECORD
from pdan_plugin.option_schema.completion import run_name
from pdan_plugin.processes.launchers import Group
from pdan_plugin.report.page import write_report
from pdan_plugin.report.training_curves import draw_curves
from pdan_plugin.training.history import FILE_NAME
from pdan_plugin.training.interruption import RunStopped


def report_stop(stopped: RunStopped, arguments: argparse.Namespace, group: Group) -> int:
    """Prints the saved state and the command to resume. Returns the exit status.

    It is 0 if the launcher requested the stop: the launcher then sets the exit status of the run.
    """
    if group.rank == 0:
        words = ['basicsr', 'train', *toolbox_flags(arguments)]
        words += [] if arguments.auto_resume else ['--auto_resume']
        words += ['--nproc', str(group.world_size)] if stopped.by_launcher else []
        print(f'basicsr train: {stopped}', file=sys.stderr)
        if stopped.state is not None:
            print(f'Resume with: {shlex.join(words)}', file=sys.stderr, flush=True)
    return 0 if stopped.by_launcher else 128 + stopped.signal


def leave_curves(opt: Mapping[str, Any], *, debug: bool) -> None:
    """Draws the curves of the run beside its checkpoints, also after a failed run."""
    folder = Path('experiments', run_name(opt, debug=debug))
    metrics = (opt.get('val') or {}).get('metrics') or {}
    lower = [name for name, section in metrics.items() if section.get('better') == 'lower']
    try:
        if draw_curves(folder / FILE_NAME, folder / 'curves.png', lower_is_better=lower):
            print(f'Curves: {folder / "curves.png"}', flush=True)
    except (OSError, RequestError) as error:  # must not hide an error of the run
        print(f'basicsr train: no curves: {error}', file=sys.stderr, flush=True)


def leave_report(opt: Mapping[str, Any], *, debug: bool) -> None:
    """Writes the report page of a test. Models without a test record, such as the toolbox's, get none."""
    folder = Path('results', run_name(opt, debug=debug))
    if not (folder / RECORD).is_file():
        return
    try:
        print(f'Report: {write_report([folder])}', flush=True)
    except (OSError, RequestError, WorkError) as error:  # the scores are already written
        print(f'basicsr test: no report: {error}', file=sys.stderr, flush=True)


def what_next(opt: dict[str, Any], *, is_train: bool, debug: bool) -> str:
    """The places of the results, and the commands that use them."""
    name = run_name(opt, debug=debug)
    if is_train:
        averaged = ' path:param_key_g=params_ema' if opt['train'].get('ema_decay') else ''
        weights = f'experiments/{name}/models/net_g_latest.pth'
        option = shlex.quote(f'path:pretrain_network_g={weights}')
        return (
            f'Trained weights: {weights}\n'
            f'Next, with an option file that names the test data:\n'
            f'  basicsr test -opt FILE --force_yml {option}{averaged}\n'
            f'or for your own pictures:\n'
            f'  basicsr restore INPUT -o OUTPUT -w {shlex.quote(weights)}'
        )
    pictures = f'Pictures: results/{name}/visualization/\n' if opt['val']['save_img'] else ''
    return f'{pictures}Scores: results/{name}/'

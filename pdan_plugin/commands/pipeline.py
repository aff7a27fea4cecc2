"""Runs the toolbox's trainer or tester with checked options, in this process or in ``--nproc`` workers."""

from __future__ import annotations

import argparse
import os
import sys

from basicsr.test import test_pipeline
from basicsr.train import train_pipeline

from pdan_plugin.commands.checked_request import checked_request
from pdan_plugin.commands.option_arguments import toolbox_flags
from pdan_plugin.commands.preflight import check_run
from pdan_plugin.commands.run_end import leave_curves, leave_report, report_stop, what_next
from pdan_plugin.commands.script_end import DONE, WRONG_REQUEST
from pdan_plugin.commands.worker_failures import worker_failure
from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.run_request import RunRequest
from pdan_plugin.processes.launch import check_worker_count, run_workers
from pdan_plugin.processes.launchers import Group, find_group, speaks_for_its_machine
from pdan_plugin.processes.process_group import leave_process_group, restarts, use_own_gpu
from pdan_plugin.toolbox_fixes.options import handed_over
from pdan_plugin.training.interruption import RunStopped


def run_pipeline(arguments: argparse.Namespace, *, is_train: bool) -> int:
    """Checks a run and runs it; returns the exit status.

    Raises:
        RequestError: The run cannot start; nothing has been written.
    """
    try:
        request = checked_request(arguments, is_train=is_train)
        group = _group(arguments, request)
        if group.launcher != 'none':
            use_own_gpu()
        check_run(
            request.options,
            request.path,
            is_train=is_train,
            world_size=group.world_size,
            distributed=arguments.nproc is not None or group.launcher != 'none',
            auto_resume=arguments.auto_resume or restarts() > 0,
            debug=arguments.debug,
        )
    except RequestError:
        if not speaks_for_its_machine():
            return WRONG_REQUEST
        raise
    if arguments.nproc is not None:
        return _run_in_workers(arguments, request, saves_when_stopped=is_train)
    return _run_here(arguments, request, group, is_train=is_train)


def _group(arguments: argparse.Namespace, request: RunRequest) -> Group:
    """The process group of the run. With ``--nproc`` its workers are not started yet."""
    if arguments.nproc is None:
        return find_group(arguments.launcher)
    backend = (request.options.get('dist_params') or {}).get('backend') or 'nccl'
    check_worker_count(arguments.nproc, arguments.launcher, backend)
    return Group('none', 0, arguments.nproc)


def _run_in_workers(arguments: argparse.Namespace, request: RunRequest, *, saves_when_stopped: bool) -> int:
    words = [arguments.command, *toolbox_flags(arguments), '--launcher', 'pytorch']
    status = run_workers(arguments.nproc, words, command=request.command, saves_when_stopped=saves_when_stopped)
    if status > 128 and not saves_when_stopped:
        print(f'basicsr {arguments.command}: interrupted', file=sys.stderr, flush=True)
    return status


def _run_here(arguments: argparse.Namespace, request: RunRequest, group: Group, *, is_train: bool) -> int:
    pipeline = train_pipeline if is_train else test_pipeline
    opt, stopped = request.options, None
    try:
        with handed_over(request):
            pipeline(os.getcwd())
    except RuntimeError as error:
        failure = worker_failure(error)
        if failure is None:
            raise
        raise failure from error
    except RunStopped as error:
        stopped = error.with_traceback(None)  # a traceback would keep the networks and so the process group alive
    finally:
        if is_train and group.rank == 0:
            leave_curves(opt, debug=arguments.debug)
    if stopped is not None and stopped.iteration is None:
        return report_stop(stopped, arguments, group)  # without leaving the group: other ranks may not answer
    leave_process_group()
    if stopped is not None:
        return report_stop(stopped, arguments, group)
    if group.rank == 0:
        print(what_next(opt, is_train=is_train, debug=arguments.debug), flush=True)
        if not is_train:
            leave_report(opt, debug=arguments.debug)
    return DONE

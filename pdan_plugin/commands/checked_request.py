"""Reads the options of a command once, loads the plugins and checks all options."""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.completion import is_training
from pdan_plugin.option_schema.run_request import RunRequest, read_request
from pdan_plugin.option_schema.unset_keys import leave_unset_out
from pdan_plugin.option_schema.whole_numbers import write_whole_numbers
from pdan_plugin.plugins import load_plugins
from pdan_plugin.processes.launch import COMMAND
from pdan_plugin.processes.launchers import speaks_for_its_machine
from pdan_plugin.weights.packaged_weights import resolve_packaged_weights

_FLAGS = ('launcher', 'local_rank', 'auto_resume', 'debug')


def checked_request(arguments: argparse.Namespace, *, is_train: bool | None = None) -> RunRequest:
    """The checked request of a command, ready for the toolbox's pipelines; prints the warnings.

    Args:
        arguments: Arguments of a subcommand with an option file. The request gets its run flags, if it has any.
        is_train: Whether the options are for training; None decides by their content.

    Raises:
        RequestError: The file cannot be read, a plugin does not load, or options are wrong; lists all wrong options.
    """
    command = os.environ.get(COMMAND) or shlex.join(['basicsr', *arguments.words])
    given = {name: getattr(arguments, name) for name in _FLAGS if hasattr(arguments, name)}
    request = read_request(arguments.option_file, arguments.force_yml, command=command, **given)
    opt, place = request.options, request.file.place
    load_plugins(opt.get('plugins'), place('plugins'))

    def warn(line: str) -> None:
        if speaks_for_its_machine() and COMMAND not in os.environ:  # else the command that started this one has warned
            print(f'basicsr {arguments.command}: warning: {line}', file=sys.stderr, flush=True)

    leave_unset_out(opt)
    write_whole_numbers(opt)
    check_options(
        opt,
        request.path,
        is_train=is_training(opt) if is_train is None else is_train,
        place=place,
        repeated=request.file.repeated(),
        warn=warn,
        strict=arguments.strict,
    )
    resolve_packaged_weights(opt)
    return request

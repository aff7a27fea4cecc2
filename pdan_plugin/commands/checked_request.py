"""Reads the options of a command once, loads the plugins and checks all options."""

from __future__ import annotations

import argparse
import os
import shlex

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.completion import is_training
from pdan_plugin.option_schema.run_request import RunRequest, read_request
from pdan_plugin.option_schema.whole_numbers import write_whole_numbers
from pdan_plugin.plugins import load_plugins
from pdan_plugin.processes.launch import COMMAND

_FLAGS = ('launcher', 'local_rank', 'auto_resume', 'debug')


def checked_request(arguments: argparse.Namespace, *, is_train: bool | None = None) -> RunRequest:
    """The checked request of a command, ready for the toolbox's pipelines.

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
    names = opt.get('plugins')
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RequestError(
            f'{place("plugins")}: plugins: found {names!r}; expected a list of names, such as [pdan, my_project.archs]'
        )
    load_plugins(names)
    write_whole_numbers(opt)
    check_options(opt, request.path, is_train=is_training(opt) if is_train is None else is_train, place=place)
    return request

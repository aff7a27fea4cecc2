"""One run as it was asked for: its options, read once, and what the command line says beside them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pdan_plugin.option_schema.option_file import read_option_file


@dataclass
class RunRequest:
    """Options as they were read, and what the command line says beside them.

    Attributes:
        path: The option file, as given.
        options: Its options with the overrides. The pipeline completes this very object and runs with it.
        overrides: ``--force_yml``.
        body: An option file that says the same as ``options`` did when they were read: the file as it is written, or
            with overrides the merged options.
        command: The command as it was typed.
        launcher: Who started the processes: 'pytorch' or 'slurm'; None or 'none' goes by the environment.
        local_rank: As older launchers give it.
        auto_resume: Whether the run goes on from its newest training state.
        debug: Whether the run is a short one that logs and validates often.
        drawn_seed: The seed that the run drew; None where the options give one.
    """

    path: str
    options: dict[str, Any]
    overrides: tuple[str, ...]
    body: str
    command: str
    launcher: str | None = None
    local_rank: int | None = None
    auto_resume: bool = False
    debug: bool = False
    drawn_seed: int | None = None

    def kept_file(self) -> str:
        """The run's copy of its option file: run again, it is the same run.

        The comment at its top gives the time, the command, the overrides, and the seed where the run drew one.
        """
        header = [f'GENERATE TIME: {time.asctime()}', f'CMD: {self.command}']
        if self.drawn_seed is not None:
            header.append(f'manual_seed was not given; this run drew {self.drawn_seed}')
        if self.overrides:
            header += [f'{os.path.abspath(self.path)} with --force_yml:', *(f'  {entry}' for entry in self.overrides)]
        comment = ''.join(f'# {" ".join(line.splitlines())}\n' for line in header)
        return f'{comment}\n{self.body}'


def read_request(path: str, overrides: Sequence[str] = (), *, command: str, **further: Any) -> RunRequest:
    """Reads the option file of a run.

    Args:
        path: The option file.
        overrides: ``key:sub=value`` entries, as of ``--force_yml``.
        command: The command as it was typed.
        further: The other attributes of the request.

    Raises:
        RequestError: As `read_option_file`.
    """
    options = read_option_file(path, overrides)
    as_written = Path(path)
    if overrides or not as_written.is_file():  # a pipe can be read only once
        body = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    else:
        body = as_written.read_text(encoding='utf-8')
    return RunRequest(str(path), options, tuple(overrides), body, command, **further)

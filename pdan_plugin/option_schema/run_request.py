"""One run as it was asked for: its option file, read once, and what the command line says beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pdan_plugin.option_schema.option_file import OptionFile, load_option_file


@dataclass
class RunRequest:
    """An option file as it was read, and what the command line says beside it.

    Attributes:
        file: The option file. The pipeline completes its very options and runs with them.
        command: The command as it was typed.
        launcher: Who started the processes: 'pytorch' or 'slurm'; None or 'none' goes by the environment.
        local_rank: As older launchers give it.
        auto_resume: Whether the run goes on from its newest training state.
        debug: Whether the run is a short one that logs and validates often.
        drawn_seed: The seed that the run drew; None where the options give one.
    """

    file: OptionFile
    command: str
    launcher: str | None = None
    local_rank: int | None = None
    auto_resume: bool = False
    debug: bool = False
    drawn_seed: int | None = None

    @property
    def path(self) -> str:
        """The option file, as given."""
        return str(self.file.path)

    @property
    def options(self) -> dict[str, Any]:
        """The options, merged with what the file extends and with the overrides."""
        return self.file.options

    def kept_file(self) -> str:
        """The run's copy of its option file: run again, it is the same run, and it needs no other file.

        A plain file is kept as written; one that extends others or has overrides, as its merged options. The comment
        at the top gives the time, the command, what the options were merged from, and the seed where the run drew one.
        """
        header = [f'GENERATE TIME: {time.asctime()}', f'CMD: {self.command}']
        if self.drawn_seed is not None:
            header.append(f'manual_seed was not given; this run drew {self.drawn_seed}')
        header += self.file.provenance()
        comment = ''.join(f'# {" ".join(line.splitlines())}\n' for line in header)
        return f'{comment}\n{self.file.text}'


def read_request(path: str, overrides: Sequence[str] = (), *, command: str, **further: Any) -> RunRequest:
    """Reads the option file of a run.

    Args:
        path: The option file.
        overrides: ``key:sub=value`` entries, as of ``--force_yml``.
        command: The command as it was typed.
        further: The other attributes of the request.

    Raises:
        RequestError: As `load_option_file`.
    """
    return RunRequest(load_option_file(path, overrides), command, **further)

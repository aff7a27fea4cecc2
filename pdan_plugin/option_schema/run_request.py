"""A requested run: its option file, read once, and the other command line arguments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pdan_plugin.option_schema.option_file import OptionFile, load_option_file
from pdan_plugin.option_schema.schema_reference import without_reference


@dataclass
class RunRequest:
    """An option file that was read, and the other command line arguments.

    Attributes:
        file: The option file. The pipeline completes its options in place and runs with them.
        command: The command as typed.
        launcher: What started the processes: 'pytorch' or 'slurm'; None or 'none': read from the environment.
        local_rank: The rank argument of older launchers.
        auto_resume: Whether the run resumes from its newest training state.
        debug: Whether the run logs and validates often.
        drawn_seed: The seed that the run drew; None if the options give one.
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
        """The text of the option file that is saved with the run. It needs no other file to repeat the run.

        A file without `extends` and overrides is kept as written, but for the line that names a schema in a place
        relative to the file; else the merged options are. The comment at the top
        gives the time, the command, the merged files and overrides, and the drawn seed if there is one.
        """
        header = [f'GENERATE TIME: {time.asctime()}', f'CMD: {self.command}']
        if self.drawn_seed is not None:
            header.append(f'manual_seed was not given; this run drew {self.drawn_seed}')
        header += self.file.provenance()
        comment = ''.join(f'# {" ".join(line.splitlines())}\n' for line in header)
        return f'{comment}\n{without_reference(self.file.text)}'


def read_request(path: str, overrides: Sequence[str] = (), *, command: str, **further: Any) -> RunRequest:
    """Reads the option file of a run.

    Args:
        path: The option file.
        overrides: ``key:sub=value`` entries of ``--force_yml``.
        command: The command as typed.
        further: The other attributes of the request.

    Raises:
        RequestError: See `load_option_file`.
    """
    return RunRequest(load_option_file(path, overrides), command, **further)

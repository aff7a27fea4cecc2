#!/usr/bin/env python
"""`basicsr calibrate-response` under its older name."""

import sys
from collections.abc import Sequence

BASICSR_COMMAND = 'calibrate-response'  # pdan_plugin.processes.command_start looks for it


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    from pdan_plugin.commands.main import main as basicsr

    return basicsr([BASICSR_COMMAND, *(sys.argv[1:] if words is None else words)])


if __name__ == '__main__':
    sys.exit(main())

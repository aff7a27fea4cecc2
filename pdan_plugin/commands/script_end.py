"""The end of a script: prints errors as messages and returns the exit status."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.processes.command_start import WRONG_REQUEST, print_any_name

DONE, FAILED, INTERRUPTED = 0, 1, 130

Main = Callable[[Sequence[str] | None], None]
Script = Callable[..., int]


def ends_script(*, restartable: bool) -> Callable[[Main], Script]:
    """Decorates a script's ``main`` to return the exit status: 0 done, 1 failed, 2 a wrong request, 130 Ctrl-C.

    Other exceptions keep their traceback.

    Args:
        restartable: Whether a second call of the script continues its work; the message after Ctrl-C then mentions it.
    """

    def ending(main: Main) -> Script:
        @functools.wraps(main)
        def ended(words: Sequence[str] | None = None) -> int:
            print_any_name()
            try:
                main(words)
            except (RequestError, WorkError) as error:
                print(f'error: {error}', file=sys.stderr)
                return WRONG_REQUEST if isinstance(error, RequestError) else FAILED
            except KeyboardInterrupt:
                print('interrupted' + '; the same command continues from here' * restartable, file=sys.stderr)
                return INTERRUPTED
            return DONE

        return ended

    return ending

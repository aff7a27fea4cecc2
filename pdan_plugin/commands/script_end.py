"""The end of a script: prints errors as messages and returns the exit status."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import overload

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.processes.command_start import WRONG_REQUEST, print_any_name

DONE, FAILED, INTERRUPTED = 0, 1, 130

Main = Callable[[Sequence[str] | None], None]
Script = Callable[..., int]


@overload
def ends_script(main: Main) -> Script: ...


@overload
def ends_script(*, restartable: bool) -> Callable[[Main], Script]: ...


def ends_script(main: Main | None = None, *, restartable: bool = True) -> Script | Callable[[Main], Script]:
    """Decorates a script's ``main`` to return the exit status: 0 done, 1 failed, 2 a wrong request, 130 Ctrl-C.

    Other exceptions keep their traceback. Use it as ``@ends_script`` or ``@ends_script(restartable=...)``.

    Args:
        main: The script's ``main``.
        restartable: Whether a second call of the script continues its work; the message after Ctrl-C then mentions it.
    """
    if main is None:
        return functools.partial(_ending, restartable=restartable)
    return _ending(main, restartable=restartable)


def _ending(main: Main, *, restartable: bool) -> Script:
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

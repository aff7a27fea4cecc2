"""How a script ends: its errors as messages, and the exit status that says which kind it was."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import overload

from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.processes.command_start import WRONG_REQUEST

DONE, FAILED, INTERRUPTED = 0, 1, 130

Main = Callable[[Sequence[str] | None], None]
Script = Callable[..., int]


@overload
def ends_script(main: Main) -> Script: ...


@overload
def ends_script(*, restartable: bool) -> Callable[[Main], Script]: ...


def ends_script(main: Main | None = None, *, restartable: bool = True) -> Script | Callable[[Main], Script]:
    """A script's ``main`` that returns the exit status: 0 done, 1 failed, 2 a wrong request, 130 Ctrl-C.

    Any other exception keeps its traceback. Stands above ``main`` bare, or with its option in brackets.

    Args:
        main: The script's ``main``.
        restartable: Whether the script goes on where it stopped when it is called again; the message after Ctrl-C
            then says so.
    """
    if main is None:
        return functools.partial(_ending, restartable=restartable)
    return _ending(main, restartable=restartable)


def _ending(main: Main, *, restartable: bool) -> Script:
    @functools.wraps(main)
    def ended(words: Sequence[str] | None = None) -> int:
        try:
            main(words)
        except (RequestError, WorkError) as error:
            print(f'error: {error}', file=sys.stderr)
            return WRONG_REQUEST if isinstance(error, RequestError) else FAILED
        except KeyboardInterrupt:
            print('interrupted' + '; the same command goes on from here' * restartable, file=sys.stderr)
            return INTERRUPTED
        return DONE

    return ended

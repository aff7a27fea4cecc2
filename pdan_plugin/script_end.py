"""How a script ends: its errors as messages, and the exit status that says which kind it was."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence

from pdan_plugin.errors import RequestError, WorkError

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130

Main = Callable[[Sequence[str] | None], None]


def ends_script(main: Main) -> Callable[..., int]:
    """Makes of a script's ``main`` one that returns the exit status: 0 done, 1 failed, 2 a wrong request, 130 Ctrl-C.

    For scripts that go on where they stopped when they are called again. Any other exception keeps its traceback.
    """

    @functools.wraps(main)
    def ended(words: Sequence[str] | None = None) -> int:
        try:
            main(words)
        except (RequestError, WorkError) as error:
            print(f'error: {error}', file=sys.stderr)
            return WRONG_REQUEST if isinstance(error, RequestError) else FAILED
        except KeyboardInterrupt:
            print('interrupted; the same command goes on from here', file=sys.stderr)
            return INTERRUPTED
        return DONE

    return ended

"""Checks option files as the commands do, and gives what they report."""

import pytest

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options


def check(options, is_train=True):
    check_options(options, 'my.yml', is_train=is_train)


def warned(options, is_train=True) -> list[str]:
    """The warnings of a file that passes; with ``strict`` they are what it is refused for."""
    lines: list[str] = []
    check_options(options, 'my.yml', is_train=is_train, warn=lines.append)
    if lines:
        with pytest.raises(RequestError) as refused:
            check_options(options, 'my.yml', is_train=is_train, strict=True)
        assert str(refused.value).splitlines()[1:] == lines
    return lines


def refusal(options, is_train=True) -> str:
    with pytest.raises(RequestError) as refused:
        check(options, is_train)
    return str(refused.value)

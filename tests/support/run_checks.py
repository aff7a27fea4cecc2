"""Checks runs before they start, in a folder of pictures, and gives what is reported."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_run import write_pictures

from pdan_plugin.commands import preflight
from pdan_plugin.errors import RequestError

# a network of grey pictures
GREY = {'type': 'ECBSR', 'num_in_ch': 1, 'num_out_ch': 1, 'num_block': 1, 'num_channel': 8, 'with_idt': False,
        'act_type': 'prelu', 'scale': 4}  # fmt: skip


def left_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """For a fixture: every run starts where the pictures are; what it leaves there is looked at."""
    write_pictures(folder)
    monkeypatch.chdir(folder)
    yield
    assert sorted(path.name for path in folder.iterdir()) == ['gt', 'lq']


def check(options, *, is_train=True, world_size=1, **further):
    return preflight.check_run(
        options, 'my.yml', is_train=is_train, world_size=world_size, distributed=world_size > 1, **further
    )


def refusal(options, **further) -> str:
    with pytest.raises(RequestError) as refused:
        check(options, **further)
    return str(refused.value)

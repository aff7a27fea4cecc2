"""scripts/prepare_reds.py in this process."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'prepare_reds.py'


@pytest.fixture
def prepare(capsys: pytest.CaptureFixture):
    """The script's main, in this process: arguments in, (exit status, all it printed) out."""
    spec = importlib.util.spec_from_file_location('prepare_reds', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments: object) -> tuple[int, str]:
        status = module.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run

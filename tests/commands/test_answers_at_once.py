"""Help and mistakes in the arguments are answered without what is slow to import."""

import subprocess
import sys

import pytest
from child_processes import PYTHON_PATH

# The package's own __init__ applies the fixes of the toolbox, which imports it; it stands aside here.
ANSWER = """
import sys, types
package = types.ModuleType('pdan_plugin')
package.__path__ = [{folder!r}]
package.__version__ = '0'
sys.modules['pdan_plugin'] = package
from pdan_plugin.commands.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as ended:
    status = ended.code
slow = {{'torch', 'basicsr', 'numpy', 'cv2', 'PIL', 'pydantic', 'yaml', 'scipy'}} & {{name.split('.')[0] for name in sys.modules}}
print('slow:', *sorted(slow))
sys.exit(status)
"""  # noqa: E501

HELP = [['--help'], ['--version'], *([verb, '--help'] for verb in ('train', 'test', 'check', 'restore', 'plugins'))]
MISTAKES = [
    [],
    ['trian'],
    ['train'],
    ['check', '-opt'],
    ['restore', 'in.png'],
    ['restore', 'a', '-o', 'b', '--tile', '0'],
]


@pytest.mark.parametrize(('words', 'status'), [(words, 0) for words in HELP] + [(words, 2) for words in MISTAKES])
def test_nothing_slow_is_imported_to_answer(words, status):
    script = ANSWER.format(folder=f'{PYTHON_PATH}/pdan_plugin')
    done = subprocess.run([sys.executable, '-c', script, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stderr
    assert done.stdout.splitlines()[-1] == 'slow:'
    assert ('usage: basicsr' in done.stdout + done.stderr) or words == ['--version']

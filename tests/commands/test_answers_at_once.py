"""Help and mistakes in the arguments are answered without what is slow to import."""

import json
import subprocess
import sys
from pathlib import Path

import pdan_plugin

# The package's own __init__ applies the fixes of the toolbox, which imports it; a bare package stands in for it here.
ANSWERS = """
import json, sys, types
package = types.ModuleType('pdan_plugin')
package.__path__, package.__version__ = [sys.argv[1]], '0'
sys.modules['pdan_plugin'] = package
from pdan_plugin.commands.main import main
statuses = []
for words in json.loads(sys.argv[2]):
    try:
        statuses.append(main(words))
    except SystemExit as ended:
        statuses.append(ended.code)
slow = {'torch', 'basicsr', 'numpy', 'cv2', 'PIL', 'pydantic', 'yaml', 'scipy'}
print(json.dumps([statuses, sorted(slow & {name.split('.')[0] for name in sys.modules})]))
"""

HELP = [['--help'], ['--version'], *([verb, '--help'] for verb in ('train', 'test', 'check', 'restore', 'plugins'))]
MISTAKES = [
    [],
    ['trian'],
    ['train'],
    ['check', '-opt'],
    ['train', '-opt', 'small.yml', '--launcher', 'mpi'],
    ['restore', 'in.png'],
    ['restore', 'in.png', '-o', 'out', '--tile', '0'],
    ['plugins', '--all'],
]


def test_nothing_slow_is_imported_to_answer():
    words = [sys.executable, '-c', ANSWERS, str(Path(pdan_plugin.__file__).parent), json.dumps(HELP + MISTAKES)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    statuses, slow = json.loads(done.stdout.splitlines()[-1])
    assert statuses == [0] * len(HELP) + [2] * len(MISTAKES)
    assert slow == []

"""Help, and mistakes that the arguments alone show, are answered without what is slow to import."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from PIL import Image

from pdan_plugin.commands.main import COMMANDS

SLOW = {'torch', 'basicsr', 'numpy', 'cv2', 'PIL', 'pydantic', 'yaml', 'scipy', 'matplotlib', 'av', 'tqdm', 'tifffile'}
MISTAKES = [
    [],
    ['trian'],
    ['train'],
    ['train', '-opt', 'absent.yml'],
    ['check', '-opt'],
    ['check', '-opt', 'pdan_phase9'],
    ['check', '-opt', 'pdan_phase1', '--nproc', '0'],
    ['test', '-opt', 'small.yml', '--launcher', 'mpi'],
    ['restore', 'in.png'],
    ['restore', 'in.png', '-o', 'out', '--tile', '0'],
    ['restore', 'absent.png', '-o', 'out'],
    ['restore', '.', '-o', 'out', '-w', 'pdan_smal'],
    ['restore', '.', '-o', 'out', '-w', 'absent.pth'],
    ['plugins', '--all'],
    ['options', 'pdan_phase9'],
    ['options', 'pdan_phase1', 'pdan_phase2'],
    ['quickstart', '--shorter'],
    ['app', '--port', '0'],
    ['app', '--precision', 'fp8'],
    ['prepare-pairs', 'GT'],
    ['prepare-pairs', 'GT', 'out', '--scale', '0'],
    ['prepare-reds', 'REDS'],
    ['prepare-reds', 'REDS', 'out', '--workers', '0'],
    ['prepare-reds', 'REDS', 'out', '--splits', 'test'],
    ['synthesize', 'clips'],
    ['synthesize', 'clips', 'out', '--merge'],
    ['synthesize', 'clips', 'out', '--interpolator', 'optical'],
    ['synthesize', 'clips', 'out', '--shard', '3'],
    ['synthesize', 'clips', 'out', '--shard', '3/2'],
    ['synthesize', 'clips', 'out', '--stride', '0'],
    ['synthesize', 'clips', 'out', '--window', '64'],
    ['synthesize', 'clips', 'out', '--phases', '6'],
    ['synthesize', 'clips', 'out', '--cut-threshold', '1'],
    ['calibrate-response', 'a.png', '-o', 'table.txt'],
    ['calibrate-response', 'a.png', '-o', 'table.npy', '--exposures', '1/0'],
    ['render-clips', 'photos', 'out', '--clips', '0', '--val-clips', '0'],
    ['render-clips', 'photos', 'out', '--size', '30x30'],
    ['render-clips', 'photos', 'out', '--dark', '0.6', '--bright', '0.6'],
    ['report', 'results/a', '--box', '1,2,3,4'],
    ['report', 'results/a', '--figure'],
    ['report', 'results/a', '--frames', '-1'],
    ['picture-sheet', '--lr', 'lr', '--gt', 'gt', '-o', 'sheet.jpg'],
    ['picture-sheet', '--lr', 'lr', '--gt', 'gt', '-o', 'sheet.png', '--results', 'folder'],
    ['ensemble', 'a', 'b'],
    ['ensemble', 'a', 'b', '-o', 'out', '--sharpness', 'sharp'],
    ['ensemble', 'a', 'b', '-o', 'out', '--mean', '--grid', '4'],
    ['export', 'pdan_small'],
    ['export', 'pdan_small', '-o', 'small.onnx', '--size', '64'],
    ['complexity', '--size', '320'],
    # files and folders that do not exist, and the empty word of a shell variable that is not set
    ['restore', '', '-o', 'out'],
    ['restore', '.', '-o', ''],
    ['export', 'absent.pth', '-o', 'small.onnx'],
    ['export', 'pdan_small', '-o', 'small.pth'],
    ['export', 'pdan_small', '-o', 'small.onnx', '--opset', '5'],
    ['export', 'pdan_small', '-o', 'small.onnx', '-opt', 'absent.yml'],
    ['report', 'absent'],
    ['ensemble', 'absent', 'other', '-o', 'out'],
    ['picture-sheet', '--lr', 'absent', '--gt', 'gt', '-o', 'sheet.png'],
    ['prepare-reds', 'absent', 'out'],
    ['prepare-pairs', 'absent', 'out'],
    ['prepare-pairs', '.', 'out', '--lq', 'absent'],
    ['synthesize', 'absent', 'out'],
    ['render-clips', 'absent', 'out'],
    ['app', '-w', 'absent.pth'],
]
# answers several command lines in one new Python: (words, exit status, slow modules that were imported) of each
ANSWERING = """
import contextlib, io, json, sys
sys.orig_argv = ['python', '-m', 'pdan_plugin']
from pdan_plugin.commands.main import main
answers = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.redirect_stderr(output):
        try:
            status = main(words)
        except SystemExit as ended:
            status = ended.code
    slow = sorted(set(json.loads(sys.argv[2])) & {name.split('.')[0] for name in sys.modules})
    answers.append((words, status, slow, output.getvalue()))
print(json.dumps(answers))
"""


def answers(lines, folder):
    command = [sys.executable, '-c', ANSWERING, json.dumps(lines), json.dumps(sorted(SLOW))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_help_imports_nothing_slow(tmp_path):
    lines = [['--help'], ['--version'], *([command, '--help'] for command in COMMANDS)]
    for words, status, slow, output in answers(lines, tmp_path):
        assert (status or 0, slow) == (0, []), words
        assert output, words


def test_no_help_repeats_a_word(tmp_path):
    for words, _, _, output in answers([[command, '--help'] for command in COMMANDS], tmp_path):
        assert not (twice := re.search(r'(?<!-)\b([a-z]+)\s+\1\b', output)), (words, twice)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['restore', 'a.png', 'b.png', '-o', 'out'], 'b.png; INPUT is one file or one folder: give the folder'),
        (['restore', 'a.png', '-o', 'out', '--self-ensembel'], "--self-ensembel; did you mean '--self-ensemble'?"),
        (['train', '-opt', 'a.yml', '--auto-resume'], "--auto-resume; did you mean '--auto_resume'?"),
        (['check', '-opt', 'a.yml', '--focre_yml=scale=4'], "--focre_yml=scale=4; did you mean '--force_yml'?"),
        (['options', 'pdan_phase1', 'pdan_phase2'], 'pdan_phase2'),
        (['synthesize', 'clips', 'out', '--no-cut', '--wrkers', '1'], '--wrkers'),
    ],
)
def test_words_that_no_argument_takes_are_told_with_the_subcommand(tmp_path, words, said):
    ((_, status, _, output),) = answers([words], tmp_path)
    assert status == 2
    assert f'basicsr {words[0]}: error: unrecognized arguments: ' in output
    assert said in output


def test_mistakes_in_the_arguments_import_nothing_slow(tmp_path):
    assert {words[0] for words in MISTAKES if words} >= set(COMMANDS)
    for words, status, slow, output in answers(MISTAKES, tmp_path):
        assert (status, slow) == (2, []), (words, output)
        assert 'Traceback' not in output
        if absent := [word for word in words if 'absent' in word]:
            assert absent[0] in output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('words', [['--help'], ['train', '-opt', 'absent.yml'], ['restore', 'absent.png', '-o', 'out']])
def test_nothing_slow_is_imported_by_the_start_itself(words, tmp_path):
    """As a user starts it: `python -m pdan_plugin`, not `main` in a Python that is there."""
    command = [sys.executable, '-X', 'importtime', '-m', 'pdan_plugin', *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    imported = {
        line.rpartition('|')[2].strip().split('.')[0] for line in done.stderr.splitlines() if line.startswith('import ')
    }
    assert done.returncode == (0 if words == ['--help'] else 2), done.stderr
    assert 'pdan_plugin' in imported
    assert not imported & SLOW


@pytest.mark.parametrize('script', ['prepare_reds', 'export_onnx'])
def test_scripts_of_a_checkout_answer_as_the_commands_do(script, tmp_path):
    path = Path(__file__).parents[2] / f'scripts/{script}.py'
    command = [sys.executable, '-X', 'importtime', str(path)]
    done = subprocess.run([*command, '--help'], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f'usage: basicsr {"export" if script == "export_onnx" else "prepare-reds"}' in done.stdout
    assert ' torch\n' not in done.stderr
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2


def test_restore_with_a_network_of_the_package_imports_no_toolbox(tmp_path):
    """Nor what the toolbox brings, and torch's compiler only with --compile: each takes seconds."""
    script = """
import sys
sys.orig_argv = ['python', '-m', 'pdan_plugin']
import numpy as np
from PIL import Image
Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save('in.png')
from pdan_plugin.commands.main import main
status = main(['restore', 'in.png', '-o', 'out.png'])
print(sorted({'basicsr', 'torchvision', 'scipy', 'torch._dynamo', 'pydantic', 'matplotlib', 'lmdb'} & set(sys.modules)))
sys.exit(status)
"""
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '[]'
    assert (tmp_path / 'out.png').is_file()


def test_restore_with_a_network_of_the_toolbox_prepares_it(tmp_path):
    network = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
    torch.save({'params': build_network(dict(network)).state_dict()}, tmp_path / 'edsr.pth')
    (tmp_path / 'edsr.yml').write_text(yaml.dump({'name': 'small', 'network_g': network}))
    Image.fromarray(np.full((24, 32, 3), 90, np.uint8)).save(tmp_path / 'in.png')
    words = ['restore', 'in.png', '-o', 'out.png', '-w', 'edsr.pth', '-opt', 'edsr.yml']
    command = [sys.executable, '-m', 'pdan_plugin', *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Image.open(tmp_path / 'out.png').size == (64, 48)

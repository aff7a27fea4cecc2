"""scripts/compare_programs.py on a small picture."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

import compare_programs
from everyday.kinds import KINDS, Kind, ground_truth, small_pictures
from everyday.scores import table
from pdan_plugin.synthesis.bicubic import downsample_uint8

DOCS = Path(__file__).parents[3] / 'docs'
ENLARGE = """
import sys
from pathlib import Path
import cv2
inputs, results = map(Path, sys.argv[-2:])
for path in inputs.iterdir():
    picture = cv2.imread(str(path))
    cv2.imwrite(str(results / (path.stem + '.png')), cv2.resize(picture, None, fx=4, fy=4, interpolation=METHOD))
"""


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name, corner in (('a.png', 0), ('b.png', 150)):
        Image.fromarray(data.astronaut()[corner : corner + 130, 150:313]).save(folder / name)
    return folder


@pytest.fixture
def program(tmp_path):
    """program(text of a Python script) -> the command that runs it."""

    def written(text):
        script = tmp_path / f'program_{len(list(tmp_path.glob("*.py")))}.py'
        script.write_text(text)
        return f'{sys.executable} {script}'

    return written


def run(photos, *words, names=('a.png', 'b.png')):
    return compare_programs.main([str(photos), '--photographs', *names, '--weights', *words])


def test_a_program_that_is_bicubic_gains_nothing(photos, program, tmp_path, capsys):
    file = tmp_path / 'result.json'
    bicubic = program(ENLARGE.replace('METHOD', 'cv2.INTER_CUBIC'))
    nearest = program(ENLARGE.replace('METHOD', 'cv2.INTER_NEAREST'))
    assert run(photos, '--program', f'nearest={nearest}', '--program', f'cubic={bicubic}', '--json', str(file)) == 0
    gains = json.loads(file.read_text())['gains']
    assert list(gains['cubic']) == [str(kind) for kind in KINDS]
    assert all(value == 0 for value in gains['cubic'].values())
    assert all(value < -0.05 for value in gains['nearest'].values())
    rows = [line.split(' | ')[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ['| dB above bicubic', rows[1], '| cubic', '| nearest', "| OpenCV's bicubic, PSNR"]


def test_rows_of_other_programs_are_kept(photos, program, tmp_path, capsys):
    """So one row can be measured again without the others."""
    file = tmp_path / 'result.json'
    command = program(ENLARGE.replace('METHOD', 'cv2.INTER_LINEAR'))
    assert run(photos, '--program', f'linear={command}', '--json', str(file)) == 0
    before = json.loads(file.read_text())['gains']
    assert run(photos, '--program', f'again={command}', '--json', str(file)) == 0
    assert json.loads(file.read_text())['gains'] == {**before, 'again': before['linear']}
    capsys.readouterr()
    for names in (('a.png',), ('b.png', 'a.png')):
        assert run(photos, '--program', f'linear={command}', '--json', str(file), names=names) == 2
        assert 'was measured on other pictures' in capsys.readouterr().err
    file.write_text('{}')
    assert run(photos, '--program', f'linear={command}', '--json', str(file)) == 2
    assert 'is not a result of this script' in capsys.readouterr().err


@pytest.mark.long
def test_this_project_is_above_bicubic(photos, tmp_path, capsys):
    assert compare_programs.main([str(photos), '--photographs', 'a.png', '--json', str(tmp_path / 'ours.json')]) == 0
    gains = json.loads((tmp_path / 'ours.json').read_text())['gains']
    assert list(gains) == ['pdan_small']
    assert np.mean(list(gains['pdan_small'].values())) > 0.1


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('print("no model"); raise SystemExit(3)', r'bad: .* ended with status 3:\n  no model'),
        ('pass', r'bad: expected one picture a_blur0_noise0\.png; it wrote:\nnothing'),
        (ENLARGE.replace('fx=4, fy=4', 'fx=2, fy=4').replace('METHOD', '1'), 'is 80x128, expected 160x128: 4 times'),
    ],
    ids=['status', 'nothing', 'size'],
)
def test_a_program_that_fails_is_named(photos, program, capsys, text, message):
    assert run(photos, '--program', f'bad={program(text)}', names=('a.png',)) == 1
    captured = capsys.readouterr()
    assert re.search(message, captured.err)
    assert not captured.out


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--program', 'ls'], '--program ls: expected NAME=COMMAND'),
        (['--program', 'x=ls', '--program', 'x=cat'], 'two rows have the same name'),
        ([], 'nothing to compare'),
        (['--program', 'x=/no/such/command'], 'x: /no/such/command cannot be started'),
    ],
)
def test_a_wrong_request_is_rejected(photos, capsys, words, message):
    assert run(photos, *words, names=('a.png',)) == 2
    assert message in capsys.readouterr().err


def test_a_missing_photograph_is_named(photos, capsys):
    assert run(photos, '--program', 'x=ls', names=('a.png', 'c.png')) == 2
    assert f'{photos}: there is no c.png' in capsys.readouterr().err


def test_small_pictures_are_what_their_kinds_say():
    truth = ground_truth(data.astronaut())
    assert truth.shape == (512, 512, 3)
    small = dict(small_pictures(truth, 0))  # angle 0: the motion is horizontal
    assert list(small) == list(KINDS)
    plain = small[Kind(0, 0, None)].astype(int)
    assert np.abs(plain - downsample_uint8(truth, 4)).max() <= 1  # ties may be rounded otherwise
    noise = small[Kind(0, 4, None)].astype(int) - plain
    assert 3.5 < noise[(plain > 20) & (plain < 235)].std() < 4.5
    again = dict(small_pictures(truth, 0))
    for blur in (0, 12):  # the same noise each time, so one row can be measured again; JPEG comes later
        assert np.array_equal(small[Kind(blur, 4, None)], again[Kind(blur, 4, 75)])


def test_the_motion_is_as_long_as_its_kind_says():
    truth = np.zeros((128, 128, 3), np.uint8)
    truth[66:, 66:] = 255  # inside of a small pixel
    small = dict(small_pictures(truth, 0))  # angle 0: horizontal
    for blur, columns in ((0, 1), (12, 3)):
        grey = (small[Kind(blur, 0, None)][..., 0] > 20) & (small[Kind(blur, 0, None)][..., 0] < 235)
        assert (grey[-8].sum(), grey[:, -8].sum()) == (columns, 1)


def test_a_large_photograph_is_made_smaller_and_cut():
    columns = np.broadcast_to(np.arange(2000, dtype=np.float32)[None, :, None] / 8, (1300, 2000, 3))
    truth = ground_truth(columns.astype(np.uint8))
    assert truth.shape == (720, 1280, 3)
    expected = cv2.resize(columns, (1280, 832), interpolation=cv2.INTER_AREA)[56:776]
    assert np.abs(truth - expected).max() <= 1.5


def test_the_table_of_the_documentation_is_the_measured_one():
    result = json.loads((DOCS / 'other_programs.json').read_text())
    assert result['photographs'] == list(compare_programs.PHOTOGRAPHS)
    assert table(result) in (DOCS / 'other_programs.md').read_text()

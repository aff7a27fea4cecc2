"""scripts/benchmark.py as it is called."""

import json
import runpy
from pathlib import Path

import pytest

main = runpy.run_path(str(Path(__file__).parents[3] / 'scripts/benchmark.py'))['main']


def test_json_is_one_object_with_the_ratio_and_the_machine(capsys):
    assert main(['loss', '--rounds', '1', '--json']) == 0
    result = json.loads(capsys.readouterr().out)
    assert result['ratio'] == result['seconds']['HPEM by sorting'] / result['seconds']['HPEM']
    assert result['machine']['threads'] >= 1


def test_a_table_begins_with_the_machine_and_ends_with_the_next_command(capsys):
    assert main(['loss', '--rounds', '1']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('Machine: ')
    assert lines[-1] == 'Next: python scripts/benchmark.py train'


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['train', '--iterations', '5'], '--iterations is for --picture'),
        (['train', '--picture', 'a.png', '--rounds', '2'], '--rounds is for timing'),
        (['train', '--features', '20'], 'expected a multiple of 16'),
        (['loader', '--workers', '2'], '--workers is for --samples and --cold'),
        (['loader', '--cold', '1', '--rounds', '2'], '--rounds is for the comparison'),
        (['loader', '--samples', '1000', '--folder', '.'], '--folder is for --cold'),
        (['loader', '--samples', '10'], '1000 or more'),
        (['loader', '--cold', 'nan'], 'expected a number from 0.001 to 100000'),
        (['loader', '--cold', '1', '--workers', '-1'], '0 or more'),
        (['loader', '--cold', '1', '--folder', 'nowhere'], 'no such folder'),
        (['loss', '--rounds', '0'], 'expected a whole number, 1 or more'),
    ],
)
def test_what_would_do_nothing_is_refused(capsys, words, message):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_refused_before_training(capsys, tmp_path):
    assert main(['train', '--picture', str(tmp_path / 'missing/a.png')]) == 2
    assert 'there is no folder' in capsys.readouterr().err

"""What a word of a command line becomes, and what its user reads when it is wrong."""

import argparse
from pathlib import Path

import pytest

from pdan_plugin.commands import main as cli
from pdan_plugin.commands.argument_types import file_path, memory_size, number, picture_size, share, whole_number


def refusal(kind, word, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument('--value', type=kind)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([f'--value={word}'])
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ('kind', 'word', 'value'),
    [
        (file_path, './-', Path('-')),
        (whole_number(0), '0', 0),
        (whole_number(1, 9), '9', 9),
        (whole_number(16, multiple_of=16), '48', 48),
        (number(0, 8), '0.5', 0.5),
        (share, '1', 1.0),
        (memory_size, '4G', 4 << 30),
        (memory_size, '1.5gib', 3 << 29),
        (memory_size, '2000000', 2_000_000),
        (picture_size(32, multiple_of=4), '320X192', (320, 192)),
    ],
)
def test_taken(kind, word, value):
    assert kind(word) == value


@pytest.mark.parametrize(
    ('kind', 'word', 'said'),
    [
        (whole_number(1), '0', "'0': expected a whole number, 1 or more"),
        (whole_number(1), 'many', "'many': expected a whole number, 1 or more"),
        (whole_number(1), '2.0', "'2.0': expected a whole number, 1 or more"),
        (whole_number(0, 1000), '1001', "'1001': expected a whole number from 0 to 1000"),
        (whole_number(16, multiple_of=16), '20', "'20': expected a multiple of 16, 16 or more"),
        (share, '1.1', "'1.1': expected a number from 0 to 1"),
        (share, 'nan', "'nan': expected a number from 0 to 1"),
        (memory_size, '12', "'12' is 12 bytes: expected a size such as 500M or 4G"),
        (memory_size, 'inf', "'inf': expected a size such as 500M or 4G"),
        (picture_size(32, multiple_of=4), '320', "'320': expected WIDTHxHEIGHT, such as 320x192"),
        (picture_size(32, multiple_of=4), '320x190', "'190': expected a multiple of 4, 32 or more"),
    ],
)
def test_refused(kind, word, said, capsys):
    assert refusal(kind, word, capsys).endswith(f'argument --value: {said}')


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['restore', 'photo.jpg', '-o', '-'], '-o/--output'),
        (['restore', '-', '-o', 'out'], 'INPUT'),
        (['restore', 'photo.jpg', '-o', 'out', '-w', '-'], '-w/--weights'),
        (['export', 'pdan_small', '-o', '-'], '-o/--output'),
        (['ensemble', 'one', 'two', '-o', '-'], '-o/--output'),
        (['report', 'results/one', '--figure', '-o', '-'], '-o/--output'),
        (['prepare-pairs', 'gt', '-'], 'TARGET'),
        (['prepare-reds', 'REDS', '-'], 'TARGET'),
        (['synthesize', 'clips', '-'], 'TARGET'),
        (['render-clips', 'skimage', '-'], 'TARGET'),
        (['quickstart', '--folder', '-'], '--folder'),
    ],
)
def test_a_hyphen_is_no_file_or_folder(words, named, tmp_path, monkeypatch, capsys):
    """`restore photo.jpg -o -` made a folder of that name."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert f"argument {named}: '-': expected a path" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []

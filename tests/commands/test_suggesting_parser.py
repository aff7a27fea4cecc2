"""Mistyped commands, options and choices: what was probably meant is in the error, whichever error that is."""

import pytest

from pdan_plugin.commands import main as cli
from pdan_plugin.commands.main import COMMANDS

MISTYPED = [
    (['restor', 'x.jpg'], 'basicsr', "'restor'", "did you mean 'restore'?"),
    (['prepare_reds'], 'basicsr', "'prepare_reds'", "did you mean 'prepare-reds'?"),
    (['Train', '-opt', 'x.yml'], 'basicsr', "'Train'", "did you mean 'train'?"),
    (['prepare'], 'basicsr', "'prepare'", "did you mean 'prepare-reds' or 'prepare-pairs'?"),
    (['--verison'], 'basicsr', "'--verison'", "did you mean '--version'?"),
    (['restore', 'x.jpg', '-o', 'out', '--overwrit'], 'basicsr restore', '--overwrit', "did you mean '--overwrite'?"),
    (['restore', 'x.jpg', '--outptu=out'], 'basicsr restore', "no option '--outptu'", "did you mean '--output'?"),
    (['restore', 'x.jpg', '-o', 'out', '--over'], 'basicsr restore', '--over', "'--overlap' or '--overwrite'?"),
    (['restore', 'x.jpg', '-o', 'out', '--format', 'jpeg'], 'basicsr restore', "'jpeg'", "did you mean 'jpg'?"),
    (['train', '--opt', 'x.yml'], 'basicsr train', "no option '--opt'", "did you mean '-opt'?"),
    (['test', '-opt', 'x.yml', '--nprco=2'], 'basicsr test', '--nprco', "did you mean '--nproc'?"),
    (['synthesize', 'a', 'b', '--interpolater', 'rife'], 'basicsr synthesize', '--inter', "'--interpolator'?"),
    (['prepare-reds', 'a', 'b', '--split', 'trian'], 'basicsr prepare-reds', "'trian'", "did you mean 'train'?"),
]


def refusal(words, capsys):
    """The error without the usage above it."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(('words', 'program', 'found', 'guess'), MISTYPED)
def test_what_was_probably_meant_is_in_the_error(words, program, found, guess, capsys):
    error = refusal(words, capsys)
    assert error.startswith(f'{program}: error: ')
    assert found in error
    assert guess in error


@pytest.mark.parametrize('command', COMMANDS)
def test_every_command_suggests_its_options(command, capsys):
    assert "did you mean '--help'?" in refusal([command, '--hlep'], capsys)


def test_one_dash_too_few_is_no_other_option(capsys):
    """`-overwrite` would be the option `-o` with the value `verwrite`, and the result would have that name."""
    error = refusal(['restore', 'x.jpg', '-o', 'out', '-overwrite'], capsys)
    assert "unrecognized arguments: -overwrite; did you mean '--overwrite'?" in error


def test_words_of_a_subcommand_are_not_those_of_the_command(capsys):
    error = refusal(['restor', 'x.jpg', '--overwrite', '-o', 'out'], capsys)
    assert '--overwrite' not in error


def test_nothing_is_suggested_for_a_word_that_resembles_none(capsys):
    assert 'did you mean' not in refusal(['qwxz'], capsys)
    assert 'did you mean' not in refusal(['restore', 'x.jpg', '-o', 'out', '--qwxz'], capsys)


def test_abbreviations_of_the_former_scripts_and_values_behind_a_letter_stay(capsys):
    assert 'there is no option' not in refusal(['synthesize', 'a', 'b', '--phas', 'x'], capsys)
    assert 'there is no option' not in refusal(['restore', 'x.jpg', '-oout', '--tile', '0'], capsys)

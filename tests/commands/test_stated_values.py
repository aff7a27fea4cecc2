"""What the parsers state without importing it is what the code uses."""

import argparse

import pytest

from pdan_plugin.commands import ensemble, render_clips, report, synthesize
from pdan_plugin.commands import main as cli
from pdan_plugin.commands.subcommand_parser import SubcommandParser
from pdan_plugin.data.frame_codec import CODECS
from pdan_plugin.data.reds_layout import CLIPS, SPLITS
from pdan_plugin.ensembling import folder_ensemble, patch_ensemble
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS
from pdan_plugin.preparation.synthesis_plan import Settings
from pdan_plugin.report import page
from pdan_plugin.synthesis import clip_rendering
from pdan_plugin.synthesis.frame_interpolation import interpolators
from pdan_plugin.weights.onnx_export import DEFAULT_OPSET, OPSETS


def actions(command):
    """Option -> its action, for a subcommand's parser."""
    parser = SubcommandParser(module=f'pdan_plugin.commands.{command}')
    with pytest.raises(SystemExit):
        parser.parse_args(['--help'])
    return {word: action for action in parser._actions for word in action.option_strings}


def test_choices(capsys):
    synthesis, preparation = actions('synthesize'), actions('prepare_reds')
    assert tuple(synthesize.INTERPOLATORS) == tuple(interpolators())
    assert set(ensemble.SHARPNESS) == set(FOCUS_FUNCTIONS)
    assert set(synthesis['--split'].choices) == set(CLIPS)
    assert set(preparation['--splits'].choices) == set(SPLITS)
    assert set(synthesis['--codec'].choices) == set(preparation['--codec'].choices) == set(CODECS)


def test_defaults_in_help_texts(capsys):
    default, options = Settings(), actions('synthesize')
    for option, value in {
        '--interpolator': default.interpolator,
        '--device': default.device,
        '--factor': default.window.factor,
        '--window': default.window.length,
        '--stride': default.stride,
        '--phases': default.phases,
        '--response': default.response,
        '--cut-threshold': default.cut_threshold,
        '--split': default.split,
        '--codec': default.codec,
    }.items():
        assert f'(default: {value}' in options[option].help
    assert f'{OPSETS[0]} to {OPSETS[-1]} (default: {DEFAULT_OPSET})' in actions('export')['--opset'].help


def test_constants():
    assert report.FRAMES == page.FRAMES
    assert Settings().stride == synthesize.STRIDE
    assert (ensemble.GRID, ensemble.SCORES) == (patch_ensemble.GRID, folder_ensemble.SCORES)
    assert (render_clips.LEAST_SIDE, render_clips.SCALE) == (clip_rendering.LEAST_SIDE, clip_rendering.SCALE)


def test_every_subcommand_has_its_module(capsys):
    """With a purpose in the help of `basicsr`, and a help of its own for every argument."""
    with pytest.raises(SystemExit):
        cli.main(['--help'])
    listed = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f'    {command}' in listed
        for action in actions(command.replace('-', '_')).values():
            assert action.help or action.help == argparse.SUPPRESS, (command, action)
    assert set(cli.FORMER_SCRIPTS) <= set(cli.COMMANDS)

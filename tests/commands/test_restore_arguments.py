"""What `basicsr restore` makes of its arguments; wrong ones end with status 2 and say what was expected."""

import argparse

import pytest

from pdan_plugin.commands import main as cli
from pdan_plugin.commands import restore
from pdan_plugin.media.frame_range import FrameRange
from pdan_plugin.media.picture_format import PictureFormat
from pdan_plugin.media.result_settings import ResultSettings
from pdan_plugin.media.result_size import ResultSize
from pdan_plugin.media.video_coding import VideoCoding


def settings_of(*words):
    parser = argparse.ArgumentParser()
    restore.add_arguments(parser)
    return restore._result_settings(parser.parse_args(['in.png', '-o', 'out', *words]))


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        ([], ResultSettings()),
        (['--scale', '1.5'], ResultSettings(ResultSize(scale=1.5))),
        (['--size', '1920x1080'], ResultSettings(ResultSize(width=1920, height=1080))),
        (['--size', '1920X'], ResultSettings(ResultSize(width=1920))),
        (['--size', 'x1080'], ResultSettings(ResultSize(height=1080))),
        (['--format', 'webp', '--quality', '80'], ResultSettings(picture=PictureFormat('webp', 80))),
        (['--lossless'], ResultSettings(picture=PictureFormat(lossless=True))),
        (['--codec', 'av1', '--crf', '0', '--preset', '4'], ResultSettings(video=VideoCoding('av1', 0, '4'))),
        (['--frames', '10:20'], ResultSettings(frames=FrameRange(10, 20))),
        (['--frames', ':48'], ResultSettings(frames=FrameRange(0, 48))),
        (['--frames', '100:'], ResultSettings(frames=FrameRange(100, None))),
        (['--suffix', '_x4'], ResultSettings(suffix='_x4')),
        (['--suffix=-x4'], ResultSettings(suffix='-x4')),
    ],
)
def test_arguments_become_settings_and_settings_these_arguments(words, expected):
    assert settings_of(*words) == expected
    assert settings_of(*expected.words()) == expected


@pytest.mark.parametrize(
    ('words', 'complaint'),
    [
        (['--scale', '0'], "--scale: '0': expected a number from 1 to 64"),
        (['--scale', '0.5'], "--scale: '0.5': expected a number from 1 to 64"),
        (['--scale', '-2'], 'expected a number from 1 to 64'),
        (['--scale', 'nan'], 'expected a number from 1 to 64'),
        (['--scale', 'inf'], 'expected a number from 1 to 64'),
        (['--scale', '2x'], 'expected a number from 1 to 64'),
        (['--scale', '2', '--size', '1920x'], 'not allowed with argument'),
        (['--size', '1920'], "'1920': expected WIDTHxHEIGHT such as 1920x1080; 1920x or x1080 keeps the shape"),
        (['--size', 'x'], 'expected WIDTHxHEIGHT'),
        (['--size', '0x1080'], 'expected WIDTHxHEIGHT'),
        (['--size', '19.5x10'], 'expected WIDTHxHEIGHT'),
        (['--size', '1x2x3'], 'expected WIDTHxHEIGHT'),
        (['--quality', '0'], 'from 1 to 100'),
        (['--quality', '80', '--lossless'], 'not allowed with argument'),
        (['--format', 'gif'], 'invalid choice'),
        (['--codec', 'vp9'], 'invalid choice'),
        (['--crf', '64'], 'from 0 to 63'),
        (['--frames', '7'], "'7': expected A:B"),
        (['--frames', ':'], 'expected A:B'),
        (['--frames', '9:9'], 'expected A:B'),
        (['--frames', '9:3'], 'expected A:B'),
        (['--frames', '-3:'], 'expected'),
        (['--frames', '1:2:3'], 'expected A:B'),
        (['--local-pooling', '0'], '1 or more'),
        (['--precision', 'fp8'], 'invalid choice'),
    ],
)
def test_a_mistake_in_an_argument_ends_with_what_was_expected(words, complaint, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(['restore', 'in.png', '-o', 'out', *words])
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'complaint'),
    [
        (['--format', 'png', '--quality', '80'], '--quality 80: .png is lossless'),
        (['--format', 'jpg', '--lossless'], '--lossless: .jpg is not lossless'),
        (['--crf', '60'], '--crf 60: for h264 or h265, expected 0'),
        (['--preset', '4'], '--preset 4: for h264 or h265'),
        (['--suffix', 'a/b'], '--suffix a/b'),
    ],
)
def test_arguments_that_contradict_each_other_end_before_anything_is_written(words, complaint, tmp_path, capsys):
    (tmp_path / 'in.png').write_text('not looked at')
    assert cli.main(['restore', str(tmp_path / 'in.png'), '-o', str(tmp_path / 'out'), *words]) == 2
    assert complaint in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['in.png']

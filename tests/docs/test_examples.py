"""Every command and Python example of the documentation works."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from example_process import in_process, parse_commands, run_commands, run_python
from examples import REPOSITORY, Example, blocks, commands_in_sentences
from skimage.data import astronaut

from pdan_plugin.option_schema.option_file import read_option_file

QUICKSTART = next(
    example for example in blocks('bash') if example.place.startswith('docs/quickstart.md') and example.short
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the quickstart has been run in its short form, with pictures of a reader's own beside it."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in ('options', 'scripts'):
        (folder / name).symlink_to(REPOSITORY / name)
    photograph = astronaut()[..., ::-1]
    small = cv2.resize(photograph[:240, :320], (96, 72), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(folder / 'photo.jpg'), small)
    cv2.imwrite(str(folder / 'photo.png'), small)
    for number, name in enumerate(('tower.png', 'beach/sand.png', 'beach/sea.png')):
        (folder / 'holiday' / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / 'holiday' / name), photograph[96 * number : 96 * number + 96, 100:196])
    frames = [np.ascontiguousarray(photograph[100:164, 100 + 4 * step : 196 + 4 * step]) for step in range(6)]
    (folder / 'clips/000').mkdir(parents=True)
    (folder / 'exposures').mkdir()
    for number, frame in enumerate(frames):
        cv2.imwrite(str(folder / f'clips/000/{number:08d}.png'), frame)
    light = np.broadcast_to(np.linspace(0, 1, 2048)[None, :, None], (8, 2048, 3))
    for number in range(5):  # five exposures of one scene, each twice as long as the one before
        levels = np.round((light * 2.0**number / 4).clip(0, 1) ** (1 / 2.2) * 255)
        cv2.imwrite(str(folder / f'exposures/{number}.png'), levels.astype(np.uint8))
    write_video(folder / 'clip.mp4', frames[:2])
    status, output = in_process(run_commands, QUICKSTART.short, folder=folder, log=folder / 'quickstart.log')
    assert status == 0, output
    shutil.copytree(folder / 'results/quickstart', folder / 'results/quickstart_again')
    return folder


def write_video(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('mpeg4', rate=Fraction(25))
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = 'yuv420p'
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format='bgr24')))
        container.mux(stream.encode())


def identifier(example: Example) -> str:
    return example.place


@pytest.mark.parametrize('example', [each for each in blocks('bash') if each.test != 'parse'], ids=identifier)
def test_commands(example: Example, folder: Path, tmp_path: Path) -> None:
    """As they are written, or in their short form; those with a short form are also read as they are written."""
    if example.test == 'short':
        status, output = in_process(parse_commands, example.text, folder=tmp_path, log=tmp_path / 'parsed')
        assert status == 0, output
    if example == QUICKSTART:
        return  # the fixture has run it
    text = example.short if example.test == 'short' else example.text
    status, output = in_process(run_commands, text, folder=folder, log=tmp_path / 'run')
    assert status == 0, output


@pytest.mark.parametrize('example', [each for each in blocks('bash') if each.test == 'parse'], ids=identifier)
def test_arguments_of_what_cannot_be_run_here(example: Example, tmp_path: Path) -> None:
    status, output = in_process(parse_commands, example.text, folder=tmp_path, log=tmp_path / 'log')
    assert status == 0, output


@pytest.mark.parametrize('example', blocks('python'), ids=identifier)
def test_python(example: Example, folder: Path, tmp_path: Path) -> None:
    assert example.test != 'parse', 'Python can be run everywhere; give a short form'
    if example.file:
        (folder / example.file).write_text(example.text)
    text = example.short if example.test == 'short' else example.text
    status, output = in_process(run_python, text, folder=folder, log=tmp_path / 'log')
    assert status == 0, output


@pytest.mark.parametrize('example', blocks('yaml'), ids=identifier)
def test_options_can_be_read(example: Example, tmp_path: Path) -> None:
    (tmp_path / 'options').symlink_to(REPOSITORY / 'options')
    (tmp_path / 'part.yml').write_text(example.text)
    assert read_option_file(tmp_path / 'part.yml')


def test_commands_in_sentences_can_be_read(tmp_path: Path) -> None:
    """The commands between backticks in sentences and tables."""
    commands = commands_in_sentences()
    assert len(commands) > 10
    text = '\n'.join(command for _, command in commands)
    status, output = in_process(parse_commands, text, folder=tmp_path, log=tmp_path / 'log')
    assert status == 0, '\n'.join([*(f'{place}: {command}' for place, command in commands), output])

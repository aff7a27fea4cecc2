"""scripts/report.py: the page and the figure, and what is said where they cannot be."""

import runpy
from pathlib import Path

import cv2
import pytest

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'report.py'


def report(*words):
    return runpy.run_path(str(SCRIPT))['main']([str(word) for word in words])


def test_the_page_of_a_run_and_what_to_do_next(runs, capsys):
    assert report(runs[0], '--frames', 1) == 0
    told = capsys.readouterr().out
    assert str(runs[0] / 'report.html') in told
    assert f'--figure {runs[0]} -o figure.png' in told


@pytest.fixture
def magenta(runs, truth):
    """The image on which the second run alone has a magenta box, and that box."""
    image, box = list(truth)[2], (20, 12, 48, 36)
    left, top, width, height = box
    path = runs[1] / 'visualization' / 'val' / f'{image}.png'
    picture = cv2.imread(str(path))
    picture[top : top + height, left : left + width] = 255, 0, 255
    assert cv2.imwrite(str(path), picture)
    return image, box


@pytest.mark.parametrize('chosen', [True, False])
def test_a_figure_shows_the_box_of_each_method(runs, tmp_path, capsys, magenta, chosen):
    image, box = magenta
    drawn = tmp_path / 'figure.png'
    written = ','.join(map(str, box))
    words = ['--box', written] if chosen else []  # else it is found: nowhere else do the runs differ as much
    assert report('--figure', *runs, '--image', image, *words, '-o', drawn) == 0
    assert f'{image}, box {written}' in capsys.readouterr().out
    _, _, width, height = cv2.boundingRect(cv2.inRange(cv2.imread(str(drawn)), (250, 0, 250), (255, 5, 255)))
    assert width > 200  # one crop, all magenta
    assert width / height == pytest.approx(box[2] / box[3], rel=0.02)


def test_a_figure_chooses_image_and_box_itself_in_every_format(runs, tmp_path):
    for suffix in ('.pdf', '.svg'):
        assert report('--figure', *runs, '-o', tmp_path / f'figure{suffix}') == 0
        assert (tmp_path / f'figure{suffix}').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--box', '100,90,60,60'], 'not inside the 128x96'),
        (['--image', '999_0'], '000_00000000'),
        (['--metric', 'lpips'], 'psnr, distance'),
        (['--frames', '3'], 'belongs to the page'),
        (['--dataset', 'other'], 'share val'),
    ],
)
def test_a_figure_that_cannot_be_drawn_writes_nothing(runs, tmp_path, capsys, words, message):
    assert report('--figure', *runs, *words, '-o', tmp_path / 'figure.png') == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'figure.png').exists()


def test_options_of_the_figure_are_refused_for_a_page(runs, capsys):
    assert report(runs[0], '--box', '0,0,8,8') == 2
    assert '--figure' in capsys.readouterr().err

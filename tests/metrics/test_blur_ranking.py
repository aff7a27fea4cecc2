"""Focus functions against blur series of real photographs."""

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from pdan_plugin.errors import RequestError
from pdan_plugin.metrics.blur_ranking import MARGIN, MOTIONS, SERIES, SIGMAS, rank_blur, ranking_table
from pdan_plugin.metrics.sharpness import FOCUS_FUNCTIONS

SCRIPT = Path(__file__).parents[2] / 'scripts' / 'rank_sharpness.py'


def test_every_function_puts_photographs_in_the_right_order():
    photographs = {
        'astronaut': data.astronaut(),
        'cat': data.chelsea(),
        'coffee': data.coffee(),
        'rocket': data.rocket(),
        'bricks': cv2.cvtColor(data.brick(), cv2.COLOR_GRAY2RGB),  # nearly periodic
        'grass': cv2.cvtColor(data.grass(), cv2.COLOR_GRAY2RGB),  # noise-like
    }
    small = {
        name: cv2.resize(picture, (288, 256), interpolation=cv2.INTER_AREA) for name, picture in photographs.items()
    }
    rankings = rank_blur(small)
    assert len(rankings) == len(photographs) * len(SERIES) * len(FOCUS_FUNCTIONS)
    wrong = [(ranking.function, ranking.picture, ranking.series) for ranking in rankings if ranking.rises]
    assert wrong == []


def test_a_function_that_is_wrong_is_shown_to_be():
    photograph = data.astronaut()[100:260, 100:260]
    functions = {'variance': FOCUS_FUNCTIONS['variance'], 'darkness': lambda picture: -float((picture**2).mean())}
    rankings = rank_blur({'astronaut': photograph}, functions)
    table = ranking_table(rankings).splitlines()
    assert table[1].split()[:5] == ['variance', '1/1', '1/1', '1/1', '3/3']
    assert table[2].split()[:2] == ['darkness', '0/1']
    assert 'darkness rises on astronaut, Gaussian, from 0 to 0.5' in '\n'.join(table[3:])
    assert not any(line.startswith('variance rises') for line in table)


def test_no_step_of_a_series_has_seen_beyond_the_picture():
    """Inside the margin a blur is the same whatever lies outside the picture."""
    rng = np.random.default_rng(0)
    whole = rng.uniform(0, 255, (120, 130))
    for kind, series_of in SERIES.items():
        part = series_of(whole[20:100, 20:110])
        for from_part, from_whole in zip(part, series_of(whole), strict=True):
            inner = from_whole[20:-20, 20:-20]
            assert from_part.shape == inner.shape == (80 - 2 * MARGIN, 90 - 2 * MARGIN)
            np.testing.assert_allclose(from_part, inner, atol=1e-9, err_msg=kind)
        assert len(part) == len(SIGMAS if kind == 'Gaussian' else MOTIONS)
        np.testing.assert_array_equal(part[0], whole[20:100, 20:110][MARGIN:-MARGIN, MARGIN:-MARGIN])


def test_pictures_that_cannot_be_ranked_are_named():
    with pytest.raises(RequestError, match=r'small\.png: 40x90 is too small'):
        rank_blur({'small.png': np.zeros((90, 40, 3), np.uint8)})
    with pytest.raises(RequestError, match=r'flat\.png: has only one colour'):
        rank_blur({'flat.png': np.full((90, 90, 3), 9, np.uint8)})


def test_script_ranks_pictures_in_files(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))['main']
    cv2.imwrite(str(tmp_path / 'cat.png'), data.chelsea()[:, :, ::-1])
    assert main([str(tmp_path), '--longest', '200']) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = lines[1 : 1 + len(FOCUS_FUNCTIONS)]
    assert [line.split()[0] for line in rows] == list(FOCUS_FUNCTIONS)
    assert all(line.split()[1:4] == ['1/1'] * 3 for line in rows)
    (tmp_path / 'text.png').write_text('not a picture')
    assert main([str(tmp_path / 'text.png')]) == 2
    assert 'text.png' in capsys.readouterr().err
    assert main([str(tmp_path / 'nothing')]) == 2

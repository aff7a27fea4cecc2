"""The picture of a run: what is written on it, and that it can be drawn of any history."""

import cv2
import matplotlib
import pytest

from pdan_plugin.report.training_curves import draw_curves
from pdan_plugin.training.history import History


@pytest.fixture
def record(tmp_path):
    return History(tmp_path / 'history.jsonl')


def _words(record, **options):
    """What the picture says, as text."""
    path = record.path.replace('.jsonl', '.svg')
    with matplotlib.rc_context({'svg.fonttype': 'none'}):
        assert draw_curves(record.path, path, **options)
    with open(path) as file:
        return file.read()


def _train(record, iterations, loss=lambda iteration: 0.05, rate=1e-4):
    for iteration in iterations:
        record.add_training(iteration, 0, [rate], {'l_pix': loss(iteration)})


@pytest.mark.parametrize('points', [1, 2, 30])
def test_a_short_run_without_validation_is_drawn(record, tmp_path, points):
    _train(record, range(100, 100 * points + 1, 100))
    assert draw_curves(record.path, tmp_path / 'curves.png')
    picture = cv2.imread(str(tmp_path / 'curves.png'))
    assert picture.shape[1] >= 1000
    assert len({tuple(colour) for colour in picture.reshape(-1, 3)[::7]}) > 10
    words = _words(record)
    assert 'Losses' in words
    assert 'l_pix  0.05' in words
    assert 'Learning rate' in words
    assert 'better' not in words


def test_a_long_run_is_drawn_in_a_picture_of_the_same_size(record, tmp_path):
    with open(record.path, 'w') as file:
        for iteration in range(1, 20_001):
            loss = 0.3 / iteration**0.3
            file.write(f'{{"iter": {iteration}, "epoch": 0, "lr": [0.0001], "losses": {{"l_pix": {loss}}}}}\n')
    path = tmp_path / 'curves.svg'
    assert draw_curves(record.path, path)
    assert path.stat().st_size < 500_000  # not a point for each iteration


@pytest.mark.parametrize(('lower', 'best'), [((), '0.4 at 1,000'), (('lpips',), '0.2 at 3,000')])
def test_the_best_of_each_metric_and_data_set_is_named(record, lower, best):
    for iteration, psnr, lpips in ((1000, 24.0, 0.4), (2000, 26.5, 0.3), (3000, 25.0, 0.2)):
        record.add_validation(iteration, 'REDS', {'psnr': psnr, 'lpips': lpips})
        record.add_validation(iteration, 'val300', {'psnr': psnr - 1})
    words = _words(record, lower_is_better=lower)
    assert 'REDS: best 26.5 at 2,000' in words
    assert 'val300: best 25.5 at 2,000' in words
    assert f'REDS: best {best}' in words


def test_of_equal_scores_the_later_is_the_best(record):
    for iteration in (1000, 2000):
        record.add_validation(iteration, 'REDS', {'psnr': 25.0})
    assert 'best 25 at 2,000' in _words(record)


@pytest.mark.parametrize(('last', 'logarithmic'), [(0.04, False), (0.0004, True), (-0.1, False), (0.0, False)])
def test_losses_that_fall_far_are_on_a_logarithmic_axis(record, last, logarithmic):
    _train(record, range(1, 11), loss=lambda iteration: 0.1 if iteration < 6 else last)
    assert ('log scale' in _words(record)) is logarithmic


def test_values_that_are_not_finite_are_marked(record):
    _train(record, range(1, 11), loss=lambda iteration: float('nan') if iteration == 5 else 0.1)
    assert 'not finite' in _words(record)


def test_a_run_of_nothing_finite_is_drawn(record):
    _train(record, range(1, 4), loss=lambda iteration: float('inf'))
    record.add_validation(3, 'REDS', {'psnr': float('nan')})
    words = _words(record)
    assert 'l_pix: never finite' in words
    assert 'REDS: never finite' in words


def test_values_that_are_no_losses_have_their_own_axis(record):
    record.add_training(1, 0, [1e-4, 1e-5], {'l_g_pix': 0.1, 'out_d_real': -2.5})
    words = _words(record)
    assert 'Other logged values' in words
    assert 'parameter group 1' in words


def test_of_nothing_there_is_no_picture(record, tmp_path):
    assert not draw_curves(record.path, tmp_path / 'curves.png')
    record.add_validation(1, 'REDS', {})
    assert not draw_curves(record.path, tmp_path / 'curves.png')
    assert not (tmp_path / 'curves.png').exists()

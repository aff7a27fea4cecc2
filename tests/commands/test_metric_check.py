"""Metrics that cannot score the pictures of a run are reported before it starts."""

import logging
from pathlib import Path

import pytest
from basicsr.utils.registry import METRIC_REGISTRY
from PIL import Image
from run_checks import GREY, check, left_as_it_was, refusal
from small_run import changed, train_options

from pdan_plugin.metrics import lpips_metric, noted_once


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    yield from left_as_it_was(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ('metric', 'told'),
    [
        ({'type': 'calculate_psnr', 'crop_border': '4'}, 'pictures of 128x96 cannot be scored: TypeError'),
        (
            {'type': 'calculate_psnr', 'crop_border': 48},
            'pictures of 128x96 have no value; crop_border: 48 leaves nothing',
        ),
        (
            {'type': 'calculate_psnr', 'crop_border': -4},
            'pictures of 128x96 have no value; crop_border: -4 leaves nothing',
        ),
        ({'type': 'calculate_ssim', 'crop_border': 4, 'input_order': 'CWH'}, 'Wrong input_order CWH'),
        (
            {'type': 'calculate_niqe', 'crop_border': 4},
            'pictures of 128x96 have no value; crop_border: 4 leaves nothing of them, or they are too small for it',
        ),
    ],
)
def test_metrics_that_cannot_score_the_pictures_are_told_before_the_run(metric, told):
    """They would end the run, or count for nothing, at the first validation."""
    text = refusal(changed(train_options(), 'val.metrics.mine', metric))
    assert text.startswith('my.yml: val.metrics.mine: ')
    assert told in text


@pytest.mark.parametrize(
    ('metric', 'data', 'told'),
    [
        ({'crop_border': 4}, {}, None),
        ({'crop_border': 40, 'device': 'cuda:1'}, {}, 'LPIPS needs at least 32x32 pixels, found 48x16'),
        ({'crop_border': 4}, {'color': 'y'}, 'LPIPS compares colour pictures'),
    ],
)
def test_pictures_that_lpips_cannot_compare_are_told_before_the_run(monkeypatch, metric, data, told):
    """A mock: its network is replaced by the mean difference of the two pictures."""
    monkeypatch.setattr(lpips_metric, 'load_lpips', lambda *_: lambda first, second: (first - second).abs().mean())
    options = changed(train_options(), 'val.metrics.mine', {'type': 'calculate_lpips', **metric})
    options['datasets']['val'] |= data
    if told is None:
        check(options)
        return
    if data:
        options['datasets']['train'] |= data
        options['network_g'] = GREY
    text = refusal(options)
    assert text.startswith('my.yml: val.metrics.mine: pictures of 128x96 cannot be scored: ')
    assert told in text


@pytest.mark.parametrize('kind', ['PairedImageDataset', 'REDSPairedDataset'])
@pytest.mark.parametrize(
    ('metric', 'size'),
    [
        ({'type': 'calculate_lpips', 'crop_border': 4}, (40, 36)),
        ({'type': 'calculate_psnr', 'crop_border': 4}, (8, 16)),
        ({'type': 'calculate_ssim', 'crop_border': 4}, (8, 16)),
    ],
)
def test_a_picture_after_the_first_that_has_no_score_is_named(monkeypatch, caplog, kind, metric, size):
    """A mock: LPIPS's network is replaced by the mean difference of the two pictures."""
    monkeypatch.setattr(lpips_metric, 'load_lpips', lambda *_: lambda first, second: (first - second).abs().mean())
    monkeypatch.setattr(logging.getLogger('basicsr'), 'handlers', [caplog.handler])
    noted_once.forget_notes()
    options = changed(train_options(), 'val.metrics', {'mine': metric})
    options['datasets']['val'] |= {'type': kind}
    last = sorted(Path('gt').rglob('*.png'))[-1]
    for root, scale in (('gt', 1), ('lq', 4)):
        Image.new('RGB', (size[1] // scale, size[0] // scale)).save(root / last.relative_to('gt'))
    options['datasets']['train']['gt_size'] = 8
    check(options)
    told = [text for text in map(logging.LogRecord.getMessage, caplog.records) if 'val.metrics' in text]
    assert len(told) == 1
    assert told[0].startswith('my.yml: val.metrics.mine: ')
    assert last.stem in told[0]
    assert f'{size[1]}x{size[0]}, is too small for it and will be scored as nan' in told[0]
    assert not noted_once._told  # the run itself notes it


def test_metrics_are_tried_on_the_cpu(monkeypatch):
    """Their device is the run's: a context on the first GPU for the command and for every rank would stay there."""
    seen = []

    def calculate_recorded(img, img2, crop_border, **kwargs):
        return 0.0

    def prepare(device='cpu', **kwargs):
        seen.append(device)

    calculate_recorded.prepare = prepare
    monkeypatch.setitem(METRIC_REGISTRY._obj_map, 'calculate_recorded', calculate_recorded)
    options = {**train_options(), 'model_type': 'RestorationModel'}
    options['val']['metrics'] = {'recorded': {'type': 'calculate_recorded', 'device': 'cuda:1'}}
    check(options)
    assert seen == ['cpu']

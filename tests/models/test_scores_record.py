"""A test leaves every image's scores, their means by clip and a description; self-ensemble and tiles work in it."""

import csv
import json
import math
import os

import pytest
import torch
from basicsr.models import build_model
from torch.utils.data import DataLoader, Dataset

from pdan_plugin.errors import RequestError
from pdan_plugin.models.scores_record import with_absolute_paths
from pdan_plugin.report.scored_run import read_run
from pdan_plugin.restoration.restorer import Restorer


class Frames(Dataset):
    """Five frames of noise, two clips, below a relative root."""

    opt = {'name': 'held-out', 'dataroot_lq': 'datasets/lq', 'phase': 'test'}  # noqa: RUF012 (the toolbox's own form)

    def __len__(self):
        return 5

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        gt = torch.rand(3, 48, 48, generator=generator)
        path = f'datasets/lq/{index // 3:03d}/{index:08d}.png'
        return {'lq': gt[:, ::4, ::4].contiguous(), 'gt': gt, 'lq_path': path}


def run(model, *, save_img=False, iteration='small'):
    model.validation(DataLoader(Frames(), batch_size=1), iteration, None, save_img)
    return model


def rows(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def test_what_a_test_leaves(model_opt, tmp_path):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['metrics']['ssim'] = {'type': 'calculate_ssim', 'crop_border': 0}
    model = run(build_model(opt), save_img=True)

    images = rows(tmp_path / 'held-out.csv')
    assert list(images[0]) == ['image', 'clip', 'frame', 'psnr', 'ssim', 'seconds']
    assert [(row['image'], row['clip'], row['frame']) for row in images] == [
        (f'{index // 3:03d}_{index:08d}', f'{index // 3:03d}', f'{index:08d}') for index in range(5)
    ]
    psnr = [float(row['psnr']) for row in images]
    assert math.fsum(psnr) / 5 == model.metric_results['psnr']  # to the last bit
    assert all(float(row['seconds']) > 0 for row in images)

    clips = rows(tmp_path / 'held-out_clips.csv')
    assert [(row['clip'], row['images']) for row in clips] == [('000', '3'), ('001', '2'), ('mean', '5')]
    assert float(clips[0]['psnr']) == math.fsum(psnr[:3]) / 3
    assert float(clips[2]['ssim']) == model.metric_results['ssim']

    record = json.loads((tmp_path / 'test.json').read_text())
    described = record['datasets']['held-out']
    assert described['options']['dataroot_lq'].startswith('/')
    assert (described['csv'], described['pictures'], described['images']) == (
        'held-out.csv',
        'visualization/held-out',
        5,
    )
    assert described['metrics']['psnr'] == {
        'type': 'calculate_psnr',
        'crop_border': 0,
        'better': 'higher',
        'mean': model.metric_results['psnr'],
    }
    assert record['parameters'] == sum(each.numel() for each in model.net_g.parameters())
    assert record['network']['type'] == 'EDSR'


def no_number(word):
    raise AssertionError(f'{word} is no JSON')


def test_a_perfect_picture_is_told_in_json_that_every_reader_takes(model_opt, tmp_path, monkeypatch):
    model = build_model(model_opt('RestorationModel', 'EDSR', is_train=False))
    network = model.net_g.forward

    def perfect_once(lq):
        gt = Frames()[1]
        return gt['gt'][None] if torch.equal(lq[0], gt['lq']) else network(lq)

    monkeypatch.setattr(model.net_g, 'forward', perfect_once)
    run(model)

    psnr = json.loads((tmp_path / 'test.json').read_text(), parse_constant=no_number)['datasets']['held-out'][
        'metrics'
    ]['psnr']
    (scores,) = read_run(tmp_path).datasets.values()
    values = [row.values['psnr'] for row in scores.images]
    assert [math.isinf(value) for value in values] == [False, True, False, False, False]
    assert float(psnr['mean']) == math.inf
    assert psnr['not_finite'] == 1
    assert psnr['mean_of_finite'] == math.fsum(value for value in values if value < math.inf) / 4
    assert [row['psnr'] for row in rows(tmp_path / 'held-out_clips.csv')][::2] == ['inf', 'inf']


def test_a_second_data_set_joins_the_record_and_no_metric_is_needed(model_opt, tmp_path, monkeypatch):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val'] = {'suffix': None}
    model = run(build_model(opt))
    monkeypatch.setattr(Frames, 'opt', Frames.opt | {'name': 'other'})
    run(model)
    record = json.loads((tmp_path / 'test.json').read_text())
    assert list(record['datasets']) == ['held-out', 'other']
    assert record['datasets']['other']['pictures'] is None
    assert list(rows(tmp_path / 'other.csv')[0]) == ['image', 'clip', 'frame', 'seconds']


def test_validation_in_training_leaves_none(model_opt, tmp_path):
    run(build_model(model_opt('RestorationModel', 'EDSR')), iteration=1)
    assert not list(tmp_path.rglob('*.csv')) + list(tmp_path.rglob('test.json'))


def test_a_metric_that_is_called_like_a_column_is_refused(model_opt):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val']['metrics']['seconds'] = opt['val']['metrics'].pop('psnr')
    with pytest.raises(RequestError, match=r'val\.metrics\.seconds'):
        build_model(opt)


def test_what_a_metric_lacks_is_told_when_the_model_is_built(model_opt, tmp_path):
    pytest.importorskip('lpips')
    pytest.importorskip('pdan_plugin.metrics.lpips_metric')
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    missing = str(tmp_path / 'alexnet.pth')
    opt['val']['metrics']['lpips'] = {'type': 'calculate_lpips', 'crop_border': 0, 'weights': missing}
    with pytest.raises(RequestError, match=r'alexnet\.pth'):
        build_model(opt)


@pytest.mark.parametrize('options', [{'self_ensemble': True}, {'tile': 8, 'tile_overlap': 2}])
def test_self_ensemble_and_tiles_in_validation(model_opt, options):
    opt = model_opt('RestorationModel', 'EDSR')
    opt['val'] |= options
    model = build_model(opt)
    batch = {key: value[None] for key, value in Frames()[0].items() if key != 'lq_path'}
    model.is_validating = True
    model.feed_data(batch)
    model.test()
    parts = {'tile': options.get('tile'), 'overlap': options.get('tile_overlap')}
    restorer = Restorer(model.net_g, 'cpu', self_ensemble=options.get('self_ensemble', False), **parts)
    torch.testing.assert_close(model.output, restorer(batch['lq']), rtol=0, atol=1e-6)


def test_local_pooling_in_a_test_is_used_and_recorded(model_opt, tmp_path):
    opt = model_opt('RestorationModel', 'PDAN', is_train=False)
    opt['val'] |= {'suffix': None, 'local_pooling': 6}
    model = build_model(opt)
    run(model)
    assert json.loads((tmp_path / 'test.json').read_text())['local_pooling'] == 6
    lq = Frames()[0]['lq'][None]
    model.is_validating = True
    model.feed_data({'lq': lq})
    model.test()
    expected = Restorer(model.net_g, 'cpu', local_pooling=6)(lq)
    torch.testing.assert_close(model.output, expected, rtol=0, atol=1e-6)
    assert (expected - Restorer(model.net_g, 'cpu')(lq)).abs().max() > 1e-6


def test_validation_by_self_ensemble_leaves_the_training_as_it_was(model_opt):
    """And sees the weights as they are at each validation."""
    opt = model_opt('RestorationModel', 'EDSR')
    opt['val']['self_ensemble'] = True
    model = build_model(opt)
    first = run(model, iteration=1).metric_results
    assert model.net_g.training
    assert all(parameter.requires_grad for parameter in model.net_g.parameters())
    with torch.no_grad():
        model.net_g.conv_last.bias.add_(0.2)
    assert run(model, iteration=2).metric_results != first


def test_paths_of_all_sources_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {'name': 'x', 'dataroot_lq': ['a', 'b'], 'sources': [{'dataroot_gt': '~/c', 'weight': 2}]}
    found = with_absolute_paths(options)
    assert found['dataroot_lq'] == [str(tmp_path / 'a'), str(tmp_path / 'b')]
    assert found['sources'] == [{'dataroot_gt': os.path.expanduser('~/c'), 'weight': 2}]

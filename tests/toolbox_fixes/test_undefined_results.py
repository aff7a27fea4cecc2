"""Results of the toolbox's own models that are not finite: named, and neither scored nor written as black pictures."""

import logging
import math
import re

import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils import img_util, tensor2img

from pdan_plugin.commands import main as cli
from pdan_plugin.errors import WorkError

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}


@pytest.fixture
def damaged(tmp_path):
    """Weights of which one number is NaN."""
    state = build_network(dict(EDSR)).state_dict()
    state['conv_last.bias'][1] = math.nan
    torch.save({'params': state}, tmp_path / 'damaged.pth')
    return tmp_path / 'damaged.pth'


def test_a_test_run_ends_and_names_the_sample(tmp_path, sr_options, damaged, monkeypatch, capsys):
    options = yaml.safe_load(sr_options().read_text())
    test = {key: options[key] for key in ('name', 'model_type', 'scale', 'num_gpu', 'network_g')} | {
        'datasets': {'test_1': options['datasets']['val']}, 'path': {'pretrain_network_g': str(damaged)},
        'val': {'save_img': True, 'suffix': None, 'metrics': options['val']['metrics']},
    }  # fmt: skip
    (tmp_path / 'test.yml').write_text(yaml.safe_dump(test))
    monkeypatch.chdir(tmp_path)
    assert cli.main(['test', '-opt', 'test.yml']) == 1
    error = capsys.readouterr().err
    assert '00.png: the network computes values that are not finite' in error
    assert 'path: pretrain_network_g' in error
    assert not list((tmp_path / 'results').rglob('*.png'))


def test_a_training_run_goes_on_and_its_log_names_the_samples(tmp_path, sr_options, damaged, monkeypatch):
    """Its weights may become finite again. The score is nan, not the one of a black picture, and none is the best."""
    path = {'pretrain_network_g': str(damaged), 'strict_load_g': True, 'resume_state': None}
    options = sr_options(path=path, train__total_iter=1, val__val_freq=1, val__save_img=True, num_gpu=0)
    monkeypatch.chdir(tmp_path)
    assert cli.main(['train', '-opt', str(options)]) == 0
    (log,) = (tmp_path / 'experiments/small').glob('train_*.log')
    text = log.read_text()
    for number in range(6):
        assert f'{number:02d}.png: the network computes values that are not finite (NaN or infinite); scored as' in text
    assert re.search(r'# psnr: nan\tBest: -inf @ -1 iter', text)
    assert not list((tmp_path / 'experiments/small/visualization').rglob('*.png'))


def test_samples_that_are_not_finite_are_told_from_results(tmp_path, sr_options, caplog, monkeypatch):
    """And the samples beside them are scored and written."""
    options = yaml.safe_load(sr_options(num_gpu=0).read_text())
    data = build_dataset({**options['datasets']['val'], 'phase': 'val', 'scale': 4})
    samples = Samples(data[index] for index in range(3))
    samples[1]['lq'] = samples[1]['lq'] * math.nan
    samples[2]['gt'] = samples[2]['gt'] * math.nan
    logger = logging.getLogger('basicsr')
    monkeypatch.setattr(logger, 'handlers', [caplog.handler])
    model = build_model({
        **options, 'dist': False, 'rank': 0, 'is_train': False, 'path': {'visualization': str(tmp_path / 'shown')},
    })  # fmt: skip
    model.opt['is_train'] = True
    model.validation(torch.utils.data.DataLoader(samples), 1, None, True)
    told = [record.getMessage() for record in caplog.records if 'scored as nan' in record.getMessage()]
    assert [re.sub(r'^.*/', '', text).partition(' has')[0] for text in told] == [
        '01.png: its input picture', '02.png: its ground truth',
    ]  # fmt: skip
    assert math.isnan(model.metric_results['psnr'])
    assert sorted(path.name for path in (tmp_path / 'shown').rglob('*.png')) == ['00_1.png', '02_1.png']
    assert 'feed_data' not in vars(model)


class Samples(list):
    """A validation set that is read already."""

    opt = {'name': 'whole'}  # noqa: RUF012 (as the toolbox's data sets have it)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_picture_of_what_is_not_finite_is_refused(value, stock):
    picture = torch.zeros(1, 3, 4, 4)
    picture[0, 1, 2, 3] = value
    for show in (tensor2img, img_util.tensor2img_fast):
        with pytest.raises(WorkError, match='not finite'):
            show(picture)
    with pytest.raises(WorkError, match='not finite'):
        tensor2img([torch.zeros(1, 3, 4, 4), picture])
    kept = tensor2img(picture, out_type=np.float32)
    with stock():
        np.testing.assert_array_equal(tensor2img(picture, out_type=np.float32), kept)

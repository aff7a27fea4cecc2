"""A test that would write one result over another is refused before a picture is restored."""

import cv2
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.models import build_model
from torch.utils.data import DataLoader

from pdan_plugin.errors import RequestError


@pytest.fixture
def dataset(tmp_path):
    """make(names of frames, ...) -> a data set of a source for each list, 'CLIP/FRAME' each."""

    def make(*sources):
        roots = []
        for number, names in enumerate(sources):
            folder = tmp_path / f'data{number}'
            for name in names:
                for root, side in (('gt', 48), ('lq', 12)):
                    path = folder / root / f'{name}.png'
                    path.parent.mkdir(parents=True, exist_ok=True)
                    assert cv2.imwrite(str(path), np.full((side, side, 3), 90, np.uint8))
            roots.append({'dataroot_gt': str(folder / 'gt'), 'dataroot_lq': str(folder / 'lq')})
        options = {'name': 'val', 'type': 'REDSPairedDataset', 'phase': 'test', 'scale': 4}
        return build_dataset(options | {'io_backend': {'type': 'disk'}, 'sources': roots})

    return make


@pytest.mark.parametrize(
    ('sources', 'message'),
    [
        ([['street/0', 'mean/0']], 'last row of val_clips'),
        ([['000/0', '001/0'], ['001/0']], 'data0/lq/001/0 and .*data1/lq/001/0 would both be called 001_0'),
    ],
)
def test_names_that_collide(model_opt, tmp_path, dataset, sources, message):
    model = build_model(model_opt('RestorationModel', 'EDSR', is_train=False))
    with pytest.raises(RequestError, match=message):
        model.validation(DataLoader(dataset(*sources), batch_size=1), 'small', None, True)
    assert not list((tmp_path / 'visualization').iterdir())
    assert not list(tmp_path.glob('*.csv'))


@pytest.mark.parametrize(('one', 'other'), [('val', 'val_clips'), ('val_clips', 'val'), ('val', 'val')])
def test_data_sets_whose_tables_would_be_one_file(model_opt, one, other):
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['datasets'] = {'test_1': {'name': one}, 'test_2': {'name': 'third'}, 'test_3': {'name': other}}
    with pytest.raises(RequestError, match=r'datasets\.test_3\.name: .*datasets\.test_1'):
        build_model(opt)
    opt['datasets']['test_3']['name'] = 'other'
    build_model(opt)

"""The zip to hand in at a challenge: its names, its readme, and what is refused before a picture is restored."""

import zipfile

import cv2
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.models import build_model
from skimage import data
from torch.utils.data import DataLoader

from pdan_plugin.errors import RequestError
from pdan_plugin.models.scores_record import ScoredImage
from pdan_plugin.models.submission import require_challenge_frames, write_submission

FRAMES = [f'{number:08d}' for number in range(9, 100, 10)]


@pytest.fixture
def frames(tmp_path):
    """make(names) -> a data set of small frames on the disk, 'CLIP/FRAME' each."""

    def make(names, kind='REDSPairedDataset'):
        photograph = data.astronaut()
        for index, name in enumerate(names):
            gt = np.ascontiguousarray(photograph[8 * index : 8 * index + 32, :32, ::-1])
            for root, picture in (('gt', gt), ('lq', gt[::4, ::4])):
                path = tmp_path / root / f'{name}.png'
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), picture)
        roots = {'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq')}
        options = {'name': 'frames', 'type': kind, 'phase': 'test', 'scale': 4, 'io_backend': {'type': 'disk'}}
        return build_dataset(options | roots)

    return make


def test_a_test_ends_with_the_zip(model_opt, tmp_path, frames):
    names = [f'{clip}/{frame}' for clip in ('000', '001') for frame in FRAMES] + ['001/00000010']
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val'] = {'submission': True, 'save_img': True, 'suffix': 'x4'}
    build_model(opt).validation(DataLoader(frames(names), batch_size=1), 'small', None, True)
    with zipfile.ZipFile(tmp_path / 'frames_submission.zip') as archive:
        assert archive.testzip() is None
        expected = {f'{clip}_{frame}.png' for clip in ('000', '001') for frame in FRAMES}
        assert set(archive.namelist()) == expected | {'readme.txt'}
        picture = archive.read('001_00000099.png')
        readme = archive.read('readme.txt').decode().splitlines()
    assert picture == (tmp_path / 'visualization/frames/001_00000099_x4.png').read_bytes()
    words = [line.partition(' : ') for line in readme]
    assert [word for word, _, _ in words] == [
        'runtime per image [s]',
        'CPU[1] / GPU[0]',
        'Extra Data [1] / No Extra Data [0]',
        'Other description',
    ]
    assert float(words[0][2]) > 0
    assert (words[1][2], words[3][2]) == ('1', 'small')


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    images, pictures = [], []
    for frame in reversed(FRAMES):
        pictures.append(tmp_path / f'{frame}.png')
        pictures[-1].write_bytes(frame.encode())
        images.append(ScoredImage(f'000_{frame}', '000', frame, {}, 0.25))
    for name, order in (('a.zip', 1), ('b.zip', -1)):
        write_submission(tmp_path / name, images[::order], pictures[::order], on_gpu=True, description='two\nlines')
        pictures[0].touch()
    assert (tmp_path / 'a.zip').read_bytes() == (tmp_path / 'b.zip').read_bytes()
    with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
        assert archive.read('readme.txt').decode().startswith('runtime per image [s] : 0.2500\nCPU[1] / GPU[0] : 0\n')


@pytest.mark.parametrize(
    ('kind', 'names', 'reason'),
    [
        ('REDSPairedDataset', [f'000/{frame}' for frame in FRAMES[:-2]], 'clip 000 lacks frame 00000089 and 1 more'),
        ('REDSPairedDataset', [f'street/{frame}' for frame in FRAMES], 'is not a frame of a REDS clip'),
        ('PairedImageDataset', ['baby', 'bird'], 'is not a frame of a REDS clip'),
    ],
)
def test_what_is_no_submission_is_refused_before_anything_is_restored(model_opt, tmp_path, frames, kind, names, reason):
    dataset = frames(names, kind)
    opt = model_opt('RestorationModel', 'EDSR', is_train=False)
    opt['val'] = {'submission': True, 'save_img': True, 'suffix': None}
    with pytest.raises(RequestError, match=reason):
        build_model(opt).validation(DataLoader(dataset, batch_size=1), 'small', None, True)
    assert not list((tmp_path / 'visualization').iterdir())


def test_frames_are_those_of_the_data_set_as_it_was_built(tmp_path, frames):
    dataset = frames([f'000/{frame}' for frame in FRAMES])
    (tmp_path / 'lq').rename(tmp_path / 'moved')
    require_challenge_frames(dataset)


def test_pictures_that_are_not_kept_are_refused(frames):
    with pytest.raises(RequestError, match='save_img'):
        require_challenge_frames(frames([f'000/{frame}' for frame in FRAMES]), save_img=False)

"""LMDB stores read through the toolbox: shared in a process, anew in a worker, keys named."""

import contextlib
import os
import pickle
import shutil

import lmdb
import pytest
from basicsr.data import build_dataset
from basicsr.utils import FileClient, imfrombytes
from torch.utils.data import DataLoader

from pdan_plugin.data.lmdb_environments import close_shared_environment, shared_environment
from pdan_plugin.errors import RequestError


@pytest.fixture
def store(tmp_path):
    """make(name, {key: bytes}) -> path of a store with a meta_info.txt."""

    def make(name, content):
        path = tmp_path / name
        environment = lmdb.open(str(path), map_size=2**24)
        with environment.begin(write=True) as transaction:
            for key, value in content.items():
                transaction.put(key.encode(), value)
        environment.close()
        (path / 'meta_info.txt').write_text(''.join(f'{key}.png (48,48,3) 1\n' for key in content))
        return str(path)

    return make


def _pictures(folder):
    return {f'000/{path.stem}': path.read_bytes() for path in sorted(folder.glob('*.png'))}


@pytest.fixture
def paired(store, picture_pairs):
    gt, lq = picture_pairs()
    stores = store('gt.lmdb', _pictures(gt)), store('lq.lmdb', _pictures(lq))

    def build(name='crops', **changes):
        return build_dataset(
            {'type': 'PairedImageDataset', 'name': name, 'dataroot_gt': stores[0], 'dataroot_lq': stores[1],
             'io_backend': {'type': 'lmdb'}, 'scale': 4, 'phase': 'val'} | changes
        )  # fmt: skip

    return build


def test_train_and_val_read_one_store(stock, paired, monkeypatch):
    """The stock toolbox opens it twice. LMDB forbids that; newer releases of lmdb raise an error."""
    asked, environments, real = [], [], lmdb.open

    def recorded(path, *args, **kwargs):
        asked.append(path)
        environments.append(real(path, *args, **kwargs))
        return environments[-1]

    monkeypatch.setattr(lmdb, 'open', recorded)
    with stock():
        train, val = paired('train'), paired('val')
        train[0]
        with contextlib.suppress(lmdb.Error):
            val[0]
    assert len(asked) > len(set(asked))
    for environment in environments:
        environment.close()
    asked.clear()
    train, val = paired('train'), paired('val')
    assert train[0]['gt'].shape == (3, 48, 48)
    assert val[1]['gt_path'] == '000/01'
    assert len(asked) == len(set(asked)) == 2


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_a_data_set_that_was_read_here_is_read_in_workers(paired, start):
    from pdan_plugin.processes.worker_contexts import SpawnedWorkerContext

    dataset = paired()
    here = dataset[2]['gt']
    context = SpawnedWorkerContext() if start == 'spawn' else 'fork'
    loader = DataLoader(dataset, batch_size=1, num_workers=1, multiprocessing_context=context)
    assert [batch['gt'][0] for batch in loader][2].equal(here)
    assert dataset[2]['gt'].equal(here)


def test_a_missing_key_is_named_with_its_store_and_close_keys(stock, paired, store):
    path = store('other.lmdb', {f'000/{number:08d}': b'x' for number in range(30)})

    def read():
        return FileClient('lmdb', db_paths=path).get('000/00000009.png')

    with stock():
        environment = FileClient('lmdb', db_paths=path)
        assert environment.get('000/00000009.png') is None
        environment.client._client['default'].close()
    with pytest.raises(KeyError, match=r"other\.lmdb: the store has no key '000/00000009\.png'.*000/00000009[,.]"):
        read()
    with pytest.raises(RequestError, match='the store has no key'):
        FileClient('lmdb', db_paths=path).get('zzz')


def test_a_broken_picture_is_named_by_key_and_store(store):
    path = store('broken.lmdb', {'000/00000003': b'nothing'})
    content = FileClient('lmdb', db_paths=[path], client_keys=['gt']).get('000/00000003', 'gt')
    assert content == b'nothing'
    assert pickle.loads(pickle.dumps(content)).source == content.source
    with pytest.raises(RequestError, match=r'key 000/00000003 in .*broken\.lmdb'):
        imfrombytes(content, float32=True)


def test_settings_the_shared_store_cannot_have_are_refused(store):
    path = store('a.lmdb', {'a': b'1'})
    with pytest.raises(RequestError, match='readonly'):
        FileClient('lmdb', db_paths=path, readonly=False)
    with pytest.raises(ValueError, match='the same length'):
        FileClient('lmdb', db_paths=[path], client_keys=['a', 'b'])


def test_a_missing_store_says_how_to_make_one(tmp_path, paired):
    with pytest.raises(RequestError, match=r'none\.lmdb: no LMDB store here.*basicsr prepare-reds'):
        shared_environment(tmp_path / 'none.lmdb')
    with pytest.raises(RequestError, match=r'dataroot_gt: .*none\.lmdb is not an LMDB store.*basicsr prepare-reds'):
        paired(dataroot_gt=str(tmp_path / 'none.lmdb'))


def test_one_environment_a_store_and_a_new_one_when_it_is_written_anew(store, tmp_path):
    path = store('a.lmdb', {'a': b'1'})
    first = shared_environment(path)
    os.symlink(path, tmp_path / 'link.lmdb')
    assert shared_environment(tmp_path / 'link.lmdb') is first
    shutil.rmtree(path)
    store('a.lmdb', {'a': b'2'})
    second = shared_environment(path)
    assert second is not first
    assert second.begin().get(b'a') == b'2'


def test_a_closed_environment_can_be_written_and_read_again(store):
    path = store('a.lmdb', {'a': b'1'})
    shared_environment(path)
    close_shared_environment(path)
    store('a.lmdb', {'b': b'2'})
    assert shared_environment(path).begin().get(b'b') == b'2'


def test_a_forked_child_opens_its_own(store):
    path = store('a.lmdb', {'a': b'1'})
    parents = shared_environment(path)
    child = os.fork()
    if child == 0:
        own = shared_environment(path)
        os._exit(0 if own is not parents and own.begin().get(b'a') == b'1' else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert parents.begin().get(b'a') == b'1'

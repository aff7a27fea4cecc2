"""Pictures are the same wherever they lie, and others are others."""

import shutil

import cv2
import numpy as np

from comparison.data_identity import DataIdentity
from pdan_plugin.data.frame_store_writer import FrameStoreWriter


def test_a_folder_is_what_is_in_it(tmp_path):
    here, there = tmp_path / 'here', tmp_path / 'there'
    (here / '000').mkdir(parents=True)
    for number in range(2):
        cv2.imwrite(str(here / f'000/{number}.png'), np.full((8, 8, 3), number, np.uint8))
    shutil.copytree(here, there)

    def of(root, **further):
        return DataIdentity().of([{'name': 'x', 'dataroot_gt': str(root), **further}])

    first = of(here)
    assert first == of(there)
    assert first != of(here, dataroot_lq=str(there))
    (there / '000/1.png').unlink()
    assert of(there) != first
    assert of(tmp_path / 'nowhere') is None
    assert DataIdentity().of([{'sets': [{'dataroot_gt': str(tmp_path / 'nowhere')}]}]) is None


def test_a_store_is_its_pictures_and_not_how_they_are_coded(tmp_path):
    def store(name, codec, value):
        with FrameStoreWriter(tmp_path / name, codec=codec) as writer:
            writer.add('000/00000000', np.full((8, 8, 3), value, np.uint8))
            writer.finish()
        return DataIdentity().of([{'dataroot_gt': str(tmp_path / name)}])

    first = store('a.lmdb', 'bmp', 5)
    assert first == store('b.lmdb', 'png', 5)
    assert first != store('c.lmdb', 'bmp', 6)  # of the same size


def test_a_store_of_the_toolbox_is_told_by_its_list_and_size(tmp_path):
    root = tmp_path / 'set.lmdb'
    root.mkdir()
    (root / 'data.mdb').write_bytes(b'1234')
    (root / 'meta_info.txt').write_text('a.png (8,8,3) 1\n')
    opt = [{'dataroot_gt': str(root)}]
    first = DataIdentity().of(opt)
    (root / 'lock.mdb').write_bytes(b'a reader was here')
    assert DataIdentity().of(opt) == first
    (root / 'data.mdb').write_bytes(b'12345')
    assert DataIdentity().of(opt) != first

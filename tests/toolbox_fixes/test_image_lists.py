"""Which pairs of images a data set finds."""

import pytest
from basicsr import data
from basicsr.data import build_dataset, data_util

from pdan_plugin.errors import RequestError

CLIPS = ('000/00000000.png', '000/00000001.png', '001/00000000.png')


def _options(gt, lq, **changes):
    return {'type': 'PairedImageDataset', 'name': 'pairs', 'dataroot_gt': str(gt), 'dataroot_lq': str(lq),
            'io_backend': {'type': 'disk'}, 'scale': 4, 'phase': 'val'} | changes  # fmt: skip


def test_folders_of_clips_are_paired_by_path(stock, picture_pairs):
    """REDS's own layout."""
    gt, lq = picture_pairs(CLIPS)
    (gt / '.DS_Store').write_text('')
    with stock():
        assert len(data.build_dataset(_options(gt, lq))) == 0
    dataset = build_dataset(_options(gt, lq))
    assert [dataset[index]['gt_path'] for index in range(3)] == [str(gt / name) for name in CLIPS]
    assert [dataset[index]['lq_path'] for index in range(3)] == [str(lq / name) for name in CLIPS]


def test_a_flat_folder_is_read_without_its_subfolders(stock, picture_pairs):
    gt, lq = picture_pairs(('b.png', 'a.png', 'old/c.png'))

    def paths():
        return data_util.paired_paths_from_folder([str(lq), str(gt)], ['lq', 'gt'], '{}')

    with stock():
        published = sorted(paths(), key=lambda pair: pair['gt_path'])
    assert paths() == published
    assert [pair['gt_path'][-5:] for pair in paths()] == ['a.png', 'b.png']


def test_names_without_a_partner_are_listed(picture_pairs):
    gt, lq = picture_pairs(CLIPS)
    (lq / CLIPS[1]).unlink()
    with pytest.raises(RequestError, match=r'lq lacks 000/00000001\.png; without a partner in gt: none'):
        build_dataset(_options(gt, lq))
    (lq / CLIPS[1]).with_suffix('.jpg').write_bytes(b'')
    with pytest.raises(RequestError, match=r'without a partner in gt: 000/00000001\.jpg'):
        build_dataset(_options(gt, lq))
    with pytest.raises(RequestError, match=r'dataroot_lq: .*nowhere is not a folder'):
        build_dataset(_options(gt, lq / 'nowhere'))


def test_filename_templates_apply_within_clips(picture_pairs):
    gt, lq = picture_pairs(('000/1.png',))
    (lq / '000' / '1.png').rename(lq / '000' / '1x4.png')
    assert build_dataset(_options(gt, lq, filename_tmpl='{}x4'))[0]['lq_path'] == str(lq / '000' / '1x4.png')


def test_a_meta_info_file_keeps_the_clip(stock, picture_pairs, tmp_path):
    gt, lq = picture_pairs(CLIPS)
    meta_info = tmp_path / 'meta_info.txt'
    meta_info.write_text(''.join(f'{name} (48,48,3)\n' for name in CLIPS[1:]) + '\n')
    options = _options(gt, lq, meta_info_file=str(meta_info))
    with stock(), pytest.raises(FileNotFoundError):
        build_dataset(options)[0]
    dataset = build_dataset(options)
    assert len(dataset) == 2
    assert dataset[0]['lq'].shape == (3, 12, 12)
    assert dataset[1]['lq_path'] == str(lq / CLIPS[2])


def test_stores_that_differ_list_the_keys(tmp_path):
    for name, keys in (('gt', ('000/0', '000/1')), ('lq', ('000/0', '000/2'))):
        (tmp_path / f'{name}.lmdb').mkdir()
        (tmp_path / f'{name}.lmdb' / 'meta_info.txt').write_text(''.join(f'{key}.png (4,4,3) 1\n' for key in keys))
    options = _options(tmp_path / 'gt.lmdb', tmp_path / 'lq.lmdb', io_backend={'type': 'lmdb'})
    with pytest.raises(RequestError, match=r'lq\.lmdb: lacks keys of the other store: 000/1'):
        build_dataset(options)


def test_a_data_set_without_images_is_refused(tmp_path):
    (tmp_path / 'empty').mkdir()
    said = r"data set pairs \(PairedImageDataset\): 0 images in .*'dataroot_gt': .*empty"
    with pytest.raises(RequestError, match=said):
        build_dataset(_options(tmp_path / 'empty', tmp_path / 'empty'))

"""A stock data set in workers that start in a fresh interpreter."""

SCRIPT = """
import contextlib, multiprocessing, sys

def main(mended, methods):
    import pdan_plugin
    from basicsr import data
    from pdan_plugin.toolbox_fixes import stock_toolbox
    dataset = data.build_dataset({
        'type': 'PairedImageDataset', 'name': 'crops', 'dataroot_gt': 'pictures/gt', 'dataroot_lq': 'pictures/lq',
        'io_backend': {'type': 'disk'}, 'scale': 4, 'phase': 'train', 'gt_size': 32, 'use_hflip': True, 'use_rot': True,
    })
    options = {'phase': 'train', 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 2}
    sampler = data_sampler(dataset)
    for method in methods:
        multiprocessing.set_start_method(method, force=True)
        with contextlib.nullcontext() if mended else stock_toolbox():
            batches = list(data.build_dataloader(dataset, options, num_gpu=0, sampler=sampler, seed=1))
        print(method, [tuple(batch['gt'].shape) for batch in batches])

def data_sampler(dataset):
    from basicsr.data.data_sampler import EnlargedSampler
    return EnlargedSampler(dataset, 1, 0)

if __name__ == '__main__':
    main(sys.argv[1] == 'mended', sys.argv[2:])
"""


def test_workers_read_a_stock_data_set(python, picture_pairs):
    picture_pairs(('a.png', 'b.png', 'c.png', 'd.png'))
    mended = python(SCRIPT, 'mended', 'spawn', 'forkserver')
    assert mended.returncode == 0, mended.stderr
    for method in ('spawn', 'forkserver'):
        assert f'{method} [(2, 3, 32, 32), (2, 3, 32, 32)]' in mended.stdout


def test_stock_workers_die(python, picture_pairs):
    picture_pairs(('a.png', 'b.png', 'c.png', 'd.png'))
    published = python(SCRIPT, 'stock', 'spawn')
    assert published.returncode == 1
    assert 'torchvision.transforms.functional_tensor' in published.stderr

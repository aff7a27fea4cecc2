"""A stock data set in workers that start in a fresh interpreter."""

SCRIPT = """
import contextlib, multiprocessing

def main():
    import pdan_plugin
    from basicsr import data
    from basicsr.data.data_sampler import EnlargedSampler
    from pdan_plugin.toolbox_fixes import stock_toolbox
    dataset = data.build_dataset({
        'type': 'PairedImageDataset', 'name': 'crops', 'dataroot_gt': 'pictures/gt', 'dataroot_lq': 'pictures/lq',
        'io_backend': {'type': 'disk'}, 'scale': 4, 'phase': 'train', 'gt_size': 32, 'use_hflip': True, 'use_rot': True,
    })
    for method, toolbox in (('spawn', contextlib.nullcontext), ('forkserver', contextlib.nullcontext),
                            ('spawn', stock_toolbox)):
        multiprocessing.set_start_method(method, force=True)
        with toolbox():
            loader = data.build_dataloader(
                dataset, {'phase': 'train', 'batch_size_per_gpu': 2, 'num_worker_per_gpu': 2},
                num_gpu=0, sampler=EnlargedSampler(dataset, 1, 0), seed=1,
            )
            try:
                print(method, toolbox.__name__, [tuple(batch['gt'].shape) for batch in loader], flush=True)
            except RuntimeError as error:
                print(method, toolbox.__name__, error, flush=True)

if __name__ == '__main__':
    main()
"""


def test_workers_read_a_stock_data_set_and_die_without_the_fix(python, picture_pairs):
    """The script's main module does not import the package: the workers owe it to their process class alone."""
    picture_pairs(('a.png', 'b.png', 'c.png', 'd.png'))
    done = python(SCRIPT)
    assert done.returncode == 0, done.stderr
    for method in ('spawn', 'forkserver'):
        assert f'{method} nullcontext [(2, 3, 32, 32), (2, 3, 32, 32)]' in done.stdout
    assert 'spawn stock_toolbox DataLoader worker' in done.stdout
    assert 'torchvision.transforms.functional_tensor' in done.stderr

"""Runs work in a folder of their own, and find what their row's option file names."""

import json
import shutil

import cv2
import numpy as np
import pytest

from comparison.plan import plan_rows, plan_runs
from comparison.rows import Row
from pdan_plugin.errors import RequestError

DATA = {'name': 'held-out', 'type': 'REDSPairedDataset', 'dataroot_gt': 'gt', 'dataroot_lq': 'lq'}


def test_files_that_an_option_file_names_are_looked_for_where_it_was_given(tmp_path, monkeypatch):
    metrics = {'psnr': {'type': 'calculate_psnr'}, 'ssim': {'type': 'calculate_ssim'}}
    metrics['lpips'] = {'type': 'calculate_lpips', 'weights': 'alex.pth'}
    options = {
        'network_g': {'type': 'EDSR'}, 'datasets': {'train': DATA, 'val': DATA}, 'val': {'metrics': metrics},
        'path': {'pretrain_network_g': 'phase1.pth', 'pretrain_network_d': None, 'strict_load_g': True},
        'train': {'total_iter': 9},
    }  # fmt: skip
    (tmp_path / 'row.yml').write_text(json.dumps(options))
    row = Row('edsr', 'EDSR', 'row.yml')
    monkeypatch.chdir(tmp_path)
    (run,) = plan_runs(
        plan_rows([row], tmp_path), [row], [7], {'further': {'type': 'calculate_lpips', 'weights': 'own.pth'}}
    )
    assert run.train is not None
    assert run.train['path'] == {
        'pretrain_network_g': str(tmp_path / 'phase1.pth'), 'pretrain_network_d': None, 'strict_load_g': True,
    }  # fmt: skip
    assert run.train['datasets']['train']['dataroot_gt'] == str(tmp_path / 'gt')
    assert run.test['datasets']['test']['dataroot_lq'] == str(tmp_path / 'lq')
    assert run.test['val']['metrics']['lpips']['weights'] == str(tmp_path / 'alex.pth')
    assert run.test['val']['metrics']['further']['weights'] == str(tmp_path / 'own.pth')
    assert run.test['path']['pretrain_network_g'] == f'experiments/{run.name}/models/net_g_latest.pth'  # its own


METRICS = {'psnr': {'type': 'calculate_psnr'}, 'ssim': {'type': 'calculate_ssim'}}


def test_a_precision_for_all_takes_the_place_of_each_file_s(tmp_path):
    shared = {'network_g': {'type': 'EDSR'}, 'val': {'metrics': METRICS}}
    trained = shared | {'datasets': {'train': DATA, 'val': DATA}, 'train': {'total_iter': 9, 'precision': 'bf16'}}
    (tmp_path / 'trained.yml').write_text(json.dumps(trained))
    (tmp_path / 'fixed.yml').write_text(json.dumps(shared | {'datasets': {'test': DATA}}))
    rows = [Row('trained', 'EDSR', 'trained.yml'), Row('fixed', 'bicubic', 'fixed.yml')]
    as_written, bf16, fp32 = (plan_rows(rows, tmp_path, precision=each) for each in (None, 'bf16', 'fp32'))
    assert [planned['trained'].options['train']['precision'] for planned in (as_written, fp32)] == ['bf16', 'fp32']
    assert bf16['trained'].run == as_written['trained'].run != fp32['trained'].run  # not mixed into one mean
    assert fp32['fixed'] == as_written['fixed']


@pytest.fixture
def planned(tmp_path):
    """plan(changes to the option file by section) -> the row, over pictures and weights that are there."""
    for folder in ('gt', 'lq'):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / '0.png'), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / 'first.pth').write_bytes(b'weights')

    def plan(workers=None, top=(), **changes):
        data = {'name': 'x', 'dataroot_gt': str(tmp_path / 'gt'), 'dataroot_lq': str(tmp_path / 'lq')}
        data |= changes.get('data', {})
        options = {
            'network_g': {'type': 'EDSR'}, 'datasets': {'train': data | {'batch_size_per_gpu': 3}, 'val': data},
            'train': {'total_iter': 9}, 'path': {'pretrain_network_g': str(tmp_path / 'first.pth')},
            'val': {'metrics': METRICS},
        } | dict(top)  # fmt: skip
        for section in ('path', 'val', 'train'):
            options[section] = options[section] | changes.get(section, {})
        (tmp_path / 'row.yml').write_text(json.dumps(options))
        return plan_rows([Row('row', 'EDSR', 'row.yml')], tmp_path, workers=workers)['row']

    return plan


def test_a_run_keeps_its_name_where_nothing_that_decides_its_numbers_changes(planned, tmp_path):
    first = planned().run
    shutil.copytree(tmp_path / 'gt', tmp_path / 'moved')
    shutil.copy(tmp_path / 'first.pth', tmp_path / 'moved.pth')
    assert planned(data={'dataroot_gt': str(tmp_path / 'moved')}).run == first
    assert planned(path={'pretrain_network_g': str(tmp_path / 'moved.pth')}).run == first
    assert planned(data={'num_worker_per_gpu': 4, 'pin_memory': True}).run == first
    assert planned(val={'pbar': True, 'val_freq': 3}).run == first


def test_a_run_has_another_name_where_its_numbers_may_differ(planned, tmp_path):
    names = [planned().run, planned(train={'total_iter': 8}).run, planned(data={'use_rot': True}).run]
    names.append(planned(workers=2).run)
    (tmp_path / 'first.pth').write_bytes(b'other weights')
    names.append(planned().run)
    cv2.imwrite(str(tmp_path / 'gt/1.png'), np.zeros((8, 8, 3), np.uint8))
    names.append(planned().run)
    assert len(set(names)) == len(names)


def test_a_process_alone_takes_one_gpu_so_that_the_batch_is_the_one_told(planned, monkeypatch):
    """A mock of the GPUs."""
    for available, devices in ((True, 1), (False, 0)):
        monkeypatch.setattr('torch.cuda.is_available', lambda available=available: available)
        alone = planned(top={'num_gpu': 'auto'})
        assert (alone.options['num_gpu'], alone.batch) == (devices, 3)
    assert planned(top={'num_gpu': 'auto'}, workers=2).options['num_gpu'] == 'auto'  # the launcher gives each its own
    assert planned(top={'num_gpu': 4}).batch == 12
    assert planned(top={'num_gpu': 4}).run == planned(top={'num_gpu': 'auto'}, workers=4).run


def test_rows_that_are_scored_otherwise_are_refused(tmp_path):
    base = {'network_g': {'type': 'Bicubic'}, 'datasets': {'test': DATA}, 'val': {'metrics': METRICS}}
    others = {
        'frames': base | {'datasets': {'test': DATA | {'frames': 'val300'}}},
        r'val\.metrics': base | {'val': {'metrics': METRICS | {'psnr': {'type': 'calculate_psnr', 'crop_border': 4}}}},
    }
    (tmp_path / 'first.yml').write_text(json.dumps(base))
    for what, content in others.items():
        (tmp_path / 'second.yml').write_text(json.dumps(content))
        with pytest.raises(RequestError, match=rf'second\.yml: scored differently from .*first\.yml: {what} differ'):
            plan_rows([Row('first', '', 'first.yml'), Row('second', '', 'second.yml')], tmp_path)

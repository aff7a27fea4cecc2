"""Runs work in a folder of their own, and find what their row's option file names."""

import json

from pdan_plugin.comparison.plan import plan_rows, plan_runs
from pdan_plugin.comparison.rows import Row

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


def test_a_precision_for_all_takes_the_place_of_each_file_s(tmp_path):
    metrics = {'psnr': {'type': 'calculate_psnr'}, 'ssim': {'type': 'calculate_ssim'}}
    shared = {'network_g': {'type': 'EDSR'}, 'val': {'metrics': metrics}}
    trained = shared | {'datasets': {'train': DATA, 'val': DATA}, 'train': {'total_iter': 9, 'precision': 'bf16'}}
    (tmp_path / 'trained.yml').write_text(json.dumps(trained))
    (tmp_path / 'fixed.yml').write_text(json.dumps(shared | {'datasets': {'test': DATA}}))
    rows = [Row('trained', 'EDSR', 'trained.yml'), Row('fixed', 'bicubic', 'fixed.yml')]
    as_written, bf16, fp32 = (plan_rows(rows, tmp_path, precision=each) for each in (None, 'bf16', 'fp32'))
    assert [planned['trained'].options['train']['precision'] for planned in (as_written, fp32)] == ['bf16', 'fp32']
    assert bf16['trained'].run == as_written['trained'].run != fp32['trained'].run  # not mixed into one mean
    assert fp32['fixed'] == as_written['fixed']

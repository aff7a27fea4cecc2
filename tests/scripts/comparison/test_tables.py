"""The tables hold what is worked out by hand from the runs' records."""

import json

import pytest

from comparison.plan import plan_rows
from comparison.records import write_record
from comparison.rows import Comparison, Row
from comparison.tables import duration, write_tables

DATA = {'name': 'held-out', 'type': 'REDSPairedDataset', 'dataroot_gt': 'a', 'dataroot_lq': 'b'}
METRICS = {name: {'type': f'calculate_{name}', 'crop_border': 0} for name in ('psnr', 'ssim')}
BICUBIC = {'network_g': {'type': 'Bicubic'}, 'datasets': {'test': DATA}, 'val': {'metrics': METRICS}, 'path': {}}


def trained(features):
    network = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': features, 'num_block': 1, 'upscale': 4}
    return {
        **BICUBIC,
        'network_g': network,
        'datasets': {'train': DATA | {'batch_size_per_gpu': 3}, 'val': DATA},
        'train': {'total_iter': 9, 'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [9]}},
    }


@pytest.fixture
def compared(tmp_path):
    """Bicubic, a row and PDAN's, which is the ablation's second: calls that leave a record, and make the tables."""
    files = {'bicubic': BICUBIC, 'edsr': trained(8), 'pdan': trained(4), 'base': trained(6), 'hpem': trained(4)}
    rows = {name: Row(name, name.upper(), f'{name}.yml') for name in files}
    for name, content in files.items():
        (tmp_path / f'{name}.yml').write_text(json.dumps(content | {'name': name}))
    baselines = tuple(rows[name] for name in ('bicubic', 'edsr', 'pdan'))
    comparison = Comparison(baselines, (rows['base'], rows['hpem']), sheet=('pdan',))
    planned = plan_rows(comparison.rows, tmp_path, workers=2)

    def finished(row, seed, clips, ssim=0.5, attempts=(60.0,), name=None, torch='2.13', **metrics):
        name = name or planned[row].run_name(seed)
        scores = {clip: {'psnr': psnr, 'ssim': ssim} for clip, psnr in clips.items()}
        test = {
            'dataset': 'held-out', 'images': len(clips), 'clips': scores, 'seconds_per_image': 0.25,
            'mean': {'psnr': sum(clips.values()) / len(clips), 'ssim': ssim, **metrics}, 'parameters': 1,
            'network': {}, 'machine': 'a processor', 'precision': 'fp32', 'versions': {'torch': torch},
        }  # fmt: skip
        record = {
            'name': name, 'rows': [row], 'seed': seed, 'trained': True,
            'attempts': [
                {'begun': '', 'unix_time': 0, 'seconds': each, 'versions': {'torch': '2.12'}} for each in attempts
            ], 'test': test,
        }  # fmt: skip
        write_record(tmp_path / 'out', record)

    def tables():
        text = write_tables(tmp_path / 'out', comparison, planned)
        return text, json.loads((tmp_path / 'out' / 'tables.json').read_text())

    return finished, tables


def line(text, title, place=0):
    """Cells of the row with a title, in the table that is at a place."""
    found = [each for each in text.splitlines() if each.startswith(f'| {title} |')]
    return [cell.strip() for cell in found[place].strip('|').split('|')]


def test_means_spreads_and_differences_by_seed(compared):
    finished, tables = compared
    finished('bicubic', 0, {'a': 20.0, 'b': 24.0}, attempts=())
    for seed, (a, b) in enumerate([(21.0, 25.0), (22.0, 26.0), (23.0, 27.0)]):  # 23, 24, 25
        finished('base', seed, {'a': a, 'b': b}, ssim=0.6 + seed / 100)
    for seed, (a, b) in enumerate([(21.5, 25.5), (22.3, 26.3), (23.4, 27.4)]):  # 23.5, 24.3, 25.4
        finished('hpem', seed, {'a': a, 'b': b}, attempts=(30.0, 40.0) if seed == 1 else (70.0,))
    text, content = tables()
    assert content['pdan_above'] == {  # one run of bicubic for all seeds
        'bicubic': {
            'mean': pytest.approx(2.4),
            'deviation': pytest.approx(0.91**0.5),
            'by_seed': pytest.approx({'0': 1.5, '1': 2.3, '2': 3.4}),
        },
        'edsr': None,
    }
    base, hpem, pdan = line(text, 'BASE'), line(text, 'HPEM'), line(text, 'PDAN')
    assert base[3:5] == ['24.000 ± 1.000', '0.6100 ± 0.0100']
    assert hpem[3] == '24.400 ± 0.954'  # as many digits by hand: sqrt(0.91)
    assert hpem[6:8] == ['+2.40', '+0.400 ± 0.100']  # of 0.5, 0.3 and 0.4: not of the two means' spreads
    assert hpem[8:] == ['70 s', '0.250 s']  # the run in two parts says nothing of how long one takes
    assert pdan[3] == hpem[3]  # one run in both tables
    assert line(text, 'BICUBIC')[3] == '22.000'
    assert line(text, 'HPEM', 1)[1:] == ['+2.40', '+2.40']  # by clip
    assert content['ablation']['hpem']['psnr_above_row_before']['by_seed'] == pytest.approx(
        {'0': 0.5, '1': 0.3, '2': 0.4}
    )
    assert content['runs'][f'{content["baselines"]["pdan"]["run"]}_seed1']['attempts'][1]['seconds'] == 40.0


def test_an_unfinished_table_says_so_and_compares_shared_seeds_alone(compared):
    finished, tables = compared
    finished('base', 0, {'a': 30.0})
    finished('base', 1, {'a': 32.0})
    finished('hpem', 1, {'a': 32.5})
    finished('edsr', 0, {'a': 99.0}, name='of-another-option-file_seed0')
    text, _ = tables()
    assert line(text, 'HPEM')[3:8] == ['32.500', '0.5000', '–', '–', '+0.500']
    assert line(text, 'EDSR')[3] == '–'
    assert 'Left out, as no row is trained or scored so now: of-another-option-file_seed0.' in text
    assert 'Seeds: none yet (edsr); 1 (pdan, hpem); 0, 1 (base).' in text
    assert 'Trained for: 9 iterations of 6 crops.' in text  # of 3 in each of 2 workers
    assert 'LPIPS was not computed in any run' in text


def test_lpips_is_a_column_where_it_was_computed(compared):
    finished, tables = compared
    finished('edsr', 0, {'a': 30.0}, lpips=0.2)
    finished('edsr', 1, {'a': 30.0}, lpips=0.3)
    text, _ = tables()
    assert line(text, 'EDSR')[5] == '0.2500 ± 0.0707'
    assert 'LPIPS was not' not in text
    finished('base', 0, {'a': 30.0})
    assert 'LPIPS was not computed in every run' in tables()[0]


@pytest.mark.parametrize(
    ('seconds', 'words'), [(9.6, '10 s'), (700, '12 min'), (3570, '1 h 0 min'), (9000, '2 h 30 min')]
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_what_runs_were_made_with_is_told_each_once(compared):
    finished, tables = compared
    finished('bicubic', 0, {'a': 20.0}, attempts=())
    finished('base', 0, {'a': 21.0}, torch='2.14')
    text, content = tables()
    assert content['versions'] == ['torch 2.12', 'torch 2.13', 'torch 2.14']  # trained with the first
    assert 'torch 2.12; torch 2.13; torch 2.14' in text

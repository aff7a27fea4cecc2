"""What is read from runs, what is chosen to be shown, and what is said where something is missing."""

import json
import math
import shutil

import cv2
import numpy as np
import pytest
from written_runs import make_run

from pdan_plugin.errors import RequestError
from pdan_plugin.report.detail_box import read_box, telling_box
from pdan_plugin.report.frame_choice import choose_frames
from pdan_plugin.report.page import filled_page, write_report
from pdan_plugin.report.page_content import page_content
from pdan_plugin.report.scored_run import read_runs
from pdan_plugin.training.history import History


def content_of(page):
    text = page.read_text(encoding='utf-8').split('<script type="application/json" id="content">')[1]
    return json.loads(text.split('</script>')[0])


def test_a_run_gives_all_rows_and_the_means_of_clips(runs, truth):
    page = write_report(runs[:1], frames=2)
    assert page == runs[0] / 'report.html'
    (dataset,) = content_of(page)['datasets']
    assert [row[0] for row in dataset['images']] == list(truth)
    psnr = [row[3][0][0] for row in dataset['images']]
    clips = {clip: (count, values[0][0]) for clip, count, values in dataset['clips']}
    assert clips['001'] == (3, pytest.approx(np.mean(psnr[3:])))
    assert dataset['means'][0] == [pytest.approx(np.mean(psnr))]
    assert dataset['notes'] == []
    # the blur grows with each image of a clip, so the first of a clip has most of its worth
    shown = {frame['image']: frame['reason'] for frame in dataset['frames']}
    names = list(truth)
    assert shown == {names[int(np.argmin(psnr))]: 'worst', names[int(np.argmax(psnr))]: 'best'}


def test_the_input_is_scored_as_the_results_are(runs, truth):
    frame = page_content(read_runs(runs), frames=1, metric=None)['datasets'][0]['frames'][0]
    values = {picture['label']: picture['value'] for picture in frame['pictures']}
    assert list(values) == ['Input, bicubic', 'soft', 'sharp', 'Ground truth']
    lr = cv2.imread(str(runs[0].parents[1] / 'lr' / frame['image'].replace('_', '/')) + '.png')
    rough = cv2.resize(lr, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    gt = cv2.cvtColor(truth[frame['image']], cv2.COLOR_RGB2BGR)
    assert values['Input, bicubic'] == pytest.approx(cv2.PSNR(rough, gt), abs=0.5)
    assert values['Ground truth'] is None
    assert values['soft'] < values['sharp']


def test_a_folder_without_a_record_is_told_which_models_write_it(tmp_path):
    with pytest.raises(RequestError, match=r'test\.json: no such file; .* model_type: RestorationModel'):
        read_runs([tmp_path])


def test_frames_are_the_worst_the_best_and_where_runs_differ():
    images = list('abcdef')
    one = dict(zip(images, (1.0, 2.0, 3.0, 4.0, 5.0, math.nan), strict=True))
    other = dict(zip(images, (1.0, 2.0, 4.0, 4.0, 5.0, 6.0), strict=True))
    assert choose_frames(images, [one, other], 3, higher_is_better=True) == [
        ('a', 'worst'),
        ('e', 'best'),
        ('c', 'differing'),
    ]
    assert choose_frames(images, [one], 2, higher_is_better=False) == [('e', 'worst'), ('a', 'best')]
    assert [name for name, _ in choose_frames(images, [one], 99, higher_is_better=True)] == list('abced')
    assert choose_frames(images, [], 2, higher_is_better=True) == [('a', 'spread'), ('f', 'spread')]


def test_the_detail_is_where_results_differ_and_else_where_the_error_is():
    flat = np.full((60, 80, 3), 100, np.uint8)
    wrong, other = flat.copy(), flat.copy()
    wrong[10:20, 10:20] = 200
    other[10:20, 10:20] = 200
    other[40:50, 60:70] = 130
    assert telling_box([wrong], flat, 10, 10) == (10, 10, 10, 10)
    assert telling_box([wrong, other], flat, 10, 10) == (60, 40, 10, 10)


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path, truth):
    same = [make_run(tmp_path, folder, truth, blur=1.0, name='PDAN') for folder in ('now', 'before')]
    assert [run.label for run in read_runs(same)] == ['now', 'before']


def test_data_that_is_gone_is_said_and_results_are_still_shown(runs):
    shutil.rmtree(runs[0].parents[1] / 'gt')
    (dataset,) = content_of(write_report(runs[:1]))['datasets']
    assert 'can no longer be read' in dataset['notes'][0]
    assert str(runs[0].parents[1] / 'gt') in dataset['notes'][0]
    assert [picture['kind'] for picture in dataset['frames'][0]['pictures']] == ['run']


def test_runs_without_pictures_are_tables_and_say_so(tmp_path, truth):
    run = make_run(tmp_path, 'bare', truth, blur=1.0, save_img=False)
    (dataset,) = content_of(write_report([run]))['datasets']
    assert dataset['frames'] == []
    assert dataset['notes'] == ['bare saved no pictures (val: save_img: false)']


def test_a_picture_that_is_gone_or_of_another_size_is_named(runs, truth):
    first, second, *_ = truth
    pictures = runs[0] / 'visualization' / 'val'
    (pictures / f'{first}.png').write_text('no picture')
    assert cv2.imwrite(str(pictures / f'{second}.png'), np.zeros((8, 8, 3), np.uint8))
    (dataset,) = content_of(write_report(runs, runs[0].parent / 'both.html', frames=99))['datasets']
    assert any('cannot be read' in note and first in note for note in dataset['notes'])
    assert any('8x8, expected 128x96' in note and second in note for note in dataset['notes'])
    shown = {frame['image']: [picture['label'] for picture in frame['pictures']] for frame in dataset['frames']}
    assert shown[first] == ['Input, bicubic', 'sharp', 'Ground truth']


def test_values_that_are_not_finite_reach_the_page(runs, truth):
    table = runs[0] / 'val.csv'
    lines = table.read_text(encoding='utf-8').splitlines()
    for number, value in ((1, 'inf'), (2, 'nan')):
        cells = lines[number].split(',')
        lines[number] = ','.join([*cells[:3], value, *cells[4:]])
    table.write_text('\n'.join(lines), encoding='utf-8')
    (dataset,) = content_of(write_report(runs[:1], frames=6))['datasets']
    assert [row[3][0][0] for row in dataset['images']][:2] == ['Infinity', None]


def test_a_mean_that_is_infinite_is_explained(runs):
    table = runs[0] / 'val.csv'
    lines = table.read_text(encoding='utf-8').splitlines()
    cells = lines[1].split(',')
    lines[1] = ','.join([*cells[:3], 'inf', *cells[4:]])
    table.write_text('\n'.join(lines), encoding='utf-8')
    (dataset,) = content_of(write_report(runs[:1], frames=0))['datasets']
    finite = np.mean([float(line.split(',')[3]) for line in lines[2:]])
    assert dataset['means'][0] == ['Infinity']
    assert dataset['notes'] == [
        'soft: psnr is infinite on 1 of 6 images (infinite PSNR: equal to the ground truth), and so is its mean; '
        f'the mean of the other 5 is {finite:.6g}.'
    ]


@pytest.fixture
def with_lpips(runs):
    """The second run has `lpips` where both had `distance`, and its `psnr` was computed with a border."""
    record = json.loads((runs[1] / 'test.json').read_text(encoding='utf-8'))
    metrics = record['datasets']['val']['metrics']
    metrics['lpips'] = metrics.pop('distance')
    metrics['psnr']['crop_border'] = 4
    (runs[1] / 'test.json').write_text(json.dumps(record), encoding='utf-8')
    table = runs[1] / 'val.csv'
    table.write_text(table.read_text(encoding='utf-8').replace('distance', 'lpips'), encoding='utf-8')
    return runs


def test_frames_are_chosen_by_what_all_runs_have(with_lpips):
    page = with_lpips[0].parent / 'both.html'
    for metric, folder in (('lpips', with_lpips[0]), ('distance', with_lpips[1])):
        with pytest.raises(RequestError, match=f'{folder} has none on val .all have psnr') as refused:
            write_report(with_lpips, page, metric=metric)
        assert f'--metric {metric}' in str(refused.value)
    assert not page.exists()
    (dataset,) = content_of(write_report(with_lpips, page, frames=2))['datasets']
    assert dataset['chosen_by'] == 'psnr'
    assert {frame['reason'] for frame in dataset['frames']} == {'worst', 'best'}
    assert [metric['name'] for metric in dataset['metrics']] == ['psnr', 'distance', 'lpips']
    assert [value is None for value in dataset['means'][2]] == [True, False]
    assert 'Not scored by lpips, so those cells are empty: soft.' in dataset['notes']
    assert any('psnr was computed with other options in sharp than in soft' in note for note in dataset['notes'])


def test_a_record_of_another_version_is_still_shown(runs):
    path = runs[0] / 'test.json'
    record = json.loads(path.read_text(encoding='utf-8'))
    section = record['datasets']['val']
    older = {'datasets': {'val': {key: section[key] for key in ('csv', 'pictures', 'metrics')}}}
    newer = record | {'format': 7, 'parameters': 'many', 'network': {'type': 'X', 'parts': {'a': [1]}}}
    for version, note in ((older, 'test.json does not hold its options'), (newer, None)):
        path.write_text(json.dumps(version), encoding='utf-8')
        (dataset,) = content_of(write_report(runs[:1], frames=1))['datasets']
        assert dataset['frames']
        assert [note in told for told in dataset['notes']] == ([True] if note else [])


def test_a_run_that_was_moved_shows_its_pictures(runs, tmp_path):
    moved = tmp_path / 'elsewhere' / 'soft'
    shutil.copytree(runs[0], moved)
    shutil.rmtree(runs[0])
    (dataset,) = content_of(write_report([moved], frames=1))['datasets']
    assert [picture['kind'] for picture in dataset['frames'][0]['pictures']] == ['input', 'run', 'gt']
    assert dataset['notes'] == []


def test_frames_are_chosen_among_those_with_pictures(runs, truth):
    kept, *gone = truth
    for image in gone:
        (runs[0] / 'visualization' / 'val' / f'{image}.png').unlink()
    (dataset,) = content_of(write_report(runs[:1]))['datasets']
    assert [(frame['image'], frame['reason']) for frame in dataset['frames']] == [(kept, 'only')]
    assert 'and 1 more' in dataset['notes'][0]
    assert gone[0] in dataset['notes'][0]


def test_training_curves_come_from_the_experiment_of_the_weights(tmp_path, truth, monkeypatch):
    history = History(tmp_path / 'experiments' / 'phase3' / 'history.jsonl')
    (tmp_path / 'experiments' / 'phase3').mkdir(parents=True)
    for iteration in (1, 2, 3):
        history.add_training(iteration, 0, [1e-4], {'l_pix': 1 / iteration})
    run = make_run(tmp_path, 'PDAN', truth, blur=1.0, weights='experiments/phase3/models/net_g_latest.pth')
    (curve,) = page_content(read_runs([run]), frames=0, metric=None)['curves']
    assert curve['experiment'] == 'phase3'
    assert curve['picture'].startswith('data:image/webp;base64,')


def test_nothing_in_a_name_becomes_markup():
    page = filled_page('</title><script>alert(1)</script>%%CONTENT%%', {'name': '</script><b>&<!--'})
    assert '<script>alert' not in page
    assert page.count('</script>') == 2
    assert '%%CONTENT%%</title>' in page


def test_wrong_requests_say_what_to_do_and_leave_the_old_page(runs, tmp_path):
    page = write_report(runs[:1], frames=0)
    before = page.read_bytes()
    for call, message in (
        (lambda: write_report(runs), r'-o compare\.html'),
        (lambda: write_report(runs[:1], metric='pnsr'), 'psnr, distance'),
        (lambda: write_report(runs[:1], tmp_path / 'page.pdf'), r'ends in \.html'),
        (lambda: write_report([tmp_path / 'nowhere']), 'no such folder'),
        (lambda: write_report([tmp_path]), r'test\.json'),
        (lambda: write_report([runs[0], runs[0]], page), 'given twice'),
        (lambda: write_report(runs[:1], frames=-1), '0 or more'),
        (lambda: read_box('1,2,3'), 'X,Y,W,H'),
    ):
        with pytest.raises(RequestError, match=message):
            call()
    (runs[0] / 'val.csv').write_text('image,clip,frame,psnr\n', encoding='utf-8')
    with pytest.raises(RequestError, match="'distance' is missing"):
        write_report(runs[:1])
    (runs[0] / 'val.csv').write_text('image,clip,frame,psnr,"' + 200_000 * 'x', encoding='utf-8')
    with pytest.raises(RequestError, match=r'val\.csv cannot be read'):
        write_report(runs[:1])
    (runs[0] / 'test.json').write_text('{"network": "PDAN", "datasets": {}}', encoding='utf-8')
    with pytest.raises(RequestError, match=r'test\.json cannot be read'):
        write_report(runs[:1])
    (runs[0] / 'test.json').write_text('{"name": 1', encoding='utf-8')
    with pytest.raises(RequestError, match=r'test\.json cannot be read'):
        write_report(runs[:1])
    assert page.read_bytes() == before
    assert sorted(path.name for path in runs[0].iterdir()) == ['report.html', 'test.json', 'val.csv', 'visualization']

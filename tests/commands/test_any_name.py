"""Names that the output cannot encode: every command finishes its work, prints them escaped, and keeps its status."""

import importlib
import io
import os
import sys

import pytest
import yaml
from PIL import Image
from repeating_network import make_weights
from skimage import data
from small_run import changed, test_options, train_options, write_pictures

from pdan_plugin.commands import main as cli

LATIN_1 = os.fsdecode(b'caf\xe9')  # a name of another system, which is not UTF-8
CHINESE = '照片'


@pytest.fixture
def outputs(monkeypatch):
    """outputs(encoding) -> a function that returns what was written since, to streams as Python opens them."""

    def opened(encoding):
        streams = [
            io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)
            for errors in ('strict', 'backslashreplace')
        ]
        for name, stream in zip(('stdout', 'stderr'), streams, strict=True):
            monkeypatch.setattr(sys, name, stream)

        def written():
            texts = [stream.buffer.getvalue().decode(encoding) for stream in streams]
            for stream in streams:
                stream.buffer.seek(0)
                stream.buffer.truncate()
            return texts

        return written

    return opened


@pytest.mark.parametrize('encoding', ['utf-8', 'cp1252'])
def test_restore_prints_names_of_all_results_and_failures(tmp_path, outputs, encoding):
    weights = make_weights(tmp_path, 'repeating')
    source = tmp_path / 'in'
    source.mkdir()
    photo = Image.fromarray(data.astronaut()[:20, :30]).convert('CMYK')  # which gives a note with the file's name
    for name in (LATIN_1, CHINESE, 'plain'):
        photo.save(tmp_path / 'photo.jpg')
        os.rename(tmp_path / 'photo.jpg', source / f'{name}.jpg')
        (source / f'bad {name}.png').write_text('no picture')
    (source / f'left.{LATIN_1}').write_text('another ending')
    words = ['restore', str(source), '-o', str(tmp_path / 'out'), '-w', str(weights)]
    written = outputs(encoding)
    assert cli.main(words) == 1
    out, err = written()
    assert '3 of 6 restored' in out
    assert r'1 .caf\udce9' in out
    assert r'caf\udce9.jpg: CMYK without' in out
    failures = err.partition('3 failed or incomplete:')[2]
    assert r'bad caf\udce9.png: cannot be decoded' in failures
    assert r'bad \u7167\u7247.png: cannot' in failures or f'bad {CHINESE}.png: cannot' in failures
    assert {path.name for path in (tmp_path / 'out').iterdir()} == {
        f'{LATIN_1}.png', f'{CHINESE}.png', 'plain.png', 'restore.json',
    }  # fmt: skip
    assert cli.main(words) == 1
    assert '3 already done' in written()[0]


def test_a_run_named_in_another_script_in_a_folder_that_is_not_utf_8(tmp_path, outputs, monkeypatch):
    """Check, train and test; pictures of the results are written there too."""
    write_pictures(tmp_path / 'plain', 3)
    os.rename(tmp_path / 'plain', tmp_path / LATIN_1)  # OpenCV cannot write there
    folder = tmp_path / LATIN_1
    for kind, options in (('train', train_options()), ('test', test_options())):
        options = changed(changed(options, 'name', f'опыт_{kind}'), 'val.save_img', True)
        if kind == 'test':
            options = changed(options, 'path.pretrain_network_g', 'experiments/опыт_train/models/net_g_latest.pth')
        text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
        (folder / f'{LATIN_1}_{kind}.yml').write_text(text, encoding='utf-8')
    monkeypatch.chdir(folder)
    written = outputs('cp1252')
    for command, kind in (('check', 'train'), ('train', 'train'), ('test', 'test')):
        assert cli.main([command, '-opt', f'{LATIN_1}_{kind}.yml']) == 0
        out, err = written()
        assert 'Logging error' not in err
    assert r'results/\u043e\u043f\u044b\u0442_test' in out
    (log,) = (folder / 'experiments/опыт_train').glob('*.log')
    assert 'опыт_train' in log.read_text(encoding='utf-8')
    kept = folder / f'experiments/опыт_train/{LATIN_1}_train.yml'
    assert yaml.safe_load(kept.read_text(encoding='utf-8'))['name'] == 'опыт_train'
    assert r'\udce9_train.yml' in kept.read_text(encoding='utf-8')  # the command, in a comment
    assert len(list((folder / 'results/опыт_test/visualization').rglob('*.png'))) == 3


@pytest.mark.parametrize('script', ['picture_sheet', 'report', 'ensemble', 'prepare_reds', 'render_clips'])
def test_scripts_print_the_name_of_what_is_missing(tmp_path, outputs, monkeypatch, script):
    words = {
        'picture_sheet': ['--gt', LATIN_1, '--lr', LATIN_1, '--result', f'a={LATIN_1}', '-o', 'out.png'],
        'report': [LATIN_1],
        'ensemble': [LATIN_1, LATIN_1, '-o', 'out'],
        'prepare_reds': [LATIN_1, 'out'],
        'render_clips': [LATIN_1, 'out'],
    }[script]
    monkeypatch.chdir(tmp_path)
    written = outputs('cp1252')
    assert importlib.import_module(script).main(words) == 2
    assert r'caf\udce9' in written()[1]
    print(LATIN_1, CHINESE)  # on standard output too
    assert r'caf\udce9 \u7167\u7247' in written()[0]


@pytest.mark.parametrize('closed', ['stdout', 'stderr'])
def test_a_closed_stream_is_no_error(tmp_path, outputs, monkeypatch, closed):
    """As with `2>&-`, or in a service: Python has None in its place."""
    Image.fromarray(data.astronaut()[:20, :30]).save(tmp_path / 'photo.png')
    (tmp_path / 'bad.png').write_text('no picture')
    weights = make_weights(tmp_path, 'repeating')
    outputs('utf-8')
    monkeypatch.setattr('sys.' + closed, None)
    assert cli.main(['restore', str(tmp_path / 'photo.png'), '-o', str(tmp_path / 'out'), '-w', str(weights)]) == 0
    assert cli.main(['restore', str(tmp_path / 'bad.png'), '-o', str(tmp_path / 'out'), '-w', str(weights)]) == 1
    assert (tmp_path / 'out/photo.png').is_file()

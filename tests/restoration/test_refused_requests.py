"""Requests that `restore_path` rejects before anything is written, and what it reports before the work begins."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from folder_contents import names_in
from PIL import Image

from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError
from pdan_plugin.restoration import load_trained_network, picture_jobs, restore_path


def test_compiling_is_told_before_it_begins(weights, photo, tmp_path, capsys):
    Image.fromarray(photo).save(tmp_path / 'a.png')
    with torch.compiler.set_stance('force_eager'):
        restore_path(tmp_path / 'a.png', tmp_path / 'out', weights, compiled=True)
    assert 'the first picture takes longer' in capsys.readouterr().out


def test_a_precision_that_slows_this_processor_is_told_before_it_begins(weights, photo, tmp_path, capsys, monkeypatch):
    """A mock, because the processor at hand may have the instructions."""
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda _: 9.0)
    Image.fromarray(photo).save(tmp_path / 'a.png')
    restore_path(tmp_path / 'a.png', tmp_path / 'fp32', weights, device='cpu')
    assert 'is slow' not in capsys.readouterr().out
    restore_path(tmp_path / 'a.png', tmp_path / 'bf16', weights, precision='bf16', device='cpu')
    told = capsys.readouterr().out
    assert told.index('Note: precision bf16 is slow') < told.index('restored to')


def test_a_result_larger_than_the_memory_is_refused(weights, source, tmp_path, capsys, monkeypatch):
    """A mock of the free memory, because a picture whose result does not fit takes minutes."""
    monkeypatch.setattr(picture_jobs, 'free_memory', lambda _: 4 * 40 * 30 * 3)
    (source / 'text.png').unlink()
    assert restore_path(source, tmp_path / 'out', weights, tile=64) == 1
    assert names_in(tmp_path / 'out') == ['a.png', 'restore.json']
    told = capsys.readouterr().err
    assert 'grey.png: its result of 60x80 pixels needs' in told


def test_exif_that_the_ending_cannot_hold_is_refused_before_the_network_runs(weights, photo, tmp_path):
    exif = Image.Exif()
    exif[270] = 'x' * 70_000
    Image.fromarray(photo).save(tmp_path / 'a.png', exif=exif)
    with pytest.raises(RequestError, match='bytes of EXIF'):
        restore_path(tmp_path / 'a.png', tmp_path / 'out.jpg', weights)
    assert restore_path(tmp_path / 'a.png', tmp_path / 'out', weights) == 0
    assert Image.open(tmp_path / 'out/a.png').getexif()[270] == 'x' * 70_000


def test_wrong_requests_write_nothing(weights, source, photo, tmp_path):
    (tmp_path / 'empty').mkdir()
    Image.fromarray(photo).save(tmp_path / 'photo.png')
    cv2.imwrite(str(tmp_path / 'deep.png'), photo.astype(np.uint16) * 256)
    (tmp_path / 'file').write_text('in the way')
    os.mkfifo(tmp_path / 'pipe.png')
    before = names_in(tmp_path)
    for given, target, used, complaint in [
        ('absent', 'out', weights, 'no such picture, video or folder'),
        ('empty', 'out', weights, 'no pictures'),
        ('photo.png', 'out', tmp_path / 'absent.pth', 'no such weights file'),
        ('photo.png', 'out.xcf', weights, 'cannot be written with this ending'),
        ('deep.png', 'out.jpg', weights, 'holds 8 bits'),
        ('in', 'file', weights, 'is a file'),
        ('in', 'file/out', weights, 'is a file'),
        ('photo.png', 'file', weights, 'is a file'),
        ('pipe.png', 'out', weights, 'is a pipe'),
        ('in', 'in', weights, 'is also the input'),
        ('photo.png', '.', weights, 'overwritten by its own result'),
    ]:
        with pytest.raises(RequestError, match=complaint):
            restore_path(tmp_path / given, tmp_path / target, used, weights.parent.parent / 'run.yml')
    with pytest.raises(RequestError, match='--device nonsense'):
        restore_path(tmp_path / 'photo.png', tmp_path / 'out', weights, device='nonsense')
    assert names_in(tmp_path) == before


def test_too_little_memory_is_told_before_anything_is_written(weights, source, tmp_path):
    with pytest.raises(RequestError, match=r'memory: a tile of .* held already by .* Allow more'):
        restore_path(source, tmp_path / 'out', weights, memory=1000)
    assert not (tmp_path / 'out').exists()


def test_an_output_that_cannot_be_written_is_told_first(weights, source, tmp_path, capsys):
    """Root may write into any folder, but nobody may make one in /proc."""
    folder = tmp_path / 'locked'
    folder.mkdir(mode=0o500)
    target = Path('/proc/results') if os.geteuid() == 0 else folder / 'results'
    assert cli.main(['restore', str(source), '-o', str(target), '-w', str(weights)]) == 2
    assert 'cannot be written' in capsys.readouterr().err


def test_two_pictures_with_one_result_name_are_refused(weights, photo, tmp_path):
    source = tmp_path / 'in'
    source.mkdir()
    Image.fromarray(photo).save(source / 'a.png')
    Image.fromarray(photo).save(source / 'a.bmp')
    with pytest.raises(RequestError, match=r'a\.png'):
        restore_path(source, tmp_path / 'out', weights)


@pytest.mark.parametrize(
    'words', [['--memory', 'much'], ['--memory', '0'], ['--memory', '4'], ['--tile', '0'], ['--tile', 'small']]
)
def test_arguments_that_mean_nothing_end_with_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(['restore', 'in', '-o', 'out', '-w', 'weights', *words])
    assert ended.value.code == 2
    assert 'expected' in capsys.readouterr().err


def test_weights_away_from_their_experiment_are_recognised_or_get_the_option_file(experiment, tmp_path):
    weights, _ = experiment
    alone = tmp_path / 'net_g.pth'
    alone.write_bytes(weights.read_bytes())
    expected = load_trained_network(weights).state_dict()
    for option_file in (None, weights.parent.parent / 'small.yml'):
        network = load_trained_network(alone, option_file)
        assert network.deblur_branch is None
        assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_weights_of_another_network_are_refused(experiment, tmp_path):
    weights, _ = experiment
    other = tmp_path / 'other.yml'
    network = {'type': 'PDAN', 'num_feat': 32, 'num_group': 2, 'num_block': 1, 'fuse_levels': 2}
    other.write_text(yaml.safe_dump({'network_g': network}))
    with pytest.raises(RequestError, match='does not fit') as refused:
        load_trained_network(weights, other)
    assert len(str(refused.value).splitlines()) < 12  # not every tensor of a deep network
    assert 'more like these\nGive the option file' in str(refused.value)


def test_weights_that_carry_code_are_refused(tmp_path, experiment):
    class Harmful:
        def __reduce__(self):
            return print, ('run',)

    torch.save({'params': Harmful()}, tmp_path / 'harmful.pth')
    with pytest.raises(RequestError, match=r'harmful\.pth'):
        load_trained_network(tmp_path / 'harmful.pth', experiment[0].parent.parent / 'small.yml')

"""A whole number is an integer wherever it is read, however it is written; what is no whole number is refused."""

import copy

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY
from small_run import changed, train_options, write_options, write_pictures
from torch import nn
from warm_processes import run_python

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.option_schema.whole_numbers import write_whole_numbers


def with_floats(value):
    """A copy in which every whole number is written as a float, as `16.0` and `1e1` are read."""
    if isinstance(value, dict):
        return {key: with_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def kinds(value, place=''):
    """{dotted place: type} of every number."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = {place: type(value)} if isinstance(value, (int, float)) else {}
    for key, item in items:
        found |= kinds(item, f'{place}.{key}')
    return found


def options_with_every_section():
    options = {**train_options(), 'model_type': 'RestorationModel', 'num_gpu': 0}
    options['datasets']['train'] |= {'prefetch_mode': 'cpu', 'num_prefetch_queue': 2, 'dataset_enlarge_ratio': 1}
    options['datasets']['train']['num_worker_per_gpu'] = 2
    options['train'] |= {'accumulation_steps': 2, 'max_skipped_steps': 5, 'grad_clip_norm': 1, 'total_iter': 4}
    options['train']['scheduler'] = {'type': 'CosineAnnealingRestartLR', 'periods': [2, 2], 'restart_weights': [1, 1]}
    options['val'] |= {'tile': 64, 'tile_overlap': 16}
    options['logger']['keep_checkpoints'] = 2
    return options


def test_floats_in_every_key_become_what_the_integers_are():
    options = options_with_every_section()
    floats = with_floats(options)
    write_whole_numbers(floats)
    assert floats == options
    optimizer = '.train.optim_g'
    assert {place: kind for place, kind in kinds(floats).items() if not place.startswith(optimizer)} == {
        place: kind for place, kind in kinds(options).items() if not place.startswith(optimizer)
    }
    check_options(floats, 'my.yml', is_train=True)


def test_a_run_with_floats_in_every_key_ends_as_it_should(tmp_path):
    """manual_seed, batch sizes, workers, tiles, intervals: through check and through a whole run."""
    write_pictures(tmp_path)
    write_options(tmp_path, with_floats(options_with_every_section()))
    for verb in ('check', 'train'):
        finished = run_python('-m', 'pdan_plugin', verb, '-opt', 'small.yml', cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
    models = tmp_path / 'experiments' / 'small' / 'models'
    assert sorted(path.name for path in models.iterdir()) == ['net_g_2.pth', 'net_g_4.pth', 'net_g_latest.pth']


def test_what_is_a_float_by_its_nature_stays_one():
    options = changed(train_options(), 'train.optim_g.betas', [0.0, 0.99])
    options = changed(options, 'train.pixel_opt.loss_weight', 2.0)
    before = copy.deepcopy(options)
    write_whole_numbers(options)
    assert kinds(options['train']['optim_g']) == kinds(before['train']['optim_g'])
    assert kinds(options['train']['pixel_opt']) == kinds(before['train']['pixel_opt'])
    torch.optim.Adam([nn.Parameter(torch.zeros(1))], betas=options['train']['optim_g']['betas'])  # refuses [0, 0.99]


def test_another_project_s_declarations_count(monkeypatch):
    class Scaled(nn.Module):
        """Annotated, by default, required without an annotation, and undeclared."""

        def __init__(self, channels, depths: list[int], width: int | None = None, gamma: float = 1, beta=2.0, **others):
            super().__init__()
            given = {'channels': channels, 'depths': depths, 'width': width, 'gamma': gamma, 'beta': beta}
            self.given = {**given, **others}
            self.scale = nn.Parameter(torch.full((1,), gamma))  # an integer would make it one of integers

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Scaled', Scaled)
    monkeypatch.setitem(LOSS_REGISTRY._obj_map, 'ScaledLoss', Scaled)
    keywords = {'channels': 3.0, 'depths': [6.0, 6.0], 'width': 1e1, 'gamma': 2.0, 'beta': 4.0, 'other': 5.0}
    expected = {'channels': int, 'depths': [int, int], 'width': int, 'gamma': float, 'beta': float, 'other': float}
    network = build_network({'type': 'Scaled', **keywords}, 'network_g')
    options = {'network_x': {'type': 'Scaled', **keywords}, 'train': {'extra_opt': {'type': 'ScaledLoss', **keywords}}}
    write_whole_numbers(options)
    for given in (network.given, options['network_x'], options['train']['extra_opt']):
        assert {word: [*map(type, given[word])] if word == 'depths' else type(given[word]) for word in expected} == (
            expected
        )


@pytest.mark.parametrize(
    'key',
    ['manual_seed', 'num_gpu', 'datasets.train.batch_size_per_gpu', 'datasets.train.num_worker_per_gpu',
     'datasets.train.gt_size', 'datasets.train.num_prefetch_queue', 'train.total_iter', 'train.warmup_iter',
     'train.accumulation_steps', 'val.tile', 'val.tile_overlap', 'val.val_freq', 'logger.print_freq',
     'logger.keep_checkpoints', 'dist_params.port'],
)  # fmt: skip
@pytest.mark.parametrize('value', [16.5, float('nan'), float('inf')])
def test_a_number_that_is_not_whole_is_refused(key, value):
    options = changed(options_with_every_section(), key, value)
    write_whole_numbers(options)
    with pytest.raises(RequestError, match=rf'my\.yml: {key}: found {value}; expected .*'):
        check_options(options, 'my.yml', is_train=True)

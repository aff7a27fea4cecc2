"""`basicsr check` tells true numbers, and what to do with them."""

import re

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from small_run import changed, test_options, train_options, write_pictures
from torch import nn

from pdan_plugin.commands import memory_summary, run_summary
from pdan_plugin.commands.data_check import DataFacts
from pdan_plugin.commands.preflight import RunFacts
from pdan_plugin.errors import RequestError
from pdan_plugin.machine import network_size
from pdan_plugin.machine.step_memory import step_memory
from pdan_plugin.option_schema.network_section import build_network

PDAN = {'type': 'PDAN', 'num_feat': 16, 'num_group': 1, 'num_block': 2, 'fuse_levels': 1, 'deblur_branch': False}


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    """Every run starts where the pictures are; what it leaves there is looked at."""
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    assert sorted(path.name for path in tmp_path.iterdir()) == ['gt', 'lq']


def pdan_options(**train):
    options = {**train_options(), 'model_type': 'RestorationModel', 'network_g': dict(PDAN)}
    options['train'].update(train)
    return options


def size(text: str, line: str) -> float:
    """The bytes told on a line of the memory estimate."""
    number, unit = re.search(rf'([\d.]+) ([MG])iB  {line}', text).groups()
    return float(number) * {'M': 2**20, 'G': 2**30}[unit]


def test_the_summary_tells_sizes_epochs_and_the_next_command():
    options = train_options()
    options['train']['total_iter'] = 30
    text = run_summary.summarize(options, 'my.yml')
    network = build_network(options['network_g'], 'network_g')
    assert f'network_g: EDSR, {network_size.count_parameters(network):,} parameters' in text
    assert '3 iterations an epoch (batches of 2 in 1 worker), 30 iterations: 10.0 epochs' in text
    assert 'multiply-accumulates for an input of 32x24' in text
    assert 'an estimate' in text
    assert text.endswith('Next: basicsr train -opt my.yml')


def test_the_next_command_has_what_was_changed():
    text = run_summary.summarize(train_options(), 'my own.yml', overrides=['train:total_iter=9', 'name=a b'])
    assert text.endswith("Next: basicsr train -opt 'my own.yml' --force_yml train:total_iter=9 'name=a b'")


def test_a_deblurring_branch_is_counted_apart():
    both, alone = (
        network_size.count_parameters(build_network(PDAN | {'deblur_branch': on}, 'network_g')) for on in (True, False)
    )
    options = pdan_options()
    options['network_g']['deblur_branch'] = True
    text = run_summary.summarize(options, 'my.yml')
    assert f'{both:,} parameters, {alone:,} at inference' in text


@pytest.mark.parametrize(('times', 'is_told'), [(0.4, False), (7.0, True)])
def test_a_precision_that_slows_this_processor_is_told(monkeypatch, times, is_told):
    """A mock, because the processor at hand is of one kind."""
    monkeypatch.setattr('pdan_plugin.machine.precision.cost_on_cpu', lambda _: times)
    text = run_summary.summarize(pdan_options(precision='bf16'), 'my.yml')
    assert ('7 times as long as in fp32' in text) is is_told
    assert text.endswith('-opt my.yml --force_yml train:precision=fp32') is is_told
    assert 'is slow' not in run_summary.summarize(pdan_options(), 'my.yml')


def test_the_memory_is_that_of_one_part_and_adds_up():
    text = run_summary.summarize(pdan_options(accumulation_steps=3, precision='bf16', channels_last=True), 'my.yml')
    assert 'batches of 6, computed in 3 parts, in 1 worker' in text
    network = build_network(PDAN, 'network_g')
    step = step_memory(
        network, (2, 3, 8, 8), 'bf16', pictures=[(2, 3, 32, 32)], channels_last=True, accumulates=True
    )  # fmt: skip
    rounding = 0.051 * 2**20
    assert size(text, 'kept for the backward pass: 2 x 8x8 in bf16') == pytest.approx(step.kept, abs=rounding)
    weights = 4 * network_size.count_parameters(network)
    assert size(text, 'in all') == pytest.approx(4 * weights + step.peak, abs=rounding)  # weights, Adam's two, average


def test_the_way_to_the_paper_s_batch_is_told_for_pdan():
    text = run_summary.summarize(pdan_options(), 'my.yml')
    assert "A step has 2 samples; train.accumulation_steps: 64 makes it the paper's 128, and takes " in text
    assert 'accumulation_steps: 64' in run_summary.summarize(pdan_options(accumulation_steps=3), 'my.yml')
    assert 'accumulation_steps' not in run_summary.summarize(pdan_options(accumulation_steps=3) | {
        'network_g': train_options()['network_g']}, 'my.yml')  # fmt: skip


@pytest.mark.parametrize(
    ('gibibytes', 'told'),
    [
        (80, r'A GPU has 80.0 GiB: about \d\d+ samples would fit'),
        (0.7, r'this does not fit; batch_size_per_gpu: 8 with train.accumulation_steps: 4 gives the same step and '
              r'fits; network_g.checkpointing: true needs less'),
        (0.001, r'this does not fit; network_g.checkpointing: true needs less'),
    ],
)  # fmt: skip
def test_a_gpu_s_memory_is_held_against_it(monkeypatch, gibibytes, told):
    """The GPU is feigned."""
    monkeypatch.setattr(memory_summary, 'gpu_memory', lambda: ('A GPU', int(gibibytes * 2**30)))
    options = changed(pdan_options(accumulation_steps=2), 'datasets.train.batch_size_per_gpu', 16)
    crop, target = (3, 128, 128), (3, 512, 512)
    facts = RunFacts([DataFacts('train', 'PairedImageDataset', 640, crop, target)], 32, 1, 20, devices=1)
    network = build_network(PDAN, 'network_g')
    parameters = {'network_g': network_size.count_parameters(network)}
    lines = memory_summary.memory_lines(options, facts, network, parameters, crop)
    assert re.search(told, '\n'.join(lines))
    assert ("the paper's 128" in '\n'.join(lines)) == (gibibytes == 80)
    if gibibytes == 0.7:  # what is advised is true
        assert step_memory(network, (8, *crop), pictures=[(8, *target)]).peak < 0.9 * 0.7 * 2**30
        assert step_memory(network, (16, *crop), pictures=[(16, *target)]).peak > 0.7 * 2**30


def test_workers_average_their_gradients_in_memory_of_its_own():
    options = changed(pdan_options(), 'datasets.train.dataset_enlarge_ratio', 4)
    text = run_summary.summarize(options, 'my.yml', world_size=2)
    assert 'gradient buffers for averaging over workers' in text
    assert text.endswith('Next: basicsr train -opt my.yml --nproc 2')


def test_the_summary_builds_the_network_and_says_what_it_refuses(monkeypatch):
    class Picky(nn.Module):
        def __init__(self, width=3):
            raise ValueError(f'width must be even, got {width}')

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Picky', Picky)
    with pytest.raises(RequestError, match='network_g: Picky cannot be built: ValueError: width must be even, got 3'):
        run_summary.summarize({**train_options(), 'network_g': {'type': 'Picky'}}, 'my.yml')


def test_the_summary_says_when_weights_do_not_fit(tmp_path_factory):
    weights = tmp_path_factory.mktemp('weights') / 'net_g.pth'
    torch.save({'params': {'conv_first.weight': torch.zeros(1)}}, weights)
    with pytest.raises(RequestError, match='does not fit network_g'):
        run_summary.summarize(changed(test_options(), 'path.pretrain_network_g', str(weights)), 'my.yml')

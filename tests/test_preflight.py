"""What would keep a run from starting is found before anything is written, and `basicsr check` tells true numbers."""

import json

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from small_run import changed, test_options, train_options, write_pictures
from torch import nn

from pdan_plugin import network_size, preflight
from pdan_plugin.errors import RequestError


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    """Every run starts where the pictures are; what it leaves there is looked at."""
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    assert sorted(path.name for path in tmp_path.iterdir()) == ['gt', 'lq']


def check(options, *, is_train=True, world_size=1, **further):
    return preflight.check_run(
        options, 'my.yml', is_train=is_train, world_size=world_size, distributed=world_size > 1, **further
    )


def refusal(options, **further) -> str:
    with pytest.raises(RequestError) as refused:
        check(options, **further)
    return str(refused.value)


def test_a_run_that_can_start_is_described_and_its_options_left_as_they_are():
    options = train_options()
    before = json.dumps(options)
    facts = check(options)
    assert json.dumps(options) == before
    train, val = facts.data
    assert (train.samples, train.lq_shape, train.gt_shape) == (6, (3, 8, 8), (3, 32, 32))
    assert (val.samples, val.lq_shape, val.gt_shape) == (6, (3, 24, 32), (3, 96, 128))
    assert facts.iterations == 3


@pytest.mark.parametrize(
    ('root', 'advice'),
    [
        ('datasets/REDS/train_sharp.lmdb', '`python scripts/prepare_reds.py SOURCE datasets/REDS` makes it'),
        ('datasets/quickstart/train_sharp.lmdb', '`bash scripts/quickstart.sh` makes it'),
        ('pictures/gt', 'give the right path'),
    ],
)
def test_missing_data_are_told_with_the_command_that_makes_them(root, advice):
    text = refusal(changed(train_options(), 'datasets.train.dataroot_gt', root))
    assert f'my.yml: datasets.train.dataroot_gt: {root} does not exist' in text
    assert advice in text


def test_validation_data_are_looked_at_too():
    assert 'my.yml: datasets.val.dataroot_lq: nowhere' in refusal(
        changed(train_options(), 'datasets.val.dataroot_lq', 'nowhere')
    )


def test_whole_batches_are_counted_over_all_workers():
    options = changed(train_options(), 'datasets.train.batch_size_per_gpu', 4)
    assert check(options).iterations == 1
    text = refusal(options, world_size=2)
    assert '6 images x dataset_enlarge_ratio 1 over 2 rank(s)' in text
    assert 'dataset_enlarge_ratio to 2 or more' in text
    assert check(changed(options, 'datasets.train.dataset_enlarge_ratio', 2), world_size=2).iterations == 1


def test_pictures_of_another_scale_are_told_by_the_first_sample():
    options = changed(train_options(), 'scale', 2)
    assert 'my.yml: datasets.train: the first sample cannot be read: ' in refusal(options)
    del options['datasets']['train']  # validation crops nothing, so only the sizes tell
    options['datasets'] = {'test': options['datasets']['val']}
    options['datasets']['test']['dataroot_gt'] = 'lq'
    text = refusal(options, is_train=False)
    assert 'the first sample is 32x24 in lq and 32x24 in gt' in text
    assert 'expected gt 2 times lq' in text


def test_an_option_the_data_set_misses_is_named():
    options = train_options()
    options['datasets']['val'] |= {'type': 'FFHQDataset', 'dataroot_gt': 'gt'}
    text = refusal(options)
    assert "my.yml: datasets.val: FFHQDataset cannot be built: it reads the key 'mean', which is not given" in text


def test_an_unreadable_first_picture_is_named(tmp_path):
    (tmp_path / 'lq' / '000.png').write_bytes(b'no picture')
    assert '000.png' in refusal(train_options())


@pytest.mark.parametrize('is_train', [True, False])
def test_missing_weights_are_told(is_train):
    options = train_options() if is_train else test_options()
    options['path']['pretrain_network_g'] = 'experiments/pdan_phase1/models/net_g_latest.pth'
    text = refusal(options, is_train=is_train)
    assert 'my.yml: path.pretrain_network_g: experiments/pdan_phase1/models/net_g_latest.pth does not exist' in text
    assert 'whose name: is pdan_phase1 makes it' in text


def test_a_missing_state_is_told():
    text = refusal(changed(train_options(), 'path.resume_state', 'experiments/small/training_states/8.state'))
    assert 'my.yml: path.resume_state: experiments/small/training_states/8.state does not exist' in text


@pytest.mark.skipif(torch.cuda.is_available(), reason='tells what a machine without a GPU cannot do')
def test_devices_that_are_not_here_are_told():
    assert 'num_gpu: auto' in refusal(changed(train_options(), 'num_gpu', 1))
    options = changed(train_options(), 'datasets.train.prefetch_mode', 'cuda')
    assert 'my.yml: datasets.train.pin_memory' in refusal(options)
    assert 'needs a CUDA device' in refusal(changed(options, 'datasets.train.pin_memory', True))


class Plain(nn.Module):
    """One convolution whose sizes can be worked out by hand."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1)
        self.tail = nn.Sequential(nn.ReLU(), nn.PixelShuffle(2))

    def forward(self, x):
        return self.tail(self.conv(x))


class WantsNumbers(Plain):
    """Reads a value, which a tensor without numbers does not have."""

    def forward(self, x):
        return super().forward(x) * (1.0 if x.mean().item() < 2 else 2.0)


def test_parameters_and_multiply_accumulates_are_those_worked_out_by_hand():
    network = Plain()
    assert network_size.count_parameters(network) == 3 * 4 * 9 + 4
    assert network_size.multiply_accumulates(network, (1, 3, 720, 1280)) == network_size.Measured(
        720 * 1280 * 3 * 4 * 9, False
    )


def test_what_the_backward_pass_needs_is_what_the_operations_keep():
    # the convolution keeps its input, ReLU its output; the weights are not counted again
    kept = network_size.saved_for_backward(Plain(), (8, 3, 64, 64))
    assert kept == network_size.Measured(8 * 64 * 64 * (3 + 4) * 4, False)


def test_checkpointing_needs_less():
    from pdan_plugin.archs import PDAN

    plain, checkpointed = (
        network_size.saved_for_backward(
            PDAN(num_feat=16, num_group=2, num_block=8, fuse_levels=1, checkpointing=on), (2, 3, 32, 32)
        )
        for on in (False, True)
    )
    assert checkpointed.value < plain.value / 2


@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
def test_a_network_that_needs_numbers_is_measured_small_and_scaled(precision):
    kept = network_size.saved_for_backward(WantsNumbers(), (8, 3, 96, 96), precision)
    assert kept.is_scaled
    assert kept.value > 0
    assert network_size.multiply_accumulates(WantsNumbers(), (1, 3, 96, 192)) == network_size.Measured(
        96 * 192 * 3 * 4 * 9, True
    )


def test_a_network_that_takes_no_picture_is_left_unmeasured():
    assert network_size.multiply_accumulates(nn.Linear(7, 7), (1, 3, 8, 8)) is None


def test_the_report_tells_sizes_epochs_and_the_next_command():
    options = train_options()
    options['train']['total_iter'] = 30
    text = preflight.report(options, 'my.yml')
    network = network_size.build(options['network_g'], 'network_g')
    assert f'network_g: EDSR, {network_size.count_parameters(network):,} parameters' in text
    assert '3 iterations an epoch (batches of 2 in 1 worker), 30 iterations: 10.0 epochs' in text
    assert 'multiply-accumulates for an input of 32x24' in text
    assert 'an estimate' in text
    assert text.endswith('Next: basicsr train -opt my.yml')


def test_the_report_builds_the_network_and_says_what_it_refuses(monkeypatch):
    class Picky(nn.Module):
        def __init__(self, width=3):
            raise ValueError(f'width must be even, got {width}')

    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'Picky', Picky)
    with pytest.raises(RequestError, match='network_g: Picky cannot be built: ValueError: width must be even, got 3'):
        preflight.report({**train_options(), 'network_g': {'type': 'Picky'}}, 'my.yml')


def test_the_report_says_when_weights_do_not_fit(tmp_path_factory):
    weights = tmp_path_factory.mktemp('weights') / 'net_g.pth'
    torch.save({'params': {'conv_first.weight': torch.zeros(1)}}, weights)
    with pytest.raises(RequestError, match='does not fit network_g'):
        preflight.report(changed(test_options(), 'path.pretrain_network_g', str(weights)), 'my.yml')


def test_optimizers_are_counted_by_what_they_keep():
    from basicsr.models.sr_model import SRModel

    assert network_size.optimizer_values(SRModel, {'type': 'Adam', 'lr': 1e-4, 'betas': [0.9, 0.99]}) == 2


@pytest.mark.parametrize(
    ('section', 'values', 'told'),
    [
        ('train.pixel_opt', {'type': 'HPEMLoss', 'hard_ratio': 2}, 'hard_ratio'),
        ('train.pixel_opt', {'type': 'L1Loss', 'reduction': 'none'}, 'reduction: mean'),
        ('network_g', {'type': 'PDAN', 'fuse_levels': 9, 'num_group': 2, 'deblur_branch': False}, 'fuse_levels'),
    ],
)
def test_losses_and_networks_are_built_before_a_folder_is_made(section, values, told):
    said = refusal(changed(train_options(), section, values))
    assert said.startswith('my.yml: ')
    assert section in said
    assert told in said

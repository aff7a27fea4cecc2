"""What would keep a run from starting is found before anything is written."""

import json
import re
import sys

import pytest
import torch
from run_checks import GREY, check, left_as_it_was, refusal
from small_run import changed, test_options, train_options, without
from torch._inductor import config as inductor_config

from pdan_plugin.commands import preflight


@pytest.fixture(autouse=True)
def _working_folder(tmp_path, monkeypatch):
    yield from left_as_it_was(tmp_path, monkeypatch)


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
        ('datasets/REDS/train_sharp.lmdb', '`basicsr prepare-reds SOURCE datasets/REDS` creates it'),
        ('datasets/quickstart/train_sharp.lmdb', '`basicsr quickstart` creates it'),
        (
            'datasets/synthesised/train_sharp.lmdb',
            '`basicsr synthesize SOURCE datasets/synthesised --phases 3` creates',
        ),
        ('datasets/own_pairs/train/gt', '`basicsr prepare-pairs PHOTOS datasets/own_pairs` creates it'),
        ('datasets/photographs_soft/train/gt', '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS --only weights`'),
        ('datasets/everyday/train_sharp.lmdb', '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS --only weights`'),
        ('datasets/small/train_sharp.lmdb', '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS --only tables`'),
        ('datasets/small_video/val_sharp.lmdb', '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS` creates it'),
        ('pictures/gt', 'give the right path'),
        ('${DATA}/gt', 'environment variables are not replaced in option files'),
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
    assert 'expected gt 2 times as large as lq' in text


def test_a_crop_larger_than_the_pictures_is_told_with_one_that_fits():
    text = refusal(changed(train_options(), 'datasets.train.gt_size', 128))
    assert 'my.yml: datasets.train: ' in text
    assert 'gt/000.png: 128x96, smaller than gt_size: 128; gt_size: 96 would fit' in text


@pytest.mark.parametrize('phase', ['train', 'val'])
def test_exchanged_roots_are_told(phase):
    options = train_options()
    options['datasets'][phase] |= {'dataroot_gt': 'lq', 'dataroot_lq': 'gt'}
    text = refusal(options)
    assert f'my.yml: datasets.{phase}: ' in text
    assert 'dataroot_gt and dataroot_lq seem to be exchanged' in text


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
    assert '`basicsr train` with the option file that has name: pdan_phase1 creates it' in text


@pytest.mark.parametrize('root', ['', 'elsewhere/'])
def test_missing_downloads_are_no_run(root):
    weights = f'{root}experiments/pretrained_models/ESRGAN/RRDB_x4.pth'
    text = refusal(changed(train_options(), 'path.pretrain_network_g', weights))
    assert f'my.yml: path.pretrain_network_g: {weights} does not exist' in text
    assert 'download RRDB_x4.pth' in text
    assert 'basicsr train' not in text
    assert 'basicsr train' not in refusal(changed(train_options(), 'path.pretrain_network_g', 'experiments/net_g.pth'))


def test_all_missing_weights_are_told_at_once():
    options = changed(train_options(), 'path.pretrain_network_g', 'absent_g.pth')
    text = refusal(changed(options, 'path.pretrain_network_d', 'absent_d.pth'))
    assert 'path.pretrain_network_g: absent_g.pth does not exist' in text
    assert 'path.pretrain_network_d: absent_d.pth does not exist' in text


def test_a_missing_state_is_told():
    text = refusal(changed(train_options(), 'path.resume_state', 'experiments/small/training_states/8.state'))
    assert 'my.yml: path.resume_state: experiments/small/training_states/8.state does not exist' in text


@pytest.mark.skipif(torch.cuda.is_available(), reason='tells what a machine without a GPU cannot do')
def test_devices_that_are_not_here_are_told():
    assert 'num_gpu: auto' in refusal(changed(train_options(), 'num_gpu', 1))
    options = changed(train_options(), 'datasets.train.prefetch_mode', 'cuda')
    assert 'my.yml: datasets.train.pin_memory' in refusal(options)
    assert 'needs a CUDA device' in refusal(changed(options, 'datasets.train.pin_memory', True))


@pytest.mark.parametrize(
    ('section', 'values', 'told'),
    [
        ('train.pixel_opt', {'type': 'HPEMLoss', 'hard_ratio': 2}, 'hard_ratio'),
        ('train.pixel_opt', {'type': 'L1Loss', 'reduction': 'none'}, 'reduction: mean'),
        ('train.dual_opt', {'type': 'L1Loss', 'reduction': 'none'}, 'reduction: mean'),
        ('network_g', {'type': 'PDAN', 'fuse_levels': 9, 'num_group': 2, 'deblur_branch': False}, 'fuse_levels'),
    ],
)
def test_losses_and_networks_are_built_before_a_folder_is_made(section, values, told):
    said = refusal(changed(train_options(), section, values))
    assert said.startswith('my.yml: ')
    assert section in said
    assert told in said


def test_an_iteration_takes_the_samples_of_all_its_parts():
    options = {**train_options(), 'model_type': 'RestorationModel'}
    facts = check(changed(options, 'train.accumulation_steps', 3))
    assert (facts.batch_size, facts.iterations) == (6, 1)
    assert 'less than one batch of 8' in refusal(changed(options, 'train.accumulation_steps', 4))


def test_compiling_without_a_compiler_is_told_before_the_run():
    options = {**train_options(), 'model_type': 'RestorationModel', 'num_gpu': 0}
    options['train']['compile'] = True
    check(options)
    with inductor_config.patch({'cpp.cxx': (None, 'nowhere/g++')}):
        text = refusal(options)
    assert text.startswith('my.yml: train.compile: true: needs a C++ compiler')
    assert 'the package g++), or do not compile' in text


@pytest.mark.parametrize('section', ['train', 'val'])
@pytest.mark.parametrize('is_train', [True, False])
def test_bf16_on_a_gpu_without_it_is_refused_with_fp16_named(monkeypatch, section, is_train):
    """A mock of a GPU of compute capability 7.5, on which torch emulates bf16."""
    monkeypatch.setattr(preflight, 'device_count', lambda *_: 1)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (7, 5))
    options = {**(train_options() if is_train else test_options()), 'model_type': 'RestorationModel'}
    if section == 'train' and not is_train:
        return
    options[section]['precision'] = 'bf16'
    text = refusal(options, is_train=is_train)
    assert text.startswith(f'my.yml: {section}: precision bf16: this GPU has compute capability 7.5')
    assert 'use fp16 or fp32' in text


@pytest.mark.parametrize(('word', 'value'), [('precision', 'bf16'), ('precision', 'fp16'), ('compile', True)])
def test_what_gpus_that_share_a_process_cannot_do_is_told(monkeypatch, word, value):
    """Two GPUs are feigned."""
    monkeypatch.setattr(preflight, 'device_count', lambda *_: 2)
    options = {**train_options(), 'model_type': 'RestorationModel'}
    options['train'][word] = value
    text = refusal(options)
    assert f'my.yml: train.{word}: {str(value).lower()} on 2 GPUs' in text
    assert '--nproc 2' in text
    check(options, world_size=2)
    check(without(options, f'train.{word}'))


WINDOWED = {
    'type': 'SwinIR', 'img_size': 16, 'window_size': 8, 'embed_dim': 12, 'depths': [2], 'num_heads': [2], 'upscale': 4,
    'upsampler': 'pixelshuffledirect',
}  # fmt: skip
EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3}


@pytest.mark.parametrize('is_train', [True, False])
@pytest.mark.parametrize(
    ('network', 'val', 'told'),
    [
        (WINDOWED, {'tile': 32, 'tile_overlap': 15}, 'leaves no room for an overlap of 15; expected at least 40'),
        (WINDOWED, {'tile': 40, 'tile_overlap': 15}, None),
        ({**WINDOWED, 'img_size': 12, 'window_size': 6}, {'tile': 32, 'tile_overlap': 13}, 'expected at least 42'),
        (EDSR, {'tile': 32, 'tile_overlap': 15}, None),
        (EDSR, {'tile': 64, 'precision': 'fp16'}, 'precision fp16 is for'),
        (EDSR, {'self_ensemble': True, 'precision': 'fp16'}, 'fp16 is for'),
    ],
)
def test_tiles_that_the_network_cannot_take_are_told_before_the_run(network, val, told, is_train):
    options = train_options() if is_train else {**test_options(), 'path': {}}
    options = {**options, 'model_type': 'RestorationModel', 'network_g': network, 'num_gpu': 0}
    options['val'] |= val
    if told is None:
        check(options, is_train=is_train)
    else:
        text = refusal(options, is_train=is_train)
        assert text.startswith('my.yml: val: ')
        assert told in text


SWINIR = {'type': 'SwinIR', 'upscale': 4, 'img_size': 8, 'window_size': 4, 'embed_dim': 12, 'depths': [1],
          'num_heads': [2], 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect'}  # fmt: skip
RCAN = {'type': 'RCAN', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_group': 1, 'num_block': 1,
        'squeeze_factor': 16, 'upscale': 4}  # fmt: skip


def test_a_network_that_cannot_train_is_refused():
    """RCAN's attention has num_feat // squeeze_factor features: none."""
    text = refusal({**train_options(), 'network_g': RCAN})
    assert text.startswith('my.yml: network_g: ')
    check({**train_options(), 'network_g': {**RCAN, 'squeeze_factor': 4}})


def test_a_crop_that_no_window_divides_is_refused():
    options = {**train_options(), 'network_g': SWINIR, 'model_type': 'RestorationModel'}
    check(options)
    text = refusal(changed(options, 'datasets.train.gt_size', 24))
    assert 'my.yml: network_g: a training step on crops of 6x6 fails' in text


@pytest.mark.parametrize('is_train', [True, False])
@pytest.mark.parametrize('model', ['SRModel', 'SwinIRModel', 'RestorationModel'])
def test_pictures_that_no_window_divides_are_extended(tmp_path, is_train, model):
    """The validation's pictures are 32x24; windows of 5 do not fit them."""
    options = train_options() if is_train else test_options()
    options |= {'network_g': {**SWINIR, 'window_size': 5, 'img_size': 10}, 'path': {}, 'model_type': model}
    if is_train:
        options['datasets']['train']['gt_size'] = 40
    check(options, is_train=is_train)


UNSCALED = {'type': 'RIDNet', 'in_channels': 3, 'mid_channels': 16, 'out_channels': 3, 'num_block': 1}
TO_GREY = {'type': 'MSRResNet', 'num_in_ch': 1, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 4}


@pytest.mark.parametrize('tile', [None, 16])
@pytest.mark.parametrize(
    ('network', 'color', 'told'),
    [
        (UNSCALED, 'rgb', r'an output of shape \(1, 3, 17, 19\) .* ground truth has 3 channel\(s\) and is 4 times'),
        (GREY, 'rgb', r'expected input\[1, 3, .* to have 1 channels'),
        (GREY, 'y', None),
        (TO_GREY, 'y', r'an output of shape \(1, 3, 68, 76\) .* ground truth has 1 channel\(s\)'),
    ],
)
def test_a_test_with_a_network_of_another_scale_or_channels_is_refused(network, color, told, tile):
    options = {**test_options(), 'path': {}, 'model_type': 'RestorationModel', 'network_g': network}
    options['datasets']['test_1']['color'] = color
    options['val']['tile'] = tile
    if told is None:
        check(options, is_train=False)
    else:
        text = refusal(options, is_train=False)
        assert 'my.yml: network_g: it cannot restore the pictures of ' in text
        assert re.search(told, text)


def test_a_test_by_the_toolbox_s_model_is_tried():
    text = refusal({**test_options(), 'path': {}, 'model_type': 'SRModel', 'network_g': UNSCALED}, is_train=False)
    assert 'my.yml: network_g: it cannot restore the pictures of ' in text
    assert 'SRModel gives it whole pictures, here of 32x24, and it fails: an output of shape (1, 3, 24, 32)' in text
    assert text.endswith('but the ground truth has (1, 3, 96, 128); give a network or data of that scale')


def test_a_network_of_another_scale_or_shape_is_refused():
    options = {**train_options(), 'network_g': {'type': 'SRVGGNetCompact', 'upscale': 4, 'num_feat': 8, 'num_conv': 1}}
    check(options)
    options['network_g']['num_out_ch'] = 1
    assert 'my.yml: network_g: ' in refusal(options)


def test_a_discriminator_of_another_size_is_refused():
    options = {**train_options(), 'model_type': 'SRGANModel'}
    options['network_d'] = {'type': 'VGGStyleDiscriminator', 'num_in_ch': 3, 'num_feat': 4, 'input_size': 128}
    options['train'] |= {'optim_d': {'type': 'Adam', 'lr': 1e-4}, 'gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla'}}
    assert 'network_d' in refusal(options)
    options['network_d'] = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4}
    check(options)


@pytest.mark.parametrize(('package', 'section'), [('wandb', {'wandb': {'project': 'mine'}}), ('tensorboard', {})])
def test_a_logger_that_is_not_installed_is_refused(monkeypatch, package, section):
    """The packages are hidden."""
    options = train_options()
    options['logger'] |= {'use_tb_logger': True, **section}
    monkeypatch.setitem(sys.modules, package, None)
    text = refusal(options)
    assert text.startswith('my.yml: logger.')
    assert f'pip install {package}' in text

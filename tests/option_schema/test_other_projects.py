"""Patterns of option files of other projects: what is refused, what is a warning, what passes."""

import pytest
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY
from small_run import changed, test_options, train_options, without

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.option_schema.spelling import misspelt
from pdan_plugin.option_schema.unset_keys import leave_unset_out

GAN = {'type': 'GANLoss', 'gan_type': 'vanilla', 'loss_weight': 0.1}


def check(options, *, is_train=True, strict=False):
    """(refused lines, warning lines), without the file's name."""
    warned: list[str] = []
    try:
        check_options(options, 'x', is_train=is_train, warn=warned.append, strict=strict)
    except RequestError as error:
        return [line.removeprefix('x: ') for line in str(error).splitlines()[1:]], warned
    return [], [line.removeprefix('x: ') for line in warned]


# keys that other projects' files contain and that the model or data set of the file does not read
UNREAD = [
    ('datasets.train.task', 'SR'),
    ('datasets.val.task', 'SR'),
    ('print_network', True),
    ('save_img', False),
    ('suffix', 'x4'),
    ('crop_border', 4),
    ('val.use_chop', False),
    ('val.window_size', 16),
    ('train.mixup', True),
    ('train.use_grad_clip', True),
    ('datasets.train.interval_list', [1]),
    ('datasets.train.dataroot_flow', 'flow'),
    ('datasets.train.gt_size2', 32),
    ('path.root', '.'),
    ('path.models', 'elsewhere'),
    ('path.strict_load_d', True),
    ('path.pretrain_network_d', 'd.pth'),
    ('train.net_d_iters', 1),
    ('train.optim_d', {'type': 'Adam', 'lr': 1e-4}),
    ('train.precision', 'bf16'),
    ('logger.save_latest_freq', 100),
    ('logger.wandb.entity', 'me'),
    ('dist_params.nodes', 2),
    ('val.metrics.psnr.note', 'on Y'),
]


@pytest.mark.parametrize(('key', 'value'), UNREAD)
def test_a_key_that_nothing_reads_is_one_warning(key, value):
    refused, warned = check(changed(train_options(), key, value))
    assert refused == []
    assert [line.partition(': ')[0] for line in warned] == [key]
    refused, warned = check(changed(train_options(), key, value), strict=True)
    assert [line.partition(': ')[0] for line in refused] == [key]
    assert warned == []


def test_a_file_name_template_of_a_data_set_without_one_is_a_warning():
    options = test_options()
    options['datasets']['test_1'] |= {'type': 'SingleImageDataset', 'filename_tmpl': '{}'}
    del options['datasets']['test_1']['dataroot_gt']
    refused, warned = check(options, is_train=False)
    assert refused == []
    assert [line.partition(': ')[0] for line in warned] == ['datasets.test_1.filename_tmpl']


@pytest.mark.parametrize(('key', 'value'), UNREAD)
def test_the_same_key_set_to_none_on_the_command_line_is_silent(key, value):
    assert check(changed(train_options(), key, None), strict=True) == ([], [])


# what would train or test something else than the file says
WRONG = [
    ('train.ema_deacy', 0.9, 'ema_decay'),
    ('train.Ema_Decay', 0.9, 'ema_decay'),
    ('train.total_iters', 5, 'total_iter'),
    ('path.pretrain_netwrok_g', 'x.pth', 'pretrain_network_g'),
    ('datasets.train.use_flip', True, 'use_hflip'),
    ('datasets.train.num_workers_per_gpu', 2, 'num_worker_per_gpu'),
    ('datasets.train.gt_sizes', 32, 'gt_size'),
    ('val.sufix', 'x', 'suffix'),
    ('scael', 2, 'scale'),
    ('scele', 2, 'scale'),
    ('logger.wandb.projct', 'x', 'project'),
    ('dist_params.bakend', 'gloo', 'backend'),
    ('val.metrics.psnr.crop_boder', 4, 'crop_border'),
    ('train.fft_opt', {'type': 'L1Loss'}, 'this loss would be ignored'),
    ('train.gan_opt', GAN, 'it is read by model_type SRGANModel'),
    ('network_d', {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3}, 'this network would be ignored'),
    ('train.pixel_loss', {'type': 'MSELoss'}, 'this loss would be ignored'),
    ('train.losses', [{'type': 'l1loss', 'loss_weight': 1}], 'this loss would be ignored'),
    ('losses', {'type': 'L1Loss'}, 'this loss would be ignored'),
    ('generator', {'type': 'EDSR'}, 'this network would be ignored'),
    ('network_g.window', 8, 'EDSR has no such keyword'),
    ('train.pixel_opt.window', 8, 'L1Loss has no such keyword'),
    ('datasets.test0', {}, 'unknown phase'),
]


@pytest.mark.parametrize(('key', 'value', 'said'), WRONG)
@pytest.mark.parametrize('strict', [False, True])
def test_what_would_train_something_else_is_refused(key, value, said, strict):
    refused, _ = check(changed(train_options(), key, value), strict=strict)
    assert [line.partition(': ')[0] for line in refused] == [key]
    assert said in refused[0]


VGG = {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1, 'relu2_2': 0.1}}
BATCH_NORM = {**VGG, 'vgg_type': 'vgg16_bn', 'layer_weights': {'bn5_3': 1}, 'criterion': 'fro'}


@pytest.mark.parametrize(
    ('changes', 'key', 'said'),
    [
        ({'criterion': 'l3'}, 'criterion', "expected 'l1' or 'fro'"),
        ({'criterion': 'l2'}, 'criterion', "expected 'l1' or 'fro'"),  # of the toolbox it fails in torch
        ({'vgg_type': 'vgg18'}, 'vgg_type', 'expected one of vgg11'),
        ({'vgg_type': 'vgg16'}, 'layer_weights.conv5_4', 'vgg16 has no such layer'),
        ({'layer_weights': {'conv54': 1}}, 'layer_weights.conv54', "did you mean 'conv5_4'"),
        ({'layer_weights': {'conv5_4': '1'}}, 'layer_weights.conv5_4', 'without quotes'),
        ({'layer_weights': ['conv5_4']}, 'layer_weights', 'such as {conv5_4: 1}'),
    ],
)
def test_a_perceptual_loss_that_cannot_be_built_is_refused(changes, key, said):
    """A run told it after it had loaded VGG."""
    options = train_options()
    for whole in (VGG, BATCH_NORM):
        options['train']['perceptual_opt'] = whole
        assert check(options, strict=True) == ([], [])
    options['train']['perceptual_opt'] = {**VGG, **changes}
    refused, _ = check(options)
    assert [line.partition(': ')[0] for line in refused] == [f'train.perceptual_opt.{key}']
    assert said in refused[0]


@pytest.mark.parametrize(
    ('key', 'value', 'said'),
    [('betas', [0.9, 1.1], 'beta parameter at index 1: 1.1'), ('weight_decay', -1, 'weight_decay value: -1')],
)
def test_values_that_torch_s_optimizer_rejects_are_refused(key, value, said):
    """`basicsr check` ended with a traceback."""
    refused, _ = check(changed(train_options(), f'train.optim_g.{key}', value))
    assert len(refused) == 1
    assert refused[0].startswith('train.optim_g: Adam of torch rejects it: ')
    assert said in refused[0]


# (key, what its reader does without it); a null key says no more than no key
UNSET = [
    'path.strict_load_g', 'path.resume_state', 'path.pretrain_network_g', 'train.ema_decay', 'train.warmup_iter',
    'train.perceptual_opt', 'train.optim_g.weight_decay', 'train.optim_g.betas', 'train.scheduler.gamma',
    'train.pixel_opt.loss_weight', 'datasets.train.dataset_enlarge_ratio', 'datasets.train.prefetch_mode',
    'datasets.train.pin_memory', 'datasets.train.filename_tmpl', 'datasets.val', 'datasets.val_2', 'val.pbar',
    'val.metrics', 'val.metrics.psnr', 'val.metrics.psnr.better', 'val.suffix', 'network_d', 'network_g.num_block',
    'network_g.img_range', 'find_unused_parameters', 'manual_seed', 'plugins', 'logger.wandb', 'dist_params',
    'dist_params.port', 'scale', 'val',
]  # fmt: skip


@pytest.mark.parametrize('key', UNSET)
def test_null_is_not_set(key):
    options = changed(train_options(), key, None)
    assert check(options, strict=True) == ([], [])
    leave_unset_out(options)
    section = options
    for word in key.split('.'):
        section = section.get(word) if section is not None else None
    assert section is None


def test_a_null_list_of_an_optimizer_is_left_out():
    """It stayed, and ended the run in torch's constructor."""
    options = changed(train_options(), 'train.optim_g.betas', None)
    leave_unset_out(options)
    assert 'betas' not in options['train']['optim_g']


def test_a_null_that_says_something_stays():
    """The toolbox reads a null `param_key_g` as a file without keys, and demands `dataroot_flow`."""
    options = changed(train_options(), 'path.param_key_g', None)
    options['datasets']['train'] |= {'type': 'REDSDataset', 'dataroot_flow': None}
    leave_unset_out(options)
    assert 'param_key_g' in options['path']
    assert 'dataroot_flow' in options['datasets']['train']


@pytest.mark.parametrize('key', ['name', 'num_gpu', 'network_g', 'train.total_iter', 'datasets.train.gt_size'])
def test_a_required_key_that_is_null_is_missing(key):
    refused, _ = check(changed(train_options(), key, None))
    assert f'{key}: missing' in refused[0]


def test_of_a_model_that_is_not_registered_only_its_name_and_misspellings_are_reported():
    """NAFNet's and Restormer's models build AdamW and schedules of their own; the toolbox's do not."""
    options = {**train_options(), 'model_type': 'ImageRestorationModel'}
    options['train'] |= {
        'optim_g': {'type': 'AdamW', 'lr': 1e-3, 'betas': [0.9, 0.9], 'weight_decay': 0},
        'scheduler': {'type': 'TrueCosineAnnealingLR', 'T_max': 2, 'eta_min': 1e-7},
    }
    refused, warned = check(options)
    assert [line.partition(': ')[0] for line in refused] == ['model_type']
    assert warned == []
    options['train']['optim_g']['type'], options['train']['scheduler']['type'] = 'AdmaW', 'MutliStepLR'
    refused, _ = check(options)
    assert [line.rpartition('did you mean ')[2] for line in refused[1:]] == ["'AdamW'?", "'MultiStepLR'?"]


@pytest.fixture
def other_model(monkeypatch):
    """Another project's model and network, registered for one test."""

    class OtherModel(SRModel):
        def init_training_settings(self):
            self.weights = [self.opt['train'].get(f'{part}_opt') for part in ('edge',)]
            self.identity = self.opt['network_identity']

    class OtherNetwork:
        def __init__(self, depth: int = 4, norm: str | None = 'batch', **kwargs):
            pass

    monkeypatch.setitem(MODEL_REGISTRY._obj_map, 'OtherModel', OtherModel)
    monkeypatch.setitem(ARCH_REGISTRY._obj_map, 'OtherNetwork', OtherNetwork)
    return {**train_options(), 'model_type': 'OtherModel', 'network_g': {'type': 'OtherNetwork'}}


def test_another_project_s_model_reads_what_its_source_names(other_model):
    """This file is its package."""
    options = changed(other_model, 'network_identity', {'type': 'OtherNetwork'})
    options['train'] |= {'edge_opt': {'kind': 'sobel'}}
    options['network_g'] |= {'anything': 1, 'norm': None, 'depth': None}
    assert check(options, strict=True) == ([], [])
    leave_unset_out(options)
    assert options['network_g'] == {'type': 'OtherNetwork', 'anything': 1, 'norm': None}
    unnamed = ''.join(reversed('tpo_tenpyks'))
    refused, _ = check(changed(other_model, f'train.{unnamed}', {'type': 'L1Loss'}))
    assert refused == []  # it may be put together, as edge_opt is
    unnamed = ''.join(reversed('spets_tenpyks'))
    assert [line.partition(': ')[0] for line in check(changed(other_model, f'train.{unnamed}', 1))[1]] == [
        f'train.{unnamed}'
    ]


@pytest.mark.parametrize(
    ('word', 'known'),
    [('optim_d', 'optim_g'), ('strict_load_d', 'strict_load_g'), ('gt_size2', 'gt_size'), ('test_2', 'test_1'),
     ('print_network', 'network_g'), ('task', 'type'), ('dataroot_flow', 'dataroot_lq'),
     ('net_g_iters', 'net_d_iters')],
)  # fmt: skip
def test_another_word_is_no_misspelling(word, known):
    assert misspelt(word, [known]) is None


def test_a_test_file_may_keep_the_training_section():
    options = {**test_options(), 'train': train_options()['train']}
    assert check(options, is_train=False) == ([], [])
    refused, _ = check(without(options, 'val'), is_train=False)
    assert refused == ['val: missing; it must be given']

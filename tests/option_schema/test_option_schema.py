"""Option files are checked whole: what the toolbox understands passes, what nothing reads is told with its spelling."""

import datetime
from pathlib import Path

import pytest
import yaml
from basicsr.archs.edsr_arch import EDSR
from basicsr.models.sr_model import SRModel
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
from option_checks import check, refusal
from small_run import changed, dataset, test_options, train_options, without

from pdan_plugin.option_schema.option_file import read_option_file

OPTIONS = Path(__file__).parents[2] / 'options'


def test_a_plain_training_file_passes_and_is_not_changed():
    options = train_options()
    check(options)
    assert options == train_options()


def test_a_plain_test_file_passes():
    check(test_options(), is_train=False)


@pytest.mark.parametrize('path', sorted(OPTIONS.rglob('*.yml')), ids=lambda path: str(path.relative_to(OPTIONS)))
def test_every_option_file_of_this_project_passes(path):
    options = read_option_file(path)
    check(options, is_train='train' in options)


REAL_ESRGAN = """
name: real
model_type: RealESRGANModel
scale: 4
num_gpu: auto
manual_seed: 0
l1_gt_usm: true
percep_gt_usm: true
gan_gt_usm: false
resize_prob: [0.2, 0.7, 0.1]
resize_range: [0.15, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]
second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]
resize_range2: [0.3, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]
gt_size: 256
queue_size: 180
datasets:
  train:
    {name: d, type: RealESRGANDataset, dataroot_gt: gt, meta_info: m.txt, io_backend: {type: disk},
     blur_kernel_size: 21, kernel_list: ['iso', 'aniso'], kernel_prob: [0.5, 0.5], sinc_prob: 0.1, blur_sigma: [0.2, 3],
     betag_range: [0.5, 4], betap_range: [1, 2], blur_kernel_size2: 21, kernel_list2: ['iso'], kernel_prob2: [1.0],
     sinc_prob2: 0.1, blur_sigma2: [0.2, 1.5], betag_range2: [0.5, 4], betap_range2: [1, 2], final_sinc_prob: 0.8,
     gt_size: 256, use_hflip: true, use_rot: false, use_shuffle: true, num_worker_per_gpu: 5, batch_size_per_gpu: 12,
     dataset_enlarge_ratio: 1, prefetch_mode: ~}
network_g: {type: RRDBNet, num_in_ch: 3, num_out_ch: 3, num_feat: 64, num_block: 23, num_grow_ch: 32}
network_d: {type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 64, skip_connection: true}
path: {pretrain_network_g: ~, param_key_g: params_ema, strict_load_g: true, pretrain_network_d: ~, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: 1e-4, weight_decay: 0, betas: [0.9, 0.99]}
  optim_d: {type: Adam, lr: 1e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [400000], gamma: 0.5}
  total_iter: !!float 4e5
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
  perceptual_opt:
    {type: PerceptualLoss, layer_weights: {'conv1_2': 0.1, 'conv5_4': 1}, vgg_type: vgg19, use_input_norm: true,
     perceptual_weight: !!float 1.0, style_weight: 0, range_norm: false, criterion: l1}
  gan_opt: {type: GANLoss, gan_type: vanilla, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: !!float 1e-1}
  net_d_iters: 1
  net_d_init_iters: 0
logger: {print_freq: 100, save_checkpoint_freq: !!float 5e3, use_tb_logger: true, wandb: {project: ~, resume_id: ~}}
dist_params: {backend: nccl, port: 29500}
"""

VIDEO = """
name: video
model_type: VideoRecurrentModel
scale: 4
num_gpu: 8
manual_seed: 0
datasets:
  train:
    {name: REDS, type: REDSRecurrentDataset, dataroot_gt: gt, dataroot_lq: lq, dataroot_flow: ~, meta_info_file: m.txt,
     val_partition: REDS4, test_mode: false, io_backend: {type: lmdb}, num_frame: 15, gt_size: 256, interval_list: [1],
     random_reverse: false, use_hflip: true, use_rot: true, num_worker_per_gpu: 6, batch_size_per_gpu: 4,
     dataset_enlarge_ratio: 200, prefetch_mode: ~}
  val:
    {name: REDS4, type: VideoRecurrentTestDataset, dataroot_gt: gt, dataroot_lq: lq, cache_data: true,
     io_backend: {type: disk}, num_frame: -1}
network_g: {type: BasicVSR, num_feat: 64, num_block: 30, spynet_path: spynet.pth}
path: {pretrain_network_g: ~, strict_load_g: true, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: !!float 2e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: CosineAnnealingRestartLR, periods: [300000], restart_weights: [1], eta_min: !!float 1e-7}
  total_iter: 300000
  warmup_iter: -1
  fix_flow: 5000
  flow_lr_mul: 0.125
  pixel_opt: {type: CharbonnierLoss, loss_weight: 1.0, reduction: mean}
val:
  val_freq: !!float 5e3
  save_img: false
  flip_seq: false
  metrics:
    psnr: {type: calculate_psnr, crop_border: 0, test_y_channel: false}
logger: {print_freq: 100, save_checkpoint_freq: 5000, use_tb_logger: true, wandb: {project: ~, resume_id: ~}}
find_unused_parameters: true
"""


@pytest.mark.parametrize('text', [REAL_ESRGAN, VIDEO], ids=['RealESRGAN', 'BasicVSR'])
def test_the_toolbox_s_other_models_pass_with_all_their_words(text, tmp_path):
    path = tmp_path / 'stock.yml'
    path.write_text(text, encoding='utf-8')
    check(read_option_file(path))


@pytest.mark.parametrize(
    ('key', 'value', 'told'),
    [
        ('modle_type', 'SRModel', "my.yml: modle_type: unknown key, SRModel does not read it; did you mean "
                                  "'model_type'?"),
        ('train.ema_decy', 0.9, "train.ema_decy: unknown key, SRModel does not read it; did you mean 'ema_decay'?"),
        ('datasets.train.use_hfilp', True, 'datasets.train.use_hfilp: unknown key, PairedImageDataset does not read '
                                           "it; did you mean 'use_hflip'?"),
        ('datasets.train.io_backend.typ', 'disk', 'datasets.train.io_backend.typ'),
        ('datasets.vall', {}, "datasets.vall: unknown phase; did you mean 'val'?"),
        ('path.pretrain_netwrok_g', 'x.pth', "did you mean 'pretrain_network_g'?"),
        ('val.save_imgs', True, 'val.save_imgs'),
        ('logger.print_frq', 1, "did you mean 'print_freq'?"),
        ('logger.wandb.projct', 'x', "logger.wandb.projct: unknown key, the toolbox does not read it; did you mean "
                                       "'project'?"),
        ('dist_params.bakend', 'gloo', "did you mean 'backend'?"),
        ('network_g.num_feats', 8, "network_g.num_feats: EDSR has no such keyword; did you mean 'num_feat'?"),
        ('network_g.type', 'EDRS', "no arch named 'EDRS' is registered; did you mean 'EDSR'?"),
        ('network_g.type', 'HAT', 'if it belongs to a plugin, install that plugin'),
        ('model_type', 'SRModle', "did you mean 'SRModel'?"),
        ('datasets.val.type', 'PairedImageDatset', "did you mean 'PairedImageDataset'?"),
        ('train.pixel_opt.los_weight', 1.0, "train.pixel_opt.los_weight: L1Loss has no such keyword; did you mean "
                                            "'loss_weight'?"),
        ('train.pixel_opt.type', 'L1Los', "no loss named 'L1Los' is registered; did you mean 'L1Loss'?"),
        ('train.pixel_opt.type', 'L1', "no loss named 'L1' is registered; did you mean 'L1Loss'?"),
        ('val.metrics.psnr.type', 'psnr', "no metric named 'psnr' is registered; did you mean 'calculate_psnr'?"),
        ('train.optim_g.beta', [0.9, 0.99], "did you mean 'betas'?"),
        ('train.optim_g.type', 'Adm', "did you mean 'Adam'?"),
        ('train.scheduler.type', 'MultistepLR', "did you mean 'MultiStepLR'?"),
        ('train.scheduler.milestone', [2], "did you mean 'milestones'?"),
        ('val.metrics.psnr.type', 'calculate_pnsr', "did you mean 'calculate_psnr'?"),
        ('val.metrics.psnr.crop_boder', 4, "did you mean 'crop_border'?"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_told_with_its_key_and_the_nearest_spelling(key, value, told):
    assert told in refusal(changed(train_options(), key, value))


@pytest.mark.parametrize(
    ('key', 'value', 'told'),
    [
        ('train.optim_g.lr', '1e-4', "found the text '1e-4'; expected a number, 0 or more; write it without quotes: "
                                     '0.0001'),
        ('train.total_iter', '1000', "found the text '1000'; expected a whole number, 1 or more; write it without "
                                     'quotes: 1000'),
        ('train.total_iter', 10.5, 'found 10.5; expected a whole number'),
        ('train.ema_decay', 1.5, 'expected a number from 0 to less than 1'),
        ('datasets.train.batch_size_per_gpu', 0, 'expected a whole number, 1 or more'),
        ('datasets.train.use_hflip', 'yes', 'expected true or false'),
        ('datasets.train.prefetch_mode', 'gpu', "expected 'cpu' or 'cuda'"),
        ('datasets.train.io_backend', {'type': 'lmbd'}, 'expected one of disk, '),
        ('datasets', [], 'expected a section'),
        ('network_g.num_feat', '8', "found the text '8'; expected a number; write it without quotes: 8"),
        ('network_g', 'EDSR', 'expected a section'),
        ('num_gpu', 'all', "expected a whole number of GPUs (0: the CPU) or 'auto'"),
        ('plugins', 'hat', 'expected a list of names'),
        ('name', 3, 'found 3; expected text; YAML reads it as something else: write it in quotes'),
        ('name', datetime.date(2024, 1, 1), 'expected text; YAML reads it as something else: write it in quotes'),
        ('path.strict_load_g', 'no', 'path.strict_load_g'),
        ('path.pretrain_network_g', 3, 'path.pretrain_network_g: found 3; expected text'),
        ('val.save_img', 1, 'val.save_img'),
        ('train.scheduler.milestones', 'never', 'expected a list of numbers'),
        ('train.optim_g.betas', 0.9, 'expected a list of two numbers'),
        ('train.pixel_opt.loss_weight', 'high', 'expected a number'),
        ('val.metrics.psnr.better', 'bigger', 'expected higher or lower'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_what_was_expected(key, value, told):
    text = refusal(changed(train_options(), key, value))
    assert f'my.yml: {key}' in text
    assert told in text
    assert ('without quotes' in text) == ('without quotes' in told)  # the advice is for texts


@pytest.mark.parametrize(
    'key',
    ['name', 'model_type', 'num_gpu', 'network_g', 'network_g.num_in_ch', 'datasets.train', 'datasets.train.gt_size',
     'datasets.train.dataroot_lq', 'datasets.train.batch_size_per_gpu', 'train', 'train.total_iter', 'train.optim_g',
     'train.optim_g.lr', 'train.scheduler', 'train.scheduler.milestones', 'train.pixel_opt', 'val.val_freq', 'logger',
     'logger.print_freq', 'val.metrics.psnr.crop_border'],
)  # fmt: skip
def test_a_missing_key_is_told(key):
    assert f'my.yml: {key}: missing' in refusal(without(train_options(), key))


def test_every_problem_is_told_at_once_each_on_its_line():
    options = changed(train_options(), 'train.ema_decy', 0.9)
    options = changed(options, 'scale', 2)
    options = changed(options, 'train.pixel_opt.los_weight', 1)
    lines = refusal(options).splitlines()
    assert lines[0] == '3 problems in the options:'
    assert [line.split(': ')[1] for line in lines[1:]] == ['train.ema_decy', 'train.pixel_opt.los_weight', 'scale']


@pytest.mark.parametrize('network', [{'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3}, {'type': 'SRVGGNetCompact'}])
def test_a_scale_against_the_network_s_even_its_default_is_told(network):
    text = refusal({**train_options(), 'scale': 2, 'network_g': network})
    assert 'scale: found 2, but network_g' in text
    assert 'set scale: 4, or network_g.upscale: 2' in text


def test_a_crop_the_scale_does_not_divide_is_told():
    text = refusal(changed(train_options(), 'datasets.train.gt_size', 30))
    assert 'expected a multiple of scale 4, such as 28' in text


def test_a_test_run_needs_val_and_neither_train_nor_logger():
    assert 'my.yml: val: missing' in refusal(without(test_options(), 'val'), is_train=False)
    options = {**test_options(), 'train': {'pixel_opt': {'type': 'L1Loss'}}}
    check(options, is_train=False)
    options['train']['pixel_ot'] = {'type': 'L1Loss'}
    assert "did you mean 'pixel_opt'?" in refusal(options, is_train=False)


def test_training_data_in_a_test_run_are_told():
    options = changed(test_options(), 'datasets.train', dataset(gt_size=32))
    assert 'datasets.train: unknown phase' in refusal(options, is_train=False)


@pytest.fixture
def plugin(monkeypatch):
    """A plugin's classes, as their module's name tells them from the toolbox's, registered for one test."""

    class PluginModel(SRModel):
        def init_training_settings(self):
            self.strength = self.opt['train'].get('mixup_strength', 0)
            self.parts = [self.opt['train'][f'{part}_opt'] for part in ('edge', 'colour')]

    class PluginNetwork(EDSR):
        def __init__(self, num_in_ch=3, num_out_ch=3, num_feat=8, upscale=4, **kwargs):
            super().__init__(num_in_ch, num_out_ch, num_feat, 1, upscale)

    class PluginDataset:
        def __init__(self, opt):
            self.words = dict(opt)

    for registry, owner in (
        (MODEL_REGISTRY, PluginModel),
        (ARCH_REGISTRY, PluginNetwork),
        (DATASET_REGISTRY, PluginDataset),
    ):
        monkeypatch.setitem(registry._obj_map, owner.__name__, owner)
    options = {**train_options(), 'model_type': 'PluginModel', 'network_g': {'type': 'PluginNetwork', 'anything': 1}}
    options['datasets']['train'] |= {'type': 'PluginDataset', 'weather': 'rain'}
    options['train'] |= {'mixup_strength': 0.2, 'edge_opt': {'kind': 'sobel'}, 'unheard_of': 1}
    return options


def test_a_plugin_s_own_words_pass(plugin):
    check(plugin)


@pytest.mark.parametrize(
    ('section', 'meant'),
    [('train', 'ema_decay'), ('train', 'mixup_strength'), ('datasets.train', 'batch_size_per_gpu')],
)
def test_a_misspelling_beside_a_plugin_s_words_is_told(plugin, section, meant):
    """A known key is missing and a word close to it is there, which the plugin's source (this file) never names."""
    written = meant[:-2] + meant[:-3:-1]
    misspelt = changed(without(plugin, f'{section}.{meant}'), f'{section}.{written}', 1)
    assert f'{section}.{written}: unknown key, Plugin' in (text := refusal(misspelt))
    assert f"did you mean '{meant}'?" in text


def test_a_word_a_plugin_s_network_would_swallow_is_told_when_it_is_close(plugin):
    assert "did you mean 'num_feat'?" in refusal(changed(plugin, 'network_g.num_fea', 8))


def test_a_plugin_s_model_that_knows_no_parts_is_not_given_them(plugin):
    text = refusal(changed(plugin, 'train.accumulation_steps', 2))
    assert 'train.accumulation_steps: PluginModel cannot divide a batch into parts' in text
    assert 'model_type: RestorationModel' in text


@pytest.mark.parametrize('model', ['SRModel', 'RestorationModel'])
def test_checkpoints_are_kept_for_every_model(model):
    options = {**train_options(), 'model_type': model}
    check(changed(options, 'logger.keep_checkpoints', 3))
    for wrong in (0, True, 'all'):
        assert 'my.yml: logger.keep_checkpoints: found' in refusal(changed(options, 'logger.keep_checkpoints', wrong))


def test_problems_keep_the_yaml_s_own_words(tmp_path):
    path = tmp_path / 'my.yml'
    path.write_text(yaml.safe_dump(changed(train_options(), 'datasets.train.gt_size', True)), encoding='utf-8')
    assert 'datasets.train.gt_size: found true; expected a whole number' in refusal(read_option_file(path))


@pytest.mark.parametrize('name', ['', '..', 'a/b', '../datasets'])
def test_a_name_is_that_of_one_folder(name):
    assert 'my.yml: name: ' in refusal(changed(train_options(), 'name', name))


def test_two_validation_sets_of_one_name_are_refused():
    options = train_options()
    options['datasets']['val_2'] = dict(options['datasets']['val'])
    assert 'datasets.val_2.name' in refusal(options)


def test_a_scale_of_zero_is_a_wrong_value():
    assert 'scale: found 0' in refusal(changed(train_options(), 'scale', 0))


def test_a_quoted_false_does_not_switch_brightness_on():
    options = changed(train_options(), 'datasets.train.type', 'REDSPairedDataset')
    assert "datasets.train.use_brightness: found the text 'false'; expected true or false" in refusal(
        changed(options, 'datasets.train.use_brightness', 'false')
    )

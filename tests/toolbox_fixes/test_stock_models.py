"""Real-ESRGAN's and the video models of the toolbox train and validate on a CPU, with their own kinds of options."""

import copy
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr
from basicsr.models import build_model
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.models.video_recurrent_model import VideoRecurrentModel
from basicsr.utils import img_process_util, tensor2img
from skimage.data import astronaut

from pdan_plugin.commands import main as cli
from pdan_plugin.errors import RequestError

OPTIMIZER = {'type': 'Adam', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]}
TRAIN = {
    'ema_decay': 0.9, 'optim_g': OPTIMIZER, 'scheduler': {'type': 'MultiStepLR', 'milestones': [100], 'gamma': 0.5},
    'total_iter': 2, 'warmup_iter': -1, 'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
}  # fmt: skip
LOGGER = {'print_freq': 1, 'save_checkpoint_freq': 100, 'use_tb_logger': False}
KERNELS = ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def real_esrgan(model_type, **train):
    """Options as in Real-ESRGAN's own files, with small sizes."""
    source = astronaut()[:, :, ::-1]
    cv2.imwrite('a.png', source[:400, :400])
    cv2.imwrite('b.png', source[100:500, 100:500])
    with open('meta_info.txt', 'w') as file:
        file.write('a.png\nb.png\n')
    blur = {
        f'{key}{n}': value for n in ('', '2') for key, value in {
            'blur_kernel_size': 21, 'kernel_list': KERNELS, 'kernel_prob': [0.45, 0.25, 0.12, 0.03, 0.12, 0.03],
            'sinc_prob': 0.1, 'blur_sigma': [0.2, 3], 'betag_range': [0.5, 4], 'betap_range': [1, 2],
        }.items()
    }  # fmt: skip
    degradation = {
        f'{key}{n}': value for n in ('', '2') for key, value in {
            'resize_prob': [0.3, 0.4, 0.3], 'resize_range': [0.5, 1.2], 'gaussian_noise_prob': 0.5,
            'noise_range': [1, 25], 'poisson_scale_range': [0.05, 2.5], 'gray_noise_prob': 0.4, 'jpeg_range': [30, 95],
        }.items()
    }  # fmt: skip
    return {
        'name': 'real', 'model_type': model_type, 'scale': 4, 'num_gpu': 0, 'manual_seed': 0, **degradation,
        'second_blur_prob': 0.8, 'gt_usm': True, 'l1_gt_usm': True, 'percep_gt_usm': True, 'gan_gt_usm': False,
        'gt_size': 64, 'queue_size': 1,
        'datasets': {'train': {
            'name': 'd', 'type': 'RealESRGANDataset', 'dataroot_gt': '.', 'meta_info': 'meta_info.txt',
            'io_backend': {'type': 'disk'}, **blur, 'final_sinc_prob': 0.8, 'use_hflip': True, 'use_rot': False,
            'use_shuffle': True, 'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1, 'dataset_enlarge_ratio': 4,
            'prefetch_mode': None,
        }},
        'network_g': {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1,
                      'num_grow_ch': 4},
        'path': {'pretrain_network_g': None, 'param_key_g': 'params_ema', 'strict_load_g': True, 'resume_state': None},
        'train': {**copy.deepcopy(TRAIN), **train}, 'logger': LOGGER,
    }  # fmt: skip


def run(options, *words):
    with open('run.yml', 'w') as file:
        yaml.safe_dump(options, file, sort_keys=False)
    return cli.main(['train', '-opt', 'run.yml', *words])


def trained(name):
    return torch.load(f'experiments/{name}/models/net_g_latest.pth', weights_only=True)['params']


@pytest.mark.parametrize('model_type', ['RealESRNetModel', 'RealESRGANModel'])
def test_real_esrgan_trains_on_a_cpu(model_type):
    train = {} if model_type == 'RealESRNetModel' else {
        'optim_d': OPTIMIZER, 'net_d_iters': 1, 'net_d_init_iters': 0,
        'gan_opt': {'type': 'GANLoss', 'gan_type': 'vanilla', 'real_label_val': 1.0, 'fake_label_val': 0.0,
                    'loss_weight': 0.1},
    }  # fmt: skip
    options = real_esrgan(model_type, **train)
    if model_type == 'RealESRGANModel':
        options['network_d'] = {'type': 'UNetDiscriminatorSN', 'num_in_ch': 3, 'num_feat': 4, 'skip_connection': True}
        del options['gt_usm']
    assert run(options, '--force_yml', 'train:total_iter=2') == 0
    assert all(value.isfinite().all() for value in trained('real').values())


def test_the_pool_of_pairs_gives_back_what_it_took():
    """Six batches of 2 fill and shuffle a pool of 4: each picture given back is one that was put in, with its pair."""
    model = object.__new__(RealESRNetModel)
    model.queue_size = 4
    taken, given = set(), []
    for step in range(6):
        model.gt = torch.arange(2 * step, 2 * step + 2).float().view(2, 1, 1, 1).expand(2, 3, 8, 8).clone()
        taken |= set(model.gt[:, 0, 0, 0].tolist())
        model.lq = -model.gt[..., :2, :2]
        model._dequeue_and_enqueue()
        given.append(model.gt[:, 0, 0, 0].tolist())
        assert model.queue_lr.device == model.lq.device
        torch.testing.assert_close(model.lq, -model.gt[..., :2, :2])
    assert {each for pair in given for each in pair} <= taken
    assert given[:2] == [[0, 1], [2, 3]]
    model.queue_size = 3
    del model.queue_lr
    with pytest.raises(RequestError, match='queue_size: found 3; expected a multiple of the batch size 2'):
        model._dequeue_and_enqueue()


@pytest.mark.parametrize('kernels', [1, 2])
def test_pictures_of_any_layout_are_filtered_alike(stock, kernels):
    picture, kernel = torch.rand(2, 3, 9, 7), torch.rand(kernels, 5, 5)
    with stock():
        expected = img_process_util.filter2D(picture, kernel)
        with pytest.raises(RuntimeError, match='view size is not compatible'):
            img_process_util.filter2D(picture.contiguous(memory_format=torch.channels_last), kernel)
    found = img_process_util.filter2D(picture.contiguous(memory_format=torch.channels_last), kernel)
    torch.testing.assert_close(found, expected)


def write_clips(root, names, frames, size):
    source = astronaut()[:, :, ::-1]
    for clip, name in enumerate(names):
        for frame in range(frames):
            top, left = 40 * clip + frame, 100 + frame
            crop = np.ascontiguousarray(source[top : top + size, left : left + size])
            small = cv2.resize(crop, (size // 4, size // 4), interpolation=cv2.INTER_AREA)
            for kind, picture in (('gt', crop), ('lq', small)):
                (root / kind / name).mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(root / kind / name / f'{frame:08d}.png'), picture)


def video(folder, model_type, network, data_type, test_type, size, frames):
    """Options as in the toolbox's files for EDVR and BasicVSR: two validation sets with clips of their own."""
    write_clips(folder / 'train', ['001'], 100, size)  # as many as a clip of REDS
    write_clips(folder / 'val', ['000', '011'], frames, size)
    write_clips(folder / 'val_2', ['015'], frames + 1, size)
    with open('meta_info.txt', 'w') as file:
        file.write(f'001 100 ({size},{size},3)\n')

    def test_set(root):
        return {'name': 'REDS4' if root == 'val' else 'Vid4', 'type': test_type, 'dataroot_gt': f'{root}/gt',
                'dataroot_lq': f'{root}/lq', 'cache_data': True, 'io_backend': {'type': 'disk'}, 'num_frame': frames,
                'padding': 'reflection_circle'}  # fmt: skip

    return {
        'name': 'video', 'model_type': model_type, 'scale': 4, 'num_gpu': 0, 'manual_seed': 0,
        'datasets': {
            'train': {'name': 'REDS', 'type': data_type, 'dataroot_gt': 'train/gt', 'dataroot_lq': 'train/lq',
                      'dataroot_flow': None, 'meta_info_file': 'meta_info.txt', 'val_partition': 'REDS4',
                      'test_mode': False, 'io_backend': {'type': 'disk'}, 'num_frame': frames, 'gt_size': size,
                      'interval_list': [1], 'random_reverse': False, 'use_hflip': True, 'use_rot': True,
                      'num_worker_per_gpu': 0, 'batch_size_per_gpu': 1, 'dataset_enlarge_ratio': 1,
                      'prefetch_mode': None},
            'val': test_set('val'), 'val_2': test_set('val_2'),
        },
        'network_g': network,
        'path': {'pretrain_network_g': None, 'strict_load_g': True, 'resume_state': None},
        'train': copy.deepcopy(TRAIN),
        'val': {'val_freq': 2, 'save_img': False,
                'metrics': {'psnr': {'type': 'calculate_psnr', 'crop_border': 0, 'test_y_channel': False}}},
        'logger': LOGGER, 'find_unused_parameters': True,
    }  # fmt: skip


def scores(name):
    """{validation set: {clip: PSNR}} in the log of a run."""
    (log,) = Path('experiments', name).glob('train_*.log')
    text = log.read_text()
    found = {}
    for block in re.findall(r'Validation (\w+)\n\t # psnr: [\d.]+((?:\t # \w+: [\d.]+)+)', text):
        found[block[0]] = {clip: float(value) for clip, value in re.findall(r'# (\w+): ([\d.]+)', block[1])}
    return found


BASICVSR = {'type': 'BasicVSR', 'num_feat': 8, 'num_block': 1, 'spynet_path': None}


def test_basicvsr_trains_and_validates_on_a_cpu(folder):
    data_types = 'REDSRecurrentDataset', 'VideoRecurrentTestDataset'
    options = video(folder, 'VideoRecurrentModel', BASICVSR, *data_types, 256, 2)
    options['train'] |= {'fix_flow': 1, 'flow_lr_mul': 0.125}
    assert run(options) == 0
    network = build_network(dict(BASICVSR)).eval()
    network.load_state_dict(trained('video'))
    found = scores('video')
    assert set(found['REDS4']) == {'000', '011'}
    assert set(found['Vid4']) == {'015'}
    for root, clips in (('val', found['REDS4']), ('val_2', found['Vid4'])):
        for clip, score in clips.items():
            gt, lq = (
                np.stack([cv2.imread(str(path)) for path in sorted((folder / root / kind / clip).iterdir())])
                for kind in ('gt', 'lq')
            )
            batch = torch.from_numpy(np.ascontiguousarray(lq[..., ::-1].transpose(0, 3, 1, 2)) / np.float32(255))
            with torch.no_grad():
                restored = network(batch[None])[0]
            each = [calculate_psnr(tensor2img(one), other, 0) for one, other in zip(restored, gt, strict=True)]
            assert score == pytest.approx(np.mean(each), abs=2e-4)


def test_edvr_trains_and_validates_on_a_cpu(folder):
    network = {'type': 'EDVR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_frame': 3, 'deformable_groups': 2,
               'num_extract_block': 1, 'num_reconstruct_block': 1, 'center_frame_idx': None, 'hr_in': False,
               'with_predeblur': False, 'with_tsa': True}  # fmt: skip
    options = video(folder, 'EDVRModel', network, 'REDSDataset', 'VideoTestDataset', 64, 3)
    options['train'] |= {'tsa_iter': 1, 'dcn_lr_mul': 0.5}
    assert run(options) == 0
    assert {name: set(clips) for name, clips in scores('video').items()} == {
        'REDS4': {'000', '011'}, 'Vid4': {'015'},
    }  # fmt: skip
    assert all(value.isfinite().all() for value in trained('video').values())
    del options['val']['metrics']
    assert run(options, '--force_yml', 'name=unscored') == 0


def test_the_clip_of_a_data_set_is_not_the_model_s_own(stock):
    """The toolbox takes the batch axis off again in place."""
    opt = {'name': 'x', 'model_type': 'VideoRecurrentModel', 'num_gpu': 0, 'is_train': False, 'dist': False,
           'network_g': dict(BASICVSR), 'path': {}}  # fmt: skip
    model = build_model(opt)
    for mended in (True, False):
        data = {'lq': torch.rand(1, 5, 3, 32, 32), 'gt': torch.rand(1, 5, 3, 128, 128)}
        if mended:
            model.feed_data(data)
        else:
            with stock():
                VideoRecurrentModel.feed_data(model, data)
        data['lq'].squeeze_(0)
        assert model.lq.dim() == (5 if mended else 4)


@pytest.mark.skipif(torch.cuda.is_available(), reason='the toolbox builds it where CUDA is')
def test_basicvsrpp_works_without_cuda():
    network = build_network({'type': 'BasicVSRPlusPlus', 'mid_channels': 16, 'num_blocks': 1, 'cpu_cache_length': 1})
    clip = torch.rand(1, 2, 3, 64, 64)
    result = network(clip)
    assert result.shape == (1, 2, 3, 256, 256)
    result.mean().backward()
    weights = network.deform_align['forward_2'].weight
    assert weights.grad is not None
    assert weights.grad.abs().max() > 0

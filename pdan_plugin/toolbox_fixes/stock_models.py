"""The toolbox's Real-ESRGAN and video models on any device: they named CUDA."""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from basicsr.archs.basicvsrpp_arch import BasicVSRPlusPlus
from basicsr.models.realesrgan_model import RealESRGANModel
from basicsr.models.realesrnet_model import RealESRNetModel
from basicsr.models.video_base_model import VideoBaseModel
from basicsr.models.video_recurrent_model import VideoRecurrentModel
from basicsr.utils import DiffJPEG, USMSharp, img_process_util
from torch import Tensor, nn
from torch.utils.data import DataLoader

from pdan_plugin.errors import RequestError
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped


@probe
def _names_no_cuda(*functions: Callable[..., Any]) -> bool:
    codes = [function.__code__ for function in functions]
    return not any('cuda' in (*code.co_names, *code.co_consts) for code in codes)


@fix(
    where='models/realesrnet_model.py:26,42; models/realesrgan_model.py:27,43',
    upstream='none',
    symptom='RealESRNetModel and RealESRGANModel on a CPU: AssertionError: Torch not compiled with CUDA enabled',
    behaves=lambda: _names_no_cuda(RealESRNetModel.__init__, RealESRGANModel.__init__),
)
def degradations_are_made_on_the_device() -> None:
    """The degradations and the pool of training pairs are on the model's device."""
    for owner in (RealESRNetModel, RealESRGANModel):
        replace(owner, '__init__', _build_on_the_device(owner))
        replace(owner, '_dequeue_and_enqueue', _with_a_pool_on_the_device(owner._dequeue_and_enqueue))


def _build_on_the_device(owner: Any) -> Callable[..., None]:
    def __init__(self: Any, opt: dict[str, Any]) -> None:
        super(owner, self).__init__(opt)
        self.jpeger = DiffJPEG(differentiable=False).to(self.device)
        self.usm_sharpener = USMSharp().to(self.device)
        self.queue_size = opt.get('queue_size', 180)

    return __init__


def _with_a_pool_on_the_device(published: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(published)
    def _dequeue_and_enqueue(self: Any) -> None:
        if not hasattr(self, 'queue_lr'):
            batch = len(self.lq)
            if self.queue_size % batch:
                text = f'queue_size: found {self.queue_size}; expected a multiple of the batch size {batch}'
                raise RequestError(text)
            self.queue_lr = self.lq.new_zeros(self.queue_size, *self.lq.shape[1:])
            self.queue_gt = self.gt.new_zeros(self.queue_size, *self.gt.shape[1:])
            self.queue_ptr = 0
        published(self)

    return _dequeue_and_enqueue


@fix(
    where='utils/img_process_util.py:29',
    upstream='none',
    symptom='Real-ESRGAN on a CPU: RuntimeError: view size is not compatible, for a picture in channels-last layout',
    behaves=lambda: _filters_any_layout(),
)
def pictures_of_any_layout_are_filtered() -> None:
    """On a CPU, padding keeps the channels-last layout, of which `filter2D` takes a view."""
    published = img_process_util.filter2D

    @functools.wraps(published)
    def filter2D(img: Tensor, kernel: Tensor) -> Tensor:
        return published(img.contiguous(), kernel)

    replace(img_process_util, 'filter2D', filter2D)


@probe
def _filters_any_layout() -> bool:
    picture = torch.zeros(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    img_process_util.filter2D(picture, torch.zeros(1, 3, 3))
    return True


@fix(
    where='models/video_base_model.py:22,33; models/video_recurrent_model.py:70,81',
    upstream='none',
    symptom='validation of EDVR or BasicVSR on a CPU: no CUDA; with a second validation set: KeyError, its folder',
    behaves=lambda: _names_no_cuda(VideoBaseModel.dist_validation, VideoRecurrentModel.dist_validation),
)
def video_scores_are_on_the_device() -> None:
    """The scores of each validation set are on the model's device. Also without `val: metrics`."""
    for owner in (VideoBaseModel, VideoRecurrentModel):
        replace(owner, 'dist_validation', _with_scores_on_the_device(owner.dist_validation))


def _with_scores_on_the_device(published: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(published)
    def dist_validation(self: Any, dataloader: DataLoader, *args: Any, **kwargs: Any) -> None:
        metrics = self.opt['val'].setdefault('metrics', None)
        if metrics is not None:
            frames = Counter(dataloader.dataset.data_info['folder'])  # pyright: ignore[reportAttributeAccessIssue]
            self.metric_results = {
                folder: torch.zeros(count, len(metrics), device=self.device) for folder, count in frames.items()
            }
        published(self, dataloader, *args, **kwargs)

    return dist_validation


@fix(
    where='models/video_recurrent_model.py:106',
    upstream='none',
    symptom='validation of BasicVSR on a CPU: not enough values to unpack, because the clip loses its batch axis',
    behaves=lambda: _keeps_its_own_axes(),
)
def clips_keep_their_batch_axis() -> None:
    """`dist_validation` removes the batch axis of the sample in place, which on a CPU is the model's own tensor."""
    published = VideoRecurrentModel.feed_data

    @functools.wraps(published)
    def feed_data(self: VideoRecurrentModel, data: dict[str, Any]) -> None:
        views = {key: value[:] if isinstance(value, Tensor) else value for key, value in data.items()}
        published(self, views)

    replace(VideoRecurrentModel, 'feed_data', feed_data)


@probe
def _keeps_its_own_axes() -> bool:
    model: Any = nn.Module()
    model.device, data = torch.device('cpu'), {'lq': torch.zeros(1, 2)}
    VideoRecurrentModel.feed_data(model, data)
    return model.lq is not data['lq']


@fix(
    where='archs/basicvsrpp_arch.py:72,285',
    upstream='none',
    symptom='BasicVSRPlusPlus on a CPU: KeyError: backward_1; a clip of more than 100 frames: no CUDA',
    is_called_for=lambda: not torch.cuda.is_available(),
    behaves=lambda: _names_no_cuda(BasicVSRPlusPlus.__init__),
)
def basicvsrpp_aligns_without_cuda() -> None:
    """Builds the alignment, which torchvision computes on any device, and never moves features to CUDA."""
    published = BasicVSRPlusPlus.__init__
    words = inspect.signature(published)

    @functools.wraps(published)
    def __init__(self: BasicVSRPlusPlus, *args: Any, **kwargs: Any) -> None:
        given = words.bind(self, *args, **kwargs)
        given.arguments['cpu_cache_length'] = float('inf')
        with _said_to_be_there():
            published(*given.args, **given.kwargs)

    replace(BasicVSRPlusPlus, '__init__', __init__)


def _said_to_be_there() -> AbstractContextManager[None]:
    return swapped(torch.cuda, is_available=lambda: True)

"""Results that are not finite, in the validation of the toolbox's models: they were shown, and scored, as black."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

import basicsr.metrics
import numpy as np
import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger, img_util
from torch import Tensor

from pdan_plugin.errors import WorkError
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped

_WHERE_NOT = 'not finite (NaN or infinite)'


class _Validation:
    """The validation that runs: whether in a training run, and the sample that its model was given last."""

    def __init__(self, *, is_train: bool) -> None:
        self.is_train = is_train
        self.sample: Mapping[str, Any] = {}

    def complaint(self) -> str:
        """Names the sample, and which of its pictures or its result has values that are not finite."""
        name = sample_name(self.sample)
        for key, what in (('lq', 'its input picture'), ('gt', 'its ground truth')):
            values = self.sample.get(key)
            if isinstance(values, Tensor) and not values.isfinite().all():
                return f'{name}: {what} has values that are {_WHERE_NOT}'
        return f'{name}: the network computes values that are {_WHERE_NOT}'


_running: ContextVar[_Validation | None] = ContextVar('running validation', default=None)


def sample_name(sample: Mapping[str, Any]) -> str:
    """The path of a sample's input, else of its ground truth, else its key or the folder of its clip."""
    for key in ('lq_path', 'gt_path', 'key', 'folder'):
        value = sample.get(key)
        while isinstance(value, (list, tuple)) and value:
            value = value[0]
        if isinstance(value, str) and value:
            return value
    return 'a result of the validation'


@fix(
    where='utils/img_util.py:92,115; models/sr_model.py:160; models/video_base_model.py:57',
    upstream='none',
    symptom='validation of a network that computes NaN: it is scored and written as a black picture, without a word',
    behaves=lambda: _refuses_what_is_not_finite(),
)
def undefined_results_are_named() -> None:
    """`tensor2img` raises a WorkError that names the sample. In a training run the sample's scores are nan instead, it
    is not written, and the log names it: its weights may recover, as in `RestorationModel`."""
    for name in ('tensor2img', 'tensor2img_fast'):
        replace(img_util, name, _finite_alone(getattr(img_util, name)))
    replace(img_util, 'imwrite', _without_undefined(img_util.imwrite))
    replace(basicsr.metrics, 'calculate_metric', _nan_for_undefined(basicsr.metrics.calculate_metric))
    replace(BaseModel, 'validation', _with_known_sample(BaseModel.validation))


def _finite_alone(published: Callable[..., Any]) -> Callable[..., Any]:
    words = inspect.signature(published)

    @functools.wraps(published)
    def shown(*args: Any, **kwargs: Any) -> Any:
        given = words.bind(*args, **kwargs)
        given.apply_defaults()
        tensors = given.arguments['tensor']
        each = tensors if isinstance(tensors, list) else [tensors]
        whole = np.issubdtype(given.arguments.get('out_type', np.uint8), np.integer)
        if not whole or all(one.isfinite().all() for one in each if isinstance(one, Tensor)):
            return published(*args, **kwargs)
        validation = _running.get()
        if validation is None or not validation.is_train:
            raise WorkError(
                f'{validation.complaint() if validation else f"a tensor to be shown as a picture is {_WHERE_NOT}"}, '
                'and would be shown as black; expected finite values: if its pictures are, the weights are damaged, '
                'so take those of an earlier iteration (path: pretrain_network_g)'
            )
        get_root_logger().warning(f'{validation.complaint()}; scored as nan, and not written.')
        zeros = [torch.zeros_like(one) for one in each]
        pictures = published(zeros if isinstance(tensors, list) else zeros[0], *args[1:], **_without_tensor(kwargs))
        return [_undefined(one) for one in pictures] if isinstance(pictures, list) else _undefined(pictures)

    return shown


def _without_tensor(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != 'tensor'}


def _undefined(picture: np.ndarray) -> np.ndarray:
    """A picture of this size that holds nan alone, which no result in whole numbers does."""
    return np.full(picture.shape, math.nan, np.float32)


def _is_undefined(picture: Any) -> bool:
    return isinstance(picture, np.ndarray) and picture.dtype == np.float32 and bool(np.isnan(picture).all())


def _without_undefined(published: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(published)
    def imwrite(img: np.ndarray, *args: Any, **kwargs: Any) -> Any:
        if _running.get() is not None and _is_undefined(img):
            return None
        return published(img, *args, **kwargs)

    return imwrite


def _nan_for_undefined(published: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(published)
    def calculate_metric(data: Mapping[str, Any], opt: Mapping[str, Any]) -> Any:
        if _running.get() is not None and any(_is_undefined(data.get(key)) for key in ('img', 'img2')):
            return math.nan
        return published(data, opt)

    return calculate_metric


def _with_known_sample(published: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(published)
    def validation(self: Any, *args: Any, **kwargs: Any) -> None:
        running, feed_data = _Validation(is_train=bool(self.opt['is_train'])), self.feed_data

        def noted(data: Mapping[str, Any], *others: Any, **words: Any) -> Any:
            running.sample = data
            return feed_data(data, *others, **words)

        token = _running.set(running)
        try:
            with swapped(self, feed_data=noted):
                published(self, *args, **kwargs)
        finally:
            _running.reset(token)

    return validation


@probe
def _refuses_what_is_not_finite() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of NumPy, about the cast of nan
        try:
            img_util.tensor2img(torch.full((1, 3, 2, 2), math.nan))
            return False
        except WorkError:
            return True

"""The data set of blurred, sharp and small sharp frames of REDS, or of any set with its layout."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import cv2
import numpy as np
import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils.registry import DATASET_REGISTRY
from torch import Tensor
from torch.utils.data import Dataset

from pdan_plugin.data.augmentation import Draws, draw, turn
from pdan_plugin.data.degradation import DegradationDraws, LQDegradation
from pdan_plugin.data.paired_frames import Crop, PairedFrames
from pdan_plugin.data.source_mixing import MixingSampler, whole_weights
from pdan_plugin.errors import RequestError

_LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)


@dataclass(frozen=True)
class _Chosen:
    """One sample before it is read; ``draws`` is None for a whole frame."""

    source: PairedFrames
    crop: Crop
    draws: Draws | None
    degradation: DegradationDraws | None


@DATASET_REGISTRY.register()
class REDSPairedDataset(Dataset[dict[str, Any]]):
    """One sample per frame: ``lq`` and ``lq_sharp`` (3, h, w), ``gt`` (3, scale*h, scale*w), float32 RGB in [0, 1].

    ``lq_path`` and ``gt_path`` are the data root and the frame's key, so they end in ``CLIP/FRAME`` and are unique
    across sources. In training a sample is a crop; all three pictures get the same augmentation (`augmentation.draw`).
    Otherwise it is the whole frame. Files are opened in the worker that reads them.

    Without ``dataroot_lq_sharp``, ``lq_sharp`` is computed from the HR crop and a margin. It equals the crop of
    MATLAB's bicubic of the whole HR frame, rounded to 8 bit.

    Args:
        opt: The data set's options, with the toolbox's own (``name``, ``phase``, ``scale``) and
            ``dataroot_gt``, ``dataroot_lq``, ``dataroot_lq_sharp`` (optional): stores (``....lmdb``), REDS's own
            folders of clips, or folders of PNG pictures of the same names; or
            ``sources``: a list of such triples, read as one set; a ``weight`` in each mixes them in that ratio,
            independent of their sizes; without it every frame is equally likely; an ``io_backend`` in one is for
            that source alone;
            ``io_backend``: ``{type: lmdb}`` or ``{type: disk}``;
            ``frames``: ``all`` (default) or ``val300``, frames 9, 19, ..., 99 of each clip;
            in training ``gt_size``, and ``use_hflip``, ``use_rot``, ``use_brightness`` (default: off);
            ``degradation``: noise, JPEG and other resampling, on ``lq`` only (`degradation.LQDegradation`); outside
            training its draws are the same at every reading;
            ``manual_seed``: default 0; the trainer sets the run's.

    Raises:
        RequestError: Missing data, pictures without partner, a scale that does not fit, a crop that does not fit.
    """

    @property
    def draws_from_sample_index(self) -> bool:
        """For the loader: all draws depend only on the index, so no generator has to be seeded for a sample.

        False for a subclass that overrides ``__getitem__``, because it may use the generators.
        """
        return type(self).__getitem__ is REDSPairedDataset.__getitem__

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self._label = f'data set {opt.get("name", "REDSPairedDataset")!r}'
        self._scale = int(opt['scale'])
        self._train = opt['phase'] == 'train'
        self._seed = int(opt.get('manual_seed') or 0)
        self._sources = [PairedFrames(roots, self._label, opt) for roots in self._roots()]
        self._ends = list(accumulate(len(source.keys) for source in self._sources))
        self._weights = self._checked_weights()
        degradation = opt.get('degradation')
        self._degradation = None if degradation is None else LQDegradation(degradation, self._label, self._scale)
        if self._train:
            self._gt_size = self._checked_gt_size()
        for source in self._sources:
            source.check_sizes(self._gt_size if self._train else 1)

    def __len__(self) -> int:
        return self._ends[-1]

    def frames(self) -> list[tuple[str, str]]:
        """(``lq_path``, its data root) of every sample in order; no picture is read."""
        return [(f'{source.lq_root}/{key}', source.lq_root) for source in self._sources for key in source.keys]

    def check_frames(self) -> dict[tuple[int, int], str]:
        """Opens every frame that is in a folder, for the check before a run; stores list their sizes.

        Returns:
            (height, width) of the ground truth -> the first frame that has it.

        Raises:
            RequestError: A frame cannot be read, or its sizes do not fit.
        """
        found: dict[tuple[int, int], str] = {}
        for source in self._sources:
            found = source.check_sizes(self._gt_size if self._train else 1, of_all=True) | found
        return found

    def training_sampler(self, num_replicas: int, rank: int, ratio: float) -> EnlargedSampler:
        """The sampler for the trainer: the toolbox's, or one that keeps the sources' weights."""
        if self._weights is None:
            return EnlargedSampler(self, num_replicas, rank, ratio)
        sizes = [len(source.keys) for source in self._sources]
        return MixingSampler(
            self, sizes, self._weights, num_replicas=num_replicas, rank=rank, ratio=ratio, seed=self._seed
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample; in training ``index`` may be a `SampleIndex`: the draws depend on its epoch and repeat."""
        return self._read([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch's samples; torch's loader calls it. The system starts to load all of them before one is read."""
        if type(self).__getitem__ is not REDSPairedDataset.__getitem__:  # a subclass may change the samples
            return [self[index] for index in indices]
        return self._read(indices)

    def _read(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        chosen = [self._choose(index) for index in indices]
        for each in chosen:
            each.source.expect(each.crop)
        return [self._sample(each) for each in chosen]

    def _choose(self, index: int) -> _Chosen:
        """The sample's frame, its crop and its draws."""
        position = range(len(self))[int(index)]
        number = bisect_right(self._ends, position)
        source = self._sources[number]
        key = source.keys[position - (self._ends[number - 1] if number else 0)]
        lq_height, lq_width = source.checked_lq_size(key)
        place = {
            'seed': self._seed,
            'epoch': getattr(index, 'epoch', 0) if self._train else 0,
            'repeat': getattr(index, 'repeat', 0) if self._train else 0,
            'index': position,
        }
        degradation = None if self._degradation is None else self._degradation.draw(**place)
        if not self._train:
            return _Chosen(source, Crop(key, 0, 0, lq_height, lq_width), None, degradation)
        size = self._gt_size // self._scale
        if min(lq_height, lq_width) < size:
            raise RequestError(
                f'{self._label}: gt_size {self._gt_size} is larger than frame {key} of {source.gt_root} '
                f'({lq_width * self._scale}x{lq_height * self._scale})'
            )
        draws = draw(
            **place,
            places=(lq_height - size + 1, lq_width - size + 1),
            use_hflip=self.opt.get('use_hflip', False),
            use_rot=self.opt.get('use_rot', False),
            use_brightness=self.opt.get('use_brightness', False),
        )
        return _Chosen(source, Crop(key, draws.top, draws.left, size, size), draws, degradation)

    def _sample(self, chosen: _Chosen) -> dict[str, Any]:
        source, crop, draws = chosen.source, chosen.crop, chosen.draws
        pictures = source.read(crop)
        gain = 1.0
        if draws is not None:
            pictures = tuple(turn(picture, draws) for picture in pictures)
            gain = draws.brightness
        lq, gt, lq_sharp = pictures
        if self._degradation is not None and chosen.degradation is not None:
            lq = self._degradation.apply(lq, chosen.degradation)
        return {
            'lq': _tensor(lq, gain),
            'gt': _tensor(gt, gain),
            'lq_sharp': _tensor(lq_sharp, gain),
            'lq_path': f'{source.lq_root}/{crop.key}',
            'gt_path': f'{source.gt_root}/{crop.key}',
        }

    def _roots(self) -> list[Mapping[str, Any]]:
        given = self.opt.get('sources')
        if given is None:
            return [self.opt]
        if self.opt.get('dataroot_gt') or self.opt.get('dataroot_lq') or self.opt.get('dataroot_lq_sharp'):
            raise RequestError(f'{self._label}: give either dataroot_gt and its partners or sources, not both')
        sources = cast('Sequence[Any]', given if isinstance(given, list | tuple) else ())
        if not sources or not all(isinstance(one, Mapping) for one in sources):
            raise RequestError(f'{self._label}: sources must be a list of entries with dataroot_gt and dataroot_lq')
        return list(sources)

    def _checked_weights(self) -> list[int] | None:
        given = [roots.get('weight') for roots in self._roots()]
        weights = [weight for weight in given if isinstance(weight, int | float) and not isinstance(weight, bool)]
        if given == [None] * len(given):
            return None
        if len(weights) < len(given):
            raise RequestError(
                f'{self._label}: sources: every source needs a weight, a number above zero, or none of them; '
                f'got {", ".join(repr(weight) for weight in given)}'
            )
        try:
            return whole_weights(weights)
        except ValueError as error:
            raise RequestError(f'{self._label}: sources: {error}') from error

    def _checked_gt_size(self) -> int:
        gt_size = self.opt.get('gt_size')
        if not isinstance(gt_size, int) or gt_size < 1:
            raise RequestError(
                f'{self._label}: training needs gt_size, the side of the HR crop in pixels (256), got {gt_size!r}'
            )
        if gt_size % self._scale:
            raise RequestError(f'{self._label}: gt_size {gt_size} is not a multiple of the scale {self._scale}')
        return gt_size


def _tensor(picture: np.ndarray, gain: float) -> Tensor:
    """(h, w, 3) uint8 to (3, h, w) float32 in [0, 1], made brighter by the gain and clipped."""
    height, width, channels = picture.shape
    planes = np.empty((channels, height, width), np.uint8)
    cv2.split(picture, list(planes))
    # One table look-up replaces division, gain and clipping, with exactly the same results.
    levels = _LEVELS if gain == 1.0 else np.minimum(_LEVELS * np.float32(gain), np.float32(1))
    rows = planes.reshape(channels * height, width)  # pyright: ignore[reportUnknownMemberType]
    return torch.from_numpy(cv2.LUT(rows, levels).reshape(planes.shape))  # pyright: ignore[reportUnknownMemberType]

"""Blurred, sharp and small sharp frames of REDS, or of any set laid out like it, for training and testing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data.data_sampler import EnlargedSampler
from basicsr.utils.registry import DATASET_REGISTRY
from torch import Tensor
from torch.utils.data import Dataset

from pdan_plugin.data.augmentation import Draws, draw, turn
from pdan_plugin.data.frame_sources import FrameFolder, Frames
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.reds_layout import is_val300
from pdan_plugin.data.source_mixing import MixingSampler, whole_weights
from pdan_plugin.errors import RequestError
from pdan_plugin.synthesis.bicubic import downsample_uint8

_NAMED = 10  # missing frames told by name
_LEVELS = np.arange(256, dtype=np.float32) / np.float32(255)


@DATASET_REGISTRY.register()  # pyright: ignore[reportOptionalCall]
class REDSPairedDataset(Dataset):
    """A sample a frame: ``lq`` (3, h, w), ``gt`` (3, scale*h, scale*w), ``lq_sharp`` (3, h, w), float32 RGB in [0, 1].

    ``lq_path`` and ``gt_path`` are the data root and the frame's key, so they end in ``CLIP/FRAME`` and are unique over
    several sources. In training a sample is a crop, augmented alike in all three pictures (`augmentation.draw`);
    otherwise it is the whole frame. Files are opened where they are read, in the worker.

    Without ``dataroot_lq_sharp``, ``lq_sharp`` is MATLAB's bicubic of the whole HR frame, rounded to 8 bit: a crop of
    it, computed from the crop of the HR frame and a margin.

    Args:
        opt: The data set's options, with the toolbox's own (``name``, ``phase``, ``scale``) and
            ``dataroot_gt``, ``dataroot_lq``, ``dataroot_lq_sharp`` (optional): stores (``....lmdb``) or REDS's own
            folders of clips; or
            ``sources``: a list of such triples, read as one set; a ``weight`` in each mixes them in that ratio whatever
            their sizes, without it every frame is as likely as any other;
            ``io_backend``: ``{type: lmdb}`` or ``{type: disk}``;
            ``frames``: ``all`` (default) or ``val300``, frames 9, 19, ..., 99 of each clip;
            in training ``gt_size`` and, off where absent, ``use_hflip``, ``use_rot``, ``use_brightness``;
            ``manual_seed``: 0 where absent; the trainer fills in the run's.

    Raises:
        RequestError: Missing data, pictures without partner, a scale that does not fit, a crop that does not fit.
    """

    # For the loader: every draw hangs on the index alone, so no random generator has to be seeded for a sample.
    draws_from_sample_index = True

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        self._label = f'data set {opt.get("name", "REDSPairedDataset")!r}'
        self._scale = int(opt['scale'])
        self._train = opt['phase'] == 'train'
        self._seed = int(opt.get('manual_seed') or 0)
        self._sources = [_Source(roots, self._label, opt) for roots in self._roots()]
        self._ends = list(accumulate(len(source.keys) for source in self._sources))
        self._weights = self._checked_weights()
        if self._train:
            self._gt_size = self._checked_gt_size()
        for source in self._sources:
            source.check_sizes(self._gt_size if self._train else 1)

    def __len__(self) -> int:
        return self._ends[-1]

    def training_sampler(self, num_replicas: int, rank: int, ratio: float) -> EnlargedSampler:
        """The sampler the trainer is to use: the toolbox's own, or one that keeps the sources' weights."""
        if self._weights is None:
            return EnlargedSampler(self, num_replicas, rank, ratio)  # pyright: ignore[reportArgumentType]
        sizes = [len(source.keys) for source in self._sources]
        return MixingSampler(
            self, sizes, self._weights, num_replicas=num_replicas, rank=rank, ratio=ratio, seed=self._seed
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        """A sample; in training ``index`` may be a `SampleIndex`, whose epoch and repeat go into the draws."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """A batch's samples: torch's loader asks for them at once, and all are being fetched before the first is read."""
        crops = [self._crop(index) for index in indices]
        for crop in crops:
            crop.source.expect(crop)
        return [self._sample(crop) for crop in crops]

    def _crop(self, index: int) -> _Crop:
        """What of which frame the sample is, by the draws of its index."""
        position = range(len(self))[int(index)]
        number = bisect_right(self._ends, position)
        source = self._sources[number]
        key = source.keys[position - (self._ends[number - 1] if number else 0)]
        lq_height, lq_width = source.checked_lq_size(key)
        if not self._train:
            return _Crop(source, key, 0, 0, lq_height, lq_width, None)
        size = self._gt_size // self._scale
        if min(lq_height, lq_width) < size:
            raise RequestError(
                f'{self._label}: gt_size {self._gt_size} is larger than frame {key} of {source.gt_root} '
                f'({lq_width * self._scale}x{lq_height * self._scale})'
            )
        draws = draw(
            seed=self._seed,
            epoch=getattr(index, 'epoch', 0),
            repeat=getattr(index, 'repeat', 0),
            index=position,
            places=(lq_height - size + 1, lq_width - size + 1),
            use_hflip=self.opt.get('use_hflip', False),
            use_rot=self.opt.get('use_rot', False),
            use_brightness=self.opt.get('use_brightness', False),
        )
        return _Crop(source, key, draws.top, draws.left, size, size, draws)

    def _sample(self, crop: _Crop) -> dict[str, Any]:
        pictures = crop.source.read(crop)
        gain = 1.0
        if crop.draws is not None:
            pictures = tuple(turn(picture, crop.draws) for picture in pictures)
            gain = crop.draws.brightness
        lq, gt, lq_sharp = (_tensor(picture, gain) for picture in pictures)
        return {
            'lq': lq,
            'gt': gt,
            'lq_sharp': lq_sharp,
            'lq_path': f'{crop.source.lq_root}/{crop.key}',
            'gt_path': f'{crop.source.gt_root}/{crop.key}',
        }

    def _roots(self) -> list[Mapping[str, Any]]:
        sources = self.opt.get('sources')
        if sources is None:
            return [self.opt]
        if self.opt.get('dataroot_gt') or self.opt.get('dataroot_lq') or self.opt.get('dataroot_lq_sharp'):
            raise RequestError(f'{self._label}: give either dataroot_gt and its partners or sources, not both')
        if not isinstance(sources, list | tuple) or not sources or not all(isinstance(one, Mapping) for one in sources):
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
                f'got {", ".join(str(weight) for weight in given)}'
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


@dataclass(frozen=True)
class _Crop:
    """A sample's part of a frame, in LR pixels, and its draws (None where it is the whole frame)."""

    source: _Source
    key: str
    top: int
    left: int
    height: int
    width: int
    draws: Draws | None


class _Source:
    """One triple of data roots: which frames it has, and their pictures."""

    def __init__(self, roots: Mapping[str, Any], label: str, opt: Mapping[str, Any]) -> None:
        self._label = label
        self._scale = int(opt['scale'])
        for name in ('dataroot_gt', 'dataroot_lq'):
            if not roots.get(name):
                raise RequestError(f'{label}: {name} is missing')
        backend = (opt.get('io_backend') or {}).get('type')
        if backend not in ('lmdb', 'disk'):
            raise RequestError(f'{label}: io_backend must be {{type: lmdb}} or {{type: disk}}, got type {backend!r}')
        self.gt_root = str(roots['dataroot_gt']).rstrip('/')
        self.lq_root = str(roots['dataroot_lq']).rstrip('/')
        self._gt = _open(self.gt_root, 'dataroot_gt', backend, label)
        self._lq = _open(self.lq_root, 'dataroot_lq', backend, label)
        sharp_root = roots.get('dataroot_lq_sharp')
        self._lq_sharp = _open(str(sharp_root).rstrip('/'), 'dataroot_lq_sharp', backend, label) if sharp_root else None
        frames = opt.get('frames', 'all')
        if frames not in ('all', 'val300'):
            raise RequestError(f"{label}: frames must be 'all' or 'val300', got {frames!r}")
        self.keys = self._chosen(self._gt, frames)
        if not self.keys:
            raise RequestError(f'{label}: no frames of {frames} in {self.gt_root}')
        self._check_same_keys(self._lq, self.lq_root, frames)
        if self._lq_sharp is not None:
            self._check_same_keys(self._lq_sharp, str(sharp_root), frames)

    def expect(self, crop: _Crop) -> None:
        """`read` of this crop will follow: what of it lies in stores begins to be fetched from the disk."""
        scale = self._scale
        for frames, top, height in (
            (self._gt, crop.top * scale, crop.height * scale),
            (self._lq, crop.top, crop.height),
            (self._lq_sharp, crop.top, crop.height),
        ):
            if isinstance(frames, FrameStore):
                frames.expect_crop(crop.key, top, height)

    def read(self, crop: _Crop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(lq, gt, lq_sharp), (h, w, 3) uint8 RGB."""
        key, top, left, height, width = crop.key, crop.top, crop.left, crop.height, crop.width
        scale = self._scale
        lq = self._lq.read_crop(key, top, left, height, width)
        inside = (top * scale, left * scale, height * scale, width * scale)
        if self._lq_sharp is not None:
            return lq, self._gt.read_crop(key, *inside), self._lq_sharp.read_crop(key, top, left, height, width)
        # The kernel reaches 1.5 LR pixels beyond the crop: two are read, fewer only where the frame itself ends.
        full_height, full_width, _ = self._lq.shape(key)
        first_row, first_column = max(0, top - 2), max(0, left - 2)
        rows = min(full_height, top + height + 2) - first_row
        columns = min(full_width, left + width + 2) - first_column
        around = self._gt.read_crop(key, first_row * scale, first_column * scale, rows * scale, columns * scale)
        small = downsample_uint8(around, scale)
        row, column = top - first_row, left - first_column
        gt = around[row * scale : (row + height) * scale, column * scale : (column + width) * scale]
        return lq, np.ascontiguousarray(gt), np.ascontiguousarray(small[row : row + height, column : column + width])

    def checked_lq_size(self, key: str) -> tuple[int, int]:
        """(height, width) of the LR frame, once its partners are known to fit it."""
        scale = self._scale
        lq, gt = self._lq.shape(key), self._gt.shape(key)
        if (lq[0] * scale, lq[1] * scale) != gt[:2]:
            raise RequestError(
                f'{self._label}: frame {key} is {gt[1]}x{gt[0]} in {self.gt_root} and {lq[1]}x{lq[0]} in '
                f'{self.lq_root}; '
                f'at scale {scale} the first must be {lq[1] * scale}x{lq[0] * scale}'
            )
        if self._lq_sharp is not None and self._lq_sharp.shape(key) != lq:
            sharp = self._lq_sharp.shape(key)
            raise RequestError(
                f'{self._label}: frame {key} is {lq[1]}x{lq[0]} in {self.lq_root} but {sharp[1]}x{sharp[0]} '
                'in dataroot_lq_sharp'
            )
        return lq[0], lq[1]

    def check_sizes(self, gt_size: int) -> None:
        """Check every frame of a store, whose sizes are listed, and the first of a folder, where each costs a file."""
        for key in self.keys if isinstance(self._gt, FrameStore) else self.keys[:1]:
            height, width = self.checked_lq_size(key)
            if min(height, width) * self._scale < gt_size:
                raise RequestError(
                    f'{self._label}: gt_size {gt_size} is larger than frame {key} of {self.gt_root} '
                    f'({width * self._scale}x{height * self._scale})'
                )

    def _check_same_keys(self, other: Frames, root: str, frames: str) -> None:
        keys = self._chosen(other, frames)
        if keys == self.keys:
            return
        for holder, lacking, missing in (
            (self.gt_root, root, set(self.keys) - set(keys)),
            (root, self.gt_root, set(keys) - set(self.keys)),
        ):
            if missing:
                named = ', '.join(sorted(missing)[:_NAMED])
                more = f' and {len(missing) - _NAMED} more' if len(missing) > _NAMED else ''
                raise RequestError(f'{self._label}: {holder} has frames that {lacking} lacks: {named}{more}')

    @staticmethod
    def _chosen(frames: Frames, which: str) -> list[str]:
        return [key for key in frames.keys if is_val300(key)] if which == 'val300' else frames.keys


def _open(root: str, option: str, backend: str, label: str) -> Frames:
    path = Path(root)
    if not path.exists():
        made = 'makes the stores' if backend == 'lmdb' else 'makes stores, to be read with io_backend: {type: lmdb}'
        optional = (
            '; without dataroot_lq_sharp the pictures are made while reading' if option == 'dataroot_lq_sharp' else ''
        )
        raise RequestError(
            f'{label}: {option} {root} does not exist (looked for from the working folder). '
            f"`python scripts/prepare_reds.py SOURCE {path.parent}` {made}, where SOURCE holds REDS's folders "
            f'or zips{optional}'
        )
    is_store = (path / 'data.mdb').exists()
    if backend == 'lmdb':
        if not is_store:
            raise RequestError(
                f'{label}: {option} {root} is not an LMDB store; `python scripts/prepare_reds.py SOURCE '
                'TARGET` makes one, '
                'and io_backend: {type: disk} reads a folder of clips'
            )
        return FrameStore(path)
    if is_store:
        raise RequestError(f'{label}: {option} {root} is an LMDB store; set io_backend: {{type: lmdb}}')
    inner = path / 'X4'  # REDS keeps its small frames one folder deeper
    return FrameFolder(inner if inner.is_dir() else path)


def _tensor(picture: np.ndarray, gain: float) -> Tensor:
    """(h, w, 3) uint8 to (3, h, w) float32 in [0, 1], made brighter by the gain and clipped."""
    height, width, channels = picture.shape
    planes = np.empty((channels, height, width), np.uint8)
    cv2.split(picture, list(planes))
    # One look-up does the division, the gain and the clipping, and gives the very numbers they give.
    levels = _LEVELS if gain == 1.0 else np.minimum(_LEVELS * np.float32(gain), np.float32(1))
    return torch.from_numpy(cv2.LUT(planes.reshape(channels * height, width), levels).reshape(planes.shape))

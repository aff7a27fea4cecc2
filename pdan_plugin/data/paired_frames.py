"""Reads the three pictures of a frame, or crops of them: sharp, small blurred and small sharp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from pdan_plugin.data.frame_sources import FrameFolder, Frames
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.data.reds_layout import is_val300
from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.synthesis.bicubic import downsample_uint8


@dataclass(frozen=True)
class Crop:
    """A part of a frame, in LR pixels."""

    key: str
    top: int
    left: int
    height: int
    width: int


class PairedFrames:
    """The frames of one triple of data roots, read by its own ``io_backend`` or by that of the data set."""

    def __init__(self, roots: Mapping[str, Any], label: str, opt: Mapping[str, Any]) -> None:
        self._label = label
        self._scale = int(opt['scale'])
        for name in ('dataroot_gt', 'dataroot_lq'):
            if not roots.get(name):
                raise RequestError(f'{label}: {name} is missing')
        io_backend: object = roots.get('io_backend') or opt.get('io_backend') or {}
        backend = cast('Mapping[str, object]', io_backend).get('type') if isinstance(io_backend, Mapping) else None
        if backend not in ('lmdb', 'disk'):
            given = f'type {backend!r}' if isinstance(io_backend, Mapping) else repr(io_backend)
            raise RequestError(f'{label}: io_backend must be {{type: lmdb}} or {{type: disk}}, got {given}')
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

    def expect(self, crop: Crop) -> None:
        """Announce a `read` of this crop, so that the system starts to load it from the stores."""
        scale = self._scale
        for frames, top, height in (
            (self._gt, crop.top * scale, crop.height * scale),
            (self._lq, crop.top, crop.height),
            (self._lq_sharp, crop.top, crop.height),
        ):
            if isinstance(frames, FrameStore):
                frames.expect_crop(crop.key, top, height)

    def read(self, crop: Crop) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(lq, gt, lq_sharp), (h, w, 3) uint8 RGB."""
        key, top, left, height, width = crop.key, crop.top, crop.left, crop.height, crop.width
        scale = self._scale
        lq = self._lq.read_crop(key, top, left, height, width)
        inside = (top * scale, left * scale, height * scale, width * scale)
        if self._lq_sharp is not None:
            return lq, self._gt.read_crop(key, *inside), self._lq_sharp.read_crop(key, top, left, height, width)
        # The kernel reaches 1.5 LR pixels beyond the crop, so two are read on each side, fewer at the frame's edge.
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
        """(height, width) of the LR frame; raises RequestError if its partners do not fit."""
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

    def check_sizes(self, gt_size: int, *, of_all: bool = False) -> dict[tuple[int, int], str]:
        """Check every frame of a store, which lists its sizes, but only the first of a folder, to open one file.

        With ``of_all`` every frame of a folder is opened too.

        Returns:
            (height, width) of the ground truth -> the first frame that has it.
        """
        found: dict[tuple[int, int], str] = {}
        for key in self.keys if of_all or isinstance(self._gt, FrameStore) else self.keys[:1]:
            height, width = self.checked_lq_size(key)
            if min(height, width) * self._scale < gt_size:
                raise RequestError(
                    f'{self._label}: gt_size {gt_size} is larger than frame {key} of {self.gt_root} '
                    f'({width * self._scale}x{height * self._scale})'
                )
            found.setdefault((height * self._scale, width * self._scale), f'{self.gt_root}, frame {key}')
        return found

    def _check_same_keys(self, other: Frames, root: str, frames: str) -> None:
        keys = self._chosen(other, frames)
        if keys == self.keys:
            return
        for holder, lacking, missing in (
            (self.gt_root, root, set(self.keys) - set(keys)),
            (root, self.gt_root, set(keys) - set(self.keys)),
        ):
            if missing:
                named = some_of(sorted(missing))
                raise RequestError(f'{self._label}: {holder} has frames that {lacking} lacks: {named}')

    @staticmethod
    def _chosen(frames: Frames, which: str) -> list[str]:
        return [key for key in frames.keys if is_val300(key)] if which == 'val300' else frames.keys


def _open(root: str, option: str, backend: str, label: str) -> Frames:
    path = Path(root)
    if not path.exists():
        made = 'makes the stores' if backend == 'lmdb' else 'makes stores, to be read with io_backend: {type: lmdb}'
        optional = (
            '; without dataroot_lq_sharp these frames are computed while reading'
            if option == 'dataroot_lq_sharp'
            else ''
        )
        raise RequestError(
            f'{label}: {option} {root} does not exist (looked for from the working folder). '
            f"`basicsr prepare-reds SOURCE {path.parent}` {made}, where SOURCE holds REDS's folders "
            f'or zips{optional}'
        )
    is_store = (path / 'data.mdb').exists()
    if backend == 'lmdb':
        if not is_store:
            raise RequestError(
                f'{label}: {option} {root} is not an LMDB store; `basicsr prepare-reds SOURCE '
                'TARGET` makes one, '
                'and io_backend: {type: disk} reads a folder of clips'
            )
        return FrameStore(path)
    if is_store:
        raise RequestError(f'{label}: {option} {root} is an LMDB store; set io_backend: {{type: lmdb}}')
    inner = path / 'X4'  # REDS keeps its small frames one folder deeper
    return FrameFolder(inner if inner.is_dir() else path, plain=True)

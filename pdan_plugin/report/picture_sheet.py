"""A picture sheet with scores: LR, bicubic, results and ground truth side by side.

Pictures are (h, w, 3) uint8 RGB. Scores follow REDS's convention: RGB, no border cropped, the mean over the frames'
scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from basicsr.metrics import calculate_psnr, calculate_ssim
from tqdm import tqdm

from pdan_plugin.data.frame_sources import FrameFolder, Frames
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.files.json_files import json_safe
from pdan_plugin.media.picture_files import PictureFileError, read_as_shown
from pdan_plugin.report.detail_box import contours, fullest_box
from pdan_plugin.synthesis.bicubic import imresize

BICUBIC = 'bicubic'

_CELL_WIDTH = 320
_GAP = 8
_LINE = 26
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_PAPER, _INK, _FRAME_COLOUR = 255, (0, 0, 0), (255, 220, 0)


@dataclass
class Scores:
    """PSNR (dB) and SSIM of every frame for every method, ``bicubic`` first.

    Attributes:
        psnr: method -> key ``CLIP/FRAME`` -> value.
        ssim: Likewise.
    """

    psnr: dict[str, dict[str, float]] = field(default_factory=dict)
    ssim: dict[str, dict[str, float]] = field(default_factory=dict)

    def mean(self, method: str) -> tuple[float, float]:
        """(PSNR, SSIM) over all frames."""
        return float(np.mean(list(self.psnr[method].values()))), float(np.mean(list(self.ssim[method].values())))

    def gain(self, method: str) -> float:
        """Mean PSNR above bicubic's, in dB."""
        return self.mean(method)[0] - self.mean(BICUBIC)[0]

    def table(self) -> str:
        """A table of the means as text."""
        width = max(map(len, self.psnr))
        lines = [f'{"":{width}}   PSNR    SSIM   against bicubic']
        for method in self.psnr:
            psnr, ssim = self.mean(method)
            gain = '' if method == BICUBIC else f'   {self.gain(method):+.2f} dB'
            lines.append(f'{method:{width}}  {psnr:5.2f}  {ssim:.4f}{gain}')
        return '\n'.join([*lines, f'mean over {len(self.psnr[BICUBIC])} frames, RGB, no border cropped'])

    def as_json(self) -> dict:
        """Means, gains and all frames' values for ``json.dump``; the PSNR of equal pictures is "Infinity"."""
        methods = {}
        for method in self.psnr:
            psnr, ssim = self.mean(method)
            methods[method] = {'psnr': psnr, 'ssim': ssim, 'gain_db': self.gain(method)}
        return json_safe({'frames': len(self.psnr[BICUBIC]), 'mean': methods, 'psnr': self.psnr, 'ssim': self.ssim})


class ComparedFrames:
    """The same frames from several sources, checked for completeness before the first is read.

    Args:
        lr: A store (``.lmdb``) or a folder of clips: the input frames.
        gt: A store or folder of clips: the ground truth.
        results: Name -> folder of ``CLIP_FRAME.png``, as ``basicsr test`` writes them.
        keys: The frames to compare; None for all.

    Raises:
        RequestError: A source or one of its frames is missing, or LR and ground truth hold different frames. Reading
            also raises it if sizes do not fit.
    """

    def __init__(self, lr: Path, gt: Path, results: Mapping[str, Path], *, keys: Sequence[str] | None = None) -> None:
        self.lr_path, self.gt_path = lr, gt
        self.lr, self.gt = _open(lr), _open(gt)
        self.results = dict(results)
        self.keys = list(self.gt.keys if keys is None else keys)
        _check_complete(self.keys, set(self.lr.keys), f'{lr} (input of {gt})')
        _check_complete(self.lr.keys if keys is None else keys, set(self.gt.keys), f'{gt} (ground truth of {lr})')
        for name, folder in self.results.items():
            if name == BICUBIC:
                raise RequestError(f'{BICUBIC} is always shown; choose another name for the result in {folder}')
            if not folder.is_dir():
                raise RequestError(
                    f'{folder}: no such folder (the result {name}); basicsr test writes it '
                    'as results/NAME/visualization/DATASET if save_img is true'
                )
            there = {path.stem for path in folder.glob('*.png')}
            _check_complete([_result_name(key) for key in self.keys], there, f'{folder} (the result {name})')

    def read(self, key: str) -> dict[str, np.ndarray]:
        """``LR`` (at its own size), then ``bicubic``, each result and ``GT``, all at the size of the ground truth."""
        lr, gt = self.lr.read(key), self.gt.read(key)
        scale = gt.shape[0] // lr.shape[0]
        if gt.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
            raise RequestError(
                f'{key}: {self.gt_path} has {gt.shape[1]}x{gt.shape[0]}, which is not a whole '
                f'multiple of the {lr.shape[1]}x{lr.shape[0]} of {self.lr_path}'
            )
        pictures = {'LR': lr, BICUBIC: enlarge(lr, scale)}
        for name, folder in self.results.items():
            path = folder / f'{_result_name(key)}.png'
            try:
                picture = read_as_shown(path)
            except (OSError, PictureFileError) as error:
                raise RequestError(f'{path} is damaged or not a picture ({error}); create or copy it again') from error
            if picture.shape != gt.shape:
                raise RequestError(
                    f'{path} is {picture.shape[1]}x{picture.shape[0]}, its ground truth in '
                    f'{self.gt_path} {gt.shape[1]}x{gt.shape[0]}'
                )
            pictures[name] = picture
        pictures['GT'] = gt
        return pictures

    def score(self) -> Scores:
        """PSNR and SSIM of all frames, with a progress bar."""
        methods = [BICUBIC, *self.results]
        scores = Scores({method: {} for method in methods}, {method: {} for method in methods})
        for key in tqdm(self.keys, unit='frame', desc='scoring'):
            pictures = self.read(key)
            for method in methods:
                scores.psnr[method][key] = float(calculate_psnr(pictures[method], pictures['GT'], crop_border=0))
                scores.ssim[method][key] = float(calculate_ssim(pictures[method], pictures['GT'], crop_border=0))
        return scores

    def draw(self, keys: Sequence[str], scores: Scores) -> np.ndarray:
        """Draws the sheet: a row for each of ``keys``; each cell has the whole frame, an enlarged detail, and the PSNR.

        Raises:
            RequestError: A key is not among the frames.
        """
        _check_complete(keys, set(self.keys), str(self.gt_path))
        rows = []
        for key in keys:
            pictures = self.read(key)
            place = textured_place(pictures['GT'])
            captions = {method: f'{scores.psnr[method][key]:.2f} dB' for method in scores.psnr}
            captions |= {'LR': f'{pictures["LR"].shape[1]}x{pictures["LR"].shape[0]}', 'GT': key}
            height, width = pictures['GT'].shape[:2]
            pictures['LR'] = cv2.resize(pictures['LR'], (width, height), interpolation=cv2.INTER_NEAREST)
            rows.append(np.hstack([_cell(picture, place, captions[name]) for name, picture in pictures.items()]))
        titles = np.hstack([_text(title, _CELL_WIDTH + _GAP) for title in ('LR', BICUBIC, *self.results, 'GT')])
        return np.vstack([titles, *rows])


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Enlarges an 8-bit picture by MATLAB's bicubic, rounded: (h, w, 3) to (scale * h, scale * w, 3)."""
    planes = imresize(torch.from_numpy(image).permute(2, 0, 1).double(), scale)
    return planes.round_().clamp_(0, 255).byte().permute(1, 2, 0).contiguous().numpy()


def textured_place(image: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the detail to enlarge, which has the densest contours."""
    height, width = image.shape[:2]
    part_width = min(width, max(80, width // 8))
    part_height = max(1, min(height, round(part_width * height / width)))
    return fullest_box(contours(image), part_width, part_height)


def evenly_spread(keys: Sequence[str], count: int) -> list[str]:
    """Up to ``count`` of the keys, evenly spread."""
    places = np.linspace(0, len(keys) - 1, min(count, len(keys)))
    return [keys[int(place + 0.5)] for place in places]


def _open(path: Path) -> Frames:
    return FrameStore(path) if path.suffix == '.lmdb' else FrameFolder(path)


def _result_name(key: str) -> str:
    return key.replace('/', '_')


def _check_complete(wanted: Sequence[str], there: set[str], place: str) -> None:
    missing = [name for name in wanted if name not in there]
    if missing:
        raise RequestError(f'{place}: {len(missing)} of {len(wanted)} frames are missing: {some_of(missing, 5)}')


def _cell(picture: np.ndarray, place: tuple[int, int, int, int], caption: str) -> np.ndarray:
    left, top, width, height = place
    detail = _to_width(picture[top : top + height, left : left + width])
    whole = _to_width(picture)
    ratio = _CELL_WIDTH / picture.shape[1]
    start, stop = (left * ratio, top * ratio), ((left + width) * ratio - 1, (top + height) * ratio - 1)
    cv2.rectangle(whole, (int(start[0]), int(start[1])), (int(stop[0]), int(stop[1])), _FRAME_COLOUR, 1)
    cell = np.vstack([whole, np.full((2, _CELL_WIDTH, 3), _PAPER, np.uint8), detail, _text(caption, _CELL_WIDTH)])
    return np.pad(cell, ((0, _GAP), (0, _GAP), (0, 0)), constant_values=_PAPER)


def _to_width(picture: np.ndarray) -> np.ndarray:
    size = _CELL_WIDTH, round(picture.shape[0] * _CELL_WIDTH / picture.shape[1])
    # Enlarged without smoothing, which would make every method look better.
    mode = cv2.INTER_AREA if picture.shape[1] > _CELL_WIDTH else cv2.INTER_NEAREST
    return cv2.resize(np.ascontiguousarray(picture), size, interpolation=mode)


def _text(text: str, width: int) -> np.ndarray:
    line = np.full((_LINE, width, 3), _PAPER, np.uint8)
    cv2.putText(line, text, (4, _LINE - 8), _FONT, 0.5, _INK, 1, cv2.LINE_AA)
    return line

"""`basicsr restore`: a picture, or a folder of them, through a trained network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from pdan_plugin.errors import RequestError
from pdan_plugin.restoration.picture_files import PICTURE_SUFFIXES
from pdan_plugin.restoration.trained_network import load_trained_network


def restore_path(source: Path, target: Path, weights: Path, option_file: Path | None = None) -> int:
    """Restores ``source`` into ``target`` on the GPU if there is one; sub-folders are kept.

    Args:
        source: a picture or a folder of pictures, grey or RGB, 8 bit.
        target: a folder, or for one picture also a file name with a picture's ending. Results are PNG in a folder.
        weights: a toolbox weights file; see :func:`~pdan_plugin.restoration.trained_network.load_trained_network`.

    Returns:
        0, or 1 if a picture could not be restored; such a picture is named and does not stop the others.

    Raises:
        RequestError: no source, no pictures in it, or weights that cannot be used; nothing has been written then.
    """
    pairs = _pairs(source, target)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    network = load_trained_network(weights, option_file, device)
    failures = 0
    for picture, result in (bar := tqdm(pairs, unit='picture')):
        bar.set_postfix_str(picture.name)
        try:
            restored = restore_picture(network, read_picture(picture), device)
            _write_whole(result, restored)
        except (OSError, RuntimeError, ValueError) as error:
            failures += 1
            tqdm.write(f'{picture}: {error}', file=sys.stderr)
    print(f'{len(pairs) - failures} of {len(pairs)} restored to {target}')
    return 1 if failures else 0


def restore_picture(network: nn.Module, picture: NDArray[np.uint8], device: torch.device) -> NDArray[np.uint8]:
    """Restores one picture, (h, w, 3) BGR 0..255 -> (s*h, s*w, 3), in float32."""
    batch = torch.from_numpy(picture[..., ::-1].copy()).to(device).permute(2, 0, 1).unsqueeze(0).float() / 255
    with torch.inference_mode():
        output: Tensor = network(batch)
    pixels = output[0].clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels[..., ::-1])


def read_picture(path: Path) -> NDArray[np.uint8]:
    """Reads an 8-bit picture as (h, w, 3) BGR; grey becomes three equal channels.

    Raises:
        ValueError: not a picture, or one with more than 8 bits or with an alpha channel, which would be lost.
        OSError: it cannot be read.
    """
    picture = cv2.imdecode(np.frombuffer(path.read_bytes() or b'\0', np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError('cannot be decoded as a picture.')
    if picture.dtype != np.uint8:
        raise ValueError(f'holds {picture.dtype} pixels; 8-bit pictures are restored. Convert it first.')
    if picture.ndim == 2:
        return cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)  # pyright: ignore[reportReturnType]
    if picture.shape[2] != 3:
        raise ValueError(
            f'has {picture.shape[2]} channels; grey and RGB pictures are restored. Remove the alpha channel first.'
        )
    return picture  # pyright: ignore[reportReturnType]


def _pairs(source: Path, target: Path) -> list[tuple[Path, Path]]:
    if source.is_file():
        if target.suffix and target.suffix.lower() not in PICTURE_SUFFIXES and not target.is_dir():
            raise RequestError(f'{target}: not a kind of picture that is written ({", ".join(PICTURE_SUFFIXES)}).')
        is_file_name = target.suffix.lower() in PICTURE_SUFFIXES and not target.is_dir()
        return _checked([(source, target if is_file_name else target / f'{source.stem}.png')])
    if not source.is_dir():
        raise RequestError(f'{source}: no such picture or folder.')
    pictures = sorted(
        path
        for path in source.rglob('*')
        if path.suffix.lower() in PICTURE_SUFFIXES and (target == source or target not in path.parents)
    )
    if not pictures:
        raise RequestError(f'{source}: no pictures in it ({", ".join(PICTURE_SUFFIXES)}).')
    if target.is_file():
        raise RequestError(f'{target} is a file; the results of a folder need a folder.')
    return _checked([(picture, target / picture.relative_to(source).with_suffix('.png')) for picture in pictures])


def _checked(pairs: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    taken: dict[Path, Path] = {}
    for picture, result in pairs:
        if result.exists() and result.samefile(picture):
            raise RequestError(f'{picture} would be overwritten by its own result. Choose another place: -o OUTPUT.')
        if result in taken:
            raise RequestError(f'{picture} and {taken[result]} would both be written to {result}. Rename one of them.')
        taken[result] = picture
    return pairs


def _write_whole(path: Path, picture: NDArray[np.uint8]) -> None:
    done, encoded = cv2.imencode(path.suffix, picture)
    if not done:
        raise ValueError(f'cannot be encoded as {path.suffix}.')
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.partial')
    partial.write_bytes(encoded.tobytes())
    os.replace(partial, path)

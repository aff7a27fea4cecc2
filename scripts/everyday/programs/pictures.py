"""The folders that the commands beside this file read and write. Needs Pillow alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def arguments(description: str | None) -> argparse.ArgumentParser:
    """``INPUT_FOLDER OUTPUT_FOLDER``, as ``inputs`` and ``results``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('inputs', type=Path, metavar='INPUT_FOLDER')
    parser.add_argument('results', type=Path, metavar='OUTPUT_FOLDER')
    return parser


def enlarge_folder(enlarged: Callable[[Image.Image], Image.Image], inputs: Path, results: Path) -> None:
    """Writes ``enlarged`` of every picture of ``inputs`` (RGB) to ``results`` as STEM.png."""
    for path in sorted(inputs.iterdir()):
        with Image.open(path) as picture:
            enlarged(picture.convert('RGB')).save(results / f'{path.stem}.png')
        print(path.name, flush=True)

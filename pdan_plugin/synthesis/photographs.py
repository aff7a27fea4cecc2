"""Finds and checks the photographs that clips are rendered from, and splits them into training and validation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.errors import RequestError
from pdan_plugin.files.digests import file_digest
from pdan_plugin.files.folder_walk import files_below
from pdan_plugin.files.picture_endings import PICTURE_SUFFIXES
from pdan_plugin.synthesis.moving_scene import least_picture_size

Decode = Callable[[Path], np.ndarray]

# The share of a folder's photographs that validation gets.
VALIDATION_SHARE = 0.2

# scikit-image's pictures that are photographs of scenes, have detail everywhere and ship in its wheel. The two
# motorcycle pictures show one scene, so both are in the same split.
SKIMAGE_TRAIN = (
    'brick.png',
    'camera.png',
    'chelsea.png',
    'coins.png',
    'grass.png',
    'gravel.png',
    'motorcycle_left.png',
    'motorcycle_right.png',
    'rocket.jpg',
)
SKIMAGE_VALIDATION = ('astronaut.png', 'coffee.png')


def decoded_by_opencv(path: Path) -> np.ndarray:
    """(h, w, 3) uint8 RGB, rotated by its EXIF orientation; enough for 8-bit PNG and JPEG.

    Raises:
        ValueError: OpenCV cannot decode the file.
        OSError: It cannot be read.
    """
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError('OpenCV cannot decode it')
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


@dataclass(frozen=True)
class Photograph:
    """One file.

    Attributes:
        path: Its path.
        digest: SHA-256 of its bytes, hexadecimal.
        decode: Reads it as (h, w, 3) uint8 RGB; raises an OSError or ValueError with the reason.
    """

    path: Path
    digest: str
    decode: Decode = decoded_by_opencv

    def read(self) -> np.ndarray:
        """The picture, uint8 (h, w, 3), BGR, rotated by its EXIF orientation.

        Raises:
            RequestError: The file cannot be read.
        """
        try:
            return np.ascontiguousarray(self.decode(self.path)[..., ::-1])
        except (OSError, ValueError, cv2.error) as error:
            raise RequestError(
                f'{self.path} cannot be read as a picture ({error}); repair it or remove it from the folder.'
            ) from error


def photographs_in(folder: Path, decode: Decode) -> list[Photograph]:
    """The photographs of a folder and its subfolders, by name; ``decode`` as in `Photograph`.

    Hidden files and the thumbnails of systems are left out.

    Raises:
        RequestError: There is no such folder, it holds no photograph or cannot be read, or it holds the same file
            twice, which could put one picture into both training and validation.
    """
    if not folder.is_dir():
        raise RequestError(
            f'{folder}: no such folder. Give a folder of photographs, or the word skimage for those of scikit-image.'
        )
    paths = sorted(path for path in files_below(folder) if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file())
    if not paths:
        raise RequestError(f'{folder} holds no photographs ({", ".join(PICTURE_SUFFIXES)}).')
    photographs = [_photograph(path, decode) for path in paths]
    seen: dict[str, Path] = {}
    for photograph in photographs:
        if photograph.digest in seen:
            raise RequestError(
                f'{photograph.path} and {seen[photograph.digest]} are the same file; remove one of them, or the same '
                'picture may be used for both training and validation.'
            )
        seen[photograph.digest] = photograph.path
    return photographs


def skimage_photographs() -> tuple[list[Photograph], list[Photograph]]:
    """(training, validation) photographs of the installed scikit-image; nothing is downloaded.

    Raises:
        RequestError: scikit-image is not installed, or its version lacks one of the photographs.
    """
    spec = find_spec('skimage')
    if spec is None or spec.origin is None:
        raise RequestError(
            'scikit-image is not installed (pip install "pdan-plugin[quickstart]"); or give a folder of photographs.'
        )
    folder = Path(spec.origin).parent / 'data'
    missing = [name for name in SKIMAGE_TRAIN + SKIMAGE_VALIDATION if not (folder / name).is_file()]
    if missing:
        raise RequestError(
            f'The installed scikit-image has no {", ".join(missing)} in {folder}; install a current one '
            '(pip install -U scikit-image) or give a folder of photographs.'
        )
    return [_photograph(folder / name) for name in SKIMAGE_TRAIN], [
        _photograph(folder / name) for name in SKIMAGE_VALIDATION
    ]


def part(photographs: Sequence[Photograph], seed: int) -> tuple[list[Photograph], list[Photograph]]:
    """(training, validation): each photograph is in one of the two, by a shuffle that depends only on the seed.

    Raises:
        RequestError: There is only one photograph.
    """
    if len(photographs) < 2:
        raise RequestError(
            f'{photographs[0].path} is the only photograph; validation clips need another one '
            'that training does not see. Add photographs, or use --val-clips 0.'
        )
    order = np.random.default_rng([seed, 0]).permutation(len(photographs))
    held_out = max(1, round(VALIDATION_SHARE * len(photographs)))
    validation = set(order[:held_out].tolist())
    return (
        [photograph for index, photograph in enumerate(photographs) if index not in validation],
        [photograph for index, photograph in enumerate(photographs) if index in validation],
    )


def check_sizes(photographs: Sequence[Photograph], size: tuple[int, int]) -> None:
    """Reads every photograph once.

    Raises:
        RequestError: Some cannot be read or are too small for frames of ``size`` (width, height); it lists all of them.
    """
    width, height = least_picture_size(size)
    faults = []
    for photograph in photographs:
        try:
            picture = photograph.read()
        except RequestError as error:
            faults.append(str(error))
            continue
        if picture.shape[1] < width or picture.shape[0] < height:
            faults.append(f'{photograph.path} is {picture.shape[1]}x{picture.shape[0]}.')
    if faults:
        raise RequestError(
            f'Frames of {size[0]}x{size[1]} need photographs of at least {width}x{height}:\n  '
            + '\n  '.join(faults)
            + '\nRemove these, or use smaller frames (--size).'
        )


def _photograph(path: Path, decode: Decode = decoded_by_opencv) -> Photograph:
    return Photograph(path, file_digest(path), decode)

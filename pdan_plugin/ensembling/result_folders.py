"""Folders of restored pictures and their ground truth, matched by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pdan_plugin.data.frame_codec import HEADER_BYTES, PictureError, decode_picture, picture_shape
from pdan_plugin.data.frame_sources import FrameFolder
from pdan_plugin.data.frame_store import FrameStore
from pdan_plugin.errors import RequestError, some_of

_VISUALIZATION = 'visualization'
_STORE_DATA = 'data.mdb'


@dataclass(frozen=True)
class Pictures:
    """8-bit RGB PNGs by name.

    Attributes:
        label: The name in tables.
        folder: The folder of the files.
        files: Name (``CLIP_FRAME``, without the run's suffix) -> file.
    """

    label: str
    folder: Path
    files: dict[str, Path]

    def shape(self, name: str) -> tuple[int, int, int]:
        """(height, width, 3), from the file's first bytes; a RequestError if it is not an 8-bit RGB PNG."""
        with _naming(self.files[name]), open(self.files[name], 'rb') as file:
            return picture_shape(file.read(HEADER_BYTES))

    def read(self, name: str) -> NDArray[np.uint8]:
        """(h, w, 3) RGB; a RequestError if the file is damaged."""
        with _naming(self.files[name]):
            return decode_picture(self.files[name].read_bytes())

    def modified(self, name: str) -> int:
        """The time of the file's last change, in nanoseconds."""
        return self.files[name].stat().st_mtime_ns


@dataclass(frozen=True)
class GroundTruth:
    """Ground-truth pictures, under the names that results have: CLIP_FRAME for the frame CLIP/FRAME.

    Attributes:
        place: The store or the folder.
        names: The names of all pictures.
        shape: Name -> (height, width, 3).
        read: Name -> (h, w, 3) uint8 RGB; raises a RequestError if the picture is damaged.
        modified: Name -> time of the last change, in nanoseconds.
    """

    place: Path
    names: frozenset[str]
    shape: Callable[[str], tuple[int, int, int]]
    read: Callable[[str], NDArray[np.uint8]]
    modified: Callable[[str], int]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Converts errors about a file to RequestErrors that name it."""
    try:
        yield
    except PictureError as error:
        raise RequestError(f'{path}: {error}') from error
    except OSError as error:
        raise RequestError(f'{path} cannot be read ({error.strerror or error})') from error


def find_results(folders: Sequence[Path], reserved: Iterable[str] = ()) -> list[Pictures]:
    """Finds the pictures of each folder: its PNGs, or those that ``basicsr test`` wrote to ``results/NAME``.

    The label is the folder's name or the run's NAME. If two labels are equal, or one is ``reserved``, it is the path.

    Raises:
        RequestError: A folder is missing, has no pictures or several data sets, or is given twice.
    """
    places = [_picture_folder(folder) for folder in folders]
    twice = {place for place in places if sum(place.samefile(other) for other in places) > 1}
    if twice:
        raise RequestError(f'{min(twice)} is given twice; an ensemble needs different results')
    labels = [_run_name(place) for place in places]
    taken = set(reserved)
    return [
        Pictures(
            str(folder.resolve()) if label in taken or labels.count(label) > 1 else label, place, _named_files(place)
        )
        for folder, place, label in zip(folders, places, labels, strict=True)
    ]


def open_ground_truth(place: Path) -> GroundTruth:
    """Opens a store, a folder of clips, or a folder of PNGs.

    Raises:
        RequestError: The path is none of these, or the store cannot be used.
    """
    if place.is_dir() and any(place.glob('*.png')):
        plain = Pictures('', place, {path.stem: path for path in sorted(place.glob('*.png'))})
        return GroundTruth(place, frozenset(plain.files), plain.shape, plain.read, plain.modified)
    frames = FrameStore(place) if place.suffix == '.lmdb' or (place / _STORE_DATA).is_file() else FrameFolder(place)
    keys = {key.replace('/', '_'): key for key in frames.keys}

    def modified(name: str) -> int:
        file = place / _STORE_DATA if isinstance(frames, FrameStore) else Path(frames.name_of(keys[name]))
        return file.stat().st_mtime_ns

    return GroundTruth(
        place,
        frozenset(keys),
        lambda name: frames.shape(keys[name]),
        lambda name: frames.read(keys[name]),
        modified,
    )


def check_match(models: Sequence[Pictures], truth: GroundTruth | None = None) -> list[str]:
    """Checks that all models and the ground truth have every picture in one size; returns the sorted names.

    Ground truth may have more pictures than the models.

    Raises:
        RequestError: A check failed. The message lists the first few missing pictures, unreadable pictures and
            different sizes, and the number of the others.
    """
    names = sorted(set().union(*(model.files for model in models)))
    faults = []
    for model in models:
        missing = [name for name in names if name not in model.files]
        faults += _listed(f'{model.folder} lacks pictures that others have', missing, len(names))
    unreadable: list[str] = []
    sizes: dict[str, dict[str, tuple[int, int, int]]] = {name: {} for name in names}
    for model in models:
        for name in model.files:
            try:
                sizes[name][model.label] = model.shape(name)
            except RequestError as error:
                unreadable.append(str(error))
    faults += _listed('cannot be merged', unreadable, len(names), between='\n    ')
    if truth is not None:
        faults += _listed(f'{truth.place} (ground truth) lacks pictures', sorted(set(names) - truth.names), len(names))
        for name in truth.names & set(names):
            sizes[name]['ground truth'] = truth.shape(name)
    differing = [
        f'{name}: ' + ', '.join(f'{label} {width}x{height}' for label, (height, width, _) in shapes.items())
        for name, shapes in sizes.items()
        if len(set(shapes.values())) > 1
    ]
    faults += _listed('sizes differ', differing, len(names), between='\n    ')
    if faults:
        raise RequestError('the results do not fit together:\n  ' + '\n  '.join(faults) + '\nNothing was written')
    return names


def _picture_folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise RequestError(
            f'{folder}: no such folder; give results/NAME, which basicsr test writes with val.save_img: true, or a '
            'folder of PNGs'
        )
    inner = folder / _VISUALIZATION
    if not inner.is_dir():
        place = folder
    else:
        sets = sorted(child for child in inner.iterdir() if child.is_dir())
        if len(sets) > 1:
            raise RequestError(
                f'{inner} holds {len(sets)} data sets ({", ".join(child.name for child in sets)}); give the folder of '
                f'one, such as {sets[0]}'
            )
        place = sets[0] if sets else inner
    if not any(place.glob('*.png')):
        raise RequestError(f'{place}: no PNGs in it; basicsr test writes them with val.save_img: true')
    return place


def _run_folder(place: Path) -> Path | None:
    """The folder of the run, results/NAME, for results/NAME/visualization/DATASET."""
    parents = place.absolute().parents
    return parents[1] if len(parents) > 1 and parents[0].name == _VISUALIZATION else None


def _run_name(place: Path) -> str:
    return (_run_folder(place) or place.absolute()).name


def _named_files(place: Path) -> dict[str, Path]:
    suffix = _suffix(place)
    return {path.stem.removesuffix(f'_{suffix}') if suffix else path.stem: path for path in sorted(place.glob('*.png'))}


def _suffix(place: Path) -> str | None:
    """The suffix that ``basicsr test`` added to every name (option ``val.suffix``), from its record."""
    run = _run_folder(place)
    record = run / 'test.json' if run else None
    if record is None or not record.is_file():
        return None
    try:
        return json.loads(record.read_text(encoding='utf-8'))['datasets'][place.name]['suffix']
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f'{record} is not the record of a test of {place.name} ({error!r}); run basicsr test again, or move the '
            'pictures to a separate folder'
        ) from error


def _listed(fault: str, names: Sequence[str], total: int, between: str = ', ') -> list[str]:
    if not names:
        return []
    start = between if between.startswith('\n') else ' '
    return [f'{fault} ({len(names)} of {total}):{start}{some_of(names, between=between)}']

"""Makes the folders that training reads from a person's own pictures: the work of `basicsr prepare-pairs`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pdan_plugin.data.frame_codec import encode_picture
from pdan_plugin.errors import RequestError, failing_unwritable, first_of, refusing_unwritable, some_of
from pdan_plugin.files.json_files import write_json
from pdan_plugin.files.whole_files import remove_left_overs, write_whole
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.media.picture_files import PictureFileError, read_picture
from pdan_plugin.preparation.bounded_work import in_order
from pdan_plugin.preparation.pair_survey import PictureFiles, found_pairs, held_out, refuse_names_of_parts
from pdan_plugin.preparation.sub_images import SubImages
from pdan_plugin.synthesis.bicubic import downsample_uint8

RECORD, DONE = 'pairs.json', 'finished.jsonl'
SPLITS, KINDS = ('train', 'val'), ('gt', 'lq')


@dataclass(frozen=True)
class _Request:
    """What TARGET is made from."""

    target: Path
    scale: int
    cut: SubImages | None
    validation: frozenset[str]

    @property
    def splits(self) -> tuple[str, ...]:
        return SPLITS if self.validation else SPLITS[:1]

    @property
    def folders(self) -> list[Path]:
        return [self.target / split / kind for split in self.splits for kind in KINDS]

    def file(self, kind: str, name: str, suffix: str) -> Path:
        """The file of a pair's GT or LQ picture, or of a part of it."""
        return self.target / ('val' if name in self.validation else 'train') / kind / f'{name}{suffix}.png'


def prepare_pairs(
    gt: str | Path,
    target: str | Path,
    *,
    lq: str | Path | None = None,
    scale: int = 4,
    validation: int | None = None,
    filename_tmpl: str = '{}',
    sub_images: tuple[int, int] | None = None,
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Makes ``TARGET/train`` and ``TARGET/val``, each with ``gt`` and ``lq``: 8-bit RGB PNG pictures of the same names.

    Both pictures of a pair are upright. Rows and columns at the bottom and the right that make GT no multiple of
    ``scale`` are cut off. The same call continues an interrupted one. Sources are only read.

    Args:
        gt: A folder of sharp pictures of any common format, read with its subfolders.
        target: The folder to make; a new one, or one that this very call has begun.
        lq: A folder of the degraded pictures, ``scale`` times smaller. Without it they are computed from GT by MATLAB's
            bicubic (`downsample_uint8`).
        scale: GT size divided by LQ size; with ``lq`` also 1.
        validation: Pairs that are held out for validation; None: a tenth, at most 100; 0: TARGET gets no ``val/``.
        filename_tmpl: The name of an LQ picture for the name of its GT picture, in the toolbox's form: ``'{}x4'``.
        sub_images: (SIZE, STEP) in GT pixels, multiples of ``scale``: training pairs are cut into squares, which are
            read faster. Smaller pictures stay whole.
        workers: Threads; None: the cores, 8 at most.
        say: Receives lines for the user.

    Returns:
        ``target``.

    Raises:
        RequestError: Folders, names or sizes do not fit, or pictures cannot be read; all are listed. The good pairs
            stay in TARGET for the next call.
        WorkError: TARGET cannot be written.
    """
    gt, target, lq = Path(gt), Path(target), None if lq is None else Path(lq)
    if scale < (2 if lq is None else 1):
        raise RequestError(f'--scale {scale}: expected 2 or more; 1 only with --lq')
    cut = None if sub_images is None else SubImages(*sub_images, scale=scale)
    for source in (gt, lq):
        if source is not None and target.resolve().is_relative_to(source.resolve()):
            raise RequestError(f'TARGET {target} lies in {source}, which is read; choose a folder outside of it')
    pairs = found_pairs(gt, lq, filename_tmpl, least=1 if validation == 0 else 2)
    names = [pair.name for pair in pairs]
    if cut is not None:
        refuse_names_of_parts(names)
    request = _Request(target, scale, cut, frozenset(held_out(names, validation)))
    _begin(request, gt, lq, names)
    finished = _write_all(request, pairs, workers or min(8, usable_cores()), say)
    for split in request.splits:
        here = [entry for name, entry in finished.items() if (name in request.validation) == (split == 'val')]
        files = sum(len(entry['parts']) for entry in here)
        parts = f' as {files} sub-images' if files != len(here) else ''
        say(f'{target / split}: {_count(len(here))}{parts}, scale {scale}')
    notes = Counter(note for entry in finished.values() for note in entry['notes'])
    for note, count in sorted(notes.items()):
        say(f'{count} of {len(pairs)} pairs: {note}')
    expected = {path for name, entry in finished.items() for path in _files(request, name, entry['parts'])}
    strangers = sorted(str(path) for path in _present(request) - expected)
    if strangers:
        say(f'Remove these files, which belong to no pair: {some_of(strangers)}')
    return target


def _count(pairs: int) -> str:
    return f'{pairs} pair{"" if pairs == 1 else "s"}'


def _begin(request: _Request, gt: Path, lq: Path | None, names: list[str]) -> None:
    """Writes the record of a new TARGET, or compares that of a begun one."""
    target, cut = request.target, request.cut
    record = {
        'gt': str(gt.resolve()),
        'lq': None if lq is None else str(lq.resolve()),
        'scale': request.scale,
        'sub_images': None if cut is None else [cut.size, cut.step],
        'validation': sorted(request.validation),
        'pictures': names,
    }
    if (target / RECORD).is_file():
        try:
            begun = json.loads((target / RECORD).read_text(encoding='utf-8'))
        except (OSError, ValueError) as error:
            raise RequestError(
                f'{target / RECORD} cannot be read ({error}); remove {target} or choose another'
            ) from error
        differing = [key for key, value in record.items() if begun.get(key) != value]
        if differing:
            raise RequestError(
                f'{target} was made by another request: {", ".join(differing)} differ (see {target / RECORD}); remove '
                'it or choose another TARGET'
            )
        return
    remove_left_overs(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RequestError(f'TARGET {target} exists and is not from this command; choose a new folder')
    with refusing_unwritable(target):
        target.mkdir(parents=True, exist_ok=True)
        write_json(target / RECORD, record, durable=True)


def _write_all(
    request: _Request, pairs: list[PictureFiles], workers: int, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Writes the missing pairs; returns the entries of all pairs, by name."""
    for folder in request.folders:
        with failing_unwritable(request.target):
            folder.mkdir(parents=True, exist_ok=True)
        remove_left_overs(folder)
    present, logged = _present(request), _logged(request.target / DONE)
    finished = {
        pair.name: entry
        for pair in pairs
        if (entry := logged.get(pair.name)) is not None
        and entry['sources'] == _state(pair)
        and present.issuperset(_files(request, pair.name, entry['parts']))
    }
    waiting = [pair for pair in pairs if pair.name not in finished]
    if finished:
        say(f'finished already: {_count(len(finished))}')
    faults: list[str] = []
    is_torn = (request.target / DONE).is_file() and not (request.target / DONE).read_bytes().endswith(b'\n')
    with failing_unwritable(request.target), open(request.target / DONE, 'a', encoding='utf-8') as log:
        if is_torn:
            log.write('\n')
        for pair in waiting:
            if logged.get(pair.name, {}).get('sources'):  # does not count any more, also if its sources come back
                log.write(json.dumps({'name': pair.name, 'sources': None, 'parts': [], 'notes': []}) + '\n')
        log.flush()
        _remove_results(request, present, {pair.name for pair in waiting})
        work = in_order(partial(_write, request), waiting, workers)
        for pair, result in tqdm(work, total=len(waiting), desc='pairs', unit='pair', disable=None):
            if isinstance(result, RequestError):
                faults.append(str(result))
                continue
            parts, of_pair = result
            entry = {'name': pair.name, 'sources': _state(pair), 'parts': parts, 'notes': of_pair}
            log.write(json.dumps(entry) + '\n')
            log.flush()
            finished[pair.name] = entry
    if faults:
        raise RequestError(
            f'{len(faults)} of {len(pairs)} pairs cannot be used; {request.target} has only the others. Repair these '
            f'pictures and run the same command again, or remove them and {request.target}, and start again:\n  '
            + '\n  '.join(first_of(faults))
        )
    return finished


def _files(request: _Request, name: str, parts: Iterable[str]) -> list[Path]:
    """The files of a pair with parts of these suffixes."""
    return [request.file(kind, name, suffix) for suffix in parts for kind in KINDS]


def _present(request: _Request) -> set[Path]:
    """The PNG pictures in TARGET."""
    return {
        path for folder in request.folders for path in folder.iterdir() if path.suffix == '.png' and path.name[0] != '.'
    }


def _remove_results(request: _Request, present: Iterable[Path], names: Collection[str]) -> None:
    """Removes what an earlier call has made of these pairs, also of pairs that it had not finished."""
    for path in present:
        name = path.stem if path.stem in names or request.cut is None else re.sub(r'_s\d+$', '', path.stem)
        if name in names and path == request.file(path.parent.name, name, path.stem.removeprefix(name)):
            path.unlink()


def _logged(log: Path) -> dict[str, dict[str, Any]]:
    """The last entry of each pair, by name. A torn last line, of a killed call, does not count."""
    logged: dict[str, dict[str, Any]] = {}
    lines = log.read_text(encoding='utf-8').splitlines() if log.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        logged[entry['name']] = entry
    return logged


def _state(pair: PictureFiles) -> list[list[int] | None]:
    """Size and time of the source files: a source that was replaced is read again."""
    found = [None if path is None else path.stat() for path in (pair.gt, pair.lq)]
    return [None if each is None else [each.st_size, each.st_mtime_ns] for each in found]


def _write(request: _Request, pair: PictureFiles) -> tuple[list[str], list[str]]:
    """Writes one pair and returns the suffixes of its parts, and its notes."""
    notes: list[str] = []
    gt = _read(pair.gt, notes)
    lq = None if pair.lq is None else _read(pair.lq, notes)
    gt, lq = _fitted(pair, gt, lq, request.scale, notes)
    cut = None if pair.name in request.validation else request.cut
    parts = []
    for suffix, part, small in _parts(gt, lq, cut, request.scale):
        parts.append(suffix)
        for kind, picture in (('lq', small), ('gt', part)):
            write_whole(request.file(kind, pair.name, suffix), encode_picture(picture, 'png'))
    return parts, sorted(set(notes))


def _read(path: Path, notes: list[str]) -> NDArray[np.uint8]:
    """(h, w, 3) uint8 RGB."""
    try:
        picture = read_picture(path)
    except (OSError, PictureFileError) as error:
        raise RequestError(f'{path}: {error}') from error
    if picture.alpha is not None:
        notes.append('transparency was left out')
    if picture.bits == 16:
        notes.append('16 bits were rounded to 8')
        return ((picture.colour.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    return picture.colour


def _fitted(
    pair: PictureFiles, gt: NDArray[np.uint8], lq: NDArray[np.uint8] | None, scale: int, notes: list[str]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """GT and LQ of sizes that differ by the scale exactly."""
    height, width = gt.shape[:2]
    rows, columns = height // scale, width // scale
    if min(rows, columns) < 1:
        raise RequestError(f'{pair.gt}: {width}x{height} pixels; at scale {scale} it needs {scale}x{scale} or more')
    if lq is not None:
        small_height, small_width = lq.shape[:2]
        if max(abs(height - small_height * scale), abs(width - small_width * scale)) >= max(scale, 1):
            ratio = height // small_height
            fits = max(height - small_height * ratio, width - small_width * ratio) < max(ratio, 1)
            hint = f', or --scale {ratio}' if fits and ratio == width // small_width and ratio != scale else ''
            raise RequestError(
                f'{pair.gt} is {width}x{height} and {pair.lq} is {small_width}x{small_height}; at scale {scale} '
                f'expected {width // scale}x{height // scale} for the second{hint}'
            )
        rows, columns = min(rows, small_height), min(columns, small_width)
    if (rows * scale, columns * scale) != (height, width):
        notes.append(f'GT was cut to a multiple of {scale}')
    gt = np.array(gt[: rows * scale, : columns * scale])  # writable, which a decoded picture need not be
    return gt, downsample_uint8(gt, scale) if lq is None else np.ascontiguousarray(lq[:rows, :columns])


def _parts(
    gt: NDArray[np.uint8], lq: NDArray[np.uint8], cut: SubImages | None, scale: int
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]:
    """(suffix of the name, GT, LQ) of a whole picture, or of its sub-images."""
    height, width = gt.shape[:2]
    if cut is None or min(height, width) <= cut.size:
        yield '', gt, lq
        return
    small = cut.size // scale
    for suffix, top, left in cut.places(height, width):
        part = np.ascontiguousarray(gt[top : top + cut.size, left : left + cut.size])
        top, left = top // scale, left // scale
        yield suffix, part, np.ascontiguousarray(lq[top : top + small, left : left + small])

"""Finds and checks the parts of REDS under a folder, from names and picture headers, before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from pdan_plugin.data.frame_sources import FrameArchive, FrameFolder, open_place
from pdan_plugin.data.reds_layout import (
    BLUR_BICUBIC,
    FRAME_SHAPE,
    KINDS,
    SCALE,
    SHARP,
    SHARP_BICUBIC,
    Kind,
    find_set,
    frames_per_clip,
    frames_published,
    is_val300,
    key_of_member,
    set_name,
)
from pdan_plugin.errors import RequestError, first_of, some_of
from pdan_plugin.preparation.bounded_work import in_order

_LISTED = 100  # problems listed for one set; of the others only the number is given

Shape = tuple[int, int, int]


@dataclass
class FoundSet:
    """The frames of one set that belong to one split, in order, with their shapes from the headers."""

    split: str
    kind: Kind
    frames: FrameFolder | FrameArchive
    keys: list[str]
    shapes: dict[str, Shape] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return set_name(self.split, self.kind)


def survey(source: str | Path, split: str, *, workers: int, from_zip: bool = False) -> dict[Kind, FoundSet] | None:
    """The sets of one split under SOURCE, checked against each other; None if SOURCE has nothing of the split.

    The frames of a clip must be numbered without gaps or repeats. Each must be an 8-bit RGB picture of its clip's size
    and must have its partners; each side of the small ones is exactly a quarter of the large one's. Sharp and blurred
    frames are required, ``sharp_bicubic`` is not. With ``from_zip`` only zips are read.

    Raises:
        RequestError: Something is wrong; the error lists every problem by name.
    """
    places = {kind: place for kind in KINDS if (place := find_set(source, split, kind, from_zip=from_zip)) is not None}
    if SHARP not in places and BLUR_BICUBIC not in places:
        return None
    for kind, other in ((SHARP, BLUR_BICUBIC), (BLUR_BICUBIC, SHARP)):
        if kind not in places:
            name = set_name(split, kind)
            wanted = f'{name}.zip' if from_zip else f'the folder {name} or {name}.zip'
            raise RequestError(
                f'{source}: {set_name(split, other)} is here but its partner {name} is not; put {wanted} there'
            )
    problems: list[str] = []
    found = {}
    for kind, place in places.items():
        name = set_name(split, kind)
        frames = open_place(place, name)
        odd = [key for key in frames.keys if key_of_member(f'{key}.png', name) is None]
        unnamed = [
            f'{frames.name_of(key)}: not a frame (expected CLIP/FRAME.png, such as 000/00000000.png)' for key in odd
        ]
        problems += first_of(unnamed, _LISTED)
        keys = sorted(set(frames.keys) - set(odd))
        if split == 'val300':
            keys = [key for key in keys if is_val300(key)]
        if not keys:
            problems.append(f'{name} in {place.path}: no frames of {split} in it')
        found[kind] = FoundSet(split, kind, frames, keys)
        problems += first_of(_repeated(name, keys), _LISTED)
        problems += first_of(_gaps(name, keys, split), _LISTED)
    problems += first_of(_missing_partners(found), _LISTED)
    for one in found.values():
        problems += first_of(_read_shapes(one, workers), _LISTED)
    problems += first_of(_wrong_sizes(found), _LISTED)
    if problems:
        raise RequestError(f'{split} under {source} cannot be used:\n  ' + '\n  '.join(problems))
    return found


def share_of_reds(found: dict[Kind, FoundSet]) -> str:
    """One line that reports how much of the published split was found."""
    sharp = found[SHARP]
    clips = len({key.partition('/')[0] for key in sharp.keys})
    whole = frames_published(sharp.split)
    text = f'{sharp.split}: {len(sharp.keys)} frames in {clips} clips'
    if len(sharp.keys) == whole:
        text += f", all of REDS's {sharp.split}"
    else:
        text += f", {100 * len(sharp.keys) / whole:.2g}% of REDS's {whole}"
    sizes = sorted(set(sharp.shapes.values()) - {FRAME_SHAPE})
    if sizes:
        text += f" (sizes unlike REDS's {_size(FRAME_SHAPE)}: {', '.join(_size(shape) for shape in sizes)})"
    return text + _clip_lengths(sharp)


def _clip_lengths(sharp: FoundSet) -> str:
    """Reports the clips whose length differs from the other clips or from REDS."""
    counts = Counter(key.partition('/')[0] for key in sharp.keys)
    published = frames_per_clip(sharp.split)
    (usual, _), *_ = Counter(counts.values()).most_common(1)
    if published in counts.values():
        usual = published
    odd = [f'{clip} has {count}' for clip, count in sorted(counts.items()) if count != usual]
    text = f"; clips of {usual} frames, REDS's have {published}" if usual != published else ''
    return text + (f'; of another length than {usual} frames: {some_of(odd)}' if odd else '')


def _repeated(name: str, keys: list[str]) -> Iterator[str]:
    """Frames of a clip that have the same number, such as ``1`` and ``00000001``."""
    first: dict[tuple[str, int], str] = {}
    for key in keys:
        clip, _, frame = key.partition('/')
        known = first.setdefault((clip, int(frame)), key)
        if known != key:
            yield f"{name}: {known}.png and {key}.png have the same number; remove the one that is not REDS's"


def _gaps(name: str, keys: list[str], split: str) -> Iterator[str]:
    """The frames that are missing before the last frame of each clip."""
    first, step = (9, 10) if split == 'val300' else (0, 1)
    clips: dict[str, list[str]] = {}
    for key in keys:
        clip, _, frame = key.partition('/')
        clips.setdefault(clip, []).append(frame)
    for clip, frames in clips.items():
        numbers = {int(frame) for frame in frames}
        digits = len(frames[-1])
        for number in range(first, max(numbers), step):
            if number not in numbers:
                yield f'{name}: {clip}/{number:0{digits}d}.png is missing, but later frames of the clip are there'


def _missing_partners(found: dict[Kind, FoundSet]) -> Iterator[str]:
    for kind, one in found.items():
        if kind is SHARP:
            continue
        sharp, keys = set(found[SHARP].keys), set(one.keys)
        for key in sorted(sharp - keys):
            yield f'{one.name}: {key}.png is missing, but {found[SHARP].name} has it'
        for key in sorted(keys - sharp):
            yield f'{found[SHARP].name}: {key}.png is missing, but {one.name} has it'


def _read_shapes(one: FoundSet, workers: int) -> list[str]:
    """Fill in the shapes; returns the faults found in the headers."""
    problems = []
    known: dict[Shape, Shape] = {}  # a set has a few shapes and many frames: share the tuples
    answers = in_order(one.frames.shape, one.keys, workers)
    for key, answer in tqdm(answers, total=len(one.keys), desc=f'check {one.name}', unit='frame'):
        if isinstance(answer, RequestError):
            problems.append(str(answer))
        else:
            one.shapes[key] = known.setdefault(answer, answer)
    return problems


def _wrong_sizes(found: dict[Kind, FoundSet]) -> Iterator[str]:
    sharp = found[SHARP]
    counts: dict[str, Counter[Shape]] = {}
    for key, shape in sharp.shapes.items():
        counts.setdefault(key.partition('/')[0], Counter())[shape] += 1
    clip_shapes = {clip: counter.most_common(1)[0][0] for clip, counter in counts.items()}
    for clip, shape in clip_shapes.items():
        if shape[0] % SCALE or shape[1] % SCALE:
            yield f'{sharp.name}: clip {clip} is {_size(shape)}, expected sides that are multiples of {SCALE}'
    for key, shape in sharp.shapes.items():
        expected = clip_shapes[key.partition('/')[0]]
        if shape != expected:
            yield f'{sharp.frames.name_of(key)}: {_size(shape)}, expected {_size(expected)} like the rest of its clip'
    for kind in (BLUR_BICUBIC, SHARP_BICUBIC):
        if kind not in found:
            continue
        for key, shape in found[kind].shapes.items():
            large = clip_shapes.get(key.partition('/')[0])
            if large is not None and (shape[0] * SCALE, shape[1] * SCALE) != large[:2]:
                yield (
                    f'{found[kind].frames.name_of(key)}: {_size(shape)}, expected '
                    f'{large[1] / SCALE:g}x{large[0] / SCALE:g}, a quarter of the sharp {_size(large)}'
                )


def _size(shape: Shape) -> str:
    return f'{shape[1]}x{shape[0]}'

"""Finds the clips under a path and checks them, from names and headers, before anything is written."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pdan_plugin.data.frame_sources import FrameArchive
from pdan_plugin.data.reds_layout import CLIPS, Kind, find_set, published_split
from pdan_plugin.errors import RequestError, first_of, some_of
from pdan_plugin.machine.cores import usable_cores
from pdan_plugin.media.video_contents import has_video_content, is_video_file
from pdan_plugin.media.video_frames import unread_part
from pdan_plugin.media.video_source import describe_video, open_video, refuse_other_form
from pdan_plugin.preparation.bounded_work import in_order
from pdan_plugin.preparation.source_clips import (
    FRAME_SUFFIXES,
    ArchivedFrames,
    FrameFiles,
    SourceClip,
    Video,
    forget_open_files,
    frame_file_header,
    frames_digest,
    open_archive,
    read_frame_file,
    refusing_video,
    video_digest,
    video_reader,
    whole_frames,
)

# REDS at 120 frames a second: train_orig, val_orig.
ORIGINAL = Kind('orig', 'orig')

_SEARCH_DEPTH = 3
_LONGEST_INTERVAL = 1.6  # of the usual one; containers round times, so even intervals are not stored evenly
_NUMBERED = re.compile(r'(.*?)(\d+)')
_WHAT_IS_EXPECTED = (
    'expected a video, a folder of videos, a folder of numbered frames (PNG or JPEG), a folder of such folders, or '
    "REDS's {name} (its folders or {name}_part0.zip and so on)"
)

Size = tuple[int, int]


def find_clips(source: str | Path, split: str, *, say: Callable[[str], None] = print) -> list[SourceClip]:
    """The clips of SOURCE, sorted by name. Reads all headers, but only the first picture of each clip.

    Raises:
        RequestError: There is no clip, or there are faults: gaps in the numbering, frames of several sizes,
            unreadable files or zips, videos without frames, equal names. The error lists all of them.
    """
    forget_open_files()
    source = Path(source)
    name = f'{published_split(split)}_{ORIGINAL.folder}'
    if source.is_dir():
        clips = _in_folder(source, split, name, say)
    elif not source.is_file():
        raise RequestError(f'{source}: no such file or folder; {_WHAT_IS_EXPECTED.format(name=name)}')
    elif source.suffix == '.zip':
        clips = _archived([source], name)
    else:
        clips = _videos([source], say)
    return sorted(clips, key=lambda clip: clip.name)


def safe_name(name: str) -> str:
    """A file's name as the first part of a key: letters, digits, ``_`` and ``-``."""
    return re.sub(r'[^\w-]+', '_', name)


def _name_of(folder: Path) -> str:
    return os.path.basename(os.path.abspath(folder))  # keeps a link's own name, and names `.` and `..` too


def _in_folder(source: Path, split: str, name: str, say: Callable[[str], None]) -> list[SourceClip]:
    originals = find_set(source, split, ORIGINAL)
    zips = _zips(source, name)
    if originals is not None and not originals.is_archive:
        if zips:
            say(f'{originals.path}: this unpacked folder is read; the zips of {name} beside it are not')
        return _reported_as_reds(_folders(_subfolders(originals.path), say), split, say)
    if zips:
        _refuse_missing_parts(zips, name)
        return _reported_as_reds(_archived(zips, name), split, say)
    frames = _files(source, FRAME_SUFFIXES)
    videos = _video_files(source)
    folders = [folder for folder in _subfolders(source) if _files(folder, FRAME_SUFFIXES)]
    if frames or folders:  # a name alone makes no video of a file beside frames
        videos = [video for video in videos if has_video_content(video)]
    kinds = [kind for kind, some in (('frames', frames), ('videos', videos), ('folders of frames', folders)) if some]
    if not kinds:
        raise RequestError(f'{source}: no clip here; {_WHAT_IS_EXPECTED.format(name=name)}')
    if len(kinds) > 1:
        raise RequestError(f'{source}: holds {" and ".join(kinds)}; give a folder with one of these')
    used = {*frames, *(video.name for video in videos), *(folder.name for folder in folders)}
    unused = sorted(name for name in os.listdir(source) if name not in used and name[0] != '.')
    if unused:
        say(f'{source}: not used: {some_of(unused, 20)}')
    if videos:
        return _videos(videos, say)
    return _folders(folders or [source], say)


def _refuse_missing_parts(zips: Sequence[Path], name: str) -> None:
    """Reject zips with a part missing: a clip may span two parts and would be shortened unnoticed."""
    numbers = {int(match[1]) for path in zips if (match := re.fullmatch(rf'{name}_part(\d+)', path.stem))}
    missing = sorted(set(range(max(numbers, default=-1) + 1)) - numbers)
    if missing:
        names = ', '.join(f'{name}_part{number}.zip' for number in missing)
        raise RequestError(f'{zips[0].parent}: {names} is missing, but later parts are here; download the missing zips')


def _reported_as_reds(clips: list[SourceClip], split: str, say: Callable[[str], None]) -> list[SourceClip]:
    """Returns the same clips; prints how many of REDS's clips they are, and clips of unusual length."""
    whole = CLIPS[published_split(split)]
    usual = Counter(clip.frames for clip in clips).most_common(1)[0][0]
    say(f"{len(clips)} of REDS's {whole} clips, most of {usual} frames")
    for clip in clips:
        if clip.frames != usual:
            say(f'{clip.place}: {clip.frames} frames, unlike the {usual} of most clips')
    return clips


def _files(folder: Path, suffixes: Sequence[str]) -> list[str]:
    """Names of the files with these suffixes, without hidden ones."""
    return sorted(
        name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in suffixes and name[0] != '.'
    )


def _video_files(folder: Path) -> list[Path]:
    """The videos in a folder, without hidden ones."""
    files = (folder / name for name in sorted(os.listdir(folder)) if name[0] != '.')
    return [
        file
        for file in files
        if file.suffix.lower() not in FRAME_SUFFIXES and not file.is_dir() and is_video_file(file)
    ]


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir() and entry.name[0] != '.')


def _zips(source: Path, name: str) -> list[Path]:
    """Zips of the set under SOURCE, at the shallowest level that has any."""
    level = [source]
    for _ in range(_SEARCH_DEPTH):
        found = sorted(zip_file for folder in level for zip_file in folder.glob(f'{name}*.zip'))
        if found:
            return found
        level = [child for folder in level for child in _subfolders(folder) if not child.name.isdigit()]
    return []


def _videos(paths: Sequence[Path], say: Callable[[str], None]) -> list[SourceClip]:
    _refuse_equal_names(paths, [safe_name(path.stem) for path in paths])
    clips: list[SourceClip] = []
    faults = []
    with tqdm(desc='counting frames', unit='frame') as progress:
        for path in paths:
            try:
                clips.append(_video(path, progress, say))
            except RequestError as error:
                faults.append(str(error))
    _refuse(faults)
    return clips


def _video(path: Path, progress: tqdm, say: Callable[[str], None]) -> Video:
    with refusing_video(path), open_video(path) as container:
        video = describe_video(container)
    times: list[float] = []  # milliseconds
    with refusing_video(path), open_video(path) as container:
        reader = video_reader(container, video)
        for item in whole_frames(reader):  # the header's number may be wrong, so the readable frames are counted
            assert item.frame is not None
            with refusing_video(f'{path}, frame {len(times)}'):
                refuse_other_form(item.frame, video)
            times.append(float(1000 * item.time * video.time_base))
            progress.update()
    frames, jumps = len(times), reader.timeline.jumps
    breaks = frozenset(int(np.searchsorted(times, float(1000 * jump.time) - 0.5)) for jump in jumps)
    _refuse_holes(path, np.array(times))
    interlaced = reader.deinterlacer.interlaced
    if interlaced:
        say(f'{path}: {interlaced} of {frames} frames are interlaced: deinterlaced, one frame for each')
    if breaks:
        listed = ', '.join(map(str, sorted(breaks)))
        say(f'{path}: its times jump at frame {listed}: joined recordings; no window crosses a joint')
    if left_out := unread_part(reader):
        say(f'{path}: {left_out}')
    if reader.broke_off:
        say(f'{path}: reading ends after {frames} frames ({reader.broke_off})')
    if video.frames > 0 and video.frames != frames and not jumps:
        fewer = '; if frames are lost inside the video, the blur there is wrong: check it'
        say(
            f'{path}: {frames} frames can be read (its header says {video.frames})'
            f'{fewer if frames < video.frames else ""}'
        )
    name, size = safe_name(path.stem), video.upright_size
    return Video(name, str(path), frames, 0, size, video_digest(path), path, video, breaks=breaks)


def _refuse_holes(path: Path, times: np.ndarray) -> None:
    """Reject a video with lost frames or a changing frame rate, by its frames' times in milliseconds."""
    intervals = np.diff(times)
    if len(intervals) == 0 or not (intervals > 0).all():
        return  # the container does not store its frames' times
    usual = np.median(intervals)
    holes = np.flatnonzero(intervals > _LONGEST_INTERVAL * usual)
    if len(holes):
        raise RequestError(
            f'{path}: frame {holes[0]} lasts {intervals[holes[0]]:.0f} ms, but frames are usually {usual:.0f} ms apart '
            f'({len(holes)} such places). Frames are missing or the frame rate changes, so the blur there would be '
            'wrong; give a complete copy, one with a constant frame rate, or its parts as separate videos'
        )


def _folders(folders: Sequence[Path], say: Callable[[str], None]) -> list[SourceClip]:
    """One clip for each folder."""
    _refuse_equal_names(folders, [safe_name(_name_of(folder)) for folder in folders])
    faults: list[str] = []
    numbered: list[tuple[Path, int, list[str]]] = []
    for folder in folders:
        by_number, wrong = _by_number(_files(folder, FRAME_SUFFIXES))
        if not by_number and not wrong:
            wrong = [': no frames in it (PNG or JPEG); add frames or remove the folder']
        faults += first_of(f'{folder}{fault}' for fault in wrong)
        if by_number:
            numbered.append((folder, min(by_number), [by_number[number] for number in sorted(by_number)]))
    _refuse(faults)
    files = [folder / name for folder, _, names in numbered for name in names]
    turned: set[Path] = set()

    def size_of(file: Path) -> Size:
        size, orientation = frame_file_header(file)
        if orientation != 1:
            turned.add(file)
        return size

    sizes = dict(zip(files, _sizes(files, size_of, faults), strict=True))
    _refuse(faults)
    if turned:
        count = f'{len(turned)} of {len(files)} frames'
        say(f'{min(turned)}: {count} are stored turned, this the first: made upright by EXIF')
    clips: list[SourceClip] = []
    for folder, first, names in numbered:
        size = _one_size({str(folder / name): sizes[folder / name] for name in names}, faults)
        try:
            digest = frames_digest(names, read_frame_file(folder / names[0]))
        except RequestError as error:
            faults.append(str(error))
            continue
        name = safe_name(_name_of(folder))
        clips.append(FrameFiles(name, str(folder), len(names), first, size, digest, folder, tuple(names)))
    _refuse(faults)
    return clips


def _archived(zips: Sequence[Path], name: str) -> list[SourceClip]:
    """The clips in the zips; the zips are parts of one set."""
    faults: list[str] = []
    archives: dict[Path, FrameArchive] = {}
    for path in zips:
        try:
            archives[path] = open_archive(path, name)
        except RequestError as error:
            faults.append(str(error))
    _refuse(faults)
    clips: dict[str, dict[str, tuple[Path, str]]] = {}
    for path, archive in archives.items():
        for key in archive.keys:
            clip, _, frame = key.partition('/')
            member = clips.setdefault(clip, {}).setdefault(frame, (path, key))
            if member[0] != path:
                faults.append(f'{archive.name_of(key)}: is in {member[0]} too; remove one of the two zips')
    faults[:] = first_of(faults)
    members: dict[str, list[tuple[Path, str]]] = {}
    for clip, frames in clips.items():
        by_number, wrong = _by_number([f'{frame}.png' for frame in frames], first=0)
        faults += first_of(f'{", ".join(sorted({str(path) for path, _ in frames.values()}))}: {clip}{f}' for f in wrong)
        members[clip] = [frames[by_number[number][:-4]] for number in sorted(by_number)]
    _refuse(faults)

    def size(member: tuple[Path, str]) -> Size:
        return archives[member[0]].shape(member[1])[:2]

    every = [member for clip in members.values() for member in clip]
    sizes = dict(zip(every, _sizes(every, size, faults), strict=True))
    _refuse(faults)
    found: list[SourceClip] = []
    for clip, parts in members.items():
        where = {archives[path].name_of(key): sizes[path, key] for path, key in parts}
        one_size = _one_size(where, faults)
        try:
            digest = frames_digest([f'{key.partition("/")[2]}.png' for _, key in parts], _first(parts, archives))
        except RequestError as error:
            faults.append(str(error))
            continue
        place = f'{parts[0][0]}: {clip}'
        found.append(ArchivedFrames(clip, place, len(parts), 0, one_size, digest, name, tuple(parts)))
    _refuse(faults)
    return found


def _first(parts: Sequence[tuple[Path, str]], archives: dict[Path, FrameArchive]) -> np.ndarray:
    path, key = parts[0]
    return archives[path].read(key)


def _by_number(names: Iterable[str], first: int | None = None) -> tuple[dict[int, str], list[str]]:
    """Files by the number their names end in, and faults of the numbering (texts that follow the folder's name)."""
    by_number: dict[int, str] = {}
    prefixes: dict[str, str] = {}
    wrong = []
    for name in sorted(names):
        match = _NUMBERED.fullmatch(Path(name).stem)
        if match is None:
            wrong.append(f'/{name}: its name does not end in a number, so its position in the clip is not known')
            continue
        prefixes.setdefault(match[1], name)
        other = by_number.setdefault(int(match[2]), name)
        if other != name and len(prefixes) == 1:
            wrong.append(f': {other} and {name} have the same number')
    if len(prefixes) > 1:
        wrong.append(f': frames of several clips in one folder ({", ".join(sorted(prefixes.values())[:5])})')
    if by_number and not wrong:
        begin = min(by_number) if first is None else first
        missing = max(by_number) - begin + 1 - len(by_number)
        if missing > 0:
            first_ones = [str(number) for number in islice(_missing(sorted(by_number), begin), 10)]
            listed = ', '.join(first_ones) + (' and on' if missing > 10 else '')
            wrong.append(
                f': {missing} frames are missing between {by_number[min(by_number)]} and '
                f'{by_number[max(by_number)]} (number {listed}); a window over a gap would be blurred wrongly'
            )
    return by_number, wrong


def _missing(numbers: Sequence[int], begin: int) -> Iterator[int]:
    """Yields the numbers from ``begin`` on that are missing among these ascending ones; there may be very many."""
    for number in numbers:
        yield from range(begin, number)
        begin = number + 1


def _sizes(places: Sequence, size: Callable[..., Size], faults: list[str]) -> list[Size]:
    """The size in each header; adds faults to the list."""

    sizes: list[Size] = []
    wrong = []
    found = in_order(size, places, usable_cores())
    for _, answer in tqdm(found, total=len(places), desc='reading headers', unit='frame'):
        if isinstance(answer, RequestError):
            wrong.append(str(answer))
            answer = (0, 0)
        sizes.append(answer)
    faults += first_of(wrong)
    return sizes


def _one_size(sizes: dict[str, Size], faults: list[str]) -> Size:
    """The size most frames of a clip have; adds frames of other sizes to the faults."""
    common = Counter(sizes.values()).most_common(1)[0][0]
    faults += first_of(
        f'{place}: is {size[1]}x{size[0]}, expected {common[1]}x{common[0]} like the rest of its clip'
        for place, size in sizes.items()
        if size != common
    )
    return common


def _refuse_equal_names(paths: Sequence[Path], names: Sequence[str]) -> None:
    seen: dict[str, Path] = {}
    faults = []
    for path, name in zip(paths, names, strict=True):
        if seen.setdefault(name, path) != path:
            faults.append(f'{seen[name]} and {path}: both clips would be called {name}; rename one of them')
    _refuse(faults)


def _refuse(faults: Sequence[str]) -> None:
    if len(faults) == 1:
        raise RequestError(faults[0])
    if faults:
        raise RequestError('the source cannot be used as it is:\n  ' + '\n  '.join(faults))

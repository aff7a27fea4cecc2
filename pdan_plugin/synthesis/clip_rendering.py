"""Clips of a moving scene, rendered from photographs into folders: sharp, blurred and small, sharp and small.

What a clip looks like depends on the seed, its split, its number, the photographs and the settings, and on nothing
else: neither on the number of workers nor on how often the work was interrupted.
"""

import argparse
import json
import multiprocessing
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import cv2
import numpy as np

from pdan_plugin.errors import RequestError
from pdan_plugin.files.json_files import write_json
from pdan_plugin.files.whole_files import folder_written_whole, unfinished_path
from pdan_plugin.machine.cores import use_one_thread
from pdan_plugin.synthesis.bicubic import downsample_uint8
from pdan_plugin.synthesis.camera_response import response
from pdan_plugin.synthesis.motion_blur import DUTY_CYCLE, average_subframes, exposure_times
from pdan_plugin.synthesis.moving_scene import MovingScene, random_scene, still_picture
from pdan_plugin.synthesis.photographs import Photograph
from pdan_plugin.synthesis.scene_conditions import AS_PHOTOGRAPHED, NO_SHARES, Conditions, Shares, relit

SCALE = 4
RECORD = 'rendered_clips.json'
RESPONSE = 'srgb'
# Between two sub-frames nothing may move farther than this, or the blur of an edge shows as a row of ghosts.
LONGEST_STEP = 0.6  # frame pixels
LEAST_SUBFRAMES = 17

_CUT_OUT_CHANCES = (0.1, 0.35, 0.35, 0.2)  # of no, one, two, three objects in front of the background


@dataclass(frozen=True)
class ClipFolders:
    """Where one clip goes, each folder's frames named ``00000000.png`` and on.

    Attributes:
        sharp: HR ground truth.
        blurred_small: The blurred frame, four times smaller.
        sharp_small: The sharp frame, four times smaller.
    """

    sharp: Path
    blurred_small: Path
    sharp_small: Path


@dataclass(frozen=True)
class Clip:
    """One clip to render.

    Attributes:
        name: For progress; differs from every other clip's.
        seed: The words that seed its generator.
        background: The photograph the camera moves over.
        cut_outs: The photographs that pieces in front are cut from, as many as pieces.
        size: Width, height of the HR frame; multiples of 4.
        frames: Their number.
        folders: Where they go.
        softness: See :func:`~pdan_plugin.synthesis.moving_scene.random_scene`.
        defocus: See there as well.
        conditions: Motion, sharpness and light.
    """

    name: str
    seed: tuple[int, ...]
    background: Photograph
    cut_outs: tuple[Photograph, ...]
    size: tuple[int, int]
    frames: int
    folders: ClipFolders
    softness: float = 0.0
    defocus: float = 0.0
    conditions: Conditions = AS_PHOTOGRAPHED

    def is_finished(self) -> bool:
        """Whether every frame is in place."""
        wanted = {_frame_name(number) for number in range(self.frames)}
        folders = (self.folders.sharp, self.folders.blurred_small, self.folders.sharp_small)
        return all(folder.is_dir() and {path.name for path in folder.iterdir()} == wanted for folder in folders)


def frame_size(text: str) -> tuple[int, int]:
    """``320x192`` to (320, 192), for a command line."""
    try:
        width, height = (int(side) for side in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not WIDTHxHEIGHT, such as 320x192') from None
    if width % SCALE or height % SCALE or min(width, height) < 32:
        raise argparse.ArgumentTypeError(f'{text}: both sides must be multiples of 4 and at least 32')
    return width, height


def plan_clips(
    split: str,
    photographs: Sequence[Photograph],
    folders: Sequence[ClipFolders],
    *,
    size: tuple[int, int],
    frames: int,
    seed: int,
    softness: float = 0.0,
    defocus: float = 0.0,
    shares: Shares = NO_SHARES,
) -> list[Clip]:
    """One clip for each of ``folders``; every photograph is a background in turn, pieces in front come from others.

    The first clips of a longer plan are those of a shorter one, so that more can be added later.
    """
    clips = []
    split_word = int.from_bytes(split.encode(), 'big')
    for number, places in enumerate(folders):
        turn, position = divmod(number, len(photographs))
        order = np.random.default_rng([seed, split_word, 1, turn]).permutation(len(photographs))
        background = photographs[order[position]]
        others = [photograph for photograph in photographs if photograph is not background] or [background]
        rng = np.random.default_rng([seed, split_word, 2, number])
        picks = rng.integers(0, len(others), rng.choice(len(_CUT_OUT_CHANCES), p=_CUT_OUT_CHANCES))
        clips.append(
            Clip(
                name=f'{split}_{number:03d}',
                seed=(seed, split_word, 3, number),
                background=background,
                cut_outs=tuple(others[pick] for pick in picks),
                size=size,
                frames=frames,
                folders=places,
                softness=softness,
                defocus=defocus,
                conditions=shares.of_clip(number, (seed, split_word, 4)),
            )
        )
    return clips


def expose(scene: MovingScene, time: float) -> tuple[np.ndarray, np.ndarray]:
    """(sharp, blurred) at ``time``, uint8 (h, w, 3): the exposure's centre, and its average in linear light."""
    step = scene.longest_step(exposure_times(time, LEAST_SUBFRAMES))
    count = max(LEAST_SUBFRAMES, ceil(LEAST_SUBFRAMES * step / LONGEST_STEP)) // 2 * 2 + 1
    subframes = (scene.render(moment) for moment in exposure_times(time, count))
    return scene.render(time), average_subframes(subframes, response(RESPONSE))


def _exposures(clip: Clip) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(sharp, blurred) of each frame, uint8 (h, w, 3)."""
    rng, conditions = np.random.default_rng(clip.seed), clip.conditions
    background, *cut_outs = (
        relit(photo.read(), conditions.gain, RESPONSE) for photo in (clip.background, *clip.cut_outs)
    )
    if conditions.stills:
        for _ in range(clip.frames):
            sharp = still_picture(background, clip.size, rng)
            yield sharp, sharp
        return
    scene = random_scene(
        background,
        cut_outs,
        clip.size,
        clip.frames,
        rng,
        softness=0.0 if conditions.sharp else clip.softness,
        defocus=0.0 if conditions.sharp else clip.defocus,
        still_camera=conditions.still_camera,
    )
    for number in range(clip.frames):
        yield expose(scene, number)


def render_clip(clip: Clip) -> None:
    """Renders one clip; its folders appear only when all its frames are written, the sharp one last."""
    with (
        folder_written_whole(clip.folders.sharp) as sharp_folder,  # entered first, so put in place last
        folder_written_whole(clip.folders.sharp_small) as sharp_small,
        folder_written_whole(clip.folders.blurred_small) as blurred_small,
    ):
        for number, (sharp, blurred) in enumerate(_exposures(clip)):
            _write(sharp_folder / _frame_name(number), sharp)
            _write(blurred_small / _frame_name(number), downsample_uint8(blurred, SCALE))
            _write(sharp_small / _frame_name(number), downsample_uint8(sharp, SCALE))


def render_clips(clips: Sequence[Clip], workers: int) -> Iterator[Clip]:
    """Renders the clips, yielding each as it is done; one worker is this process itself."""
    if workers == 1:
        for clip in clips:
            render_clip(clip)
            yield clip
    else:
        # spawn: a fork of a process in which torch has run may hang in its threads' locks.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(workers, mp_context=context, initializer=use_one_thread) as pool:
            pending = {pool.submit(render_clip, clip): clip for clip in clips}
            try:
                for done in as_completed(pending):
                    done.result()
                    yield pending[done]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def check_record(
    target: Path,
    photographs: Mapping[str, Sequence[Photograph]],
    *,
    size: tuple[int, int],
    frames: Mapping[str, int],
    seed: int,
    softness: float = 0.0,
    defocus: float = 0.0,
    shares: Shares = NO_SHARES,
) -> None:
    """Writes what ``target`` is rendered from and how, or compares it with what stands there.

    Raises:
        RequestError: The folder was rendered with other settings or photographs, or holds things rendered by nobody
            who left a record.
    """
    record = {
        'seed': seed,
        'size': list(size),
        'frames': dict(frames),
        'softness': softness,
        'defocus': defocus,
        **({'shares': dict(shares.record())} if shares != NO_SHARES else {}),
        'duty_cycle': DUTY_CYCLE,
        'response': RESPONSE,
        'photographs': {
            split: {photo.digest: photo.path.name for photo in photos} for split, photos in photographs.items()
        },
    }
    path = target / RECORD
    if not path.exists():
        if target.exists() and any(entry != unfinished_path(path) for entry in target.iterdir()):
            raise RequestError(f'{target} is not empty and holds no {RECORD}; give a folder that is new or empty.')
        write_json(path, record)
        return
    try:
        before = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(before, dict):
            raise ValueError('no table of settings')
    except (OSError, ValueError) as error:
        raise RequestError(
            f'{path} cannot be read ({error}); put it back, or render into another folder, or remove {target}'
        ) from error
    different = [key for key in {**record, **before} if before.get(key) != record.get(key)]
    if different:
        told = ', '.join(
            'other photographs' if key == 'photographs' else f'{key} {before.get(key)} (now {record.get(key)})'
            for key in different
        )
        raise RequestError(
            f'{target} was rendered with {told}. Repeat the settings it was begun with, give another '
            'folder, or delete this one.'
        )


def space_needed(clips: Sequence[Clip]) -> int:
    """Bytes the clips take at most: uncompressed."""
    return sum(3 * clip.size[0] * clip.size[1] * clip.frames * (SCALE**2 + 2) // SCALE**2 for clip in clips)


def _frame_name(number: int) -> str:
    return f'{number:08d}.png'


def _write(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image, [cv2.IMWRITE_PNG_COMPRESSION, 3]):
        raise OSError(f'{path} could not be written')

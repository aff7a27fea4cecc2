"""Renders clips of a moving scene from photographs into folders: sharp, small blurred and small sharp frames.

A clip depends only on the seed, its split, its number, the photographs and the settings, not on the number of workers
or on interruptions.
"""

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
from pdan_plugin.synthesis.moving_scene import MovingScene, random_scene, softened, still_picture
from pdan_plugin.synthesis.photographs import Photograph
from pdan_plugin.synthesis.scene_conditions import AS_PHOTOGRAPHED, NO_SHARES, Conditions, Shares, relit

SCALE = 4
LEAST_SIDE = 32  # of a frame, pixels
RECORD = 'rendered_clips.json'
RESPONSE = 'srgb'
# The farthest that anything may move between two sub-frames; above it a blurred edge shows as separate copies.
LONGEST_STEP = 0.6  # frame pixels
LEAST_SUBFRAMES = 17

_CUT_OUT_CHANCES = (0.1, 0.35, 0.35, 0.2)  # of 0, 1, 2 and 3 objects in front of the background


@dataclass(frozen=True)
class ClipFolders:
    """The folders of one clip. The frames in each are named ``00000000.png`` and so on.

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
        name: A unique name, for progress messages.
        seed: The numbers that seed its generator.
        background: The photograph the camera moves over.
        cut_outs: One photograph for each foreground piece that is cut out.
        size: (width, height) of the HR frame; multiples of 4.
        frames: Number of frames.
        folders: Where the frames are written.
        softness: See :func:`~pdan_plugin.synthesis.moving_scene.random_scene`.
        defocus: See :func:`~pdan_plugin.synthesis.moving_scene.random_scene`.
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
    """One clip for each of ``folders``. Photographs take turns as background; foreground pieces come from others.

    A longer plan begins with the clips of a shorter one, so that clips can be added later.
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
            if conditions.soft_stills:
                sharp = softened(sharp, rng, clip.softness, clip.defocus)
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
    """Renders the clips and yields each finished one; with one worker, in this process."""
    if workers == 1:
        for clip in clips:
            render_clip(clip)
            yield clip
    else:
        # spawn: after torch has run, a forked process may hang in a lock of torch's threads.
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
    """Writes the record of ``target``'s settings and photographs, or compares it with the existing record.

    Raises:
        RequestError: The folder was rendered with other settings or photographs, or is not empty but has no record.
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
            f'{path} cannot be read ({error}); restore it, render into another folder, or remove {target}'
        ) from error
    different = [key for key in {**record, **before} if before.get(key) != record.get(key)]
    if different:
        listed = ', '.join(
            'other photographs' if key == 'photographs' else f'{key} {before.get(key)} (now {record.get(key)})'
            for key in different
        )
        raise RequestError(
            f'{target} was rendered with {listed}. Use the settings it was begun with, give another '
            'folder, or delete this one.'
        )


def space_needed(clips: Sequence[Clip]) -> int:
    """The most bytes the clips can take: their uncompressed size."""
    return sum(3 * clip.size[0] * clip.size[1] * clip.frames * (SCALE**2 + 2) // SCALE**2 for clip in clips)


def _frame_name(number: int) -> str:
    return f'{number:08d}.png'


def _write(path: Path, image: np.ndarray) -> None:
    # encoded in memory, because OpenCV crashes for a path that is not UTF-8
    _, content = cv2.imencode('.png', image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    path.write_bytes(content.tobytes())

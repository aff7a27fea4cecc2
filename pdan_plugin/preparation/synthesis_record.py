"""The record of a synthesis: its settings and sources, its progress, and finally its results.

``synthesis.json`` lies beside the finished stores. Its content does not depend on kills, the number of processes or
shards, or the files' location. Until the stores are finished, ``synthesis.partial/`` holds the same without results
(``begun.json``) and one line for each finished run (``runs.jsonl``).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pdan_plugin import __version__
from pdan_plugin.data.reds_layout import SCALE
from pdan_plugin.errors import RequestError, failing_unwritable, some_of
from pdan_plugin.files.digests import digest_of, json_digest
from pdan_plugin.files.json_files import write_json
from pdan_plugin.media.pyav import import_av
from pdan_plugin.preparation.sample_stores import store_paths
from pdan_plugin.preparation.source_clips import SourceClip, Video
from pdan_plugin.preparation.synthesis_plan import Run, Settings, frame_number, sharp_shape, window_centres
from pdan_plugin.synthesis.camera_response import Response
from pdan_plugin.synthesis.frame_interpolation import Interpolator

RECORD = 'synthesis.json'
UNFINISHED = 'synthesis.partial'
# Increase it with every code change that alters the frames or the runs of windows made from the same settings. A
# synthesis begun with another version is not continued, and shards of different versions are not merged.
SYNTHESIS_VERSION = 1
_BEGUN, _RUNS = 'begun.json', 'runs.jsonl'
_RESULTS = ('made', 'cuts', 'left_out')

Description = dict[str, Any]


@dataclass(frozen=True)
class RunResult:
    """What a run found besides its frames.

    Attributes:
        number: The run's number.
        cuts: Positions of the frames that begin a new scene inside one of its windows, ascending.
        left_out: (centre, first cut) of each window that touches a cut.
    """

    number: int
    cuts: tuple[int, ...]
    left_out: tuple[tuple[int, int], ...]


def describe(
    settings: Settings,
    interpolator: Interpolator,
    response: Response,
    clips: Sequence[SourceClip],
    short: Sequence[SourceClip],
    shard: tuple[int, int] | None,
) -> Description:
    """Everything the frames depend on, in values that JSON can hold."""
    table = np.ascontiguousarray(response.table, '<f8').data
    described: Description = {
        'settings': {
            'interpolator': {'name': interpolator.name, **interpolator.settings},
            'device': settings.device.partition(':')[0],  # cuda:1 computes what cuda:0 does
            'factor': settings.window.factor,
            'window': settings.window.length,
            'stride': settings.stride,
            'phases': settings.phases,
            'response': {'name': Path(response.name).name, 'sha256': digest_of(table), 'changed': response.note},
            'cut_threshold': settings.cut_threshold,
            'downsampling': f'bicubic 1/{SCALE}',
            'codec': settings.codec,
            'split': settings.split,
        },
        'versions': {
            'pdan_plugin': __version__,
            'synthesis': SYNTHESIS_VERSION,
            'numpy': np.__version__,
            'opencv': cv2.__version__,
            'torch': torch.__version__,
            **({'av': import_av().__version__} if any(isinstance(clip, Video) for clip in clips) else {}),
        },
        'sources': {clip.name: _source(clip, settings) for clip in clips}
        | {clip.name: _source(clip, settings) | {'unused': 'shorter than a window'} for clip in short},
    }
    if shard is not None:
        described['shard'] = f'{shard[0]}/{shard[1]}'
    return json.loads(json.dumps(described))  # the form in which it is read back


def _source(clip: SourceClip, settings: Settings) -> Description:
    height, width, _ = sharp_shape(clip)
    return {
        'frames': clip.frames,
        'first': clip.first,
        'size': f'{clip.size[1]}x{clip.size[0]}',
        'used_size': f'{width}x{height}',
        'sha256': clip.digest,
        'windows': len(window_centres(clip.frames, settings)),
    }


def differences(begun: Mapping[str, Any], wanted: Mapping[str, Any], within: str = '') -> list[str]:
    """``window was 65, now 33`` for each value that differs."""
    found = []
    for name in [*begun, *(name for name in wanted if name not in begun)]:
        before, now = begun.get(name), wanted.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            found += differences(before, now, f'{within}{name}.' if name != 'settings' else '')
        elif before is None and isinstance(now, dict):
            found.append(f'{within}{name} is new')
        elif now is None and isinstance(before, dict):
            found.append(f'{within}{name} is gone')
        elif before != now:
            found.append(f'{within}{name} was {_as_text(before)}, now {_as_text(now)}')
    return found


def origin(description: Description) -> str:
    """One line for the stores: the main settings and a digest of the whole description."""
    settings = description['settings']
    return (
        f'synthesize_blur, {settings["interpolator"]["name"]} x{settings["factor"]}, window {settings["window"]}, '
        f'stride {settings["stride"]}, phases {settings["phases"]}, response {settings["response"]["name"]}, '
        f'{len(description["sources"])} clips ({json_digest(description)[:16]})'
    )


class Progress:
    """The record of an unfinished synthesis in TARGET."""

    def __init__(self, target: Path, description: Description) -> None:
        self.target = target
        self.description = description
        self._folder = target / UNFINISHED
        self._split = description['settings']['split']

    def is_finished(self) -> bool:
        """Whether TARGET already holds the finished synthesis.

        Raises:
            RequestError: TARGET holds another synthesis, finished or begun, or stores made by something else.
        """
        record = self.target / RECORD
        if record.exists():
            self._refuse_another(without_results(read_record(record)), record)
            gone = [path for path in store_paths(self.target, self._split).values() if not path.exists()]
            if gone:
                raise RequestError(f'{gone[0]}: is missing, but {record} is there; remove the rest to make it again')
            shutil.rmtree(self._folder, ignore_errors=True)  # the last step, if a kill came before it
            return True
        if (self._folder / _BEGUN).exists():
            self._refuse_another(read_record(self._folder / _BEGUN), self._folder)
        else:
            stores = sorted(path.name for path in self.target.glob(f'{self._split}_*.lmdb*'))
            if stores:
                raise RequestError(
                    f'{self.target}: holds {", ".join(stores)} and no {RECORD}, so something else made them; choose '
                    'another TARGET, or remove them'
                )
        return False

    def begin(self) -> None:
        """Write the description to ``begun.json``.

        Raises:
            RequestError: Another process has begun a different synthesis there in the meantime.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / _BEGUN).exists():
            self._refuse_another(read_record(self._folder / _BEGUN), self._folder)
        else:
            write_json(self._folder / _BEGUN, self.description, indent=1, durable=True)

    def finished_runs(self) -> dict[int, RunResult]:
        """Results of the runs whose frames are all in the stores; ignores a line that a kill cut short."""
        file = self._folder / _RUNS
        results = {}
        for line in file.read_text(encoding='utf-8').splitlines() if file.exists() else ():
            try:
                read = json.loads(line)
            except json.JSONDecodeError:
                continue
            left_out = tuple((centre, cut) for centre, cut in read['left_out'])
            results[read['run']] = RunResult(read['run'], tuple(read['cuts']), left_out)
        return results

    def add(self, results: Iterable[RunResult]) -> None:
        """Append the results of finished runs; their frames must be committed before."""
        lines = [
            json.dumps({'run': each.number, 'cuts': each.cuts, 'left_out': each.left_out}) + '\n' for each in results
        ]
        if lines:
            with failing_unwritable(self._folder), (self._folder / _RUNS).open('a', encoding='utf-8') as file:
                file.write('\n' + ''.join(lines))  # a line cut short by a kill must not join the next one
                file.flush()
                os.fsync(file.fileno())

    def finish(self, results: Mapping[str, Description]) -> None:
        """Write the finished record; ``results`` come from `results_by_clip`."""
        sources = {name: source | results.get(name, {}) for name, source in self.description['sources'].items()}
        frames = sum(source.get('made', 0) for source in sources.values())
        record = self.description | {'sources': sources, 'frames': frames}
        with failing_unwritable(self.target):
            write_json(self.target / RECORD, record, indent=1, durable=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _refuse_another(self, begun: Description, place: Path) -> None:
        # If settings differ, everything computed from them differs too: report only the settings.
        unlike = differences(begun['settings'], self.description['settings']) or differences(begun, self.description)
        if unlike:
            raise RequestError(
                f'{place}: {some_of(unlike, between="; ")}. Use the settings it was made with, choose another TARGET, '
                f'or remove the stores and {RECORD} or {UNFINISHED} in {self.target}'
            )


def results_by_clip(runs: Sequence[Run], results: Mapping[int, RunResult]) -> dict[str, Description]:
    """For each clip of these runs: the number of frames made, its cuts, and the windows left out."""
    by_clip: dict[str, Description] = {}
    for run in runs:
        result = results[run.number]
        cuts = [frame_number(run.clip, cut) for cut in result.cuts]
        left_out = {
            frame_number(run.clip, centre): f'scene cut at {frame_number(run.clip, cut)}'
            for centre, cut in result.left_out
        }
        _add_result(by_clip, run.clip.name, len(run.centres) - len(left_out), cuts, left_out)
    return by_clip


def merged_results(records: Sequence[Description]) -> dict[str, Description]:
    """`results_by_clip` of the whole synthesis, from the records of its shards."""
    merged: dict[str, Description] = {}
    for record in records:
        for name, source in record['sources'].items():
            if 'made' in source:
                _add_result(merged, name, source['made'], source['cuts'], source['left_out'])
    return merged


def _add_result(
    by_clip: dict[str, Description], name: str, made: int, cuts: Sequence[str], left_out: Mapping[str, str]
) -> None:
    one = by_clip.setdefault(name, {'made': 0, 'cuts': [], 'left_out': {}})
    one['made'] += made
    one['cuts'] = sorted({*one['cuts'], *cuts})
    one['left_out'] = dict(sorted({**one['left_out'], **left_out}.items()))


def without_results(record: Description) -> Description:
    """The description that a record was made from."""
    sources = {
        name: {key: value for key, value in source.items() if key not in _RESULTS}
        for name, source in record['sources'].items()
    }
    return {key: value for key, value in record.items() if key != 'frames'} | {'sources': sources}


def read_record(file: Path) -> Description:
    """The content of a record file.

    Raises:
        RequestError: The file cannot be read or is not JSON.
    """
    try:
        return json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise RequestError(f'{file}: not a readable record ({error}); remove it and the files beside it') from error


def _as_text(value: Any) -> str:
    return 'none' if value is None else json.dumps(value, ensure_ascii=False)

"""Draws restored pictures of the compared rows side by side, from the last seed that has them all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2

from comparison.plan import PlannedRow
from comparison.rows import BICUBIC, Comparison
from comparison.tables import finished_runs
from pdan_plugin.errors import failing_unwritable
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.report.picture_sheet import ComparedFrames, Scores, evenly_spread
from pdan_plugin.report.scored_run import DatasetScores, read_run

_SHOWN = 6  # frames


def write_sheet(output: Path, rows: Comparison, planned: Mapping[str, PlannedRow]) -> Path | None:
    """Writes ``sheet.png``: LR, bicubic, the rows of ``rows.sheet`` and ground truth, for frames spread over the test.

    Writes nothing and returns None as long as no seed has all of these rows and bicubic.

    Raises:
        RequestError: Pictures or data are no longer there.
        WorkError: The sheet cannot be written.
    """
    records, _ = finished_runs(output, planned)
    shared = set.intersection(*(set(records[name]) for name in rows.sheet))
    bicubic = next(iter(records[BICUBIC].values()), None)
    if not shared or bicubic is None:
        return None
    seed = max(shared)
    titles = {row.name: row.title for row in rows.baselines}
    tests = {titles[name]: _test(output, records[name][seed]['name']) for name in rows.sheet}
    base = _test(output, bicubic['name'])
    keys = [f'{image.clip}/{image.frame}' for image in base.images]
    folders = {title: test.pictures for title, test in tests.items() if test.pictures is not None}
    options = base.options
    frames = ComparedFrames(Path(options['dataroot_lq']), Path(options['dataroot_gt']), folders, keys=keys)
    scores = Scores({BICUBIC: _psnr(base)} | {title: _psnr(test) for title, test in tests.items()})
    sheet = frames.draw(evenly_spread(keys, _SHOWN), scores)
    _, png = cv2.imencode('.png', cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with failing_unwritable(output / 'sheet.png'):
        write_whole(output / 'sheet.png', png.tobytes())
    return output / 'sheet.png'


def _test(output: Path, name: str) -> DatasetScores:
    return next(iter(read_run(output / 'results' / name).datasets.values()))


def _psnr(test: DatasetScores) -> dict[str, float]:
    return {f'{image.clip}/{image.frame}': image.values['psnr'] for image in test.images}

"""`basicsr quickstart`: the whole chain on a small scale, from photographs to scores."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pdan_plugin.commands.argument_types import file_path
from pdan_plugin.commands.script_end import DONE
from pdan_plugin.errors import RequestError, refusing_unwritable

CONTINUES = True

DESCRIPTION = """\
A complete example, without a GPU and without a download of data. It takes some minutes on two cores:

1. renders blurred clips from the photographs that scikit-image ships;
2. stores them as REDS is stored;
3. trains the three phases of a small PDAN;
4. tests it on clips that it has not seen;
5. draws a sheet of the results, and fails if they are less than 0.3 dB above bicubic.

It writes into datasets/, experiments/ and results/ of the working folder. After an interruption, the same command
continues.
"""

SHORT_FOLDER = 'quickstart_short'
_SHEET = 'results/quickstart/sheet.png'
_TWO_ITERATIONS = (
    'train:total_iter=2',
    'val:val_freq=2',
    'logger:save_checkpoint_freq=2',
    'datasets:train:num_worker_per_gpu=0',
)
_WEIGHTS = 'experiments/quickstart_phase{}/models/net_g_latest.pth'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        '--folder',
        type=file_path,
        metavar='FOLDER',
        help=f'work in this folder, which is made if needed (default: the working folder; with --short {SHORT_FOLDER})',
    )
    parser.add_argument(
        '--short',
        action='store_true',
        help='only try whether everything works: four clips, two iterations a phase, no gain required',
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the commands one after the other and returns the exit status of the first that fails, or 0.

    Raises:
        RequestError: The folder cannot be made, or scikit-image is missing.
    """
    from pdan_plugin.commands.main import main
    from pdan_plugin.synthesis.photographs import skimage_photographs

    skimage_photographs()  # reports first what is missing
    folder = arguments.folder or Path(SHORT_FOLDER if arguments.short else '.')
    if folder.exists() and not folder.is_dir():
        raise RequestError(f'--folder {folder}: is a file; expected a folder, which is made if needed')
    with refusing_unwritable(folder):
        folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with _working_in(folder):
        for title, words in _steps(short=arguments.short):
            print(f'== {title}\n$ {shlex.join(["basicsr", *words])}', flush=True)
            status = main(words)
            if status != DONE:
                return status
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    report, weights = folder / 'results/quickstart/report.html', folder / _WEIGHTS.format(3)
    print(f'== done in {minutes} min {seconds} s. Look at {folder / _SHEET} and {report}')
    print(f'Next, a picture of your own:\n  basicsr restore PICTURE -o restored -w {weights}', flush=True)
    return DONE


def _steps(*, short: bool) -> Iterator[tuple[str, list[str]]]:
    """(title, arguments of `basicsr`) of each step. A phase that is trained is left out."""
    clips, more = ('2 1 2 2', '1 0 2 2') if short else ('12 4 20 6', '6 0 20 20')
    for words, name, seed in ((clips, 'clips', '0'), (more, 'clips_synthesised', '1')):
        counts = zip(('--clips', '--val-clips', '--frames', '--val-frames'), words.split(), strict=True)
        options = [word for pair in counts for word in pair]
        yield (
            'rendering clips from the photographs that scikit-image ships',
            ['render-clips', 'skimage', f'datasets/quickstart_{name}', *options, '--seed', seed],
        )
    for name, splits in (('', ['train', 'val']), ('_synthesised', ['train'])):
        clips = f'datasets/quickstart_clips{name}'
        yield (
            'storing them in the form of REDS',
            ['prepare-reds', clips, f'datasets/quickstart{name}', '--splits', *splits, '--verify'],
        )
    for phase in (1, 2, 3):
        if Path(_WEIGHTS.format(phase)).exists():
            trained = Path(_WEIGHTS.format(phase)).parents[1]
            print(f'== {trained} is already trained; remove the folder to train it again', flush=True)
            continue
        overrides = ['--force_yml', *_TWO_ITERATIONS] if short else []
        yield (
            f'training phase {phase}',
            ['train', '-opt', f'quickstart/phase{phase}', '--auto_resume', *overrides],
        )
    yield 'testing on clips it has not seen', ['test', '-opt', 'quickstart/test']
    stores = ['--lr', 'datasets/quickstart/val_blur_bicubic_x4.lmdb', '--gt', 'datasets/quickstart/val_sharp.lmdb']
    results = ['--results', 'PDAN=results/quickstart/visualization/held-out', '-o', _SHEET, '--json']
    yield 'drawing the sheet', ['picture-sheet', *stores, *results, *([] if short else ['--require-gain', '0.3'])]


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

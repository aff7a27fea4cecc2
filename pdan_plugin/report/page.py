"""Writes the page of a test run: one HTML file without any other files."""

from __future__ import annotations

import datetime
import html
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from pdan_plugin.errors import RequestError
from pdan_plugin.files.whole_files import opened_whole
from pdan_plugin.report.page_content import page_content
from pdan_plugin.report.scored_run import read_runs

FRAMES = 6
_NAME = 'report.html'
_SCRIPTS = ('elements.js', 'tables.js', 'viewer.js', 'page.js')  # each uses what those before it define


def write_report(
    runs: Sequence[Path], output: Path | None = None, *, frames: int = FRAMES, metric: str | None = None
) -> Path:
    """Writes the page of one run, or of several side by side, and returns its path.

    The page lists missing pictures and data sets. The file is replaced as a whole or not at all.

    Args:
        runs: Folders that ``basicsr test`` wrote: ``results/NAME``.
        output: The page; None for ``report.html`` in the folder of a single run.
        frames: Number of frames of each data set with pictures, 0 or more; tables list all frames.
        metric: The metric that chooses the worst and best frames; None for ``psnr``, or the first that all runs have.

    Raises:
        RequestError: A run cannot be read, a run lacks the metric, or ``output`` is None for several runs.
        OSError: The page cannot be written.
    """
    if frames < 0:
        raise RequestError(f'--frames {frames}: expected 0 or more')
    if output is None:
        if len(runs) != 1:
            raise RequestError('a page of several runs needs an output path, such as: -o compare.html')
        output = runs[0] / _NAME
    if output.suffix.lower() not in ('.html', '.htm'):
        raise RequestError(f'{output}: a report is a web page; give a file name that ends in .html')
    if output.is_dir():
        raise RequestError(f'{output} is a folder; give a file name')
    read = read_runs(runs)
    # opened first, so that a folder that cannot be written to is reported before the work
    with opened_whole(output) as file:
        content = page_content(read, frames=frames, metric=metric)
        content['made'] = datetime.datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z')
        title = ', '.join(run.label for run in read)
        file.write(filled_page(title, content).encode(errors='backslashreplace'))
    return output


def filled_page(title: str, content: dict) -> str:
    """The text of the page. ``title`` and ``content`` cannot inject markup or scripts."""
    parts = {
        'TITLE': html.escape(title),
        'STYLE': _part('page.css'),
        'SCRIPT': '\n'.join(map(_part, _SCRIPTS)),
        'CONTENT': _json_in_html(content),
    }
    # split once, so that a placeholder inside the content is not filled
    pieces = _part('page.html').split('%%')
    return ''.join(parts[piece] if number % 2 else piece for number, piece in enumerate(pieces))


def _part(name: str) -> str:
    return resources.files('pdan_plugin.report').joinpath(name).read_text(encoding='utf-8')


def _json_in_html(content: dict) -> str:
    """JSON without characters that end a script or start a comment in HTML, or end a line in old JavaScript."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(',', ':'))
    for sign in '<>&':
        text = text.replace(sign, f'\\u{ord(sign):04x}')
    return text

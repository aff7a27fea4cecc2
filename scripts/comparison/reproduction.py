"""Makes the tables: checks the plan, does each run once, and writes the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from comparison import runs, tables
from comparison.plan import PlannedRow, Run, plan_rows, plan_runs
from comparison.records import SCORE_AGAIN, has_scores, is_done, read_record, read_records, write_record
from comparison.rows import FULL, SMALL, Comparison
from comparison.sheet import write_sheet
from pdan_plugin.commands import preflight
from pdan_plugin.errors import RequestError, WorkError
from pdan_plugin.machine.precision import slowness
from pdan_plugin.metrics.lpips_metric import prepare as prepare_lpips
from pdan_plugin.option_schema.check import check_options
from pdan_plugin.processes import launch


def reproduce(
    output: Path,
    *,
    full: bool = False,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    iterations: int | None = None,
    precision: str | None = None,
    again: Sequence[str] = (),
    score_again: bool = False,
    nproc: int | None = None,
    lpips_weights: str | None = None,
    options: Path = Path('options'),
    say: Callable[[str], None] = print,
) -> None:
    """Trains and tests what is missing, and writes ``tables.md``, ``tables.json`` and ``sheet.png`` to ``output``.

    A run is a row with a seed. A finished run is not repeated, and a stopped run continues. The tables also include
    finished runs of other rows and seeds. If a row's options or pictures have changed, it gets new runs. Its old runs
    are kept, but they are in the tables only if the old options and pictures come back.

    Args:
        output: The folder for everything that is written; created if it is missing.
        full: Use the paper's sizes on REDS instead of the small ones.
        rows: Names of rows; None: all.
        seeds: Seeds in order; all rows of one seed come before the next seed.
        iterations: Replaces the iterations of every training.
        precision: Replaces the precision of every training.
        again: Rows whose runs with these seeds are removed and repeated.
        score_again: Whether trained networks are tested once more.
        nproc: Workers of each command.
        lpips_weights: See :func:`~pdan_plugin.metrics.lpips_metric.calculate_lpips`; None: from torch's cache; LPIPS is
            left out if it is not there.
        options: The folder of the option files.
        say: Called with each text for the user.

    Raises:
        RequestError: A row is unknown, or an option file, its data or a record is wrong; nothing is written then.
        WorkError: Runs failed; the other runs are done and in the tables.
    """
    comparison = FULL if full else SMALL
    chosen = comparison.rows if rows is None else comparison.chosen(rows)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise RequestError(f'--seeds {" ".join(map(str, seeds))}: expected one or more different seeds, each 0 or more')
    folder = (options / comparison.rows[0].file).parent
    if not folder.is_dir():
        raise RequestError(
            f'{folder} does not exist (relative to the working folder, {Path.cwd()}); run this in the folder that this '
            'project was cloned to, or give --options FOLDER'
        )
    planned = plan_rows(comparison.rows, options, iterations, precision=precision, workers=nproc)
    lpips_missing = _why_no_lpips(lpips_weights)
    lpips = {'lpips': {'type': 'calculate_lpips', 'crop_border': 0, 'better': 'lower', 'weights': lpips_weights}}
    todo = plan_runs(planned, chosen, seeds, {} if lpips_missing else lpips)
    renewed = {planned[row.name].run_name(seed) for row in comparison.chosen(again) for seed in seeds}
    if not renewed <= {run.name for run in todo}:
        raise RequestError(f'--again {" ".join(again)}: these rows are not in --rows; name them in both')
    output = output.resolve()
    records = read_records(output)
    missing = [run for run in todo if run.name in renewed or not is_done(records.get(run.name))]
    _check(missing, nproc)
    scored_again = [
        run for run in todo if score_again and run.name not in renewed and has_scores(records.get(run.name))
    ]
    _check_weights(output, scored_again)
    _say_what_has_changed(todo, records, say)
    _say_what_is_slow(missing, say)
    failures = []
    with runs.sole_use(output) as lock, runs.stop_signals_raised():
        for name in sorted(renewed):
            runs.forget(output, name)
        for run in scored_again:
            write_record(output, (read_record(output, run.name) or {}) | {SCORE_AGAIN: True})
        runner = runs.Runner(output, lock, nproc=nproc, say=say)
        for number, run in enumerate(todo, 1):
            if is_done(read_record(output, run.name)):
                say(f'[{number}/{len(todo)}] {run.title}: done before')
                continue
            say(f'[{number}/{len(todo)}] {run.title}, {run.path}')
            started = time.monotonic()
            try:
                runner.do(run)
            except KeyboardInterrupt:
                dropped = [word for word, was in (('--again', again), ('--score-again', score_again)) if was]
                without = f', without {" and ".join(dropped)}' if dropped else ''
                say(f'The same command{without} continues from here.')
                raise
            except runs.CommandFailed as error:
                say(f'  failed after {tables.duration(time.monotonic() - started)}: {error}')
                failures.append(run.title)
            else:
                mean = (read_record(output, run.name) or {})['test']['mean']
                took = tables.duration(time.monotonic() - started)
                say(f'  done in {took}: PSNR {mean["psnr"]:.3f}, SSIM {mean["ssim"]:.4f}')
            tables.write_tables(output, comparison, planned)
        text = tables.write_tables(output, comparison, planned)
        sheet = _sheet(output, comparison, planned)
    say(f'\n{text}')
    say(f'Tables: {output / "tables.md"}, with every run in tables.json\nSheet: {sheet}')
    if lpips_missing is not None:
        say(f'LPIPS was not computed: {lpips_missing}. Then: --score-again')
    if failures:
        raise WorkError(
            f'{len(failures)} of {len(todo)} runs failed: {", ".join(failures)}; fix the cause and run this again'
        )


def _why_no_lpips(weights: str | None) -> str | None:
    """The reason why LPIPS cannot be computed, or None; raises RequestError for given weights that are wrong."""
    try:
        prepare_lpips(weights=weights)
    except RequestError as error:
        if weights is not None:
            raise
        return str(error)
    return None


def _sheet(output: Path, comparison: Comparison, planned: Mapping[str, PlannedRow]) -> str:
    """The sheet's path, or the reason why there is none; the tables do not depend on it."""
    try:
        sheet = write_sheet(output, comparison, planned)
    except RequestError as error:
        return f'none; {error}; --score-again makes the pictures again'
    return str(sheet or 'none yet; no seed has all of its rows')


def _say_what_has_changed(todo: Sequence[Run], records: Mapping[str, Any], say: Callable[[str], None]) -> None:
    new = [run for run in todo if run.name not in records]
    earlier = sorted(
        name
        for name, record in records.items()
        if any(run.seed == record['seed'] and set(run.rows) & set(record['rows']) for run in new)
    )
    if earlier:
        say(
            f'The options, --nproc or the pictures have changed since {", ".join(earlier)}: these runs are kept, but '
            'they are in the tables only with the settings and pictures they were made with'
        )


def _say_what_is_slow(missing: Sequence[Run], say: Callable[[str], None]) -> None:
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    for precision in sorted({run.train['train'].get('precision', 'fp32') for run in missing if run.train is not None}):
        if slow := slowness(device, precision):
            say(f'Note: {slow}: --precision fp32, for every row, so that they stay comparable')


def _check(missing: Sequence[Run], nproc: int | None) -> None:
    """Check everything that could keep a run from starting, except a test's weights, which its training makes."""
    for run in {run.rows: run for run in missing}.values():  # seeds of a row are alike
        for opt, is_train in ((run.train, True), (run.test, False)):
            if opt is None:
                continue
            check_options(opt, run.path, is_train=is_train)
            if nproc is not None:
                launch.check_worker_count(nproc, None, (opt.get('dist_params') or {}).get('backend') or 'nccl')
            if not is_train and run.train is not None:
                opt = {**opt, 'path': {**opt['path'], 'pretrain_network_g': None}}
            preflight.check_run(
                opt, str(run.path), is_train=is_train, world_size=nproc or 1, distributed=nproc is not None
            )


def _check_weights(output: Path, trained: Sequence[Run]) -> None:
    for run in trained:
        weights = output / str(run.test['path'].get('pretrain_network_g'))
        if run.train is not None and not weights.is_file():
            raise RequestError(
                f'--score-again: {run.title} cannot be tested: {weights} is missing; restore it, leave out its row '
                f'with --rows, or train it again with --again {run.rows[0]}'
            )

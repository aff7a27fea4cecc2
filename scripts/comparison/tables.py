"""Makes the tables from the runs' records: means and deviations over seeds, as Markdown and as JSON."""

from __future__ import annotations

import inspect
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from basicsr.utils.registry import ARCH_REGISTRY

from comparison.plan import PlannedRow
from comparison.records import has_scores, read_records, training_seconds
from comparison.rows import BICUBIC, PDAN, Comparison, Row
from pdan_plugin.errors import failing_unwritable
from pdan_plugin.files.json_files import write_json
from pdan_plugin.files.whole_files import write_whole
from pdan_plugin.machine import network_size
from pdan_plugin.option_schema.network_section import build_network

_SIZE = (1, 3, 180, 320)
Records = dict[str, dict[int, dict[str, Any]]]  # row -> seed -> record of a finished run


def finished_runs(output: Path, planned: Mapping[str, PlannedRow]) -> tuple[Records, list[str]]:
    """The finished runs of every row, and the names of finished runs that belong to no current row."""
    done = {name: record for name, record in read_records(output).items() if has_scores(record)}
    records: Records = {name: {} for name in planned}
    for name, row in planned.items():
        own = {each['seed']: each for each in done.values() if row.run_name(each['seed']) == each['name']}
        records[name] = dict(sorted(own.items()))
    known = {record['name'] for own in records.values() for record in own.values()}
    return records, sorted(done.keys() - known)


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """(mean, sample standard deviation); the deviation of a single value is None."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def paired(records: Records, later: str, earlier: str, metric: str = 'psnr') -> dict[int, float]:
    """The difference of two rows' scores (``later`` minus ``earlier``) by seed, for the seeds that both have.

    An untrained row has one run, which is compared with every seed.
    """
    own = records[earlier]
    untrained = next((record for record in own.values() if not record['attempts']), None)
    return {
        seed: record['test']['mean'][metric] - other['test']['mean'][metric]
        for seed, record in records[later].items()
        if (other := own.get(seed, untrained)) is not None
    }


def write_tables(output: Path, comparison: Comparison, planned: Mapping[str, PlannedRow]) -> str:
    """Writes ``tables.md`` and ``tables.json``, each whole; returns the text of ``tables.md``.

    Args:
        output: The comparison's folder.
        comparison: The rows of both tables.
        planned: The planned rows by name.

    Raises:
        WorkError: A file cannot be written.
    """
    records, outdated = finished_runs(output, planned)
    facts = {row.name: _facts(row, planned[row.name], records) for row in comparison.rows}
    text = _markdown(comparison, records, facts, outdated)
    runs = {record['name']: record for own in records.values() for record in own.values()}
    names = [row.name for row in comparison.ablation]
    content = {
        'versions': _versions(runs.values()),
        'machines': sorted({record['test']['machine'] for record in runs.values()}),
        'outdated': outdated,
        'baselines': {row.name: facts[row.name] for row in comparison.baselines},
        'ablation': {
            name: facts[name] | {'psnr_above_row_before': _paired_facts(records, name, before) if before else None}
            for before, name in zip([None, *names[:-1]], names, strict=True)
        },
        'pdan_above': {
            row.name: _paired_facts(records, PDAN, row.name) for row in comparison.baselines if row.name != PDAN
        },
        'runs': runs,
    }  # fmt: skip
    with failing_unwritable(output):
        write_json(output / 'tables.json', content)
        write_whole(output / 'tables.md', f'{text}\n')
    return text


def _versions(runs: Iterable[Mapping[str, Any]]) -> list[str]:
    """The versions that runs were made with, each combination once: `torch 2.13.0, pdan_plugin 0.1.0, ...`."""
    made = [
        versions
        for run in runs
        for versions in (*(each['versions'] for each in run['attempts']), run['test']['versions'])
    ]
    return sorted({', '.join(f'{name} {version}' for name, version in each.items()) for each in made})


def duration(seconds: float) -> str:
    """The duration in suitable units, such as ``2 h 5 min``, ``12 min`` or ``40 s``."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f'{minutes // 60} h {minutes % 60} min'
    return f'{minutes} min' if minutes >= 10 else f'{seconds:.0f} s'


def _facts(row: Row, planned: PlannedRow, records: Records) -> dict[str, Any]:
    own = list(records[row.name].values())
    bicubic = next(iter(records.get(BICUBIC, {}).values()), None)
    metrics = ('psnr', 'ssim', 'lpips')
    values = {name: [run['test']['mean'][name] for run in own if name in run['test']['mean']] for name in metrics}
    times = [training_seconds(run) for run in own if planned.is_trained]
    whole = [seconds for seconds, in_one_go in times if in_one_go and seconds is not None]
    seconds = whole or [seconds for seconds, _ in times if seconds is not None]
    tests = [run['test']['seconds_per_image'] for run in own if math.isfinite(run['test']['seconds_per_image'])]
    size = _size(json.dumps(planned.options['network_g'], sort_keys=True))
    facts: dict[str, Any] = {
        'title': row.title, 'file': row.file, 'run': planned.run, 'seeds': list(records[row.name]), **size,
        'trained': planned.is_trained, 'batch': planned.batch,
        'iterations': planned.options['train']['total_iter'] if planned.is_trained else 0,
        'training_seconds': statistics.fmean(seconds) if seconds else None,
        'test_seconds_per_image': statistics.fmean(tests) if tests else None,
    }  # fmt: skip
    for name, each in values.items():
        facts[name] = dict(zip(('mean', 'deviation'), spread(each), strict=True)) if each else None
    facts['psnr_above_bicubic'] = facts['psnr']['mean'] - bicubic['test']['mean']['psnr'] if own and bicubic else None
    base = bicubic['test']['clips'] if own and bicubic else {}
    by_clip = {clip: [run['test']['clips'][clip]['psnr'] for run in own] for clip in base}
    facts['psnr_above_bicubic_by_clip'] = {
        clip: statistics.fmean(each) - base[clip]['psnr'] for clip, each in by_clip.items()
    }
    return facts


@cache
def _size(network: str) -> dict[str, int | None]:
    """Parameters and multiply-accumulates at inference, without a deblurring branch, at 320x180."""
    options = json.loads(network)
    if 'deblur_branch' in inspect.signature(ARCH_REGISTRY.get(options['type'])).parameters:
        options['deblur_branch'] = False
    built = build_network(options, 'network_g')
    parameters = network_size.count_parameters(built)
    counted = network_size.multiply_accumulates(built, _SIZE) if parameters else None
    return {'parameters': parameters, 'macs': counted.value if counted else None}


def _paired_facts(records: Records, later: str, earlier: str) -> dict[str, Any] | None:
    differences = paired(records, later, earlier) if later in records and earlier in records else {}
    if not differences:
        return None
    mean, deviation = spread(list(differences.values()))
    return {'mean': mean, 'deviation': deviation, 'by_seed': differences}


def _markdown(
    comparison: Comparison,
    records: Records,
    facts: Mapping[str, Mapping[str, Any]],
    outdated: Sequence[str],
) -> str:
    rows = [(row, facts[row.name]) for row in comparison.baselines]
    head = ['', 'parameters', 'MACs', 'PSNR', 'SSIM', 'LPIPS', 'above bicubic', 'PDAN above it', 'training', 'a frame']
    compared = [
        [*_first_cells(row, fact), _signed(fact['psnr_above_bicubic']),
         '' if row.name in (PDAN, BICUBIC) else _difference(_paired_facts(records, PDAN, row.name)), *_last_cells(fact)]
        for row, fact in rows
    ]  # fmt: skip
    parts = ['## Comparison', '', *_table(head, compared), '', '## Ablation', '']
    added, before = [], None
    for row in comparison.ablation:
        fact = facts[row.name]
        difference = _difference(_paired_facts(records, row.name, before)) if before else ''
        added.append([*_first_cells(row, fact), _signed(fact['psnr_above_bicubic']), difference, *_last_cells(fact)])
        before = row.name
    parts += _table([*head[:7], 'above the row before', *head[8:]], added)
    clips = list(dict.fromkeys(clip for fact in facts.values() for clip in fact['psnr_above_bicubic_by_clip']))
    if clips:
        by_clip = [
            [row.title, *(_signed(facts[row.name]['psnr_above_bicubic_by_clip'].get(clip)) for clip in clips)]
            for row in comparison.rows
            if row.name != BICUBIC
        ]
        parts += ['', '## PSNR above bicubic, clip by clip', '', *_table(['', *clips], by_clip)]
    return '\n'.join([*parts, '', *_notes(comparison, records, facts, outdated)])


def _notes(
    comparison: Comparison,
    records: Records,
    facts: Mapping[str, Mapping[str, Any]],
    outdated: Sequence[str],
) -> list[str]:
    runs = [run for own in records.values() for run in own.values()]
    notes = [
        "PSNR (dB), SSIM, LPIPS: mean ± sample standard deviation over the seeds of each run's mean over images; RGB, "
        'no border cropped. Differences are taken seed by seed. MACs: multiply-accumulates of a 320x180 frame. '
        'Training: of one run, start-up included; a frame: the network alone, in the test.'
    ]
    tested = sorted({f'{run["test"]["images"]} images of {run["test"]["dataset"]}' for run in runs})
    machines = sorted({run['test']['machine'] for run in runs})
    if runs:
        notes.append(f'Scored on {", ".join(tested)}; {"; ".join(machines)}; {"; ".join(_versions(runs))}.')
    by_seeds: dict[str, list[str]] = {}
    by_budget: dict[str, list[str]] = {}
    for row in comparison.rows:
        fact = facts[row.name]
        if fact['trained']:
            by_seeds.setdefault(', '.join(map(str, fact['seeds'])) or 'none yet', []).append(row.name)
            by_budget.setdefault(f'{fact["iterations"]:,} iterations of {fact["batch"]} crops', []).append(row.name)
    notes.append(f'Trained for: {_listed(by_budget)}. Seeds: {_listed(by_seeds)}.')
    if any('lpips' not in run['test']['mean'] for run in runs):
        which = 'every' if any('lpips' in run['test']['mean'] for run in runs) else 'any'
        notes.append(f'LPIPS was not computed in {which} run; with its weights in place, --score-again computes it.')
    if outdated:
        notes.append(f'Left out, as no row is trained or scored so now: {", ".join(outdated)}.')
    return [line for note in notes for line in (note, '')][:-1]


def _listed(rows: Mapping[str, Sequence[str]]) -> str:
    """The rows' values, each followed by the rows' names if not all are equal."""
    if len(rows) == 1:
        return next(iter(rows))
    return '; '.join(f'{what} ({", ".join(names)})' for what, names in rows.items())


def _first_cells(row: Row, fact: Mapping[str, Any]) -> list[str]:
    return [
        row.title,
        _amount(fact['parameters']),
        _amount(fact['macs']),
        _with_spread(fact['psnr'], 3),
        _with_spread(fact['ssim'], 4),
        _with_spread(fact['lpips'], 4),
    ]


def _last_cells(fact: Mapping[str, Any]) -> list[str]:
    training, frame = fact['training_seconds'], fact['test_seconds_per_image']
    return ['–' if training is None else duration(training), '–' if frame is None else f'{frame:.3f} s']


def _amount(value: int | None) -> str:
    if not value:
        return '–'
    for unit, name in ((1e12, 'T'), (1e9, 'G'), (1e6, 'M')):
        if value >= unit:
            return f'{value / unit:.2f}{name}' if value < 100 * unit else f'{value / unit:.1f}{name}'
    return f'{value / 1e3:.1f}k'


def _with_spread(value: Mapping[str, float | None] | None, digits: int) -> str:
    if value is None:
        return '–'
    deviation = value['deviation']
    return f'{value["mean"]:.{digits}f}' + ('' if deviation is None else f' ± {deviation:.{digits}f}')


def _signed(value: float | None) -> str:
    return '–' if value is None else f'{value:+.2f}'


def _difference(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return '–'
    deviation = value['deviation']
    return f'{value["mean"]:+.3f}' + ('' if deviation is None else f' ± {deviation:.3f}')


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ['---'] + ['---:'] * (len(head) - 1), *rows]
    return ['| ' + ' | '.join(cell.replace('|', r'\|') for cell in line) + ' |' for line in lines]

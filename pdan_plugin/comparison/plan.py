"""The runs that the tables are made of: each row's option file with a seed, and which rows share one training."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdan_plugin.comparison.data_identity import DataIdentity
from pdan_plugin.comparison.rows import Row
from pdan_plugin.errors import RequestError
from pdan_plugin.models.test_record import with_absolute_paths
from pdan_plugin.option_file import read_option_file


@dataclass(frozen=True)
class PlannedRow:
    """A row as its option file is now.

    Attributes:
        run: Name of its runs, but for the seed: the network's, and a digest of all that decides their numbers: options
            (neither name, seed nor logging), workers and pictures. Rows that are alike in that share their runs.
        batch: Pictures of a training step, of all workers; 0 where nothing is trained.
        options: As read, ``iterations`` and ``precision`` applied.
    """

    row: Row
    path: Path
    run: str
    batch: int
    options: dict[str, Any]

    @property
    def is_trained(self) -> bool:
        return 'train' in self.options

    def run_name(self, seed: int) -> str:
        """Of its run with a seed; what is not trained has one run for all seeds."""
        return f'{self.run}_seed{seed}' if self.is_trained else self.run


@dataclass(frozen=True)
class Run:
    """A training and its test, or a test alone, for these ``rows``; ``train`` and ``test`` are whole option files."""

    name: str
    rows: tuple[str, ...]
    seed: int
    path: Path
    train: dict[str, Any] | None
    test: dict[str, Any]

    @property
    def title(self) -> str:
        """For the user: the rows, and the name that its folders and its log have."""
        return f'{" = ".join(self.rows)} ({self.name})'


def plan_rows(
    rows: Iterable[Row],
    options: Path,
    iterations: int | None = None,
    *,
    precision: str | None = None,
    workers: int = 1,
) -> dict[str, PlannedRow]:
    """Reads the option files of all rows; by row's name.

    Args:
        rows: In the tables' order.
        options: The folder that the rows' files are in.
        iterations: Of every training, in place of ``total_iter``; a cosine schedule of one period is shortened alike.
        precision: Of every training, in place of ``precision``.
        workers: Of every training; each adds ``batch_size_per_gpu`` pictures to a step.

    Raises:
        RequestError: A file cannot be read, lacks a section, or has no data to score on.
    """
    planned: dict[str, PlannedRow] = {}
    identity = DataIdentity()
    for row in rows:
        path = options / row.file
        content = read_option_file(path)
        if iterations is not None and 'train' in content:
            _set_iterations(content['train'], iterations, path)
        if precision is not None and 'train' in content:
            content['train']['precision'] = precision
        _scoring_data(content, path)
        deciding: dict[str, Any] = {k: v for k, v in content.items() if k not in ('name', 'manual_seed', 'logger')}
        deciding['pictures'] = identity.of(content['datasets'].values())
        batch = 0
        if 'train' in content:
            deciding['workers'] = workers
            own = (content['datasets'].get('train') or {}).get('batch_size_per_gpu') or 0
            batch = own * workers * (content['train'].get('accumulation_steps') or 1)
        digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
        run = f'{str(content["network_g"]["type"]).lower()}_{digest}'
        planned[row.name] = PlannedRow(row, path, run, batch, content)
    return planned


def plan_runs(
    planned: Mapping[str, PlannedRow],
    rows: Iterable[Row],
    seeds: Sequence[int],
    further_metrics: Mapping[str, Mapping[str, Any]],
) -> list[Run]:
    """The runs of ``rows``, all of a seed before the next seed; shared ones once.

    ``further_metrics``, options by name, are of the tests beside those of the option files.
    """
    runs: dict[str, Run] = {}
    rows = list(rows)
    for seed in seeds:
        for row in rows:
            name = planned[row.name].run_name(seed)
            if name not in runs:
                sharing = tuple(each for each, other in planned.items() if other.run_name(seed) == name)
                runs[name] = _run(planned[row.name], name, sharing, seed, further_metrics)
    return list(runs.values())


def _run(
    row: PlannedRow, name: str, sharing: tuple[str, ...], seed: int, further_metrics: Mapping[str, Mapping[str, Any]]
) -> Run:
    opt = row.options
    shared = {key: value for key, value in opt.items() if key not in ('train', 'val', 'logger', 'datasets', 'path')}
    shared |= {'name': name, 'manual_seed': seed}
    train = None
    paths = _absolute(opt['path'], 'pretrain_network')
    if row.is_trained:
        # without validation: the test that follows scores the same frames
        data = {key: value for key, value in opt['datasets'].items() if key != 'val'}
        train = {**shared, **{key: opt[key] for key in ('train', 'logger') if key in opt}, 'path': dict(paths)}
        train['datasets'] = with_absolute_paths(data)
        paths['pretrain_network_g'] = f'experiments/{name}/models/net_g_latest.pth'
        paths['param_key_g'] = 'params_ema' if opt['train'].get('ema_decay') else 'params'
    val = {key: value for key, value in opt['val'].items() if key != 'val_freq'} | {'save_img': True, 'suffix': None}
    metrics = {**val['metrics'], **further_metrics}
    val['metrics'] = {name: _absolute(metric, 'weights') for name, metric in metrics.items()}
    scoring = with_absolute_paths(_scoring_data(opt, row.path))
    paths = {key: value for key, value in paths.items() if key != 'resume_state'}
    test = shared | {'datasets': {'test': scoring}, 'path': paths, 'val': val}
    test = {key: value for key, value in test.items() if key == 'network_g' or not key.startswith('network_')}
    return Run(name, sharing, seed, row.path, copy.deepcopy(train), copy.deepcopy(test))


def _absolute(options: Mapping[str, Any], beginning: str) -> dict[str, Any]:
    """Options whose files, those of keys with this beginning, are found from the comparison's folder too."""
    return {
        key: os.path.abspath(os.path.expanduser(value)) if value and key.startswith(beginning) else value
        for key, value in options.items()
    }


def _scoring_data(opt: Mapping[str, Any], path: Path) -> dict[str, Any]:
    word = 'val' if 'train' in opt else 'test'
    data = (opt.get('datasets') or {}).get(word)
    metrics = (opt.get('val') or {}).get('metrics') or {}
    network = opt.get('network_g') or {}
    if not isinstance(data, dict) or not {'psnr', 'ssim'} <= set(metrics) or 'type' not in network:
        raise RequestError(
            f'{path}: expected network_g.type, datasets.{word}, the data to score on, and val.metrics with psnr and '
            'ssim; see options/baselines/small/edsr.yml'
        )
    return data


def _set_iterations(train: dict[str, Any], iterations: int, path: Path) -> None:
    if iterations < 1:
        raise RequestError(f'--iterations {iterations}: expected 1 or more')
    scheduler = train.get('scheduler') or {}
    if scheduler.get('periods') == [train.get('total_iter')]:
        scheduler['periods'] = [iterations]
    elif scheduler.get('type') != 'ReduceLROnPlateau':
        raise RequestError(
            f'{path}: --iterations does not know how to shorten this scheduler; expected ReduceLROnPlateau or '
            'CosineAnnealingRestartLR with periods: [total_iter]. Change total_iter in the file instead'
        )
    train['total_iter'] = iterations

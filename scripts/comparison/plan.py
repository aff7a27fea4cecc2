"""Plans the runs of the tables: each row's option file with each seed, and which rows share one training."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from comparison.data_identity import PLACES, DataIdentity
from comparison.rows import Row
from pdan_plugin.errors import RequestError
from pdan_plugin.files.digests import json_digest
from pdan_plugin.models.scores_record import with_absolute_paths
from pdan_plugin.option_schema.option_file import read_option_file

# keys that do not change a run's numbers: names, seeds, devices, logging, loading, and what a test shows
_DECIDE_NOTHING = (
    'name', 'manual_seed', 'num_gpu', 'logger', 'num_worker_per_gpu', 'pin_memory', 'persistent_workers',
    'prefetch_mode', 'num_prefetch_queue', 'val_freq', 'save_img', 'suffix', 'pbar',
)  # fmt: skip


@dataclass(frozen=True)
class PlannedRow:
    """A row with its current option file.

    Attributes:
        run: Name of its runs without the seed: the network's name and a digest of everything that decides their
            numbers: options (not those of loading, logging and showing), workers, and the content of pictures and
            initial weights. Rows with the same name share their runs.
        batch: Pictures in a training step, over all workers; 0 if nothing is trained.
        options: The option file's content, with ``iterations``, ``precision`` and a single process's device applied.
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
        """Name of its run with a seed; an untrained row has one run for all seeds."""
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
        """For the user: the rows, and the name of the run's folders and log."""
        return f'{" = ".join(self.rows)} ({self.name})'


def plan_rows(
    rows: Iterable[Row],
    options: Path,
    iterations: int | None = None,
    *,
    precision: str | None = None,
    workers: int | None = None,
) -> dict[str, PlannedRow]:
    """Reads the option files of all rows; returns the planned rows by name.

    Args:
        rows: In the tables' order.
        options: The folder of the rows' files.
        iterations: Replaces ``total_iter`` of every training; a cosine schedule of one period is shortened too.
        precision: Replaces ``precision`` of every training.
        workers: Workers of every training; each adds ``batch_size_per_gpu`` pictures to a step. None: one process; with
            ``num_gpu: auto`` it uses one GPU, or none if there is none.

    Raises:
        RequestError: A file cannot be read, lacks a section, or has no data to score on; or a row is scored on other
            pictures or in another way than the first.
    """
    planned: dict[str, PlannedRow] = {}
    scored: dict[str, Any] = {}
    identity = DataIdentity()
    for row in rows:
        path = options / row.file
        content = read_option_file(path)
        if iterations is not None and 'train' in content:
            _set_iterations(content['train'], iterations, path)
        if precision is not None and 'train' in content:
            content['train']['precision'] = precision
        if workers is None and content.get('num_gpu', 'auto') == 'auto':
            content['num_gpu'] = int(torch.cuda.is_available())  # all GPUs in one process would be a larger batch
        scoring = _scoring_data(content, path)
        scored[str(path)] = identity.of([scoring]), scoring.get('frames'), _scores(content['val']['metrics'])
        _require_alike(scored, path)
        devices = _training_devices(content, workers)
        batch = 0
        if 'train' in content:
            own = (content['datasets'].get('train') or {}).get('batch_size_per_gpu') or 0
            batch = own * devices * (content['train'].get('accumulation_steps') or 1)
        planned[row.name] = PlannedRow(row, path, _run_name(content, identity, devices), batch, content)
    return planned


def _training_devices(content: Mapping[str, Any], workers: int | None) -> int:
    """Number of ``batch_size_per_gpu`` batches in a forward pass; a single process may have several GPUs."""
    devices = content.get('num_gpu') if workers is None else workers
    return max(1, devices) if isinstance(devices, int) else 1


def _run_name(content: Mapping[str, Any], identity: DataIdentity, devices: int) -> str:
    pictures, weights = identity.of(content['datasets'].values()), identity.of([content.get('path') or {}])
    deciding = _deciding(content, by_content=pictures is not None and weights is not None)
    deciding |= {'pictures': pictures, 'weights': weights}
    if 'train' in content:
        deciding['workers'] = devices
    return f'{str(content["network_g"]["type"]).lower()}_{json_digest(deciding)[:8]}'


def _deciding(options: Any, *, by_content: bool) -> Any:
    """Options without keys that do not change numbers and, if ``by_content``, without paths of digested files."""
    if isinstance(options, Mapping):
        return {
            key: _deciding(value, by_content=by_content)
            for key, value in options.items()
            if key not in _DECIDE_NOTHING and not (by_content and key.startswith(PLACES))
        }
    return [_deciding(each, by_content=by_content) for each in options] if isinstance(options, list) else options


def _scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metrics[name] for name in ('psnr', 'ssim')}


def _require_alike(scored: Mapping[str, Any], path: Path) -> None:
    first = next(iter(scored))
    differing = [
        what
        for what, own, other in zip(
            ('the pictures of its data', 'frames', 'val.metrics'), scored[str(path)], scored[first], strict=True
        )
        if own != other
    ]
    if differing:
        raise RequestError(
            f'{path}: scored differently from {first}: {" and ".join(differing)} differ; all rows of a table must be '
            'scored on the same pictures in the same way'
        )


def plan_runs(
    planned: Mapping[str, PlannedRow],
    rows: Iterable[Row],
    seeds: Sequence[int],
    further_metrics: Mapping[str, Mapping[str, Any]],
) -> list[Run]:
    """The runs of ``rows``: all runs of one seed, then the next seed; a shared run only once.

    ``further_metrics``, options by name, are added to the metrics of the option files in tests.
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
    paths = _absolute(opt.get('path') or {}, 'pretrain_network')
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
    """Options in which the paths of keys with this prefix are absolute, so that they work from any folder."""
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

"""Checks that a run would start: tries data sets, first samples, one step and paths, and writes nothing.

``basicsr train`` and ``basicsr test`` make these checks before the toolbox creates its folders. ``basicsr check`` makes
them and prints the size of the run (`run_summary`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from basicsr.utils.registry import MODEL_REGISTRY
from torch import nn

from pdan_plugin.commands.data_check import DataFacts, check_data
from pdan_plugin.commands.device_check import check_engine, check_loggers, check_prefetching
from pdan_plugin.commands.metric_check import check_metrics
from pdan_plugin.commands.missing_weights import check_weights
from pdan_plugin.commands.step_check import check_step
from pdan_plugin.commands.trial import as_request, toolbox_silent
from pdan_plugin.data.epochs import iterations_per_epoch
from pdan_plugin.machine.devices import device_count
from pdan_plugin.metrics.preparation import prepare_metrics
from pdan_plugin.models.distinct_results import require_distinct_tables
from pdan_plugin.option_schema.completion import complete_datasets, run_name
from pdan_plugin.option_schema.constructors import find_registered, is_restoration_model
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.restoration.restorer import Restorer


@dataclass(frozen=True)
class RunFacts:
    """Facts about a run.

    Attributes:
        data: Its data sets.
        batch_size: Samples per worker and iteration, including all parts.
        world_size: Number of workers.
        iterations: In training, iterations per epoch (whole batches).
        devices: GPUs per worker; 0 is the CPU.
        networks: Its networks with their first weights, on the CPU, by the keys of their sections.
    """

    data: list[DataFacts]
    batch_size: int
    world_size: int
    iterations: int
    devices: int
    networks: dict[str, nn.Module] = field(default_factory=dict)


def check_run(
    opt: Mapping[str, Any],
    path: str,
    *,
    is_train: bool,
    world_size: int,
    distributed: bool,
    auto_resume: bool = False,
    debug: bool = False,
) -> RunFacts:
    """Checks devices, weights, data paths, data sets and first samples of a run. The options passed ``check_options``.

    Args:
        opt: The options; not changed.
        path: Their file, for messages.
        world_size: Number of processes.
        distributed: Whether they form a process group; a single process may, too.
        auto_resume: Whether the run resumes from its last state, which replaces the pretrained weights.

    Raises:
        RequestError: The first problem that would prevent the run from starting, and what to do.
    """
    opt = copy.deepcopy(dict(opt))
    opt['manual_seed'] = opt.get('manual_seed') or 0
    devices = device_count(opt['num_gpu'], distributed, path)
    complete_datasets(opt)
    check_engine(opt, path, is_train=is_train, devices=devices, distributed=distributed)
    if is_train:
        check_loggers(opt['logger'], path)
    check_weights(opt, path, is_train=is_train, auto_resume=auto_resume, name=run_name(opt, debug=debug))
    is_submission = not is_train and bool((opt.get('val') or {}).get('submission'))
    with as_request(path):
        # the run loads them where they compute; here a GPU would hold what each process of the run tries
        prepare_metrics((opt.get('val') or {}).get('metrics') or {}, device='cpu')
        if not is_train:
            require_distinct_tables(opt['datasets'])
    with toolbox_silent():
        data = [
            check_data(
                values, f'datasets.{word}', opt.get('scale'), path, is_test=not is_train, is_submission=is_submission
            )
            for word, values in opt['datasets'].items()
        ]
        check_metrics((opt.get('val') or {}).get('metrics') or {}, data, path)
        networks = {}
        for key, values in opt.items():
            if key.startswith('network_') and (is_train or key == 'network_g'):
                with as_request(path):
                    networks[key] = build_network(values, key)
        if 'network_g' in networks:
            _try_restorer(opt, networks['network_g'], path, on_gpu=devices > 0)
        check_step(opt, networks, data, path, is_train=is_train)
        if not is_train:
            return RunFacts(data, 1, world_size, 0, min(devices, 1), networks)
        values = opt['datasets']['train']
        parts = int(opt['train'].get('accumulation_steps') or 1)
        batch_size = int(values['batch_size_per_gpu']) * (1 if distributed else max(1, devices)) * parts
        samples = next(facts.samples for facts in data if facts.phase == 'train')
        with as_request(path):
            iterations = iterations_per_epoch(samples, values.get('dataset_enlarge_ratio', 1), batch_size, world_size)
    check_prefetching(values, path, devices=devices)
    per_worker = min(devices, 1) if distributed else devices
    return RunFacts(data, batch_size, world_size, iterations, per_worker, networks)


def _try_restorer(opt: Mapping[str, Any], network: nn.Module, path: str, *, on_gpu: bool) -> None:
    """Builds what validates in tiles or with a self-ensemble: sizes that the network takes decide which tiles it can.

    Other models than RestorationModel are skipped: they do not read these options.
    """
    val = opt.get('val') or {}
    if not is_restoration_model(find_registered(MODEL_REGISTRY, opt['model_type'])):
        return
    if val.get('tile') is None and val.get('local_pooling') is None and not val.get('self_ensemble'):
        return
    with as_request(f'{path}: val'):
        Restorer(
            network,
            'cpu',
            precision='fp32' if on_gpu else val.get('precision', 'fp32'),
            tile=val.get('tile'),
            overlap=val.get('tile_overlap'),
            local_pooling=val.get('local_pooling'),
        )

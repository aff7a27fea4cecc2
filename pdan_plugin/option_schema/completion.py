"""Adds the options that the toolbox's pipelines read but no option file gives: phases, scales, folders, and the short
intervals of a ``--debug`` run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from os import path as osp
from typing import Any

from torch.distributed import init_process_group

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.sections import Distributed


def is_training(opt: Mapping[str, Any]) -> bool:
    """Whether an option file is for training: it has training data or a section ``train``."""
    datasets = opt.get('datasets')
    return 'train' in opt or (isinstance(datasets, Mapping) and 'train' in datasets)


def run_name(opt: Mapping[str, Any], *, debug: bool = False) -> str:
    """The name of the run's folder, under experiments/ or results/."""
    return f'debug_{opt["name"]}' if debug and not opt['name'].startswith('debug') else opt['name']


def require_what_every_file_has(opt: Mapping[str, Any], path: str) -> None:
    """Checks for the keys that `complete_options` needs.

    Raises:
        RequestError: One of them is missing.
    """
    for key in ('name', 'num_gpu', 'datasets'):
        if key not in opt:
            raise RequestError(f'{path}: {key}: missing; every option file needs it')


def group_parameters(opt: Mapping[str, Any]) -> dict[str, Any]:
    """``dist_params`` for joining the process group: its keys that are read. Without GPUs the backend is gloo."""
    known = {*Distributed.model_fields, *inspect.signature(init_process_group).parameters}
    given = {key: value for key, value in (opt.get('dist_params') or {}).items() if key in known}
    return {**given, **({'backend': 'gloo'} if opt['num_gpu'] == 0 else {})}


def complete_options(
    opt: dict[str, Any], root_path: str, *, is_train: bool, auto_resume: bool = False, debug: bool = False
) -> None:
    """Adds in place the options that the pipelines read and the option file does not give.

    Args:
        opt: The options, including ``manual_seed``.
        root_path: Folder in which experiments/ and results/ are created.
        is_train: Options for the trainer if true, else for the tester.
        auto_resume: Whether the run resumes from its newest training state.
        debug: Whether the run logs and validates often, and has its own folder ``debug_NAME``.
    """
    opt['auto_resume'] = auto_resume
    opt['is_train'] = is_train
    opt['name'] = run_name(opt, debug=debug)
    complete_datasets(opt)
    _complete_paths(opt, root_path)
    if opt.get('val') is not None:
        opt['val'].setdefault('suffix', None)
    if is_train and 'debug' in opt['name']:
        if opt.get('val') is not None:
            opt['val']['val_freq'] = 8
        opt['logger']['print_freq'] = 1
        opt['logger']['save_checkpoint_freq'] = 8


def complete_datasets(opt: dict[str, Any]) -> None:
    """Sets in place the phase, scale and training seed of every data set, and expands ``~`` in data roots."""
    for name, dataset in opt['datasets'].items():
        dataset['phase'] = name.split('_')[0]
        if 'scale' in opt:
            dataset['scale'] = opt['scale']
        if dataset['phase'] == 'train':
            dataset['manual_seed'] = opt['manual_seed']
        sources = dataset.get('sources')
        for source in [dataset, *(sources if isinstance(sources, list) else [])]:
            if not isinstance(source, dict):
                continue  # the data set reports the error
            for key, value in source.items():
                if key.startswith('dataroot') and isinstance(value, str):
                    source[key] = osp.expanduser(value)


def _complete_paths(opt: dict[str, Any], root_path: str) -> None:
    paths = opt['path'] = opt.get('path') or {}
    for key, value in paths.items():
        if isinstance(value, str) and ('resume_state' in key or 'pretrain_network' in key):
            paths[key] = osp.expanduser(value)
    if opt['is_train']:
        root = paths['experiments_root'] = osp.join(root_path, 'experiments', opt['name'])
        paths['models'] = osp.join(root, 'models')
        paths['training_states'] = osp.join(root, 'training_states')
    else:
        root = paths['results_root'] = osp.join(root_path, 'results', opt['name'])
    paths['log'] = root
    paths['visualization'] = osp.join(root, 'visualization')

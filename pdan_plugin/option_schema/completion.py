"""What the toolbox's pipelines read and no option file says: phases, scales, folders, and the short intervals of a
``--debug`` run."""

from __future__ import annotations

from collections.abc import Mapping
from os import path as osp
from typing import Any

from pdan_plugin.errors import RequestError


def is_training(opt: Mapping[str, Any]) -> bool:
    """Whether an option file is to train: it describes training data or a training section."""
    datasets = opt.get('datasets')
    return 'train' in opt or (isinstance(datasets, Mapping) and 'train' in datasets)


def run_name(opt: Mapping[str, Any], *, debug: bool = False) -> str:
    """The name of the run's folder, under experiments/ or results/."""
    return f'debug_{opt["name"]}' if debug and not opt['name'].startswith('debug') else opt['name']


def require_what_every_file_has(opt: Mapping[str, Any], path: str) -> None:
    """Looks for the keys without which options cannot be completed.

    Raises:
        RequestError: One of them is missing.
    """
    for key in ('name', 'num_gpu', 'datasets'):
        if key not in opt:
            raise RequestError(f'{path}: {key}: is missing; every option file has it')


def group_parameters(opt: Mapping[str, Any]) -> dict[str, Any]:
    """``dist_params`` for joining the process group; without GPUs the backend is gloo, whatever the file says."""
    return {**(opt.get('dist_params') or {}), **({'backend': 'gloo'} if opt['num_gpu'] == 0 else {})}


def complete_options(
    opt: dict[str, Any], root_path: str, *, is_train: bool, auto_resume: bool = False, debug: bool = False
) -> None:
    """Adds in place what the pipelines read beside the option file's own words.

    Args:
        opt: The options with a ``manual_seed`` in them.
        root_path: experiments/ and results/ are made in it.
        is_train: Options for the trainer, or for the tester.
        auto_resume: Whether the run goes on from its newest training state.
        debug: Whether the run is a short one, in a folder of its own, that logs and validates often.
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
    """Gives every data set in place its phase, the scale, the training seed, and data roots without ``~``."""
    for name, dataset in opt['datasets'].items():
        dataset['phase'] = name.split('_')[0]
        if 'scale' in opt:
            dataset['scale'] = opt['scale']
        if dataset['phase'] == 'train':
            dataset['manual_seed'] = opt['manual_seed']
        sources = dataset.get('sources')
        for source in [dataset, *(sources if isinstance(sources, list) else [])]:
            if not isinstance(source, dict):
                continue  # the data set reports what is wrong with it
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

"""Finds missing weights and training states before a run starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.completion import is_training
from pdan_plugin.weights.packaged_weights import packaged_weights

_DOWNLOADS = 'pretrained_models'


def check_weights(opt: Mapping[str, Any], path: str, *, is_train: bool, auto_resume: bool, name: str) -> None:
    """Checks that all files exist that the run loads before its first iteration.

    Args:
        opt: The options.
        path: Their file, for messages.
        is_train: Whether the run trains.
        auto_resume: Whether it resumes from its newest state, which has its own weights.
        name: Name of the run's folder in experiments/.

    Raises:
        RequestError: A file is missing; lists all missing weights.
    """
    paths = opt.get('path') or {}
    state = paths.get('resume_state')
    if is_train and state and not auto_resume and not Path(state).expanduser().is_file():
        raise RequestError(
            f'{path}: path.resume_state: {state} does not exist; give an existing .state file, or remove the key '
            '(--auto_resume finds the newest state)'
        )
    if is_train and auto_resume and list(Path('experiments', name, 'training_states').glob('*.state')):
        return  # the newest state has its own weights
    if missing := missing_weights(opt, path):
        raise RequestError('\n'.join(missing.values()))


def missing_weights(opt: Mapping[str, Any], path: str) -> dict[str, str]:
    """The keys of ``path:`` with missing weights, each with a message and what to do."""
    missing: dict[str, str] = {}
    paths = opt.get('path') or {}
    if is_training(opt) and paths.get('resume_state'):
        return missing  # the state has its own weights
    for key, value in paths.items():
        if not key.startswith('pretrain_network') or value is None or Path(value).expanduser().is_file():
            continue
        parts = Path(value).parts
        trained = parts[parts.index('experiments') + 1] if 'experiments' in parts[:-1] else None
        if trained == _DOWNLOADS:
            advice = (
                f"experiments/{_DOWNLOADS} is the toolbox's folder for downloaded weights: download {Path(value).name} "
                'from the page of the project that published it, and put it there, or give its path'
            )
        elif trained and len(parts) > parts.index('experiments') + 2:
            advice = f'`basicsr train` with the option file that has name: {trained} creates it'
        else:
            advice = f'give the path of a weights file, or a name of packaged weights ({", ".join(packaged_weights())})'
        missing[key] = f'{path}: path.{key}: {value} does not exist (relative to the working folder); {advice}'
    return missing

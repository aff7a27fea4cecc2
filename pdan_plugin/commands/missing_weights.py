"""Weights and training states that a run starts from and that are not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdan_plugin.errors import RequestError
from pdan_plugin.option_schema.completion import is_training


def check_weights(opt: Mapping[str, Any], path: str, *, is_train: bool, auto_resume: bool, name: str) -> None:
    """Looks for every file that the run loads before its first iteration.

    Args:
        opt: The options.
        path: Their file, for messages.
        is_train: Whether the run trains.
        auto_resume: Whether it goes on from its newest state, which brings its own weights.
        name: Of the run's folder under experiments/.

    Raises:
        RequestError: A file is missing; lists all missing weights.
    """
    paths = opt.get('path') or {}
    state = paths.get('resume_state')
    if is_train and state and not auto_resume and not Path(state).expanduser().is_file():
        raise RequestError(
            f'{path}: path.resume_state: {state} does not exist; give an existing .state file, or take '
            'it out (--auto_resume finds the newest by itself)'
        )
    if is_train and auto_resume and list(Path('experiments', name, 'training_states').glob('*.state')):
        return  # the newest state brings its own weights
    if missing := missing_weights(opt, path):
        raise RequestError('\n'.join(missing.values()))


def missing_weights(opt: Mapping[str, Any], path: str) -> dict[str, str]:
    """The keys of ``path:`` that name weights which are not there, each with a message that says what to do."""
    missing: dict[str, str] = {}
    paths = opt.get('path') or {}
    if is_training(opt) and paths.get('resume_state'):
        return missing  # which brings its own weights
    for key, value in paths.items():
        if not key.startswith('pretrain_network') or value is None or Path(value).expanduser().is_file():
            continue
        parts = Path(value).parts
        trained = parts[parts.index('experiments') + 1] if 'experiments' in parts[:-1] else None
        advice = (
            f'`basicsr train` with the option file whose name: is {trained} makes it'
            if trained
            else 'give the path of a weights file'
        )
        missing[key] = f'{path}: path.{key}: {value} does not exist (looked for from the working folder); {advice}'
    return missing

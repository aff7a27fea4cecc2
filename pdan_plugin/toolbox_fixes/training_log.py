"""The log of a run: its lines and its progress bar."""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from basicsr.data import prefetch_dataloader
from basicsr.models.base_model import BaseModel
from basicsr.utils import logger as toolbox_logger

from pdan_plugin.machine.memory import peak_memory_text
from pdan_plugin.toolbox_fixes.patching import fix, probe, replace, swapped
from pdan_plugin.training import history, progress
from pdan_plugin.training.training_log import TrainingLog

_ONLY_SRMODEL = 'Multiple validation datasets are *only* supported by SRModel'


class _Reached(Exception):
    """Ends the simulated run."""


@fix(
    where='utils/logger.py:116-120',
    upstream='none',
    symptom='a negative ETA at the last iteration; after a resume an ETA that includes loading; no speed, no memory',
    behaves=lambda: _last_line_has_nothing_left(),
)
def log_lines_have_time_and_pace() -> None:
    """Replaces `MessageLogger`."""
    replace(toolbox_logger, 'MessageLogger', TrainingLog)


@fix(
    where='train.py:160-203',
    upstream='none',
    symptom='between two log lines nothing shows the progress of the run or what it waits for',
    behaves=lambda: _steps_are_followed(),
)
def progress_is_followed() -> None:
    """Follows the trainer's steps, measures their time and draws the progress bar."""
    train = importlib.import_module('basicsr.train')
    replace(train, 'train_pipeline', _followed_run(train.train_pipeline))
    replace(BaseModel, 'update_learning_rate', _beginning_an_iteration(BaseModel.update_learning_rate))
    for prefetcher in (prefetch_dataloader.CPUPrefetcher, prefetch_dataloader.CUDAPrefetcher):
        replace(prefetcher, 'reset', _timed(prefetcher.reset, 'waiting'))
        replace(prefetcher, 'next', _ending_an_iteration(_timed(prefetcher.next, 'waiting')))
    for name in ('validation', 'save_network', 'save_training_state'):
        replace(BaseModel, name, _timed(getattr(BaseModel, name), 'set_aside'))


@fix(
    where='train.py:190',
    upstream='none',
    symptom='two validation sets: at each validation a warning that only SRModel supports them, though all models do',
    behaves=lambda: _tells_no_limit_of_sets(),
)
def several_validation_sets_are_no_warning() -> None:
    """Leaves that line out of the log of a run. `video_scores_are_on_the_device` mends the models that failed."""
    train = importlib.import_module('basicsr.train')
    replace(train, 'train_pipeline', _without_that_warning(train.train_pipeline))


def _without_that_warning(published: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(published)
    def train_pipeline(*args: Any, **kwargs: Any) -> None:
        log = logging.getLogger('basicsr')
        log.addFilter(_is_true)
        try:
            published(*args, **kwargs)
        finally:
            log.removeFilter(_is_true)

    return train_pipeline


def _is_true(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_ONLY_SRMODEL)


def _followed_run(published: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(published)
    def train_pipeline(*args: Any, **kwargs: Any) -> None:
        history.forget_runs()
        with progress.following_a_run():
            published(*args, **kwargs)
        toolbox_logger.get_root_logger().info(peak_memory_text())

    return train_pipeline


def _beginning_an_iteration(published: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(published)
    def update_learning_rate(self: BaseModel, current_iter: int, *args: Any, **kwargs: Any) -> None:
        run = progress.current()
        if run is not None:
            run.begun(current_iter)
        published(self, current_iter, *args, **kwargs)

    return update_learning_rate


def _ending_an_iteration(published: Callable[..., Any]) -> Callable[..., Any]:
    """An iteration ends when the trainer requests the next batch."""

    @functools.wraps(published)
    def following(self: Any) -> Any:
        run = progress.current()
        if run is not None:
            run.done()
        return published(self)

    return following


def _timed(published: Callable[..., Any], watch: str) -> Callable[..., Any]:
    @functools.wraps(published)
    def timed(*args: Any, **kwargs: Any) -> Any:
        run = progress.current()
        if run is None:
            return published(*args, **kwargs)
        with getattr(run, watch):
            return published(*args, **kwargs)

    return timed


@probe
def _last_line_has_nothing_left() -> bool:
    """Logs the last of 20 iterations of a run resumed at 10."""
    logger, lines, clock = logging.Logger('probe'), [], itertools.count(0, 1000).__next__
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)
    opt = {
        'name': 'probe', 'logger': {'print_freq': 1, 'use_tb_logger': False}, 'train': {'total_iter': 20},
        'datasets': {'train': {'batch_size_per_gpu': 1}}, 'dist': False, 'num_gpu': 0, 'world_size': 1,
    }  # fmt: skip
    with (
        swapped(toolbox_logger, get_root_logger=lambda *args, **kwargs: logger, time=SimpleNamespace(time=clock)),
        swapped(history, run_history=lambda opt: history.History(None)),
    ):
        log = toolbox_logger.MessageLogger(opt, 10)
        log({'epoch': 0, 'iter': 20, 'lrs': [1.0], 'time': 1.0, 'data_time': 0.5})
    return 'eta: 0:00:00' in lines[0] and 'samples/s' in lines[0]


@probe
def _steps_are_followed() -> bool:
    with progress.following_a_run():
        run = progress.RunProgress('probe', 0, 2, 1)
        progress.begin(run)
        BaseModel({'num_gpu': 0, 'is_train': True}).update_learning_rate(1)
        prefetch_dataloader.CPUPrefetcher([]).next()
        return run.iteration == 1 and run.waiting.seconds > 0


@probe
def _tells_no_limit_of_sets() -> bool:
    """Logs the line where a run reads its options, and ends it there."""
    train = importlib.import_module('basicsr.train')
    log, lines = logging.getLogger('basicsr'), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())

    def parse_options(*args: Any, **kwargs: Any) -> Any:
        log.warning(_ONLY_SRMODEL)
        raise _Reached

    with (
        swapped(log, handlers=[handler], propagate=False),
        swapped(train, parse_options=parse_options),
        contextlib.suppress(_Reached),
    ):
        train.train_pipeline('.')
    return not lines

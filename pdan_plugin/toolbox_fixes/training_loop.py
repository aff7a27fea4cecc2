"""The trainer between two iterations: stops on request, and runs a validation that was interrupted before a resume."""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import path as osp
from types import SimpleNamespace
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.utils import get_root_logger

from pdan_plugin.processes.process_group import any_rank, from_rank_zero
from pdan_plugin.toolbox_fixes.patching import SILENT, fix, probe, replace, swapped
from pdan_plugin.training.history import run_history
from pdan_plugin.training.interruption import listening, run_stopped, stop_requested, training_begins


@dataclass
class _Run:
    """Local objects of the trainer that are needed between its iterations."""

    model: BaseModel | None = None
    val_loaders: list[Any] = field(default_factory=list)
    tb_logger: Any = None
    owes_nothing: bool = False


_run: _Run | None = None


@contextmanager
def _followed() -> Iterator[None]:
    global _run
    outer = _run
    _run = outer or _Run()
    try:
        yield
    finally:
        _run = outer


@fix(
    where='train.py:92,148',
    upstream='none',
    symptom='SIGTERM or Ctrl-C loses everything since the last saved state',
    behaves=lambda: _hears_signals(),
)
def runs_stop_when_asked() -> None:
    """After a stop request a run finishes its iteration, saves the state and raises `RunStopped`.

    The ranks agree on it at the start of each iteration. `net_g_latest.pth` is not written: it marks a finished run.
    """
    train = importlib.import_module('basicsr.train')
    published, published_update = train.train_pipeline, BaseModel.update_learning_rate

    @functools.wraps(published)
    def train_pipeline(*args: Any, **kwargs: Any) -> None:
        with _followed(), listening():
            published(*args, **kwargs)
            # a request after the start of the last iteration: it may have interrupted a validation
            if _run is not None and _run.model is not None and any_rank(stop_requested()):
                _save_and_stop(_run.model, int(_run.model.opt['train']['total_iter']))

    @functools.wraps(published_update)
    def update_learning_rate(self: BaseModel, current_iter: int, *args: Any, **kwargs: Any) -> None:
        if _run is not None:
            _run.model = self
            if any_rank(stop_requested()):
                _save_and_stop(self, current_iter - 1)
            training_begins()
        published_update(self, current_iter, *args, **kwargs)

    replace(train, 'train_pipeline', train_pipeline)
    replace(BaseModel, 'update_learning_rate', update_learning_rate)


def _save_and_stop(model: BaseModel, iteration: int) -> None:
    """Saves the state and ends the run. Every rank calls it after the same iteration.

    Raises:
        RunStopped: Always, after rank 0 has saved.
    """
    opt = model.opt
    if _run is not None and _run.tb_logger is not None:
        _run.tb_logger.close()
    if iteration == opt.get('resume_iter', 0):
        raise run_stopped(None, None)
    state = osp.join(opt['path']['training_states'], f'{iteration}.state')
    if iteration % opt['logger']['save_checkpoint_freq']:  # otherwise the trainer has just saved it
        get_root_logger().info(f'Stop requested: saving models and training states of iteration {iteration}.')
        model.save((iteration - 1) // opt['iterations_per_epoch'], iteration)
    any_rank(False)  # wait until rank 0 has saved: launchers end all ranks as soon as one has ended
    raise run_stopped(iteration, state)


@fix(
    where='train.py:186',
    upstream='none',
    symptom='a run killed between a save and the end of the following validation never gets its results',
    behaves=lambda: _makes_what_is_owed(),
)
def owed_validations_are_made() -> None:
    """A resumed run first validates the iteration it resumes from, if the run's history lacks that validation.

    Models that write no history validate again in any case.
    """
    train = importlib.import_module('basicsr.train')
    published, published_update = train.train_pipeline, BaseModel.update_learning_rate

    @functools.wraps(published)
    def train_pipeline(*args: Any, **kwargs: Any) -> None:
        with _followed():
            published(*args, **kwargs)

    @functools.wraps(published_update)
    def update_learning_rate(self: BaseModel, current_iter: int, *args: Any, **kwargs: Any) -> None:
        if _run is not None and not _run.owes_nothing:
            _run.owes_nothing = True
            _make_up_validations(self, current_iter - 1, _run)
        published_update(self, current_iter, *args, **kwargs)

    replace(train, 'train_pipeline', train_pipeline)
    for name, take in (('create_train_val_dataloader', _take_val_loaders), ('init_tb_loggers', _take_tb_logger)):
        replace(train, name, _handing_on(getattr(train, name), take))
    replace(BaseModel, 'update_learning_rate', update_learning_rate)


def _make_up_validations(model: BaseModel, iteration: int, run: _Run) -> None:
    opt = model.opt
    if iteration == 0 or iteration != opt.get('resume_iter') or opt.get('val') is None:
        return
    if iteration % opt['val']['val_freq']:
        return
    done = from_rank_zero(lambda: set(run_history(opt).validations(iteration)))
    names = [values['name'] for phase, values in opt['datasets'].items() if phase != 'train']
    for name, loader in zip(names, run.val_loaders, strict=True):
        if name not in done:
            get_root_logger().info(f'Validation of iteration {iteration} on {name}, which the run did not finish.')
            model.validation(loader, iteration, run.tb_logger, opt['val']['save_img'])


def _take_val_loaders(run: _Run, result: Any) -> None:
    run.val_loaders = result[2]


def _take_tb_logger(run: _Run, result: Any) -> None:
    run.tb_logger = result


def _handing_on(published: Callable[..., Any], take: Callable[[_Run, Any], None]) -> Callable[..., Any]:
    @functools.wraps(published)
    def handing_on(*args: Any, **kwargs: Any) -> Any:
        result = published(*args, **kwargs)
        if _run is not None:
            take(_run, result)
        return result

    return handing_on


class _Reached(Exception):
    """Ends the simulated run."""


class _PretendedModel(BaseModel):
    """Model of a run resumed at iteration 1; records validations and signal handlers before iteration 2."""

    def __init__(self, opt: dict[str, Any]) -> None:
        super().__init__(opt)
        self.validated: list[int] = []
        self.handlers: list[Any] = []

    def validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        self.validated.append(current_iter)

    def optimize_parameters(self, current_iter: int) -> None:
        self.handlers = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
        raise _Reached


def _pretend_run() -> _PretendedModel:
    """Runs the real trainer code with simulated model, data, options and log."""
    train = importlib.import_module('basicsr.train')
    folders = dict.fromkeys(('experiments_root', 'log', 'training_states', 'models'), os.devnull)
    opt = {
        'name': 'probe', 'is_train': True, 'auto_resume': False, 'rank': 0, 'world_size': 1, 'dist': False,
        'num_gpu': 0, 'manual_seed': 0, 'resume_iter': 1, 'path': folders, 'train': {'total_iter': 3},
        'logger': {'print_freq': 9, 'save_checkpoint_freq': 9, 'use_tb_logger': False},
        'datasets': {word: {'name': word, 'phase': word, 'batch_size_per_gpu': 1} for word in ('train', 'val')},
        'val': {'val_freq': 1, 'save_img': False},
    }  # fmt: skip
    model = _PretendedModel(opt)
    state = {'epoch': 0, 'iter': 1, 'optimizers': [], 'schedulers': []}
    nothing: Any = lambda *args, **kwargs: None  # noqa: E731
    parts: dict[str, Any] = {
        'parse_options': lambda *args, **kwargs: (opt, SimpleNamespace(opt='probe')),
        'load_resume_state': lambda opt: state,
        'copy_opt_file': nothing,
        'get_root_logger': lambda *args, **kwargs: SILENT,
        'get_env_info': str,
        'dict2str': str,
        'build_dataset': lambda dataset_opt: range(3),
        'build_dataloader': lambda *args, **kwargs: SimpleNamespace(batch_size=1),
        'build_model': lambda opt: model,
        'MessageLogger': lambda *args: nothing,
        'CPUPrefetcher': lambda loader: SimpleNamespace(reset=nothing, next=dict),
    }
    benchmark = torch.backends.cudnn.benchmark
    try:
        with swapped(train, **parts), swapped(importlib.import_module(__name__), get_root_logger=lambda: SILENT):
            train.train_pipeline(os.devnull)
    except _Reached:
        pass
    finally:
        torch.backends.cudnn.benchmark = benchmark
    return model


@probe
def _hears_signals() -> bool:
    before = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]
    handlers = _pretend_run().handlers
    return bool(handlers) and handlers != before


@probe
def _makes_what_is_owed() -> bool:
    return _pretend_run().validated == [1]

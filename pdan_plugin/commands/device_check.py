"""Checks training options against the devices and packages of this machine."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from basicsr.utils.registry import MODEL_REGISTRY

from pdan_plugin.commands.trial import as_request
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.compiler_check import require_compiler
from pdan_plugin.machine.devices import require_process_per_gpu, training_device
from pdan_plugin.machine.precision import require_precision
from pdan_plugin.option_schema.constructors import find_registered, is_restoration_model


def check_engine(opt: Mapping[str, Any], path: str, *, is_train: bool, devices: int, distributed: bool) -> None:
    """Checks RestorationModel's options against this machine. Other models are skipped: they do not read these options,
    or give them another meaning.

    Args:
        opt: The options.
        path: Their file, for messages.
        is_train: Whether they are of a training; a test has the options of ``val`` alone.
        devices: GPUs that the process uses; 0 is the CPU.
        distributed: Whether the processes form a group.

    Raises:
        RequestError: The device does not compute in a precision, a precision or compiling needs one process per GPU, or
            the compiler is missing.
    """
    if not is_restoration_model(find_registered(MODEL_REGISTRY, opt['model_type'])):
        return
    device = training_device(devices)
    sections = {key: opt.get(key) or {} for key in (('train', 'val') if is_train else ('val',))}
    for key, section in sections.items():
        with as_request(f'{path}: {key}'):
            require_precision(device, section.get('precision', 'fp32'))
    if not is_train:
        return
    with as_request(path):
        require_process_per_gpu(opt['train'], devices, distributed)
    if opt['train'].get('compile'):
        with as_request(f'{path}: train.compile: true'):
            require_compiler(on_gpu=device.type in ('cuda', 'xpu'))


def check_loggers(logger: Mapping[str, Any], path: str) -> None:
    """Checks that the packages of the requested loggers are installed.

    Args:
        logger: The options ``logger``.
        path: Their file, for messages.

    Raises:
        RequestError: A package is missing, or wandb is asked for without tensorboard, from which it reads.
    """
    asked = {'use_tb_logger: true': 'tensorboard'} if logger.get('use_tb_logger') else {}
    if (logger.get('wandb') or {}).get('project') is not None:
        if not asked:
            text = 'wandb reads the events of tensorboard; set use_tb_logger: true'
            raise RequestError(f'{path}: logger.wandb.project: {text}')
        asked['wandb.project'] = 'wandb'
    for key, package in asked.items():
        if sys.modules.get(package, package) is None or importlib.util.find_spec(package) is None:
            raise RequestError(
                f'{path}: logger.{key} needs the package {package}, which is not installed: pip install {package}; or '
                'remove the key'
            )


def check_prefetching(values: Mapping[str, Any], path: str, *, devices: int) -> None:
    """Checks ``prefetch_mode: cuda`` of the training data against this machine.

    Args:
        values: ``datasets.train``.
        path: The option file, for messages.
        devices: GPUs that the process uses; 0 is the CPU.

    Raises:
        RequestError: ``pin_memory: true`` or a GPU is missing.
    """
    if values.get('prefetch_mode') != 'cuda':
        return
    if values.get('pin_memory') is not True:
        raise RequestError(f'{path}: datasets.train.pin_memory: prefetch_mode: cuda needs pin_memory: true')
    if devices == 0:
        raise RequestError(
            f'{path}: datasets.train.prefetch_mode: cuda needs a CUDA device, and this run has none; '
            'write prefetch_mode: cpu, or remove the option'
        )

"""Would this run start? Data sets, first samples and paths are tried, and nothing is written.

``basicsr train`` and ``basicsr test`` make these checks before the toolbox makes its folders; ``basicsr check`` makes
them and tells how large the run is (`run_summary`).
"""

from __future__ import annotations

import copy
import logging
import os
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from basicsr.losses import build_loss
from basicsr.utils.registry import DATASET_REGISTRY, LOSS_REGISTRY, MODEL_REGISTRY

from pdan_plugin.data.epochs import iterations_per_epoch
from pdan_plugin.errors import RequestError
from pdan_plugin.machine.compiler_check import require_compiler
from pdan_plugin.machine.devices import device_count
from pdan_plugin.metrics.preparation import prepare_metrics
from pdan_plugin.models.distinct_results import require_distinct_results, require_distinct_tables
from pdan_plugin.models.submission import require_challenge_frames
from pdan_plugin.option_schema.completion import complete_datasets, is_training, run_name
from pdan_plugin.option_schema.constructors import find_registered
from pdan_plugin.option_schema.network_section import build_network

_SMALL_SET = re.compile(r'datasets/small(_synthesised|_video)?/')
_STORE = re.compile(r'(train|val|val300)_(sharp|blur_bicubic_x4|sharp_bicubic_x4)\.lmdb$')


@dataclass(frozen=True)
class DataFacts:
    """A data set that was built: its length, and the shapes of its first sample's pictures (None: it has none)."""

    phase: str
    kind: str
    samples: int
    lq_shape: tuple[int, ...] | None
    gt_shape: tuple[int, ...] | None


@dataclass(frozen=True)
class RunFacts:
    """What a run would be.

    Attributes:
        data: Its data sets.
        batch_size: Samples that one worker takes in an iteration, all parts of it together.
        world_size: Workers.
        iterations: In training, of an epoch: so many whole batches.
        devices: GPUs that one worker uses; 0 is the CPU.
    """

    data: list[DataFacts]
    batch_size: int
    world_size: int
    iterations: int
    devices: int


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
    """Devices, weights, data paths, data sets and first samples of a run, on options that passed ``check_options``.

    Args:
        opt: The options; not changed.
        path: Their file, for messages.
        world_size: Processes the run has.
        distributed: Whether they form a process group; one process may too.
        auto_resume: Whether the run goes on from its last state, which replaces the pretrained weights.

    Raises:
        RequestError: The first thing that would keep the run from starting, and what to do about it.
    """
    opt = copy.deepcopy(dict(opt))
    opt['manual_seed'] = opt.get('manual_seed') or 0
    devices = device_count(opt['num_gpu'], distributed, path)
    complete_datasets(opt)
    if is_train:
        _check_engine(opt, path, devices=devices, distributed=distributed)
    _check_weights(opt, path, is_train=is_train, auto_resume=auto_resume, name=run_name(opt, debug=debug))
    is_submission = not is_train and bool((opt.get('val') or {}).get('submission'))
    with _as_request(path):
        prepare_metrics((opt.get('val') or {}).get('metrics') or {})
        if not is_train:
            require_distinct_tables(opt['datasets'])
    with toolbox_silent():
        data = [
            _try_data(
                values, f'datasets.{word}', opt.get('scale'), path, is_test=not is_train, is_submission=is_submission
            )
            for word, values in opt['datasets'].items()
        ]
        for key, values in opt.items():
            if key.startswith('network_') and (is_train or key == 'network_g'):
                with _as_request(path):
                    build_network(values, key)
        if not is_train:
            return RunFacts(data, 1, world_size, 0, min(devices, 1))
        _try_losses(opt['train'], path)
        values = opt['datasets']['train']
        parts = int(opt['train'].get('accumulation_steps') or 1)
        batch_size = int(values['batch_size_per_gpu']) * (1 if distributed else max(1, devices)) * parts
        samples = next(facts.samples for facts in data if facts.phase == 'train')
        with _as_request(path):
            iterations = iterations_per_epoch(samples, values.get('dataset_enlarge_ratio', 1), batch_size, world_size)
    if values.get('prefetch_mode') == 'cuda' and values.get('pin_memory') is not True:
        raise RequestError(f'{path}: datasets.train.pin_memory: expected true, which prefetch_mode: cuda needs')
    if values.get('prefetch_mode') == 'cuda' and devices == 0:
        raise RequestError(
            f'{path}: datasets.train.prefetch_mode: cuda needs a CUDA device, and this run has none; '
            'write prefetch_mode: cpu, or take it out'
        )
    return RunFacts(data, batch_size, world_size, iterations, min(devices, 1) if distributed else devices)


def _check_engine(opt: Mapping[str, Any], path: str, *, devices: int, distributed: bool) -> None:
    """RestorationModel's options against this machine; another model does not read them, or reads them its own way."""
    model, restoration = (find_registered(MODEL_REGISTRY, name) for name in (opt['model_type'], 'RestorationModel'))
    if model is None or restoration is None or not issubclass(model, restoration):
        return
    precision = opt['train'].get('precision', 'fp32')
    alone = [f'precision: {precision}'] * (precision != 'fp32') + ['compile: true'] * bool(opt['train'].get('compile'))
    if alone and devices > 1 and not distributed:
        raise RequestError(
            f'{path}: train.{alone[0]} on {devices} GPUs needs a process for each of them: add '
            f'--nproc {devices} to the command, or set num_gpu: 1'
        )
    if opt['train'].get('compile'):
        with _as_request(f'{path}: train.compile: true'):
            require_compiler(on_gpu=devices > 0)


def _try_losses(train: Mapping[str, Any], path: str) -> None:
    """Build each loss, and try those on pictures: they must give one number.

    A perceptual loss is left out: building it loads a network of its own.
    """
    for key, values in train.items():
        if not (key.endswith('_opt') and isinstance(values, Mapping) and values.get('type') in LOSS_REGISTRY):
            continue
        if values['type'] == 'PerceptualLoss':
            continue
        with _as_request(f'{path}: train.{key}'):
            loss = build_loss(dict(values))
            if key in ('pixel_opt', 'deblur_opt', 'dual_opt'):
                result = loss(torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16))
                if result.dim() != 0:
                    raise RequestError(f'gives {tuple(result.shape)} numbers, expected one; set reduction: mean')


@contextmanager
def toolbox_silent() -> Iterator[None]:
    """Data sets log what they find as they are built; the run itself will say it once."""
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(disabled)


def _check_weights(opt: Mapping[str, Any], path: str, *, is_train: bool, auto_resume: bool, name: str) -> None:
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
    """The keys of ``path:`` that name weights which are not there, each with what to tell and do."""
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


def _try_data(
    values: Mapping[str, Any],
    key: str,
    scale: Any,
    path: str,
    *,
    is_test: bool = False,
    is_submission: bool = False,
) -> DataFacts:
    """Build a data set and read its first sample."""
    for source in [values, *(values.get('sources') or [])]:
        for word, value in source.items():
            if word.startswith(('dataroot', 'meta_info')):
                for root in value if isinstance(value, list) else [value]:
                    _require_path(root, f'{path}: {key}.{word}')
    if values.get('cache_data'):  # a video data set would read all its clips for a look
        values = {**values, 'cache_data': False}
    target: Any = find_registered(DATASET_REGISTRY, values['type'])
    with _as_request(f'{path}: {key}: {values["type"]} cannot be built'):
        dataset = target(copy.deepcopy(values))
        samples = len(dataset)
    if samples == 0:
        raise RequestError(
            f'{path}: {key}: {values["type"]} finds no pictures in {values.get("dataroot_gt")}'
            f'{" and " + str(values["dataroot_lq"]) if values.get("dataroot_lq") else ""}; nested '
            'folders need a data set that reads them, such as REDSPairedDataset'
        )
    with _as_request(path):
        if is_submission:
            require_challenge_frames(dataset)
        if is_test:
            require_distinct_results(dataset)
    if 'num_frame' in values and values['phase'] != 'train':
        # a video data set's sample is a whole clip, too much to read for a look
        return DataFacts(values['phase'], values['type'], samples, None, None)
    with _as_request(f'{path}: {key}: the first sample cannot be read'):
        sample = dataset[0]
    lq, gt = (tuple(sample[name].shape) if torch.is_tensor(sample.get(name)) else None for name in ('lq', 'gt'))
    if lq and gt and scale and gt[-2:] != tuple(round(side * scale) for side in lq[-2:]):
        raise RequestError(
            f'{path}: {key}: the first sample is {size_in_words(lq)} in lq and {size_in_words(gt)} in gt '
            f'({sample.get("lq_path")}); expected gt {scale} times lq, by scale: {scale}. Set scale: to '
            "what the data have (and network_g's upscale likewise), or give data of that scale"
        )
    return DataFacts(values['phase'], values['type'], samples, lq, gt)


def _require_path(root: Any, key: str) -> None:
    if not isinstance(root, (str, Path)) or os.path.exists(os.path.expanduser(root)):
        return
    if 'quickstart' in str(root):
        advice = '`bash scripts/quickstart.sh` makes it'
    elif _SMALL_SET.search(str(root)):
        advice = '`bash scripts/prepare_small_set.sh PHOTOS VIDEOS` makes it'
    elif _STORE.search(str(root)):
        optional = 'sharp_bicubic' in str(root)
        advice = (
            f'`python scripts/prepare_reds.py SOURCE {Path(root).parent}` makes it, where SOURCE holds the '
            f'folders or zips of REDS{" (with --make-sharp-bicubic where they lack sharp_bicubic)" if optional else ""}'
        )
        if optional:
            advice += '; or take this line out, and the pictures are made from dataroot_gt while reading'
    else:
        advice = 'give the right path, or start the command from the folder it is relative to'
    raise RequestError(f'{key}: {root} does not exist (looked for from the working folder, {os.getcwd()}); {advice}')


@contextmanager
def _as_request(what: str) -> Iterator[None]:
    """Whatever a data set raises before the run is a reason not to start it: told with its cause and place."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f'{what}: {error}') from error
    except KeyError as error:
        raise RequestError(f'{what}: it reads the key {error}, which is not given{_place(error)}') from error
    except Exception as error:
        raise RequestError(f'{what}: {type(error).__name__}: {error}{_place(error)}') from error


def _place(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f' (at {frame.filename}:{frame.lineno})'


def size_in_words(shape: Sequence[int]) -> str:
    """Width x height of a picture (..., h, w)."""
    return f'{shape[-1]}x{shape[-2]}'

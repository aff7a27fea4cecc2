"""Checks that options of different sections agree with each other."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from basicsr.models.sr_model import SRModel
from basicsr.models.srgan_model import SRGANModel
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from pdan_plugin.option_schema.constructors import Problem, find_registered, is_number, is_own, is_whole
from pdan_plugin.option_schema.keys_read import keys_read, words_of_package


def check_agreement(opt: Mapping[str, Any], model: Any, is_train: bool) -> list[Problem]:
    """Checks scale, crop size, loss sections and networks against each other and against the model.

    Sections of the wrong kind are skipped here; the check of that section reports them.
    """
    problems = _check_names(opt) + _check_scale(opt) + _check_val(opt)
    if not is_train or model is None:
        return problems
    train = opt['train'] if isinstance(opt.get('train'), Mapping) else {}
    return (
        problems
        + _check_branch(opt, train, model)
        + _check_parts(train, model)
        + _check_what_the_model_needs(opt, train, model)
        + _check_dual_regression(opt, train, model)
    )


def _check_names(opt: Mapping[str, Any]) -> list[Problem]:
    """The run's name is a folder name. Names of data sets keep their pictures and curves apart, so they must differ."""
    problems = []
    name = opt.get('name')
    if isinstance(name, str) and (name in ('', '.', '..') or '/' in name or '\\' in name or '\0' in name):
        problems.append(Problem('name', f"found '{name}'; expected the name of one folder, without '/' in it"))
    datasets = opt['datasets'] if isinstance(opt.get('datasets'), Mapping) else {}
    words: dict[Any, str] = {}
    for word, values in datasets.items():
        if word == 'train' or not isinstance(values, Mapping) or not isinstance(values.get('name'), str):
            continue
        if values['name'] in words:
            text = f"found '{values['name']}', as in datasets.{words[values['name']]}; expected different names"
            problems.append(Problem(f'datasets.{word}.name', text))
        words.setdefault(values['name'], word)
    return problems


def _check_val(opt: Mapping[str, Any]) -> list[Problem]:
    """Options of ``val`` that depend on each other."""
    val = opt['val'] if isinstance(opt.get('val'), Mapping) else {}
    problems = []
    if val.get('tile_overlap') is not None and val.get('tile') is None:
        text = 'found without val.tile; expected both: add tile: auto, or remove tile_overlap'
        problems.append(Problem('val.tile_overlap', text))
    tile, overlap = val.get('tile'), val.get('tile_overlap')
    if is_whole(tile) and is_whole(overlap) and 2 * overlap >= tile:  # pyright: ignore[reportOperatorIssue]
        text = f'found {overlap}; expected less than half of tile: {tile}'
        problems.append(Problem('val.tile_overlap', text))
    if val.get('submission') and not val.get('save_img'):
        problems.append(Problem('val.submission', 'found true, but it needs the saved pictures: set save_img: true'))
    return problems


def _check_scale(opt: Mapping[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    scale: Any = opt.get('scale')
    if not is_number(scale) or scale <= 0:
        return problems
    name, factor = network_scale(opt.get('network_g'))
    if name is not None and factor != scale:
        given = isinstance(opt['network_g'], Mapping) and name in opt['network_g']
        problems.append(
            Problem(
                'scale',
                f'found {scale}, but network_g ({opt["network_g"].get("type")}) enlarges '
                f'{factor} times ({name}{"" if given else " by default"}); expected the same '
                f'value: set scale: {factor}, or network_g.{name}: {scale}',
            )
        )
    datasets = opt['datasets'] if isinstance(opt.get('datasets'), Mapping) else {}
    for word, values in datasets.items():
        if not isinstance(values, Mapping):
            continue
        size: Any = values.get('gt_size')
        if is_whole(size) and is_whole(scale) and size % scale:
            nearest_size = max(int(scale), int(size - size % scale))
            problems.append(
                Problem(
                    f'datasets.{word}.gt_size',
                    f'found {size}; expected a multiple of scale {scale}, such as {nearest_size}',
                )
            )
        if is_number(values.get('scale')) and values['scale'] != scale:
            problems.append(
                Problem(
                    f'datasets.{word}.scale',
                    f'found {values["scale"]}, but the toolbox overwrites it '
                    f"with the file's scale: {scale}; remove the key",
                )
            )
    return problems


def network_scale(values: Any) -> tuple[str | None, Any]:
    """Name and value of the parameter for a network's upscaling factor; (None, None) if it has none.

    The constructor calls it ``upscale`` or ``scale``. The value is the option file's, else the default.
    """
    target = find_registered(ARCH_REGISTRY, values.get('type')) if isinstance(values, Mapping) else None
    if target is None:
        return None, None
    parameters = inspect.signature(target).parameters
    for name in ('upscale', 'scale'):
        if name in parameters:
            factor = values.get(name, parameters[name].default)
            return (name, factor) if is_number(factor) else (None, None)
    return None, None


def _check_branch(opt: Mapping[str, Any], train: Mapping[str, Any], model: Any) -> list[Problem]:
    """A network with a deblurring branch needs a model and a loss that train it."""
    network = opt.get('network_g')
    target = find_registered(ARCH_REGISTRY, network.get('type')) if isinstance(network, Mapping) else None
    if target is None or not isinstance(network, Mapping) or not is_own(model):
        return []
    branch = inspect.signature(target).parameters.get('deblur_branch')
    if branch is None or not network.get('deblur_branch', branch.default):
        return []
    dual = find_registered(MODEL_REGISTRY, 'DualSupervisionModel')
    if dual is not None and issubclass(model, dual):
        if train.get('deblur_opt') or not train:
            return []
        return [
            Problem(
                'train.deblur_opt',
                f'missing; {network["type"]} has a deblurring branch, and no loss would '
                'train it: give one such as {type: L1Loss, loss_weight: 0.5}, or set '
                'network_g.deblur_branch: false',
            )
        ]
    given = '' if 'deblur_branch' in network else ', the default'
    return [
        Problem(
            'network_g.deblur_branch',
            f'found true{given}, but {model.__name__} does not train the deblurring '
            'branch; expected deblur_branch: false, or '
            'model_type: DualSupervisionModel',
        )
    ]


def _check_dual_regression(opt: Mapping[str, Any], train: Mapping[str, Any], model: Any) -> list[Problem]:
    """The checks of `DualRegressionModel.misfits`, if that model is used."""
    dual = find_registered(MODEL_REGISTRY, 'DualRegressionModel')
    if dual is None or not issubclass(model, dual) or not train:
        return []
    network = opt['network_g'].get('type') if isinstance(opt.get('network_g'), Mapping) else None
    misfits = model.misfits(opt, find_registered(ARCH_REGISTRY, network))
    if not train.get('perceptual_opt'):
        misfits.pop('train.pixel_opt', None)  # _check_what_the_model_needs reports it
    return [Problem(key, text) for key, text in misfits.items()]


def _check_parts(train: Mapping[str, Any], model: Any) -> list[Problem]:
    """The loader yields the batch of all parts. Another plugin's model without parts would use the whole batch."""
    word = 'accumulation_steps'
    if word not in train or is_own(model) or word in keys_read(model).read.get('train', ()):
        return []  # for the toolbox's models the check of unknown keys reports it
    if word in words_of_package(model.__module__.split('.')[0]):
        return []
    text = f'{model.__name__} cannot divide a batch into parts; remove the key, or use model_type: RestorationModel'
    return [Problem(f'train.{word}', text)]


def _check_what_the_model_needs(opt: Mapping[str, Any], train: Mapping[str, Any], model: Any) -> list[Problem]:
    """Keys that the toolbox's models and ours require: they read them without a default."""
    if not is_own(model):
        return []
    demanded = keys_read(model).demanded
    given = set(opt) | {'dist', 'rank', 'world_size', 'is_train', 'val', 'logger', 'scale'}
    needed = set(demanded.get('', ()))
    if opt.get('high_order_degradation', True) is False:  # then RealESRGAN's degradations are not used
        needed = {key for key in needed if key.startswith('network_') or key.endswith('_usm')}
    reported_by_schema = {'name', 'num_gpu', 'path', 'train', 'network_g', 'datasets', 'model_type'}
    problems = [
        Problem(key, f'missing; {model.__name__} reads it in training')
        for key in sorted(needed - given - reported_by_schema)
    ]
    problems += (
        [
            Problem(f'train.{key}', f'missing; {model.__name__} reads it in training')
            for key in sorted(set(demanded.get('train', ())) - set(train))
        ]
        if train
        else []
    )
    if (
        train
        and issubclass(model, SRModel)
        and not issubclass(model, SRGANModel)
        and not train.get('pixel_opt')
        and not train.get('perceptual_opt')
    ):
        problems.append(
            Problem('train.pixel_opt', f'missing; {model.__name__} needs a loss: pixel_opt or perceptual_opt')
        )
    return problems

"""Checks optimizer and scheduler sections against what the model can build.

To find the optimizers that a model can build, one is built for a single number: the toolbox's releases differ (1.4.2
builds only Adam).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from basicsr.models.base_model import BaseModel
from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR

from pdan_plugin.option_schema.constructors import (
    Problem,
    check_keywords,
    is_number,
    is_own,
    is_restoration_model,
    wrong_value,
)
from pdan_plugin.option_schema.spelling import did_you_mean, misspelt
from pdan_plugin.training.plateau_schedule import PlateauSchedule

SCHEDULERS = {
    'MultiStepLR': MultiStepRestartLR,
    'MultiStepRestartLR': MultiStepRestartLR,
    'CosineAnnealingRestartLR': CosineAnnealingRestartLR,
}


def check_optimizer(values: Any, key: str, model: Any) -> list[Problem]:
    """Checks a section ``{type: NAME, lr: NUMBER, ...}`` against torch's class of that name and against the model."""
    if not isinstance(values, Mapping):
        return [Problem(key, wrong_value(values, 'a section with type and lr'))]
    problems = [Problem(f'{key}.{word}', 'missing; it must be given') for word in ('type', 'lr') if word not in values]
    if 'lr' in values and not (is_number(values['lr']) and values['lr'] >= 0):
        problems.append(Problem(f'{key}.lr', wrong_value(values['lr'], 'a number, 0 or more')))
    name = values.get('type')
    if name is None:
        return problems
    if model is None:  # an unknown model may build more than the toolbox's
        if name not in torch_optimizers() and misspelt(str(name), torch_optimizers()):
            text = f'no optimizer named {name!r}{did_you_mean(str(name), torch_optimizers())}'
            return [*problems, Problem(f'{key}.type', text)]
    elif not _builds(model, name):
        buildable = buildable_optimizers(model)
        return [
            *problems,
            Problem(
                f'{key}.type',
                f'{model.__name__} cannot build the optimizer {name!r}{did_you_mean(str(name), buildable)}',
            ),
        ]
    torch_class = torch_optimizers().get(name)
    keywords = {word: value for word, value in values.items() if word not in ('type', 'lr')}
    if torch_class is not None:
        problems += check_keywords(torch_class, {**keywords, 'lr': 1.0}, key, provided=('params',))
        problems += [
            Problem(f'{key}.{word}', wrong_value(keywords[word], 'a number'))
            for word in ('weight_decay', 'eps', 'momentum')
            if isinstance(keywords.get(word), str)
        ]
        betas = keywords.get('betas')
        if betas is not None and not (
            isinstance(betas, (list, tuple)) and len(betas) == 2 and all(is_number(beta) for beta in betas)
        ):
            problems.append(Problem(f'{key}.betas', wrong_value(betas, 'a list of two numbers, such as [0.9, 0.99]')))
        if not problems:
            problems += _tried(torch_class, {**keywords, 'lr': values['lr']}, key)
    return list(dict.fromkeys(problems))


def _tried(torch_class: type, keywords: Mapping[str, Any], key: str) -> list[Problem]:
    """Builds the optimizer for one number: torch knows which values are out of range."""
    try:
        torch_class([torch.nn.Parameter(torch.zeros(1))], **keywords)
    except (TypeError, ValueError) as error:
        return [Problem(key, f'{torch_class.__name__} of torch rejects it: {error}')]
    except Exception:  # it needs another machine or more parameters
        return []
    return []


def buildable_optimizers(model: Any) -> list[str]:
    """The optimizers that a model can build; without a model, those that the toolbox's models build."""
    owner = model if model is not None else BaseModel
    return [name for name in torch_optimizers() if _builds(owner, name)]


def torch_optimizers() -> dict[str, type]:
    return {
        name: value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and name != 'Optimizer'
    }


def _builds(model: Any, name: str) -> bool:
    """Whether the model's ``get_optimizer`` can build a name. Only NotImplementedError counts as no."""
    try:
        model.get_optimizer(object.__new__(model), name, [torch.nn.Parameter(torch.zeros(1))], 1e-3)
    except NotImplementedError:
        return False
    except Exception:  # it needs a built model or further keywords
        return True
    return True


def find_scheduler(name: Any) -> type | None:
    """The class of a scheduler that the toolbox or this package builds; None for another name."""
    return PlateauSchedule if name == 'ReduceLROnPlateau' else SCHEDULERS.get(name)


def check_scheduler(values: Any, key: str, model: Any) -> list[Problem]:
    """Checks a section ``{type: NAME, ...}``: the toolbox's schedulers, and ReduceLROnPlateau for RestorationModel and
    its subclasses. Other schedulers are not checked if another plugin's model overrides ``setup_schedulers``."""
    if not isinstance(values, Mapping):
        return [Problem(key, wrong_value(values, 'a section with type'))]
    name = values.get('type')
    if name is None:
        return [Problem(f'{key}.type', 'missing; it must be given')]
    keywords = {word: value for word, value in values.items() if word != 'type'}
    has_plateau = model is None or is_restoration_model(model)
    if name == 'ReduceLROnPlateau' and has_plateau:
        return _check_plateau(keywords, key)
    if name not in SCHEDULERS:
        if model is not None and not is_own(model.setup_schedulers):
            return []
        if model is None and not misspelt(str(name), SCHEDULERS):  # its model may have it
            return []
        if name == 'ReduceLROnPlateau' and model is not None:
            text = (
                f'{model.__name__} does not support ReduceLROnPlateau; use model_type: RestorationModel (in place of '
                'SRModel) or DualSupervisionModel'
            )
            return [Problem(f'{key}.type', text)]
        known = [*SCHEDULERS, *(['ReduceLROnPlateau'] if has_plateau else [])]
        return [Problem(f'{key}.type', f'no scheduler named {name!r}{did_you_mean(str(name), known)}')]
    problems = check_keywords(SCHEDULERS[name], keywords, key, provided=('optimizer', 'last_epoch'))
    for word in ('milestones', 'periods', 'restarts', 'restart_weights'):
        if word in keywords and not (
            isinstance(keywords[word], (list, tuple)) and all(is_number(value) for value in keywords[word])
        ):
            problems.append(Problem(f'{key}.{word}', wrong_value(keywords[word], 'a list of numbers')))
    for one, other in (('periods', 'restart_weights'), ('restarts', 'restart_weights')):
        ones, others = keywords.get(one), keywords.get(other)
        if isinstance(ones, list) and isinstance(others, list) and len(ones) != len(others):
            problems.append(
                Problem(f'{key}.{other}', f'{len(others)} values for {len(ones)} {one}; expected one for each')
            )
    return list({problem.key: problem for problem in problems}.values())


def _check_plateau(keywords: Mapping[str, Any], key: str) -> list[Problem]:
    problems = check_keywords(PlateauSchedule, keywords, key, provided=('optimizer',))
    if not problems:
        try:
            PlateauSchedule(torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]), **keywords)
        except ValueError as error:
            problems.append(Problem(key, str(error)))
    return problems

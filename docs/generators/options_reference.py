"""The reference of option keys: from the schema, from signatures, and from the keys that the sources of classes read.

Everything comes from what the check itself uses. So a key that the check knows cannot be missing here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pdan_plugin  # noqa: F401  (registers its parts)

from basicsr.models.lr_scheduler import CosineAnnealingRestartLR, MultiStepRestartLR  # isort: skip
from basicsr.utils.registry import (  # isort: skip
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
    Registry,
)

from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.key_descriptions import documented_arguments, expected_value, first_sentence
from pdan_plugin.option_schema.keys_read import keys_read
from pdan_plugin.option_schema.known_keys import LOADER_KEYS, SET_BY_TOOLBOX
from pdan_plugin.training.plateau_schedule import PlateauSchedule

# Heading; the section's schema; its schema in training and in a test, where more keys are required then.
_SECTIONS: list[tuple[str, type[sections.Options], type[sections.Options] | None, type[sections.Options] | None]] = [
    ('Top level', sections.Top, sections.TrainTop, sections.TestTop),
    ('datasets', sections.DataSet, sections.TrainDataSet, None),
    ('datasets: degradation', sections.Degradation, None, None),
    ('path', sections.Paths, None, None),
    ('path, for each network', sections.NetworkPaths, None, None),
    ('train', sections.Train, None, None),
    ('val', sections.Val, sections.TrainVal, None),
    ('logger', sections.Logger, None, None),
    ('logger: wandb', sections.Wandb, None, None),
    ('dist_params', sections.Distributed, None, None),
]
_REGISTRIES: list[tuple[str, str, Registry, tuple[str, ...]]] = [
    ('Networks', '`network_g: {type: NAME, ...}`', ARCH_REGISTRY, ()),
    ('Losses', '`train: pixel_opt: {type: NAME, ...}`', LOSS_REGISTRY, ()),
    ('Metrics', '`val: metrics: ANY_NAME: {type: NAME, ...}`', METRIC_REGISTRY, ('img', 'img2', 'kwargs')),
]

_TOOLBOX_SCHEDULERS = [('MultiStepLR', MultiStepRestartLR), ('CosineAnnealingRestartLR', CosineAnnealingRestartLR)]


def reference() -> str:
    """The whole reference, as Markdown."""
    parts = ['## Sections', 'The default is what a run uses when the key is missing or `~`; "–" means "not set".']
    for heading, schema, training, testing in _SECTIONS:
        parts += [f'### {heading}', first_sentence(schema), section_table(schema, training, testing)]
        parts += _FURTHER.get(heading, [])
    parts += ['## Registered names', _REGISTERED]
    for heading, form, registry, provided in _REGISTRIES:
        parts += [f'### {heading}', f'In an option file: {form}.']
        for name, target in _own(registry):
            parts += [f'#### {name}', first_sentence(target), keyword_table(target, provided)]
        parts += [f'#### {heading} of the toolbox', _keyword_list(_toolbox(registry), provided)]
    parts += ['### Schedulers', _SCHEDULERS, '#### ReduceLROnPlateau', first_sentence(PlateauSchedule)]
    parts += [keyword_table(PlateauSchedule, ('optimizer',)), '#### Schedulers of the toolbox']
    parts += [_keyword_list(_TOOLBOX_SCHEDULERS, ('optimizer', 'last_epoch'))]
    parts += [
        '## What each model and data set reads',
        _MINED,
        '### Models',
        _model_table(),
        '### Data sets',
        _data_table(),
    ]
    return '\n\n'.join(parts)


_FURTHER = {
    'Top level': [
        '`extends` and `without` come before all others: see [Option files that build on others](extends.md).'
    ],
    'datasets': [
        'A data set reads further keys: see [Data sets](#data-sets). `REDSPairedDataset` takes a list of `sources` in '
        'place of one; each has `dataroot_gt`, `dataroot_lq`, `dataroot_lq_sharp` (optional) and `weight` (optional).'
    ],
    'path, for each network': ['The keys end in the letter of the network: `pretrain_network_g` is for `network_g`.'],
    'train': [
        'A model reads further keys: losses (`pixel_opt`, `deblur_opt` and so on), optimizers (`optim_g`) and a '
        "`scheduler`; see [Models](#models). An optimizer takes `type`, `lr` and the keywords of torch's class."
    ],
}
_REGISTERED = (
    'The names that an option file may give as `type`, with the keywords of each. `basicsr plugins` also '
    'lists those of your plugins.'
)
_SCHEDULERS = (
    'In an option file: `train: scheduler: {type: NAME, ...}`. The toolbox has `MultiStepLR`, `MultiStepRestartLR` and '
    '`CosineAnnealingRestartLR`; `RestorationModel` and the models built on it also have `ReduceLROnPlateau`.'
)
_MINED = (
    "These keys are found in the source code of each class and its bases: a plugin's model or data set is checked in "
    'the same way.'
)


def section_table(
    schema: type[sections.Options],
    training: type[sections.Options] | None = None,
    testing: type[sections.Options] | None = None,
) -> str:
    """A table of a section's keys: meaning, value and default.

    Args:
        schema: The section.
        training: The same section in training, where it requires more keys.
        testing: Likewise in a test.
    """
    rows = []
    for key, field in schema.model_fields.items():
        if field.is_required():
            default = '**required**'
        elif training is not None and training.model_fields[key].is_required():
            default = '**required** in training'
        elif testing is not None and testing.model_fields[key].is_required():
            default = '**required** in a test'
        else:
            default = _value(field.default)
        rows.append((f'`{key}`', field.description or '', expected_value(schema, key), default))
    return _table(('key', 'meaning', 'value', 'default'), rows)


def keyword_table(target: Callable[..., Any], provided: Iterable[str] = ()) -> str:
    """A table of a constructor's or function's keywords: the meaning that its docstring gives, type and default."""
    meanings = documented_arguments(inspect.getdoc(target) or '')
    rows = [
        (f'`{name}`', meanings.get(name, ''), f'`{_annotation(parameter)}`', _default(parameter))
        for name, parameter in _keywords(target, provided)
    ]
    return _table(('keyword', 'meaning', 'type', 'default'), rows)


def _keywords(target: Callable[..., Any], provided: Iterable[str]) -> Iterator[tuple[str, inspect.Parameter]]:
    for name, parameter in inspect.signature(target).parameters.items():
        if name not in provided and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            yield name, parameter


def _own(registry: Registry) -> list[tuple[str, Any]]:
    return sorted((name, target) for name, target in registry if target.__module__.startswith('pdan_plugin.'))


def _toolbox(registry: Registry) -> list[tuple[str, Any]]:
    found = [(name, target) for name, target in registry if target.__module__.startswith('basicsr.')]
    return sorted((name.removesuffix('_basicsr'), target) for name, target in found)


def _keyword_list(named: Iterable[tuple[str, Callable[..., Any]]], provided: Iterable[str]) -> str:
    rows = []
    for name, target in named:
        words = [
            f'`{word}`' if parameter.default is parameter.empty else f'`{word}: {_plain(parameter.default)}`'
            for word, parameter in _keywords(target, provided)
        ]
        rows.append((f'`{name}`', ', '.join(words) or '–'))
    return _table(('name', 'keywords and defaults'), rows)


def _model_table() -> str:
    rows = []
    for name, model in sorted(MODEL_REGISTRY, key=lambda entry: (entry[1].__module__.startswith('basicsr.'), entry[0])):
        if not model.__module__.startswith(('pdan_plugin.', 'basicsr.')):
            continue
        read = keys_read(model).read
        top = read.get('', set()) - SET_BY_TOOLBOX - set(sections.Top.model_fields)
        cells = [_key_list(top), _key_list(read.get('train', ())), _key_list(read.get('val', ()))]
        rows.append((f'`{name.removesuffix("_basicsr")}`', *cells))
    return _table(('model', 'at the top level', 'in `train`', 'in `val`'), rows)


def _data_table() -> str:
    rows = [
        (f'`{name}`', _key_list(keys_read(data_set).read.get('', set()) - LOADER_KEYS))
        for name, data_set in [*_own(DATASET_REGISTRY), *_toolbox(DATASET_REGISTRY)]
    ]
    return _table(('data set', 'keys beside those of every data set'), rows)


def _key_list(keys: Iterable[str]) -> str:
    return ', '.join(f'`{key}`' for key in sorted(keys)) or '–'


def _annotation(parameter: inspect.Parameter) -> str:
    if parameter.annotation is parameter.empty:
        return 'any'
    written = parameter.annotation
    text = written if isinstance(written, str) else getattr(written, '__name__', str(written))
    return text.replace(' | None', ' or ~').replace(' | ', ' or ')


def _default(parameter: inspect.Parameter) -> str:
    return '**required**' if parameter.default is parameter.empty else _value(parameter.default)


def _value(value: Any) -> str:
    return '–' if value is None else f'`{_plain(value)}`'


def _plain(value: Any) -> str:
    """As YAML writes it."""
    if value is None:
        return '~'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f'[{", ".join(map(_plain, value))}]'
    return str(value)


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [titles, tuple('---' for _ in titles), *rows]
    return '\n'.join(f'| {" | ".join(_cell(cell) for cell in line)} |' for line in lines)


def _cell(text: str) -> str:
    return text.replace('|', '\\|')

"""The JSON Schema of an option file, with which editors complete and check it while it is written.

It comes from what the check uses: the sections, the signatures of what is registered, and the keys that the source of
each model and data set reads. Only the check knows what depends on several values, such as a crop size that the scale
must divide.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import basicsr
import torch
from basicsr.utils import FileClient
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.constructors import is_own, is_restoration_model
from pdan_plugin.option_schema.inheritance import EXTENDS, WITHOUT
from pdan_plugin.option_schema.key_descriptions import expected_value, first_sentence
from pdan_plugin.option_schema.keyword_schemas import (
    NUMBER,
    NUMBERS,
    JsonSchema,
    name_schema,
    nullable,
    reference,
    registered_in,
    required_keywords,
    spellings,
    typed_section,
    when,
)
from pdan_plugin.option_schema.known_keys import (
    keys_of_data_set,
    keys_of_paths,
    keys_of_section,
    keys_of_source,
)
from pdan_plugin.option_schema.near_misses import near_miss_pattern
from pdan_plugin.option_schema.optimization import SCHEDULERS, buildable_optimizers, torch_optimizers
from pdan_plugin.option_schema.whole_file_schema import NETWORK, PHASE, whole_data_set, whole_file
from pdan_plugin.training.plateau_schedule import PlateauSchedule

_LOSSES_OF_ANY_MODEL = ('pixel_opt', 'perceptual_opt', 'gan_opt')
_LR_OF_OPTIMIZERS: dict[str, JsonSchema] = {
    'lr': NUMBER | {'minimum': 0, 'description': 'The learning rate.'},
    **{word: {'type': ['number', 'null']} for word in ('weight_decay', 'eps', 'momentum')},
    'betas': {'anyOf': [{'type': 'null'}, NUMBERS | {'minItems': 2, 'maxItems': 2}]},
}
_LISTS_OF_SCHEDULERS = {word: nullable(NUMBERS) for word in ('milestones', 'periods', 'restarts', 'restart_weights')}


def json_schema() -> JsonSchema:
    """The schema (JSON Schema, draft 7) of an option file with what is registered now.

    It marks every key that nothing reads, as ``--strict`` does. In a section that a class of another project reads, any
    key passes. A name that is not registered passes, because a plugin may have it; a near-misspelling of a registered
    name does not. A file that extends another one need not be complete. A null passes wherever the key may be left out.
    """
    known = sorted({name for registered in _models() for name in spellings(registered)})
    return {
        '$schema': 'http://json-schema.org/draft-07/schema#',
        '$comment': f'Generated with BasicSR {basicsr.__version__} and torch {torch.__version__.partition("+")[0]}.',
        'title': 'An option file of BasicSR with pdan_plugin',
        'type': 'object',
        'properties': {'model_type': name_schema(_models())},
        'dependencies': {WITHOUT: [EXTENDS]},
        'allOf': [
            *(when('model_type', spellings(name), {'$ref': f'#/definitions/model {name}'}) for name in _models()),
            {
                'if': {'required': ['model_type'], 'properties': {'model_type': {'enum': known}}},
                'else': {'$ref': '#/definitions/any model'},
            },
            {'if': {'not': {'required': [EXTENDS]}}, 'then': {'$ref': '#/definitions/whole file'}},
        ],
        'definitions': _definitions(),
    }


def schema_text() -> str:
    """The schema as the text of a file. `schema_reference.SHIPPED` is that file for a toolbox without plugins."""
    return json.dumps(json_schema(), indent=1) + '\n'


def _definitions() -> dict[str, JsonSchema]:
    networks = registered_in(ARCH_REGISTRY)
    losses, metrics = registered_in(LOSS_REGISTRY), registered_in(METRIC_REGISTRY)
    better: JsonSchema = {'enum': ['higher', 'lower', None], 'description': 'Which values of the metric are better.'}
    schedulers = {**SCHEDULERS, 'ReduceLROnPlateau': PlateauSchedule}
    return {
        'keys': {'properties': _keys(sections.Top) | {EXTENDS: _EXTENDS, WITHOUT: _WITHOUT}},
        'keys of path': {'properties': _keys(sections.Paths)},
        'keys of train': {'properties': _keys(sections.Train)},
        'keys of val': {'properties': _keys(sections.Val)},
        'keys of a data set': {'properties': _keys(sections.DataSet)},
        'paths of networks': {
            'patternProperties': {
                f'^{key}_': schema for key, schema in _keys(sections.NetworkPaths).items() if key != 'param_key'
            }
            | {
                '^param_key_': {
                    'type': ['string', 'null'],
                    'description': _description(sections.NetworkPaths, 'param_key'),
                }
            }
        },
        'network': typed_section(networks),
        'loss': typed_section(losses),
        'metric': typed_section(metrics, provided=('img', 'img2'), extra={'better': better}),
        'optimizer': typed_section(torch_optimizers(), provided=('params',), replaced=_LR_OF_OPTIMIZERS),
        'scheduler': typed_section(schedulers, provided=('optimizer', 'last_epoch'), replaced=_LISTS_OF_SCHEDULERS),
        'storage': typed_section(FileClient._backends, provided=('db_paths', 'client_keys')),
        'degradation': _closed(_keys(sections.Degradation)),
        'logger': _closed(_keys(sections.Logger) | {'wandb': _closed(_keys(sections.Wandb))}),
        'dist_params': _closed(_keys(sections.Distributed)),
        'data set': _data_set(),
        'datasets': {
            'type': ['object', 'null'],
            'properties': {'train': reference('data set')},
            'patternProperties': {PHASE: reference('data set')},
            'additionalProperties': False,
        },
        **{f'model {name}': _model(model) for name, model in _models().items()},
        'any model': _any_model(),
        'whole file': whole_file(),
        'whole network': required_keywords(networks),
        'whole loss': required_keywords(losses),
        'whole metric': required_keywords(metrics, ('img', 'img2')),
        'whole scheduler': required_keywords(schedulers, ('optimizer', 'last_epoch')),
        'whole data set': whole_data_set(is_training=False),
        'whole training data set': whole_data_set(is_training=True),
    }


_EXTENDS: JsonSchema = {
    'type': 'string',
    'pattern': '\\S',
    'description': 'The option file to build on, relative to the folder of this one.',
}
_WITHOUT: JsonSchema = {
    'type': 'array',
    'items': {'type': 'string'},
    'description': 'Dotted keys of the extended file to leave out, such as `[network_g, val.tile]`.',
}


def _models() -> dict[str, Any]:
    return registered_in(MODEL_REGISTRY)


def _description(schema: type[sections.Options], key: str) -> str:
    return f'{schema.model_fields[key].description} Value: {expected_value(schema, key)}.'


def _keys(schema: type[sections.Options]) -> dict[str, JsonSchema]:
    """The keys of a section: value, meaning and default. Null passes."""
    found: Mapping[str, JsonSchema] = schema.model_json_schema(ref_template='#/definitions/{model}')['properties']
    keys: dict[str, JsonSchema] = {}
    for key, value in found.items():
        given = {
            word: item for word, item in value.items() if word != 'title' and (word != 'default' or item is not None)
        }
        keys[key] = nullable({**given, 'description': _description(schema, key)})
    return keys


def _closed(properties: Mapping[str, JsonSchema], *, is_open: bool = False, **further: Any) -> JsonSchema:
    """A section or null. Other keys are rejected; with ``is_open`` they pass."""
    end = {} if is_open else {'additionalProperties': False}
    return {'type': ['object', 'null'], 'properties': dict(properties), **further, **end}


def _spelled(properties: Mapping[str, JsonSchema], *, is_open: bool) -> JsonSchema:
    """A section of an unknown reader, or null. Near-misspellings of keys are rejected; with ``is_open`` they pass."""
    names: JsonSchema = {'anyOf': [{'enum': sorted(properties)}, {'not': {'pattern': near_miss_pattern(properties)}}]}
    return {'type': ['object', 'null'], 'properties': dict(properties), **({} if is_open else {'propertyNames': names})}


def _chosen(definition: str, schema: type[sections.Options], keys: Iterable[str]) -> dict[str, JsonSchema]:
    """Each key with its schema; {} for one that only a class knows."""
    return {
        key: reference(f'{definition}/properties/{key}') if key in schema.model_fields else {} for key in sorted(keys)
    }


def _top(keys: Collection[str]) -> dict[str, JsonSchema]:
    subsections = {name: reference(name) for name in ('datasets', 'logger', 'dist_params')}
    networks = {key: reference('network') for key in keys if key.startswith('network_')}
    own = {key: reference(f'keys/properties/{key}') for key in (EXTENDS, WITHOUT)}
    chosen = _chosen('keys', sections.Top, keys) | networks | subsections | own
    return {key: schema for key, schema in chosen.items() if key not in ('train', 'val', 'path')}


def _train(model: Any, keys: Collection[str]) -> dict[str, JsonSchema]:
    chosen = _chosen('keys of train', sections.Train, keys)
    for key in keys:
        if key.startswith('optim_'):
            chosen[key] = _optimizer(model)
        elif key == 'scheduler':
            chosen[key] = _scheduler(model)
        elif key in _LOSSES_OF_ANY_MODEL or (key.endswith('_opt') and model is not None and is_own(model)):
            chosen[key] = reference('loss')
    return chosen


def _optimizer(model: Any) -> JsonSchema:
    if model is None:
        return reference('optimizer')
    return {'allOf': [reference('optimizer'), {'properties': {'type': {'enum': buildable_optimizers(model)}}}]}


def _scheduler(model: Any) -> JsonSchema:
    if model is not None and not is_own(model.setup_schedulers):
        return {}
    if model is None or is_restoration_model(model):
        return reference('scheduler')
    return {'allOf': [reference('scheduler'), {'properties': {'type': {'enum': sorted(SCHEDULERS)}}}]}


def _val(keys: Collection[str]) -> dict[str, JsonSchema]:
    metrics: JsonSchema = {'type': ['object', 'null'], 'additionalProperties': reference('metric')}
    return _chosen('keys of val', sections.Val, keys) | {'metrics': metrics}


def _path(keys: Iterable[str]) -> dict[str, JsonSchema]:
    return _chosen('keys of path', sections.Paths, keys)


def _model(model: Any) -> JsonSchema:
    """A file with a known model.

    Networks, losses and optimizers that the model does not read may only be null, which removes inherited ones.
    """
    is_open = not is_own(model)
    top, train = keys_of_section(sections.Top, '', model), keys_of_section(sections.Train, 'train', model)
    val = keys_of_section(sections.Val, 'val', model)
    weights = {'patternProperties': {f'^{start}_': {} for start in sections.NetworkPaths.model_fields}}
    body = {
        **_top(top),
        'train': _closed(
            _train(model, train),
            is_open=is_open,
            **({} if is_open else _others(train, '^optim_|_opt$', {'type': 'null'})),
        ),
        'val': _closed(_val(val), is_open=is_open),
        'path': {
            'allOf': [reference('paths of networks'), _closed(_path(_but_weights(model)), is_open=is_open, **weights)]
        },
    }
    networks = _others(top, NETWORK, reference('network') if is_open else {'type': 'null'})
    end = networks if is_open else {**networks, 'additionalProperties': False}
    return {'description': first_sentence(model), 'properties': dict(sorted(body.items())), **end}


def _others(known: Collection[str], pattern: str, schema: JsonSchema) -> JsonSchema:
    """The schema of the keys that match a pattern and are not among the known ones."""
    return {'patternProperties': {f'^(?!(?:{"|".join(sorted(known))})$).*(?:{pattern})': schema}}


def _but_weights(model: Any) -> set[str]:
    starts = tuple(f'{start}_' for start in sections.NetworkPaths.model_fields)
    return {key for key in keys_of_paths(model) if not key.startswith(starts)}


def _any_model() -> JsonSchema:
    """A file whose model is not known: it extends another file, or a plugin has the model."""
    models = _models().values()
    is_open = any(not is_own(model) for model in models)
    top, train, val, path = set[str](), set(sections.Train.model_fields), set(sections.Val.model_fields), set[str]()
    for model in models:
        top |= keys_of_section(sections.Top, '', model)
        train |= keys_of_section(sections.Train, 'train', model)
        val |= keys_of_section(sections.Val, 'val', model)
        path |= keys_of_paths(model)
    weights = {key: {} for key in sorted(path - set(sections.Paths.model_fields))}
    body = {
        **_top(top),
        'train': _spelled(_train(None, train), is_open=is_open),
        'val': _spelled(_val(val), is_open=is_open),
        'path': {
            'allOf': [
                reference('paths of networks'),
                _spelled(_path(sections.Paths.model_fields) | weights, is_open=is_open),
            ]
        },
    }
    return {
        **_spelled(dict(sorted(body.items())), is_open=is_open),
        'patternProperties': {NETWORK: reference('network')},
    }


def _data_set() -> JsonSchema:
    named = registered_in(DATASET_REGISTRY)
    known = sorted({spelling for name in named for spelling in spellings(name)})
    every = set(sections.DataSet.model_fields).union(*map(keys_of_data_set, named.values()))
    is_open = any(not is_own(owner) for owner in named.values())
    return {
        'type': ['object', 'null'],
        'properties': {'type': name_schema(named)},
        'allOf': [
            *(when('type', spellings(name), _of_data_set(owner)) for name, owner in named.items()),
            {
                'if': {'required': ['type'], 'properties': {'type': {'enum': known}}},
                'else': _spelled(_data_keys(every, None), is_open=is_open),
            },
        ],
    }


def _of_data_set(owner: Any) -> JsonSchema:
    keys = keys_of_data_set(owner)
    return {'description': first_sentence(owner), **_closed(_data_keys(keys, owner), is_open=not is_own(owner))}


def _data_keys(keys: Collection[str], owner: Any) -> dict[str, JsonSchema]:
    chosen = _chosen('keys of a data set', sections.DataSet, keys)
    if 'degradation' in keys:
        chosen['degradation'] = reference('degradation')
    if owner is not None and is_own(owner):
        chosen['io_backend'] = reference('storage')
        if 'sources' in keys:
            each = {key: {} for key in sorted(keys_of_source(keys))} | {'io_backend': reference('storage')}
            source: JsonSchema = {'type': 'object'} | _closed(each)
            chosen['sources'] = {'type': ['array', 'null'], 'items': source}
    return chosen

"""JSON Schema of what an option file must have that extends no other file."""

from __future__ import annotations

from basicsr.utils.registry import DATASET_REGISTRY, MODEL_REGISTRY

from pdan_plugin.option_schema import sections
from pdan_plugin.option_schema.constructors import is_own
from pdan_plugin.option_schema.keys_read import keys_read
from pdan_plugin.option_schema.keyword_schemas import JsonSchema, due, reference, registered_in, spellings, when
from pdan_plugin.option_schema.known_keys import due_in_data_set

NETWORK, PHASE = '^network_', '^(val|test)(_|$)'


def whole_data_set(*, is_training: bool) -> JsonSchema:
    schema = sections.TrainDataSet if is_training else sections.DataSet
    own = {name: owner for name, owner in registered_in(DATASET_REGISTRY).items() if is_own(owner)}
    degrades: JsonSchema = {
        'anyOf': [{'type': 'null'}, *(due([key]) for key in sections.DEGRADATIONS)],
        'allOf': [
            {
                'if': {'required': [given], 'properties': {given: {'not': {'enum': [0, False, None]}}}},
                'then': due([needed]),
            }
            for given, needed in sections.DEGRADATION_NEEDS.items()
        ],
    }
    required = due(_required(schema))
    required['properties'] |= {'degradation': degrades}
    branches = [
        when('type', spellings(name), {'required': sorted(due_in_data_set(owner, is_training=is_training))})
        for name, owner in own.items()
    ]
    return {**required, 'allOf': branches}


def _required(schema: type[sections.Options]) -> list[str]:
    return [key for key, field in schema.model_fields.items() if field.is_required()]


def whole_file() -> JsonSchema:
    """What a file must have that extends no other."""
    whole = due(_required(sections.Top))
    is_training: JsonSchema = {
        'anyOf': [
            {'required': ['train']},
            {'required': ['datasets'], 'properties': {'datasets': {'type': 'object', 'required': ['train']}}},
        ]
    }
    needs = [
        when('model_type', spellings(name), {'properties': {'train': due(keys_read(model).demanded.get('train', ()))}})
        for name, model in registered_in(MODEL_REGISTRY).items()
        if is_own(model)
    ]
    networks = {
        name: {key for key in keys_read(model).demanded.get('', ()) if key.startswith('network_')}
        for name, model in registered_in(MODEL_REGISTRY).items()
        if is_own(model)
    }
    training = _all_of(
        due({'train', 'logger'}),
        {
            'properties': {
                'datasets': {**due({'train'}), 'propertyNames': {'pattern': '^(train$|val(_|$))'}},
                'train': _all_of(
                    due(_required(sections.Train)),
                    {
                        'properties': {'scheduler': reference('whole scheduler')},
                        'patternProperties': {'_opt$': _WHOLE_LOSS, '^optim_': due({'type', 'lr'})},
                    },
                ),
                'val': due(_required(sections.TrainVal)),
                'logger': due(_required(sections.Logger)),
            },
            'allOf': needs
            + [when('model_type', spellings(name), due(keys)) for name, keys in networks.items() if keys],
        },
    )
    testing = _all_of(
        due({'val'}),
        {
            'properties': {
                'datasets': {'minProperties': 1, 'propertyNames': {'pattern': PHASE}},
                'val': due(_required(sections.Val)),
            }
        },
    )
    sets: JsonSchema = {
        'properties': {'train': reference('whole training data set')},
        'patternProperties': {PHASE: reference('whole data set')},
    }
    metrics: JsonSchema = {'properties': {'metrics': {'additionalProperties': reference('whole metric')}}}
    return _all_of(
        whole,
        {'properties': {'datasets': sets, 'val': metrics}, 'patternProperties': {NETWORK: reference('whole network')}},
        {'if': is_training, 'then': training, 'else': testing},
    )


# A plugin's model may use such a key for something other than a loss.
_WHOLE_LOSS: JsonSchema = {'if': {'required': ['type']}, 'then': reference('whole loss')}


def _all_of(*parts: JsonSchema) -> JsonSchema:
    return {'allOf': list(parts)}

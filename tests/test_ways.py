"""Two ways through the house: of the options from a command to the loss, of a picture from `restore` to the file.

A way is the calls that hand the thing itself on, in the order in which they happen. Where a call goes to a room above
that of the call before, the way climbs. Calls that get a word of the options only (a backend's name, the number of
workers) are no part of it, and neither is what a listed function looks up for itself and returns from: preflight, for
one, builds data sets and losses from a copy of the options to try them.
"""

import ast
import importlib.util
from pathlib import Path

import pytest
from basicsr.utils.registry import LOSS_REGISTRY, MODEL_REGISTRY
from test_house import FLOORS

PACKAGE = 'pdan_plugin'
MOST_CLIMBS = 3

# (caller, callee). `room/module:function`; the toolbox's own by their dotted module.
OPTIONS = [
    ('commands/train:run', 'commands/pipeline:run_pipeline'),
    ('commands/pipeline:run_pipeline', 'commands/checked_request:checked_request'),
    ('commands/checked_request:checked_request', 'option_schema/run_request:read_request'),
    ('option_schema/run_request:read_request', 'option_schema/option_file:load_option_file'),
    ('commands/checked_request:checked_request', 'plugins:load_plugins'),
    ('commands/checked_request:checked_request', 'option_schema/check:check_options'),
    ('commands/pipeline:run_pipeline', 'commands/preflight:check_run'),
    ('commands/pipeline:run_pipeline', 'commands/pipeline:_run_here'),
    ('commands/pipeline:_run_here', 'toolbox_fixes/options:handed_over'),
    ('commands/pipeline:_run_here', 'basicsr.train:train_pipeline'),
    ('basicsr.train:train_pipeline', 'toolbox_fixes/options:parse_options'),
    ('toolbox_fixes/options:parse_options', 'option_schema/completion:complete_options'),
    ('basicsr.train:train_pipeline', 'basicsr.models:build_model'),
    ('basicsr.models:build_model', 'models/dual_supervision_model:DualSupervisionModel'),
    ('models/dual_supervision_model:DualSupervisionModel', 'basicsr.losses:build_loss'),
    ('basicsr.losses:build_loss', 'losses/hpem_loss:HPEMLoss'),
]
PICTURE = [
    ('commands/restore:run', 'restoration/file_restoration:restore_path'),
    ('restoration/file_restoration:restore_path', 'restoration/jobs:make_plan'),
    ('restoration/jobs:make_plan', 'restoration/jobs:_plan_folder'),
    ('restoration/jobs:_plan_folder', 'restoration/jobs:_job_in_folder'),
    ('restoration/jobs:_job_in_folder', 'restoration/jobs:_header'),
    ('restoration/jobs:_header', 'media/picture_files:read_picture_header'),
    ('restoration/file_restoration:restore_path', 'restoration/file_restoration:_work'),
    ('restoration/file_restoration:_work', 'restoration/picture_jobs:PictureJobs'),
    ('restoration/picture_jobs:PictureJobs', 'restoration/picture_jobs:picture_to_restore'),
    ('restoration/picture_jobs:picture_to_restore', 'media/picture_files:read_picture'),
    ('restoration/picture_jobs:PictureJobs', 'restoration/restorer:Restorer.begin_pictures'),
    ('restoration/restorer:Restorer.begin_pictures', 'restoration/restorer:Restorer.begin_picture'),
    ('restoration/restorer:Restorer.begin_picture', 'restoration/restorer:Restorer._pieces'),
    ('restoration/restorer:Restorer._pieces', 'restoration/restorer:Restorer._attempt'),
    ('restoration/restorer:Restorer._attempt', 'restoration/tile_runs:TileRuns.pieces'),
    ('restoration/picture_jobs:PictureJobs', 'media/picture_writing:write_picture'),
]
# Calls by another name than the callee's: what stands in the caller, and why that is the callee.
BY_ANOTHER_NAME = {
    'basicsr.train:train_pipeline': 'pipeline',  # chosen between the trainer and the tester
    'models/dual_supervision_model:DualSupervisionModel': 'MODEL_REGISTRY.get',
    'losses/hpem_loss:HPEMLoss': 'LOSS_REGISTRY.get',
}


def _module(place):
    name = place.partition(':')[0]
    return name if name.startswith('basicsr') else f'{PACKAGE}.{name.replace("/", ".")}'


def _room(place):
    return None if place.startswith('basicsr') else place.partition(':')[0].split('/')[0]


def _tree(place):
    spec = importlib.util.find_spec(_module(place))
    assert spec is not None, place
    assert spec.origin is not None, place
    return ast.parse(Path(spec.origin).read_text(encoding='utf-8'))


def _definition(place):
    """The function or class of a place in its source."""
    node = _tree(place)
    for name in place.partition(':')[2].split('.'):
        found = [each for each in ast.walk(node) if isinstance(each, (ast.FunctionDef, ast.ClassDef))]
        node = next((each for each in found if each.name == name), None)
        assert node is not None, f'{place} is not there'
    return node


def _is_called(caller, callee):
    """Whether the caller's source calls the callee, and by that name means the callee."""
    name = callee.partition(':')[2].split('.')[-1]
    wanted = BY_ANOTHER_NAME.get(callee, name)
    calls = {ast.unparse(each.func) for each in ast.walk(_definition(caller)) if isinstance(each, ast.Call)}
    if wanted not in calls:
        return any(each.endswith(f'.{name}') for each in calls) and '.' in callee.partition(':')[2]
    if callee in BY_ANOTHER_NAME or _module(caller) == _module(callee):
        return True
    imports = [each for each in ast.walk(_tree(caller)) if isinstance(each, ast.ImportFrom)]
    sources = {each.module for each in imports if name in {alias.name for alias in each.names}}
    # the toolbox's trainer names the toolbox's own function, which a fix replaces: see the last test
    return sources == {'basicsr.utils.options' if name == 'parse_options' else _module(callee)}


@pytest.mark.parametrize('way', [OPTIONS, PICTURE], ids=['options', 'picture'])
def test_each_step_of_a_way_is_a_call_in_the_source(way):
    reached = {way[0][0]}
    for caller, callee in way:
        assert caller in reached, f'the way has not come to {caller}'
        assert _is_called(caller, callee), f'{caller} does not call {callee}'
        reached.add(callee)


def _climbs(way):
    rooms = [_room(way[0][0]), *(room for _, callee in way if (room := _room(callee)) is not None)]
    order = list(FLOORS)
    floors = [order.index(room) for room in rooms]
    return [
        f'{before} -> {after}'
        for before, after, above, below in zip(rooms, rooms[1:], floors[1:], floors, strict=False)
        if above < below
    ]


@pytest.mark.parametrize('way', [OPTIONS, PICTURE], ids=['options', 'picture'])
def test_a_way_climbs_seldom(way):
    assert len(_climbs(way)) <= MOST_CLIMBS, _climbs(way)


def test_what_the_toolbox_calls_on_the_way_is_ours():
    import basicsr.train

    from pdan_plugin.toolbox_fixes import options

    assert basicsr.train.parse_options is options.parse_options
    assert MODEL_REGISTRY.get('DualSupervisionModel').__module__ == _module('models/dual_supervision_model:')
    assert LOSS_REGISTRY.get('HPEMLoss').__module__ == _module('losses/hpem_loss:')

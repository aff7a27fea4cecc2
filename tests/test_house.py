"""The rooms of the package: which imports which. Every import counts, those inside functions too."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / 'pdan_plugin'
# From the top: a room imports from rooms below it alone. Each with the reason for its place.
FLOORS = {
    '__main__': 'starts the command and nothing else',
    'commands': 'arguments and exit status; calls whatever does the work',
    '__init__': 'mends and registers; the Python interface',
    'toolbox_fixes': 'installs what the rooms below offer into the toolbox',
    'install_toolbox': 'installs the toolbox itself; a later issue',
    'spandrel_arch': 'offers the networks to spandrel; a later issue',
    'app': 'shows restoration in a browser',
    'report': 'shows what models, data and training have left on the disk',
    'models': 'trains and validates: uses restoration for tiles, weights, data and training',
    'preparation': 'writes the stores that data reads',
    'restoration': 'runs a network on what media reads',
    'ensembling': 'merges stored results, which data reads',
    'data': 'reads samples, with the keys that option_schema describes',
    'weights': 'builds the network that an option section and a file ask for',
    'plugins': 'loads other projects; names are spelled as option_schema spells them',
    'option_schema': 'says what options may be; knows the schedules of training',
    'processes': 'starts and joins ranks; hears the stop requests of training',
    'training': 'the records and rules of a run; needs files and machine',
    'archs': 'networks, with torch and synthesis (bicubic) alone',
    'media': 'pictures and videos in and out; transparency is resized by synthesis',
    'synthesis': 'arithmetic on pictures',
    'metrics': 'scores on as many cores as machine counts',
    'losses': 'numbers from tensors',
    'machine': 'what this computer has',
    'files': 'files written whole',
    'errors': 'the exceptions of every room',
}
LOOSE = {'__init__', '__main__', 'errors', 'plugins', 'install_toolbox', 'spandrel_arch'}
USE_FIXES = {'__init__', 'commands', 'toolbox_fixes'}


def _modules():
    """{dotted name: file} of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE.parent).with_suffix('').parts
        found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
    return found


def _statements(node, in_functions):
    for child in ast.iter_child_nodes(node):
        yield child
        if in_functions or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from _statements(child, in_functions)


MODULES = _modules()


def _room(module):
    parts = module.split('.')
    return parts[1] if len(parts) > 1 else '__init__'


def _imported(module, *, later=True):
    """(line, dotted name of a module of this package) for every import in a module, or those outside of functions."""
    for node in _statements(ast.parse(MODULES[module].read_text(encoding='utf-8')), later):
        if isinstance(node, ast.Import):
            names = [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{module}:{node.lineno}: a relative import; write the whole path'
            # `from pdan_plugin import __version__` takes a word that is set before anything is imported
            names = [f'{node.module}.{each.name}' for each in node.names if each.name != '__version__']
            names = [name if name in MODULES else str(node.module) for name in names]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split('.')[0] == PACKAGE.name)


IMPORTS = {module: list(_imported(module)) for module in MODULES}


def test_every_room_has_a_floor():
    assert {_room(module) for module in MODULES} <= set(FLOORS)


def test_few_modules_stand_in_no_room():
    assert {path.stem for path in PACKAGE.glob('*.py')} <= LOOSE


@pytest.mark.parametrize('room', sorted({_room(module) for module in MODULES}))
def test_a_room_imports_from_rooms_below_alone(room):
    floors = list(FLOORS)
    upward = [
        f'{MODULES[module].relative_to(PACKAGE.parent)}:{line} imports {name}'
        for module, imported in IMPORTS.items()
        for line, name in imported
        if _room(module) == room != _room(name) and floors.index(_room(name)) <= floors.index(room)
    ]
    assert not upward


def test_only_commands_and_the_package_itself_import_the_fixes():
    importing = {
        f'{module}:{line}'
        for module, imported in IMPORTS.items()
        for line, name in imported
        if _room(name) == 'toolbox_fixes' and _room(module) not in USE_FIXES
    }
    assert not importing


def test_no_module_imports_itself_by_way_of_others():
    """While modules are imported; what a function imports later comes to a module that is whole by then."""
    graph = {module: {name for _, name in _imported(module, later=False)} - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(' -> '.join(error.args[1]))


def test_no_import_is_hidden_in_text():
    """importlib with the name of a module of this package would pass the tests above by."""
    hidden = [
        f'{module}:{node.lineno}'
        for module, path in MODULES.items()
        if module != 'pdan_plugin.toolbox_fixes'  # imports its own subjects by name, in an order that matters
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8')))
        if isinstance(node, ast.Call)
        and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in ('import_module', '__import__')
        and 'pdan_plugin' in ast.unparse(node)
    ]
    assert not hidden

"""Finds the option keys that a class reads, in its source.

The toolbox does not declare its options: a model or data set reads ``self.opt['val'].get('pbar', False)`` when it needs
the value. The source of a class and its bases gives the keys without a list to maintain, also for other plugins.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TypeGuard

# Of the toolbox's classes and ours all keys are known.
OWN_PACKAGES = ('basicsr', 'pdan_plugin')
_READING_METHODS = {'get', 'pop', 'setdefault'}
_LISTING_METHODS = {'items', 'keys', 'values'}


@dataclass
class KeysRead:
    """Keys by dotted section: '' is the ``opt`` of the class, 'train' is ``opt['train']``, and so on.

    ``read`` holds all keys. ``demanded`` holds those that are only read as ``opt['key']``, a KeyError if missing.
    ``at_build`` holds the demanded ones that ``__init__`` always reads, independent of other options. ``computed``
    holds the sections of which another project's class also reads keys that only a run knows: ``opt[name]``.
    """

    read: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    demanded: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    at_build: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    computed: set[str] = field(default_factory=set)


@cache
def keys_read(owner: type) -> KeysRead:
    """The option keys that a class and its bases read. The result is cached: do not change it."""
    keys, asked_for = KeysRead(), defaultdict(set)
    building = True  # while each __init__ calls that of the next base
    for base in owner.__mro__:
        tree = _source_tree(base)
        if tree is None:
            continue
        trees = [tree, *(helper for helper in map(_source_tree, _given_the_options(tree, base)) if helper is not None)]
        functions = [node for each in trees for node in ast.walk(each) if isinstance(node, ast.FunctionDef)]
        own_init = next((node for node in functions if node in tree.body and node.name == '__init__'), None)
        for function in functions:
            aliases = _aliases(function)
            for section, key, is_demand in _reads(function, aliases):
                keys.read[section].add(key)
                (keys.demanded if is_demand else asked_for)[section].add(key)
            if base.__module__.partition('.')[0] not in OWN_PACKAGES:
                keys.computed.update(_computed(function, aliases))
            if function is own_init and building:
                for statement in function.body:
                    for section, key, is_demand in _reads(statement, aliases, unconditional=True):
                        if is_demand:
                            keys.at_build[section].add(key)
        if own_init is not None and 'super(' not in ast.unparse(own_init):
            building = False
    for section, optional in asked_for.items():
        keys.demanded[section] -= optional
        keys.at_build[section] -= optional
    return keys


@cache
def words_of_package(package: str) -> frozenset[str]:
    """All string constants in the loaded modules of a package. The package cannot read a key that is not among them."""
    words: set[str] = set()
    for name, module in list(sys.modules.items()):
        if name.split('.')[0] != package or module is None:
            continue
        try:
            tree = ast.parse(inspect.getsource(module))
        except (OSError, TypeError, SyntaxError):  # no source, for example a compiled module
            continue
        words.update(
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
    return frozenset(words)


def is_named(word: str, package: str) -> bool:
    """Whether the loaded modules of a package contain a key as a string constant, or its start or end as one.

    The ends count for keys that are put together: ``f'{part}_opt'``, ``key.startswith('network_')``. A package without
    source may read any key.
    """
    words = words_of_package(package)
    if not words:
        return True
    ends = (part for part in words if len(part) > 3)
    return word in words or any(
        (part.startswith('_') and word.endswith(part)) or (part.endswith('_') and word.startswith(part))
        for part in ends
    )


def _given_the_options(tree: ast.ClassDef, owner: type) -> Iterator[type]:
    """Classes of the same package to which a class passes all its options."""
    module = sys.modules.get(owner.__module__)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            helper = getattr(module, node.func.id, None)
            given = [ast.unparse(argument) for argument in node.args]
            if (
                inspect.isclass(helper)
                and helper.__module__.partition('.')[0] == owner.__module__.partition('.')[0]
                and any(text in ('opt', 'self.opt') for text in given)
            ):
                yield helper


def _source_tree(owner: type) -> ast.ClassDef | None:
    if owner.__module__ in ('builtins', 'abc', 'typing') or owner.__module__.startswith('torch.'):
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
    except (OSError, TypeError, SyntaxError):
        return None
    return tree.body[0] if tree.body and isinstance(tree.body[0], ast.ClassDef) else None


def _aliases(function: ast.FunctionDef) -> dict[str, str]:
    """Variables that hold a section, as in ``train_opt = self.opt['train']``."""
    aliases = {'opt': '', 'self.opt': '', 'train_opt': 'train'}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            section = _section(node.value, aliases)
            if section is not None:
                aliases[ast.unparse(node.targets[0])] = section
    return aliases


def _section(node: ast.expr, aliases: dict[str, str]) -> str | None:
    """The dotted section that an expression refers to; None if it is not a part of the options."""
    if isinstance(node, (ast.Name, ast.Attribute)):
        return aliases.get(ast.unparse(node))
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):  # (opt.get('val') or {})
        return _section(node.values[0], aliases)
    owner, key = key_read(node)
    if owner is None or key is None:
        return None
    section = _section(owner, aliases)
    return None if section is None else f'{section}.{key}'.lstrip('.')


def key_read(node: ast.AST) -> tuple[ast.expr | None, str | None]:
    """The options and the key of ``options['key']``, ``options.get('key')`` or ``'key' in options``.

    The key is None if it is no constant.
    """
    owner, key = _reading(node)
    return owner, None if key is None else _text(key)


def _reading(node: ast.AST) -> tuple[ast.expr | None, ast.expr | None]:
    if isinstance(node, ast.Subscript):
        return node.value, node.slice
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _READING_METHODS:
        return node.func.value, node.args[0] if node.args else None
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and isinstance(node.ops[0], (ast.In, ast.NotIn)):
        return node.comparators[0], node.left
    return None, None


def _computed(function: ast.FunctionDef, aliases: dict[str, str]) -> Iterator[str]:
    """The sections of which a function reads keys that are no constants, or all keys.

    ``for key in ('a', 'b'): opt[key]`` has constants. Of ``opt[f'{part}_opt']`` the end is known, see `is_named`.
    """
    constants = {
        node.target.id
        for node in ast.walk(function)
        if isinstance(node, (ast.For, ast.comprehension)) and isinstance(node.target, ast.Name) and _is_text(node.iter)
    }
    for node in ast.walk(function):
        owner, key = _reading(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LISTING_METHODS:
            owner = node.func.value
        elif isinstance(node, (ast.For, ast.comprehension)):
            owner = node.iter
        elif isinstance(node, ast.keyword) and node.arg is None:
            owner = node.value
        elif key is None or _is_write(node) or _is_constant(key, constants):
            continue
        section = None if owner is None else _section(owner, aliases)
        if section is not None:
            yield section


def _is_write(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, (ast.Tuple, ast.List, ast.Set)) and all(_text(each) is not None for each in node.elts)


def _is_constant(key: ast.expr, constants: set[str]) -> bool:
    """Whether a key is a constant, a variable of constants, or begins or ends with a text that `is_named` finds."""
    if isinstance(key, ast.Constant) or (isinstance(key, ast.Name) and key.id in constants):
        return True
    parts = key.values if isinstance(key, ast.JoinedStr) else [key.left, key.right] if _is_sum(key) else []
    ends = [_text(part) or '' for part in parts[:1] + parts[-1:]]
    return any(len(end) > 3 and (end.endswith('_') or end.startswith('_')) for end in ends)


def _is_sum(node: ast.expr) -> TypeGuard[ast.BinOp]:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)


def _text(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _reads(tree: ast.AST, aliases: dict[str, str], unconditional: bool = False) -> Iterator[tuple[str, str, bool]]:
    """(section, key, whether it is demanded) for each read. Writes do not count."""
    for node in _unconditional_nodes(tree) if unconditional else ast.walk(tree):
        if _is_write(node):
            continue
        owner, key = key_read(node)
        if owner is None or key is None:
            continue
        section = _section(owner, aliases)
        if section is not None:
            is_demand = isinstance(node, ast.Subscript) or (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == 'pop'
                and len(node.args) == 1
            )
            yield section, key, is_demand


def _unconditional_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes that are evaluated under any condition: of an ``if``, only its test."""
    if isinstance(tree, (ast.If, ast.IfExp)):
        yield from _unconditional_nodes(tree.test)
    elif isinstance(tree, ast.BoolOp):
        yield from _unconditional_nodes(tree.values[0])
    elif not isinstance(tree, (ast.For, ast.While, ast.Try, ast.FunctionDef, ast.Lambda)):
        yield tree
        for child in ast.iter_child_nodes(tree):
            yield from _unconditional_nodes(child)

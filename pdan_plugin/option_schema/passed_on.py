"""Finds what a constructor does with its ``**kwargs``, in its source.

`class Wide(Narrow): def __init__(self, width, **kwargs): super().__init__(**kwargs)` takes the keywords of ``Narrow``,
too. A keyword that is only passed on to unknown code cannot be checked.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pdan_plugin.option_schema.keys_read import key_read


@dataclass(frozen=True)
class PassedOn:
    """What the keywords in ``**kwargs`` may be.

    Attributes:
        known: Names that the source reads from it, and those of the base constructors that get it.
        is_unsure: Whether other keywords may be used too, because the rest of the way is not known.
        is_dropped: Whether the source never uses it.
    """

    known: frozenset[str] = frozenset()
    is_unsure: bool = False
    is_dropped: bool = False


UNSURE = PassedOn(is_unsure=True)


def passed_on(target: Callable[..., Any]) -> PassedOn:
    """What a class or function does with its ``**kwargs``; only for one that has it."""
    if not inspect.isclass(target):
        return _of_function(target, None, ())
    bases = tuple(base for base in target.__mro__ if '__init__' in vars(base))
    return _of_class(bases)


def _of_class(bases: tuple[type, ...]) -> PassedOn:
    """For ``**kwargs`` of the constructor of the first of several classes; the others follow it in a class's order."""
    return _of_function(vars(bases[0])['__init__'], bases[0], bases[1:]) if bases else UNSURE


def _of_function(function: Any, owner: type | None, following: tuple[type, ...]) -> PassedOn:
    tree = _definition(function)
    if tree is None or tree.args.kwarg is None:
        return UNSURE
    word = tree.args.kwarg.arg
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == word]
    if not uses:
        return PassedOn(is_dropped=True)
    explained: list[ast.Name] = []
    known: set[str] = set()
    is_unsure = False
    for node in ast.walk(tree):
        source, key = key_read(node)
        if isinstance(source, ast.Name) and source.id == word and key is not None:
            explained.append(source)
            known.add(key)
        elif isinstance(node, ast.Call) and owner is not None and following and _is_base_constructor(node, following):
            given = [each.value for each in node.keywords if each.arg is None]
            names = [value for value in given if isinstance(value, ast.Name) and value.id == word]
            if names:
                explained += names
                further = _parameters_after(node, following)
                known |= further.known
                is_unsure |= further.is_unsure
    return PassedOn(frozenset(known), is_unsure or any(use not in explained for use in uses))


def _is_base_constructor(call: ast.Call, following: tuple[type, ...]) -> bool:
    return ast.unparse(call.func) in ('super().__init__', f'{following[0].__name__}.__init__')


def _parameters_after(call: ast.Call, following: tuple[type, ...]) -> PassedOn:
    """The keywords that the next constructor still takes beside those that the call gives."""
    try:
        signature = inspect.signature(vars(following[0])['__init__'])
    except (TypeError, ValueError):
        return UNSURE
    if following[0] is object:
        return PassedOn()
    named = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ][1:]
    is_super = ast.unparse(call.func).startswith('super()')
    given = {each.arg for each in call.keywords} | set(named[: len(call.args) - (0 if is_super else 1)])
    has_stars = any(isinstance(argument, ast.Starred) for argument in call.args)
    known = frozenset(named) - given
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in signature.parameters.values()):
        further = _of_class(following)
        return PassedOn(known | further.known, further.is_unsure or further.is_dropped or has_stars)
    return PassedOn(known, has_stars)


def _definition(function: Any) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function))))
    except (OSError, TypeError, SyntaxError):  # no source, for example a compiled module
        return None
    return next(_functions(tree), None)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    yield from (node for node in tree.body if isinstance(node, ast.FunctionDef))

"""Recognises the network of bare weights by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from pdan_plugin.errors import RequestError, some_of
from pdan_plugin.option_schema.network_section import build_network
from pdan_plugin.weights.families import FAMILIES, Family, NotThisFamily, State
from pdan_plugin.weights.families.family import Assumed, usual_values
from pdan_plugin.weights.likeness import ALIKE, likeness
from pdan_plugin.weights.plain_tensors import refuse_other_kinds
from pdan_plugin.weights.state_search import CHOOSE, states_behind

TRIED = ', '.join(family.name for family in FAMILIES)


@dataclass(frozen=True)
class Recognised:
    """A network that bare weights belong to.

    Attributes:
        options: ``network_g``: type and all arguments.
        assumed: The arguments that the weights do not show.
        network: The network, with these weights.
        notes: Messages for the user.
    """

    options: dict[str, Any]
    assumed: dict[str, Assumed]
    network: nn.Module
    notes: list[str] = field(default_factory=list)


def recognise(content: Any, source: str) -> Recognised | list[str]:
    """The network of the weights in a file's content.

    The weights may lie in any section, and behind any prefix. The arguments are read from the tensors; then the network
    is built, and its names and shapes must be those of the weights.

    Arguments that no tensor shows have their usual value. If that gives no picture, and another usual value does, that
    one is used (:func:`~pdan_plugin.weights.likeness.likeness`). ``notes`` reports both.

    Returns:
        The network; or, if it is none of the families, the reasons against those whose names the weights have.

    Raises:
        RequestError: The file has weights of several networks; the message lists them. Or they are no numbers of the
            network's kind (:func:`~.plain_tensors.refuse_other_kinds`).
    """
    found: dict[str, Recognised] = {}
    reasons: list[str] = []
    for family in FAMILIES:
        for label, state in states_behind(content, family.names[0]):
            if not family.renamed(state).keys() >= set(family.names):
                continue
            try:
                found[label] = _fitting(family, state, source)
            except NotThisFamily as error:
                reasons.append(f'{family.name}{f" ({label})" if label else ""}: {error}')
    networks = {repr(each.options): each for each in found.values()}
    if len(networks) > 1:
        kinds = some_of(f'{label!r} ({each.options["type"]})' for label, each in found.items())
        raise RequestError(f'{source} has the weights of several networks: {kinds}. {CHOOSE}')
    if not networks:
        return reasons
    return _in_its_range(next(iter(networks.values())), source)


def _fitting(family: Family, state: State, source: str) -> Recognised:
    """The network that the tensors show.

    Raises:
        NotThisFamily: The tensors are not those of such a network.
        RequestError: They are, but quantised or packed.
    """
    try:
        shown = family.options(family.renamed(state))
    except KeyError as error:
        raise NotThisFamily(f'has no tensor {error.args[0]}') from error
    except (IndexError, TypeError, ValueError, ZeroDivisionError) as error:  # of another number of axes
        raise NotThisFamily('its tensors have other shapes') from error
    options = {'type': family.name, **usual_values(shown)}
    network = _loaded(options, state, source)
    assumed = {name: value for name, value in shown.items() if isinstance(value, Assumed)}
    return Recognised(options, assumed, network)


def _loaded(options: Mapping[str, Any], state: State, source: str) -> nn.Module:
    try:
        network = build_network(options, 'network_g')
    except RequestError as error:
        raise NotThisFamily(str(error)) from error
    refuse_other_kinds(state, network.state_dict(), source)
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        lines = [_shortened(line.strip()) for line in str(error).splitlines()[1:]] or [str(error)]
        raise NotThisFamily(some_of(lines, 2, between='; ')) from error
    return network.eval().requires_grad_(False)


def _shortened(line: str) -> str:
    """A line of torch's error; of a long list of names the first ones. A network may have thousands."""
    head, colon, names = line.partition(' key(s) in state_dict: ')
    return f'{head}{colon}{some_of(names.rstrip(". ").split(", "), 3)}' if colon else line


def _in_its_range(found: Recognised, source: str) -> Recognised:
    """Chooses the values of assumed arguments by a trial, and writes the notes."""
    best, alike = found, _likeness(found)
    for options in _other_options(found) if alike < ALIKE else ():
        trial = replace(found, options=options, network=_loaded(options, found.network.state_dict(), source))
        if (reached := _likeness(trial)) > max(alike, ALIKE):
            best, alike = trial, reached
    changed = {name: value for name, value in best.options.items() if value != found.options[name]}
    kept = {name: value for name, value in best.options.items() if name in found.assumed and name not in changed}
    scale = best.options.get('upscale', best.options.get('scale'))
    note = f'recognised by its tensors as {best.options["type"]}, {scale}x'
    if changed:
        usual = {name: found.options[name] for name in changed}
        note += f'; {_in_words(changed)} was found by a trial ({_in_words(usual)} gives no picture)'
    if kept:
        note += f'; not shown by the weights, and taken as usual: {_in_words(kept)}'
    notes = [note]
    if alike < ALIKE:
        notes.append(
            f'the result for a smooth test picture is not like it (PSNR {alike:.0f} dB): the weights are untrained, or '
            'need other arguments. Then give the option file they were trained with: -opt FILE'
        )
    return replace(best, notes=notes)


def _other_options(found: Recognised) -> Iterator[dict[str, Any]]:
    """The options with each assumed argument alone at another usual value, then with all of them."""
    others = {name: value.others[0] for name, value in found.assumed.items() if value.others}
    for name, value in others.items():
        yield {**found.options, name: value}
    if len(others) > 1:
        yield {**found.options, **others}


def _likeness(found: Recognised) -> float:
    options = found.options
    channels = options['in_chans'] if 'in_chans' in options else options['num_in_ch']
    try:
        return likeness(found.network, channels, options.get('window_size', 4))
    except RuntimeError:  # it takes other pictures; whoever restores with it reports the reason
        return ALIKE


def _in_words(values: Mapping[str, Any]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items())
